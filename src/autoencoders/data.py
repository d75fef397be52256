"""Pictures as tensors `(N, C, H, W)`, float32 in [0, 1], from a folder or from MNIST's files: reading, splitting, augmenting."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F
from torchvision import datasets
from torchvision.transforms import v2

ROOT = Path(__file__).resolve().parents[2]
# HEIC is listed although Pillow cannot read it: a telephone's photograph shall be named in an error, not skipped.
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
MAX_PIXELS = 90_000_000
SAMPLES = {"cars": "cars_sample", "MNIST": "scikit-learn's digits"}
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def real_data() -> Path | None:
    """The folder that `COURSE_DATA` names, or None where the course runs on what the repository holds.

    A relative path counts from the repository's root, so that it means the same from a notebook and from the shell.
    """
    folder = os.environ.get("COURSE_DATA")
    return (ROOT / folder).resolve() if folder else None


def source(name: str = "cars") -> str:
    """Which data set a number comes from, as the words that every notebook shows first."""
    return f"COURSE_DATA/{name}" if real_data() else SAMPLES[name]


def cars(
    size: int = 128, folder: str | Path | None = None, limit: int | None = 100
) -> tuple[torch.Tensor, list[str]]:
    """Read the pictures of a folder, each cropped to its central square and brought to `size` pixels.

    Without `folder` it is `cars_sample/`, or `$COURSE_DATA/cars/` where that is set. Returns the pictures, `(N, 3, size,
    size)`, float32 in [0, 1], and their file names, both sorted by name; only the first `limit` (None: all). Subfolders,
    hidden files and files that are no pictures are passed over. Transparency becomes white, EXIF orientation is applied,
    animations give their first frame. Raises ValueError for a folder without pictures, and one that names all bad files.
    """
    if folder is None:
        folder = real_data() / "cars" if real_data() else ROOT / "cars_sample"
    if not (isinstance(size, int) and 1 <= size <= 4096 and (limit is None or limit >= 1)):
        raise ValueError(
            f"size={size!r}, limit={limit!r}: expected a size from 1 to 4096 pixels and a limit of at least 1, or None"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"no folder {str(folder)!r}: expected one that holds pictures of cars; make it and put *.jpg files in it"
        )
    paths = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file()
    )[:limit]
    if not paths:
        raise ValueError(
            f"no pictures in {str(folder)!r}: expected files such as car.jpg or car.png directly in it; put some there"
        )
    pictures, bad = np.empty((len(paths), size, size, 3), np.uint8), []
    for picture, path in zip(pictures, paths, strict=True):
        try:
            picture[:] = read(path, size)
        except Exception as error:  # decoders raise whatever they like on damaged files, and all bad files go into one error
            bad.append(
                f"{path.name} ({type(error).__name__}: {error})".replace(str(path), path.name)
            )
    if bad:
        what = f"{len(bad)} of {len(paths)} pictures in {str(folder)!r} cannot be read: {'; '.join(bad)}"
        raise ValueError(
            f"{what}. Expected whole JPEG, PNG, WebP, ... files; mend, convert or remove these"
        )
    return to_float(pictures), [p.name for p in paths]


def read(path: str | Path, size: int | None = None) -> np.ndarray:
    """Decode one picture file into a uint8 array `(size, size, 3)`, or without `size` as it is, `(H, W, 3)`.

    Raises whatever Pillow raises, ValueError for a bomb.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", Image.DecompressionBombWarning
        )  # our own limit, below, is an error instead
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{image.width}x{image.height} pixels, expected at most {MAX_PIXELS:,}: a decompression bomb?"
                )
            if size:
                image.draft(
                    None, (2 * size, 2 * size)
                )  # a JPEG decodes at 1/2, 1/4 or 1/8 straight away
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            image = _rgb(image, max(1, min(image.size) // (2 * size)) if size else 1)
    return np.asarray(
        ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS) if size else image
    )


def _rgb(image: Image.Image, factor: int) -> Image.Image:
    """The picture in RGB, on white, box-reduced by `factor` as early as its mode allows."""
    if image.mode.startswith(
        "I"
    ):  # 16 bits a value; Pillow's own conversion clips at 255 instead of scaling
        image = Image.fromarray(
            (np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8)
        )
    elif image.has_transparency_data:
        image = image.convert("RGBA").reduce(factor)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        factor = 1
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return image.reduce(factor).convert("RGB")


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Handwritten digits: pictures `(N, 1, 28, 28)`, float32 in [0, 1], their labels `(N,)`, numbers of training and of unseen ones.

    By default scikit-learn's 1,797, of 8x8 pixels and 17 greys, brought to 28x28; a fifth is unseen. With `COURSE_DATA` it is
    MNIST (LeCun et al. 1998) and its own split, from `$COURSE_DATA/MNIST/raw/`. Raises ValueError.
    """
    if real_data():
        return idx("MNIST", real_data())
    bundled = load_digits()
    pictures = torch.from_numpy(bundled.images).float()[:, None] / 16
    pictures = F.interpolate(pictures, size=28, mode="bicubic").clamp(0, 1)
    labels = torch.from_numpy(bundled.target).long()
    return pictures, labels, *split(len(labels), labels=labels)


def idx(
    name: str, folder: str | Path
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """ "MNIST" or "FashionMNIST" from `folder/<name>/raw/`, as `digits` returns it. Raises ValueError that names all bad files."""
    raw = Path(folder) / name / "raw"
    if bad := [f"{file} ({fault})" for file in IDX if (fault := idx_fault(raw / file))]:
        command = f"python -m autoencoders download {'mnist' if name == 'MNIST' else 'fashion-mnist'} --to {folder}"
        raise ValueError(
            f"{len(bad)} of 4 files in {str(raw)!r} cannot be read: {'; '.join(bad)}. Put whole ones there, or run `{command}`"
        )
    parts = [getattr(datasets, name)(folder, train=train) for train in (True, False)]
    if wrong := [
        f"{len(part.data)} pictures, {len(part.targets)} labels"
        for part in parts
        if len(part.data) != len(part.targets)
    ]:
        raise ValueError(
            f"{'; '.join(wrong)} in {str(raw)!r}: expected one label a picture; put files of one data set there"
        )
    pictures, labels = (
        torch.cat([part.data for part in parts]),
        torch.cat([part.targets for part in parts]),
    )
    return (
        pictures[:, None].float() / 255,
        labels,
        *torch.arange(len(labels)).split([len(part.data) for part in parts]),
    )


def idx_fault(path: Path) -> str:
    """What is wrong with an uncompressed file of bytes in MNIST's idx format, or "" where its length is what its header says."""
    if not path.is_file():
        return "missing"
    dimensions = 3 if "idx3" in path.name else 1
    with path.open("rb") as file:
        start = file.read(4 + 4 * dimensions)
    header = np.frombuffer(start[: len(start) // 4 * 4], ">i4")
    if (
        len(header) < 1 + dimensions
        or header[0] != 0x800 + dimensions
        or tuple(header[2:]) not in ((), (28, 28))
    ):
        return (
            "not an idx file of 28x28 pictures" if dimensions == 3 else "not an idx file of labels"
        )
    expected, size = 4 + 4 * dimensions + int(header[1:].prod(dtype=np.int64)), path.stat().st_size
    return "" if size == expected else f"{size:,} bytes, expected {expected:,}"


def split(
    n: int, train: float = 0.8, seed: int = 0, labels: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the numbers 0 to n - 1 into training and unseen ones, each sorted: the same for the same `n` and `seed`.

    With `labels` `(n,)` each label has the same share on both sides. Raises ValueError where a side would be empty or lack a label.
    """
    if labels is not None:
        counts = (
            torch.bincount(labels)
            if labels.shape == (n,) and not labels.is_floating_point()
            else torch.zeros(1)
        )
        if counts[counts > 0].numel() == 0 or counts[counts > 0].min() < 2:
            what = f"n={n}, labels {tuple(labels.shape)}, {labels.dtype}"
            raise ValueError(
                f"{what}: expected a whole number for each of the n pictures, each at least twice; pass the labels of all pictures"
            )
        parts = train_test_split(
            np.arange(n), train_size=train, random_state=seed, stratify=labels.numpy()
        )
        return tuple(torch.from_numpy(np.sort(part)) for part in parts)
    cut = round(n * train)
    if not 0 < cut < n:
        raise ValueError(
            f"n={n}, train={train}: expected at least one picture on either side; give more pictures or another share"
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[:cut].sort().values, order[cut:].sort().values


def augment(
    crop: int | None = None,
    flip: bool = True,
    area: tuple[float, float] | None = None,
    colours: bool = False,
):
    """A function that crops each picture of a batch `(N, 3, H, W)` at its own random place and mirrors every other one.

    With `area`, what is cut out is a square of a share of the picture between those two, brought to `crop` pixels; with `colours`,
    every other picture has its channels exchanged. For `training.fit(prepare_batch=...)`; random numbers are torch's, which a
    checkpoint keeps.
    """
    cut = v2.RandomCrop(crop) if crop else v2.Identity()
    if area:
        cut = v2.RandomResizedCrop(crop, area, (1, 1), interpolation=v2.InterpolationMode.BICUBIC)
    exchange = v2.RandomApply([v2.RandomChannelPermutation()]) if colours else v2.Identity()
    transform = v2.Compose([cut, v2.RandomHorizontalFlip(0.5 if flip else 0), exchange])
    return lambda pictures: torch.stack([transform(picture) for picture in pictures])


def to_bytes(pictures: torch.Tensor) -> np.ndarray:
    """Tensors `(N, 3, H, W)` in [0, 1] to uint8 arrays `(N, H, W, 3)`, clipped and rounded."""
    return (
        (pictures.detach().cpu().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).numpy()
    )


def to_float(pictures: np.ndarray) -> torch.Tensor:
    """uint8 arrays `(N, H, W, 3)` to float32 tensors `(N, 3, H, W)` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3))).float() / 255
