"""Pictures as tensors `(N, C, H, W)`, float32 in [0, 1]: reading, splitting, augmenting.

scikit-learn and torchvision are imported where they are used: to load them takes longer than all
else that a notebook begins with.
"""

import csv
import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from autoencoders.course import ROOT, real_data

# HEIC is listed although Pillow cannot read it: a telephone's photograph shall be named in an
# error, not skipped.
SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".webp",
    ".avif",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".jp2",
    ".ppm",
    ".pgm",
    ".heic",
    ".heif",
}
# Several photographs of a telephone. A small file can claim far more, and fill the memory.
MAX_PIXELS = 90_000_000
SAMPLES = {
    "cars": "cars_sample",
    "MNIST": "scikit-learn's digits",
    "mvtec_ad": "datasets/wheels",
    "paintings": "datasets/bodies",
}
RESTORE = (
    "Expected the files as they came with the course; restore them: git checkout datasets, or take "
    "them again from where you have the course"
)
TURNTABLE_COLUMNS = (
    "sheet",
    "row",
    "view",
    "split",
    "car",
    "body_type",
    "paint",
    "paint_srgb",
    "azimuth",
    "elevation",
    "sha256",
)
# LeCun's names; Fashion-MNIST has the same.
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def source(name: str = "cars") -> str:
    """Which data set a number comes from, as the words that every notebook shows first."""
    return f"COURSE_DATA/{name}" if real_data() else SAMPLES[name]


def cars(
    size: int = 128, folder: str | Path | None = None, limit: int | None = 100
) -> tuple[torch.Tensor, list[str]]:
    """Read the pictures of a folder, each cropped to its central square, `size` pixels wide.

    Without `folder` it is `cars_sample/`, or `$COURSE_DATA/cars/` where that is set. Returns the
    pictures, `(N, 3, size, size)`, float32 in [0, 1], and their file names, both sorted by name;
    only the first `limit` (None: all). Subfolders, hidden files and files that are no pictures are
    passed over. Transparency becomes white, EXIF orientation is applied, animations give their
    first frame. Raises ValueError for a folder without pictures, and one that names all bad files.
    """
    # One rule for the whole course: COURSE_DATA replaces our pictures, an argument replaces both.
    if folder is None:
        folder = real_data() / "cars" if real_data() else ROOT / "cars_sample"
    if not (isinstance(size, int) and 1 <= size <= 4096 and (limit is None or limit >= 1)):
        raise ValueError(
            f"size={size!r}, limit={limit!r}: "
            "expected a size from 1 to 4096 pixels and a limit of at least 1, or None"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"no folder {str(folder)!r}: expected one that holds pictures of cars; "
            "make it and put *.jpg files in it"
        )
    paths = picture_files(folder)[:limit]
    if not paths:
        raise ValueError(
            f"no pictures in {str(folder)!r}: expected files such as car.jpg or car.png directly "
            "in it; put some there"
        )
    return to_float(read_all(paths, size, folder)), [path.name for path in paths]


