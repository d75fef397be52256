"""The lock, conda's environment, and the project's own metadata say the same."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
VERSIONS = {r.name.lower(): str(r.specifier).removeprefix("==") for r in LOCK}
CONDA_NAMES = {"pytorch": "torch", "flit-core": "flit_core"}


def test_the_lock_names_exact_versions_and_no_host():
    assert all(re.fullmatch(r"==[\w.]+", str(r.specifier)) and r.url is None for r in LOCK)
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_conda_has_the_versions_of_the_lock():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pairs = [entry.split("=") for entry in listed if isinstance(entry, str) and "=" in entry and not entry.startswith("python=")]
    assert len(pairs) > 10
    assert {name: VERSIONS[CONDA_NAMES.get(name, name)] for name, _ in pairs} == dict(pairs)


def test_conda_lists_everything_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {str(entry).split("=")[0] for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]}
    listed = {CONDA_NAMES.get(name, name) for name in listed}
    for line in project["dependencies"]:
        need = Requirement(line)
        assert need.name in listed and need.specifier.contains(VERSIONS[need.name])


@pytest.mark.parametrize("requirement", LOCK, ids=lambda r: r.name)
def test_what_is_installed_is_what_is_locked(requirement):
    if requirement.marker is None or requirement.marker.evaluate():
        assert metadata.version(requirement.name).split("+")[0] == str(requirement.specifier).removeprefix("==")


def test_nothing_that_is_needed_is_missing_from_the_lock():
    installed = {d.name.lower().replace("-", "_") for d in metadata.distributions()} - {"pip", "setuptools", "wheel", "autoencoders"}
    assert installed <= {name.replace("-", "_") for name in VERSIONS}


def test_this_python_is_supported():
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
