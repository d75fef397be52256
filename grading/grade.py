"""Grade a folder of submissions: `python grading/grade.py FOLDER`.

Writes build/grades/grades.csv and a page for each student.

Each notebook is executed again in a sandbox (`sandbox.py`), with the tests in their original
wording. Points of an exercise count if its visible test passes there and its hidden test
(`hidden.py`), which asks the code for values and compares them here, passes too.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import sys
import time
import tomllib
import traceback
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import jinja2
import nbformat
from tqdm import tqdm

import compare
from assignment import release
from autoencoders.course import BUILD, COMMITTED, ROOT, replacing
from sandbox import HERE, Died, Limits, Sandbox, missing

warnings.filterwarnings("ignore", module="nbformat")  # of cells that are named twice
LARGEST_NOTEBOOK, LARGEST_SUBMISSION, MOST_FILES, MOST_CELLS = 30_000_000, 100_000_000, 500, 2000
DEADLY = ("died", "stuck")  # what a cell does to its kernel
FORGED = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)  # what a reply of another form makes of the code that reads it
CRITERIA = ("documentation", "talk", "extra_ideas")
FORM = """# Your points for {student}. This file was written once; later runs read it and
# never change it.
# Put a number instead of "" and run `make grade` again.
{comment}[answers]
{answers}
[criteria]
documentation = ""
talk = ""
extra_ideas = ""

[remarks]
text = ""
"""


# ---- What was set ----


@dataclass
class Course:
    """The solved notebooks by name, hidden tests by exercise, and bands of recorded numbers."""

    notebooks: dict
    tests: dict
    bands: dict = field(default_factory=dict)
    results: str = "{}"  # numbers that an earlier notebook records and a later one reads
    left_out: frozenset = (
        frozenset()
    )  # names of notebooks that are not graded this time, nor extra ones

    def __post_init__(self):
        self.released = {name: release(notebook) for name, notebook in self.notebooks.items()}
        self.exercises, self.answers = {}, {}  # name -> notebook, points
        for name, notebook in self.notebooks.items():
            for _, about in marked(notebook):
                if about.get("grade") and about.get("solution"):
                    self.answers[about["grade_id"]] = (name, about["points"])
                elif about.get("grade"):
                    self.exercises[about["grade_id"].removesuffix("_test")] = (
                        name,
                        about["points"],
                    )
        if lacking := sorted(set(self.exercises) - set(self.tests)):
            raise ValueError(
                f"no hidden test of {', '.join(lacking)}: "
                "expected one for each autograded exercise; write it into hidden.py"
            )
        self.known = {
            cell.source.strip() for notebook in self.released.values() for cell in notebook.cells
        }

    @classmethod
    def of_repository(cls, only: str = "") -> "Course":
        """That of the committed notebooks whose names begin with `only`."""
        import hidden

        paths = sorted((ROOT / "notebooks").glob(f"{only}*.ipynb"))
        if not paths:
            raise ValueError(
                f"no notebook begins with {only!r}: expected one of those in notebooks/, such as 01"
            )
        notebooks = {path.stem: nbformat.read(path, as_version=4) for path in paths}
        bands = tomllib.loads((ROOT / "tests" / "bands.toml").read_text("utf-8"))
        left_out = (
            frozenset(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) - notebooks.keys()
        )
        return cls(
            notebooks,
            hidden.TESTS,
            bands,
            (COMMITTED / "results.json").read_text("utf-8"),
            left_out,
        )


def marked(notebook):
    """Its cells that carry nbgrader's metadata, with them."""
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader")
        if isinstance(about, dict) and isinstance(about.get("grade_id"), str):
            yield cell, about


# ---- What was handed in ----


def files_of(folder: Path) -> list[Path]:
    """The files of a submission, sorted; no links, nothing hidden.

    ValueError where there are too many, or too large ones.
    """
    paths = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__pycache__")
        paths += [Path(parent, name) for name in sorted(names) if name[0] != "."]
        if len(paths) > MOST_FILES:
            raise ValueError(f"more than {MOST_FILES} files: nothing of it was graded")
    paths = [path for path in paths if path.is_file() and not path.is_symlink()]
    if (size := sum(path.stat().st_size for path in paths)) > LARGEST_SUBMISSION:
        raise ValueError(
            f"{size:,} bytes, expected at most {LARGEST_SUBMISSION:,}: nothing of it was graded"
        )
    return paths


