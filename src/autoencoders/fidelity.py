"""How much generated pictures resemble real ones: scores of two sets of features, and intervals.

Features are what a network, such as a classifier, says about each picture: `(n, d)`, a row for a
picture. Arrays and tensors of any real type are welcome, and everything is computed in float64.
No score depends on the order of the pictures. All depend on the network and on the number of
pictures, so compare only what was measured with the same of both.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

# ---- Distances between the two distributions ----


def frechet(real, generated) -> float:
    """Fréchet distance of two Gaussians fitted to features `(n, d)`, 0 for equal sets.

    Heusel et al. 2017, arXiv:1706.08500, equation 6: |m1 - m2|^2 + tr(S1 + S2 - 2 root(S1 S2)), in
    squared units of the features. With Inception's features it is the FID; with those of another
    classifier call it Fréchet classifier distance, for the numbers do not compare. It is too large
    for few pictures, by about a constant over n. The sets may differ in n. Raises ValueError, as
    for no more pictures than features.
    """
    real, generated = _pair(real, generated, at_least=2)
    d = real.shape[1]
    for name, x in (("real", real), ("generated", generated)):
        # n pictures leave a covariance of rank n - 1 at most.
        if len(x) <= d:
            raise ValueError(
                f"{len(x)} {name} pictures with {d} features: expected more pictures than "
                "features, or the covariance is singular; add pictures, or use `kid`"
            )
    root_1, root_2 = _root(_covariance(real)), _root(_covariance(generated))
    # The trace of root(S1 S2) is the sum of the singular values of root(S1) root(S2): real numbers,
    # where a root of the product, which is not symmetric, can come out complex. Their squares are
    # the eigenvalues of root(S1) S2 root(S1), but squaring drowns the small ones in rounding.
    trace_of_root = np.linalg.norm(root_1 @ root_2, "nuc")
    shift = real.mean(axis=0) - generated.mean(axis=0)
    distance = shift @ shift + (root_1**2).sum() + (root_2**2).sum() - 2 * trace_of_root
    return max(float(distance), 0.0)  # rounding takes equal sets to -1e-13


def _covariance(x: np.ndarray) -> np.ndarray:
    """The unbiased covariance `(d, d)` of features `(n, d)`."""
    x = x - x.mean(axis=0)
    return x.T @ x / (len(x) - 1)


def _root(symmetric: np.ndarray) -> np.ndarray:
    """The symmetric root `(d, d)` of a covariance, whose eigenvalues are 0 or more."""
    values, vectors = np.linalg.eigh(symmetric)
    values = values.clip(0)  # rounding takes zeros to -1e-17
    return vectors * np.sqrt(values) @ vectors.T


def kid(real, generated) -> float:
    """Kernel distance of features `(n, d)`: squared MMD with the kernel (x.y / d + 1)^3, unbiased.

    Binkowski et al. 2018, arXiv:1801.01401, there with Inception's features. It is 0 on average for
    two samples of one distribution, hence as often below 0, and it works for few pictures, fewer
    than features too. The sets may differ in n. Two sets of the very same pictures, in any order,
    are not independent samples, and the formula, which expects that, would give a negative number;
    they get 0. Raises ValueError.
    """
    real, generated = _pair(real, generated, at_least=2)
    if _same_pictures(real, generated):
        return 0.0
    among_real = _mean_of_pairs(_kernel(real, real))
    among_generated = _mean_of_pairs(_kernel(generated, generated))
    return float(among_real + among_generated - 2 * _kernel(real, generated).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The polynomial kernel of each picture with each, `(n, m)`."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # 30 times faster than `base**3`


def _mean_of_pairs(kernel: np.ndarray) -> float:
    """The mean of a kernel `(n, n)` off the diagonal: a picture with itself is no pair."""
    n = len(kernel)
    return (kernel.sum() - np.trace(kernel)) / (n * (n - 1))


def _same_pictures(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    # `lexsort` takes features as keys, and so brings both sets into one order.
    return np.array_equal(a[np.lexsort(a.T)], b[np.lexsort(b.T)])


# ---- Nearest neighbours: what is missing, and what is wrong ----


class Coverage(NamedTuple):
    """Shares of pictures, from 0 to 1; the density alone can exceed 1.

    The ball of a picture reaches to the k-th nearest other one of its set.
    """

    precision: float  # of the generated ones that lie in the ball of any real one
    recall: float  # of the real ones that lie in the ball of any generated one
    density: float  # the number of real balls that a generated one lies in, on average, over k
    coverage: float  # of the real ones whose ball has a generated one in it


def prdc(real, generated, k: int = 5) -> Coverage:
    """Precision, recall, density and coverage of features `(n, d)` by their k nearest neighbours.

    Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991. One outlier has a large ball
    and spoils both, so density and coverage of Naeem et al. 2020, arXiv:2002.09797, follow. As in
    the package `prdc`, a picture on the rim of a ball is outside. The sets may differ in n, but
    then two samples of one distribution score other than with equal n. Raises ValueError.
    """
    if k < 1:
        raise ValueError(f"{k=}: expected a number of neighbours of at least 1, such as 5")
    real, generated = _pair(real, generated, at_least=k + 1)
    between = _distances(real, generated)  # (real, generated)
    real_radius = _radii(real, k)
    generated_radius = _radii(generated, k)
    in_real_ball = between < real_radius[:, None]
    in_generated_ball = between < generated_radius[None, :]
    return Coverage(
        precision=float(in_real_ball.any(axis=0).mean()),
        recall=float(in_generated_ball.any(axis=1).mean()),
        density=float(in_real_ball.sum(axis=0).mean() / k),
        coverage=float(in_real_ball.any(axis=1).mean()),
    )


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean distances of each picture to each, `(n, m)`."""
    # By differences: the faster |x|^2 - 2 x.y + |y|^2 rounds, so that a picture would no longer be
    # at distance 0 from itself, and ties would depend on the order.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(torch.from_numpy(x), torch.from_numpy(y), compute_mode=mode).numpy()


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """The distance of each picture to its k-th nearest other one, `(n,)`."""
    # The nearest of all, number 0, is the picture itself.
    return np.partition(_distances(x, x), k, axis=1)[:, k]


