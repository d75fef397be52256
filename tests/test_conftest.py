"""What cannot be tested on a machine is said there, and is a failure under CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WALLED = "tests/test_grading.py::test_files_meet_their_limits"
SENTENCE = (
    "Not tested: the sandbox, because bubblewrap (bwrap) is not installed "
    "(mend: sudo apt install bubblewrap), tests skipped: 1.\n"
)


def run(test: str, *options: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", test, *options],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("ci", ["", "true"])
def test_without_bubblewrap_tests_of_the_sandbox_are_skipped_and_fail_under_ci(tmp_path, ci):
    path = tmp_path / "new" / "not_tested.txt"
    done = run(WALLED, "--not-tested", str(path), PATH=str(tmp_path), CI=ci)
    assert ("1 error" in done.stdout, "1 skipped" in done.stdout) == (bool(ci), not ci), done.stdout
    assert done.returncode == int(bool(ci))
    assert "sudo apt install bubblewrap" in done.stdout
    assert path.read_text("utf-8") == ("Not tested: nothing.\n" if ci else SENTENCE)


def test_where_everything_was_tested_that_is_said(tmp_path):
    path = tmp_path / "not_tested.txt"
    done = run("tests/test_environment.py::test_this_python_is_supported", "--not-tested", path)
    assert done.returncode == 0, done.stdout
    assert path.read_text("utf-8") == "Not tested: nothing.\n"