def read(path: Path):
    """A notebook that keeps to the format. ValueError says why it does not."""
    try:
        if path.stat().st_size > LARGEST_NOTEBOOK:
            raise ValueError(
                f"{path.stat().st_size:,} bytes, expected at most {LARGEST_NOTEBOOK:,}"
            )
        text = path.read_text("utf-8")
        if text.count('"cell_type"') > MOST_CELLS:
            raise ValueError(f"more than {MOST_CELLS} cells")
        _, notebook = nbformat.validator.normalize(nbformat.reads(text, as_version=4))
        nbformat.validate(notebook)
    except Exception as error:  # whatever a damaged file raises
        raise ValueError(
            f"{path.name} is no readable notebook: "
            f"{str(error).strip().splitlines()[0][:300] if str(error) else error!r}"
        ) from None
    if not any(cell.source.strip() for cell in notebook.cells):
        raise ValueError(f"{path.name} is empty")
    return notebook


def recognise(course: Course, readable: dict) -> dict:
    """Which file is which notebook of the course: by the names of its exercises, else its own."""
    ids = {
        path: {about["grade_id"] for _, about in marked(notebook)}
        for path, notebook in readable.items()
    }
    found = {}
    for name, notebook in course.notebooks.items():
        own = {about["grade_id"] for _, about in marked(notebook)}
        rank = {
            p: (not own & ids[p], p.stem != name, -len(own & ids[p]), str(p))
            for p in readable
            if p not in found.values()
        }
        best = min((p for p in rank if p.stem == name or own & ids[p]), key=rank.get, default=None)
        if best:
            found[name] = best
    return found


def restored(solved, handed_in) -> tuple[list, dict]:
    """What to execute, locked cells as they were, and faults by exercise.

    An entry is `[cell number, source, its name in the course or None]`.

    A locked cell that was deleted comes back before the next one of the course that is there, under
    a number beyond all others.
    """
    original = {about["grade_id"]: cell for cell, about in marked(solved)}
    locked = [
        about["grade_id"]
        for cell, about in marked(solved)
        if cell.cell_type == "code" and not about.get("solution")
    ]
    names = {
        id(cell): about["grade_id"]
        for cell, about in marked(handed_in)
        if about["grade_id"] in original
    }
    plan = []
    for number, cell in enumerate(handed_in.cells, 1):
        name = names.get(id(cell))
        if name in locked or (cell.cell_type == "code" and cell.source.strip()):
            plan.append([number, original[name].source if name in locked else cell.source, name])
    counts, order = Counter(names.values()), list(original)
    for name in (name for name in reversed(locked) if not counts[name]):
        later = order[order.index(name) + 1 :]
        place = next((i for i, entry in enumerate(plan) if entry[2] in later), len(plan))
        plan.insert(
            place, [len(handed_in.cells) + order.index(name) + 1, original[name].source, name]
        )
    copies = {
        name: f"{n} cells are named {name}: which one counts? Expected one; delete the copies"
        for name, n in counts.items()
        if n > 1
    }
    return plan, {name.removesuffix("_test"): why for name, why in copies.items()}


# ---- Grading ----


def deadly(cells: list, fresh: dict) -> list[int]:
    """Numbers of the cells that did not come to an end, or took everything with them."""
    return [n for n, _ in cells if n not in fresh or fresh[n]["state"] in DEADLY]


