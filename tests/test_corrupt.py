import pytest
import torch

from autoencoders import corrupt


@pytest.mark.parametrize("kind", corrupt.KINDS)
def test_noise_stays_in_range_and_needs_an_amount(kind):
    x = torch.rand(3, 3, 28, 30)
    y = corrupt.add_noise(x, kind, 0.5, seed=0)
    assert y.shape == x.shape and y.dtype == x.dtype and y.min() >= 0 and y.max() <= 1
    assert (y != x).float().mean() > 0.2
    torch.testing.assert_close(corrupt.add_noise(x, kind, 0.0), x, rtol=0, atol=0)


@pytest.mark.parametrize("kind", corrupt.KINDS)
def test_with_a_seed_it_depends_on_the_picture_number_only(kind):
    x = torch.rand(5, 1, 28, 28)
    y = corrupt.add_noise(x, kind, 0.5, seed=1)
    torch.manual_seed(123)
    torch.testing.assert_close(corrupt.add_noise(x[:2], kind, 0.5, seed=1), y[:2], rtol=0, atol=0)
    assert not torch.equal(corrupt.add_noise(x, kind, 0.5, seed=2), y)
    same = corrupt.add_noise(x[:1].expand(2, -1, -1, -1), kind, 0.5, seed=1)
    assert not torch.equal(same[0], same[1])


@pytest.mark.parametrize("kind", corrupt.KINDS)
def test_without_a_seed_it_is_fresh_and_follows_torch(kind):
    x = torch.rand(2, 1, 28, 28)
    torch.manual_seed(0)
    first, second = corrupt.add_noise(x, kind, 0.5), corrupt.add_noise(x, kind, 0.5)
    torch.manual_seed(0)
    torch.testing.assert_close(corrupt.add_noise(x, kind, 0.5), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_the_moments_are_those_of_the_closed_forms():
    grey = torch.full((20, 1, 64, 64), 0.5)
    uniform = corrupt.add_noise(grey, "uniform", 0.4, seed=0)
    assert uniform.min() >= 0.5
    torch.testing.assert_close(uniform.mean(), torch.tensor(0.7), atol=0.002, rtol=0)
    torch.testing.assert_close(uniform.std(), torch.tensor(0.4 / 12**0.5), atol=0.002, rtol=0)
    gaussian = corrupt.add_noise(grey, "gaussian", 0.1, seed=0)
    torch.testing.assert_close(gaussian.std(), torch.tensor(0.1), atol=0.002, rtol=0)
    pepper = corrupt.add_noise(grey, "salt_and_pepper", 0.3, seed=0)
    torch.testing.assert_close((pepper == 0).float().mean(), torch.tensor(0.15), atol=0.005, rtol=0)
    torch.testing.assert_close((pepper == 1).float().mean(), torch.tensor(0.15), atol=0.005, rtol=0)
    blocks = corrupt.add_noise(grey, "blocks", 0.3, seed=0)
    torch.testing.assert_close((blocks == 0).float().mean(), torch.tensor(0.3), atol=0.02, rtol=0)
    small = blocks[:, 0].unfold(1, 4, 4).unfold(2, 4, 4)
    assert (small == small[..., :1, :1]).all()


def test_colours_of_a_pixel_go_together():
    y = corrupt.add_noise(torch.full((1, 3, 16, 16), 0.5), "salt_and_pepper", 0.5, seed=0)
    assert (y == y[:, :1]).all()


@pytest.mark.parametrize(
    "pictures,message",
    [
        (
            torch.rand(28, 28),
            r"pictures=\(28, 28\), torch.float32: expected a float tensor \(N, C, H, W\); add",
        ),
        (
            torch.zeros(1, 1, 4, 4, dtype=torch.uint8),
            "torch.uint8: expected a float tensor .*divide bytes by 255",
        ),
        ([[0.5]], "pictures=list: expected a float tensor"),
        (torch.full((1, 1, 4, 4), 200.0), r"pictures from 200 to 200: expected values in \[0, 1\]"),
        (torch.full((1, 1, 4, 4), -0.5), "pictures from -0.5 to -0.5: expected"),
        (torch.full((1, 1, 4, 4), float("nan")), "pictures from nan to nan: expected"),
    ],
)
def test_bad_pictures(pictures, message):
    with pytest.raises(ValueError, match=message):
        corrupt.add_noise(pictures)


@pytest.mark.parametrize(
    "kind,amount", [("pink", 0.5), ("uniform", -0.1), ("gaussian", float("nan")), ("blocks", 1.5)]
)
def test_bad_noise(kind, amount):
    with pytest.raises(
        ValueError,
        match=f"kind='{kind}', amount={amount}: expected one of uniform, gaussian, salt_and_pepper",
    ):
        corrupt.add_noise(torch.rand(1, 1, 4, 4), kind, amount)


def test_grey_is_bt601_and_has_no_colour():
    x = torch.rand(2, 3, 8, 8)
    y = corrupt.grey(x)
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    for channel in range(3):
        torch.testing.assert_close(y[:, channel], expected)
    with pytest.raises(ValueError, match="1 channels: expected 3"):
        corrupt.grey(x[:, :1])


@pytest.mark.parametrize(("patch", "parts"), [(1, 3), (4, 3), (8, 4), (16, 1)])
def test_masks_are_disjoint_and_cover_all(patch, parts):
    masks = corrupt.disjoint_masks(16, patch, parts, n=2)
    assert masks.shape == (2, parts, 1, 16, 16)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 1, 16, 16))
    areas = masks.sum((2, 3, 4)) / patch**2
    assert areas.max() - areas.min() <= 1, "as many patches in each, give or take one"
    squares = masks.unfold(3, patch, patch).unfold(4, patch, patch)
    assert (squares == squares[..., :1, :1]).all()


