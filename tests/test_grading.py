"""Made submissions of a tiny course, good and hostile ones, get what they deserve.

So does the real notebook 01.

`PYTHONPATH=grading python tests/test_grading.py SUBMISSIONS OUT` grades a folder with the tiny
course: the tests kill that.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import assignment
import compare
import driver
import grade
import sandbox
from autoencoders import data, report

ROOT = Path(__file__).resolve().parents[1]
walls = pytest.mark.walls  # conftest.py skips it without bubblewrap, or fails it
# Little memory and disk, but more time than a busy machine takes: what must be slow to be stopped
# has a limit of its own below.
LIMITS = replace(sandbox.Limits(), memory=2**30, disk=2**26)


# ---- A tiny course ----


def about(name: str, grade: bool, solution: bool, points: int = 0) -> dict:
    points = {"points": points} if grade else {}
    flags = {
        "grade": grade,
        "solution": solution,
        "locked": not solution,
        "task": False,
        "schema_version": 3,
    }
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
            # From 3.05 to 3.1: never so near a whole number that it is shown as one.
            "number = {'name': 'tiny.value', 'value': 3.05 + np.random.rand() / 20}\n"
            f"display({{{driver.RECORD!r}: number}}, raw=True)",
            metadata={"tags": ["nbval-ignore-output"]},
        ),
        *exercise(
            "double",
            "x",
            "return 2 * x",
            "assert double(3) == 6, 'double(3): expected 6, twice the number'",
            2,
        ),
        *exercise(
            "add_up",
            "values",
            "return sum(values)",
            "assert add_up([1, 2]) == 3, 'add_up([1, 2]): expected 3'",
            3,
        ),
        new_markdown_cell(
            "### BEGIN SOLUTION\nBecause.\n### END SOLUTION",
            metadata=about("why_answer", True, True, 2),
        ),
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
    return grade.Course(
        {"tiny": tiny()},
        {"double": hidden_double, "add_up": hidden_add_up},
        {"tiny.value": [3, 3.2]},
    )


# ---- Submissions of it; each makes a folder out of the solved, executed notebook ----


def cell_of(notebook, name: str):
    return next(
        cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name
    )


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
    folder.mkdir(parents=True)
    (folder / "beetle.svd").write_bytes(file := svd.compress(picture, 8))
    decoded = svd.decompress(file).astype(float)
    psnr = 10 * np.log10(255**2 / ((decoded - picture) ** 2).mean())
    notebook.cells.append(
        new_markdown_cell(f"Claim: `beetle.svd` of car_000.png, {len(file):,} bytes, {psnr:.1f} dB")
    )
    save(notebook, folder / "tiny.ipynb")


def typed(notebook, folder):
    printed, recorded = (notebook.cells[index].outputs[0] for index in (1, 2))
    printed.text = printed.text.replace("2.5", "7.5")
    recorded.data[driver.RECORD]["value"] += 6
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
    figure = (
        "import matplotlib.pyplot as plt\n\nplt.plot([1, 2])  # a line of my own\nprint('an idea')"
    )
    save(
        new_notebook(
            cells=[new_markdown_cell("# My idea\n\nfour words of prose"), new_code_cell(figure)]
        ),
        folder / "ideas" / "mine.ipynb",
    )


def damaged(notebook, folder):
    notebook.cells.append(
        new_markdown_cell(
            "Claim: mine.aez, 127,337 bytes, 28.1 dB. Claim: lost.aez, 5 bytes, 40 dB."
        )
    )
    notebook.cells.append(new_markdown_cell("Claim: lost.aez, 5 bytes, 40 dB"))
    save(notebook, folder / "tiny.ipynb")
    content = bytearray((ROOT / "notebooks" / "hundred_cars.aez").read_bytes())
    content[5000] ^= 1
    (folder / "mine.aez").write_bytes(content)


OUTSIDE = """
import os, pathlib, shutil
told = []
for place in {places}:
    for what in (
        lambda p: os.listdir(p),
        lambda p: open(p + "/x", "w"),
        lambda p: os.remove(p + "/victim"),
    ):
        try:
            told.append(f"{{place}}: {{what(place)}}")
        except OSError:
            pass
