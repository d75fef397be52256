import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from autoencoders import corrupt, detection


class Copy(torch.nn.Module):
    """Gives back what it gets, and remembers what it got."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x


class White(torch.nn.Module):
    def forward(self, x):
        return torch.ones_like(x)


def pictures(n=3, size=32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


@pytest.mark.parametrize("task", ["inpainting", "masked"])
def test_no_restored_pixel_was_seen(task):
    # What is black in the input is what is kept of the answer: a copy gives black everywhere.
    assert detection.restore(Copy(), task, pictures()).abs().max() == 0
    # And every pixel is restored exactly once: white everywhere.
    whole = detection.restore(White(), task, pictures())
    torch.testing.assert_close(whole, torch.ones_like(whole))
    assert whole.shape == ((4 if task == "inpainting" else 1), 3, 3, 32, 32)


def test_colourisation_sees_no_colour():
    model = Copy()
    detection.restore(model, "colourisation", pictures())
    seen = torch.cat(model.seen)
    assert (seen == seen[:, :1]).all()
    torch.testing.assert_close(seen, corrupt.grey(pictures()))


def test_a_picture_is_restored_alike_in_any_batch():
    x = pictures(5)

    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3), keepdim=True).expand_as(x)

    apart = detection.restore(Mean(), "inpainting", x, batch=2)
    torch.testing.assert_close(apart, detection.restore(Mean(), "inpainting", x, batch=5))


def test_restore_refuses_another_task():
    with pytest.raises(ValueError, match=r"task='sharpening': expected one of colourisation"):
        detection.restore(Copy(), "sharpening", pictures())


def test_errors_in_closed_form():
    x = torch.full((2, 3, 16, 16), 0.5)
    y = x.clone()
    y[:, 0] += 0.3
    errors = detection.error_maps(x, torch.stack([y, x]))
    # 0.09 in one channel of three, and nothing in the other restoration.
    torch.testing.assert_close(errors["squared"], torch.full((2, 1, 16, 16), 0.015))
    # Flat pictures have the same gradients, whatever their level.
    assert errors["gradient"].abs().max() < 1e-4
    edge = x.clone()
    edge[..., 8:] = 0.9
    assert detection.gradient_difference(x, edge)[..., 7:9].min() > 0.5
    assert detection.gradient_difference(edge, edge).abs().max() < 1e-6
    with pytest.raises(ValueError, match=r"pictures \(2, 3, 16, 16\), restored \(2, 3, 16, 16\)"):
        detection.error_maps(x, x)


def test_gradient_similarity_in_closed_form():
    # Ramps of 0.01 and 0.02 a pixel: between the two neighbours lie 0.02 and 0.04.
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    constant = 170 / 255**2
    similar = (2 * 0.02 * 0.04 + constant) / (0.02**2 + 0.04**2 + constant)
    found = detection.gradient_difference(0.01 * ramp, 0.02 * ramp, scales=1)
    inside = found[..., 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.full_like(inside, 1 - similar), atol=1e-4, rtol=0)


def test_blur_keeps_the_sum_and_is_a_gaussian():
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    blurred = detection.smooth(point, 2.0)
    assert blurred.sum().item() == pytest.approx(1, abs=1e-4)
    ratio = (blurred[..., 20, 22] / blurred[..., 20, 20]).item()
    assert ratio == pytest.approx(np.exp(-0.5), rel=1e-3)
    torch.testing.assert_close(detection.smooth(point, 0.0), point)


def test_standardised_by_what_is_usual_at_each_pixel():
    good = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    maps = torch.full((1, 1, 4, 4), 5.0)
    # Mean 2, deviation sqrt(2), and half of that on top: (5 - 2) / (1.5 sqrt(2))
    torch.testing.assert_close(detection.standardise(maps, good), torch.full((1, 1, 4, 4), 2**0.5))
    with pytest.raises(ValueError, match=r"good maps \(1, 1, 4, 4\).*at least 2"):
        detection.standardise(maps, good[:1])


def test_a_scorer_takes_the_largest_of_several_errors():
    good = {"a": torch.rand(5, 1, 8, 8), "b": torch.rand(5, 1, 8, 8)}
    errors = {"a": torch.rand(2, 1, 8, 8), "b": torch.rand(2, 1, 8, 8)}
    one = [detection.Scorer((name,), (1.0,)).maps(errors, good) for name in ("a", "b")]
    both = detection.Scorer(("a", "b"), (1.0,)).maps(errors, good)
    torch.testing.assert_close(both, torch.maximum(*one))
    flat = detection.Scorer(("a",), (0.0,), standardised=False)
    ones = {"a": torch.ones(2, 1, 8, 8)}
    torch.testing.assert_close(flat.maps(ones, ones), ones["a"])
    assert flat._replace(quantile=0.5).scores(torch.arange(9.0).reshape(1, 1, 3, 3)).item() == 4


def test_pixel_gaussian_in_closed_form():
    train = torch.stack([torch.full((3, 2, 2), 0.4), torch.full((3, 2, 2), 0.6)])
    x = torch.full((1, 3, 2, 2), 0.9)
    expected = 0.4 / (0.1 * 2**0.5 + 0.03)
    torch.testing.assert_close(
        detection.pixel_gaussian(train, x), torch.full((1, 1, 2, 2), expected)
    )


def test_nearest_patch_and_padim_find_what_is_new():
    dice = torch.Generator().manual_seed(1)
    train = torch.randn(30, 4, 3, 3, generator=dice)
    x = torch.randn(2, 4, 3, 3, generator=dice)
    x[0, :, 1, 2] += 20
    for method in (detection.nearest_patch, detection.padim):
        maps = method(train, x)
        assert maps.shape == (2, 1, 3, 3)
        assert maps[0].argmax() == 5 and maps[0].max() > 3 * maps[1].max()
    assert detection.nearest_patch(train, train[:2]).abs().max() < 1e-2
    # PaDiM against SciPy-free arithmetic at one place.
    known = train[:, :, 0, 0].double()
    away = x[0, :, 0, 0].double() - known.mean(0)
    covariance = torch.cov(known.T) + 0.01 * torch.eye(4)
    expected = (away @ torch.linalg.solve(covariance, away)).sqrt().item()
    assert detection.padim(train, x)[0, 0, 0, 0].item() == pytest.approx(expected, rel=1e-4)


def test_aurocs_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 50), np.round(random.normal(size=50), 1)
    assert detection.auroc(labels, scores) == roc_auc_score(labels, scores)
    assert detection.aupr(labels, scores) == average_precision_score(labels, scores)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 0], [1.0, 2.0], "0 of 2 are defective: expected some of both"),
        ([1, 1], [1.0, 2.0], "2 of 2 are defective: expected some of both"),
        ([0, 1], [1.0, np.nan], "expected a finite score"),
        ([0, 1], [1.0], r"labels \(2,\), scores \(1,\)"),
    ],
)
def test_scores_that_cannot_be_judged(labels, scores, message):
    for judge in (detection.auroc, detection.aupr, detection.interval):
        with pytest.raises(ValueError, match=message):
            judge(labels, scores)


def brute_force_pro(masks, maps, limit):
    """By its definition, one threshold after the other."""
    regions = []
    for mask, one in zip(masks[:, 0], maps[:, 0], strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [one[labels == number] for number in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        false_alarms = (maps[masks == 0] >= threshold).mean()
        points.append((false_alarms, np.mean([(r >= threshold).mean() for r in regions])))
    x, y = np.array(points).T
    fine = np.linspace(0, limit, 100_001)
    return np.trapezoid(np.interp(fine, x, y), fine) / limit


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("digits", [1, 8])
def test_pro_is_its_definition(limit, digits):
    random = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(random.standard_normal((3, 1, 24, 24)), (0, 0, 2, 2))
    masks = (noise > 0.12).astype(float)
    maps = np.round(masks * 0.8 + random.standard_normal(masks.shape), digits)
    expected = brute_force_pro(masks, maps, limit)
    assert detection.pro(masks, maps, limit) == pytest.approx(expected, abs=1e-4)


def test_pro_at_its_ends():
    masks = np.zeros((2, 1, 8, 8))
    masks[0, 0, 2:4, 2:4] = masks[1, 0, 6, 1:7] = 1
    assert detection.pro(masks, masks) == pytest.approx(1)
    # The same everywhere: guessing, a straight line to (1, 1), of which 0.3 gives 0.15.
    assert detection.pro(masks, np.zeros_like(masks)) == pytest.approx(0.15)
    assert detection.pro(masks, 1 - masks) == 0
    with pytest.raises(ValueError, match="limit=0: expected a share"):
        detection.pro(masks, masks, 0)


def test_pixels_that_touch_at_a_corner_are_one_region():
    masks = np.zeros((1, 1, 9, 9))
    masks[0, 0, 1, 1] = masks[0, 0, 2, 2] = masks[0, 0, 7, 7] = 1
    maps = np.zeros_like(masks)
    maps[0, 0, 1, 1] = maps[0, 0, 2, 2] = 2  # one region of two is found, not two of three
    # From 1/2 without any false alarm, in a straight line to 1 where all are raised.
    assert detection.pro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.15)


def test_intervals_hold_the_value_and_pairs_are_narrower():
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1], 60)
    a = labels + random.normal(size=120)
    b = a + 0.1 * random.normal(size=120)
    value, low, high = detection.interval(labels, a)
    assert low < value < high and value == detection.auroc(labels, a)
    difference, left, right = detection.paired_interval(labels, a, b)
    assert difference == pytest.approx(detection.auroc(labels, a) - detection.auroc(labels, b))
    assert left <= difference <= right and right - left < 0.5 * (high - low)
    assert detection.interval(labels, a) == detection.interval(labels, a)
    assert detection.paired_interval(labels, a, a) == (0, 0, 0)


def test_the_interval_is_that_of_scikit_learn_on_each_draw():
    labels, scores = np.repeat([0, 1], 9), np.round(np.random.default_rng(5).normal(size=18), 0)
    draws = detection._drawn_aurocs(labels == 1, scores, 20, seed=0)
    random = np.random.default_rng(0)
    for value in draws:
        bad = scores[9:][random.integers(9, size=9)]
        good = scores[:9][random.integers(9, size=9)]
        assert value == pytest.approx(roc_auc_score(labels, np.concatenate([good, bad])))


@pytest.mark.parametrize(("rate", "expected"), [(0.1, 8), (0.3, 6), (0.99, 0), (0.15, 8)])
def test_threshold_lets_through_as_few_as_asked(rate, expected):
    scores = torch.tensor([5.0, 1, 9, 3, 7, 2, 8, 4, 6, 0])
    limit = detection.threshold(scores, rate)
    assert limit == expected and (scores > limit).float().mean() <= rate


@pytest.mark.parametrize(("n", "rate"), [(10, 0.05), (10, 1.0), (0, 0.5)])
def test_a_rate_that_so_few_pictures_cannot_tell(n, rate):
    with pytest.raises(ValueError, match=f"false_alarms={rate} with {n} good pictures"):
        detection.threshold(np.arange(n), rate)
