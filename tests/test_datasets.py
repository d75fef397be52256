"""The rendered sets in `datasets/`: complete, as their tables say, read as promised."""

import csv
import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from autoencoders import data

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ROOT / "datasets"
SETS = ("turntable", "wheels", "bodies")
TRAINED_ON = {"sedan": 118, "suv": 94, "hatchback": 82, "wagon": 58}
TRAINED_ON |= {"coupe": 25, "van": 14, "pickup": 10}


def table(name):
    with (DATASETS / name / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_sizes():
    files = [path for path in DATASETS.rglob("*") if path.is_file() and "parts" not in path.parts]
    sizes = {path: path.stat().st_size for path in files}
    assert max(sizes.values()) <= 5_000_000
    assert sum(sizes.values()) <= 42_000_000
    of_turntable = [size for path, size in sizes.items() if "turntable" in path.parts]
    assert sum(of_turntable) <= 24_000_000


def test_no_seed_is_used_twice():
    """Neither in two sets, nor of the hundred cars, nor of the renders that trained the codec."""
    with (ROOT / "cars_sample" / "cars.csv").open(newline="", encoding="utf-8") as file:
        used = [int(row["seed"]) for row in csv.DictReader(file)]
    used += range(1000, 1116)
    for name in SETS:
        if name == "turntable":
            used += {int(row["car"]) for row in table(name)}
        else:
            used += [int(row["seed"]) for row in table(name)]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_its_licence_and_its_figures(name):
    licence = (DATASETS / name / "LICENSE").read_text("utf-8")
    assert licence.startswith("Creative Commons Legal Code\n\nCC0 1.0 Universal")
    readme = (DATASETS / name / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert [link for link in links if not (DATASETS / name / link).exists()] == []


@pytest.mark.parametrize("name", SETS)
def test_readme_has_the_figures_of_the_files(name, monkeypatch):
    """`datasets/measure.py` writes them; another machine may round the last digit otherwise."""
    monkeypatch.syspath_prepend(str(DATASETS))
    import measure

    stored = (DATASETS / name / "README.md").read_text("utf-8")
    fresh = measure.filled(name)
    number = re.compile(r"(?<![\w/.])-?\d[\d,]*(?:\.\d+)?")
    assert number.sub("#", fresh) == number.sub("#", stored), "run `python datasets/measure.py`"
    values = [[float(n.replace(",", "")) for n in number.findall(text)] for text in (fresh, stored)]
    assert values[0] == pytest.approx(values[1], abs=0.05)


# The turntable.


@pytest.fixture(scope="module")
def cars():
    return data.turntable(32)


def test_turntable_is_split_by_car(cars):
    assert cars.pictures.shape == (6000, 3, 32, 32) and cars.pictures.dtype == torch.float32
    splits = [cars.train, cars.validation, cars.unseen]
    assert [len(split) for split in splits] == [4800, 600, 600]
    assert torch.cat(splits).sort().values.equal(torch.arange(6000))
    seeds = [set(cars.car[split].tolist()) for split in splits]
    assert [len(some) for some in seeds] == [800, 100, 100]
    assert len(set.union(*seeds)) == 1000


def test_turntable_labels(cars):
    assert cars.body_types == sorted(TRAINED_ON)
    assert len(cars.paints) == 13
    each = Counter(zip(cars.body_type.tolist(), cars.paint.tolist(), strict=True))
    assert len(each) == 7 * 13 and min(each.values()) >= 6 * 9
    assert cars.azimuth.min() >= 0 and cars.azimuth.max() <= 360
    # Drawn uniformly: each twelfth of the circle has its share, 500 ± 4 standard deviations.
    twelfths = torch.bincount((cars.azimuth // 30).long().clamp(max=11), minlength=12)
    assert (twelfths - 500).abs().max() < 86
    assert cars.elevation.min() > 0 and cars.elevation.max() < 45
    assert cars.paint_colour.shape == (6000, 3) and cars.paint_colour.max() <= 1
    white, black = (cars.paint == cars.paints.index(name) for name in ("white", "black"))
    assert cars.paint_colour[white].mean() > 0.7 > 0.2 > cars.paint_colour[black].mean()


def test_turntable_labels_are_what_the_pictures_show(cars):
    """A red car is red; a car is narrow from the front and wide from the side."""
    centre = cars.pictures[:, :, 12:22, 8:24].mean((2, 3))
    redness = centre[:, 0] - centre[:, 1]
    red = cars.paint == cars.paints.index("red")
    assert (
        redness[red].mean()
        > 0.1 + redness[~red & (cars.paint != cars.paints.index("orange"))].mean()
    )
    backdrop = cars.pictures[:, :, :, :1].mean(1, keepdim=True)
    contrast = (cars.pictures.mean(1, keepdim=True) - backdrop).abs()[:, 0, 10:22].mean(1)
    wide = (contrast > 0.08).sum(1).float()
    turn = torch.deg2rad(cars.azimuth)
    from_the_side = turn.sin().abs() > 0.95
    from_an_end = turn.sin().abs() < 0.3
    assert wide[from_the_side].mean() > 1.3 * wide[from_an_end].mean()


def test_turntable_at_other_sizes(cars):
    small = data.turntable(16)
    torch.testing.assert_close(small.pictures, torch.nn.functional.avg_pool2d(cars.pictures, 2))
    with pytest.raises(ValueError, match="size=48: expected 64 as stored"):
        data.turntable(48)


@pytest.fixture
def small_turntable(tmp_path):
    """Two cars, one sheet."""
    rows = table("turntable")[:12]
    folder = tmp_path / "turntable"
    folder.mkdir()
    with Image.open(DATASETS / "turntable" / "turntable_00.webp") as sheet:
        sheet.crop((0, 0, 384, 128)).save(folder / rows[0]["sheet"], "WEBP", lossless=True)
    write_table(folder / "turntable.csv", rows)
    return folder


def write_table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_whole_small_turntable(small_turntable):
    cars = data.turntable(64, small_turntable)
    assert cars.pictures.shape == (12, 3, 64, 64)
    assert cars.train.tolist() == list(range(12)) and len(cars.unseen) == 0


def test_sheet_missing(small_turntable):
    (small_turntable / "turntable_00.webp").unlink()
    with pytest.raises(ValueError, match=r"turntable_00\.webp in .* cannot be read .*git checkout"):
        data.turntable(64, small_turntable)


def test_sheet_cut_in_half(small_turntable):
    path = small_turntable / "turntable_00.webp"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"turntable_00\.webp in .* cannot be read"):
        data.turntable(64, small_turntable)


def test_sheet_of_other_pictures(small_turntable):
    path = small_turntable / "turntable_00.webp"
    with Image.open(path) as sheet:
        pixels = np.array(sheet)
    pixels[70, 70] ^= 1
    Image.fromarray(pixels).save(path, "WEBP", lossless=True)
    with pytest.raises(ValueError, match=r"turntable_00\.webp .* row 1, view 1 differs"):
        data.turntable(64, small_turntable)


def test_sheet_that_is_too_small(small_turntable):
    path = small_turntable / "turntable_00.webp"
    Image.new("RGB", (384, 64)).save(path, "WEBP", lossless=True)
    with pytest.raises(ValueError, match=r"turntable_00\.webp .* differs"):
        data.turntable(64, small_turntable)


def test_turntable_without_a_table(small_turntable):
    (small_turntable / "turntable.csv").unlink()
    with pytest.raises(ValueError, match=r"no table turntable\.csv in"):
        data.turntable(64, small_turntable)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: text.replace("azimuth", "angle", 1), "row 1 lacks azimuth"),
        (lambda text: text[:-100], "row 12 lacks"),
        (lambda text: text.replace("#", "", 1).replace("#", "grey", 1), "column paint_srgb"),
    ],
)
def test_damaged_table(small_turntable, change, expected):
    path = small_turntable / "turntable.csv"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(ValueError, match=rf"turntable\.csv.*{expected}|{expected}.*turntable\.csv"):
        data.turntable(64, small_turntable)


