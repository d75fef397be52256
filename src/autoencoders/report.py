"""Numbers and figures for README and talk: in `results.json` and `figures/`, never typed."""

import html
import json
import math
import os
from collections.abc import Sequence
from numbers import Real

import pandas as pd
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.text import Text

from autoencoders import course, data

# In a notebook a recorded number also goes into the cell's output, under a type that no viewer
# shows: so what was recorded can be read from a stored notebook and compared with a new run.
MIME = "application/vnd.autoencoders.result+json"


def shown(value: float) -> str:
    """A number with its thousands apart, or with four digits that count: `114,713`, `25.66`."""
    # Whole numbers are counts, and shown in full.
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def record(
    name: str,
    value: float,
    unit: str = "",
    split: str = "",
    n: int | None = None,
    source: str | None = None,
) -> None:
    """Keep a number in `results.json` under `name`, replacing what stood there; show nothing.

    `name` is such as "svd.psnr_rank16". `split` says whether the number is of "seen" or "unseen"
    pictures, `n` over how many it was averaged, `source` which data set it comes from (that of the
    cars unless given). Raises ValueError for what is no finite number, and for a name that is not
    lower_case.dotted.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and part == part.lower() for part in parts):
        raise ValueError(
            f"name={name!r}: expected lower-case words joined by dots and underscores, "
            "such as 'svd.psnr_rank16'"
        )
    folder = course.results_folder()
    results = course.load_results(folder)
    results[name] = {
        "value": _number(name, value),
        "unit": unit,
        "split": split,
        "n": n,
        "data": source or data.source(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Sorted, so that the file does not depend on which notebook ran first.
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False)
    with course.replacing(folder / "results.json") as part:
        part.write_text(text + "\n", "utf-8")
    if get_ipython() is not None:
        # `raw`: the dict is the output itself, by type, and no object to be shown as text.
        display({MIME: {"name": name} | results[name]}, raw=True)


class Table:
    """A comparison as text and as HTML, with the best value of a column in bold; see `table`."""

    def __init__(self, frame: pd.DataFrame, bold: set[tuple[int, int]]):
        self.frame = frame  # of strings
        self.bold = bold  # places (row, column) of the best values

    def __repr__(self) -> str:
        return self.frame.to_string()

    def _repr_html_(self) -> str:
        # By hand, because `to_html` would escape the tags for bold as well.
        cells = self.frame.map(html.escape)
        cells = cells.rename(index=html.escape, columns=html.escape)
        for row, column in self.bold:
            cells.iat[row, column] = f"<b>{cells.iat[row, column]}</b>"
        # Bold by a tag and not by a style, which some viewers of notebooks take out.
        return cells.to_html(escape=False, border=0)


def table(
    rows: dict[str, dict], best: dict[str, str] | None = None, digits: dict[str, int] | None = None
) -> Table:
    """A table for the end of a cell, a row for each name.

    `rows` is `{"JPEG": {"bytes a picture": 2060, "PSNR [dB]": 28.0}, ...}`: the columns carry the
    units. A value is a number, text, or `(value, low, high)` for one with its interval; what a row
    lacks becomes a dash. `best` says of which columns the "lowest" or the "highest" value is bold,
    `digits` how many digits stand behind the point, where four that count are not right. Raises
    ValueError for a column that no row has.

    >>> table({"JPEG": {"bytes": 2060}, "AVIF": {"bytes": 1149}}, best={"bytes": "lowest"})
          bytes
    JPEG  2,060
    AVIF  1,149
    """
    best, digits = best or {}, digits or {}
    # Each once, in the order in which the rows first name them.
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    for column in (*best, *digits):
        if column not in columns:
            raise ValueError(f"column {column!r}: expected one of {', '.join(columns)}")
    frame = pd.DataFrame("–", index=list(rows), columns=columns)
    for name, row in rows.items():
        for column, value in row.items():
            frame.loc[name, column] = _cell(value, digits.get(column))
    bold = set()
    for column, which in best.items():
        values = {i: _middle(row[column]) for i, row in enumerate(rows.values()) if column in row}
        extreme = {"lowest": min, "highest": max}[which](values.values())
        at = columns.index(column)
        # Equal values are all best.
        bold |= {(i, at) for i, value in values.items() if value == extreme}
    return Table(frame, bold)


def _middle(value) -> float:
    return value[0] if isinstance(value, tuple) else value


def _cell(value, digits: int | None) -> str:
    """One value of a table as text."""
    if isinstance(value, str):
        return value
    if value is None:
        return "–"
    if isinstance(value, tuple):
        middle, low, high = (_cell(part, digits) for part in value)
        return f"{middle} [{low}, {high}]"
    value = value.item() if hasattr(value, "item") else value
    if not math.isfinite(value):
        return "–"
    return shown(value) if digits is None else f"{value:,.{digits}f}"


def table_of(names: Sequence[str]) -> Table:
    """Recorded numbers with their unit, their pictures and their data, by name."""
    results = load()
    rows = {}
    for name in names:
        result = results[name]
        pictures = "" if result["n"] is None else f"{result['n']} {result['split']}".strip()
        rows[name] = {
            "value": result["value"],
            "unit": result["unit"],
            "pictures": pictures,
            "data": result["data"],
        }
    return table(rows)


def _number(name: str, value) -> int | float:
    """A Python number, floats to six digits: more would differ between two machines for nothing."""
    if hasattr(value, "item"):  # of NumPy or torch
        value = value.item()
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(
            f"{name}={value!r}: expected one finite number; "
            "average it, or find out why there is none"
        )
    if isinstance(value, int):
        return int(value)  # True becomes 1
    return float(f"{float(value):.6g}")


def load() -> dict[str, dict]:
    """All recorded numbers, `{name: {"value", "unit", "split", "n", "data"}}`.

    What the notebooks of this run have not recorded yet comes from the committed results, so that
    each notebook also runs alone; but not with `COURSE_DATA`, since those are of other pictures,
    nor with `COURSE_OUT`. Raises CorruptFileError for a damaged file.
    """
    own = course.load_results(course.results_folder())
    if course.real_data() or os.environ.get("COURSE_OUT"):
        return own
    # What this run has recorded comes first.
    return course.load_results(course.COMMITTED) | own


def save_figure(name: str, figure) -> None:
    """Write a matplotlib figure as `figures/<name>.png`, and as `.svg` unless it shows pictures.

    `figure` may also be an axes of it, or an array of them. In the style of `plots.use_style` the
    same figure gives the same bytes. The PNG says in points how small its smallest text is, for a
    test that slides are legible from the last row.
    """
    if not name.isidentifier():
        raise ValueError(
            f"name={name!r}: expected letters, digits and underscores, such as 'svd_energy'"
        )
    figure = _figure_of(figure)
    folder = course.results_folder() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    # Without matplotlib's version, which would change the bytes and not the figure.
    about = {"Software": None, "Smallest text": f"{_smallest_text(figure):.1f}"}
    figure.savefig(folder / f"{name}.png", metadata=about)
    if not any(axis.images for axis in figure.axes):  # an SVG of pictures would be larger
        # Without a date, so that the same figure gives the same bytes.
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def _figure_of(figure) -> Figure:
    if hasattr(figure, "flat"):  # an array of axes
        figure = figure.flat[0]
    return figure if isinstance(figure, Figure) else figure.figure


def _smallest_text(figure: Figure) -> float:
    """The size of the smallest visible text, in points; 99 where there is none."""
    figure.draw_without_rendering()  # labels of ticks come into being here
    texts = [text for text in figure.findobj(Text) if text.get_visible()]
    return min((text.get_fontsize() for text in texts if text.get_text().strip()), default=99)
