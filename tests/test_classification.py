import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sklearn_metrics
from torch.nn import functional as F

from autoencoders import classification, data
from autoencoders.metrics import wilson


def cars(n=12):
    return data.cars(128, limit=n)[0]


def as_jpeg(picture, size, quality):
    """The picture as another file would show it: of another size, and with JPEG's losses."""
    file = io.BytesIO()
    image = Image.fromarray(data.to_bytes(picture[None])[0])
    image.resize((size, size)).save(file, "JPEG", quality=quality)
    shown = np.asarray(Image.open(file).resize((128, 128)))
    return data.to_float(shown[None])[0]


def test_a_copy_has_nearly_the_same_hash_and_another_picture_has_not():
    x = cars()
    copies = torch.stack([as_jpeg(picture, 90, 60) for picture in x])
    hashes, theirs = classification.perceptual_hash(x), classification.perceptual_hash(copies)
    assert hashes.shape == (12, 64) and hashes.dtype == torch.bool
    differ = (hashes[:, None] != theirs[None]).sum(2)
    same = torch.eye(12, dtype=torch.bool)
    assert differ[same].max() <= 6 < differ[~same].min()
    # A median leaves half of the bits on each side, whatever the picture.
    assert (hashes.sum(1) == 32).all()
    # Only what is coarse counts: of a thumbnail of 16 pixels little else is left.
    thumbnails = F.interpolate(F.interpolate(x, size=16, mode="area"), size=128, mode="bilinear")
    blurred = classification.perceptual_hash(thumbnails)
    assert (hashes != blurred).sum(1).float().mean() <= 4
    darker = classification.perceptual_hash(0.8 * x)
    assert (hashes != darker).sum(1).max() <= 2


def test_near_duplicates_are_joined_also_through_others():
    hashes = torch.zeros(5, 64, dtype=torch.bool)
    hashes[1, :4] = True
    hashes[2, :8] = True  # 8 from the first, 4 from the second
    hashes[3, 20:40] = True
    hashes[4, 20:41] = True
    groups = classification.near_duplicates(hashes, distance=4)
    assert groups.tolist() == [0, 0, 0, 1, 1]
    assert classification.near_duplicates(hashes, distance=3).tolist() == [0, 1, 2, 3, 3]
    # Bits that one has and bits that the other has are both differences.
    apart = torch.tensor([[True] * 3 + [False] * 61, [False] * 3 + [True] * 3 + [False] * 58])
    assert classification.near_duplicates(apart, distance=5).tolist() == [0, 1]


def test_folds_keep_shares_and_groups():
    label = torch.tensor([0] * 60 + [1] * 25 + [2] * 10)
    group = torch.arange(95) // 2 * 2  # pairs
    group[60:] += 1000  # none of two classes
    splits = classification.folds(label, group, n=5)
    assert torch.cat([unseen for _, unseen in splits]).sort().values.tolist() == list(range(95))
    for train, unseen in splits:
        assert sorted([*train.tolist(), *unseen.tolist()]) == list(range(95))
        assert not set(group[train].tolist()) & set(group[unseen].tolist())
        counts = torch.bincount(label[unseen], minlength=3)
        assert (counts - torch.tensor([12, 5, 2])).abs().max() <= 2
    again = classification.folds(label, group, n=5)
    assert all((a[1] == b[1]).all() for a, b in zip(splits, again, strict=True))
    other = classification.folds(label, group, n=5, seed=1)
    assert not all(a[1].tolist() == b[1].tolist() for a, b in zip(splits, other, strict=True))


def test_folds_refuse_a_class_that_is_too_small():
    label = torch.tensor([0] * 20 + [1] * 6)
    group = torch.arange(26)
    group[20:] = torch.tensor([20, 20, 20, 21, 21, 22])
    with pytest.raises(ValueError, match="class 1 has 3 groups of pictures for 5 folds"):
        classification.folds(label, group)
    assert len(classification.folds(label, group, n=3)) == 3
    with pytest.raises(ValueError, match="n=1"):
        classification.folds(label, n=1)


def test_scores_are_those_of_their_definitions():
    label = np.array([0] * 8 + [1] * 4 + [2] * 2)
    predicted = np.array([0] * 7 + [1] + [1, 1, 0, 3] + [0, 2])
    found = classification.scores(label, predicted)
    assert found.accuracy == pytest.approx(10 / 14)
    assert found.balanced_accuracy == pytest.approx((7 / 8 + 2 / 4 + 1 / 2) / 3)
    # 2 TP / (2 TP + FP + FN), by class; class 3 has no pictures, and does not count.
    expected = np.mean([14 / (14 + 2 + 1), 4 / (4 + 1 + 2), 2 / (2 + 0 + 1)])
    assert found.macro_f1 == pytest.approx(expected)
    found = classification.recalls(label, predicted)
    assert [share for share, _, _ in found] == [7 / 8, 2 / 4, 1 / 2]
    assert found[0][1:] == pytest.approx(wilson(7, 8))


def test_the_interval_of_balanced_accuracy():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [300, 100, 40])
    right = (rng.random(440) < np.array([0.9, 0.7, 0.5])[label]).astype(float)
    mean, low, high = classification.balanced_interval(label, right)
    predicted = np.where(right > 0, label, (label + 1) % 3)
    assert mean == pytest.approx(sklearn_metrics.balanced_accuracy_score(label, predicted))
    # The normal approximation, each class with its own variance.
    variance = 0.0
    for number, n in ((0, 300), (1, 100), (2, 40)):
        p = right[label == number].mean()
        variance += p * (1 - p) / n / 9
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)
    # Paired: two methods that are right on the same pictures do not differ at all.
    assert classification.balanced_interval(label, right - right) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"labels \(440,\), values \(439,\)"):
        classification.balanced_interval(label, right[1:])


def test_weights_and_priors():
    label = torch.tensor([0] * 6 + [1] * 3)
    weights = classification.class_weights(label)
    assert weights[1] == pytest.approx(2 * weights[0].item())
    assert weights[label].mean() == pytest.approx(1)
    halfway = classification.class_weights(label, power=0.5)
    assert (halfway[1] / halfway[0]).item() == pytest.approx(2**0.5)
    torch.testing.assert_close(classification.log_prior(label).exp(), torch.tensor([2, 1]) / 3)


def test_the_power_law_that_made_the_errors_is_found():
    sizes = np.array([10, 20, 40, 80, 160])
    floor, scale, exponent = classification.power_law(sizes, 0.1 + 1.5 * sizes**-0.6)
    assert (floor, scale, exponent) == pytest.approx((0.1, 1.5, 0.6), rel=1e-3)
    with pytest.raises(ValueError, match="at least four different sizes"):
        classification.power_law([10, 10, 20, 40], [0.5, 0.4, 0.3, 0.2])
