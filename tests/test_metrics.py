import math

import numpy as np
import pytest
import torch

from autoencoders import data, metrics


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 8, 8)
    b = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)])
    np.testing.assert_allclose(metrics.psnr(a, b), [20, 40], rtol=1e-6)
    assert metrics.psnr(a, a).tolist() == [math.inf, math.inf]


def test_psnr_of_bytes_is_that_of_tensors(pictures):
    other = pictures[::-1].copy()
    expected = metrics.psnr(data.to_float(pictures), data.to_float(other))
    np.testing.assert_allclose(metrics.psnr(pictures, other), expected, rtol=1e-5)
    one_off = np.minimum(pictures, 254) + np.uint8(1)
    np.testing.assert_allclose(
        metrics.psnr(np.minimum(pictures, 254), one_off), 20 * math.log10(255)
    )


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise(pictures):
    np.testing.assert_allclose(metrics.ssim(pictures, pictures), 1)
    noise = np.random.default_rng(0).normal(size=pictures.shape)
    levels = [
        metrics.ssim(pictures / 255.0, pictures / 255.0 + sigma * noise).mean()
        for sigma in (0.01, 0.05, 0.2)
    ]
    assert 1 > levels[0] > levels[1] > levels[2] > 0
    np.testing.assert_allclose(
        metrics.ssim(data.to_float(pictures), data.to_float(pictures[::-1].copy())),
        metrics.ssim(pictures, pictures[::-1]),
    )


def test_ssim_sees_what_mse_does_not(pictures):
    """A constant shift and noise of equal squared error: the first leaves the structure."""
    x = pictures[:1] / 510.0 + 0.25
    noise = np.random.default_rng(0).normal(size=x.shape)
    noise *= 0.1 / np.sqrt((noise**2).mean())
    assert metrics.psnr(x, x + 0.1)[0] == pytest.approx(metrics.psnr(x, x + noise)[0])
    assert metrics.ssim(x, x + 0.1)[0] > metrics.ssim(x, x + noise)[0] + 0.3


@pytest.mark.parametrize(
    "a,b",
    [
        ((1, 3, 16, 16), (2, 3, 16, 16)),
        ((3, 16, 16), (3, 16, 16)),
        ((1, 5, 16, 16), (1, 5, 16, 16)),
        ((0, 3, 8, 8),) * 2,
    ],
)
def test_shapes_that_do_not_fit(a, b):
    for metric in (metrics.psnr, metrics.ssim):
        with pytest.raises(
            ValueError, match=r"shapes .*: expected two equal ones, tensors \(N, 3, H, W\)"
        ):
            metric(torch.zeros(a), torch.zeros(b))


def test_rates_by_hand():
    assert metrics.bits_per_pixel(2048, 128 * 128) == 1


@pytest.mark.parametrize("factor", [0.5, 0.8, 2.0])
def test_bd_rate_of_a_curve_that_is_a_constant_factor_away(factor):
    rate, quality = np.array([100, 200, 400, 900]), np.array([25, 28, 31, 35.0])
    assert metrics.bd_rate(factor * rate, quality, rate, quality) == pytest.approx(
        100 * (factor - 1)
    )
    assert metrics.bd_rate(factor * rate[::-1], quality[::-1], rate, quality) == pytest.approx(
        100 * (factor - 1)
    )


def test_bd_rate_of_straight_lines_over_their_common_range():
    """ln(rate) = q / 10 against q / 10 + (q - 20) / 20 on [25, 35] differ by (30 - 20) / 20."""
    q, p = np.linspace(20, 35, 6), np.linspace(25, 40, 6)
    assert metrics.bd_rate(np.exp(q / 10 + (q - 20) / 20), q, np.exp(p / 10), p) == pytest.approx(
        100 * math.expm1(0.5)
    )


def test_bd_rate_errors():
    good = [1, 2], [30, 33]
    for bad in (([1], [30]), ([0, 1], [30, 33]), ([1, 2], [33, 30]), ([1, 2, 3], [30, 33])):
        with pytest.raises(ValueError, match="expected two or more points, rates above 0"):
            metrics.bd_rate(*bad, *good)
    with pytest.raises(ValueError, match="share no quality .*measure more points"):
        metrics.bd_rate(*good, [1, 2], [40, 43])


@pytest.mark.parametrize(
    "codec,low,high", [("JPEG", 20, 90), ("WebP", 20, 90), ("AVIF", 20, 90), ("JPEG 2000", 25, 40)]
)
def test_lossy_codecs_give_real_files(pictures, codec, low, high):
    worse, better = (metrics.pillow(pictures[0], codec, quality) for quality in (low, high))
    assert len(worse[0]) < len(better[0]) < pictures[0].size
    assert metrics.psnr(worse[1][None], pictures[:1]) < metrics.psnr(better[1][None], pictures[:1])
    assert better[1].shape == pictures[0].shape and better[1].dtype == np.uint8


def test_png_loses_nothing(pictures):
    file, decoded = metrics.pillow(pictures[0], "PNG")
    np.testing.assert_array_equal(decoded, pictures[0])
    assert file[:4] == b"\x89PNG"


@pytest.mark.parametrize("codec,quality", [("BPG", 50), ("PNG", 50), ("JPEG", None)])
def test_codec_errors(pictures, codec, quality):
    with pytest.raises(
        ValueError, match=f"codec='{codec}', quality={quality}: expected one of PNG, JPEG"
    ):
        metrics.pillow(pictures[0], codec, quality)


