import numpy as np
import pytest
import torch
from conftest import car
from PIL import Image

from autoencoders import data


def folder(tmp_path, **files):
    """A folder with pictures: `name=(image, suffix, save options)`."""
    for name, (image, suffix, *options) in files.items():
        image.save(tmp_path / f"{name}{suffix}", **(options[0] if options else {}))
    return tmp_path


def read_one(tmp_path, image, suffix=".png", size=32, **options) -> np.ndarray:
    pictures, _ = data.cars(size, folder(tmp_path, one=(image, suffix, options)))
    return data.to_bytes(pictures)[0]


def test_cars_come_as_float_tensors_sorted_by_name(tmp_path):
    images = {name: (Image.fromarray(car(i)), ".png") for i, name in enumerate("cab")}
    pictures, names = data.cars(32, folder(tmp_path, **images))
    assert names == ["a.png", "b.png", "c.png"]
    assert pictures.shape == (3, 3, 32, 32) and pictures.dtype == torch.float32
    assert 0 <= pictures.min() < pictures.max() <= 1
    expected = Image.fromarray(car(1)).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(data.to_bytes(pictures)[0], np.asarray(expected))


def test_limit_takes_the_first_by_name(tmp_path):
    images = {f"p{i}": (Image.fromarray(car(i)), ".png") for i in range(4)}
    assert data.cars(32, folder(tmp_path, **images), limit=2)[1] == ["p0.png", "p1.png"]
    assert len(data.cars(32, tmp_path, limit=None)[1]) == 4


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".webp", ".avif", ".bmp", ".tif", ".gif", ".jp2", ".JPEG"]
)
def test_every_usual_format_is_read(tmp_path, suffix):
    image = Image.new("RGB", (80, 60), (200, 100, 50))
    picture = read_one(tmp_path, image, suffix)
    assert np.abs(picture.astype(int) - (200, 100, 50)).max() <= 8


@pytest.mark.parametrize("width,height", [(300, 40), (40, 300), (1, 1)])
def test_any_aspect_is_cropped_to_the_centre(tmp_path, width, height):
    image = Image.new("RGB", (width, height), "red")
    side = min(width, height)
    image.paste(
        "blue",
        ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2),
    )
    assert (
        np.abs(read_one(tmp_path, image).astype(int) - (0, 0, 255)).max() < 10
    )  # Lanczos sees one pixel beyond


