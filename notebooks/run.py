"""Execute every notebook of this folder in order, each in a fresh kernel, and show the results.

`run.py` writes to build/ alone: executed copies, HTML pages, results.json and figures/.
`run.py 02 05` executes only those whose names begin so, and keeps the numbers of the others.
`run.py --in-place` is for authors: it stores the outputs in the notebooks, and results and figures
in slides/, to commit. `run.py --keep` is for them too: after a run on real data it stores these
numbers, and no picture, as slides/results_mnist.json, slides/results_photographs.json, ...; those
of notebooks that did not run stay. It lives beside what it runs, because it is no part of what a
student reads in `src/`. A failing cell exits with status 1.
"""

import glob
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pypandoc
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from autoencoders import course, data, report

HERE = Path(__file__).resolve().parent
# The longest cell takes about a minute. On a machine that is busy with other things it may take
# many times as long, and is to be waited for; only a cell that hangs is to fail.
CELL_SECONDS = 1800
WIDGET = "application/vnd.jupyter.widget-view+json"


def main(in_place: bool, beginnings: Sequence[str] = ()) -> int:
    if in_place and course.real_data():
        print(
            "COURSE_DATA is set: stored outputs come from cars_sample; unset it, or use `make run`"
        )
        return 1
    # The kernels inherit both: no progress bars in stored outputs, and where results go.
    os.environ["CI"] = "true"
    if in_place:
        os.environ["COURSE_OUT"] = str(course.COMMITTED)
    else:
        os.environ.setdefault("COURSE_OUT", str(course.BUILD))
    # Without the numbers of an earlier run, perhaps on other data: what the table at the end and
    # the talk show was measured in this one.
    if not beginnings:
        (course.results_folder() / "results.json").unlink(missing_ok=True)

    chosen = set()
    for beginning in beginnings or [""]:
        found = [*HERE.glob(f"{glob.escape(beginning)}*.ipynb")]
        if not found:
            print(f"no notebooks {beginning}*.ipynb in {HERE}: nothing to execute")
            return 1 if beginning else 0
        chosen.update(found)
    paths = sorted(chosen)
    course.BUILD.mkdir(exist_ok=True)
    started = time.monotonic()
    for number, path in enumerate(paths, 1):
        notebook = nbformat.read(path, as_version=4)
        if not execute(notebook, f"[{number}/{len(paths)}] {path.stem}", path.name):
            return 1
        tidy(notebook)
        if in_place:
            nbformat.write(notebook, path)
        else:
            nbformat.write(notebook, course.BUILD / path.name)
            html = course.BUILD / f"{path.stem}.html"
            html.write_text(page(notebook, path.stem), "utf-8")
    summary(len(paths), time.monotonic() - started)
    return 0


# One run reads one category, `data.category`; a file keeps those of all, by their names.
MVTEC = "COURSE_DATA/mvtec_ad"
# What is kept of a run on real data, by the data set that a number comes from.
KEPT = {
    "COURSE_DATA/MNIST": "results_mnist.json",
    "COURSE_DATA/FashionMNIST": "results_fashion_mnist.json",
    "COURSE_DATA/cars": "results_photographs.json",
    MVTEC: "results_mvtec_ad.json",
    "COURSE_DATA/paintings": "results_paintings.json",
}


def keep() -> int:
    """Store the numbers of the last run on real data beside the committed ones."""
    results = course.load_results(course.results_folder())
    recorded = course.load_results(course.COMMITTED)  # of the course's own data
    for source, file in KEPT.items():
        chosen = {name: result for name, result in results.items() if result["data"] == source}
        if not chosen:
            print(f"no numbers of {source} in {course.results_folder()}: nothing to keep")
            continue
        before = course.load_results(course.COMMITTED / file)
        if source == MVTEC:
            chosen = of_category(chosen, before)
        else:
            # Of notebooks that were not run now. What none of them records any more goes.
            chosen = {name: before[name] for name in before if name in recorded} | chosen
        text = json.dumps(chosen, indent=1, sort_keys=True, ensure_ascii=False)
        with course.replacing(course.COMMITTED / file) as part:
            part.write_text(text + "\n", "utf-8")
        print(f"slides/{file}: {len(chosen)} numbers of {source}")
    return 0