# ---- How sure one can be ----


def bootstrap(
    score: Callable, real, generated, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of `score(real, generated)`, a function that returns a number: (low, high).

    It says how much the score would differ with other pictures from the same two sources, and as
    many. It knows no bounds: it may pass below 0 or above 1. The score is taken of halves, so both
    sets need twice the pictures that it needs. Sets that share pictures are not independent, and
    get no valid interval. For one of several numbers:
    `bootstrap(lambda *sets: prdc(*sets).coverage, real, generated)`. Raises ValueError.
    """
    if draws < 2:
        raise ValueError(f"{draws=}: expected at least 2, and better 200, for a spread")
    real, generated = _pair(real, generated, at_least=4)
    middle = score(real, generated)
    random = np.random.default_rng(seed)
    scores = []
    for _ in range(draws):
        halves = _half(real, random), _half(generated, random)
        try:
            scores.append(score(*halves))
        except ValueError as error:
            raise ValueError(
                f"{len(real)} real and {len(generated)} generated pictures: expected enough for "
                f"the score of half of them, which says: {error}"
            ) from error
    # The spread of halves around their own mean, because with fewer pictures most scores are
    # somewhat higher or lower throughout.
    margin = 1.96 * np.std(scores, ddof=1)
    return float(middle - margin), float(middle + margin)


def _half(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Half of the pictures, each at most once.

    Drawn with repetition, as a bootstrap does, they would contain duplicates: neighbours at
    distance 0, and pairs in an unbiased MMD that are a picture with itself. Without, it is
    subsampling (Politis & Romano 1994, Annals of Statistics 22). A mean of m of n pictures then
    varies by s^2 (1/m - 1/n), the last term because the n are all there are (finite-population
    correction). One of n new pictures varies by s^2 / n. The deviations of subsamples are to be
    multiplied by the root of the ratio, m / (n - m) (Shao & Wu 1989, Annals of Statistics 17, on
    the delete-d jackknife). For m = n / 2 that is 1: the spread of halves is already right.
    """
    return x[random.choice(len(x), size=len(x) // 2, replace=False)]


# ---- Checks ----


def _pair(real, generated, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64 arrays `(n, d)`, or an error that says what is wrong with which."""
    real = _features(real, "real", at_least)
    generated = _features(generated, "generated", at_least)
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"{real.shape[1]} features of real and {generated.shape[1]} of generated pictures: "
            "expected equally many; use the same network for both"
        )
    return real, generated


def _features(x, name: str, at_least: int) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().double().numpy()
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(
            f"{name} features of shape {x.shape}: expected (n, d), a row for a picture; flatten "
            "what belongs to one picture"
        )
    if len(x) < at_least:
        raise ValueError(f"{len(x)} {name} pictures: expected at least {at_least}; add pictures")
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(x)} {name} pictures have features that are NaN or infinite: expected "
            "finite numbers; look at the network and its input"
        )
    if (x == x[0]).all():
        raise ValueError(
            f"all {len(x)} {name} pictures have the same features: expected different pictures; "
            "look whether the generator or the network has collapsed"
        )
    return x
