import io
import zlib

import numpy as np
import pytest
import torch
from conftest import car, small_codec
from PIL import Image

from autoencoders import codec, data
from autoencoders.codec import weights
from codec.conftest import psnr


def test_weights_come_back_within_half_a_step():
    model = small_codec()
    again = codec.unpack(codec.pack(model))
    for (name, before), after in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        if name != "log_gain":
            step = 2**-10 if before.dim() < 4 else before.square().mean().sqrt() / 64
            torch.testing.assert_close(after.float(), before, rtol=0, atol=float(step) / 2 + 1e-6)
    torch.testing.assert_close(again.gains().float(), model.gains().detach(), rtol=0, atol=2**-11)


def test_packing_again_changes_nothing(coder):
    file = codec.pack(coder)
    again = codec.unpack(file)
    assert codec.pack(again) == file and again.identity == zlib.crc32(file)


def test_large_weights_get_coarser_steps_and_absurd_ones_an_error():
    model = small_codec()
    model.log_gain.data[0, 0] = 4  # a gain of 16, for which steps of 2^-10 are too many
    assert codec.unpack(codec.pack(model)).gains()[0, 0, 0] == pytest.approx(16, abs=0.01)
    model.log_gain.data[0, 0] = 20
    with pytest.raises(ValueError, match=r"weights 'gain' reach from .* train again"):
        codec.pack(model)


def test_weights_take_the_table_that_suits_them():
    assert weights._cheapest(np.zeros(1000, int)) == 0
    steps = np.rint(np.random.default_rng(0).laplace(0, 8, 20_000)).astype(int)
    assert abs(weights._cheapest(steps) - (16 + 4 * 3)) <= 1  # scale 2^3
    assert weights._cheapest(np.array([0, 5000])) == 49  # no other reaches so far


def test_unpacking_leaves_random_numbers_alone(coder):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    codec.unpack(codec.pack(coder))
    assert torch.rand(1) == expected


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "WEIGHTS_FILE", tmp_path / "codec.aew")
    weights.shipped.cache_clear()
    with pytest.raises(ValueError, match=r"no codec.aew in the package: .* install it again"):
        codec.encode(car(0))


def test_the_shipped_weights_are_small_and_every_quality_is_good():
    assert weights.WEIGHTS_FILE.stat().st_size <= 2_000_000
    cars, _ = data.cars(128, data.ROOT / "cars_sample")
    pictures = data.to_bytes(cars[data.split(100).unseen])[::4]
    sizes, decibels = [], []
    for quality in range(1, 9):
        files = [codec.encode(picture, quality) for picture in pictures]
        decoded = [codec.decode(file) for file in files]
        sizes.append(np.mean([len(file) for file in files]))
        decibels.append(np.mean([psnr(*pair) for pair in zip(decoded, pictures, strict=True)]))
    assert (np.diff(sizes) > 0).all()
    assert (np.diff(decibels) > 0).all()
    assert decibels[0] < 30 < decibels[-1]
    at_30_db = np.interp(30, decibels, sizes)
    jpegs = [metrics_of_jpeg(pictures, q) for q in range(5, 95, 5)]
    assert at_30_db < 0.6 * np.interp(30, *np.transpose(jpegs))


def metrics_of_jpeg(pictures: np.ndarray, quality: int) -> tuple[float, float]:
    files = [io.BytesIO() for _ in pictures]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file, "JPEG", quality=quality, optimize=True)
    decoded = [
        psnr(np.asarray(Image.open(file)), picture)
        for file, picture in zip(files, pictures, strict=True)
    ]
    return np.mean(decoded), np.mean([len(file.getvalue()) for file in files])


def test_shipped_files_take_what_the_model_estimates():
    picture = data.to_bytes(data.cars(128, data.ROOT / "cars_sample", 1)[0])[0]
    for quality in (1, 4, 8):
        with torch.inference_mode():
            _, bits = weights.shipped()(data.to_float(picture[None]), torch.tensor([quality - 1]))
        assert len(codec.encode(picture, quality)) < 1.03 * bits.item() / 8 + 24
