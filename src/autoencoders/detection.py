"""From restored pictures to an alarm: error maps, scores, and how good they are.

A network that has only seen good parts restores a defective one as if it were good. Where the
picture and its restoration differ, there may be a defect.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from autoencoders import corrupt

TASKS = ("colourisation", "inpainting", "masked")

# ---- Maps ----


@torch.no_grad()
def restore(
    model: nn.Module, task: str, pictures: torch.Tensor, seed: int = 0, batch: int = 16
) -> torch.Tensor:
    """Restore pictures `(N, 3, size, size)` from what a task leaves of them: `(R, N, 3, ...)`.

    "colourisation" restores from grey (R = 1). "inpainting" hides each third in turn and puts the
    three fillings together, once for each patch size (R = 4). "masked" shows each quarter in turn;
    a hidden patch is then restored from three others, whose mean counts (R = 1). No restored pixel
    has been seen in colour or at all. Raises ValueError.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}: expected one of {', '.join(TASKS)}")
    corrupt.check(pictures)
    parts = []
    for some in pictures.split(batch):
        # The same masks for every batch, so that a picture's restoration is its own.
        generator = torch.Generator().manual_seed(seed)
        # Convolutions are a fifth faster on a CPU where the channels of a pixel lie together.
        some = some.contiguous(memory_format=torch.channels_last)
        parts.append(_restore(model, task, some, generator))
    return torch.cat(parts, 1)


def _restore(model, task, x, generator) -> torch.Tensor:
    if task == "colourisation":
        return model(corrupt.grey(x))[None]
    size = x.shape[-1]
    if task == "masked":
        patch, parts = corrupt.MASKED_PATCH, corrupt.QUARTERS
        shown = corrupt.disjoint_masks(size, patch, parts, generator=generator)[0].to(x)
        filled = sum(model(x * mask) * (1 - mask) for mask in shown)
        # Each pixel is hidden by all masks but one.
        return (filled / (len(shown) - 1))[None]
    restored = []
    for patch in corrupt.PATCHES:
        hidden = corrupt.disjoint_masks(size, patch, corrupt.THIRDS, generator=generator)[0].to(x)
        restored.append(sum(model(x * (1 - mask)) * mask for mask in hidden))
    return torch.stack(restored)


def squared_error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The squared error of each pixel, averaged over colours: `(N, 3, H, W)` to `(N, 1, H, W)`."""
    return ((a - b) ** 2).mean(1, keepdim=True)


def gradient_difference(a: torch.Tensor, b: torch.Tensor, scales: int = 3) -> torch.Tensor:
    """1 minus the gradient magnitude similarity of each pixel, `(N, 1, H, W)`, from 0 to 1.

    Of grey levels, by Prewitt filters, averaged over `scales` halvings (Xue et al. 2014,
    arXiv:1308.3052; over scales as in Zavrtanik et al. 2021).
    """
    a, b = (corrupt.grey(x.clamp(0, 1))[:, :1] for x in (a, b))
    size = a.shape[-2:]
    total = torch.zeros_like(a)
    for _ in range(scales):
        slope_a, slope_b = _slope(a), _slope(b)
        # The paper's constant for pictures of 255 levels, brought to [0, 1].
        constant = 170 / 255**2
        similar = (2 * slope_a * slope_b + constant) / (slope_a**2 + slope_b**2 + constant)
        total += F.interpolate(1 - similar, size=size, mode="bilinear", align_corners=False)
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total / scales


def _slope(grey: torch.Tensor) -> torch.Tensor:
    """The length of the gradient of `(N, 1, H, W)` at each pixel, by Prewitt filters."""
    across = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=grey.device)[None, None] / 3
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = F.conv2d(padded, across)
    dy = F.conv2d(padded, across.transpose(2, 3))
    # A root has no slope at 0; the little that is added is far below a grey level.
    return (dx**2 + dy**2 + 1e-12).sqrt()


ERRORS = {"squared": squared_error, "gradient": gradient_difference}


def error_maps(pictures: torch.Tensor, restored: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each of `ERRORS` for restorations `(R, N, 3, H, W)`, averaged over the R: `(N, 1, H, W)`.

    Raises ValueError.
    """
    if restored.shape[1:] != pictures.shape:
        raise ValueError(
            f"pictures {tuple(pictures.shape)}, restored {tuple(restored.shape)}: expected "
            "(N, 3, H, W) and (R, N, 3, H, W)"
        )
    maps = {}
    for name, error in ERRORS.items():
        maps[name] = torch.stack([error(pictures, one) for one in restored]).mean(0)
    return maps


