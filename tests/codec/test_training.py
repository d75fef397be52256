import numpy as np
import pytest
import pytorch_msssim
import torch
from conftest import car, counted_steps, small_codec

from autoencoders import codec, data, training
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


def test_two_errors_count_in_each_picture():
    torch.manual_seed(0)
    originals = torch.rand(2, 3, 176, 180) * 0.5 + 0.25
    noise = torch.rand_like(originals) * torch.tensor([0.02, 0.2])[:, None, None, None]
    drawn = (originals + noise).requires_grad_()  # in [0, 1]
    error = recipes.squared_error(drawn, originals)
    value = recipes.two_errors(drawn, originals)
    # As a number it is the squared error. Its gradient is two thirds of that one's, and a third of
    # the gradient of 1 - MS-SSIM, as large as if it were as large a number.
    torch.testing.assert_close(value, error)
    with torch.autocast("cpu", torch.bfloat16):
        (in_bfloat16,) = torch.autograd.grad(recipes.two_errors(drawn, originals).sum(), drawn)
    similarity = pytorch_msssim.ms_ssim(drawn, originals, data_range=1.0, size_average=False)
    (of_error,) = torch.autograd.grad(error.sum(), drawn, retain_graph=True)
    (of_similarity,) = torch.autograd.grad(similarity.sum(), drawn)
    (gradient,) = torch.autograd.grad(value.sum(), drawn)
    scale = (error / (1 - similarity)).detach()[:, None, None, None]
    expected = (2 * of_error - scale * of_similarity) / 3
    assert (gradient - expected).norm() < 1e-3 * expected.norm()
    # Where layers compute with few digits, it does not.
    assert torch.equal(in_bfloat16, gradient)


def test_equal_pictures_have_an_error_of_0_and_a_gradient():
    drawn = torch.full((1, 3, 176, 176), 0.5).requires_grad_()
    value = recipes.two_errors(drawn, drawn.detach())
    value.sum().backward()
    assert value.item() < 1e-6 and drawn.grad.isfinite().all()


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