for place in {places} + ["/course", "/tmp", "/etc"]:
    shutil.rmtree(place, ignore_errors=True)
assert not told, told
"""


def outside(notebook, folder):
    places = [
        str(folder.parent),
        str(folder),
        str(ROOT / "notebooks"),
        str(ROOT / "grading"),
        str(ROOT / "tests"),
        "/etc/ssh",
        "/course/grading",
    ]
    with_cell(OUTSIDE.format(places=places))(notebook, folder)
    (folder / "victim").write_text("still here")


KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
NETWORK = "import urllib.request\n\nurllib.request.urlopen('http://192.0.2.1', timeout=20)"
BOMB = (
    "import time\n\nhoard = []\nwhile True:\n    hoard.append(np.ones(2**22))\n    time.sleep(0.02)"
)
STUB = "def add_up(values):\n    raise NotImplementedError('your code is missing here')"
FULL, NONE = (2, 3), (0, 0)

# name -> how it is made, points of double and add_up, words that the result must say
MADE = {
    "perfect": (perfect, FULL, ['"failed": []', '"findings": []', "as claimed"]),
    "half_done": (
        with_body(add_up=STUB),
        (2, 0),
        ["NotImplementedError: your code is missing here"],
    ),
    "numbers_typed": (
        typed,
        FULL,
        ["the code gives 'numbers 1.5 2.5'", "tiny.value = 9.", "expected 3 to 3.2"],
    ),
    "out_of_order": (disordered, FULL, ["after the cell with number 40"]),
    "outputs_stripped": (stripped, FULL, ["no output was handed in"]),
    "memory_bomb": (with_cell(BOMB, at=3), FULL, ["it held more than 1 GiB of memory"]),
    "kernel_killed": (with_cell(KILL, at=5), FULL, ["the kernel died"]),
    "asks_for_input": (with_cell("name = input('who? ')"), FULL, ["StdinNotImplementedError"]),
    "network_call": (with_cell(NETWORK), FULL, ["Network is unreachable"]),
    "outside_its_folder": (outside, FULL, ['"failed": []']),
    "own_tests": (
        own_tests,
        (0, 3),
        ["double(3): expected 6", '"restored": ["add_up_test", "double_test"]'],
    ),
    "copied_ids": (copied, (0, 3), ["2 cells are named double"]),
    "truncated_json": (truncated, NONE, ["tiny.ipynb is no readable notebook"]),
    "missing_notebook": (nothing, NONE, ["tiny.ipynb was not handed in", "talk.md: 2 slides"]),
    "renamed_notebook": (renamed, FULL, ["handed in as my homework (final).ipynb"]),
    "extra_notebook": (
        extra,
        FULL,
        ["ideas/mine.ipynb", "an extra notebook", '"words in comments": 9', "# My idea"[2:]],
    ),
    "much_output": (
        with_cell("for _ in range(100):\n    print('x' * 10**6)"),
        FULL,
        ["bytes of output"],
    ),
    "größe_№7_大": (renamed, FULL, ['"failed": []']),
    "damaged_aez": (
        damaged,
        FULL,
        ["cannot be decoded: CorruptFileError", "claimed, but not handed in"],
    ),
    "only_what_is_tested": (
        with_body(double="def double(x):\n    return 6"),
        (0, 3),
        ["hidden test"],
    ),
    "empty_notebook": (
        lambda _, folder: save(new_notebook(), folder / "tiny.ipynb"),
        NONE,
        ["tiny.ipynb is empty"],
    ),
}


@pytest.fixture(scope="session")
def executed():
    notebook = tiny()
    for cell in notebook.cells:
        cell.source = cell.source.replace("### BEGIN SOLUTION\n", "").replace(
            "\n### END SOLUTION", ""
        )
    return NotebookClient(notebook, kernel_name="python3", startup_timeout=600).execute()


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
    said = json.dumps(
        json.loads((out / "results" / f"{name}.json").read_text("utf-8")), ensure_ascii=False
    )
    assert (int(table[name]["double"]), int(table[name]["add_up"])) == points
    assert [word for word in words if word not in said] == []
    assert name in (out / f"{name}.html").read_text("utf-8")


@walls
def test_an_endless_loop_is_stopped_and_the_rest_goes_on(executed, tmp_path):
    with_cell("while True:\n    pass", at=4)(deepcopy(executed), tmp_path / "in" / "somebody")
    grader = grade.Grader(course(), replace(LIMITS, cell=20))
    (line,) = grade.grade_all(tmp_path / "in", tmp_path / "out", grader)
    assert (line["double"], line["add_up"]) == FULL
    said = (tmp_path / "out" / "results" / "somebody.json").read_text("utf-8")
    assert "stopped after 20 seconds" in said


@walls
def test_nothing_happened_outside(graded, made):
    assert (made / "outside_its_folder" / "victim").read_text() == "still here"
    assert not list(made.rglob("x"))
    assert sorted(p.name for p in made.iterdir() if p.is_dir()) == sorted(MADE)


@walls
def test_counts_of_the_table(graded):
    table, _ = graded
    assert {
        k: table["perfect"][k]
        for k in (
            "automatic",
            "failed_cells",
            "not_reproduced",
            "out_of_order",
            "stripped",
            "files_as_claimed",
        )
    } == {
        "automatic": "5",
        "failed_cells": "0",
        "not_reproduced": "0",
        "out_of_order": "0",
        "stripped": "0",
        "files_as_claimed": "1 of 1",
    }
    assert (
        table["numbers_typed"]["not_reproduced"],
        table["out_of_order"]["out_of_order"],
        table["outputs_stripped"]["stripped"],
    ) == (
        "2",
        "1",
        "3",
    )


# ---- Again, interrupted, without walls ----


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@walls
def test_killed_in_the_middle_nothing_is_graded_twice_or_lost(made, graded, tmp_path):
    names = ["half_done", "numbers_typed", "out_of_order", "outputs_stripped"]
    for name in names:
        shutil.copytree(made / name, tmp_path / "in" / name)
    command = [sys.executable, __file__, str(tmp_path / "in"), str(tmp_path / "out")]
    environment = {"PYTHONPATH": f"{ROOT / 'grading'}:{ROOT / 'src'}", "PATH": "/usr/bin:/bin"}
    first = subprocess.Popen(command, env=environment)
    results = tmp_path / "out" / "results"
    while not list(results.glob("*.json")) and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in results.glob("*.json")}
    assert 1 <= len(kept) < len(names)
    assert not (tmp_path / "out" / "grades.csv").exists()
    again = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert {
        path.name: path.stat().st_mtime_ns for path in results.glob("*.json") if path.name in kept
    } == kept
    assert (again.count(": as before,"), again.count(": graded,")) == (
        len(kept),
        len(names) - len(kept),
    )
    table = (tmp_path / "out" / "grades.csv").read_text("utf-8").splitlines()
    assert table[1:] == [
        line
        for line in (graded[1] / "grades.csv").read_text("utf-8").splitlines()
        if line.split(",")[0] in names
    ]


@walls
def test_what_changed_is_graded_again_and_points_are_kept(made, tmp_path, capsys):
    shutil.copytree(made / "half_done", tmp_path / "in" / "somebody")
    grader = grade.Grader(course(), LIMITS)

    def run() -> dict:
        (line,) = grade.grade_all(tmp_path / "in", tmp_path / "out", grader)
        return line

    assert run()["total"] == 2
    before = (tmp_path / "out" / "grades.csv").read_bytes()
    form = tmp_path / "in" / "somebody.points.toml"
    assert 'why_answer = ""  # of 2' in form.read_text()
    assert run()["total"] == 2 and (tmp_path / "out" / "grades.csv").read_bytes() == before
    form.write_text(
        form.read_text()
        .replace('why_answer = ""', "why_answer = 1.5")
        .replace('talk = ""', "talk = 4")
    )
    written = form.read_bytes()
    line = run()
    assert (line["answers"], line["talk"], line["documentation"], line["total"]) == (
        1.5,
        4,
        "",
        7.5,
    )
    assert form.read_bytes() == written and ">7.5<" in (
        tmp_path / "out" / "somebody.html"
    ).read_text("utf-8")
    assert capsys.readouterr().out.count(": graded,") == 1
    form.write_text("talk = seven")
    assert "mend it" in run()["notes"]
    (tmp_path / "in" / "somebody" / "new.txt").write_text("more")
    form.unlink()
    assert run()["total"] == 2 and ": graded," in capsys.readouterr().out
    # The page of somebody whose folder is elsewhere stays, and is named.
    (tmp_path / "out" / "other.html").write_text("")
    run()
    assert "still has pages of another folder: other\n" in capsys.readouterr().err


def test_without_walls_it_refuses_unless_told(monkeypatch, tmp_path, capsys, executed):
    monkeypatch.setattr(grade, "missing", lambda: "bubblewrap (bwrap) is not installed")
    perfect(deepcopy(executed), tmp_path / "in" / "somebody")
    monkeypatch.setattr(grade.Course, "of_repository", lambda only: course())
    assert grade.main([str(tmp_path / "in")]) == 1
    assert "bubblewrap (bwrap) is not installed. Install" in capsys.readouterr().err
    assert grade.main([str(tmp_path / "in"), "--trust", "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "somebody.html").read_text("utf-8")
    assert "Executed without a sandbox" in page and "5<small> / 5" in page and "as claimed" in page


# ---- Hostile ones, more closely ----

SPEAK = """
import glob, os
for path in glob.glob(f"/proc/{os.getppid()}/fd/*"):
    if "pipe" in os.readlink(path):
        open(path, "w").write("[]\\n")