def smooth(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Maps `(N, 1, H, W)` blurred by a Gaussian of `sigma` pixels, cut off at three of them."""
    # SciPy blurs rows, then columns: for a wide blur far faster than a convolution in two.
    blurred = ndimage.gaussian_filter(maps.cpu().numpy(), (0, 0, sigma, sigma), truncate=3.0)
    return torch.from_numpy(blurred).to(maps)


def standardise(maps: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """How unusual each pixel's error is: less the mean over good maps, in units of their spread.

    `maps` `(N, 1, H, W)`, `good` `(M, 1, H, W)` with M of at least 2. An edge that a network never
    restores well is then no alarm. Half the mean spread is added to each pixel's, since where
    nothing ever varies the least error would be a sensation. Raises ValueError.
    """
    if len(good) < 2 or good.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"good maps {tuple(good.shape)} for maps {tuple(maps.shape)}: expected at least 2 of "
            "the same size"
        )
    spread = good.std(0)
    return (maps - good.mean(0)) / (spread + 0.5 * spread.mean() + 1e-12)


class Scorer(NamedTuple):
    """Settings that turn error maps into anomaly maps and scores; chosen on validation pictures."""

    errors: tuple[str, ...] = ("squared",)  # of ERRORS
    sigmas: tuple[float, ...] = (2.0,)  # of the blur, in pixels; maps of several are averaged
    standardised: bool = True
    quantile: float = 1.0  # of a map's pixels; 1 is the largest

    def maps(self, errors: dict, good: dict) -> torch.Tensor:
        """Anomaly maps `(N, 1, H, W)` of `error_maps`, beside those of good pictures.

        Of several errors the largest counts at each pixel.
        """
        return combine([self._of_one(errors[name], good[name]) for name in self.errors])

    def _of_one(self, error: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(error)
        for sigma in self.sigmas:
            blurred, usual = smooth(error, sigma), smooth(good, sigma)
            if self.standardised:
                total += standardise(blurred, usual)
            else:
                # In units of the usual error, so that several errors can be compared.
                total += blurred / (usual.mean() + 1e-12)
        return total / len(self.sigmas)

    def scores(self, maps: torch.Tensor) -> torch.Tensor:
        """One score for each picture `(N,)`: the quantile of its map's pixels."""
        return maps.flatten(1).quantile(self.quantile, dim=1)


def combine(maps: list[torch.Tensor]) -> torch.Tensor:
    """One map of several: at each pixel the largest, as one alarm is enough."""
    return torch.stack(maps).amax(0)


# ---- Without restoring ----


def pixel_gaussian(train: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """The bar to clear, `(N, 1, H, W)`: how far a pixel is from the mean of good pictures.

    Pictures `(M, C, H, W)` and `(N, C, H, W)`; in standard deviations of that pixel's colours, each
    made larger by 0.03 of white. No network, nothing learnt but a mean and a deviation.
    """
    distance = (pictures - train.mean(0)) / (train.std(0) + 0.03)
    return (distance**2).mean(1, keepdim=True).sqrt()


def nearest_patch(
    train: torch.Tensor, features: torch.Tensor, bank: int = 8000, seed: int = 0
) -> torch.Tensor:
    """How far each place's features are from the nearest of good places, `(N, 1, h, w)`.

    Features `(M, C, h, w)` of good pictures, of which `bank` places are kept at random, and
    `(N, C, h, w)`. After PatchCore (Roth et al. 2022, arXiv:2106.08265), which chooses the bank
    with more care.
    """
    known = train.movedim(1, -1).flatten(0, 2)  # (M h w, C)
    generator = torch.Generator().manual_seed(seed)
    known = known[torch.randperm(len(known), generator=generator)[:bank]]
    maps = []
    for one in features.movedim(1, -1):  # (h, w, C)
        nearest = torch.cdist(one.flatten(0, 1), known).amin(1)
        maps.append(nearest.reshape(1, *one.shape[:2]))
    return torch.stack(maps)


def padim(train: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Mahalanobis distance of each place's features from those of good pictures, `(N, 1, h, w)`.

    A Gaussian for each place (Defard et al. 2021, arXiv:2011.08785). Features `(M, C, h, w)` of
    good pictures and `(N, C, h, w)`.
    """
    n, channels, height, width = features.shape
    known = train.permute(2, 3, 0, 1).flatten(0, 1)  # (h w, M, C)
    mean = known.mean(1, keepdim=True)
    known = known - mean
    # A little on the diagonal: there are often fewer good pictures than features.
    covariance = known.transpose(1, 2) @ known / (len(train) - 1) + 0.01 * torch.eye(channels)
    root = torch.linalg.cholesky(covariance)  # (h w, C, C)
    away = features.permute(2, 3, 1, 0).flatten(0, 1) - mean.transpose(1, 2)  # (h w, C, N)
    whitened = torch.linalg.solve_triangular(root, away, upper=False)
    return whitened.norm(dim=1).T.reshape(n, 1, height, width)


# ---- How good ----


def auroc(defective, scores) -> float:
    """The area under the ROC curve, by scikit-learn: 0.5 for guessing, 1 if all is told apart.

    The chance that a random defective item scores higher than a random good one. `defective` `(n,)`
    of 0 and 1, `scores` `(n,)`; also of pixels, `(N, 1, H, W)` both. Raises ValueError.
    """
    from sklearn.metrics import roc_auc_score  # loaded late, as it takes long

    return float(roc_auc_score(*_two_kinds(defective, scores)))


def aupr(defective, scores) -> float:
    """The area under precision against recall, as scikit-learn's average precision; as `auroc`.

    Guessing reaches the share of defective items.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_two_kinds(defective, scores)))


def _two_kinds(defective, scores) -> tuple[np.ndarray, np.ndarray]:
    defective, scores = np.asarray(defective), np.asarray(scores, float)
    if defective.shape != scores.shape or not np.isfinite(scores).all():
        raise ValueError(
            f"labels {defective.shape}, scores {scores.shape}: expected a finite score for each "
            "label"
        )
    defective = defective.ravel() > 0.5
    if defective.all() or not defective.any():
        raise ValueError(
            f"{int(defective.sum())} of {len(defective)} are defective: expected some of both kinds"
        )
    return defective, scores.ravel()


def pro(masks, maps, limit: float = 0.3) -> float:
    """The mean overlap with each defective region, averaged over false alarms from 0 to `limit`.

    Per-region overlap (Bergmann et al. 2020, arXiv:1911.02357): for a threshold, the share of each
    connected region (neighbours also across corners) whose pixels lie above it, averaged over all
    regions, small or large; against the share of good pixels above it. The area up to `limit` is
    divided by `limit`, so that 1 is perfect. `masks` of 0 and 1 and `maps`, `(N, 1, H, W)` both.
    Raises ValueError.
    """
    defective, scores = _two_kinds(masks, maps)
    if not 0 < limit <= 1:
        raise ValueError(f"limit={limit}: expected a share of false alarms above 0, up to 1")
    # Each pixel of a region of n pixels weighs 1/n: then a sum over pixels is one over regions.
    weights = np.zeros(len(scores))
    regions, offset = 0, 0
    for mask in np.asarray(masks).reshape(-1, *np.shape(masks)[-2:]) > 0.5:
        labels, found = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())
        inside = labels.ravel() > 0
        weights[offset : offset + mask.size][inside] = 1 / sizes[labels.ravel()[inside]]
        regions += found
        offset += mask.size
    order = np.argsort(-scores, kind="stable")
    overlap = np.cumsum(weights[order]) / regions
    false_alarms = np.cumsum(~defective[order]) / (~defective).sum()
    # Pixels of one score pass a threshold together: only the last of them is a point.
    last = np.append(np.diff(scores[order]) != 0, True)
    x = np.concatenate([[0.0], false_alarms[last]])
    y = np.concatenate([[0.0], overlap[last]])
    # Cut at the limit, with a last point between two where it falls.
    at_limit = np.interp(limit, x, y)
    inside = x < limit
    x = np.append(x[inside], limit)
    y = np.append(y[inside], at_limit)
    return float(np.trapezoid(y, x) / limit)