# Wheels.


def test_wheels_have_the_layout_of_mvtec():
    """As its readers expect: https://www.mvtec.com/company/research/datasets/mvtec-ad"""
    folder = DATASETS / "wheels"
    good = {
        split: sorted((folder / split / "good").iterdir())
        for split in ("train", "validation", "test")
    }
    assert [len(files) for files in good.values()] == [200, 40, 60]
    for files in good.values():
        assert [path.name for path in files] == [f"{i:03d}.png" for i in range(len(files))]
    kinds = sorted(path.name for path in (folder / "test").iterdir() if path.name != "good")
    assert len(kinds) == 8
    assert sorted(path.name for path in (folder / "ground_truth").iterdir()) == kinds
    for kind in kinds:
        pictures = sorted((folder / "test" / kind).iterdir())
        masks = sorted((folder / "ground_truth" / kind).iterdir())
        assert [path.name for path in pictures] == [f"{i:03d}.png" for i in range(15)]
        assert [path.name for path in masks] == [f"{path.stem}_mask.png" for path in pictures]
        for path, mask in zip(pictures, masks, strict=True):
            with Image.open(path) as picture, Image.open(mask) as truth:
                assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (128, 128))
                assert (truth.format, truth.mode, truth.size) == ("PNG", "L", (128, 128))
                levels = np.unique(np.asarray(truth))
            assert levels.tolist() == [0, 255]