"""


@walls
@pytest.mark.parametrize(
    ("source", "memory", "reason"),
    [
        # With room enough that its processes are too many before they are too large.
        ("import os\nwhile True: os.fork()", 2**32, "processes"),
        ("hoard = []\nwhile True: hoard.append(bytearray(1000))", 2**28, "GiB of memory"),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", 2**28, "ended in the middle"),
        (SPEAK, 2**28, "never says"),
    ],
    ids=["fork bomb", "slow memory bomb", "driver killed", "driver spoken for"],
)
def test_who_attacks_the_sandbox_loses_it(tmp_path, source, memory, reason):
    with (
        pytest.raises(sandbox.Died, match=reason),
        sandbox.Sandbox(tmp_path, replace(LIMITS, memory=memory)) as box,
    ):
        for _ in zip(
            range(3),
            box.replies("run", cells=[[1, source], [2, "1"]], within=".", seconds=600, cap=1000),
            strict=False,
        ):
            pass


@walls
def test_files_meet_their_limits(tmp_path):
    cells = [
        f"for i in range(100):\n    open(f'{place}/{{i}}', 'wb').write(bytes(10**7))"
        for place in ("/tmp", "/dev/shm", ".", "/course")
    ]
    with sandbox.Sandbox(tmp_path, LIMITS) as box:
        replies = box.replies(
            "run", cells=list(enumerate(cells)), within=".", seconds=600, cap=1000
        )
        said = [reply for reply, _ in zip(replies, range(4), strict=False)]
    assert [("No space left" in r["error"], "Read-only" in r["error"]) for r in said] == [
        (True, False)
    ] * 3 + [(False, True)]


@walls
def test_a_loop_that_ignores_its_interruption_is_killed(tmp_path):
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
    with sandbox.Sandbox(tmp_path, LIMITS) as box:
        replies = box.replies("run", cells=[[0, stubborn]], within=".", seconds=10, cap=1000)
        assert next(replies)["state"] == "stuck"


@pytest.mark.parametrize(
    "forged",
    [
        {"array": "AAAA", "dtype": "S3", "shape": [1]},
        {"array": "AAAA", "dtype": "<f8", "shape": [9]},
        {},
    ],
)
def test_forged_values_are_refused(forged):
    with pytest.raises((ValueError, TypeError, KeyError)):
        driver.decode(forged)


def test_values_come_back_as_they_went():
    value = {
        "a": [1, 2.5, "x", None, True, b"\0"],
        "b": np.arange(6, dtype=np.int16).reshape(2, 3),
        "c": np.float32(0.5),
    }
    back = driver.decode(json.loads(json.dumps(driver.encode(value))))
    assert back["a"] == value["a"] and back["c"] == 0.5 and back["b"].dtype == np.int16
    np.testing.assert_array_equal(back["b"], value["b"])
    with pytest.raises(TypeError):
        driver.encode(object())


# ---- Comparing ----


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("psnr 26.07 dB", "psnr 26.08 dB", True),
        ("psnr 26.07 dB", "psnr 26.30 dB", False),
        ("1,400 of them", "1,401 of them", False),
        ("[ 1.5  2.]", "[1.5 2. ]", True),
        ("<A at 0x7f3344aa>", "<A at 0x7f00beef11>", True),
        ("three 3", "four 3", False),
        ("1e-09", "1.0004e-09", True),
    ],
)
def test_lines_are_the_same_but_for_the_last_digit(a, b, same):
    assert compare.same_line(a, b) is same


def test_claims_are_read_out_of_prose():
    lines = [
        "**Claim:** `my car.svd`, hm",
        "- claim: beetle.svd of car_003.png, 4,321 bytes, 28.1 dB",
        "Claim: all.aez takes 99 bytes at 30 dB",
    ]
    claims = compare.claims([new_markdown_cell("\n".join(lines))])
    assert claims["beetle.svd"] == {"picture": "car_003.png", "bytes": 4321, "psnr": 28.1}
    assert claims["all.aez"] == {"picture": None, "bytes": 99, "psnr": 30}
    assert compare.verdict(claims["all.aez"], {"bytes": 99, "psnr": 29.95}) == "as claimed"
    assert (
        compare.verdict(claims["all.aez"], {"bytes": 98, "psnr": 29.0})
        == "claimed 99 bytes, measured 98; claimed 30.0 dB, measured 29.00 dB"
    )


def record(name, value) -> dict:
    """A cell's output with a recorded number."""
    data = {driver.RECORD: {"name": name, "value": value, "unit": "dB"}}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def test_the_record_is_the_one_of_the_package():
    assert driver.RECORD == report.MIME


