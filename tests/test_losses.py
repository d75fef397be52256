import math

import pytest
import torch

from autoencoders import losses


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


def test_cross_entropy_with_weights_and_with_shifted_logits():
    logits = torch.tensor([[2.0, 0.0], [0.5, 1.0], [0.0, 3.0]])
    label = torch.tensor([0, 0, 1])
    nats = -logits.log_softmax(1)[torch.arange(3), label]
    weight = torch.tensor([1.0, 4.0])
    weighted = losses.cross_entropy(lambda x: logits, (None, label), weight)["loss"]
    torch.testing.assert_close(weighted, (nats[0] + nats[1] + 4 * nats[2]) / 6)
    # A class that is nine times as frequent is nine times as likely before anything is seen.
    shift = torch.tensor([0.9, 0.1]).log()
    shifted = losses.cross_entropy(lambda x: logits, (None, label), shift=shift)
    odds = logits.exp() * torch.tensor([0.9, 0.1])
    expected = -(odds / odds.sum(1, keepdim=True))[torch.arange(3), label].log().mean()
    torch.testing.assert_close(shifted["loss"], expected)
    # What is right is asked of the logits themselves.
    torch.testing.assert_close(shifted["accuracy"], torch.tensor(2 / 3))


def test_cross_entropy_of_mixed_labels():
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    mixed = losses.cross_entropy(lambda x: logits, (None, torch.tensor([[0.3, 0.7, 0.0]])))
    expected = -(logits.log_softmax(1) * torch.tensor([[0.3, 0.7, 0.0]])).sum()
    torch.testing.assert_close(mixed["loss"], expected)
    torch.testing.assert_close(mixed["accuracy"], torch.tensor(1.0))


def test_focal_loss_forgets_what_is_sure():
    logits = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    label = torch.tensor([0, 0])
    p = torch.tensor([0.5, 1 / (1 + math.exp(-3))])
    expected = (-((1 - p) ** 2) * p.log()).mean()
    torch.testing.assert_close(losses.focal(lambda x: logits, (None, label))["loss"], expected)
    plain = losses.cross_entropy(lambda x: logits, (None, label))["loss"]
    torch.testing.assert_close(
        losses.focal(lambda x: logits, (None, label), gamma=0)["loss"], plain
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
