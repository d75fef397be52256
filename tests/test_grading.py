"""Made submissions of a tiny course, good ones and hostile ones, get what they deserve; so does the real notebook 01.

`python tests/test_grading.py SUBMISSIONS OUT` grades a folder with the tiny course: the tests kill that.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "grading"))

import assignment
import compare
import driver
import grade
import sandbox

walls = pytest.mark.skipif(bool(sandbox.missing()), reason=f"no sandbox: {sandbox.missing()}")
LIMITS = replace(sandbox.Limits(), cell=5, wall=90, cpu=60, memory=2**30, disk=2**26, ask=5)


# ---- A tiny course ----


def about(name: str, grade: bool, solution: bool, points: int = 0) -> dict:
    points = {"points": points} if grade else {}
    flags = {"grade": grade, "solution": solution, "locked": not solution, "task": False, "schema_version": 3}
    return {"nbgrader": {"grade_id": name, **flags, **points}}


def exercise(name: str, signature: str, body: str, test: str, points: int) -> list:
    solution = f"def {name}({signature}):\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"
    return [
        new_code_cell(solution, metadata=about(name, False, True)),
        new_code_cell(test, metadata=about(f"{name}_test", True, False, points)),
    ]


def tiny() -> nbformat.NotebookNode:
    cells = [
        new_markdown_cell("# Tiny"),
        new_code_cell("import numpy as np\n\nprint('numbers', 1.5, 2.5)"),
        new_code_cell(
            "print('tiny.value =', 3 + np.random.rand() / 9, 'dB (n = 1, cars_sample)')", metadata={"tags": ["nbval-ignore-output"]}
        ),
        *exercise("double", "x", "return 2 * x", "assert double(3) == 6, 'double(3): expected 6, twice the number'", 2),
        *exercise("add_up", "values", "return sum(values)", "assert add_up([1, 2]) == 3, 'add_up([1, 2]): expected 3'", 3),
        new_markdown_cell("### BEGIN SOLUTION\nBecause.\n### END SOLUTION", metadata=about("why_answer", True, True, 2)),
        new_code_cell("print('the end')"),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"tiny-{number}"
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def hidden_double(ask):
    x = np.random.default_rng().standard_normal(5)
    np.testing.assert_allclose(ask("double(x)", x=x), 2 * x, err_msg="double(x) of five numbers x")


def hidden_add_up(ask):
    assert ask("add_up(v)", v=[4, 5, 6]) == 15, "add_up([4, 5, 6]) is not 15"


def course() -> grade.Course:
    return grade.Course({"tiny": tiny()}, {"double": hidden_double, "add_up": hidden_add_up}, {"tiny.value": [3, 3.2]})


# ---- Submissions of it; each makes a folder out of the solved, executed notebook ----


def cell_of(notebook, name: str):
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name)


def save(notebook, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def with_cell(source: str, at: int = 1):
    def make(notebook, folder):
        notebook.cells.insert(at, new_code_cell(source))
        save(notebook, folder / "tiny.ipynb")

    return make


def with_body(**bodies: str):
    def make(notebook, folder):
        for name, source in bodies.items():
            cell_of(notebook, name).source = source
        save(notebook, folder / "tiny.ipynb")

    return make


def perfect(notebook, folder):
    from autoencoders import data, svd

    picture = data.to_bytes(data.cars(64, limit=1)[0])[0]
    folder.mkdir()
    (folder / "beetle.svd").write_bytes(file := svd.compress(picture, 8))
    decoded = svd.decompress(file).astype(float)
    psnr = 10 * np.log10(255**2 / ((decoded - picture) ** 2).mean())
    notebook.cells.append(new_markdown_cell(f"Claim: `beetle.svd` of car_000.png, {len(file):,} bytes, {psnr:.1f} dB"))
    save(notebook, folder / "tiny.ipynb")


def typed(notebook, folder):
    for index, (old, new) in ((1, ("2.5", "7.5")), (2, ("3.", "9."))):
        notebook.cells[index].outputs[0].text = notebook.cells[index].outputs[0].text.replace(old, new)
    save(notebook, folder / "tiny.ipynb")


def disordered(notebook, folder):
    notebook.cells[1].execution_count = 40
    save(notebook, folder / "tiny.ipynb")


def stripped(notebook, folder):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    save(notebook, folder / "tiny.ipynb")


def own_tests(notebook, folder):
    cell_of(notebook, "double").source = "def double(x):\n    return 0"
    cell_of(notebook, "double_test").source = "assert True"
    notebook.cells.remove(cell_of(notebook, "add_up_test"))
    save(notebook, folder / "tiny.ipynb")


def copied(notebook, folder):
    notebook.cells.insert(3, deepcopy(cell_of(notebook, "double")))
    save(notebook, folder / "tiny.ipynb")


def truncated(notebook, folder):
    folder.mkdir()
    (folder / "tiny.ipynb").write_text(nbformat.writes(notebook)[:1500])


def nothing(notebook, folder):
    folder.mkdir()
    (folder / "talk.md").write_text("# A talk\n\n## One slide\n")


def renamed(notebook, folder):
    save(notebook, folder / "my homework (final).ipynb")


def extra(notebook, folder):
    save(notebook, folder / "tiny.ipynb")
    figure = "import matplotlib.pyplot as plt\n\nplt.plot([1, 2])  # a line of my own\nprint('an idea')"
    save(
        new_notebook(cells=[new_markdown_cell("# My idea\n\nfour words of prose"), new_code_cell(figure)]), folder / "ideas" / "mine.ipynb"
    )


def damaged(notebook, folder):
    notebook.cells.append(new_markdown_cell("Claim: mine.aez, 127,337 bytes, 28.1 dB. Claim: lost.aez, 5 bytes, 40 dB."))
    notebook.cells.append(new_markdown_cell("Claim: lost.aez, 5 bytes, 40 dB"))
    save(notebook, folder / "tiny.ipynb")
    content = bytearray((ROOT / "notebooks" / "hundred_cars.aez").read_bytes())
    content[5000] ^= 1
    (folder / "mine.aez").write_bytes(content)


OUTSIDE = """
import os, pathlib, shutil
told = []
for place in {places}:
    for what in (lambda p: os.listdir(p), lambda p: open(p + "/x", "w"), lambda p: os.remove(p + "/victim")):
        try:
            told.append(f"{{place}}: {{what(place)}}")
        except OSError:
            pass