@pytest.mark.parametrize(
    "handed_in,finding",
    [
        ([("a.x", 25.01), ("a.n", 7)], ""),
        (
            [("a.x", 26.5), ("a.n", 7)],
            "handed in: a.x = 26.5; the code gives 25, expected 24 to 26",
        ),
        ([("a.x", 25), ("a.n", 8)], "handed in: a.n = 8; the code gives 7"),
        ([("a.x", 25)], "the code records a.n = 7, which was not handed in"),
        ([("a.x", 25), ("a.n", 7), ("a.y", 1)], "a.y = 1; the code records no such number"),
        ([("a.x", 25), ("a.n", "7")], "the code records a.n = 7, which was not handed in"),
    ],
)
def test_recorded_numbers_are_compared_with_their_bands(handed_in, finding):
    cell = new_code_cell("report.record(...)", execution_count=1)
    cell.outputs = [record(name, value) for name, value in handed_in]
    again = driver.outline([record("a.x", 25.0), record("a.n", 7)])
    fresh = {1: {"state": "done"} | again}
    found = compare.outputs([cell], fresh, {"a.x": (24, 26)}, {cell.id}, set())
    assert [f["what"] for f in found] == [f["what"] for f in found if finding in f["what"]]
    assert bool(found) == bool(finding)


