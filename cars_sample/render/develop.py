"""From scene radiance to a picture, as a small camera does it: exposure, white balance, glare, tone curve, sharpening, grain."""

import struct
import zlib

import numpy as np
from blender import to_srgb
from scipy.ndimage import gaussian_filter
from shapes import generator

LUMA = np.array([0.2126, 0.7152, 0.0722])


def develop(radiance, seed):
    """Radiance (h, w, 3), linear light in any unit, to uint8 (h, w, 3)."""
    rng = generator(seed, "develop")
    h, w, _ = radiance.shape
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]

    def blur(a, sigma):
        return gaussian_filter(a, (sigma, sigma, 0), mode="nearest")

    # Centre-weighted exposure, held back where highlights would burn out.
    weight = np.exp(-1.2 * (x**2 + y**2))
    key = np.exp((np.log(radiance @ LUMA + 1e-4) * weight).sum() / weight.sum())
    light = radiance * (0.155 / key) * 2 ** rng.normal(0, 0.30)
    light = light * min(1.0, 2.4 / np.percentile(light @ LUMA, 97)) ** 0.55

    # White balance corrects half of the cast, and not quite in the right direction.
    cast = np.minimum(light, np.percentile(light, 90)).mean((0, 1))
    light = (
        light
        * (cast.mean() / cast) ** 0.55
        * [1 + rng.normal(0.012, 0.05), 1, 1 - rng.normal(0.012, 0.05)]
    )

    light = light + 0.03 * blur(np.minimum(light, 8), 6 * w / 256)
    light = light * (1 - rng.uniform(0, 0.25) * ((x**2 + y**2) / 2) ** 1.5)[..., None]

    # A film-like curve (Narkowicz 2015), saturation, then contrast around middle grey.
    v = light * rng.uniform(0.62, 0.80)
    v = np.clip(v * (2.51 * v + 0.03) / (v * (2.43 * v + 0.59) + 0.14), 0, 1)
    grey = v.mean(-1, keepdims=True)
    v = to_srgb(np.clip(grey + (v - grey) * rng.uniform(0.78, 1.12), 0, 1))
    v = v + rng.uniform(0.1, 0.5) * (v * v * (3 - 2 * v) - v)
    v = v + rng.uniform(0.2, 0.6) * (v - blur(v, 0.8))

    grain = rng.uniform(0.001, 0.008)
    noise = rng.normal(0, grain, (h, w, 1)) + rng.normal(0, grain * 0.4, (h, w, 3))
    v = v + (noise + 0.5 * blur(noise, 0.7)) * (1.1 - 0.6 * v)
    return (np.clip(v, 0, 1) * 255 + 0.5).astype(np.uint8)


def png(picture):
    """The bytes of an 8-bit RGB PNG without metadata: one and the same for one and the same picture."""
    h, w, _ = picture.shape

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    # Each row is filtered with Paeth's predictor (PNG specification, filter type 4).
    p = np.pad(picture.astype(np.int16), ((1, 0), (1, 0), (0, 0)))
    left, up, corner = p[1:, :-1], p[:-1, 1:], p[:-1, :-1]
    pa, pb, pc = np.abs(up - corner), np.abs(left - corner), np.abs(left + up - 2 * corner)
    predicted = np.where((pa <= pb) & (pa <= pc), left, np.where(pb <= pc, up, corner))
    residual = (picture.astype(np.int16) - predicted).astype(np.uint8).reshape(h, -1)
    rows = np.concatenate([np.full((h, 1), 4, np.uint8), residual], 1)
    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