@dataclass
class Grader:
    course: Course
    limits: Limits = field(default_factory=Limits)
    trust: bool = False

    @cached_property
    def own_key(self) -> bytes:
        """Changes with everything that grades."""
        course = [self.course.notebooks, self.course.bands, self.course.results]
        about = [asdict(self.limits), self.trust, os.environ.get("GRADING_SEED"), course]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        sources = [
            path
            for place in (HERE, ROOT / "src", ROOT / "cars_sample")
            for path in sorted(place.rglob("*"))
            if path.is_file()
        ]
        for path in [
            *(p for p in sources if "__pycache__" not in p.parts and p.suffix != ".html"),
            ROOT / "requirements.lock",
        ]:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.digest()

    def key(self, folder: Path) -> str:
        """Changes with the submission, too."""
        digest = hashlib.sha256(self.own_key)
        try:
            for path in files_of(folder):
                digest.update(
                    str(path.relative_to(folder)).encode("utf-8", "surrogateescape")
                    + hashlib.sha256(path.read_bytes()).digest()
                )
        except ValueError as error:
            digest.update(str(error).encode())
        return digest.hexdigest()

    def blank(self, student: str, *problems: str) -> dict:
        """The result of one who has nothing."""
        exercises = {
            n: {"points": 0, "of": of, "why": "not graded", "notebook": book}
            for n, (book, of) in self.course.exercises.items()
        }
        about = {"student": student, "problems": [*problems], "exercises": exercises}
        return about | {"notebooks": {}, "answers": {}, "files": [], "evidence": {}}

    def grade(self, folder: Path) -> dict:
        """Everything about one submission but the instructor's own points."""
        result, course = self.blank(folder.name), self.course
        try:
            paths = files_of(folder)
        except ValueError as error:
            paths = []
            result["problems"].append(str(error))
        readable, unreadable = self.readable(paths)
        found = recognise(course, readable)
        for name, solved in course.notebooks.items():
            own = [exercise for exercise, (book, _) in course.exercises.items() if book == name]
            path = found.get(name)
            if path:
                report, outcomes = self.notebook(folder, path, readable[path], solved, own)
                if path.stem != name:
                    note = f"handed in as {path.name}, recognised by the names of its exercises"
                    report["note"] = note
            else:
                reasons = [why for bad, why in unreadable.items() if bad.stem == name]
                reason = [*reasons, f"{name}.ipynb was not handed in"][0]
                report, outcomes = {"note": reason, "file": None}, dict.fromkeys(own, reason)
            result["notebooks"][name] = report
            for exercise in own:
                about = self.of_exercise(exercise, outcomes[exercise])
                result["exercises"][exercise] = about | {"notebook": name}
            for answer, (book, _) in course.answers.items():
                if book == name:
                    written = readable[path] if path else nbformat.v4.new_notebook()
                    result["answers"][answer] = self.of_answer(answer, written)
        for path in [path for path in readable if path not in found.values()]:
            report, _ = self.notebook(folder, path, readable[path], nbformat.v4.new_notebook(), [])
            report["note"] = "an extra notebook"
            result["notebooks"][str(path.relative_to(folder))] = report
        for path, why in unreadable.items():
            if path.stem not in course.notebooks or path.stem in found:
                result["problems"].append(why)
        cells = [cell for notebook in readable.values() for cell in notebook.cells]
        result["files"] = self.files(folder, paths, compare.claims(cells))
        result["evidence"] = self.evidence(cells, paths)
        return result

    def readable(self, paths: list[Path]) -> tuple[dict, dict]:
        """Notebooks among the files of a submission, and what is wrong with others, by path."""
        readable, unreadable = {}, {}
        for path in paths:
            if path.suffix != ".ipynb" or path.stem in self.course.left_out:
                continue
            try:
                readable[path] = read(path)
            except ValueError as error:
                unreadable[path] = str(error)
        return readable, unreadable

    def of_exercise(self, exercise: str, why: str) -> dict:
        """The points of an exercise that fails because of `why`, or passes if that is empty."""
        points = self.course.exercises[exercise][1]
        return {"points": 0 if why else points, "of": points, "why": why}

    def of_answer(self, answer: str, notebook) -> dict:
        """A written answer, which a human reads."""
        texts = [cell.source for cell, about in marked(notebook) if about["grade_id"] == answer]
        blank = not texts or texts[0].strip() in self.course.known | {""}
        text = "\n\n".join(texts)[:20_000]
        return {"of": self.course.answers[answer][1], "text": text, "blank": blank}

    def notebook(
        self, folder: Path, path: Path, notebook, solved, exercises: list
    ) -> tuple[dict, dict]:
        """Execute a notebook again and ask the hidden tests.

        Returns what to tell about it, and why each exercise fails ("" for a pass).
        """
        plan, faults = restored(solved, notebook)
        where = {name: number for number, _, name in plan}
        wanted = {name: where[f"{name}_test"] for name in exercises}
        open_to_all = {name: n for name, n in wanted.items() if name not in faults}
        fresh, hidden, skipped = self.executed(folder, path, plan, open_to_all)
        why = {n: skipped.get(n) or complaint(fresh.get(n), self.limits) for n, _, _ in plan}
        outcomes = {}
        for name, number in wanted.items():
            found = faults.get(name) or why[number]
            if self.unwritten(name, plan):
                found = f"nothing was written into the cell of {name}" + (found and f": {found}")
            outcomes[name] = found or hidden.get(
                name, "the hidden test could not be asked: the notebook did not get to its end"
            )
        changed = {}
        for number, source, name in plan:
            if number > len(notebook.cells) or notebook.cells[number - 1].source != source:
                changed[number] = name
        shown = {n: outline for n, outline in fresh.items() if n not in {*changed, *skipped}}
        findings = self.findings(notebook.cells, shown, solved)
        about = {"file": str(path.relative_to(folder)), "note": "", "cells": len(plan)}
        about["failed"] = [{"cell": n, "what": what} for n, what in why.items() if what]
        return about | {"findings": findings, "restored": sorted(changed.values())}, outcomes

    def unwritten(self, name: str, plan: list) -> bool:
        """Whether the cell of an exercise is still as it was handed out."""
        sources = [source.strip() for _, source, part in plan if part == name]
        return any(source in self.course.known for source in sources)

    def findings(self, cells: list, shown: dict, solved) -> list:
        """Stored outputs that the code does not produce."""
        ignored = set()
        for cell in solved.cells:
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                ignored.add(cell.get("id"))
        return compare.outputs(cells, shown, self.course.bands, ignored, self.course.known)

    def executed(
        self, folder: Path, path: Path, plan: list, tests: dict[str, int]
    ) -> tuple[dict, dict, dict]:
        """What came of the cells, of the hidden tests, and why cells were left out.

        By number, name and number. `tests` are the numbers of exercises' visible tests: a hidden
        one is asked where that passes.
        """
        skipped, started = {}, time.monotonic()
        # A cell that kills everything is left out, so that the others get what is theirs.
        for _ in range(3):
            fresh, hidden, reason = {}, {}, ""
            cells = [[number, source] for number, source, _ in plan if number not in skipped]
            try:
                with Sandbox(folder, self.limits, self.trust, self.course.results) as box:
                    self.run_cells(box, str(path.parent.relative_to(folder)), cells, fresh)
                    if not deadly(cells, fresh):
                        for name, number in tests.items():
                            if not complaint(fresh.get(number), self.limits):
                                hidden[name] = self.hidden(name, box)
                        break
            except (Died, *FORGED) as error:
                reason = f"the sandbox died: {error}"
            killers = deadly(cells, fresh)
            if not killers:
                break
            skipped[killers[0]] = reason or complaint(fresh.get(killers[0]), self.limits)
            if time.monotonic() > started + self.limits.wall:
                break
        return fresh, hidden, skipped

    def run_cells(self, box: Sandbox, within: str, cells: list, fresh: dict) -> None:
        """Execute cells in a sandbox; what comes of each is put into `fresh` as it comes."""
        options = {"within": within, "seconds": self.limits.cell, "cap": self.limits.output}
        for reply in box.replies("run", cells=cells, **options):
            if "end" in reply:
                return
            fresh[int(reply["cell"])] = checked(reply)

    def hidden(self, name: str, box: Sandbox) -> str:
        """Why a hidden test fails, or ""."""
        try:
            self.course.tests[name](box.ask)
            return ""
        except AssertionError as error:
            return f"hidden test: {str(error)[:600] or 'a wrong value'}"
        except Exception as error:  # an answer of a shape or kind that the test did not count with
            what = f"{type(error).__name__}: {str(error)[:300]}"
        return f"hidden test: an answer that cannot be compared ({what})"

    def files(self, folder: Path, paths: list, claims: dict) -> list[dict]:
        """Compressed files, decoded again, against their claims; and claims without a file."""
        names = [
            str(path.relative_to(folder)) for path in paths if path.suffix in (".svd", ".aez")
        ][:20]
        reports = []
        for name in names:
            claim = claims.get(Path(name).name)
            try:
                with Sandbox(folder, self.limits, self.trust) as box:
                    measured = box.request("decode", file=name, original=claim and claim["picture"])
                    if "error" not in measured:
                        values = [float(value) for value in measured["psnr"] if value is not None]
                        mean = (
                            sum(values) / len(values)
                            if values and len(values) == len(measured["psnr"])
                            else None
                        )
                        measured = {
                            "bytes": int(measured["bytes"]),
                            "psnr": mean,
                            "pictures": len(measured["psnr"]),
                        }
            except (Died, *FORGED) as error:
                measured = {"error": f"the sandbox died: {error}"}
            reports.append({"name": name, **measured, "verdict": compare.verdict(claim, measured)})
        there = {Path(name).name for name in names}
        return reports + [
            {"name": name, "verdict": "claimed, but not handed in"}
            for name in claims
            if name not in there
        ]

    def evidence(self, cells: list, paths: list) -> dict:
        """What speaks for documentation, talk and extra ideas, beyond what the assignment holds."""
        own = [cell for cell in cells if cell.source.strip() not in self.course.known]
        prose = [cell.source for cell in own if cell.cell_type == "markdown"]
        code = [cell for cell in own if cell.cell_type == "code"]
        extra = [cell for cell in code if "nbgrader" not in cell.metadata]
        images = [
            o["data"]["image/png"]
            for cell in extra
            for o in cell.outputs
            if "image/png" in o.get("data", {})
        ]
        return {
            "words of prose": sum(len(re.findall(r"\w+", text)) for text in prose),
            "words in comments": sum(compare.comment_words(cell.source) for cell in code),
            "code cells of their own": len(extra),
            "figures of their own": len(images),
            "sections": [
                line.lstrip("# ")[:120]
                for text in prose
                for line in text.splitlines()
                if re.match(r"#+ ", line)
            ][:50],
            "slides": [
                f"{path.name}: {slides(path)}"
                for path in paths
                if path.suffix in (".pptx", ".pdf", ".html", ".md")
            ],
            "gallery": [
                image for image in images if re.fullmatch(r"[A-Za-z0-9+/=\s]{1,1000000}", image)
            ][:8],
        }


