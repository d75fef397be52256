"""The lock, conda's environment, and the project's own metadata say the same."""

import re
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and line[0] != "#"
]
VERSIONS = {r.name.lower(): str(r.specifier).removeprefix("==") for r in LOCK}
CONDA_NAMES = {"pytorch": "torch", "flit-core": "flit_core"}


def conda() -> dict[str, str]:
    """Names and versions of environment.yml, those that pip fetches among them."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    pairs = [
        entry.replace("==", "=").partition("=")
        for entry in [*listed, *pip]
        if isinstance(entry, str)
    ]
    return {CONDA_NAMES.get(name, name): version for name, _, version in pairs}


def test_the_lock_names_exact_versions_and_no_host():
    assert all(re.fullmatch(r"==[\w.]+", str(r.specifier)) and r.url is None for r in LOCK)
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_conda_has_the_versions_of_the_lock():
    pinned = {name: version for name, version in conda().items() if version and name != "python"}
    assert len(pinned) > 10 and "constriction" in pinned
    assert pinned == {name: VERSIONS[name] for name in pinned}


def test_conda_lists_everything_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        need = Requirement(line)
        assert need.name in conda() and need.specifier.contains(VERSIONS[need.name])


@pytest.mark.parametrize("requirement", LOCK, ids=lambda r: r.name)
def test_what_is_installed_is_what_is_locked(requirement):
    if requirement.marker is None or requirement.marker.evaluate():
        assert metadata.version(requirement.name).split("+")[0] == str(
            requirement.specifier
        ).removeprefix("==")


def test_nothing_that_is_needed_is_missing_from_the_lock():
    here = {
        sysconfig.get_path(kind) for kind in ("purelib", "platlib")
    }  # not what setuptools carries in itself
    found = {d.name.lower().replace("-", "_") for d in metadata.distributions(path=list(here))}
    installed = found - {"pip", "setuptools", "wheel", "autoencoders"}
    assert installed <= {name.replace("-", "_") for name in VERSIONS}


def test_this_python_is_supported():
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