def of_category(results: dict, kept: dict) -> dict:
    """What is kept of other categories, and these results as those of `data.category`.

    `anomaly.image_pca` becomes `capsule.image_pca`.
    """
    category = data.category()
    others = {name: r for name, r in kept.items() if not name.startswith(f"{category}.")}
    for name, result in results.items():
        others[f"{category}.{name.partition('.')[2]}"] = result
    return others


def execute(notebook, label: str, name: str) -> bool:
    """Run the code cells one by one, with visible progress.

    Where one fails, print notebook, cell and error, and return False.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        store_widget_state=False,
    )
    client.extra_arguments = ["--log-level=40"]  # the kernel warns of its own transport otherwise
    total = len(notebook.cells)
    started = time.monotonic()
    index = 0
    try:
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells, 1):
                if cell.cell_type == "code":
                    progress(label, index, total, started)
                    client.execute_cell(cell, index - 1, execution_count=None)
        progress(label, total, total, started)
        if sys.stdout.isatty():
            print()
        return True
    except (CellExecutionError, CellTimeoutError, DeadKernelError, TimeoutError) as error:
        source = notebook.cells[index - 1].source
        print(f"\n{name}, cell {index} of {total} failed:\n\n{source}\n\n{error}", file=sys.stderr)
        return False


def progress(label: str, index: int, total: int, started: float) -> None:
    """Say which cell is next: in a terminal always in the same line, in a log each in its own."""
    text = f"{label}  cell {index}/{total}  {time.monotonic() - started:.0f} s"
    if sys.stdout.isatty():
        print(f"\r{text}\033[K", end="", flush=True)
    else:
        print(text, flush=True)


def tidy(notebook) -> None:
    """Take out what differs between two runs of the same thing, so that their diff is empty."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    count = 0
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in ("nbgrader", "tags") if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            # Of a widget a still stays; the live one would need a kernel.
            output.get("data", {}).pop(WIDGET, None)


def page(notebook, name: str) -> str:
    """One HTML file that needs no network: its formulas are MathML, its scripts are in it."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Recorded numbers are for programs: the page would have an empty box for each.
            cell.outputs = [o for o in cell.outputs if report.MIME not in o.get("data", {})]
    exporter = HTMLExporter(filters={"markdown2html": to_html})
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    return re.sub(r'<script[^>]*\ssrc="[^"]*"[^>]*>\s*</script>', "", html)


def to_html(text: str) -> str:
    """Markdown to HTML; where there may be formulas, by pandoc, which makes MathML of them."""
    if "$" not in text:
        return markdown2html(text)
    options = ["--mathml", "--wrap=none"]
    return pypandoc.convert_text(text, "html", "gfm+tex_math_dollars", options)


def summary(notebooks: int, seconds: float) -> None:
    """A table of all results, and where to read on."""
    folder = course.results_folder()
    results = course.load_results(folder)
    if results:
        print(f"\n{'result':<46}{'value':>14} {'unit':<18} {'pictures':<16} data")
    for name, result in sorted(results.items()):
        value = report.shown(result["value"])
        pictures = f"{result['n'] or ''} {result['split']}".strip()
        print(f"{name:<46}{value:>14} {result['unit']:<18} {pictures:<16} {result['data']}")
    where = os.path.relpath(folder)
    print(
        f"\n{notebooks} notebooks in {seconds:.0f} s. Read build/*.html; "
        f"figures are in {where}/figures/, numbers in {where}/results.json."
    )


if __name__ == "__main__":
    known = {"--in-place", "--keep"}
    if unknown := [one for one in sys.argv[1:] if one.startswith("-") and one not in known]:
        print(__doc__)
        sys.exit(0 if unknown[0] in ("-h", "--help") else f"{unknown[0]}: no such option")
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    names = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    sys.exit(keep() if "--keep" in options else main("--in-place" in options, names))