def together(items: list) -> list:
    """What is said of several cells, said once: `{"cells", "kind", "what"}`."""
    said = {}
    for item in items:
        said.setdefault((item.get("kind", "fails"), item["what"]), []).append(item["cell"])
    return [
        {"cells": ", ".join(map(str, cells)), "kind": kind, "what": what}
        for (kind, what), cells in said.items()
    ]


def numbers(records: dict) -> dict[str, float]:
    """Recorded numbers that are numbers; whole ones stay so, for they are compared exactly."""
    return {str(k): v for k, v in records.items() if type(v) in (int, float)}


def checked(reply: dict) -> dict:
    """A reply on a cell, as far as it has the right form: it may be forged."""
    return {
        "state": str(reply.get("state")),
        "text": str(reply.get("text"))[:200_000],
        "records": numbers(reply.get("records") or {}),
        "images": [str(kind) for kind in reply.get("images") or []],
        "error": str(reply["error"])[:2000] if reply.get("error") else None,
    }


def complaint(fresh: dict | None, limits: Limits) -> str:
    """Why a cell did not pass in the re-run, or ""."""
    if fresh is None:
        return "not executed"
    reasons = {
        "late": f"stopped after {limits.cell} seconds",
        "loud": f"stopped after {limits.output:,} bytes of output",
        "stuck": f"did not stop after {limits.cell} seconds",
        "died": "the kernel died",
    }
    return reasons.get(fresh["state"]) or (
        "" if fresh["state"] == "done" and not fresh["error"] else fresh["error"] or "not executed"
    )


