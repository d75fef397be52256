"""The scores of generated pictures: closed forms, bounds, and what other programs give."""

import numpy as np
import pytest
import torch

from autoencoders import fidelity


def normal(n=400, d=6, seed=0, shift=0.0, scale=1.0):
    return shift + scale * np.random.default_rng(seed).standard_normal((n, d))


def whitened(n, d, seed):
    """Features whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = normal(n, d, seed)
    x -= x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    return x @ vectors / np.sqrt(values)


def test_the_frechet_distance_of_two_known_normal_distributions():
    mean = np.array([1.0, -2.0, 0.5])
    deviations = np.array([0.5, 2.0, 1.0])
    a, b = whitened(50, 3, 0), whitened(80, 3, 1) * deviations + mean
    # For covariances with common axes it is |m1 - m2|^2 + |s1 - s2|^2.
    expected = (mean**2).sum() + ((deviations - 1) ** 2).sum()
    assert fidelity.frechet(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_frechet_distance_of_rotated_axes():
    turn = np.linalg.qr(normal(3, 3, seed=5))[0]
    a = whitened(60, 3, 0) * [3.0, 1.0, 0.5]
    b = whitened(60, 3, 1) * [3.0, 1.0, 0.5] @ turn
    first, second = np.cov(a.T), np.cov(b.T)
    eigenvalues = np.linalg.eigvals(first @ second).real
    expected = np.trace(first + second) - 2 * np.sqrt(eigenvalues).sum()
    assert fidelity.frechet(a, b) == pytest.approx(expected, rel=1e-9)


def test_equal_sets_in_any_order():
    x = normal()
    y = np.random.default_rng(1).permutation(x)
    assert fidelity.frechet(x, y) < 1e-9
    assert fidelity.kid(x, y) == 0
    assert fidelity.prdc(x, y)[:2] == (1, 1)
    assert fidelity.prdc(x, y).coverage == 1


def test_scores_grow_with_a_shift():
    real = normal()
    sets = [normal(seed=1, shift=shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    for score in (fidelity.frechet, fidelity.kid):
        scores = [score(real, generated) for generated in sets]
        assert scores == sorted(scores)
    coverage = [fidelity.prdc(real, generated).coverage for generated in sets]
    assert coverage == sorted(coverage, reverse=True)


def test_kid_is_unbiased():
    scores = [fidelity.kid(normal(40, 8, 2 * i), normal(40, 8, 2 * i + 1)) for i in range(200)]
    assert abs(np.mean(scores)) < 3 * np.std(scores) / np.sqrt(200)
    assert min(scores) < 0 < max(scores)


def test_a_missing_half_lowers_recall_and_coverage_but_not_precision():
    real = np.concatenate([normal(200, seed=1), normal(200, seed=2, shift=10)])
    whole = fidelity.prdc(
        real, np.concatenate([normal(200, seed=3), normal(200, seed=4, shift=10)])
    )
    half = fidelity.prdc(real, normal(400, seed=3))
    assert half.precision > whole.precision - 0.05
    assert half.recall < 0.6 < whole.recall
    assert half.coverage < 0.6 < whole.coverage


def test_few_pictures_and_many_features_give_real_numbers():
    few = normal(20, 100), normal(20, 100, seed=1)
    assert np.isfinite(fidelity.kid(*few))
    flat = normal(40, 2) @ normal(2, 30)  # a covariance of rank 2
    assert 0 <= fidelity.frechet(flat, flat + 1e-3 * normal(40, 30, seed=2)) < 1


def test_tensors_and_arrays_give_the_same():
    a, b = normal().astype(np.float32), normal(seed=1).astype(np.float32)
    tensors = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)
    for score in (fidelity.frechet, fidelity.kid, fidelity.prdc):
        assert score(*tensors) == score(a, b)


# What torchmetrics 1.9.0 (`_compute_fid`, `poly_mmd`) and prdc 0.2 give for
# normal(300, 5), normal(300, 5, seed=1, shift=0.2, scale=1.3).
OTHERS = {
    "frechet": 0.7761596075482391,
    "kid": 0.4420246266754564,
    "prdc": (0.81, 1.0, 0.6233333333333334, 0.8766666666666667),
}


def test_other_programs_give_the_same():
    a, b = normal(300, 5), normal(300, 5, seed=1, shift=0.2, scale=1.3)
    assert fidelity.frechet(a, b) == pytest.approx(OTHERS["frechet"], rel=1e-6)
    assert fidelity.kid(a, b) == pytest.approx(OTHERS["kid"], rel=1e-6)
    assert fidelity.prdc(a, b) == pytest.approx(OTHERS["prdc"], rel=1e-6)


@pytest.mark.parametrize("score", [fidelity.kid, lambda a, b: fidelity.prdc(a, b).density])
def test_intervals_hold_what_they_promise(score):
    sets = [(normal(120, 4, 2 * i), normal(120, 4, 2 * i + 1, 0.3)) for i in range(60)]
    true = np.mean([score(*pair) for pair in sets])
    inside = 0
    for pair in sets:
        low, high = fidelity.bootstrap(score, *pair, draws=40)
        inside += low < true < high
    assert inside > 0.85 * 60  # 95 % are promised


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fidelity.frechet(normal(6, 6), normal(9, 6)), "6 real pictures with 6 features"),
        (lambda: fidelity.frechet(normal(9, 6), normal(5, 6)), "5 generated pictures with 6"),
        (lambda: fidelity.kid(normal(9, 6), normal(9, 5)), "6 features of real and 5 of generated"),
        (lambda: fidelity.kid(normal(9, 6)[0], normal(9, 6)), r"real features of shape \(6,\)"),
        (lambda: fidelity.kid(normal(9, 6), np.ones((9, 6))), "all 9 generated pictures have the"),
        (lambda: fidelity.frechet(np.ones((9, 6)), normal(9, 6)), "all 9 real pictures have the"),
        (lambda: fidelity.prdc(normal(9, 6), np.ones((9, 6))), "all 9 generated pictures have"),
        (lambda: fidelity.kid(normal() * np.nan, normal()), "400 of 400 real pictures"),
        (lambda: fidelity.prdc(normal(5), normal()), "5 real pictures: expected at least 6"),
        (lambda: fidelity.prdc(normal(), normal(), k=0), "k=0: expected"),
        (lambda: fidelity.bootstrap(fidelity.kid, normal(), normal(), draws=1), "draws=1"),
        (
            lambda: fidelity.bootstrap(fidelity.frechet, normal(10), normal(10)),
            "score of half of them, which says: 5 real pictures with 6",
        ),
    ],
)
def test_bad_input_is_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()