for place in {places} + ["/course", "/tmp", "/etc"]:
    shutil.rmtree(place, ignore_errors=True)
assert not told, told
"""


def outside(notebook, folder):
    places = [str(folder.parent), str(folder), str(ROOT), str(ROOT / "grading"), str(ROOT / "tests"), "/etc/ssh", "/course/grading"]
    with_cell(OUTSIDE.format(places=places))(notebook, folder)
    (folder / "victim").write_text("still here")


KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
NETWORK = "import urllib.request\n\nurllib.request.urlopen('http://192.0.2.1', timeout=20)"
BOMB = "hoard = []\nwhile True:\n    hoard.append(np.ones(2**24))"
STUB = "def add_up(values):\n    raise NotImplementedError('your code is missing here')"
FULL, NONE = (2, 3), (0, 0)

# name -> how it is made, points of double and add_up, words that the result must say
MADE = {
    "perfect": (perfect, FULL, ['"failed": []', '"findings": []', "as claimed"]),
    "half_done": (with_body(add_up=STUB), (2, 0), ["NotImplementedError: your code is missing here"]),
    "numbers_typed": (typed, FULL, ["the code gives 'numbers 1.5 2.5'", "tiny.value = 9.", "expected 3 to 3.2"]),
    "out_of_order": (disordered, FULL, ["after the cell with number 40"]),
    "outputs_stripped": (stripped, FULL, ["no output was handed in"]),
    "endless_loop": (with_cell("while True:\n    pass", at=4), FULL, ["stopped after 5 seconds"]),
    "memory_bomb": (with_cell(BOMB, at=3), FULL, ["emory"]),
    "kernel_killed": (with_cell(KILL, at=5), FULL, ["the kernel died"]),
    "asks_for_input": (with_cell("name = input('who? ')"), FULL, ["StdinNotImplementedError"]),
    "network_call": (with_cell(NETWORK), FULL, ["Network is unreachable"]),
    "outside_its_folder": (outside, FULL, ['"failed": []']),
    "own_tests": (own_tests, (0, 3), ["double(3): expected 6", '"restored": ["add_up_test", "double_test"]']),
    "copied_ids": (copied, (0, 3), ["2 cells are named double"]),
    "truncated_json": (truncated, NONE, ["tiny.ipynb is no readable notebook"]),
    "missing_notebook": (nothing, NONE, ["tiny.ipynb was not handed in", "talk.md: 2 slides"]),
    "renamed_notebook": (renamed, FULL, ["handed in as my homework (final).ipynb"]),
    "extra_notebook": (extra, FULL, ["ideas/mine.ipynb", "an extra notebook", '"words in comments": 9', "# My idea"[2:]]),
    "much_output": (with_cell("for _ in range(100):\n    print('x' * 10**6)"), FULL, ["bytes of output"]),
    "größe_№7_大": (renamed, FULL, ['"failed": []']),
    "damaged_aez": (damaged, FULL, ["cannot be decoded: CorruptFileError", "claimed, but not handed in"]),
    "only_what_is_tested": (with_body(double="def double(x):\n    return 6"), (0, 3), ["hidden test"]),
    "empty_notebook": (lambda _, folder: save(new_notebook(), folder / "tiny.ipynb"), NONE, ["tiny.ipynb is empty"]),
}


@pytest.fixture(scope="session")
def executed():
    notebook = tiny()
    for cell in notebook.cells:
        cell.source = cell.source.replace("### BEGIN SOLUTION\n", "").replace("\n### END SOLUTION", "")
    return NotebookClient(notebook, kernel_name="python3").execute()


@pytest.fixture(scope="session")
def made(executed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("submissions")
    for name, (make, *_) in MADE.items():
        make(deepcopy(executed), folder / name)
    return folder


@pytest.fixture(scope="session")
def graded(made, tmp_path_factory):
    """All of them graded, once: table by student, and the folder of the results."""
    out = tmp_path_factory.mktemp("grades")
    grade.grade_all(made, out, grade.Grader(course(), LIMITS))
    with (out / "grades.csv").open(encoding="utf-8") as file:
        return {line["student"]: line for line in csv.DictReader(file)}, out


@walls
@pytest.mark.parametrize("name", MADE)
def test_made_submissions_get_what_they_deserve(graded, name):
    (table, out), (_, points, words) = graded, MADE[name]
    said = json.dumps(json.loads((out / "results" / f"{name}.json").read_text("utf-8")), ensure_ascii=False)
    assert (int(table[name]["double"]), int(table[name]["add_up"])) == points
    assert [word for word in words if word not in said] == []
    assert name in (out / f"{name}.html").read_text("utf-8")


@walls
def test_nothing_happened_outside(graded, made):
    assert (made / "outside_its_folder" / "victim").read_text() == "still here"
    assert not list(made.rglob("x"))
    assert sorted(p.name for p in made.iterdir() if p.is_dir()) == sorted(MADE)


@walls
def test_counts_of_the_table(graded):
    table, _ = graded
    assert {
        k: table["perfect"][k] for k in ("automatic", "failed_cells", "not_reproduced", "out_of_order", "stripped", "files_as_claimed")
    } == {
        "automatic": "5",
        "failed_cells": "0",
        "not_reproduced": "0",
        "out_of_order": "0",
        "stripped": "0",
        "files_as_claimed": "1 of 1",
    }
    assert (table["numbers_typed"]["not_reproduced"], table["out_of_order"]["out_of_order"], table["outputs_stripped"]["stripped"]) == (
        "2",
        "1",
        "3",
    )
