"""The long trainings behind the notebooks, made short: they start, resume and end as they say."""

import json

import pytest
import torch

from autoencoders import __main__ as command_line
from autoencoders import data, metrics, models, recipes, svd


@pytest.fixture
def cars():
    return data.cars(64, limit=20)[0]


@pytest.fixture
def short(monkeypatch):
    """A sweep of two trainings of two epochs each, which are counted."""
    condition = "convolutional, crops"
    monkeypatch.setitem(
        recipes.CONDITIONS, condition, recipes.CONDITIONS[condition] | {"epochs": 2}
    )
    monkeypatch.setattr(recipes, "SWEEP", {condition: (64, 256)})
    monkeypatch.setattr(recipes, "SEEDS", (0,))
    monkeypatch.setattr(recipes.training, "fit", counted(recipes.training.fit, trained := []))
    return trained


def counted(fit, calls):
    def counting(model, *arguments, **options):
        calls.append(options["epochs"])
        return fit(model, *arguments, **options | {"validate_every": 1})

    return counting


def test_a_network_begun_at_pca_answers_as_pca_does(cars):
    pca = svd.BlockPCA(cars, side=64)
    model = models.DenseAutoencoder(64, latent=8, hidden=16)
    recipes.begin_at_pca(model, pca)
    with torch.no_grad():
        answer = model(cars)
    # Nearly: the picture that is farthest from the mean reaches GELU's bend.
    by_pca = pca.decode(pca.encode(cars, 8), 64, 64).clamp(0, 1)
    assert metrics.psnr(by_pca, answer.clamp(0, 1)).min() > 40


def test_a_network_begun_at_the_mean_is_near_it(cars):
    torch.manual_seed(0)
    model = recipes.initialise(models.DenseAutoencoder(64, latent=8, hidden=16))
    recipes.begin_at_mean(model, cars)
    with torch.no_grad():
        answer = model(cars)
    assert metrics.psnr(cars.mean(0).expand_as(answer), answer).min() > 20


def test_shifted_pictures_keep_their_size_and_their_middle():
    # A column of ones in the middle stays whole, within an eighth of the side, mirrored or not.
    bar = torch.zeros(16, 3, 64, 64)
    bar[..., 28:36] = 1
    torch.manual_seed(0)
    moved = recipes.shifted(bar)
    assert moved.shape == bar.shape
    assert (moved.sum((1, 2, 3)) == bar.sum((1, 2, 3))).all()
    places = moved[:, 0, 0].argmax(1)
    assert len(places.unique()) > 4 and places.min() >= 20 and places.max() <= 36


def test_the_first_layer_of_a_dense_network_has_a_rate_of_its_own():
    model = models.DenseAutoencoder(32, latent=4, hidden=8)
    first, rest = recipes.dense_optimizer(model, first=1e-5, lr=1e-3).param_groups
    assert (first["lr"], rest["lr"]) == (1e-5, 1e-3)
    assert [tuple(p.shape) for p in first["params"]] == [(8, 3 * 32 * 32), (8,)]
    assert len(first["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_a_sweep_goes_on_where_it_was_interrupted(short, tmp_path, capsys):
    out = tmp_path / "sweep.json"
    assert command_line.main(["recipe", "latent-sweep", "--out", str(out)]) == 0
    runs = json.loads(out.read_text())
    assert [(run["latent"], run["seed"]) for run in runs] == [(64, 0), (256, 0)]
    assert all(5 < run["unseen"] < 40 for run in runs) and short == [2, 2]
    out.write_text(json.dumps(runs[:1]))
    assert command_line.main(["recipe", "latent-sweep", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == runs and short == [2, 2, 2]
    assert f"{out}: " in capsys.readouterr().out


def test_a_damaged_sweep_is_named(tmp_path, capsys):
    out = tmp_path / "sweep.json"
    out.write_text('[{"condition": ')
    assert command_line.main(["recipe", "latent-sweep", "--out", str(out)]) == 1
    assert "sweep.json cannot be read" in (told := capsys.readouterr().err) and "delete it" in told


def test_a_long_training_leaves_nothing_but_its_weights(tmp_path):
    out = tmp_path / "small.pt"
    recipes.autoencoder(out, latent=64, width=4, epochs=1)
    model = models.load(out, models.ConvAutoencoder)
    assert model.arguments["latent"] == 64 and [p.name for p in tmp_path.iterdir()] == ["small.pt"]
    assert set(recipes.RECIPES) >= {"autoencoder-1024", "autoencoder-4096", "latent-sweep"}


def test_digits_are_read_anew_with_each_seed(monkeypatch, tmp_path):
    fit, calls = recipes.training.fit, []

    def short(model, *arguments, **options):
        calls.append(options["epochs"])
        return fit(model, *arguments, **options | {"epochs": 1})

    monkeypatch.setattr(recipes.training, "fit", short)
    out = tmp_path / "runs.json"
    recipes.digit_runs(out, seeds=1)
    # Four readers and two denoisers.
    assert len(calls) == 6
    recipes.digit_runs(out, seeds=2)
    assert len(calls) == 12
    first, second = json.loads(out.read_text("utf-8"))
    assert (first["seed"], second["seed"]) == (0, 1) and first["right"] != second["right"]
    # The stored ones have the same arms, and an answer for as many digits.
    stored = json.loads((data.ROOT / "notebooks" / "digit_runs.json").read_text("utf-8"))
    for run in (first, second):
        lengths = {arm: len(answers) for arm, answers in run["right"].items()}
        assert lengths == {arm: len(answers) for arm, answers in stored[0]["right"].items()}
        assert run["psnr"].keys() == stored[0]["psnr"].keys()


def test_many_shifted_pictures_draw_no_random_numbers_of_ours(cars):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    many = recipes.many_shifted(cars[:2], times=3)
    assert many.shape == (6, 3, 64, 64) and torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(many, recipes.many_shifted(cars[:2], times=3))


def test_the_stored_sweep_is_whole():
    runs = json.loads((data.ROOT / "notebooks" / "latent_sweep.json").read_text("utf-8"))
    there = {(run["condition"], run["latent"], run["seed"]) for run in runs}
    wanted = {
        (c, z, seed) for c, latents in recipes.SWEEP.items() for z in latents for seed in (0, 1, 2)
    }
    assert there == wanted