def test_wilson_is_the_root_of_its_equation():
    """The ends are the shares p from which the observed one is 1.96 deviations of p away."""
    for right, n in ((350, 360), (0, 20), (20, 20), (5, 10)):
        for p in metrics.wilson(right, n):
            assert 0 <= p <= 1
            np.testing.assert_allclose(
                (right / n - p) ** 2, 1.959964**2 * p * (1 - p) / n, atol=1e-12
            )
    low, high = metrics.wilson(350, 360)
    assert low < 350 / 360 < high
    wide, narrow = metrics.wilson(35, 36), metrics.wilson(3500, 3600)
    assert wide[0] < low < narrow[0] and narrow[1] < high < wide[1]


def test_wilson_errors():
    with pytest.raises(
        ValueError, match="right=5, n=4: expected a number of right answers from 0 to n"
    ):
        metrics.wilson(5, 4)
    with pytest.raises(ValueError, match="n=0"):
        metrics.wilson(0, 0)


def test_mcnemar_counts_only_where_the_two_differ():
    """6 of 6 differences in one direction: the chance of that or its mirror image is 2 / 2^6."""
    both = [True] * 50
    a, b = [*both, *[True] * 6], [*both, *[False] * 6]
    assert metrics.mcnemar(a, b) == metrics.mcnemar(b, a) == pytest.approx(2 / 64)
    assert metrics.mcnemar(a, a) == 1
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(1,\): expected two equal ones"):
        metrics.mcnemar([1, 0], [1])


def test_paired_bootstrap_is_narrow_where_items_agree_on_the_difference():
    random = np.random.default_rng(0)
    items = random.normal(25, 3, 20)
    mean, low, high = metrics.paired_bootstrap(items + 1, items)
    assert mean == pytest.approx(1) and high - low < 1e-9
    mean, low, high = metrics.paired_bootstrap(random.normal(0, 1, 400), np.zeros(400))
    assert low < 0 < high
    # Four standard errors wide, as theory says of a mean of 400 values.
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_mean_interval_is_students():
    """For three values 4.30 standard errors to either side."""
    mean, low, high = metrics.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    with pytest.raises(ValueError, match=r"values \[1.0\]: expected at least two"):
        metrics.mean_interval([1.0])


def test_a_curve_is_read_between_its_settings():
    curve = metrics.Curve(
        np.array([[100.0, 300], [400, 1200]]), np.array([[20.0, 24], [28, 32]])
    )  # 200 bytes at 22 dB, 800 at 30
    assert curve.bytes_at(26) == pytest.approx(400)
    assert curve.quality_at(400) == pytest.approx(26)
    np.testing.assert_allclose(curve.of([1, 1]).mean(), [[300, 1200], [24, 32]])
    with pytest.raises(ValueError, match=r"31.00 dB: expected from 22.00 to 30.00"):
        curve.bytes_at(31)
    with pytest.raises(ValueError, match=r"100.00 bytes: expected from 200.00 to 800.00"):
        curve.quality_at(100)


def test_a_sweep_measures_files_that_were_decoded(pictures):
    curve = metrics.pillow_sweep("JPEG", pictures[:2], (30, 80))
    file, decoded = metrics.pillow(pictures[1], "JPEG", 80)
    assert curve.sizes.shape == (2, 2) and curve.sizes[1, 1] == len(file)
    assert curve.quality[1, 1] == metrics.psnr(pictures[1:2], decoded[None])[0]
    sizes = metrics.sweep(lambda picture, setting: (setting, picture), pictures[:2], (7,))
    assert sizes.sizes.tolist() == [[7, 7]] and np.isinf(sizes.quality).all()


def test_bd_rate_interval_holds_the_rate_and_is_of_pairs():
    random = np.random.default_rng(0)
    quality = np.linspace(25, 35, 5)[:, None] + np.zeros((5, 12))
    theirs = np.exp(quality / 8) * random.uniform(0.5, 2, 12)  # pictures differ fourfold
    ours = theirs * random.uniform(0.68, 0.72, 12)  # and yet each takes some 30 % less
    rate, low, high = metrics.bd_rate_interval(
        metrics.Curve(ours, quality), metrics.Curve(theirs, quality), draws=200
    )
    assert low < rate < high and rate == pytest.approx(-30, abs=1)
    assert high - low < 2  # unpaired pictures would give some 40
    with pytest.raises(ValueError, match="12 and 11 pictures: expected curves of the same"):
        metrics.bd_rate_interval(
            metrics.Curve(ours, quality), metrics.Curve(theirs[:, 1:], quality[:, 1:])
        )


@pytest.mark.parametrize("count", [1, 4, 5, 10])
def test_a_sheet_gives_each_picture_back_at_its_place(pictures, count):
    some = np.resize(pictures, (count, *pictures.shape[1:]))
    some = some + np.arange(count, dtype=np.uint8)[:, None, None, None]
    file, decoded = metrics.sheet(some, "PNG", columns=4)
    np.testing.assert_array_equal(decoded, some)
    assert file[:4] == b"\x89PNG"


def test_one_file_costs_less_than_many(pictures):
    singles = sum(len(metrics.pillow(p, "AVIF 4:4:4", 50)[0]) for p in pictures)
    file, decoded = metrics.sheet(pictures, "AVIF 4:4:4", 50)
    assert len(file) < singles
    assert metrics.psnr(pictures, decoded).min() > 20


def test_jpeg_xl_without_its_plug_in_is_one_clear_error(pictures, monkeypatch):
    monkeypatch.setattr(metrics, "has_jpeg_xl", lambda: False)
    with pytest.raises(ValueError, match="pip install pillow-jxl-plugin"):
        metrics.pillow(pictures[0], "JPEG XL", 50)
