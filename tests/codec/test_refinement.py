"""Latents made to measure: cheaper files for the same decoder."""

import itertools

import numpy as np
import pytest
import torch
from conftest import car

from autoencoders import codec, data
from autoencoders.codec import files, refinement


def cost(file: bytes, picture: np.ndarray, coder, quality: int) -> float:
    """Rate + lambda * distortion of a file, in bits."""
    squared_error = ((codec.decode(file, coder).astype(float) - picture) ** 2).mean()
    weight = coder.arguments["lambdas"][quality - 1]
    return 8 * len(file) + weight * squared_error * picture[..., 0].size


@pytest.fixture(scope="module")
def shipped():
    return codec.shipped()


@pytest.mark.parametrize("quality", [2, 6])
def test_a_refined_file_costs_less_for_the_decoder_that_everybody_has(shipped, quality):
    picture = data.to_bytes(data.cars(64, data.ROOT / "cars_sample", 1)[0])[0]
    plain = codec.encode(picture, quality)
    latents = codec.refine(picture, quality, steps=40)
    refined = codec.encode(picture, quality, latents=latents)
    costs = [cost(file, picture, shipped, quality) for file in (plain, refined)]
    assert costs[1] < 0.99 * costs[0]
    assert codec.info(refined)["quality"] == quality


def test_what_costs_more_is_not_taken(coder, monkeypatch):
    picture = car(1, 24, 40)
    # Steps of ten quantisation steps ruin every latent.
    monkeypatch.setattr(refinement, "LR", 10.0)
    assert torch.equal(codec.refine(picture, 3, 2, coder), codec.refine(picture, 3, 0, coder))


def test_without_a_step_it_is_the_plain_file(coder):
    picture = car(1, 24, 40)
    latents = codec.refine(picture, 3, steps=0, model=coder)
    assert codec.encode(picture, 3, coder, latents) == codec.encode(picture, 3, coder)


def test_the_same_picture_gives_the_same_latents_and_the_model_stays(coder):
    picture = car(1, 24, 40)
    before = {name: tensor.clone() for name, tensor in coder.state_dict().items()}
    one, other = (codec.refine(picture, 3, 5, coder) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, codec.refine(picture, 3, 0, coder))
    assert coder.fixed_point
    assert all(torch.equal(coder.state_dict()[name], tensor) for name, tensor in before.items())


def test_tiles_are_refined_one_by_one_and_all_of_them(coder, monkeypatch):
    picture = car(2, 40, 72)  # 5 x 9 places
    monkeypatch.setattr(files, "TILE", 4)
    monkeypatch.setattr(files, "HALO", 2)
    trained = []
    fit = refinement.training.fit

    def counted(model, loss_fn, pixels, **options):
        trained.append(tuple(pixels.shape[2:]))
        return fit(model, loss_fn, pixels, **options)

    monkeypatch.setattr(refinement.training, "fit", counted)
    # Each search pays, so that each is taken.
    costs = itertools.count(0, -1)
    monkeypatch.setattr(refinement, "rounded_cost", lambda *_: next(costs))
    plain, refined = (codec.refine(picture, 4, steps, coder) for steps in (0, 3))
    assert trained == [(32, 32), (32, 32), (32, 8), (8, 32), (8, 32), (8, 8)]
    assert refined.shape == plain.shape == (1, sum(coder.groups), 5, 9)
    # No place is left out.
    assert (refined != plain).any(1).all()
    decoded = codec.decode(codec.encode(picture, 4, coder, refined), coder)
    assert decoded.shape == picture.shape


def test_collections_are_refined_picture_by_picture(coder):
    pictures = {"a.png": car(1, 24, 40), "b.png": car(2, 32, 16)}
    file = codec.encode_all(
        pictures, 3, coder, latents_for=lambda picture: codec.refine(picture, 3, 5, coder)
    )
    single = codec.encode(pictures["b.png"], 3, coder, codec.refine(pictures["b.png"], 3, 5, coder))
    _, second = [*codec.decode_all(file, coder)][1]
    np.testing.assert_array_equal(second, codec.decode(single, coder))


def test_callers_errors(coder):
    picture = car(1, 24, 40)
    with pytest.raises(ValueError, match="steps=-1: expected a whole number from 0 up"):
        codec.refine(picture, 3, -1, coder)
    with pytest.raises(ValueError, match="quality=9: expected a whole number from 1"):
        codec.refine(picture, 9, 1, coder)
    with pytest.raises(ValueError, match="a model in floating point"):
        codec.refine(picture, 3, 1, coder.floating_copy())
    with pytest.raises(ValueError, match="4096"):
        codec.refine(np.zeros((4104, 4096, 3), np.uint8), 3, 1, coder)
    with pytest.raises(ValueError, match="expected uint8"):
        codec.refine(picture / 255, 3, 1, coder)
    other = codec.refine(car(1, 24, 48), 3, 0, coder)
    with pytest.raises(
        ValueError, match=r"latents of shape .*: expected \(1, .*3, 5\), all finite"
    ):
        codec.encode(picture, 3, coder, other)
