"""Which module imports which: no circles, and nothing but the command line needs the codec."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
CODEC = "autoencoders.codec"


def modules() -> dict[str, Path]:
    """Files of the package by the names under which they are imported."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path, names: set[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in names else node.module)
    return found & names


def graph() -> dict[str, set[str]]:
    paths = modules()
    return {name: imports(path, set(paths)) for name, path in paths.items()}


def test_imports_form_no_circle():
    edges = graph()
    assert f"{CODEC}.model" in edges[f"{CODEC}.weights"]  # so they are found at all
    order = [*graphlib.TopologicalSorter(edges).static_order()]
    # Sweeps call the command line, as a reader does.
    assert order[-2:] == ["autoencoders.__main__", "autoencoders.sweep"]


def test_only_the_command_line_needs_the_codec():
    users = set()
    for name, needed in graph().items():
        if not name.startswith(CODEC) and any(one.startswith(CODEC) for one in needed):
            users.add(name)
    assert users == {"autoencoders.__main__", "autoencoders.trainings"}


@pytest.mark.parametrize("module", ["models", "losses", "training"])
def test_a_module_pulls_nothing_of_the_codec(module):
    code = f"import autoencoders.{module}, sys; print([m for m in sys.modules if {CODEC!r} in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
