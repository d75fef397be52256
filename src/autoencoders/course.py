"""Where the course lies, where its data come from and its results go, and how a file is written.

Notebooks, talk, grading and the package itself share this. It needs nothing but Python, so that
who asks for a folder does not wait for torch.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"  # everything that is generated and not committed
COMMITTED = ROOT / "slides"  # results and figures of the committed notebooks


class CorruptFileError(ValueError):
    """A file that is damaged, cut short, or was never one of ours."""


def real_data() -> Path | None:
    """The folder that `COURSE_DATA` names, or None: then the course runs on its own pictures.

    A relative path counts from the repository's root, so that it means the same from a notebook
    and from the shell.
    """
    folder = os.environ.get("COURSE_DATA")
    return (ROOT / folder).resolve() if folder else None


def results_folder() -> Path:
    """The folder of `results.json` and `figures/`: `$COURSE_OUT`, or `build/` where it is not set.

    A relative path counts from the repository's root. Only `make notebooks` asks for `slides/`,
    whose contents are committed.
    """
    return ROOT / (os.environ.get("COURSE_OUT") or BUILD)


def load_results(path: Path) -> dict[str, dict]:
    """The numbers in a file, or in a folder's `results.json`; `{}` where there is no such file.

    Each is a dict of "value", "unit", "split", "n" and "data", as `report.record` explains them.
    Raises CorruptFileError for anything else.
    """
    # Both are asked for: the folder of a run, and a stored file such as results_mnist.json.
    if path.is_dir():
        path = path / "results.json"
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text("utf-8"))
        for name, result in results.items():
            _check(name, result)
    except (ValueError, AttributeError, TypeError) as error:  # what is no JSON is a ValueError
        raise CorruptFileError(
            f"{path} is damaged ({error}): expected what report.record writes; "
            "delete it and run the notebooks again"
        ) from None
    return results


def _check(name: str, result: dict) -> None:
    # NaN would pass through every later comparison unseen.
    complete = {"value", "unit", "split", "n", "data"} <= result.keys()
    if not complete or not math.isfinite(result["value"]):
        raise ValueError(f"{name} has no finite value with unit, split, n and data")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and rename that file to `path` at the end.

    So nobody ever finds half a file under `path`. If the block raises, what stood there before
    stays, and the temporary file goes.
    """
    # In the same folder, because only within one file system is a rename all or nothing.
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        # After the rename there is none; after an error half a file.
        part.unlink(missing_ok=True)
