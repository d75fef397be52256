"""How good, how small and how sure: PSNR, SSIM, BD-rate, everyday codecs, intervals."""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytorch_msssim
import torch
from PIL import Image
from scipy import stats
from scipy.interpolate import PchipInterpolator
from skimage.metrics import structural_similarity

# Pillow's encoder arguments at each codec's best effort that a student's machine can wait for;
# `quality` is added. AVIF is there three times: as most programs write it, with colours at half the
# resolution; with all colours and its slowest search; and so, but tuned for the PSNR, as our models
# are. (By itself its encoder is tuned for what eyes see, and for one picture leaves its filter for
# ringing, CDEF, out. Together that costs 5 % at equal PSNR at 128x128, and 13 % at 640 pixels.)
CODECS = {
    "PNG": {"format": "PNG", "optimize": True},
    "JPEG": {"format": "JPEG", "optimize": True},
    "WebP": {"format": "WEBP", "method": 6},
    "AVIF": {"format": "AVIF", "speed": 4},
    "AVIF 4:4:4": {"format": "AVIF", "speed": 0, "subsampling": "4:4:4"},
    "AVIF tuned": {
        "format": "AVIF",
        "speed": 0,
        "subsampling": "4:4:4",
        "advanced": {"tune": "psnr", "enable-cdef": "1", "sb-size": "64"},
        "max_threads": 1,  # with more the file depends on their number
    },
    "JPEG 2000": {"format": "JPEG2000", "irreversible": True, "quality_mode": "dB"},
    "JPEG XL": {"format": "JXL", "effort": 7},  # only with Pillow's plug-in pillow-jxl-plugin
}


def psnr(a, b) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each picture: -10 log10 of its mean squared error.

    White is 1. Tensors in [0, 1] `(N, 3, H, W)` or uint8 arrays `(N, H, W, 3)`, which are divided
    by 255. Returns `(N,)`, infinity for equal pictures. Average decibels over pictures, not errors.
    Raises ValueError.
    """
    a, b = _pair(a, b)
    squared_error = ((a - b) ** 2).reshape(len(a), -1).mean(axis=1)  # (N,)
    # Equal pictures have an error of 0, whose logarithm is -inf: that is meant, not a mistake.
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squared_error)


def ssim(a, b) -> np.ndarray:
    """Structural similarity of each picture, 1 for equal ones (Wang et al. 2004), by scikit-image.

    Shapes as for `psnr`; returns `(N,)`. Raises ValueError.
    """
    a, b = _pair(a, b)
    # The window and the biased variances of the paper, which are not scikit-image's defaults.
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    values = []
    for x, y in zip(a, b, strict=True):  # (H, W, 3) each
        values.append(structural_similarity(x, y, channel_axis=-1, data_range=1.0, **window))
    return np.array(values)


def ms_ssim(a, b) -> np.ndarray:
    """Multi-scale structural similarity of each picture (Wang et al. 2003), in decibels.

    That is -10 log10(1 - MS-SSIM). Shapes as for `psnr`, at least 176 pixels high and wide; returns
    `(N,)`. Raises ValueError.
    """
    a, b = (torch.from_numpy(x).movedim(-1, 1) for x in _pair(a, b))  # (N, 3, H, W)
    # Four halvings must leave room for a window of 11 pixels: 11 * 2^4 = 176.
    if min(a.shape[2:]) < 176:
        raise ValueError(
            f"pictures of {a.shape[2]}x{a.shape[3]} pixels: expected at least 176 each way, for "
            "five scales; use larger ones"
        )
    similarity = pytorch_msssim.ms_ssim(a, b, data_range=1.0, size_average=False)  # (N,)
    # Good codecs crowd between 0.95 and 1; decibels spread them out.
    return -10 * np.log10(1 - similarity.numpy())


def _pair(a, b) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays `(N, H, W, 3)` with white = 1."""
    pair = _unit(a), _unit(b)
    shape = pair[0].shape
    equal = shape == pair[1].shape
    # One channel is welcome too: a grey picture.
    if not (equal and len(shape) == 4 and shape[-1] in (1, 3) and shape[0] > 0):
        raise ValueError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)}: expected two equal ones, tensors "
            "(N, 3, H, W) or uint8 arrays (N, H, W, 3)"
        )
    return pair


