"""Two made-up submissions of notebook 01 in build/example/, graded: a good and a faulty one."""

import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

import grade
from assignment import release
from autoencoders import data, metrics, svd
from autoencoders.course import BUILD, ROOT
from driver import RECORD, Kernel

NAME = "01_svd_baseline"
PROSE = (
    "## My own idea: are all cars equally hard?\n\n"
    "The PNG is a measure: what takes many bytes there has much texture, or noise."
)
IDEA = """# how many bytes the exact file of each picture takes
sizes = [len(metrics.pillow(picture, "PNG")[0]) for picture in pictures[:40]]
plt.hist(sizes, 12)
plt.xlabel("bytes of the PNG")
print("easiest:", names[np.argmin(sizes)], " hardest:", names[np.argmax(sizes)])"""


def save(notebook, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{NAME}.ipynb")


def careful(notebook, folder: Path) -> None:
    """Everything solved and executed, an idea of one's own, a file with its claim, a talk."""
    kernel = Kernel()
    for cell in [cell for cell in notebook.cells if cell.cell_type == "code"][:2]:
        kernel.execute(cell.source, 300, 2**20)
    notebook.cells += [
        new_markdown_cell(PROSE),
        new_code_cell(IDEA, execution_count=99, outputs=kernel.execute(IDEA, 300, 2**20)[0]),
    ]
    kernel.manager.shutdown_kernel(now=True)
    picture = data.read(ROOT / "cars_sample" / "car_003.png", 128)
    file = svd.compress(picture, 24, "int8-coded")
    psnr = metrics.psnr(picture[None], svd.decompress(file)[None])[0]
    notebook.cells.append(
        new_markdown_cell(f"Claim: tight.svd of car_003.png, {len(file):,} bytes, {psnr:.1f} dB")
    )
    save(notebook, folder)
    (folder / "tight.svd").write_bytes(file)
    (folder / "talk.md").write_text(
        "# How small is a car?\n\n## The question\n\n## What I found\n\n## What did not work\n"
    )


def hasty(notebook, folder: Path) -> None:
    """Common faults.

    An exercise left out, one wrong with its test loosened, a number typed in, a cell out of
    order, one stripped, a wrong claim.
    """
    handed_out = {cell.id: cell for cell in release(notebook).cells}
    marked = {about["grade_id"]: cell for cell, about in grade.marked(notebook)}
    tests = [
        name.removesuffix("_test")
        for name, cell in marked.items()
        if cell.metadata.nbgrader.grade and cell.cell_type == "code"
    ]
    marked[tests[0]].source = handed_out[marked[tests[0]].id].source
    marked[f"{tests[1]}_test"].source = "print('looks good')"
    marked[tests[1]].source = (
        "\n".join(marked[tests[1]].source.split("### BEGIN")[0].splitlines()) + "\n    return 0"
    )
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    for cell in cells:
        for output in cell.outputs:
            result = output.get("data", {}).get(RECORD, {})
            if result.get("unit") == "dB":
                result["value"] += 10  # decibels that no code gave
    cells[2].outputs, cells[4].execution_count = [], 77
    notebook.cells.append(new_markdown_cell("Claim: tight.svd of car_003.png, 1,000 bytes, 40 dB"))
    save(notebook, folder)
    (folder / "tight.svd").write_bytes(
        svd.compress(data.read(ROOT / "cars_sample" / "car_003.png", 128), 8)
    )


if __name__ == "__main__":
    target = BUILD / "example"
    for make in (careful, hasty):
        make(
            nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4),
            target / "submissions" / make.__name__,
        )
    sys.exit(
        grade.main(
            [str(target / "submissions"), "--out", str(target), "--only", NAME, *sys.argv[1:]]
        )
    )
