"""Pictures from a folder, as tensors `(N, 3, H, W)`, float32 in [0, 1]: reading, splitting, augmenting."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

ROOT = Path(__file__).resolve().parents[2]
# HEIC is listed although Pillow cannot read it: a telephone's photograph shall be named in an error, not skipped.
SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".heic", ".heif"}
MAX_PIXELS = 90_000_000


def real_data() -> Path | None:
    """The folder that `COURSE_DATA` names, or None where the course runs on what the repository holds.

    A relative path counts from the repository's root, so that it means the same from a notebook and from the shell.
    """
    folder = os.environ.get("COURSE_DATA")
    return (ROOT / folder).resolve() if folder else None


def source(name: str = "cars") -> str:
    """Which data set a number comes from, as the words that every notebook shows first."""
    return f"COURSE_DATA/{name}" if real_data() else f"{name}_sample"


def cars(size: int = 128, folder: str | Path | None = None, limit: int | None = 100) -> tuple[torch.Tensor, list[str]]:
    """Read the pictures of a folder, each cropped to its central square and brought to `size` pixels.

    Without `folder` it is `cars_sample/`, or `$COURSE_DATA/cars/` where that is set. Returns the pictures, `(N, 3, size,
    size)`, float32 in [0, 1], and their file names, both sorted by name; only the first `limit` (None: all). Subfolders,
    hidden files and files that are no pictures are passed over. Transparency becomes white, EXIF orientation is applied,
    animations give their first frame. Raises ValueError for a folder without pictures, and one that names all bad files.
    """
    if folder is None:
        folder = real_data() / "cars" if real_data() else ROOT / "cars_sample"
    if not (isinstance(size, int) and 1 <= size <= 4096 and (limit is None or limit >= 1)):
        raise ValueError(f"size={size!r}, limit={limit!r}: expected a size from 1 to 4096 pixels and a limit of at least 1, or None")
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no folder {str(folder)!r}: expected one that holds pictures of cars; make it and put *.jpg files in it")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file())[:limit]
    if not paths:
        raise ValueError(f"no pictures in {str(folder)!r}: expected files such as car.jpg or car.png directly in it; put some there")
    pictures, bad = np.empty((len(paths), size, size, 3), np.uint8), []
    for picture, path in zip(pictures, paths, strict=True):
        try:
            picture[:] = read(path, size)
        except Exception as error:  # decoders raise whatever they like on damaged files, and all bad files go into one error
            bad.append(f"{path.name} ({type(error).__name__}: {error})".replace(str(path), path.name))
    if bad:
        what = f"{len(bad)} of {len(paths)} pictures in {str(folder)!r} cannot be read: {'; '.join(bad)}"
        raise ValueError(f"{what}. Expected whole JPEG, PNG, WebP, ... files; mend, convert or remove these")
    return to_float(pictures), [p.name for p in paths]


def read(path: str | Path, size: int | None = None) -> np.ndarray:
    """Decode one picture file into a uint8 array `(size, size, 3)`, or without `size` as it is, `(H, W, 3)`.

    Raises whatever Pillow raises, ValueError for a bomb.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit, below, is an error instead
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, expected at most {MAX_PIXELS:,}: a decompression bomb?")
            if size:
                image.draft(None, (2 * size, 2 * size))  # a JPEG decodes at 1/2, 1/4 or 1/8 straight away
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            image = _rgb(image, max(1, min(image.size) // (2 * size)) if size else 1)
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS) if size else image)


def _rgb(image: Image.Image, factor: int) -> Image.Image:
    """The picture in RGB, on white, box-reduced by `factor` as early as its mode allows."""
    if image.mode.startswith("I"):  # 16 bits a value; Pillow's own conversion clips at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA").reduce(factor)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        factor = 1
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return image.reduce(factor).convert("RGB")


def split(n: int, train: float = 0.8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the numbers 0 to n - 1 into training and unseen ones, each sorted: the same for the same `n` and `seed`.

    Raises ValueError where a side would be empty.
    """
    cut = round(n * train)
    if not 0 < cut < n:
        raise ValueError(f"n={n}, train={train}: expected at least one picture on either side; give more pictures or another share")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[:cut].sort().values, order[cut:].sort().values


def augment(crop: int | None = None, flip: bool = True, area: tuple[float, float] | None = None, colours: bool = False):
    """A function that crops each picture of a batch `(N, 3, H, W)` at its own random place and mirrors every other one.

    With `area`, what is cut out is a square of a share of the picture between those two, brought to `crop` pixels; with `colours`,
    every other picture has its channels exchanged. For `training.fit(augment=...)`; random numbers are torch's, which a checkpoint keeps.
    """
    cut = v2.RandomCrop(crop) if crop else v2.Identity()
    if area:
        cut = v2.RandomResizedCrop(crop, area, (1, 1), interpolation=v2.InterpolationMode.BICUBIC)
    exchange = v2.RandomApply([v2.RandomChannelPermutation()]) if colours else v2.Identity()
    transform = v2.Compose([cut, v2.RandomHorizontalFlip(0.5 if flip else 0), exchange])
    return lambda pictures: torch.stack([transform(picture) for picture in pictures])


def to_bytes(pictures: torch.Tensor) -> np.ndarray:
    """Tensors `(N, 3, H, W)` in [0, 1] to uint8 arrays `(N, H, W, 3)`, clipped and rounded."""
    return (pictures.detach().cpu().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).numpy()


def to_float(pictures: np.ndarray) -> torch.Tensor:
    """uint8 arrays `(N, H, W, 3)` to float32 tensors `(N, 3, H, W)` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3))).float() / 255
