"""`make run` and `make notebooks`: what they write, and where; and the pages that they leave."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from autoencoders import course, report

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("run_notebooks", ROOT / "notebooks" / "run.py")
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)

CELL = """import matplotlib.pyplot as plt

from autoencoders import data, plots, report

plots.use_style()
report.record("tiny.value", 2.5, unit="dB", source=data.source())
report.save_figure("tiny", plt.plot([1, 2])[0].axes)"""
DECK = """---
title: Tiny
subtitle: A talk
author: []
sources:
  cars: [cars_sample, COURSE_DATA/cars]
notes: Welcome.
---

## One slide

{{tiny.value}} dB

![](figures/tiny.png){alt="A line"}
"""


@pytest.fixture
def house(tmp_path) -> Path:
    """The course with one tiny notebook and one slide; its committed results are of another day."""
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.aew")
    )
    for name in ("notebooks/run.py", "slides/build.py", "slides/layout.py", "slides/template.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    notebook = v4.new_notebook(cells=[v4.new_code_cell(CELL)])
    nbformat.write(notebook, tmp_path / "notebooks" / "tiny.ipynb")
    (tmp_path / "slides" / "deck.md").write_text(DECK, "utf-8")
    committed = {"value": 1.5, "unit": "dB", "split": "", "n": None, "data": "cars_sample"}
    text = json.dumps({"tiny.value": committed, "gone.value": committed})
    (tmp_path / "slides" / "results.json").write_text(text, "utf-8")
    return tmp_path


def start(house: Path, *command: str, **environment: str) -> str:
    """Run a Python program of the house as `make` does; what it printed."""
    names = ("COURSE_OUT", "COURSE_DATA", "CI")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    own = {"PYTHONPATH": str(house / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=house,
        env=clean | own | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree(folder: Path) -> dict[str, bytes]:
    """Every file outside build/, with its content."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {path: path.relative_to(folder) for path in paths}
    return {str(n): p.read_bytes() for p, n in names.items() if n.parts[0] != "build"}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Names of the files that differ, are new or are gone."""
    return {name for name in before | after if before.get(name) != after.get(name)}


def value(folder: Path) -> dict[str, float]:
    results = json.loads((folder / "results.json").read_text("utf-8"))
    return {name: result["value"] for name, result in results.items()}


@pytest.mark.parametrize("environment", [{}, {"COURSE_DATA": "photographs"}])
def test_make_run_writes_to_build_alone(house, environment):
    before = tree(house)
    (house / "build").mkdir()
    stale = '{"old.value": {"value": 1, "unit": "", "split": "", "n": null, "data": "other"}}'
    (house / "build" / "results.json").write_text(stale)
    said = start(house, "notebooks/run.py", **environment)
    assert "tiny.value" in said and "old.value" not in said
    said = start(house, "slides/build.py", COURSE_OUT="build", **environment)
    assert "from build/" in said
    assert changed(before, tree(house)) == set()
    assert value(house / "build") == {"tiny.value": 2.5}
    made = {str(path.relative_to(house / "build")) for path in (house / "build").rglob("*.*")}
    assert made == {
        "tiny.ipynb",
        "tiny.html",
        "results.json",
        "figures/tiny.png",
        "figures/tiny.svg",
        "deck.pptx",
        "deck.html",
    }
    assert "2.5 dB" in (house / "build" / "deck.html").read_text("utf-8").replace("\xa0", " ")
    assert "\nbuild/\n" in f"\n{(ROOT / '.gitignore').read_text()}"


@pytest.mark.parametrize("beginnings", [["02"], ["02", "03"]])
def test_notebooks_are_executed_by_their_beginnings(house, beginnings):
    for name in ("02_other", "03_another"):
        shutil.copy(house / "notebooks" / "tiny.ipynb", house / "notebooks" / f"{name}.ipynb")
    (house / "build").mkdir()
    kept = (house / "slides" / "results.json").read_text("utf-8")
    (house / "build" / "results.json").write_text(kept)
    start(house, "notebooks/run.py", *beginnings)
    assert {path.name[:2] for path in (house / "build").glob("*.ipynb")} == {*beginnings}
    assert value(house / "build") == {"tiny.value": 2.5, "gone.value": 1.5}


def test_no_notebook_of_that_beginning(house, capsys):
    assert run.main(in_place=False, beginnings=["0", "77"]) == 1
    assert "no notebooks 77*.ipynb" in capsys.readouterr().out


def test_make_notebooks_refreshes_what_is_committed(house):
    before = tree(house)
    start(house, "notebooks/run.py", "--in-place", COURSE_OUT="build")
    first = tree(house)
    assert changed(before, first) == {
        "notebooks/tiny.ipynb",
        "slides/results.json",
        "slides/figures/tiny.png",
        "slides/figures/tiny.svg",
    }
    assert value(house / "slides") == {"tiny.value": 2.5}
    start(house, "notebooks/run.py", "--in-place")
    assert changed(first, tree(house)) == set()


def test_committed_notebooks_were_executed_in_order_and_say_no_times():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)], path.name
        # What is of the run alone would differ from run to run.
        assert not [cell for cell in code if "execution" in cell.metadata], path.name


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--inplace", 1)])
def test_an_unknown_option_executes_nothing(house, option, status):
    done = subprocess.run(
        [sys.executable, "notebooks/run.py", option], cwd=house, capture_output=True, text=True
    )
    assert done.returncode == status and "run.py --keep" in done.stdout.replace("`", "")
    assert not (house / "build").exists()
    assert ("no such option" in done.stderr) == bool(status)


def test_make_slides_takes_what_is_committed(house):
    start(house, "notebooks/run.py")
    (house / "slides" / "figures").mkdir()
    shutil.copy(house / "build" / "figures" / "tiny.png", house / "slides" / "figures")
    assert "from slides/" in start(house, "slides/build.py")
    assert "1.5 dB" in (house / "build" / "deck.html").read_text("utf-8").replace("\xa0", " ")


def test_a_page_shows_formulas_without_a_network():
    cells = [
        v4.new_markdown_cell("# Title\n\nThe sum $\\sum_i s_i$ of **all**, `x_1`."),
        v4.new_markdown_cell("| a |\n|---|\n| 1 |"),
    ]
    page = run.page(v4.new_notebook(cells=cells), "small")
    assert "<math" in page and "$" not in re.search(r"The sum.*all", page)[0]
    assert (
        "<strong>all</strong>" in page
        and "<code>x_1</code>" in page
        and "<td>1</td>" in page
        and "<title>small</title>" in page
    )
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=.(?!data:|#)", page)


def test_numbers_of_real_data_are_kept_by_their_set(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_OUT", str(tmp_path / "out"))
    monkeypatch.setattr(run.course, "COMMITTED", tmp_path)
    report.record("denoising.x", 1, source="COURSE_DATA/MNIST")
    report.record("svd.x", 2, source="cars_sample")
    run.keep()
    kept = course.load_results(tmp_path / "results_mnist.json")
    assert {name: result["value"] for name, result in kept.items()} == {"denoising.x": 1}
    assert not (tmp_path / "results_photographs.json").exists()
    assert "no numbers of COURSE_DATA/cars" in capsys.readouterr().out


def test_numbers_of_notebooks_that_did_not_run_are_kept_too(monkeypatch, tmp_path):
    monkeypatch.setattr(run.course, "COMMITTED", tmp_path)
    sources = {"": "cars_sample", "first": "COURSE_DATA/cars", "second": "COURSE_DATA/cars"}
    names = {"": ("svd.x", "conv.x"), "first": ("svd.x", "conv.x", "gone.x"), "second": ("conv.x",)}
    for value, (folder, source) in enumerate(sources.items()):
        monkeypatch.setenv("COURSE_OUT", str(tmp_path / folder))
        for name in names[folder]:
            report.record(name, value, source=source)
        run.keep()
    kept = course.load_results(tmp_path / "results_photographs.json")
    # The second run had one notebook; what no notebook records any more is gone.
    assert {name: result["value"] for name, result in kept.items()} == {"svd.x": 1, "conv.x": 2}


def test_categories_of_mvtec_are_kept_side_by_side(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_OUT", str(tmp_path / "out"))
    monkeypatch.setattr(run.course, "COMMITTED", tmp_path)
    for category, value in (("bottle", 1), ("capsule", 2), ("bottle", 3)):
        monkeypatch.setenv("COURSE_CATEGORY", category)
        report.record("anomaly.image_bar", value, source=run.MVTEC)
        run.keep()
    kept = course.load_results(tmp_path / "results_mvtec_ad.json")
    values = {name: result["value"] for name, result in kept.items()}
    assert values == {"bottle.image_bar": 3, "capsule.image_bar": 2}
