"""The command line as a whole; the codec's commands are in codec/test_cli.py."""

import subprocess
import sys

import pytest

from autoencoders import __main__ as command_line


def test_it_starts_as_a_module(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "autoencoders", "info", "missing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (
        run.returncode == 1
        and run.stderr.startswith("error: ")
        and "missing" in run.stderr
        and run.stdout == ""
    )


def test_wrong_usage_is_explained(capsys):
    for arguments in (
        [],
        ["encode"],
        ["train", "house", "--out", "x"],
        ["encode", "a.png", "-o", "x", "--quality", "high"],
    ):
        with pytest.raises(SystemExit) as stop:
            command_line.main([str(argument) for argument in arguments])
        assert stop.value.code == 2 and "usage: python -m autoencoders" in capsys.readouterr().err