def picture_files(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name; hidden files are passed over."""
    found = []
    # The file system has an order of its own; the first hundred must be the same everywhere.
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file():
            found.append(path)
    return found


def read_all(paths: list[Path], size: int, folder: Path) -> np.ndarray:
    """Decode files of a folder into a uint8 array `(N, size, size, 3)`.

    Raises one ValueError that names all bad files.
    """
    pictures, bad = np.empty((len(paths), size, size, 3), np.uint8), []
    for picture, path in zip(pictures, paths, strict=True):
        try:
            picture[:] = read(path, size)
        # Decoders raise whatever they like on damaged files, and all bad files go into one error.
        except Exception as error:
            name = path.relative_to(folder).as_posix()
            bad.append(f"{name} ({type(error).__name__}: {error})".replace(str(path), path.name))
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(paths)} pictures in {str(folder)!r} cannot be read: "
            f"{'; '.join(bad)}. Expected whole JPEG, PNG, WebP, ... files; "
            "mend, convert or remove these"
        )
    return pictures


def read(path: str | Path, size: int | None = None) -> np.ndarray:
    """Decode one picture file, uint8 `(size, size, 3)`, or without `size` as it is, `(H, W, 3)`.

    Raises whatever Pillow raises, ValueError for a bomb.
    """
    with warnings.catch_warnings():
        # Our own limit, below, is an error instead.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{image.width}x{image.height} pixels, expected at most {MAX_PIXELS:,}: "
                    "a decompression bomb?"
                )
            if size:
                # A JPEG decodes at 1/2, 1/4 or 1/8 straight away. Twice the size that is wanted is
                # left, so that the last step, a good filter, has something to average.
                image.draft(None, (2 * size, 2 * size))
            image.load()
            # A telephone stores the picture as the chip lay, and how to turn it beside it.
            ImageOps.exif_transpose(image, in_place=True)
            image = _rgb(image, max(1, min(image.size) // (2 * size)) if size else 1)
    return np.asarray(
        ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS) if size else image
    )


def _rgb(image: Image.Image, factor: int) -> Image.Image:
    """The picture in RGB, on white, box-reduced by `factor` as early as its mode allows."""
    # 16 bits a value; Pillow's own conversion clips at 255 instead of scaling.
    if image.mode.startswith("I"):
        image = Image.fromarray(
            (np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8)
        )
    elif image.has_transparency_data:
        image = image.convert("RGBA").reduce(factor)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        factor = 1  # reduced already, before white and picture are blended at every pixel
    # Palettes and the like hold no colours that could be averaged.
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return image.reduce(factor).convert("RGB")


class Turntable(NamedTuple):
    """Cars that turn: pictures, and a label of each kind for each picture.

    The three splits are by car: no car has pictures in two of them.
    """

    pictures: torch.Tensor  # (N, 3, size, size), float32 in [0, 1]
    car: torch.Tensor  # (N,) the car's seed
    body_type: torch.Tensor  # (N,) number of its name in body_types
    paint: torch.Tensor  # (N,) number of its name in paints
    paint_colour: torch.Tensor  # (N, 3) of the paint itself, sRGB in [0, 1]
    azimuth: torch.Tensor  # (N,) degrees from 0 to 360; 0 in front, counter-clockwise from above
    elevation: torch.Tensor  # (N,) degrees over the ground
    train: torch.Tensor  # numbers of pictures, like the next two
    validation: torch.Tensor
    unseen: torch.Tensor
    body_types: list[str]
    paints: list[str]


def turntable(size: int = 64, folder: str | Path = ROOT / "datasets" / "turntable") -> Turntable:
    """1,000 rendered cars, each from six sides, with labels: see `datasets/turntable/README.md`.

    `size` is 64 as stored, or 32, 16 or 8, for which blocks of pixels are averaged. Raises
    ValueError that names a file that is missing, damaged or not the one that the set's table
    describes.
    """
    if size not in (64, 32, 16, 8):
        raise ValueError(f"size={size!r}: expected 64 as stored, or 32, 16 or 8 for quick training")
    folder = Path(folder)
    rows = read_table(folder / "turntable.csv", TURNTABLE_COLUMNS)
    sheets = {}  # each read once, (1280, 384, 3): twenty cars by six views
    for row in rows:
        if row["sheet"] not in sheets:
            sheets[row["sheet"]] = read_sheet(folder / row["sheet"])

    def column(name, value):
        try:
            return torch.tensor([value(row[name]) for row in rows])
        except ValueError as error:
            where = f"column {name} of turntable.csv in {str(folder)!r}"
            raise ValueError(f"{where} cannot be read ({error}). {RESTORE}") from None

    def pictures_of(split):
        return torch.tensor([i for i, row in enumerate(rows) if row["split"] == split])

    pictures = np.empty((len(rows), 64, 64, 3), np.uint8)
    # The corner of each picture in its sheet, in pixels.
    tops, lefts = 64 * column("row", int), 64 * column("view", int)
    for picture, row, top, left in zip(pictures, rows, tops, lefts, strict=True):
        tile = sheets[row["sheet"]][top : top + 64, left : left + 64]
        # The digest is of the pixels: the same picture, packed anew, is still the same.
        if tile.shape != picture.shape or sha256(tile.tobytes()) != row["sha256"]:
            raise ValueError(
                f"{row['sheet']} in {str(folder)!r} is not the one that turntable.csv describes: "
                f"row {row['row']}, view {row['view']} differs. {RESTORE}"
            )
        picture[:] = tile

    # Sorted, so that a number means the same name wherever the table begins.
    body_types = sorted({row["body_type"] for row in rows})
    paints = sorted({row["paint"] for row in rows})
    return Turntable(
        F.avg_pool2d(to_float(pictures), 64 // size),
        column("car", int),
        column("body_type", body_types.index),
        column("paint", paints.index),
        column("paint_srgb", hexadecimal_colour),
        column("azimuth", float),
        column("elevation", float),
        pictures_of("train"),
        pictures_of("validation"),
        pictures_of("test"),
        body_types,
        paints,
    )


class Inspection(NamedTuple):
    """Pictures of parts, good and defective, with a mask of each defect."""

    pictures: torch.Tensor  # (N, 3, size, size), float32 in [0, 1]
    masks: torch.Tensor | None  # (N, 1, size, size), 1 on a defect; None where a set has none
    defect: torch.Tensor  # (N,) number in defects; 0 is good
    train: torch.Tensor  # numbers of pictures, like the next two
    validation: torch.Tensor  # empty where a set has none
    unseen: torch.Tensor
    defects: list[str]  # "good", then the kinds of defect
    files: list[str]  # of the pictures, relative to the folder


def wheels(size: int = 128, folder: str | Path | None = None) -> Inspection:
    """Rendered wheels, good and with one of eight defects: see `datasets/wheels/README.md`.

    `folder` may be any category in the layout of MVTec AD (Bergmann et al. 2019): `train/good`,
    `test/good`, `test/<defect>` and, where there are any, `validation/good` and
    `ground_truth/<defect>/<number>_mask.png`, or, as in MVTec LOCO AD and Auto VI, a folder
    `ground_truth/<defect>/<number>/` of masks, which are put together. What is not square is
    cropped to its central square. Raises ValueError that names a file or folder that is missing,
    damaged, of another size than its picture, of 16 bits a value, grey among pictures in colour,
    or not the one that the set's own table describes.
    """
    table = {"file": "sha256", "mask": "mask_sha256"}  # which column has the digests of which files
    folder = check_files(folder, "wheels", table)
    paths = []
    for split in ("train", "validation", "test"):
        for sub in subfolders(folder / split):
            paths += picture_files(sub)
    kinds = [path.parent.name for path in paths]
    splits = [path.parent.parent.name for path in paths]
    for split in ("train", "test"):
        if (split, "good") not in zip(splits, kinds, strict=True):
            raise ValueError(
                f"no pictures in {str(folder / split / 'good')!r}: expected MVTec AD's layout, "
                "train/good, test/good and test/<defect>; put the pictures there"
            )
    if splits.count("train") < 2:
        raise ValueError(
            f"1 picture in {str(folder / 'train' / 'good')!r}: expected at least 2, from which to "
            "see what varies among good ones; put more there"
        )
    check_modes(paths, folder)
    # Training and validation come first in the list; what stands there shall be good.
    stray = sorted(set(kinds[: splits.index("test")]) - {"good"})
    if stray:
        raise ValueError(
            f"{stray} in {str(folder)!r} among the pictures for training or validation: "
            "expected good ones alone; move the others to test"
        )
    defects = ["good", *sorted(set(kinds) - {"good"})]
    masks = None
    if (folder / "ground_truth").is_dir():
        masks = np.stack([read_mask(path, folder, size) for path in paths])
        masks = torch.from_numpy(masks)[:, None]  # (N, 1, size, size)

    def pictures_of(split):
        return torch.tensor([i for i, s in enumerate(splits) if s == split], dtype=torch.long)

    return Inspection(
        to_float(read_all(paths, size, folder)),
        masks,
        torch.tensor([defects.index(kind) for kind in kinds]),
        pictures_of("train"),
        pictures_of("validation"),
        pictures_of("test"),
        defects,
        [path.relative_to(folder).as_posix() for path in paths],
    )


def category() -> str:
    """The category of MVTec AD that a run with `COURSE_DATA` reads: `$COURSE_CATEGORY`, or capsule.

    The capsule has the official split, and is not solved without a network.
    """
    return os.environ.get("COURSE_CATEGORY") or "capsule"


def inspected(size: int = 128) -> Inspection:
    """The parts that notebook 06 looks for defects on, always with pictures for validation.

    By default our `wheels`; with `COURSE_DATA` the folder `$COURSE_DATA/mvtec_ad/<category>`.
    Where a set has none for validation, a fifth of its good training pictures is, by a seeded
    draw. Raises ValueError as `wheels` does, and for a category that is not there.
    """
    folder = None
    if real_data():
        folder = real_data() / "mvtec_ad" / category()
        if not folder.is_dir():
            there = [sub.name for sub in subfolders(folder.parent)]
            raise ValueError(
                f"no folder {str(folder)!r}: expected one in MVTec AD's layout; put it there, or "
                f"choose COURSE_CATEGORY from {there}"
            )
    parts = wheels(size, folder)
    if len(parts.validation):
        return parts
    # As many draws on every machine, and a sorted part, as in `split`.
    order = torch.randperm(len(parts.train), generator=torch.Generator().manual_seed(0))
    count = max(1, len(parts.train) // 5)
    validation = parts.train[order[:count]].sort().values
    return parts._replace(train=parts.train[order[count:]].sort().values, validation=validation)


def check_modes(paths: list[Path], folder: Path) -> None:
    """Raise ValueError that names pictures of 16 bits a value, or grey ones among coloured ones.

    A camera takes all alike; one that differs is a mistake, and would be found as a defect. Files
    that cannot be opened are left to `read_all`.
    """
    modes = {}
    for path in paths:
        try:
            with Image.open(path) as image:
                modes[path] = image.mode
        except Exception:  # decoders raise whatever they like on damaged files
            continue
    deep = [path for path, mode in modes.items() if mode.startswith(("I", "F"))]
    grey = [path for path, mode in modes.items() if mode in ("1", "L", "LA")]
    if len(grey) == len(modes):
        grey = []  # grey throughout, as the camera took it
    for bad, what in ((deep, "16 bits a value"), (grey, "grey among pictures in colour")):
        if not bad:
            continue
        names = ", ".join(path.relative_to(folder).as_posix() for path in bad[:5])
        raise ValueError(
            f"{len(bad)} of {len(paths)} pictures in {str(folder)!r} have {what}: {names}"
            f"{', ...' if len(bad) > 5 else ''}. Expected 8 bits, and all grey or all in colour; "
            "convert them"
        )


def read_mask(path: Path, folder: Path, size: int) -> np.ndarray:
    """The mask of a picture in MVTec's layout, float32 `(size, size)` of 0 and 1; all 0 if good.

    Where a picture has a folder of masks, as in MVTec LOCO AD, a pixel of any of them counts.
    """
    kind = path.parent.name
    if kind == "good":
        return np.zeros((size, size), np.float32)
    masks = folder / "ground_truth" / kind
    if (masks / path.stem).is_dir():
        files = picture_files(masks / path.stem)
        if not files:
            raise ValueError(
                f"no masks in {str(masks / path.stem)!r}: expected 000.png, ..., as MVTec LOCO AD "
                "has them; put them there, or take ground_truth away"
            )
        # There each kind of fault has a grey level of its own, none of them 0.
        parts = [one_mask(file, path, folder, size) > 0 for file in files]
        return np.any(parts, axis=0).astype(np.float32)
    # MVTec's masks are 0 and 255; what stands between came of a lossy copy.
    grey = one_mask(masks / f"{path.stem}_mask.png", path, folder, size)
    return (grey > 127).astype(np.float32)


def one_mask(file: Path, path: Path, folder: Path, size: int) -> np.ndarray:
    """One file of a picture's mask, uint8 `(size, size)`. Raises ValueError that names it."""
    kind = path.parent.name
    name = file.relative_to(folder).as_posix()
    try:
        with Image.open(path) as picture, Image.open(file) as mask:
            if mask.size != picture.size:
                raise ValueError(f"{mask.width}x{mask.height} pixels, not its picture's size")
            grey = ImageOps.fit(mask.convert("L"), (size, size), Image.Resampling.NEAREST)
    except Exception as error:  # decoders raise whatever they like on damaged files
        about = f"{type(error).__name__}: {error}".replace(str(file), file.name)
        raise ValueError(
            f"mask {name} in {str(folder)!r} cannot be read ({about}): expected one of the size of "
            f"test/{kind}/{path.name}; put it there, or take ground_truth away"
        ) from None
    return np.asarray(grey)


class Collection(NamedTuple):
    """Pictures sorted into classes."""

    pictures: torch.Tensor  # (N, 3, size, size), float32 in [0, 1]
    label: torch.Tensor  # (N,) number in classes
    train: torch.Tensor  # numbers of pictures
    unseen: torch.Tensor
    classes: list[str]
    files: list[str]  # of the pictures, relative to the folder


def bodies(size: int = 128, folder: str | Path | None = None) -> Collection:
    """Rendered cars by body type, in ordinary settings: see `datasets/bodies/README.md`.

    `folder` may be any that has pictures in `train/<class>/` and `test/<class>/`, as torchvision's
    ImageFolder reads them; they are cropped to their central square. Raises ValueError that names a
    file or folder that is missing, damaged, or not the one that the set's own table describes.
    """
    folder = check_files(folder, "bodies", {"file": "sha256"})
    classes = [sub.name for sub in subfolders(folder / "train")]
    if not classes:
        raise ValueError(
            f"no folders in {str(folder / 'train')!r}: expected one for each class, "
            "with its pictures in it"
        )
    paths = []
    # The classes are those of training: a test without one of them would be no test of it.
    for split in ("train", "test"):
        for name in classes:
            sub = folder / split / name
            found = picture_files(sub) if sub.is_dir() else []
            if not found:
                raise ValueError(
                    f"no pictures in {str(sub)!r}: expected some of each class; put them there"
                )
            paths += found
    in_train = torch.tensor([path.parent.parent.name == "train" for path in paths])
    return Collection(
        to_float(read_all(paths, size, folder)),
        torch.tensor([classes.index(path.parent.name) for path in paths]),
        in_train.nonzero()[:, 0],
        (~in_train).nonzero()[:, 0],
        classes,
        [path.relative_to(folder).as_posix() for path in paths],
    )


def sorted_pictures(folder: str | Path, size: int = 128) -> Collection:
    """The pictures of a folder with a subfolder for each class, as torchvision's ImageFolder.

    All are for training; `classification.folds` makes splits. Each is cropped to its central
    square. Raises ValueError that names a class with fewer than two pictures, which can be in no
    split, and one that names all bad files.
    """
    folder = Path(folder)
    classes = subfolders(folder)
    paths = []
    for sub in classes:
        found = picture_files(sub)
        if len(found) < 2:
            raise ValueError(
                f"{len(found)} pictures of class {sub.name!r} in {str(folder)!r}: expected at "
                "least 2, one to learn from and one to test; put more there, or take the folder "
                "away"
            )
        paths += found
    if len(classes) < 2:
        raise ValueError(
            f"{len(classes)} folders in {str(folder)!r}: expected at least 2, one for each class, "
            "with its pictures in it"
        )
    names = [sub.name for sub in classes]
    return Collection(
        to_float(read_all(paths, size, folder)),
        torch.tensor([names.index(path.parent.name) for path in paths]),
        torch.arange(len(paths)),
        torch.arange(0),
        names,
        [path.relative_to(folder).as_posix() for path in paths],
    )


def uneven(size: int = 128) -> tuple[Collection, torch.Tensor]:
    """The collection of notebook 07, and width and height of each file in pixels, `(N, 2)`.

    By default our `bodies`, which come in two splits; with `COURSE_DATA` the paintings in
    `$COURSE_DATA/paintings/<artist>/`, in one. Raises ValueError.
    """
    if real_data():
        folder = real_data() / "paintings"
        collection = sorted_pictures(folder, size)
    else:
        folder = ROOT / "datasets" / "bodies"
        collection = bodies(size)
    shapes = []
    for file in collection.files:
        with Image.open(folder / file) as image:
            shapes.append(image.size)
    return collection, torch.tensor(shapes)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none where it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and sub.name[0] != ".")


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a set's table. Raises ValueError where it is missing, empty or lacks a column."""
    if not path.is_file():
        raise ValueError(f"no table {path.name} in {str(path.parent)!r}. {RESTORE}")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path.name} in {str(path.parent)!r} has no rows. {RESTORE}")
    for number, row in enumerate(rows, 1):
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise ValueError(
                f"{path.name} in {str(path.parent)!r}: row {number} lacks {', '.join(missing)}. "
                f"{RESTORE}"
            )
    return rows


