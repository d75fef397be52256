"""The way of every number and figure into README and talk: `results.json` and `figures/`, never typed by hand."""

import json
import math
import os
from numbers import Real
from pathlib import Path

from matplotlib.text import Text

from autoencoders import data


def folder() -> Path:
    """Where results go: `slides/`, but `build/` when COURSE_DATA is set, and `$COURSE_OUT` before either (tests use it)."""
    return data.ROOT / (os.environ.get("COURSE_OUT") or ("build" if data.real_data() else "slides"))


def line(name: str, result: dict) -> str:
    """A recorded number as readers see it: `svd.psnr_rank16 = 25.66 dB (unseen, n = 20, cars_sample)`."""
    value = f"{result['value']:,}" if isinstance(result["value"], int) else f"{result['value']:.4g}"
    about = (
        [result["split"]] * bool(result["split"])
        + [f"n = {result['n']}"] * (result["n"] is not None)
        + [result["data"]]
    )
    return " ".join(filter(None, [name, "=", value, result["unit"], f"({', '.join(about)})"]))


def record(
    name: str,
    value: float,
    unit: str = "",
    split: str = "",
    n: int | None = None,
    source: str | None = None,
) -> None:
    """Print a number and keep it in `results.json` under `name`, e.g. "svd.psnr_rank16", replacing what stood there.

    `split` says whether it is of "seen" or "unseen" pictures, `n` over how many it was averaged, `source` the data set (that
    of the cars unless given). Raises ValueError for what is no finite number, and for a name that is not lower_case.dotted.
    """
    if (
        not all(part.isidentifier() and part == part.lower() for part in name.split("."))
        or "." not in name
    ):
        raise ValueError(
            f"name={name!r}: expected lower-case words joined by dots and underscores, such as 'svd.psnr_rank16'"
        )
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(
            f"{name}={value!r}: expected one finite number; average it, or find out why there is none"
        )
    value = int(value) if isinstance(value, (bool, int)) else float(f"{float(value):.6g}")
    results = load()
    results[name] = {
        "value": value,
        "unit": unit,
        "split": split,
        "n": n,
        "data": source or data.source(),
    }
    path = folder() / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(
        json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
    )
    os.replace(part, path)  # never a half-written file
    print(line(name, results[name]))


def load() -> dict:
    """All recorded numbers: `{name: {"value", "unit", "split", "n", "data"}}`. Raises ValueError for a damaged file."""
    path = folder() / "results.json"
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else {}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path.name} is no JSON ({error}): expected record's; delete it and run the notebooks again"
        ) from None


def save_figure(name: str, figure) -> None:
    """Write a matplotlib figure (or an axes' one) as `figures/<name>.png`, and without pictures in it as `.svg`; bytes repeat.

    The PNG says in points how small its smallest text is, for a test that slides are legible from the last row.
    """
    if not name.isidentifier():
        raise ValueError(
            f"name={name!r}: expected letters, digits and underscores, such as 'svd_energy'"
        )
    figure = getattr(figure, "flat", [figure])[0]
    figure = figure.figure if hasattr(figure, "figure") else figure
    (folder() / "figures").mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()  # labels of ticks come into being here
    sizes = [
        text.get_fontsize()
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip()
    ]
    figure.savefig(
        folder() / "figures" / f"{name}.png",
        metadata={"Software": None, "Smallest text": f"{min(sizes, default=99):.1f}"},
    )
    if not any(axis.images for axis in figure.axes):  # pictures only grow in an SVG
        figure.savefig(
            folder() / "figures" / f"{name}.svg", metadata={"Date": None, "Creator": None}
        )
