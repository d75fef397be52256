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
    with pytest.raises(ValueError, match=r"the model returns \(4, 1\) for a target \(4,\): expected equal"):
        losses.mse(lambda x: x[:, None], torch.ones(4))


def test_cross_entropy_of_a_clueless_and_of_a_sure_model():
    label = torch.tensor([0, 1, 2, 3])
    clueless = losses.cross_entropy(lambda x: torch.zeros(len(x), 10), (torch.zeros(4, 1), label))
    torch.testing.assert_close(clueless["loss"], torch.tensor(math.log(10)))
    torch.testing.assert_close(clueless["accuracy"], torch.tensor(0.25))
    sure = losses.cross_entropy(lambda x: 100 * torch.eye(4), (torch.zeros(4, 1), label))
    torch.testing.assert_close(sure["loss"], torch.tensor(0.0))
    torch.testing.assert_close(sure["accuracy"], torch.tensor(1.0))
