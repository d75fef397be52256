"""Every recorded number lies in its band, and notebooks hold what slides/results.json holds."""

import json
import os
import tomllib
from pathlib import Path

from autoencoders import course, report

ROOT = Path(__file__).resolve().parents[1]
BANDS = tomllib.loads((ROOT / "tests" / "bands.toml").read_text("utf-8"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def stored() -> dict:
    return course.load_results(course.COMMITTED)


def outside(results: dict) -> list[str]:
    return [
        f"{name} = {r['value']}, band {BANDS[name]}"
        for name, r in results.items()
        if not BANDS[name][0] <= r["value"] <= BANDS[name][1]
    ]


def test_bands_are_bands():
    assert all(len(band) == 2 and band[0] <= band[1] for band in BANDS.values())


def fresh() -> dict:
    """What nbval has just recorded; alone, without `make test`, only the stored ones."""
    return (
        course.load_results(course.results_folder()) if os.environ.get("COURSE_OUT") else stored()
    )


def test_every_result_has_a_band_and_every_band_a_result():
    assert set(fresh()) == set(stored()) == set(BANDS)


def test_fresh_results_are_in_their_bands():
    assert outside(fresh()) == []


def test_stored_results_are_in_their_bands():
    assert outside(stored()) == []


def records(notebook: dict) -> dict[str, dict]:
    """The numbers in a stored notebook's outputs, by name."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            result = output.get("data", {}).get(report.MIME)
            if result:
                found[result.pop("name")] = result
    return found


def test_notebooks_hold_what_results_json_holds():
    found = {}
    for path in NOTEBOOKS:
        found |= records(json.loads(path.read_text("utf-8")))
    assert found == stored()
