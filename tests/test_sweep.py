"""Sweeps without a cluster: what their files may say, their folders, their tables.

On a cluster they are tried by `make test-cluster`.
"""

import csv
import importlib.util
import json
from pathlib import Path

import filelock
import pytest

from autoencoders import recipes, sweep

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("submit", ROOT / "launch" / "submit.py")
submit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(submit)

TWO = 'train = "conv"\n[grid]\nlatent = [16, 32]\n[fixed]\nwidth = 4\nepochs = 2\n'


def read(folder: Path, text: str) -> sweep.Sweep:
    file = folder / "sweep.toml"
    file.write_text(text, "utf-8")
    return sweep.Sweep.read(file)


def call(capsys, *arguments) -> tuple[int, str, str]:
    """The status of `launch/submit.py`, and what it said."""
    status = submit.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out.strip(), said.err.strip()


def finish(run: sweep.Run, psnr: float) -> None:
    """Write what a run leaves behind, without training."""
    history = {"epoch": [1, 2], "valid_loss": [0.2, 0.1], "seconds": 3.21, "train_loss": [0.3, 0.2]}
    quality = {"train": psnr + 1, "validation": psnr, "unseen": psnr - 1}
    result = {"name": run.name, "history": history, "parameters": 10, "quality": quality}
    run.folder.mkdir(parents=True)
    run.result.write_text(json.dumps(result), "utf-8")


def test_the_file_that_comes_with_the_course():
    shipped = sweep.Sweep.read(ROOT / "launch" / "sweep.toml")
    runs = [*shipped.runs(Path("runs"))]
    assert len(runs) == len({run.folder for run in runs}) == 5 * 2 * 3
    assert all(dict(run.settings)["epochs"] == 320 for run in runs)


