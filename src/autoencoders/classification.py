"""Classifying with few pictures and uneven classes: duplicates, folds, fair measures, corrections.

Labels are numbers from 0, `(N,)`. For the trainings of notebook 07 see `remedies`.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import fft, optimize, sparse
from torch.nn import functional as F

from autoencoders import corrupt, metrics

# ---- Look before you train ----


def perceptual_hash(pictures: torch.Tensor) -> torch.Tensor:
    """64 bits for each of the pictures `(N, 3, H, W)`, as bools `(N, 64)`.

    What a picture shows at its coarsest: the 64 lowest frequencies of the grey picture, each above
    their median or below. Another size, another JPEG quality or a little more light change few of
    them (the "pHash" of Zauner 2010).
    """
    corrupt.check(pictures)
    grey = corrupt.grey(pictures)[:, :1]
    # Blocks are averaged, so fine texture, which a copy may have lost, does not come in.
    small = F.interpolate(grey, size=(32, 32), mode="area")[:, 0].numpy()
    lowest = fft.dctn(small, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(-1, 64)
    return torch.from_numpy(lowest > np.median(lowest, axis=1, keepdims=True))


def near_duplicates(hashes: torch.Tensor, distance: int = 6) -> torch.Tensor:
    """The group of each picture, `(N,)`, numbered from 0 in order of appearance.

    Two pictures are in one group where at most `distance` bits of their hashes `(N, 64)` differ,
    or where others lie between them that do.
    """
    bits = hashes.float()
    # How many bits differ: those of one that the other lacks, and the other way round.
    differ = bits @ (1 - bits).T + (1 - bits) @ bits.T
    _, group = sparse.csgraph.connected_components((differ <= distance).numpy(), directed=False)
    return torch.from_numpy(group).long()


def folds(
    label: torch.Tensor, group: torch.Tensor | None = None, n: int = 5, seed: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`n` splits of the pictures into (train, unseen); each picture is unseen in one of them.

    Each fold has about the same share of each class, and no `group` `(N,)` is in two of them.
    Raises ValueError that names a class with fewer groups than folds.
    """
    if group is None:
        group = torch.arange(len(label))
    if n < 2 or label.shape != group.shape:
        raise ValueError(
            f"n={n}, labels {tuple(label.shape)}, groups {tuple(group.shape)}: expected at least 2 "
            "folds, and a group for each label"
        )
    for number in label.unique().tolist():
        count = len(group[label == number].unique())
        if count < n:
            raise ValueError(
                f"class {number} has {count} groups of pictures for {n} folds: expected at least "
                "one a fold; take fewer folds, or leave this class out"
            )
    from sklearn.model_selection import StratifiedGroupKFold  # loaded late, as it takes long

    cut = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    return [
        (torch.from_numpy(train), torch.from_numpy(unseen))
        for train, unseen in cut.split(label, label, group)
    ]


# ---- What to report ----


class Scores(NamedTuple):
    """How good predictions are, each from 0 to 1."""

    accuracy: float
    balanced_accuracy: float  # mean of the classes' recalls
    macro_f1: float  # mean of the classes' F1


def scores(label, predicted) -> Scores:
    """Accuracy, balanced accuracy and macro F1 of predictions `(N,)`, as scikit-learn has them."""
    label, predicted = np.asarray(label), np.asarray(predicted)
    # Of the classes that are there: one without a picture has neither recall nor F1.
    each = {"labels": np.unique(label), "average": "macro"}
    from sklearn import metrics as sklearn_metrics

    return Scores(
        float(sklearn_metrics.accuracy_score(label, predicted)),
        float(sklearn_metrics.recall_score(label, predicted, **each)),
        float(sklearn_metrics.f1_score(label, predicted, **each)),
    )


def recalls(label, predicted) -> list[tuple[float, float, float]]:
    """(share, low, high) for each class: what share is found, with its 95 % interval by Wilson."""
    label, predicted = np.asarray(label), np.asarray(predicted)
    found = []
    for number in np.unique(label):
        right = predicted[label == number] == number
        found.append((float(right.mean()), *metrics.wilson(int(right.sum()), len(right))))
    return found


def balanced_interval(label, right, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean over classes of the mean of `right` `(N,)`, and its 95 % interval.

    For predictions that are right or not this is balanced accuracy; for the difference between two
    methods' it is the gain in balanced accuracy, paired by picture; and `right` may be the mean
    over seeds. Pictures are drawn with repetition, as many of each class as there are.
    """
    label, right = np.asarray(label), np.asarray(right, float)
    if label.shape != right.shape or label.ndim != 1 or not len(label):
        raise ValueError(
            f"labels {label.shape}, values {right.shape}: expected two equal shapes (N,)"
        )
    rng = np.random.default_rng(seed)
    means, drawn = [], []
    for number in np.unique(label):
        own = right[label == number]
        means.append(own.mean())
        drawn.append(own[rng.integers(len(own), size=(draws, len(own)))].mean(1))
    low, high = np.percentile(np.mean(drawn, axis=0), (2.5, 97.5))
    return float(np.mean(means)), float(low), float(high)


# ---- Remedies ----


def class_weights(label: torch.Tensor, power: float = 1.0) -> torch.Tensor:
    """A weight for each class, `(classes,)`: one over its number of pictures, to a `power`.

    Scaled so that the mean over the pictures is 1.
    """
    counts = torch.bincount(label).float()
    weights = counts.clamp(min=1) ** -power
    return weights / weights[label].mean()


def log_prior(label: torch.Tensor) -> torch.Tensor:
    """The logarithm of each class's share of the pictures, `(classes,)`.

    Logit adjustment takes `tau` times these off the logits of a network that was trained as usual
    (Menon et al. 2021, arXiv:2007.07314, equation 9), or adds them while it is trained (10).
    """
    counts = torch.bincount(label).float()
    return (counts / counts.sum()).log()


# ---- How many pictures are enough ----


def power_law(sizes, errors) -> tuple[float, float, float]:
    """(floor, scale, exponent) of the curve `floor + scale * size ** -exponent` nearest to errors.

    By least squares, with a floor from 0 to 1 and an exponent from 0 to 2 (Hestness et al. 2017,
    arXiv:1712.00409). At least four sizes; raises ValueError.
    """
    sizes, errors = np.asarray(sizes, float), np.asarray(errors, float)
    if sizes.shape != errors.shape or sizes.ndim != 1 or len(np.unique(sizes)) < 4:
        raise ValueError(
            f"sizes {sizes.tolist()}, errors {errors.tolist()}: expected as many errors as sizes, "
            "of at least four different sizes, one more than the curve has parameters"
        )

    def curve(size, floor, scale, exponent):
        return floor + scale * size**-exponent

    start = (0.5 * errors.min(), errors.max(), 0.5)
    found, _ = optimize.curve_fit(curve, sizes, errors, start, bounds=((0, 0, 0), (1, np.inf, 2)))
    return tuple(float(value) for value in found)