@pytest.mark.parametrize(
    "image,expected",
    [
        (Image.new("L", (40, 40), 77), (77, 77, 77)),
        (Image.new("1", (40, 40), 1), (255, 255, 255)),
        (
            Image.new("RGB", (40, 40), (1, 200, 3)).convert("P", palette=Image.Palette.ADAPTIVE),
            (1, 200, 3),
        ),
        (Image.new("RGBA", (40, 40), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (200, 200), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("LA", (40, 40), (0, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((40, 40), 257 * 100, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((200, 200), 257 * 9, np.uint16)), (9, 9, 9)),
    ],
    ids=[
        "grey",
        "bilevel",
        "palette",
        "transparent",
        "half",
        "grey-alpha",
        "16-bit",
        "16-bit-reduced",
    ],
)
def test_modes(tmp_path, image, expected):
    assert np.abs(read_one(tmp_path, image).astype(int) - expected).max() <= 1


def test_transparent_palette_becomes_white(tmp_path):
    image = Image.new("P", (40, 40), 0)
    image.putpalette([255, 0, 0] + [0] * 765)
    assert (read_one(tmp_path, image, transparency=0) == 255).all()


def test_cmyk(tmp_path):
    picture = read_one(tmp_path, Image.new("CMYK", (200, 200), (0, 255, 255, 0)), ".jpg")
    assert np.abs(picture.astype(int) - (255, 0, 0)).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.new("RGB", (64, 64), "white")
    upright.paste("red", (0, 0, 32, 32))  # top left
    upright.paste("blue", (0, 32, 32, 64))  # bottom left
    undo = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # the transposition that the viewer will take back
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_one(tmp_path, stored, ".jpg", exif=exif, quality=95)
    assert np.abs(picture[8, 8].astype(int) - (255, 0, 0)).max() < 20
    assert np.abs(picture[24, 8].astype(int) - (0, 0, 255)).max() < 20
    assert np.abs(picture[8, 24].astype(int) - 255).max() < 20


def test_large_jpegs_are_reduced_while_decoding(tmp_path, monkeypatch):
    Image.fromarray(car(0, 1024, 2048)).save(tmp_path / "big.jpg")
    decoded = []
    monkeypatch.setattr(
        data,
        "_rgb",
        lambda image, factor, original=data._rgb: (
            decoded.append(image.size) or original(image, factor)
        ),
    )
    data.cars(32, tmp_path)
    assert decoded == [(256, 128)]


def test_other_files_and_subfolders_are_passed_over(tmp_path):
    folder(tmp_path, **{"Käfer_日本": (Image.fromarray(car(0)), ".png")})
    for name in ("cars.csv", "README.md", ".hidden.png", "Thumbs.db"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "sub.png").mkdir()
    assert data.cars(32, tmp_path)[1] == ["Käfer_日本.png"]


def test_one_error_names_all_bad_files(tmp_path):
    good = folder(
        tmp_path,
        good=(Image.fromarray(car(0)), ".jpg"),
        cut=(Image.fromarray(car(1)), ".jpg"),
        short=(Image.fromarray(car(1)), ".png"),
    )
    for name in ("cut.jpg", "short.png"):
        path = good / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (good / "empty.png").touch()
    (good / "text.webp").write_text("hello")
    (good / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError, match=r"5 of 6 pictures .* cannot be read") as error:
        data.cars(32, good)
    for name in ("cut.jpg", "short.png", "empty.png", "text.webp", "phone.heic"):
        assert name in str(error.value)
    assert "good.jpg" not in str(error.value) and "mend, convert or remove" in str(error.value)


def test_a_decompression_bomb_is_not_decoded(tmp_path):
    Image.new("1", (13_500, 13_500)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png.*decompression bomb"):
        data.cars(32, tmp_path)
    Image.new("1", (9_600, 9_600)).save(tmp_path / "bomb.png")  # Pillow alone only warns here
    with pytest.raises(ValueError, match=r"9600x9600 pixels, expected at most 90,000,000"):
        data.cars(32, tmp_path)


def test_folders_without_pictures(tmp_path):
    with pytest.raises(ValueError, match="no pictures in .*put some there"):
        data.cars(32, tmp_path)
    with pytest.raises(ValueError, match="no folder .*nowhere.*put"):
        data.cars(32, tmp_path / "nowhere")


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": 99999}, {"size": 32.5}, {"limit": 0}])
def test_senseless_sizes(tmp_path, arguments):
    with pytest.raises(ValueError, match="expected a size from 1 to 4096 pixels and a limit"):
        data.cars(folder=tmp_path, **arguments)


def test_course_data_switches_and_never_falls_back(tmp_path, monkeypatch):
    assert data.source() == "cars_sample"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert data.source() == "COURSE_DATA/cars"
    with pytest.raises(ValueError, match="no folder .*cars"):
        data.cars()
    (tmp_path / "cars").mkdir()
    Image.fromarray(car(0)).save(tmp_path / "cars" / "real.jpg")
    assert data.cars()[1] == ["real.jpg"]


def test_split_is_seeded_complete_and_disjoint():
    parts = data.split(100)
    assert [len(part) for part in parts] == [70, 10, 20]
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)
    for part, again in zip(parts, data.split(100), strict=True):
        torch.testing.assert_close(part, again)
    assert data.split(100, seed=1).unseen.tolist() != parts.unseen.tolist()
    assert all(min(map(len, data.split(n))) >= 1 for n in range(3, 40))
    with pytest.raises(ValueError, match="n=2: expected at least one picture to train"):
        data.split(2)


def test_the_unseen_cars_are_those_of_the_shipped_weights():
    """These were trained on all but the last fifth of this order."""
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert data.split(100).unseen.tolist() == sorted(order[80:].tolist())


def test_augment_crops_each_picture_at_its_own_place():
    place = torch.arange(64.0).reshape(1, 1, 8, 8).expand(200, 3, 8, 8)
    torch.manual_seed(0)
    batch = data.augment(4)(place)
    assert batch.shape == (200, 3, 4, 4)
    corners = batch[:, 0, 0, [0, 3]]
    assert len(corners[:, 0].unique()) > 10
    mirrored = (corners[:, 0] > corners[:, 1]).float().mean()
    assert 0.3 < mirrored < 0.7
    torch.manual_seed(0)
    torch.testing.assert_close(data.augment(4)(place), batch)
    torch.testing.assert_close(data.augment(None, flip=False)(place), place)


def test_bytes_and_floats_are_inverse(pictures):
    np.testing.assert_array_equal(data.to_bytes(data.to_float(pictures)), pictures)
    assert data.to_bytes(torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1)).ravel().tolist() == [
        0,
        128,
        255,
    ]


def test_augment_at_many_scales():
    """Each picture is a ramp over its width, so a crop's slope tells how much of it was cut out."""
    ramp = torch.linspace(0, 1, 64).expand(100, 3, 64, 64)
    torch.manual_seed(0)
    batch = data.augment(16, flip=False, area=(1 / 16, 0.25))(ramp)
    assert batch.shape == (100, 3, 16, 16)
    sides = (batch[:, 0, 8, 12] - batch[:, 0, 8, 4]) / 8 * 16  # share of the width
    assert 0.2 < sides.min() < 0.3 and 0.4 < sides.max() < 0.55


def test_augment_exchanges_colours():
    pictures = torch.arange(3.0)[None, :, None, None].expand(300, 3, 4, 4)
    torch.manual_seed(0)
    batch = data.augment(None, flip=False, colours=True)(pictures)
    orders = {tuple(picture[:, 0, 0].int().tolist()) for picture in batch}
    assert len(orders) == 6 and all(set(order) == {0, 1, 2} for order in orders)
    assert (
        0.4 < (batch == pictures).flatten(1).all(1).float().mean() < 0.75
    )  # half, and a sixth of the others


def test_read_without_a_size_keeps_every_pixel(tmp_path):
    Image.fromarray(car(0, 37, 61)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(data.read(tmp_path / "a.png"), car(0, 37, 61))
    Image.new("RGBA", (500, 300), (255, 0, 0, 128)).save(tmp_path / "b.png")
    assert data.read(tmp_path / "b.png").shape == (300, 500, 3) and data.read(tmp_path / "b.png")[
        0, 0
    ].tolist() == [255, 127, 127]


def test_digits_are_the_bundled_ones_in_mnists_shape():
    pictures, labels, train, validation, unseen = data.digits()
    assert pictures.shape == (1797, 1, 28, 28) and pictures.dtype == torch.float32
    assert pictures.min() == 0 and 0.95 < pictures.max() <= 1
    assert sorted(torch.cat([train, validation, unseen]).tolist()) == list(range(1797))
    assert (len(validation), len(unseen)) == (180, 360)
    assert data.source("MNIST") == "scikit-learn's digits"
    corners = pictures[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (
        corners.median() == 0 and pictures.mean((0, 1))[10:18, 10:18].mean() > 0.3
    )  # ink in the middle, on black
    assert labels[0] == 0 and labels[1] == 1


def test_split_with_labels_is_balanced():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    for seed in range(5):
        parts = data.split(100, seed, labels)
        counts = [torch.bincount(labels[part]).tolist() for part in parts]
        assert counts == [[35, 21, 14], [5, 3, 2], [10, 6, 4]]
    parts = data.split(100, labels=labels)
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    assert parts.train.tolist() == sorted(parts.train.tolist())
    torch.testing.assert_close(data.split(100, labels=labels).unseen, parts.unseen)
    assert data.split(100, seed=1, labels=labels).unseen.tolist() != parts.unseen.tolist()


@pytest.mark.parametrize("labels", [torch.zeros(9, dtype=int), torch.zeros(10), torch.arange(10)])
def test_split_needs_a_label_for_each_picture(labels):
    with pytest.raises(
        ValueError,
        match=r"n=10, labels \(\d+,\), torch.*: expected a whole number for each of the n pictures",
    ):
        data.split(10, labels=labels)
