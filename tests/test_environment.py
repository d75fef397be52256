"""The lock, conda's environment, and the project's own metadata say the same."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and line[0] != "#"
]
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROJECT = [
    Requirement(line)
    for lines in (TABLE["dependencies"], *TABLE["optional-dependencies"].values())
    for line in lines
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


@pytest.mark.parametrize("need", PROJECT, ids=lambda r: r.name)
def test_conda_lists_everything_that_pyproject_names(need):
    assert need.name in conda()
    assert need.specifier.contains(VERSIONS[need.name])


def test_what_the_course_is_about_is_named_by_its_own_name():
    named = {"numpy", "scipy", "pillow", "matplotlib", "torch", "torchvision", "jupyter", "nbval"}
    assert named <= {need.name for need in PROJECT}
    assert named <= conda().keys()


@pytest.mark.parametrize("requirement", LOCK, ids=lambda r: r.name)
def test_what_is_installed_is_what_is_locked(requirement):
    if requirement.marker is None or requirement.marker.evaluate():
        assert metadata.version(requirement.name).split("+")[0] == str(
            requirement.specifier
        ).removeprefix("==")


def needs(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What an installed package needs on this machine, with these extras."""
    lines = metadata.requires(name) or []
    found = [Requirement(line) for line in lines]
    contexts = [{"extra": extra} for extra in extras | {""}]
    return [
        need
        for need in found
        if need.marker is None or any(need.marker.evaluate(context) for context in contexts)
    ]


def test_nothing_that_is_needed_is_missing_from_the_lock():
    """Whatever else is installed: what the locked packages need, and what those need, is locked."""
    locked = {canonicalize_name(requirement.name) for requirement in LOCK}
    waiting = [(need.name, frozenset(need.extras)) for need in PROJECT]
    waiting += [(need.name, frozenset()) for need in LOCK if need.marker is None]
    seen = set()
    while waiting:
        package = waiting.pop()
        if package in seen:
            continue
        seen.add(package)
        name, extras = package
        assert canonicalize_name(name) in locked, f"{name} is missing from requirements.lock"
        waiting += [(need.name, frozenset(need.extras)) for need in needs(name, extras)]
    assert len(seen) > 100


def test_this_python_is_supported():
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