@pytest.fixture(scope="module")
def parts():
    return data.wheels()


def test_wheels_as_read(parts):
    assert parts.pictures.shape == (420, 3, 128, 128) and parts.masks.shape == (420, 1, 128, 128)
    assert [len(split) for split in parts[3:6]] == [200, 40, 180]
    assert parts.defects[0] == "good" and len(parts.defects) == 9
    assert torch.bincount(parts.defect).tolist() == [300] + [15] * 8
    assert not parts.masks[parts.defect == 0].any()
    share = parts.masks[parts.defect > 0].mean((1, 2, 3))
    assert 0.001 < share.min() < 0.003, "the tiniest is about 0.2 % of the picture"
    assert 0.03 < share.max() < 0.08, "the plainest about 5 %"


def test_our_own_set_has_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    for read in (data.wheels, data.bodies):
        with pytest.raises(ValueError, match=r"no table \w+\.csv in"):
            read()


def test_wheels_table(parts):
    rows = table("wheels")
    assert sorted(row["file"] for row in rows) == sorted(parts.files)
    by_file = {row["file"]: row for row in rows}
    for file, defect, mask in zip(parts.files, parts.defect, parts.masks, strict=True):
        row = by_file[file]
        assert row["defect"] == parts.defects[defect]
        if defect:
            assert float(row["area_percent"]) == pytest.approx(100 * mask.mean().item(), abs=0.006)
        else:
            assert row["mask"] == row["area_percent"] == ""


def small_wheels(folder):
    """Two good pictures, one defective, as anybody might make them: no table."""
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/scratch/000"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATASETS / "wheels" / f"{name}.png", path)
    mask = "ground_truth/scratch/000_mask.png"
    (folder / mask).parent.mkdir(parents=True)
    shutil.copy(DATASETS / "wheels" / mask, folder / mask)
    return folder


def test_anybodys_folder_in_mvtecs_layout(tmp_path):
    parts = data.wheels(64, small_wheels(tmp_path))
    assert parts.pictures.shape == (4, 3, 64, 64) and parts.masks.shape == (4, 1, 64, 64)
    assert parts.defects == ["good", "scratch"] and parts.defect.tolist() == [0, 0, 0, 1]
    assert (parts.train.tolist(), parts.validation.tolist(), parts.unseen.tolist()) == (
        [0, 1],
        [],
        [2, 3],
    )
    shutil.rmtree(tmp_path / "ground_truth")
    assert data.wheels(64, tmp_path).masks is None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda f: (f / "ground_truth/scratch/000_mask.png").unlink(),
            "mask ground_truth/scratch/000_mask.png",
        ),
        (
            lambda f: (f / "ground_truth/scratch/000_mask.png").write_bytes(b"x"),
            "mask ground_truth/scratch/000_",
        ),
        (
            lambda f: Image.new("L", (64, 128)).save(f / "ground_truth/scratch/000_mask.png"),
            "64x128 pixels, not its picture's size",
        ),
        (lambda f: shutil.rmtree(f / "train"), "no pictures in .*train/good.*MVTec AD's layout"),
        (
            lambda f: shutil.rmtree(f / "test" / "good"),
            "no pictures in .*test/good.*MVTec AD's layout",
        ),
        (lambda f: (f / "test/scratch/000.png").write_bytes(b"x" * 99), "test/scratch/000.png"),
        (
            lambda f: (f / "test/scratch").rename(f / "train/scratch"),
            "scratch.*expected good ones alone",
        ),
    ],
)
def test_wheels_that_are_not_whole(tmp_path, damage, expected):
    damage(small_wheels(tmp_path))
    with pytest.raises(ValueError, match=expected):
        data.wheels(64, tmp_path)


def as_loco(folder):
    """The mask becomes a folder of two, as in MVTec LOCO AD and Auto VI: left and right of it."""
    file = folder / "ground_truth/scratch/000_mask.png"
    mask = np.asarray(Image.open(file))
    file.unlink()
    (folder / "ground_truth/scratch/000").mkdir()
    middle = np.nonzero(mask)[1].mean()
    left = np.arange(mask.shape[1]) < middle
    # There each kind of fault has a grey level of its own.
    Image.fromarray(mask // 255 * np.uint8(90) * left).save(
        folder / "ground_truth/scratch/000/000.png"
    )
    Image.fromarray(mask * ~left).save(folder / "ground_truth/scratch/000/001.png")
    return folder