def check_files(folder: str | Path | None, name: str, columns: dict[str, str]) -> Path:
    """Compare a set's files with its table: each there, each with its sha256. Returns the folder.

    None is our own set of that name, which has a table; another folder may have one. `columns` says
    in which column the digest of a column's files stands.
    """
    own = folder is None  # only our own set must have a table
    folder = ROOT / "datasets" / name if own else Path(folder)
    table = folder / f"{name}.csv"
    if not own and not table.is_file():
        return folder
    for row in read_table(table, [*columns, *columns.values()]):
        for column, digest in columns.items():
            file = row[column]  # "" where a good picture has no mask
            if file and not (folder / file).is_file():
                raise ValueError(f"{file} is missing in {str(folder)!r}. {RESTORE}")
            if file and sha256((folder / file).read_bytes()) != row[digest]:
                raise ValueError(
                    f"{file} in {str(folder)!r} is not the one of {table.name}. {RESTORE}"
                )
    return folder


def read_sheet(path: Path) -> np.ndarray:
    """A sheet of pictures as uint8 `(H, W, 3)`. Raises ValueError that names it."""
    try:
        return read(path)
    except Exception as error:  # decoders raise whatever they like on damaged files
        about = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        raise ValueError(
            f"{path.name} in {str(path.parent)!r} cannot be read ({about}). {RESTORE}"
        ) from None


