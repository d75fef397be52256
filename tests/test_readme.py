"""README's numbers are those of slides/results*.json; run as a script, this writes them there."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
NUMBER = re.compile(r"<!--(?:([a-z_]+):)?([a-z0-9_.]+)-->[^<]*<!---->")


def filled(text: str) -> str:
    """The text with the current result in each `<!--name-->...<!---->`.

    `<!--mnist:name-->` is one of results_mnist.json. Floats are written as whole numbers from 100
    up, with two decimals below 1, else with one.
    """
    results = {}
    for path in (ROOT / "slides").glob("results*.json"):
        kind = path.stem.removeprefix("results").removeprefix("_")
        results[kind] = json.loads(path.read_text("utf-8"))

    def number(match):
        kind, name = match[1] or "", match[2]
        about = f"{kind}:{name}" if kind else name
        return f"<!--{about}-->{shown(results[kind][name]['value'])}<!---->"

    return NUMBER.sub(number, text)


def shown(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"


def test_readme_quotes_the_results():
    text = README.read_text("utf-8")
    assert NUMBER.search(text)
    assert filled(text) == text, "run `python tests/test_readme.py`"


def test_readme_links_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8")), "utf-8")
