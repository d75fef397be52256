"""The pages that `make run` leaves."""

import importlib.util
import re
from pathlib import Path

from nbformat import v4

SPEC = importlib.util.spec_from_file_location(
    "run_notebooks", Path(__file__).resolve().parents[1] / "notebooks" / "run.py"
)
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)


def test_a_page_shows_formulas_without_a_network():
    cells = [
        v4.new_markdown_cell("# Title\n\nThe sum $\\sum_i s_i$ of **all**, `x_1`."),
        v4.new_markdown_cell("| a |\n|---|\n| 1 |"),
    ]
    page = run.page(v4.new_notebook(cells=cells), "small")
    assert "<math" in page and "$" not in re.search(r"The sum.*all", page)[0]
    assert (
        "<strong>all</strong>" in page
        and "<code>x_1</code>" in page
        and "<td>1</td>" in page
        and "<title>small</title>" in page
    )
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=.(?!data:|#)", page)