def hexadecimal_colour(text: str) -> tuple[float, float, float]:
    """ "#ff8000" as red, green and blue in [0, 1]."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red / 255, green / 255, blue / 255


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Digits(NamedTuple):
    """Grey pictures with a class each: digits, or garments in their format."""

    pictures: torch.Tensor  # (N, 1, 28, 28), float32 in [0, 1]
    labels: torch.Tensor  # (N,) from 0 to 9
    train: torch.Tensor  # numbers of pictures, like the next two
    validation: torch.Tensor
    unseen: torch.Tensor


def digits() -> Digits:
    """Handwritten digits, 28x28 pixels, white on black.

    By default scikit-learn's 1,797 of 8x8 pixels and 17 greys, enlarged, in the parts that `split`
    makes. With `COURSE_DATA` it is MNIST (LeCun et al. 1998) from `$COURSE_DATA/MNIST/raw/`, as
    `idx` reads it. Raises ValueError.
    """
    if real_data():
        return idx("MNIST", real_data())
    from sklearn.datasets import load_digits

    bundled = load_digits()
    pictures = torch.from_numpy(bundled.images).float()[:, None] / 16  # (1797, 1, 8, 8)
    pictures = F.interpolate(pictures, size=28, mode="bicubic").clamp(0, 1)
    labels = torch.from_numpy(bundled.target).long()
    return Digits(pictures, labels, *split(len(labels), labels=labels))


def idx(name: str, folder: str | Path) -> Digits:
    """ "MNIST" or "FashionMNIST" from `folder/<name>/raw/`.

    Its own test pictures are unseen; the last sixth of the others, 10,000 as many as these, is for
    validation, the rest for training. Raises ValueError that names all bad files.
    """
    from torchvision import datasets

    raw = Path(folder) / name / "raw"
    # torchvision would only say that the set is not there.
    faults = {file: idx_fault(raw / file) for file in IDX}
    bad = [f"{file} ({fault})" for file, fault in faults.items() if fault]
    if bad:
        which = "mnist" if name == "MNIST" else "fashion-mnist"
        raise ValueError(
            f"{len(bad)} of 4 files in {str(raw)!r} cannot be read: {'; '.join(bad)}. Put whole "
            f"ones there, or run `python -m autoencoders download {which} --to {folder}`"
        )
    pictures, labels = [], []
    for train in (True, False):
        part = getattr(datasets, name)(folder, train=train)
        if len(part.data) != len(part.targets):
            raise ValueError(
                f"{len(part.data)} pictures, {len(part.targets)} labels in {str(raw)!r}: "
                "expected one label a picture; put files of one data set there"
            )
        pictures.append(part.data)
        labels.append(part.targets)
    count = len(labels[0])
    # The files are shuffled already, so the last of them are as good as any.
    cuts = count - count // 6, count
    numbers = torch.tensor_split(torch.arange(count + len(labels[1])), cuts)
    return Digits(torch.cat(pictures)[:, None].float() / 255, torch.cat(labels), *numbers)


def idx_fault(path: Path) -> str:
    """What is wrong with a file of bytes in MNIST's idx format, uncompressed; "" if nothing is.

    Right is a file whose length is what its header says.
    """
    if not path.is_file():
        return "missing"
    dimensions = 3 if "idx3" in path.name else 1  # pictures, or labels
    # A number that says the format, then a length for each dimension, big end first.
    with path.open("rb") as file:
        start = file.read(4 + 4 * dimensions)
    # A file cut short has fewer bytes; the last number that is whole is the last that counts.
    header = np.frombuffer(start[: len(start) // 4 * 4], ">i4")
    if (
        len(header) < 1 + dimensions
        or header[0] != 0x800 + dimensions  # 0x08 says bytes
        or tuple(header[2:]) not in ((), (28, 28))
    ):
        return (
            "not an idx file of 28x28 pictures" if dimensions == 3 else "not an idx file of labels"
        )
    expected, size = 4 + 4 * dimensions + int(header[1:].prod(dtype=np.int64)), path.stat().st_size
    return "" if size == expected else f"{size:,} bytes, expected {expected:,}"


class Split(NamedTuple):
    """Numbers of pictures, each sorted: what trains, what chooses, and what is reported once."""

    train: torch.Tensor
    validation: torch.Tensor  # for early stopping and every other choice
    unseen: torch.Tensor  # for the one number that is reported


def split(n: int, seed: int = 0, labels: torch.Tensor | None = None) -> Split:
    """Split the numbers 0 to n - 1: seven tenths train, one validates, two are unseen.

    The same for the same `n` and `seed`. With `labels` `(n,)` each label has about the same share
    in each part. Raises ValueError where a part would be empty or lack a label.
    """
    if labels is not None:
        return _stratified(n, seed, labels)
    end = round(0.8 * n)
    start = end - max(1, round(n / 10))  # of the pictures for validation
    if not 0 < start < end < n:
        raise ValueError(
            f"n={n}: expected at least one picture to train, to validate and unseen; "
            "give 3 pictures or more"
        )
    # A generator of its own: the global one, which training uses, stays where it is.
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    parts = torch.tensor_split(order, (start, end))
    return Split(*(part.sort().values for part in parts))


def _stratified(n: int, seed: int, labels: torch.Tensor) -> Split:
    """`split` with the same share of each label in each part."""
    counts = torch.zeros(1, dtype=torch.long)
    if labels.shape == (n,) and not labels.is_floating_point():
        counts = labels.unique(return_counts=True)[1]
    if counts.min() < 8:  # with fewer, an eighth of what is not unseen may be none
        raise ValueError(
            f"n={n}, labels {tuple(labels.shape)}, {labels.dtype}: expected a whole number for "
            "each of the n pictures, each at least 8 times; pass the labels of all pictures"
        )
    # In two steps, so that the unseen ones stay the same whatever the others are used for.
    rest, unseen = _stratified_cut(np.arange(n), labels.numpy(), 0.8, seed)
    train, validation = _stratified_cut(rest, labels.numpy(), 7 / 8, seed)
    return Split(*(torch.from_numpy(np.sort(part)) for part in (train, validation, unseen)))


def _stratified_cut(
    numbers: np.ndarray, labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    return train_test_split(numbers, train_size=share, random_state=seed, stratify=labels[numbers])


def augment(
    crop: int | None = None,
    flip: bool = True,
    area: tuple[float, float] | None = None,
    colours: bool = False,
):
    """A function that crops and mirrors the pictures of a batch `(N, 3, H, W)` at random.

    Each is cropped at a place of its own, and every other one is mirrored.

    With `area`, what is cut out is a square of a share of the picture between those two, brought to
    `crop` pixels; with `colours`, every other picture has its channels exchanged. For
    `training.fit(prepare_batch=...)`; random numbers are torch's, which a checkpoint keeps.
    """
    from torchvision.transforms import v2

    cut = v2.RandomCrop(crop) if crop else v2.Identity()
    if area:
        cut = v2.RandomResizedCrop(crop, area, (1, 1), interpolation=v2.InterpolationMode.BICUBIC)
    exchange = v2.RandomApply([v2.RandomChannelPermutation()]) if colours else v2.Identity()
    transform = v2.Compose([cut, v2.RandomHorizontalFlip(0.5 if flip else 0), exchange])
    # One by one: torchvision draws a place once for each call, which a batch would share.
    return lambda pictures: torch.stack([transform(picture) for picture in pictures])


def to_bytes(pictures: torch.Tensor) -> np.ndarray:
    """Tensors `(N, 3, H, W)` in [0, 1] to uint8 arrays `(N, H, W, 3)`, clipped and rounded."""
    return (
        (pictures.detach().cpu().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).numpy()
    )


def to_float(pictures: np.ndarray) -> torch.Tensor:
    """uint8 arrays `(N, H, W, 3)` to float32 tensors `(N, 3, H, W)` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3))).float() / 255