def test_masks_in_a_folder_for_each_picture(tmp_path):
    before = data.wheels(128, small_wheels(tmp_path)).masks
    after = data.wheels(128, as_loco(tmp_path)).masks
    assert before.sum() > 0 and torch.equal(before, after)
    (tmp_path / "ground_truth/scratch/000/001.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"mask ground_truth/scratch/000/001.png"):
        data.wheels(128, tmp_path)
    for file in (tmp_path / "ground_truth/scratch/000").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"no masks in .*ground_truth/scratch/000"):
        data.wheels(128, tmp_path)


def convert(folder, name, mode):
    path = folder / name
    if mode == "I;16":
        deep = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257
        Image.fromarray(deep).save(path)
    else:
        Image.open(path).convert(mode).save(path)


@pytest.mark.parametrize(
    ("mode", "what"), [("I;16", "16 bits a value"), ("L", "grey among pictures in colour")]
)
def test_a_picture_of_another_kind_is_named(tmp_path, mode, what):
    convert(small_wheels(tmp_path), "train/good/001.png", mode)
    with pytest.raises(ValueError, match=rf"{what}: train/good/001.png"):
        data.wheels(64, tmp_path)


def test_a_grey_camera_is_welcome_and_a_single_picture_is_not(tmp_path):
    small_wheels(tmp_path)
    for path in tmp_path.glob("t*/*/*.png"):
        convert(tmp_path, path.relative_to(tmp_path), "L")
    pictures = data.wheels(64, tmp_path).pictures
    assert (pictures == pictures[:, :1]).all()
    (tmp_path / "train/good/001.png").unlink()
    with pytest.raises(ValueError, match=r"1 picture in .*train/good.*expected at least 2"):
        data.wheels(64, tmp_path)


def test_inspected_parts_always_have_validation(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert torch.equal(data.inspected(32).validation, data.wheels(32).validation)
    small_wheels(tmp_path / "mvtec_ad" / "wheel")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"capsule.*choose COURSE_CATEGORY from \['wheel'\]"):
        data.inspected(32)
    monkeypatch.setenv("COURSE_CATEGORY", "wheel")
    for number in range(2, 10):
        path = tmp_path / "mvtec_ad/wheel/train/good"
        shutil.copy(path / "000.png", path / f"{number:03d}.png")
    parts = data.inspected(32)
    assert (len(parts.train), len(parts.validation)) == (8, 2)
    assert sorted(torch.cat([parts.train, parts.validation]).tolist()) == list(range(10))
    assert parts.pictures.shape[0] == 12 and parts.defects == ["good", "scratch"]


