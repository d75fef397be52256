import math

import numpy as np
import pytest
import torch
from conftest import car, counted_steps, small_codec

from autoencoders import codec, data, metrics, training
from autoencoders.codec import training as recipes


def weights(model: torch.nn.Module) -> bytes:
    return b"".join(w.numpy().tobytes() for w in model.state_dict().values())


def pictures() -> torch.Tensor:
    return data.to_float(torch.stack([torch.from_numpy(car(i, 32, 32)) for i in range(4)]).numpy())


def test_rate_distortion_reaches_every_weight():
    model = small_codec().train()
    torch.manual_seed(0)
    recipes.rate_distortion(model, pictures())["loss"].backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0
        for p in model.parameters()
    )


def test_the_error_alone_teaches_the_analysis():
    """Rounding has no gradient of its own: the one straight through it is what counts."""
    model = small_codec().train()
    recipes.rate_distortion(model, pictures())["squared_error"].backward()
    assert all(
        p.grad.abs().sum() > 0
        for p in (*model.analysis_net.parameters(), *model.analysis_pca.parameters())
    )


def test_rate_distortion_repeats_in_evaluation_and_not_in_training():
    model = small_codec()
    first, second = (recipes.rate_distortion(model, pictures()) for _ in range(2))
    assert first == second
    assert (
        len({recipes.rate_distortion(model.train(), pictures())["loss"].item() for _ in range(3)})
        == 3
    )


def test_rate_distortion_by_hand():
    """One picture, one level: rate + lambda * distortion, over the root of lambda / 0.003."""
    model, x = small_codec(lambdas=(0.008,)), pictures()[:1]
    decoded, bits = model(x, torch.tensor([0]))
    rate, error = bits.item() / 32**2, 255**2 * (decoded - x).square().mean().item()
    terms = recipes.rate_distortion(model, x)
    assert terms["bits_per_pixel"].item() == pytest.approx(rate)
    assert terms["squared_error"].item() == pytest.approx(error)
    assert terms["loss"].item() == pytest.approx((rate + 0.008 * error) * (0.003 / 0.008) ** 0.5)


def test_noise_costs_about_the_bits_that_rounding_does():
    model, x = small_codec(lambdas=(0.02,)), pictures()
    torch.manual_seed(0)
    noisy = (
        sum(recipes.rate_distortion(model.train(), x)["bits_per_pixel"].item() for _ in range(10))
        / 10
    )
    assert noisy == pytest.approx(
        recipes.rate_distortion(model.eval(), x)["bits_per_pixel"].item(), rel=0.1
    )


def latents_of_pictures(psnr: float) -> tuple[recipes.Latents, torch.Tensor]:
    """Latents to be trained, and their pictures; some of what is reconstructed is out of [0, 1]."""
    x = (2 * pictures() - 0.5).clamp(0, 1)
    model = small_codec(lambdas=(0.01,)).requires_grad_(False)
    return recipes.Latents(model, model.analysis(x), psnr, 1000), x


def test_coding_is_bits_per_pixel_and_lambda_times_squared_error():
    model, x = latents_of_pictures(45.0)
    drawn, bits = model.codec(x, torch.zeros(4, dtype=int))
    assert drawn.max() > 1.01  # and is clipped where the PSNR is taken
    terms = recipes.coding(model.eval(), (torch.tensor([2, 0]), x[[2, 0]]))
    error = (255 * (drawn - x)[[0, 2]]).square().mean()
    torch.testing.assert_close(terms["bits_per_pixel"], bits[[0, 2]].mean() / 32**2)
    torch.testing.assert_close(terms["squared_error"], error)
    torch.testing.assert_close(
        terms["loss"], terms["bits_per_pixel"] + 0.01 * terms["squared_error"]
    )
    psnr = metrics.psnr(data.to_bytes(x), data.to_bytes(drawn))[[2, 0]].mean()
    assert terms["psnr"].item() == pytest.approx(psnr, abs=0.02)