def slides(path: Path) -> str:
    """How many slides a talk has, as far as its file says so; nothing in it is unpacked."""
    try:
        if path.suffix == ".pptx":
            count = sum(
                bool(re.fullmatch(r"ppt/slides/slide\d+\.xml", name))
                for name in zipfile.ZipFile(path).namelist()
            )
        elif path.suffix == ".pdf":
            count = len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))
        else:
            count = len(re.findall(r"^##? |<section\b", path.read_text("utf-8", "replace"), re.M))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return f"cannot be read ({error})"
    return f"{count} slides" if count else f"{path.stat().st_size:,} bytes"


# ---- The instructor's own points, pages, table ----


def form(path: Path, student: str, answers: dict) -> dict:
    """Points that the instructor gave, `{"answers", "criteria", "text", "fault"}`.

    The form is written if there is none.
    """
    if not path.exists():
        lines = "".join(f'{name} = ""  # of {about["of"]}\n' for name, about in answers.items())
        write(path, FORM.format(student=student.replace("\n", " "), comment="\n", answers=lines))
    try:
        given = tomllib.loads(path.read_text("utf-8"))
        tables = {
            part: {k: v for k, v in given.get(part, {}).items() if v != ""}
            for part in ("answers", "criteria")
        }
        for name, value in (item for table in tables.values() for item in table.items()):
            if (
                not isinstance(value, int | float)
                or isinstance(value, bool)
                or not 0 <= value < 1e6
            ):
                raise ValueError(f'{name} = {value!r}: expected a number of points, or ""')
        return {**tables, "text": str(given.get("remarks", {}).get("text", "")), "fault": ""}
    except (ValueError, AttributeError) as error:  # TOMLDecodeError is a ValueError
        return {
            "answers": {},
            "criteria": {},
            "text": "",
            "fault": f"{path.name}: {error}; mend it and run again",
        }


