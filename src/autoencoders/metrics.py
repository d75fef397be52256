"""How good and how small: PSNR, SSIM, bits per pixel, BD-rate, and the everyday codecs to compare with."""

import io

import numpy as np
import pytorch_msssim
import torch
from PIL import Image
from scipy.interpolate import PchipInterpolator
from skimage.metrics import structural_similarity

# Pillow's encoder arguments at each codec's best effort that a student's machine can wait for; `quality` is added.
CODECS = {
    "PNG": {"format": "PNG", "optimize": True},
    "JPEG": {"format": "JPEG", "optimize": True},
    "WebP": {"format": "WEBP", "method": 6},
    "AVIF": {"format": "AVIF", "speed": 4},
    "JPEG 2000": {"format": "JPEG2000", "irreversible": True, "quality_mode": "dB"},
}


def psnr(a, b) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each picture: -10 log10 of its mean squared error, on a scale where white is 1.

    Tensors in [0, 1] `(N, 3, H, W)` or uint8 arrays `(N, H, W, 3)`, which are divided by 255; `(N,)` comes back, and
    infinity for equal pictures. Average decibels over pictures, not errors. Raises ValueError.
    """
    a, b = _pair(a, b)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(((a - b) ** 2).reshape(len(a), -1).mean(axis=1))


def ssim(a, b) -> np.ndarray:
    """Structural similarity of each picture, 1 for equal ones: scikit-image's, Gaussian window as in Wang et al. 2004.

    Shapes as for `psnr`; `(N,)` comes back. Raises ValueError.
    """
    a, b = _pair(a, b)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return np.array(
        [
            structural_similarity(x, y, channel_axis=-1, data_range=1.0, **window)
            for x, y in zip(a, b, strict=True)
        ]
    )


def ms_ssim(a, b) -> np.ndarray:
    """Multi-scale structural similarity of each picture (Wang et al. 2003), in decibels: -10 log10(1 - MS-SSIM).

    Shapes as for `psnr`, at least 176 pixels high and wide; `(N,)` comes back. Raises ValueError.
    """
    a, b = (torch.from_numpy(x).movedim(-1, 1) for x in _pair(a, b))
    if min(a.shape[2:]) < 176:
        raise ValueError(
            f"pictures of {a.shape[2]}x{a.shape[3]} pixels: expected at least 176 each way, for five scales; use larger ones"
        )
    return -10 * np.log10(
        1 - pytorch_msssim.ms_ssim(a, b, data_range=1.0, size_average=False).numpy()
    )


def _pair(a, b) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays `(N, H, W, 3)` with white = 1."""
    pair = []
    for x in (a, b):
        if isinstance(x, torch.Tensor):
            x = (
                x.detach().cpu().double().movedim(-3, -1).numpy()
                if x.dim() == 4
                else np.empty(tuple(x.shape))
            )
        pair.append(x / 255.0 if x.dtype == np.uint8 else np.asarray(x, np.float64))
    if (
        pair[0].shape != pair[1].shape
        or pair[0].ndim != 4
        or pair[0].shape[-1] not in (1, 3)
        or not len(pair[0])
    ):
        shapes = f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(
            f"{shapes}: expected two equal ones, tensors (N, 3, H, W) or uint8 arrays (N, H, W, 3)"
        )
    return pair[0], pair[1]


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of `right` in `n`, from 0 to 1 (Wilson 1927). Raises ValueError."""
    if not 0 <= right <= n or n < 1:
        raise ValueError(
            f"{right=}, {n=}: expected a number of right answers from 0 to n, and n of at least 1"
        )
    share, z = right / n, 1.959964
    middle, half = share + z * z / (2 * n), z * ((share * (1 - share) + z * z / (4 * n)) / n) ** 0.5
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def bits_per_pixel(size: int, pixels: int) -> float:
    """Bits that a file of `size` bytes spends on each of its `pixels` pixels, in all pictures."""
    return 8 * size / pixels


def bd_rate(
    rate,
    quality,
    reference_rate,
    reference_quality,
    between: tuple[float, float] = (-np.inf, np.inf),
) -> float:
    """Average difference in rate at equal quality, in percent of the reference (Bjontegaard 2001, VCEG-M33): -50 is half.

    Each curve is given by at least two points, rates in any unit above 0, quality in dB rising with rate. The logarithm of
    the rate is interpolated monotonically (PCHIP) and averaged over the qualities that both curves reach, or over those of them
    that lie `between` two. Raises ValueError.
    """
    curves = []
    for name, r, q in (("", rate, quality), ("reference ", reference_rate, reference_quality)):
        r, q = np.asarray(r, float), np.asarray(q, float)
        if (
            r.shape != q.shape
            or r.ndim != 1
            or len(r) < 2
            or (r <= 0).any()
            or (np.diff(q[np.argsort(r)]) <= 0).any()
        ):
            points = f"{name}rate {r.tolist()}, quality {q.tolist()}"
            raise ValueError(
                f"{points}: expected two or more points, rates above 0, quality rising with rate"
            )
        order = np.argsort(r)
        curves.append(PchipInterpolator(q[order], np.log(r[order])))
    low, high = (
        max(between[0], *(c.x[0] for c in curves)),
        min(between[1], *(c.x[-1] for c in curves)),
    )
    if low >= high:
        raise ValueError(
            f"the curves share no quality ({low:.2f} to {high:.2f} dB): expected overlapping ones; measure more points"
        )
    ours, theirs = (curve.integrate(low, high) / (high - low) for curve in curves)
    return float(100 * np.expm1(ours - theirs))


def pillow(
    picture: np.ndarray, codec: str, quality: float | None = None
) -> tuple[bytes, np.ndarray]:
    """Encode a uint8 picture `(H, W, 3)` with one of `CODECS`: the file's bytes and the picture decoded from them.

    `quality` is 0 to 100 for JPEG, WebP and AVIF, decibels for JPEG 2000, and nothing for PNG, which loses nothing.
    Raises ValueError.
    """
    if codec not in CODECS or (quality is None) != (codec == "PNG"):
        raise ValueError(
            f"codec={codec!r}, quality={quality}: expected one of {', '.join(CODECS)}, and a quality for all but PNG"
        )
    options = (
        {}
        if quality is None
        else {"quality_layers": [quality]}
        if codec == "JPEG 2000"
        else {"quality": quality}
    )
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **CODECS[codec], **options)
    return file.getvalue(), np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
