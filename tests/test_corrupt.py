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
