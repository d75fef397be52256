"""The student version in build/assignment/: notebooks without solutions, and what they need.

nbgrader's own preprocessors do it. Hidden tests are in `hidden.py`, in no notebook, and so never
come along.
"""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbgrader import preprocessors
from traitlets.config import Config

from autoencoders.course import BUILD, ROOT

HERE = Path(__file__).resolve().parent
CARRIED = (
    "src",
    "cars_sample",
    "datasets/turntable",
    "datasets/wheels",
    "datasets/bodies",
    "pyproject.toml",
    "requirements.lock",
    "LICENSE",
    "notebooks/run.py",
    "notebooks/*.aez",
    "notebooks/*.aew",
    "notebooks/*.avif",
    "notebooks/*.json",
    "notebooks/*.pt",
    "slides/bench_photographs.csv",
    "slides/results_*.json",
    "slides/figures/exercise_*.png",  # what a solution's figure looks like
)
STUB = Config()
STUB.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("your code is missing here")'
}
STEPS = (
    "CheckCellMetadata",
    "LockCells",
    "ClearSolutions",
    "ClearOutput",
    "ClearHiddenTests",
    "ClearMarkScheme",
    "ComputeChecksums",
)


def release(notebook):
    """The student version of a solved notebook, which stays as it is.

    Raises what nbgrader raises for bad cells.
    """
    notebook = copy.deepcopy(notebook)
    for name in STEPS:
        notebook, _ = getattr(preprocessors, name)(config=STUB).preprocess(notebook, {})
    return notebook


def carried() -> list[str]:
    """The files of the repository that go along as they are."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *CARRIED], cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    if not any(names):  # no git: an unpacked archive
        places = [path for name in CARRIED for path in ROOT.glob(name)]
        paths = [
            path for place in places for path in ([place] if place.is_file() else place.rglob("*"))
        ]
        names = [
            str(path.relative_to(ROOT))
            for path in paths
            if path.is_file() and "__pycache__" not in path.parts
        ]
    return sorted(filter(None, names))


def build(target: Path) -> None:
    """Write the whole folder, replacing what stood there."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    handout = {
        str(path.relative_to(HERE / "handout")): path for path in (HERE / "handout").iterdir()
    }
    for name, path in ({name: ROOT / name for name in carried()} | handout).items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, part / name)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        nbformat.write(release(nbformat.read(path, as_version=4)), part / "notebooks" / path.name)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


if __name__ == "__main__":
    out = Path(sys.argv[1]) if sys.argv[1:] else BUILD / "assignment"
    build(out)
    print(f"{out}: give this folder to your students, README.md says how to hand in")
