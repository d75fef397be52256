"""Numbers and figures for README and talk: in `results.json` and `figures/`, never typed."""

import json
import math
import os
from numbers import Real

from matplotlib.figure import Figure
from matplotlib.text import Text

from autoencoders import course, data


def shown(value: float) -> str:
    """A number with its thousands apart, or with four digits that count: `114,713`, `25.66`."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def line(name: str, result: dict) -> str:
    """A recorded number as readers see it: `svd.psnr = 25.66 dB (unseen, n = 20, cars_sample)`."""
    words = [name, "=", shown(result["value"])]
    if result["unit"]:
        words.append(result["unit"])
    about = [result["data"]]
    if result["n"] is not None:
        about.insert(0, f"n = {result['n']}")
    if result["split"]:
        about.insert(0, result["split"])
    return f"{' '.join(words)} ({', '.join(about)})"


def record(
    name: str,
    value: float,
    unit: str = "",
    split: str = "",
    n: int | None = None,
    source: str | None = None,
) -> None:
    """Print a number and keep it in `results.json` under `name`, replacing what stood there.

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
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False)
    with course.replacing(folder / "results.json") as part:
        part.write_text(text + "\n", "utf-8")
    print(line(name, results[name]))


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
