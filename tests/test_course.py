"""Where everything lies, and that a file is whole or not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import autoencoders
from autoencoders import course, data

ROOT = Path(__file__).resolve().parents[1]


def test_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_OUT")
    assert course.ROOT == data.ROOT == ROOT
    assert course.results_folder() == ROOT / "build"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert course.results_folder() == ROOT / "build"
    monkeypatch.setenv("COURSE_OUT", "build/test")
    assert course.results_folder() == ROOT / "build" / "test"
    monkeypatch.setenv("COURSE_OUT", str(tmp_path))
    assert course.results_folder() == tmp_path


def test_real_data_is_a_folder_or_none(monkeypatch):
    assert course.real_data() is None
    monkeypatch.setenv("COURSE_DATA", "")
    assert course.real_data() is None
    monkeypatch.setenv("COURSE_DATA", "somewhere")
    assert course.real_data() == ROOT / "somewhere"


def test_who_asks_for_a_folder_does_not_wait_for_torch():
    code = "import sys; from autoencoders import course; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "matplotlib", "PIL", "scipy", "autoencoders.data"}
    assert "autoencoders.course" in run.stdout
    assert [name for name in heavy if repr(name) in run.stdout] == []


def waits(**environment) -> str:
    """How threads of torch's OpenMP wait, as it says itself when it is loaded."""
    code = "import autoencoders, torch"
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"OMP_DISPLAY_ENV": "true"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return next(line for line in run.stderr.splitlines() if "OMP_WAIT_POLICY" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux torch says how its threads wait")
def test_waiting_threads_sleep_unless_told_otherwise():
    assert "PASSIVE" in waits()
    assert "ACTIVE" in waits(OMP_WAIT_POLICY="active")


def test_make_and_package_say_the_same_of_waiting_threads():
    assert 'setdefault("OMP_WAIT_POLICY", "passive")' in Path(autoencoders.__file__).read_text()
    for path in (ROOT / "Makefile", ROOT / "grading" / "handout" / "Makefile"):
        assert "export OMP_WAIT_POLICY ?= passive\n" in path.read_text("utf-8")


def test_replacing_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file.txt"
    with course.replacing(path) as part:
        part.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(KeyboardInterrupt), course.replacing(path) as part:
        part.write_text("half of the sec")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_results_that_are_not_there_are_none(tmp_path):
    assert course.load_results(tmp_path) == {}


WHOLE = '{"a.x": {"value": 1, "unit": "", "split": "", "n": null, "data": "cars_sample"}}'


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"a.x": 3}', '{"a.x": {"value": 1}}', WHOLE.replace("1", "NaN"), WHOLE[:-5]],
)
def test_damaged_results_are_named(tmp_path, text):
    (tmp_path / "results.json").write_text(WHOLE)
    assert course.load_results(tmp_path)["a.x"]["value"] == 1
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(course.CorruptFileError, match=r"results\.json is damaged .*delete it"):
        course.load_results(tmp_path)