def row(result: dict, points: dict) -> dict:
    """A student's line of grades.csv."""
    notebooks = result["notebooks"].values()
    kinds = Counter(finding["kind"] for about in notebooks for finding in about.get("findings", []))
    automatic = sum(exercise["points"] for exercise in result["exercises"].values())
    answers = sum(points["answers"].values())
    as_claimed = sum(file["verdict"] == "as claimed" for file in result["files"])
    notes = [
        *result["problems"],
        *(about["note"] for about in notebooks if about["note"]),
        *([points["fault"]] if points["fault"] else []),
    ]
    return {
        "student": result["student"],
        **{name: about["points"] for name, about in result["exercises"].items()},
        "automatic": automatic,
        "answers": answers if points["answers"] else "",
        **{name: points["criteria"].get(name, "") for name in CRITERIA},
        "total": automatic + answers + sum(points["criteria"].values()),
        "failed_cells": sum(len(about.get("failed", [])) for about in notebooks),
        "not_reproduced": kinds["different"],
        "out_of_order": kinds["order"],
        "stripped": kinds["stripped"],
        "files_as_claimed": f"{as_claimed} of {len(result['files'])}",
        "notes": "; ".join(notes),
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, "utf-8", errors="replace")


def grade_all(
    submissions: Path, out: Path, grader: Grader, workers: int | None = None
) -> list[dict]:
    """Grade what changed of every folder in `submissions`, several side by side.

    Writes pages and table. Returns the table's rows.
    """
    folders = [path for path in submissions.iterdir() if path.is_dir() and not path.is_symlink()]
    folders = sorted(path for path in folders if path.name[0] != ".")
    if not folders:
        raise ValueError(
            f"no folders in {str(submissions)!r}: "
            "expected one a student, with notebooks in it; collect some there"
        )
    rows = {}
    environment = jinja2.Environment(autoescape=True)
    environment.filters["together"] = together
    page = environment.from_string((HERE / "page.html").read_text("utf-8"))

    def one(folder: Path) -> str:
        result, said = graded(folder, out, grader)
        points = form(submissions / f"{folder.name}.points.toml", folder.name, result["answers"])
        line = row(result, points)
        about = {"r": result, "row": line, "points": points, "trust": grader.trust}
        write(out / f"{folder.name}.html", page.render(**about, criteria=CRITERIA))
        rows[folder.name] = line
        return f"{folder.name}: {said}, {line['automatic']} automatic points"

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(workers or cores)
    silent = not sys.stderr.isatty()
    try:
        tasks = [pool.submit(one, folder) for folder in folders]
        done = as_completed(tasks)
        for task in tqdm(done, total=len(tasks), unit="submission", disable=silent):
            tqdm.write(task.result())
    except KeyboardInterrupt:
        print(
            "\ninterrupted: what is graded stays graded; give the same command again to go on",
            file=sys.stderr,
        )
        os._exit(130)  # sandboxes die with us
    table = [rows[folder.name] for folder in folders]
    write(out / "grades.csv", as_csv(table))
    left = sorted({page.stem for page in out.glob("*.html")} - set(rows))
    if left:
        print(f"{out} still has pages of another folder: {', '.join(left)}", file=sys.stderr)
    return table