def _unit(x) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        if x.dim() != 4:
            return np.empty(tuple(x.shape))  # of a shape that `_pair` refuses
        x = x.detach().cpu().double().movedim(1, -1).numpy()  # (N, H, W, C)
    if x.dtype == np.uint8:
        return x / 255.0
    # In float64, so that the error of nearly equal pictures is not that of rounding.
    return np.asarray(x, np.float64)


# ---- How sure one can be ----


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of `right` in `n`, from 0 to 1 (Wilson 1927).

    Raises ValueError.
    """
    if not 0 <= right <= n or n < 1:
        raise ValueError(
            f"{right=}, {n=}: expected a number of right answers from 0 to n, and n of at least 1"
        )
    # Wilson's stays within 0 and 1 and has a width even at 0 or n right, unlike p +- 1.96 s.
    interval = stats.binomtest(int(right), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(a_right, b_right) -> float:
    """The p-value of "both are right equally often" for two methods on the same n items, `(n,)`.

    Only items on which the two differ tell them apart; if neither is better, each is right on half
    of these. Exact, by the binomial distribution (McNemar 1947). Raises ValueError.
    """
    a, b = _paired(a_right, b_right)
    only_a = int(((a != 0) & (b == 0)).sum())
    only_b = int(((a == 0) & (b != 0)).sum())
    if only_a + only_b == 0:
        return 1.0  # the methods never differ: nothing speaks against "equally often"
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)


def paired_bootstrap(a, b, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of a - b over the same n items, `(n,)`, and its 95 % interval: (mean, low, high).

    Items are drawn with repetition (Efron 1979), both values of an item together: what makes an
    item hard for both cancels out. Raises ValueError.
    """
    a, b = _paired(a, b)
    difference = a - b
    chosen = np.random.default_rng(seed).integers(len(a), size=(draws, len(a)))
    # One mean for each draw, (draws,); the middle 95 % of them are the interval.
    low, high = np.percentile(difference[chosen].mean(1), (2.5, 97.5))
    return float(difference.mean()), float(low), float(high)