@pytest.mark.parametrize("wanted", [45.0, 15.0])
def test_steps_get_finer_while_the_psnr_is_too_low(wanted):
    """By the optimiser's hook, all alike; the loss itself changes nothing in the model."""
    model, x = latents_of_pictures(wanted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    terms = recipes.coding(model.train(), (torch.arange(4), x))
    terms["loss"].backward()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert 15 < terms["psnr"] < 45
    model.after_step()
    change = 0.0033 * (wanted - terms["psnr"])
    torch.testing.assert_close(model.codec.log_gain, before["codec.log_gain"] + change)
    # Lambda is four times as large for steps half as wide.
    terms = recipes.coding(model.eval(), (torch.arange(4), x))
    expected = terms["bits_per_pixel"] + 0.01 * 4**change * terms["squared_error"]
    torch.testing.assert_close(terms["loss"], expected)


def test_an_infinite_psnr_makes_the_steps_as_coarse_as_they_may_be():
    model, x = latents_of_pictures(28.0)
    drawn, _ = model.codec(x, torch.zeros(4, dtype=int))
    terms = recipes.coding(model.eval(), (torch.arange(4), drawn.detach().clamp(0, 1)))
    assert terms["psnr"] == torch.inf and terms["loss"].isfinite()
    terms["loss"].backward()
    model.after_step()
    assert model.finer.item() == pytest.approx(-0.5)


def test_steps_stay_in_their_bounds():
    for wanted, bound in ((99.0, 0.25), (0.1, -0.5)):
        model, x = latents_of_pictures(wanted)
        model.steps = 10
        for _ in range(2):
            recipes.coding(model.train(), (torch.arange(4), x))["loss"].backward()
            model.after_step()
        assert model.finer.item() == pytest.approx(bound)


def cars(n: int = 4, size: int = 32) -> torch.Tensor:
    return data.to_float(np.stack([car(i, size, size) for i in range(n)]))


def test_fit_codec_learns_and_repeats():
    def trained():
        model = small_codec()
        before = training.evaluate(model, recipes.rate_distortion, cars())["loss"]
        history = codec.fit_codec(
            model, cars(), valid=cars(), epochs=40, batch_size=4, lr=4e-3, validate_every=10
        )
        return hash(weights(model)), before, history

    (first, before, history), (again, _, _) = trained(), trained()
    assert first == again and history["valid_loss"][-1] < 0.9 * before
    assert set(history) >= {"valid_bits_per_pixel", "valid_squared_error"}


def test_fit_codec_is_slow_where_pca_is_near():
    rates = []
    model = small_codec()
    step = torch.optim.Adam.step

    def spy(self, *arguments, **options):
        rates.append([(group["lr"], len(group["params"])) for group in self.param_groups])
        return step(self, *arguments, **options)

    torch.optim.Adam.step = spy
    try:
        codec.fit_codec(model, cars(), lr=2e-3, epochs=1, schedule=training.constant)
    finally:
        torch.optim.Adam.step = step
    assert rates == [[(1e-4, 4), (2e-3, len(list(model.parameters())) - 4)]]


def test_fit_codec_interrupted_and_resumed_is_the_same(tmp_path, monkeypatch):
    def trained(**options):
        model = small_codec()
        codec.fit_codec(
            model,
            cars(4, 48),
            epochs=3,
            batch_size=2,
            prepare_batch=data.augment(32),
            save_seconds=-1,
            **options,
        )
        return weights(model)

    whole = trained()
    with counted_steps(monkeypatch, torch.optim.Adam, 4), pytest.raises(KeyboardInterrupt):
        trained(checkpoint=tmp_path / "c.pt")
    torch.rand(3)
    assert trained(checkpoint=tmp_path / "c.pt") == whole


@pytest.mark.parametrize("taught", [True, False])
def test_a_student_draws_what_it_is_shown(taught):
    """One that may become its teacher ends near its target; only its decoder has changed."""
    training.seed_everything(0)
    pictures = torch.rand(4, 3, 16, 16)
    teacher, student = (
        codec.LearnedCodec((2, 3), 4, 4, 1, 4),
        codec.LearnedCodec((2, 3), 4, 4, 1, 2),
    )
    teacher.start_from_pca(pictures)
    torch.nn.init.normal_(teacher.post[-2].weight, std=0.02)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    history = codec.fit_student(
        student, teacher, pictures, 5, taught, epochs=30, lr=3e-3, batch_size=4
    )
    level = torch.full((4,), 4)  # quality 5
    with torch.no_grad():
        latents = teacher.decoded(pictures, level)
        drawn = student.synthesis(latents, level)
        target = teacher.synthesis(latents, level) if taught else pictures
    assert (drawn - target).square().mean() < history["train_loss"][0]
    changed = {
        name.split(".")[0]
        for name, value in student.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"synthesis_pca", "synthesis_net", "post"}


def test_a_student_learns_at_the_level_of_its_quality(monkeypatch):
    """`quality` counts from 1, as in files, and the network's level from 0."""
    given = []
    monkeypatch.setattr(training, "fit", lambda *arguments, **options: given.append(arguments))
    codec.fit_student(small_codec(), small_codec(), pictures(), quality=5)
    _, _, (_, level, _), _ = given[0]
    assert level.tolist() == [4, 4, 4, 4]
    with pytest.raises(ValueError, match="quality=9: expected a whole number from 1"):
        codec.fit_student(small_codec(), small_codec(), pictures(), quality=9)


def test_latents_cost_less_once_they_are_trained():
    """Bits and errors in files; the same seed gives the same, and only the steps change."""
    originals = data.to_bytes(data.cars(64, data.ROOT / "cars_sample", 6)[0])
    x, weight = data.to_float(originals), 0.002
    training.seed_everything(0)
    model = codec.LearnedCodec((3, 9, 20), 8, 8, 0, 8, lambdas=(weight,)).start_from_pca(x)
    with torch.no_grad():
        start = model.analysis(x)
    receiver = codec.unpack(codec.pack(model, 16.0, decoder_only=True))
    before = weights(receiver)

    def archive(latents, log_gain):
        model.log_gain.data = log_gain
        named = dict(zip("abcdef", originals, strict=True))
        file = codec.encode_archive(named, model, 16.0, latents=latents)
        decoded = np.stack([picture for _, picture in codec.decode_all(file)])
        rate = 8 * codec.info(file)["bytes"]["latents"] / originals[..., 0].size
        squared_error = ((originals - decoded.astype(float)) ** 2).mean()
        return rate + weight * squared_error, metrics.psnr(originals, decoded).mean()

    cost, psnr = archive(start, model.log_gain.data.clone())
    a, b = (codec.fit_latents(receiver, start, x, psnr, epochs=2, batch_size=3) for _ in range(2))
    assert all(map(torch.equal, a, b)) and weights(receiver) == before and receiver.fixed_point
    low, high = (
        codec.fit_latents(receiver, start, x, psnr + more, epochs=40, batch_size=6)
        for more in (-2, 1)
    )
    changed = low[1] - receiver.fixed_gains[2]
    assert changed.max() < 0 and changed.max() - changed.min() < 1e-6
    assert archive(*high)[1] > archive(*low)[1] + 0.5
    assert archive(*low)[0] < 0.97 * cost


def test_latents_want_a_codec_of_one_level_and_their_pictures(coder):
    one = codec.unpack(codec.pack(small_codec(lambdas=(0.002,))))
    latents, x = torch.zeros(2, 16, 4, 4), torch.zeros(2, 3, 32, 32)
    for model, what, pictures in (
        (coder, latents, x),
        (small_codec(lambdas=(0.002,)), latents, x),
        (one, latents[:1], x),
        (one, latents, x[..., 8:]),
    ):
        message = r"a codec of .* point, [18] levels, 16 channels, latents .*: expected one in"
        with pytest.raises(ValueError, match=message):
            codec.fit_latents(model, what, pictures, 28.0, epochs=1)
    with pytest.raises(ValueError, match="psnr=nan: expected decibels"):
        codec.fit_latents(one, latents, x, math.nan, epochs=1)


def test_latents_of_another_decoder_or_psnr_are_another_run(tmp_path):
    a, b = (
        codec.unpack(codec.pack(small_codec(lambdas=(0.002,)), precision)) for precision in (8, 32)
    )
    latents, pictures = torch.zeros(2, 16, 4, 4), torch.rand(2, 3, 32, 32)
    codec.fit_latents(a, latents, pictures, 28.0, epochs=1, checkpoint=tmp_path / "c")
    for model, psnr in ((a, 27.0), (b, 28.0)):
        with pytest.raises(ValueError, match=r"is of another run .*model\."):
            codec.fit_latents(model, latents, pictures, psnr, epochs=1, checkpoint=tmp_path / "c")
