"""A file of each kind, from a little codec."""

import numpy as np
import pytest
import torch
from conftest import car

from autoencoders import codec, data, metrics, training
from autoencoders.codec import archive as archive_module
from autoencoders.codec import container
from autoencoders.codec import training as recipes


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of two pictures `(H, W, 3)`, in dB."""
    return metrics.psnr(a[None], b[None])[0]


def collection(coder, quality=5, **pictures) -> bytes:
    pictures = pictures or {"a.jpg": car(1), "b.png": car(2, 24, 40)}
    return codec.encode_all(pictures, quality, coder)


TINY = {"width": 4, "features": 2, "post": 4, "blocks": 1}


def overfitted(
    originals: np.ndarray, epochs: int = 20, psnr: float = 28.0, **options
) -> recipes.Overfitted:
    """A small decoder and its coefficients, trained for a moment."""
    x = data.to_float(originals)
    training.seed_everything(0)
    decoder = codec.ArchiveModel(**TINY)
    model = recipes.Overfitted(decoder, x, psnr=psnr, precision=10.0, epochs=epochs)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    optimizer.register_step_post_hook(model.after_step)
    train = (torch.arange(len(x)), x)
    options = {"precision": "float32", "optimizer": optimizer} | options
    with archive_module.one_thread():
        training.fit(model, recipes.overfitting, train, epochs=epochs, batch_size=2, **options)
    return model


@pytest.fixture(scope="session")
def archive() -> bytes:
    """Two pictures with the decoder of an archive."""
    pictures = {"a.png": car(1, 32, 32), "b.png": car(2, 32, 32)}
    model = overfitted(np.stack([*pictures.values()]))
    coefficients = model.as_groups(model.values.round())
    return codec.encode_archive(pictures, model.decoder, coefficients, 10.0)


@pytest.fixture(scope="session")
def file_of(coder, archive) -> dict[str, bytes]:
    """One file of each kind, by the kind's name."""
    return {
        "picture": codec.encode(car(0, 24, 24), 3, coder),
        "collection": collection(coder),
        "archive": archive,
        "weights": codec.pack(coder),
    }


def read(file: bytes, coder) -> object:
    """What any file holds, by the function that reads its kind."""
    if container.start(file).kind == container.WEIGHTS:
        return codec.unpack(file)
    return list(codec.decode_all(file, coder))