def _paired(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(
            f"shapes {a.shape} and {b.shape}: expected two equal ones (n,), the values of both "
            "methods for the same items in the same order"
        )
    return a, b


def mean_interval(values) -> tuple[float, float, float]:
    """The mean of a few independent values and its 95 % interval: (mean, low, high).

    By Student's t, which knows that a spread over few seeds is itself uncertain: for three it is
    4.3 standard errors wide to either side, not 1.96. Raises ValueError for fewer than two.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values {values.tolist()}: expected at least two, such as of two seeds")
    mean = values.mean()
    # 0.975, since 2.5 % lie on either side; one degree of freedom went into the mean.
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(mean), float(mean - half), float(mean + half)


# ---- Codecs, and curves of quality against bytes ----


def bits_per_pixel(size: float, pixels: int) -> float:
    """Bits that a file of `size` bytes spends on each of its `pixels` pixels, in all pictures."""
    return 8 * size / pixels


def pillow(
    picture: np.ndarray, codec: str, quality: float | None = None
) -> tuple[bytes, np.ndarray]:
    """Encode a uint8 picture `(H, W, 3)` with one of `CODECS`: the file, and the picture from it.

    `quality` is 0 to 100 for JPEG, WebP, AVIF and JPEG XL, decibels for JPEG 2000, and nothing for
    PNG, which loses nothing. Raises ValueError.
    """
    if codec not in CODECS or (quality is None) != (codec == "PNG"):
        raise ValueError(
            f"codec={codec!r}, quality={quality}: expected one of {', '.join(CODECS)}, and a "
            "quality for all but PNG"
        )
    if codec == "JPEG XL" and not has_jpeg_xl():
        raise ValueError(
            "codec='JPEG XL': expected Pillow's plug-in; pip install pillow-jxl-plugin"
        )
    options = dict(CODECS[codec])  # a copy: `CODECS` stays as it is
    if codec == "JPEG 2000":
        options["quality_layers"] = [quality]
    elif quality is not None:
        options["quality"] = quality
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    # Decoded from the bytes themselves, so that the quality measured is that of this very file.
    decoded = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    return file.getvalue(), np.asarray(decoded)


def has_jpeg_xl() -> bool:
    """Whether Pillow's optional plug-in for JPEG XL is installed."""
    try:
        import pillow_jxl  # noqa: F401  (importing it makes it known to Pillow)
    except ImportError:
        return False
    return True


def sheet(
    pictures: np.ndarray, codec: str, quality: float | None = None, columns: int = 10
) -> tuple[bytes, np.ndarray]:
    """All pictures `(N, H, W, 3)` in one file, as a contact sheet, and the pictures cut out again.

    The fair rival of an archive: it pays for one header, too, and may use what is alike in
    neighbouring pictures. Room that is left in the last row is grey. Raises ValueError.
    """
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)  # rounded up
    # Mid-grey: a border to black or white would cost bytes.
    tiles = np.full((rows * columns, height, width, 3), 128, np.uint8)
    tiles[:count] = pictures
    grid = tiles.reshape(rows, columns, height, width, 3)
    # (rows, columns, H, W, 3) -> (rows, H, columns, W, 3) -> (rows * H, columns * W, 3)
    large = grid.swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    file, decoded = pillow(large, codec, quality)
    # The same way back: (rows * H, columns * W, 3) -> (rows, columns, H, W, 3) -> (N, H, W, 3)
    grid = decoded.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return file, grid.reshape(-1, height, width, 3)[:count]


class Curve(NamedTuple):
    """A codec's quality against bytes: a row for each setting, a column for each picture."""

    sizes: np.ndarray  # (settings, pictures) in bytes
    quality: np.ndarray  # (settings, pictures) in dB

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes a picture and quality of each setting, `(settings,)` both."""
        return self.sizes.mean(1), self.quality.mean(1)

    def of(self, pictures) -> "Curve":
        """The curve of some of the pictures, by their numbers; a number may come twice."""
        return Curve(self.sizes[:, pictures], self.quality[:, pictures])

    def bytes_at(self, quality: float) -> float:
        """Bytes a picture at a mean quality, between two settings by the logarithm of the bytes.

        Raises ValueError for a quality that no setting reaches, or that all exceed.
        """
        sizes, levels = self._rising(quality, self.quality.mean(1), "dB")
        # Bytes grow about exponentially with decibels: their logarithm is nearly a straight line.
        return float(np.exp(np.interp(quality, levels, np.log(sizes))))

    def quality_at(self, size: float) -> float:
        """The mean quality at a number of bytes a picture; else as `bytes_at`."""
        sizes, levels = self._rising(size, self.sizes.mean(1), "bytes")
        return float(np.interp(np.log(size), np.log(sizes), levels))

    def _rising(self, wanted, given, unit) -> tuple[np.ndarray, np.ndarray]:
        if not given.min() <= wanted <= given.max():
            raise ValueError(
                f"{wanted:,.2f} {unit}: expected from {given.min():,.2f} to {given.max():,.2f}, "
                "which the curve covers; measure more settings"
            )
        sizes, levels = self.mean()
        # `np.interp` wants rising abscissae, whatever the order in which settings were measured.
        order = np.argsort(sizes)
        return sizes[order], levels[order]


def sweep(
    code: Callable,
    pictures: np.ndarray,
    settings: Sequence,
    quality: Callable = psnr,
    threads: int = 1,
) -> Curve:
    """Encode and decode each picture `(N, H, W, 3)` at each setting.

    `code(picture, setting)` returns the file, or its size, and the picture decoded from it. With
    more `threads` it is called for several pictures at once, and must not mind.
    """
    sizes = np.empty((len(settings), len(pictures)))  # bytes
    levels = np.empty_like(sizes)  # dB, or whatever `quality` gives
    with ThreadPoolExecutor(threads) as pool:
        for i, setting in enumerate(settings):
            coded = pool.map(code, pictures, [setting] * len(pictures))
            # `map` keeps the order of the pictures, whichever thread is done first.
            for j, (file, decoded) in enumerate(coded):
                sizes[i, j] = len(file) if isinstance(file, bytes) else file
                # Metrics take batches: [None] makes one of a single picture.
                levels[i, j] = quality(pictures[j][None], decoded[None])[0]
    return Curve(sizes, levels)


def pillow_sweep(codec: str, pictures: np.ndarray, settings: Sequence) -> Curve:
    """`sweep` with one of `CODECS`, on all cores: encoders run outside Python's global lock."""

    def code(picture, setting):
        return pillow(picture, codec, setting)

    return sweep(code, pictures, settings, threads=os.cpu_count() or 1)