@pytest.mark.parametrize(
    "result",
    [
        None,
        [1],
        {"name": "a.x"},
        {"name": 3, "value": 3},
        {"name": "a.x", "value": True},
        {"name": "a.x", "value": {"value": 1}},
        {"name": "a.x", "value": float("nan")},
        {"name": "a.x", "value": 10**4000},
        {"name": "a" * 10**6, "value": 1},
    ],
)
def test_a_record_that_is_none_is_passed_over(result):
    output = {"output_type": "display_data", "data": {driver.RECORD: result}, "metadata": {}}
    assert driver.outline([output])["records"] == {}


def test_hostile_text_costs_no_time():
    """Of the processor, whatever else it does: a pattern that backtracks would take hours."""
    started = time.process_time()
    for text in ("claim" + ":" * 10**6, "claim: " + "a" * 10**6, "claim" + " " * 10**6):
        compare.claims([new_markdown_cell(text)])
        compare.differences(
            {"text": text, "records": {}, "images": [], "error": None},
            {"text": "1", "records": {}, "images": [], "error": None},
            {},
            False,
        )
    assert time.process_time() < started + 60


def test_a_widget_of_the_course_is_passed_over_and_one_of_their_own_is_not():
    view = {
        "output_type": "display_data",
        "data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "interactive()"},
        "metadata": {},
    }
    cell = new_code_cell("interact(keep)", outputs=[view], execution_count=1)
    still = {"text": "a still", "records": {}, "images": ["image/png"], "error": None}
    fresh = {1: {"state": "done"} | still}
    assert compare.outputs([cell], fresh, {}, set(), {"interact(keep)"}) == []
    assert compare.outputs([cell], fresh, {}, set(), set()) != []