FAULTS = {
    'train = "convolution"': "train = 'convolution': expected one of classifier, codec",
    "train = [1]": r"train = \[1\]: expected one of",
    'train = "conv"\n[gird]\nseed = [1]': r"gird: expected train, \[grid\]",
    'train = "conv"\ngrid = 3': "grid = 3: expected a table",
    'train = "conv"\n[grid]\nbeta = [1.0]': "train conv with --beta: expected no more than",
    'train = "conv"\n[grid]\nwidth = 3': r"width = 3 in \[grid\]: expected a list",
    'train = "conv"\n[grid]\nwidth = []': r"width = \[\] in \[grid\]: expected a list",
    'train = "conv"\n[grid]\nwidth = [1.5]': r"width = \[1.5\]: expected numbers of type int",
    'train = "conv"\n[fixed]\nwidth = true': r"width = \[True\]: expected numbers of type int",
    'train = "conv"\n[grid]\nseed = [0, 1, 0]': r"seed = \[0, 1, 0\]: expected each number once",
    'train = "conv"\n[grid]\nseed = [0]\n[fixed]\nseed = 1': r"seed in \[grid\] and in \[fixed\]",
    'train = "conv"\n[machine]\nminutes = 0': r"minutes = 0 in \[machine\]: expected threads",
    'train = "conv"\n[machine]\nhours = 1': "hours = 1 in .*expected threads, minutes, parallel",
    "train =": "Invalid value",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_file_with_a_mistake_says_which(text, tmp_path):
    with pytest.raises(ValueError, match=FAULTS[text]) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(str(tmp_path / "sweep.toml"))
    assert str(raised.value).endswith("launch/sweep.toml is an example")


def test_a_folder_is_the_hash_of_the_settings_whatever_their_order(tmp_path):
    one = read(tmp_path, TWO)
    other = 'train = "conv"\n[fixed]\nepochs = 2\nwidth = 4\n[grid]\nlatent = [32, 16]\n'
    folders = {run.folder for run in one.runs(tmp_path)}
    assert folders == {run.folder for run in read(tmp_path, other).runs(tmp_path)}
    # A wider sweep keeps what is done; another model or setting is another run.
    wider = {run.folder for run in read(tmp_path, TWO.replace("32]", "32, 64]")).runs(tmp_path)}
    assert folders < wider
    for different in (TWO.replace('"conv"', '"dense"'), TWO.replace("= 4", "= 5")):
        assert not folders & {run.folder for run in read(tmp_path, different).runs(tmp_path)}


def test_status_tells_states_apart(tmp_path, capsys):
    asked = read(tmp_path, TWO.replace("[16, 32]", "[1, 2, 3, 4]"))
    done, running, interrupted, _ = asked.runs(tmp_path / "runs")
    finish(done, 20.0)
    for run in (running, interrupted):
        run.folder.mkdir()
        (run.folder / "weights.pt.checkpoint").touch()
        (run.folder / "weights.pt.lock").touch()
    with filelock.FileLock(running.folder / "weights.pt.lock"):
        status, said, _ = call(capsys, "status", tmp_path / "sweep.toml", tmp_path / "runs")
    assert (status, said) == (0, "1 done, 1 running, 1 interrupted, 1 waiting")


def test_collect_makes_the_tables_and_the_figure(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "runs"
    asked = read(tmp_path, TWO.replace("= 4", "= 16") + "seed = 3\n")
    first, second = asked.runs(folder)
    status, _, said = call(capsys, "collect", tmp_path / "sweep.toml", folder)
    assert status == 1 and "no run of" in said and "Traceback" not in said
    finish(second, 22.5)
    finish(first, 20.5)
    status, said, _ = call(capsys, "collect", tmp_path / "sweep.toml", folder)
    assert status == 0 and "runs.csv: 2 of 2 runs" in said
    # By the grid's order, not by when they were done.
    with open(folder / "runs.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["latent"], row["unseen"], row["seed"]) for row in rows] == [
        ("16", "19.5", "3"),
        ("32", "21.5", "3"),
    ]
    assert [row["run"] for row in rows] == [first.folder.name, second.folder.name]
    assert (folder / "runs.png").stat().st_size > 10_000
    # They take the place of the course's own runs in notebook 02; of other latents these stay.
    shipped = recipes.sweep_runs()
    monkeypatch.setenv("COURSE_SWEEP", str(folder))
    mixed = recipes.sweep_runs()
    conv = [r for r in mixed if r["condition"] == sweep.CONDITIONS["conv"] and r["latent"] == 32]
    assert [run["unseen"] for run in conv] == [21.5]
    assert {run["latent"] for run in mixed} == {run["latent"] for run in shipped}


def test_a_sweep_of_other_widths_does_not_fit_into_the_notebook(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "runs"
    for run in read(tmp_path, TWO).runs(folder):
        finish(run, 20.0)
    assert call(capsys, "collect", tmp_path / "sweep.toml", folder)[0] == 0
    monkeypatch.setenv("COURSE_SWEEP", str(folder))
    with pytest.raises(ValueError, match="none of its 2 runs has the width of notebook 02's"):
        recipes.sweep_runs()


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    read(tmp_path, TWO)
    status, _, said = call(capsys, "status", tmp_path / "sweep.toml", tmp_path / "rnus")
    assert status == 1 and "rnus: expected that of a sweep" in said


def test_a_damaged_result_is_named(tmp_path, capsys):
    asked = read(tmp_path, TWO)
    first, second = asked.runs(tmp_path / "runs")
    finish(first, 20.0)
    finish(second, 20.0)
    first.result.write_text(first.result.read_text("utf-8")[:50], "utf-8")
    status, _, said = call(capsys, "collect", tmp_path / "sweep.toml", tmp_path / "runs")
    assert status == 1
    assert f"{first.result} cannot be read" in said and "submit the sweep again" in said


def test_a_sweep_on_this_machine_goes_on_with_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CI", "true")
    read(tmp_path, TWO.replace("[16, 32]", "[16, 32, 64]"))
    asked = sweep.Sweep.read(tmp_path / "sweep.toml")
    folder = tmp_path / "runs"
    finish([*asked.runs(folder)][2], 20.0)
    submitting = ("submit", tmp_path / "sweep.toml", folder, "--cluster", "local")
    assert call(capsys, *submitting)[:2] == (0, "2 runs submitted, 1 left alone")
    for run in [*asked.runs(folder)][:2]:
        assert run.read()["settings"] == dict(run.settings) | {"seed": 0}
        assert (run.folder / "weights.pt").exists() and run.state() == "done"
    assert call(capsys, *submitting)[:2] == (0, "0 runs submitted, 3 left alone")


def test_a_run_that_fails_says_so(tmp_path, capsys):
    run = next(read(tmp_path, TWO.replace("= 4", "= 0")).runs(tmp_path / "runs"))
    with pytest.raises(RuntimeError, match=f"conv in {run.folder.name} ended with status 1"):
        run()
    assert "error: " in capsys.readouterr().err
    assert run.state() == "waiting"
