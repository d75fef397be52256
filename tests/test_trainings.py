"""`python -m autoencoders train NAME`, for every model of the course."""

import json
import os
import subprocess
import sys

import filelock
import pytest
import torch
from torch.nn import functional

from autoencoders import __main__ as command_line
from autoencoders import codec, data, distributed, models, recipes, trainings, turntable
from autoencoders.codec import training as codec_training

# A setting for each that makes it short.
SHORT = dict.fromkeys(trainings.TRAININGS, ("--epochs", 1))
SHORT |= dict.fromkeys(("colourisation", "inpainting", "masked"), ("--steps", 1))
# What the weights of each are read by.
KINDS = {"dense": models.DenseAutoencoder, "conv": models.ConvAutoencoder}


def run(*arguments) -> int:
    return command_line.main([str(argument) for argument in arguments])


@pytest.fixture
def few(monkeypatch):
    """All data sets cut down to some pictures."""
    turning, cars, wheels = data.turntable, data.cars, data.wheels()

    def some_turning(size):
        pictures = turning(size)
        train, validation = pictures.train[:36], pictures.validation[:12]
        return pictures._replace(train=train, validation=validation)

    def some_cars(size, folder, limit=100):
        return cars(size // 2, folder, 12)

    monkeypatch.setattr(data, "turntable", some_turning)
    monkeypatch.setattr(data, "wheels", lambda: wheels._replace(train=wheels.train[:8]))
    # PCA needs more pictures than hidden values: all of them for the small networks.
    small = functional.avg_pool2d(cars(128, data.ROOT / "cars_sample")[0], 2)
    monkeypatch.setattr(recipes, "small_cars", lambda: small)
    monkeypatch.setattr(data, "cars", some_cars)
    monkeypatch.setattr(
        codec_training, "STUDENT", {"width": 4, "post": 4, "blocks": 0, "context": 2}
    )


@pytest.mark.parametrize("name", sorted(trainings.TRAININGS))
def test_each_trains_tells_and_writes(name, few, tmp_path, capsys):
    out, result = tmp_path / "weights", tmp_path / "result.json"
    options = SHORT[name]
    if name == "finished-codec":
        options += ("--start", data.ROOT / "src" / "autoencoders" / "codec" / "codec.aew")
    assert run("train", name, "--out", out, "--result", result, *options) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines[-1]["epoch"] == 1
    assert any(key.startswith("train_") for key in lines[-1])
    written = json.loads(result.read_text("utf-8"))
    assert written["name"] == name and written["settings"]["seed"] == 0
    assert written["parameters"] > 0 and written["history"]["epoch"] == [1]
    assert f"{out}: {out.stat().st_size:,} bytes" in said.err
    # What served the training only is gone.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "weights"]
    if name in KINDS:
        assert isinstance(models.load(out, KINDS[name]), KINDS[name])
        assert set(written["quality"]) == {"train", "validation", "unseen"}
    if name in ("codec", "finished-codec", "student"):
        assert codec.unpack(out.read_bytes())


def test_settings_reach_the_model_and_foreign_ones_are_refused(few, tmp_path, capsys):
    small = ("--latent", 16, "--width", 4, "--epochs", 1)
    assert run("train", "conv", "--out", tmp_path / "a.pt", *small) == 0
    assert models.load(tmp_path / "a.pt", models.ConvAutoencoder).arguments["latent"] == 16
    capsys.readouterr()
    assert run("train", "finished-codec", "--out", tmp_path / "b.aew") == 1
    assert "train finished-codec without --start: expected it" in capsys.readouterr().err
    student = data.ROOT / "notebooks" / "student.aew"
    assert run("train", "finished-codec", "--out", tmp_path / "b.aew", "--start", student) == 1
    assert "weights of a decoder alone: expected an encoder's" in capsys.readouterr().err
    assert run("train", "vae", "--out", tmp_path / "b.pt", "--steps", 3) == 1
    expected = "train vae with --steps: expected no more than --beta, --epochs, --width, --latent"
    assert expected in capsys.readouterr().err
    assert run("train", "conv", "--out", tmp_path / "a.pt", *small) == 1
    assert "a.pt is there already" in capsys.readouterr().err
    assert run("train", "conv", "--out", tmp_path / "a.pt", *small, "--force") == 0


def test_a_stopped_training_returns_75_and_goes_on(few, tmp_path, capsys, monkeypatch):
    options = ("--latent", 16, "--width", 4, "--epochs", 6)
    assert run("train", "conv", "--out", tmp_path / "whole.pt", *options) == 0
    # Asked to stop at the third question, one a step.
    asked = iter([False, False, True])
    monkeypatch.setattr(distributed, "stop_asked", lambda: next(asked, False))
    assert run("train", "conv", "--out", tmp_path / "cut.pt", *options) == 75
    assert not (tmp_path / "cut.pt").exists()
    assert "the same call goes on from" in capsys.readouterr().err
    assert run("train", "conv", "--out", tmp_path / "cut.pt", *options) == 0
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "cut")]
    one, other = (content["weights"] for content in weights)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_trainings_into_one_file_wait_and_refuse(few, tmp_path, capsys):
    out = tmp_path / "a.pt"
    options = ("--latent", 16, "--width", 4, "--epochs", 1, "--wait", 0.2)
    with filelock.FileLock(tmp_path / "a.pt.lock"):
        assert run("train", "conv", "--out", out, *options) == 1
    assert "another process is training into" in capsys.readouterr().err
    assert not out.exists()
    assert run("train", "conv", "--out", out, *options) == 0


def test_sigterm_of_a_scheduler_stops_the_command(tmp_path):
    command = [sys.executable, "-m", "autoencoders", "train", "conv", "--out", tmp_path / "a.pt"]
    options = ["--latent", "16", "--width", "4", "--epochs", "4000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*map(str, command), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as started:
        assert json.loads(started.stdout.readline())["epoch"] == 1
        started.terminate()
        _, said = started.communicate(timeout=120)
    assert started.returncode == 75
    assert "stopped after" in said and "Traceback" not in said
    assert (tmp_path / "a.pt.checkpoint").exists()


def test_recipes_of_the_turning_cars_train_what_the_command_line_trains():
    assert turntable.TRAININGS["turntable-dcgan"] is trainings.TRAININGS["dcgan"]