@pytest.mark.parametrize(("patch", "parts"), [(3, 3), (0, 2), (8, 5), (4, 0)])
def test_masks_that_cannot_be(patch, parts):
    with pytest.raises(ValueError, match=f"size=16, patch={patch}, parts={parts}: expected"):
        corrupt.disjoint_masks(16, patch, parts)


def test_tasks_keep_the_target_and_hide_their_share():
    x = torch.rand(6, 3, 48, 48) * 0.9 + 0.1
    for task, shares in (
        (corrupt.without_parts, (0.3, 0.37)),
        (corrupt.without_most, (0.74, 0.76)),
    ):
        seen, target = task(x)
        assert target is x
        hidden = (seen == 0).all(1)
        assert shares[0] < hidden.float().mean() < shares[1]
        kept = ~hidden[:, None].expand_as(x)
        assert torch.equal(seen[kept], x[kept])
        assert not torch.equal(task(x)[0], seen), "fresh masks each time"
    assert torch.equal(corrupt.without_colours(x)[0], corrupt.grey(x))


def test_drawn_defects_change_the_mask_and_nothing_else():
    x = torch.full((8, 3, 64, 64), 0.5)
    x[:, :, 16:48, 16:48] = torch.tensor([0.7, 0.3, 0.2])[:, None, None]
    y, masks = corrupt.draw_defects(x, seed=3)
    assert masks.unique().tolist() == [0, 1] and masks.flatten(1).sum(1).min() >= 1
    assert (masks.mean((1, 2, 3)) < 0.1).all()
    near = torch.nn.functional.max_pool2d(masks, 5, stride=1, padding=2) > 0
    assert torch.equal(y[~near.expand_as(y)], x[~near.expand_as(x)])
    # A transplant from elsewhere may look the same in a flat picture; the others never do.
    for i in (0, 1, 2, 4, 5, 6):
        inside = masks[i].bool().expand_as(y[i])
        assert (y[i] - x[i])[inside].abs().max() > 0.02
    # Always the same, whatever comes after; other ones for another seed.
    assert torch.equal(corrupt.draw_defects(x[:2], seed=3)[0], y[:2])
    assert not torch.equal(corrupt.draw_defects(x, seed=4)[0], y)
    assert y.min() >= 0 and y.max() <= 1


def test_defects_lie_on_the_part():
    x = torch.full((20, 3, 64, 64), 0.9)
    x[:, :, :, :32] = 0.1  # the part fills the left half
    x[:, :, :, -1] = 0.9
    x[:, :, 0] = x[:, :, -1] = 0.9
    x[:, :, :, 0] = 0.9
    masks = corrupt.draw_defects(x, seed=0)[1]
    centre = (masks * torch.arange(64.0)).sum((1, 2, 3)) / masks.sum((1, 2, 3))
    assert (centre < 40).all()