@pytest.mark.parametrize("name", ["train/good/001.png", "ground_truth/scratch/000_mask.png"])
def test_wheels_differ_from_their_table(tmp_path, name):
    small_wheels(tmp_path)
    rows = []
    for row in table("wheels"):
        if (tmp_path / row["file"]).exists():
            rows.append(row)
    write_table(tmp_path / "wheels.csv", rows)
    assert len(data.wheels(64, tmp_path).pictures) == 4
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(ValueError, match=rf"{name} in .* is not the one of wheels\.csv"):
        data.wheels(64, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing in"):
        data.wheels(64, tmp_path)


# Bodies.


def test_bodies_are_read_by_torchvision():
    for split, counts in (("train", TRAINED_ON), ("test", dict.fromkeys(TRAINED_ON, 40))):
        folder = ImageFolder(DATASETS / "bodies" / split)
        found = Counter(folder.classes[label] for _, label in folder.samples)
        assert found == counts
    picture, _ = folder[0]
    assert picture.size == (128, 128) and picture.mode == "RGB"


def test_bodies_are_jpeg_of_full_colour_resolution():
    rows = table("bodies")
    assert len(rows) == 681
    for row in rows:
        with Image.open(DATASETS / "bodies" / row["file"]) as picture:
            assert (picture.format, picture.size) == ("JPEG", (128, 128))
            assert {layer[1:3] for layer in picture.layer} == {(1, 1)}
            assert picture.quantization[0][0] <= 3, "quality 92"
    assert all(row["file"].split("/")[1] == row["body_type"] for row in rows)
    assert all(row["file"].startswith(row["split"]) for row in rows)


def test_bodies_as_read():
    cars = data.bodies(64)
    assert cars.pictures.shape == (681, 3, 64, 64)
    assert cars.classes == sorted(TRAINED_ON)
    counts = torch.bincount(cars.label[cars.train]).tolist()
    assert counts == [TRAINED_ON[name] for name in cars.classes]
    assert torch.bincount(cars.label[cars.unseen]).tolist() == [40] * 7


def test_no_picture_of_a_set_is_in_another_split():
    """By digest; the nearest pairs stand in the READMEs."""
    for name in SETS:
        seen = Counter(row["sha256"] for row in table(name))
        assert max(seen.values()) == 1


@pytest.fixture
def small_bodies(tmp_path):
    for row in table("bodies"):
        sub = (tmp_path / row["file"]).parent
        if not sub.exists():
            sub.mkdir(parents=True)
            shutil.copy(DATASETS / "bodies" / row["file"], sub)
    return tmp_path


def test_bodies_that_are_not_whole(small_bodies):
    assert len(data.bodies(32, small_bodies).pictures) == 14
    picture = next((small_bodies / "test" / "van").iterdir())
    content = picture.read_bytes()
    picture.write_bytes(content[:100])
    with pytest.raises(ValueError, match=rf"test/van/{picture.name}"):
        data.bodies(32, small_bodies)
    picture.unlink()
    with pytest.raises(ValueError, match=r"no pictures in .*test/van"):
        data.bodies(32, small_bodies)
    shutil.rmtree(small_bodies / "train")
    with pytest.raises(ValueError, match=r"no folders in .*train"):
        data.bodies(32, small_bodies)


@pytest.fixture
def paintings(tmp_path):
    """Three classes of two pictures: grey, see-through, wide, high, and names with accents."""
    made = {
        "dürer/1.png": ("L", (40, 40)),
        "dürer/2.png": ("RGBA", (40, 60)),
        "monet/1.jpg": ("RGB", (90, 30)),
        "monet/été.jpg": ("RGB", (50, 40)),
        "vermeer/1.png": ("P", (40, 40)),
        "vermeer/2.webp": ("RGB", (40, 40)),
    }
    for name, (mode, size) in made.items():
        file = tmp_path / "paintings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size).save(file)
    return tmp_path / "paintings"


def test_sorted_pictures_of_all_kinds(paintings):
    found = data.sorted_pictures(paintings, 32)
    assert found.pictures.shape == (6, 3, 32, 32)
    assert found.classes == ["dürer", "monet", "vermeer"]
    assert found.label.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.train.tolist() == list(range(6)) and len(found.unseen) == 0
    assert "monet/été.jpg" in found.files


def test_sorted_pictures_that_cannot_be_used(paintings):
    (paintings / "monet" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 6 pictures .* monet/1.jpg"):
        data.sorted_pictures(paintings, 32)
    (paintings / "monet" / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 pictures of class 'monet'.*at least 2"):
        data.sorted_pictures(paintings, 32)
    (paintings / "monet" / "été.jpg").unlink()
    with pytest.raises(ValueError, match=r"0 pictures of class 'monet'"):
        data.sorted_pictures(paintings, 32)
    shutil.rmtree(paintings / "monet")
    shutil.rmtree(paintings / "vermeer")
    with pytest.raises(ValueError, match=r"1 folders in .*at least 2"):
        data.sorted_pictures(paintings, 32)
    with pytest.raises(ValueError, match=r"0 folders in .*nowhere"):
        data.sorted_pictures(paintings / "nowhere", 32)


def test_the_collection_of_notebook_07(paintings, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(paintings.parent))
    found, shapes = data.uneven(32)
    assert found.classes == ["dürer", "monet", "vermeer"]
    assert shapes.tolist() == [[40, 40], [40, 60], [90, 30], [50, 40], [40, 40], [40, 40]]
    monkeypatch.delenv("COURSE_DATA")
    found, shapes = data.uneven(32)
    assert len(found.unseen) == 280 and (shapes == 128).all()


def test_bodies_differ_from_their_table(small_bodies):
    rows = [row for row in table("bodies") if (small_bodies / row["file"]).exists()]
    write_table(small_bodies / "bodies.csv", rows)
    assert len(data.bodies(32, small_bodies).pictures) == 14
    file = small_bodies / rows[3]["file"]
    shutil.copy(small_bodies / rows[4]["file"], file)
    with pytest.raises(ValueError, match=rf"{file.name} in .* is not the one of bodies\.csv"):
        data.bodies(32, small_bodies)


def test_digest_is_of_pixels(small_turntable):
    """So that a sheet may be packed again without a new table."""
    row = table("turntable")[7]
    with Image.open(small_turntable / row["sheet"]) as sheet:
        pixels = np.asarray(sheet)[64:128, 64:128]
    assert hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() == row["sha256"]
