"""What cannot be tested on a machine is said there, and is a failure under CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Tests that need other programs, with what is said where these are missing.
NEEDS = {
    "tests/test_grading.py::test_files_meet_their_limits": "the sandbox, because bubblewrap "
    "(bwrap) is not installed (mend: sudo apt install bubblewrap)",
    "tests/cluster/test_cluster.py::test_a_killed_controller": "a cluster, because "
    "sbatch, squeue, scontrol, scancel, srun are not installed "
    "(mend: sudo apt-get install slurmctld slurmd slurm-client munge)",
}


def run(test: str, *options: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", test, *options],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("test", NEEDS)
@pytest.mark.parametrize("ci", ["", "true"])
def test_what_needs_other_programs_is_skipped_without_them_and_fails_under_ci(tmp_path, test, ci):
    path = tmp_path / "new" / "not_tested.txt"
    done = run(test, "--not-tested", str(path), PATH=str(tmp_path), CI=ci)
    assert ("1 error" in done.stdout, "1 skipped" in done.stdout) == (bool(ci), not ci), done.stdout
    assert done.returncode == int(bool(ci))
    # A machine may have the daemons, which lie outside of PATH, or not.
    said = done.stdout.replace("slurmctld, slurmd, ", "")
    assert NEEDS[test] in said
    told = path.read_text("utf-8").replace("slurmctld, slurmd, ", "")
    assert told == f"Not tested: {'nothing' if ci else NEEDS[test] + ', tests skipped: 1'}.\n"


def test_where_everything_was_tested_that_is_said(tmp_path):
    path = tmp_path / "not_tested.txt"
    done = run("tests/test_environment.py::test_this_python_is_supported", "--not-tested", path)
    assert done.returncode == 0, done.stdout
    assert path.read_text("utf-8") == "Not tested: nothing.\n"
