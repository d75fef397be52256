import math

import pytest
import torch
from conftest import car, small_codec

from autoencoders import data, losses, metrics, models


def test_mse_is_the_mean_over_all_values():
    x = torch.zeros(2, 3, 4, 4)
    torch.testing.assert_close(losses.mse(lambda x: x + 0.5, x)["loss"], torch.tensor(0.25))


def test_mse_takes_another_target():
    x, target = torch.zeros(5, 2), torch.ones(5, 2)
    torch.testing.assert_close(losses.mse(lambda x: x, (x, target))["loss"], torch.tensor(1.0))


def test_mse_never_broadcasts():
    with pytest.raises(
        ValueError, match=r"the model returns \(4, 1\) for a target \(4,\): expected equal"
    ):
        losses.mse(lambda x: x[:, None], torch.ones(4))


def test_cross_entropy_of_a_clueless_and_of_a_sure_model():
    label = torch.tensor([0, 1, 2, 3])
    clueless = losses.cross_entropy(lambda x: torch.zeros(len(x), 10), (torch.zeros(4, 1), label))
    torch.testing.assert_close(clueless["loss"], torch.tensor(math.log(10)))
    torch.testing.assert_close(clueless["accuracy"], torch.tensor(0.25))
    sure = losses.cross_entropy(lambda x: 100 * torch.eye(4), (torch.zeros(4, 1), label))
    torch.testing.assert_close(sure["loss"], torch.tensor(0.0))
    torch.testing.assert_close(sure["accuracy"], torch.tensor(1.0))


def pictures() -> torch.Tensor:
    return data.to_float(torch.stack([torch.from_numpy(car(i, 32, 32)) for i in range(4)]).numpy())


def test_rate_distortion_reaches_every_weight():
    model = small_codec().train()
    torch.manual_seed(0)
    losses.rate_distortion(model, pictures())["loss"].backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0
        for p in model.parameters()
    )


def test_the_error_alone_teaches_the_analysis():
    """Rounding has no gradient of its own: the one straight through it is what counts."""
    model = small_codec().train()
    losses.rate_distortion(model, pictures())["squared_error"].backward()
    assert all(
        p.grad.abs().sum() > 0
        for p in (*model.analysis_net.parameters(), *model.analysis_pca.parameters())
    )


def test_rate_distortion_repeats_in_evaluation_and_not_in_training():
    model = small_codec()
    first, second = (losses.rate_distortion(model, pictures()) for _ in range(2))
    assert first == second
    assert (
        len({losses.rate_distortion(model.train(), pictures())["loss"].item() for _ in range(3)})
        == 3
    )


def test_rate_distortion_by_hand():
    """One picture, one level: bits per pixel + lambda * squared grey levels, over the root of lambda / 0.003."""
    model, x = small_codec(lambdas=(0.008,)), pictures()[:1]
    decoded, bits = model(x, torch.tensor([0]))
    rate, error = bits.item() / 32**2, 255**2 * (decoded - x).square().mean().item()
    terms = losses.rate_distortion(model, x)
    assert terms["bits_per_pixel"].item() == pytest.approx(rate) and terms[
        "squared_error"
    ].item() == pytest.approx(error)
    assert terms["loss"].item() == pytest.approx((rate + 0.008 * error) * (0.003 / 0.008) ** 0.5)


def test_noise_costs_about_the_bits_that_rounding_does():
    model, x = small_codec(lambdas=(0.02,)), pictures()
    torch.manual_seed(0)
    noisy = (
        sum(losses.rate_distortion(model.train(), x)["bits_per_pixel"].item() for _ in range(10))
        / 10
    )
    assert noisy == pytest.approx(
        losses.rate_distortion(model.eval(), x)["bits_per_pixel"].item(), rel=0.1
    )


def test_binary_cross_entropy_of_the_closed_form():
    target = torch.tensor([[0.0, 1.0, 0.3]])
    expected = -(math.log(0.8) + math.log(0.2) + 0.3 * math.log(0.2) + 0.7 * math.log(0.8)) / 3
    torch.testing.assert_close(
        losses.binary_cross_entropy(lambda x: torch.full_like(x, 0.2), target)["loss"],
        torch.tensor(expected),
    )


def test_binary_cross_entropy_is_least_at_the_target():
    x, target = torch.zeros(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    best = losses.binary_cross_entropy(lambda x: target, (x, target))["loss"]
    assert all(
        losses.binary_cross_entropy(lambda x, d=d: (target + d).clamp(0, 1), (x, target))["loss"]
        > best
        for d in (-0.1, 0.1)
    )


def test_binary_cross_entropy_under_bfloat16():
    x = torch.rand(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.binary_cross_entropy(
            torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sigmoid()), x
        )["loss"]
    assert loss.dtype == torch.float32


def test_binary_cross_entropy_errors():
    with pytest.raises(
        ValueError, match=r"the model returns \(4, 1\) for a target \(4,\): expected equal"
    ):
        losses.binary_cross_entropy(lambda x: x[:, None], torch.ones(4))
    with pytest.raises(ValueError, match=r"a target from 0 to 255: expected values in \[0, 1\]"):
        losses.binary_cross_entropy(lambda x: x / 255, torch.tensor([0.0, 255.0]))


def test_coding_is_bits_per_pixel_and_lambda_times_squared_error():
    """And while training, the steps get finer as long as the PSNR is too low, all alike."""
    x, codec = (
        (2 * pictures() - 0.5).clamp(0, 1),
        small_codec(lambdas=(0.01,)).requires_grad_(False),
    )
    drawn, bits = codec(x, torch.zeros(4, dtype=int))
    assert drawn.max() > 1.01  # and are clipped where the PSNR is taken
    decoded = data.to_bytes(drawn)
    for wanted, direction in ((45.0, 1), (15.0, -1)):
        model = models.Latents(codec, codec.analysis(x), wanted, 1000).eval()
        before = codec.log_gain.clone()
        if direction > 0:
            terms = losses.coding(model, (torch.tensor([2, 0]), x[[2, 0]]))
            torch.testing.assert_close(terms["bits_per_pixel"], bits[[0, 2]].mean() / 32**2)
            torch.testing.assert_close(
                terms["squared_error"], (255 * (drawn - x)[[0, 2]]).square().mean()
            )
            torch.testing.assert_close(
                terms["loss"], terms["bits_per_pixel"] + 0.01 * terms["squared_error"]
            )
            torch.testing.assert_close(codec.log_gain, before, rtol=0, atol=0)
            assert terms["psnr"].item() == pytest.approx(
                metrics.psnr(data.to_bytes(x), decoded)[[2, 0]].mean(), abs=0.02
            )
        psnr = losses.coding(model.train(), (torch.arange(4), x))["psnr"]
        assert 15 < psnr < 45 and model.step == 1
        torch.testing.assert_close(codec.log_gain, before + 0.0033 * (wanted - psnr))
