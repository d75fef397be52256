"""Execute every notebook of this folder in order, each in a fresh kernel, and say where the results are.

`run.py` writes executed copies and HTML pages to build/; `run.py --in-place` stores the outputs in the notebooks, to commit.
It lives beside what it runs, because it is no part of what a student reads in `src/`. A failing cell exits with status 1.
"""

import os
import re
import sys
import time
from pathlib import Path

import nbformat
import pypandoc
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from autoencoders import data, report

HERE = Path(__file__).parent
BUILD = data.ROOT / "build"


def main(in_place: bool) -> int:
    if in_place and data.real_data():
        print(
            "COURSE_DATA is set: stored outputs come from cars_sample; unset it, or use `make run`"
        )
        return 1
    os.environ["CI"] = "true"  # no progress bars in stored outputs
    paths = sorted(HERE.glob("*.ipynb"))
    if not paths:
        print("no notebooks yet: nothing to execute")
    BUILD.mkdir(exist_ok=True)
    started = time.monotonic()
    for number, path in enumerate(paths, 1):
        notebook = nbformat.read(path, as_version=4)
        if not execute(notebook, f"[{number}/{len(paths)}] {path.stem}", path.name):
            return 1
        tidy(notebook)
        target = path if in_place else BUILD / path.name
        nbformat.write(notebook, target)
        if not in_place:
            (BUILD / path.with_suffix(".html").name).write_text(page(notebook, path.stem), "utf-8")
    summary(paths, time.monotonic() - started)
    return 0


def execute(notebook, label: str, name: str) -> bool:
    """Run the code cells one by one with visible progress; on failure print notebook, cell and error, and return False."""
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        store_widget_state=False,
    )
    client.extra_arguments = ["--log-level=40"]  # the kernel warns of its own transport otherwise
    total, started = len(notebook.cells), time.monotonic()
    terminal = sys.stdout.isatty()
    index = 0

    def progress(end: str) -> None:
        text = f"{label}  cell {index}/{total}  {time.monotonic() - started:.0f} s"
        print(f"\r{text}\033[K" if terminal else text, end=end if terminal else "\n", flush=True)

    try:
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells, 1):
                if cell.cell_type == "code":
                    progress(end="")
                    client.execute_cell(cell, index - 1, execution_count=None)
        progress(end="\n")
        return True
    except (CellExecutionError, CellTimeoutError, DeadKernelError, TimeoutError) as error:
        source = notebook.cells[index - 1].source
        print(f"\n{name}, cell {index} of {total} failed:\n\n{source}\n\n{error}", file=sys.stderr)
        return False


def tidy(notebook) -> None:
    """Take out what differs between two runs of the same thing, so that re-executing gives a clean diff."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in ("nbgrader", "tags") if cell.metadata.get(key)}
        )
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
                output.get("data", {}).pop(
                    "application/vnd.jupyter.widget-view+json", None
                )  # a still stays, the live one needs a kernel


def page(notebook, name: str) -> str:
    """One HTML file that needs no network: pandoc makes MathML of formulas, so scripts from elsewhere can stay away."""

    def to_html(text: str) -> str:
        return (
            pypandoc.convert_text(text, "html", "gfm+tex_math_dollars", ["--mathml", "--wrap=none"])
            if "$" in text
            else markdown2html(text)
        )

    made, _ = HTMLExporter(filters={"markdown2html": to_html}).from_notebook_node(
        notebook, resources={"metadata": {"name": name}}
    )
    return re.sub(r'<script[^>]*\ssrc="[^"]*"[^>]*>\s*</script>', "", made)


def summary(paths, seconds: float) -> None:
    results = report.load()
    if results:
        print(f"\n{'result':<46}{'value':>14} {'unit':<18} {'pictures':<16} data")
    for name, result in sorted(results.items()):
        value = (
            f"{result['value']:,}" if isinstance(result["value"], int) else f"{result['value']:.4g}"
        )
        pictures = " ".join(filter(None, [str(result["n"] or ""), result["split"]]))
        print(f"{name:<46}{value:>14} {result['unit']:<18} {pictures:<16} {result['data']}")
    where = report.folder().relative_to(data.ROOT)
    print(
        f"\n{len(paths)} notebooks in {seconds:.0f} s. Read build/*.html; figures are in {where}/figures/, numbers in {where}/results.json."
    )


if __name__ == "__main__":
    sys.exit(main("--in-place" in sys.argv[1:]))
