"""The search for hyperparameters: drawn by number, judged alike, resumed, unseen pictures last."""

import json
import math

import pytest
import torch

from autoencoders import generative, labelled, losses, models, search


def tiny(name, size):
    dice = torch.Generator().manual_seed(0)
    pictures = torch.rand(60, 1, 32, 32, generator=dice)
    numbers = torch.arange(60).split(20)
    return labelled.Labelled(pictures, torch.arange(60) % 3, *numbers, ["a", "b", "c"])


@pytest.fixture
def searched(tmp_path, monkeypatch):
    monkeypatch.setattr(labelled, "read", tiny)
    monkeypatch.setattr(search, "TRIALS", 3)
    out = tmp_path / "search.json"
    search.search(out, "tiny", epochs=1, longer=2)
    return out


def test_trials_are_the_same_for_a_number_and_lie_in_their_ranges():
    draws = [search.draw(trial) for trial in range(200)]
    assert draws[7] == search.draw(7) != search.draw(8)
    for name, values in search.CHOICES.items():
        assert {drawn[name] for drawn in draws} == set(values)
    for name, (low, high) in search.RANGES.items():
        values = [drawn[name] for drawn in draws]
        assert low <= min(values) < low * 1.5 and high / 1.5 < max(values) <= high
        middle = math.sqrt(low * high)
        assert 60 < sum(value < middle for value in values) < 140


def test_every_trial_is_kept_and_unseen_pictures_are_only_for_the_best(searched):
    runs = json.loads(searched.read_text())
    assert [run["seed"] for run in runs] == [0, 0, 0, 1, 2, 3]
    assert ["unseen" in run for run in runs] == [False] * 3 + [True] * 3
    best = min(runs[:3], key=lambda run: run["validation"])
    for run in runs[3:]:
        assert all(run[name] == best[name] for name in ("latent", "beta", "width", "lr"))


def test_an_interrupted_search_ends_the_same(searched, tmp_path):
    runs = json.loads(searched.read_text())
    for kept in (2, 4):
        part = tmp_path / f"part{kept}.json"
        part.write_text(json.dumps(runs[:kept]))
        search.search(part, "tiny", epochs=1, longer=2)
        assert part.read_text() == searched.read_text()


def test_the_bound_is_the_elbo_with_beta_one():
    torch.manual_seed(0)
    model = generative.ConditionalVAE(3, 1, 32, latent=4, width=2).eval()
    part = search.parts(tiny("", 32))["unseen"]
    terms = losses.elbo(model.train(), part, sigma=search.SIGMA)
    # Both draw their latents, but not the same ones.
    assert search.bound(model.eval(), part) == pytest.approx(terms["loss"].item(), rel=0.02)


def test_the_chosen_network_is_written_as_small_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(labelled, "read", tiny)
    search.train_classes(tmp_path / "model.pt", epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    model = models.load(tmp_path / "model.pt", generative.ConditionalVAE)
    assert model.arguments["latent"] in search.CHOICES["latent"]
    assert model.arguments["conditions"] == 3