# ---- The real thing ----


def test_the_assignment_repeats_and_holds_no_solution(tmp_path):
    assignment.build(tmp_path / "a")
    assignment.build(tmp_path / "b")
    files = tree(tmp_path / "a")
    assert files == tree(tmp_path / "b")
    assert {
        "README.md",
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "src/autoencoders/svd.py",
        "cars_sample/car_099.png",
    } <= set(files)
    ours = ("tests/", "grading/")
    assert not [name for name in files if "hidden" in name or name.startswith(ours)]
    # Whole sets: reading compares each file with the set's own table.
    data.turntable(folder=tmp_path / "a" / "datasets" / "turntable")
    data.wheels(folder=tmp_path / "a" / "datasets" / "wheels")
    # Of the talk there are the numbers that notebooks read, and what solutions' figures look like.
    for name in files:
        if name.startswith("slides/"):
            assert re.match(r"slides/(bench_photographs.csv|results_|figures/exercise_)", name)
    assert "slides/figures/exercise_denoiser.png" in files
    assert {"notebooks/latent_sweep.json", "notebooks/denoiser_many.pt"} <= set(files)
    solved = [
        nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ]
    text = "".join(content.decode() for name, content in files.items() if name.endswith(".ipynb"))
    lines = {
        line.strip()
        for notebook in solved
        for cell in notebook.cells
        for region in cell.source.split("### BEGIN SOLUTION")[1:]
        for line in region.split("### END SOLUTION")[0].splitlines()
        if len(line.strip()) > 25
    }
    # What a lesson shows is no secret: a solution may use the same lines again.
    cells = [cell for notebook in solved for cell in notebook.cells]
    shown = "\n".join(c.source for c in cells if "### BEGIN SOLUTION" not in c.source)
    secret = {line for line in lines if line not in shown}
    assert len(secret) > 40 and len(secret) > 0.8 * len(lines)
    assert [line for line in secret if json.dumps(line)[1:-1] in text] == []
    assert "BEGIN SOLUTION" not in text and "your code is missing here" in text
    for name, notebook in (
        (name, json.loads(content)) for name, content in files.items() if name.endswith(".ipynb")
    ):
        assert [cell["outputs"] for cell in notebook["cells"] if cell.get("outputs")] == [], name


