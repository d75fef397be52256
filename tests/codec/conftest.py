"""A file of each kind, from a little codec."""

import numpy as np
import pytest
from conftest import car, small_codec

from autoencoders import codec, metrics
from autoencoders.codec import container


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of two pictures `(H, W, 3)`, in dB."""
    return metrics.psnr(a[None], b[None])[0]


def collection(coder, quality=5, **pictures) -> bytes:
    pictures = pictures or {"a.jpg": car(1), "b.png": car(2, 24, 40)}
    return codec.encode_all(pictures, quality, coder)


@pytest.fixture(scope="session")
def archive() -> bytes:
    """Two pictures with the decoder of an even smaller codec."""
    pictures = {"a.png": car(1, 32, 32), "b.png": car(2, 32, 32)}
    model = small_codec(groups=(2, 3), width=4, post=4, context=4, lambdas=(0.002,))
    return codec.encode_archive(pictures, model, 32.0)


@pytest.fixture(scope="session")
def file_of(coder, archive) -> dict[str, bytes]:
    """One file of each kind, by the kind's name."""
    return {
        "picture": codec.encode(car(0, 24, 24), 3, coder),
        "collection": collection(coder),
        "archive": archive,
        "weights": container.take_part(archive[7:])[0],
    }


def read(file: bytes, coder) -> object:
    """What any file holds, by the function that reads its kind."""
    if container.start(file).kind == container.WEIGHTS:
        return codec.unpack(file)
    return list(codec.decode_all(file, coder))