ALL = (-np.inf, np.inf)  # no bounds on the quality


def bd_rate(
    rate, quality, reference_rate, reference_quality, between: tuple[float, float] = ALL
) -> float:
    """Average difference in rate at equal quality, in percent of the reference: -50 is half.

    Bjontegaard 2001, VCEG-M33. Each curve is given by at least two points, rates in any unit above
    0, quality in dB rising with rate. The logarithm of the rate is interpolated monotonically
    (PCHIP) and averaged over the qualities that both curves reach, or over those of them that lie
    `between` two. Raises ValueError.
    """
    curve = _log_rate(rate, quality, "")
    reference = _log_rate(reference_rate, reference_quality, "reference ")
    # The qualities (x) that both curves cover: beyond them one of the two would be a guess.
    low = max(between[0], curve.x[0], reference.x[0])
    high = min(between[1], curve.x[-1], reference.x[-1])
    if low >= high:
        raise ValueError(
            f"the curves share no quality ({low:.2f} to {high:.2f} dB): expected overlapping ones; "
            "measure more points"
        )
    # The area between the curves over its width is a mean difference of logarithms, and so its
    # exponential the ratio of the rates: expm1(x) = exp(x) - 1.
    difference = curve.integrate(low, high) - reference.integrate(low, high)
    return float(100 * np.expm1(difference / (high - low)))


def _log_rate(rate, quality, name: str) -> PchipInterpolator:
    """The logarithm of the rate as a function of quality."""
    rate, quality = np.asarray(rate, float), np.asarray(quality, float)
    good = rate.shape == quality.shape and rate.ndim == 1 and len(rate) >= 2
    if good:
        order = np.argsort(rate)
        # Quality must rise strictly, or the rate would be no function of it.
        good = (rate > 0).all() and (np.diff(quality[order]) > 0).all()
    if not good:
        raise ValueError(
            f"{name}rate {rate.tolist()}, quality {quality.tolist()}: expected two or more points, "
            "rates above 0, quality rising with rate"
        )
    return PchipInterpolator(quality[order], np.log(rate[order]))


def bd_rate_interval(
    ours: Curve,
    theirs: Curve,
    between: tuple[float, float] = ALL,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """`bd_rate` of the mean curves of the same pictures, with a 95 % interval: (rate, low, high).

    The interval says how much it would differ with other pictures of this kind: pictures are drawn
    with repetition (bootstrap, Efron 1979), for both codecs the same. Raises ValueError.
    """
    count = ours.sizes.shape[1]
    if theirs.sizes.shape[1] != count:
        raise ValueError(
            f"{count} and {theirs.sizes.shape[1]} pictures: expected curves of the same ones"
        )

    def rate(chosen) -> float:
        return bd_rate(*ours.of(chosen).mean(), *theirs.of(chosen).mean(), between)

    # Numbers of pictures, a row for each draw; one picture may come twice, another not at all.
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    low, high = np.percentile([rate(chosen) for chosen in drawn], (2.5, 97.5))
    # The estimate itself is that of each picture once.
    return rate(np.arange(count)), float(low), float(high)