@walls
def test_notebook_01_solved_gets_everything_and_untouched_nothing(tmp_path):
    real = grade.Course.of_repository("01")
    for name, notebooks in (("solved", real.notebooks), ("untouched", real.released)):
        save(notebooks["01_svd_baseline"], tmp_path / "in" / name / "01_svd_baseline.ipynb")
    solved, untouched = grade.grade_all(tmp_path / "in", tmp_path / "out", grade.Grader(real))
    full = {name: points for name, (_, points) in real.exercises.items()}
    assert {name: solved[name] for name in full} == full and len(full) >= 3
    assert [
        solved[name]
        for name in ("failed_cells", "not_reproduced", "out_of_order", "stripped", "notes")
    ] == [0, 0, 0, 0, ""]
    assert {name: untouched[name] for name in full} == dict.fromkeys(full, 0)
    said = json.loads((tmp_path / "out" / "results" / "untouched.json").read_text("utf-8"))[
        "exercises"
    ]
    assert all("nothing was written" in said[name]["why"] for name in full)


@walls
def test_the_walls_stand_where_python_lies_in_tmp(tmp_path):
    """As after a clone into /tmp, which inside is another one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        packages = [entry for entry in sys.path if entry.endswith("site-packages")]
        path = os.pathsep.join([str(sandbox.HERE), str(ROOT / "src"), *packages])
        call = [f"{folder}/bin/python", "-c", "import sandbox; print(repr(sandbox.missing()))"]
        said = subprocess.run(
            call, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
    assert said.stdout.strip() == "''", said.stdout + said.stderr


def test_a_sandbox_that_does_not_start_is_no_fault_of_the_student(
    tmp_path, monkeypatch, executed, capsys
):
    monkeypatch.setattr(sandbox, "_walls", lambda *_: [sys.executable, "-c", ""])
    perfect(deepcopy(executed), tmp_path / "in" / "somebody")
    (row,) = grade.grade_all(tmp_path / "in", tmp_path / "out", grade.Grader(course(), LIMITS))
    assert "the grader failed: RuntimeError: the sandbox does not start: it ended" in row["notes"]
    assert (
        "FAILED" in capsys.readouterr().out
        and not (tmp_path / "out" / "results" / "somebody.json").exists()
    )
    monkeypatch.setattr(grade, "missing", lambda: "")
    monkeypatch.setattr(grade.Course, "of_repository", lambda only: course())
    assert grade.main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1


if __name__ == "__main__":
    grade.grade_all(Path(sys.argv[1]), Path(sys.argv[2]), grade.Grader(course(), LIMITS))


def test_a_control_group_holds_a_fork_bomb_of_root():
    """RLIMIT_NPROC does not bind root; this limit is the kernel's, too."""
    group = sandbox._fence(10)
    if group is None:
        pytest.skip("no control group of our own here: not root, or none may be made")
    code = (
        "import os, time\nmade = 0\ntry:\n    while made < 50:\n"
        "        if not os.fork():\n            time.sleep(30)\n        made += 1\n"
        "except OSError:\n    pass\nprint(made, flush=True)\nos.killpg(0, 9)"
    )
    enter = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    command = ["/bin/sh", "-c", enter, "sh", sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    assert int(run.stdout) == 9
    sandbox._remove(group)
    assert not group.exists()
