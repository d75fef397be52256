"""The hundred pictures that the course ships: complete, as described, unchanged."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAMPLE = Path(__file__).parents[1] / "cars_sample"
ROWS = list(csv.DictReader((SAMPLE / "cars.csv").open(newline="", encoding="utf-8")))
BODY_TYPES = {"sedan", "hatchback", "wagon", "suv", "pickup", "coupe", "van"}
PAINTS = {
    "white",
    "black",
    "grey",
    "silver",
    "navy",
    "blue",
    "red",
    "maroon",
    "green",
    "beige",
    "brown",
    "orange",
    "yellow",
}
VIEWS = {
    "front",
    "rear",
    "front-left",
    "front-right",
    "side-left",
    "side-right",
    "rear-left",
    "rear-right",
}
SETTINGS = {"street", "parking", "driveway", "field", "road", "showroom", "studio"}


def test_a_hundred_files_and_a_hundred_rows():
    names = [f"car_{i:03d}.png" for i in range(100)]
    assert [row["file"] for row in ROWS] == names
    assert sorted(p.name for p in SAMPLE.glob("*.png")) == names
    assert sum(p.stat().st_size for p in SAMPLE.glob("*.png")) <= 15_000_000


def test_columns_and_seeds():
    assert list(ROWS[0]) == ["file", "seed", "body_type", "paint", "view", "setting", "sha256"]
    assert len({int(row["seed"]) for row in ROWS}) == 100


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_picture(row):
    path = SAMPLE / row["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (256, 256))
        assert not picture.info, "metadata"
        pixels = np.asarray(picture)
    assert 25 < pixels.mean() < 215, "black or burnt out"
    assert pixels.std() > 20, "hardly any contrast"


@pytest.mark.parametrize(
    ("column", "vocabulary"),
    [("body_type", BODY_TYPES), ("paint", PAINTS), ("view", VIEWS), ("setting", SETTINGS)],
)
def test_labels_are_standard_words(column, vocabulary):
    assert {row[column] for row in ROWS} <= vocabulary


def test_variety():
    body_types = Counter(row["body_type"] for row in ROWS)
    assert set(body_types) == BODY_TYPES and min(body_types.values()) >= 8
    assert len({row["setting"] for row in ROWS}) >= 6
    seen_from = Counter(row["view"].split("-")[0] for row in ROWS)
    assert min(seen_from[word] for word in ("front", "side", "rear")) >= 8


def test_no_two_pictures_are_alike():
    pictures = np.stack(
        [
            np.asarray(
                Image.open(SAMPLE / row["file"]).resize((128, 128), Image.Resampling.LANCZOS), float
            )
            for row in ROWS
        ]
    )
    flat = pictures.reshape(len(pictures), -1)
    square = (flat**2).sum(1)
    distance = np.sqrt((square[:, None] + square[None] - 2 * flat @ flat.T).clip(0) / flat.shape[1])
    np.fill_diagonal(distance, np.inf)
    assert distance.min() >= 40


def test_licence_is_cc0():
    text = (SAMPLE / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("Creative Commons Legal Code\n\nCC0 1.0 Universal")