def graded(folder: Path, out: Path, grader: Grader) -> tuple[dict, str]:
    """The result of a submission, from the run before if nothing changed, and which it is."""
    path, key = out / "results" / f"{folder.name}.json", grader.key(folder)
    with suppress(OSError, ValueError, KeyError):
        result = json.loads(path.read_text("utf-8"))
        if result["key"] == key:
            return result, "as before"
    try:
        result = {"key": key, **grader.grade(folder)}
        write(path, json.dumps(result))
        return result, "graded"
    # A fault of ours, not of the student: shown, not kept, so that the next run tries again.
    except Exception:
        trouble = traceback.format_exc()
        print(trouble, file=sys.stderr)
        last = trouble.splitlines()[-1]
        return grader.blank(folder.name, f"the grader failed: {last}"), "FAILED"


def as_csv(table: list[dict]) -> str:
    """Rows as a table for spreadsheets."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    for line in table:
        safe = {}
        for name, value in line.items():
            # What begins like a formula must not become one.
            formula = isinstance(value, str) and value[:1] in tuple("=+-@\t")
            safe[name] = f"'{value}" if formula else value
        writer.writerow(safe)
    return text.getvalue()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="grading/grade.py", description="Grade a folder of submissions."
    )
    parser.add_argument(
        "submissions",
        type=Path,
        metavar="SUBMISSIONS",
        help="a folder that holds one folder a student",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=BUILD / "grades",
        metavar="FOLDER",
        help="default: build/grades",
    )
    parser.add_argument(
        "--only", default="", metavar="01", help="only notebooks whose names begin so"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="submissions side by side (default: one a processor core)",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run without a sandbox, where there is none: submissions can do what you can do",
    )
    arguments = parser.parse_args(argv)
    os.environ.pop("COURSE_DATA", None)  # answers are those for cars_sample
    sys.stdout.reconfigure(errors="backslashreplace")  # a folder may have any name
    try:
        if not arguments.trust and (why := missing()):
            raise ValueError(
                f"no sandbox: {why}. Install bubblewrap 0.8 or later (Linux), or pass --trust to "
                "run submissions without one"
            )
        if not arguments.submissions.is_dir():
            raise ValueError(
                f"no folder {str(arguments.submissions)!r}: "
                "expected one that holds one folder a student"
            )
        grader = Grader(Course.of_repository(arguments.only), trust=arguments.trust)
        table = grade_all(arguments.submissions, arguments.out, grader, arguments.workers)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{arguments.out}/grades.csv and a page a student beside it; "
        f"your own points go into {arguments.submissions}/*.points.toml"
    )
    return int(any("the grader failed" in line["notes"] for line in table))


if __name__ == "__main__":
    sys.exit(main())