def interval(defective, scores, draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """The AUROC and its 95 % interval by bootstrap over pictures: (value, low, high).

    Good and defective ones are drawn apart, so that there are always as many of each. Raises
    ValueError.
    """
    defective, scores = _two_kinds(defective, scores)
    values = _drawn_aurocs(defective, scores, draws, seed)
    return (auroc(defective, scores), *np.percentile(values, (2.5, 97.5)).tolist())


def paired_interval(
    defective, a, b, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """By how much the AUROC of `a` exceeds that of `b` on the same pictures: (value, low, high).

    The same pictures are drawn for both, so what makes a picture hard for both cancels out. Else
    as `interval`.
    """
    defective, a = _two_kinds(defective, a)
    _, b = _two_kinds(defective, b)
    values = _drawn_aurocs(defective, a, draws, seed) - _drawn_aurocs(defective, b, draws, seed)
    difference = auroc(defective, a) - auroc(defective, b)
    return (difference, *np.percentile(values, (2.5, 97.5)).tolist())


def _drawn_aurocs(defective, scores, draws: int, seed: int) -> np.ndarray:
    """AUROCs `(draws,)` of items drawn with repetition from each of the two kinds."""
    random = np.random.default_rng(seed)
    bad, good = scores[defective], scores[~defective]
    # Once for all: 1 where the defective one of a pair scores higher, one half where both agree.
    won = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)
    values = np.empty(draws)
    for i in range(draws):
        rows = random.integers(len(bad), size=len(bad))
        columns = random.integers(len(good), size=len(good))
        values[i] = won[rows][:, columns].mean()
    return values


def threshold(good_scores, false_alarms: float) -> float:
    """The least score that at most the share `false_alarms` of good pictures exceeds.

    `good_scores` `(n,)` are of good pictures that nothing was trained on. Raises ValueError: with n
    of them no rate below 1 / n can be told from none at all.
    """
    scores = np.sort(np.asarray(good_scores, float).ravel())
    if not len(scores) or not 1 / len(scores) <= false_alarms < 1:
        raise ValueError(
            f"false_alarms={false_alarms} with {len(scores)} good pictures: expected from "
            f"1/{max(1, len(scores))} to below 1; use more pictures for a lower rate"
        )
    # So many of the highest may be exceeded; rounding errors must not lose one.
    allowed = int(false_alarms * len(scores) + 1e-9)
    return float(scores[len(scores) - 1 - allowed])
