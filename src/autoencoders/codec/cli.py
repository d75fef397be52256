"""The codec's commands: encode, decode and info. `autoencoders.__main__` adds them."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from autoencoders import course, data, metrics
from autoencoders.codec import container, files, training
from autoencoders.codec.refinement import refine
from autoencoders.course import CorruptFileError

# ---- encode ----


def add_encode(commands) -> None:
    """Add `encode` to the parsers of a command line."""
    # Defaults of options that exclude each other are None: `run_encode` must see what was given.
    command = commands.add_parser("encode", help="pictures into one small file")
    command.add_argument(
        "pictures",
        nargs="+",
        type=Path,
        metavar="PICTURE",
        help="JPEG, PNG, WebP, ..., up to 4096x4096 pixels",
    )
    command.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="what to write, such as cars.aez",
    )
    command.add_argument(
        "--quality",
        type=int,
        metavar="1..8",
        help=f"from 1, the smallest files, to 8 (default: {files.QUALITY})",
    )
    command.add_argument(
        "--effort",
        type=int,
        default=0,
        metavar="STEPS",
        help="search for a smaller file, for so many steps, such as 200 (default: %(default)s)",
    )
    command.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="cut the central square and bring it to N x N pixels first",
    )
    command.add_argument(
        "--with-decoder",
        action="store_true",
        help="train a decoder for these pictures and put it into the file",
    )
    command.add_argument(
        "--psnr",
        type=float,
        metavar="DB",
        help=f"the mean PSNR to aim at, 20 to 31 dB (default: {training.ARCHIVE_PSNR:g})",
    )
    command.add_argument(
        "--epochs",
        type=int,
        default=training.ARCHIVE_EPOCHS,
        help="how long to train it (default: %(default)s)",
    )
    command.add_argument("--force", action="store_true", help="overwrite FILE")
    command.set_defaults(run=run_encode)


def run_encode(arguments: Namespace) -> None:
    """Encode pictures into one file. Raises ValueError."""
    out = arguments.out
    # Everything that can be wrong is checked before the work.
    _check_target(out, arguments.force)
    _check_options(arguments)
    # Names that would collide when decoded are refused now, while they can still be changed.
    _targets([path.name for path in arguments.pictures])
    pictures = {}  # uint8 (H, W, 3) by name, of any sizes
    for path in _progress(arguments.pictures, "read"):
        pictures[path.name] = _read(path, arguments.size)
    quality = files.QUALITY if arguments.quality is None else arguments.quality
    psnr = training.ARCHIVE_PSNR if arguments.psnr is None else arguments.psnr
    # An archive brings its own decoder; the other two are decoded with the shipped weights.
    if arguments.with_decoder:
        file = training.train_archive(pictures, psnr, arguments.epochs, _checkpoint(out), _encoding)
    else:
        file = _encode(pictures, quality, arguments.effort)
    with course.replacing(out) as part:
        part.write_bytes(file)
    # The file is complete, so nobody will want to resume its training.
    _checkpoint(out).unlink(missing_ok=True)
    pixels = sum(picture[..., 0].size for picture in pictures.values())
    rate = metrics.bits_per_pixel(len(file), pixels)
    about = f"{out}: {len(file):,} bytes, {rate:.3f} bits per pixel"
    if arguments.with_decoder:
        # Measured on the file as it is, since the training only steers towards the PSNR.
        reached = _mean_psnr(file, pictures)
        about += f", {reached:.2f} dB"
        if abs(reached - psnr) > 0.3:
            # To stderr: whoever reads the bytes from stdout with a script is not disturbed.
            print(
                f"note: {psnr:g} dB were asked for; what came is not near. Try another --psnr, or "
                "more --epochs",
                file=sys.stderr,
            )
    print(about)


def _encode(pictures: dict[str, np.ndarray], quality: int, effort: int) -> bytes:
    """A file of pictures for the decoder that comes with the program."""
    latents_for = partial(refine, quality=quality, steps=effort) if effort else None
    if len(pictures) > 1:
        return files.encode_all(pictures, quality, progress=_encoding, latents_for=latents_for)
    # No name in the file, which saves some bytes.
    (picture,) = pictures.values()
    latents = latents_for(picture) if latents_for else None
    return files.encode(picture, quality, latents=latents)


def _check_options(arguments: Namespace) -> None:
    if arguments.effort < 0:
        raise ValueError(f"--effort {arguments.effort}: expected a whole number from 0 up")
    if arguments.with_decoder and arguments.effort:
        raise ValueError(
            "--effort with --with-decoder: an archive's latents are searched for in any case; give "
            "--epochs to search for longer"
        )
    if arguments.with_decoder and arguments.quality is not None:
        raise ValueError(
            "--quality with --with-decoder: an archive has the one quality that it is trained for; "
            "give --psnr instead"
        )
    if arguments.psnr is None:
        return
    # Outside this range nobody has tried where the price of a bit ends (see `Overfitted`).
    if not (arguments.with_decoder and 20 <= arguments.psnr <= 31):
        raise ValueError(
            f"--psnr {arguments.psnr:g}: expected 20 to 31 dB, and --with-decoder; other files "
            "have a --quality"
        )


def _encoding(pictures: Iterable) -> Iterable:
    return _progress(pictures, "encode")


def _mean_psnr(file: bytes, pictures: dict[str, np.ndarray]) -> float:
    """The mean PSNR of what a file decodes to, in dB."""
    reached = []
    for name, picture in files.decode_all(file):
        # A batch of one, as metrics take batches.
        reached.append(metrics.psnr(pictures[name][None], picture[None])[0])
    return float(np.mean(reached))


# ---- decode ----


def add_decode(commands) -> None:
    """Add `decode` to the parsers of a command line."""
    command = commands.add_parser("decode", help="a file of encode into PNGs")
    command.add_argument("file", type=Path, metavar="FILE", help="such as cars.aez")
    command.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where to write the pictures",
    )
    command.add_argument("--force", action="store_true", help="overwrite pictures that are there")
    command.set_defaults(run=run_decode)


def run_decode(arguments: Namespace) -> None:
    """Decode a file into a folder. Raises ValueError, CorruptFileError for a damaged file."""
    file, about = _open(arguments.file)
    names = about["names"]
    if names == [""]:
        names = [arguments.file.name]  # a file of one picture has no name for it
    try:
        targets = [arguments.out / name for name in _targets(names)]
    except ValueError as error:
        # Here a bad name is not the caller's mistake but the file's.
        raise CorruptFileError(f"{arguments.file.name}: {error}") from None
    _refuse_to_overwrite(targets, arguments.force)
    # Names in a file are hostile until `_targets` has checked them: nothing is written before.
    arguments.out.mkdir(parents=True, exist_ok=True)
    decoded = _progress(files.decode_all(file), "decode", len(targets))
    # One picture at a time, so that a large collection never lies in memory as a whole.
    for target, (_, picture) in zip(targets, decoded, strict=True):
        with course.replacing(target) as part:
            # The format is named because `part` ends in .part, which tells Pillow nothing.
            Image.fromarray(picture).save(part, "PNG")
    print(f"{arguments.out}: {_count(len(targets))}")


# ---- info ----


def add_info(commands) -> None:
    """Add `info` to the parsers of a command line."""
    command = commands.add_parser(
        "info", help="what is in a file of encode, and what takes how many bytes"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="such as cars.aez")
    command.set_defaults(run=run_info)


def run_info(arguments: Namespace) -> None:
    """Print what a file says of itself. Raises CorruptFileError."""
    file, about = _open(arguments.file)
    sizes = about["sizes"]  # (width, height) of each picture
    start = f"version {about['version']}, {about['kind']}, quality {about['quality']}"
    print(f"{start}, {_count(len(sizes))}")
    for part, length in about["bytes"].items():
        print(f"{part:<8}{length:>12,} bytes")
    rate = metrics.bits_per_pixel(len(file), sum(width * height for width, height in sizes))
    print(f"{'all':<8}{len(file):>12,} bytes, {rate:.3f} bits per pixel")
    for name, (width, height) in zip(about["names"], sizes, strict=True):
        # A single picture has the name "", which would leave a space at the end.
        print(f"{width}x{height} {name}".rstrip())


# ---- What they share ----


def _count(pictures: int) -> str:
    return f"{pictures} picture{'s' * (pictures > 1)}"


def _progress(steps: Iterable, what: str, total: int | None = None) -> Iterable:
    """A progress bar where somebody looks at it."""
    # In a log file every redrawing would be a line of its own.
    hidden = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    return tqdm(steps, what, total, unit="picture", disable=hidden)


def _checkpoint(out: Path) -> Path:
    return out.with_name(f"{out.name}.checkpoint")


def _read(path: Path, size: int | None) -> np.ndarray:
    """A picture in a file. Raises ValueError that names it."""
    if size is not None and not 1 <= size <= 4096:
        raise ValueError(f"--size {size}: expected 1 to 4096 pixels")
    if not path.is_file():
        raise ValueError(
            f"there is no picture {path}: expected a JPEG, PNG, WebP, ... file; check its name"
        )
    try:
        picture = data.read(path, size)
        container.check_sizes([picture.shape[1::-1]])  # (H, W, 3) -> (W, H)
    except Exception as error:  # decoders raise whatever they like on damaged files
        about = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        raise ValueError(
            f"{path} cannot be read ({about}): expected a whole JPEG, PNG, WebP, ... file; mend or "
            "convert it"
        ) from None
    return picture


def _open(path: Path) -> tuple[bytes, dict]:
    """A file of `encode` and what it says of itself; an error names it."""
    file = path.read_bytes()
    try:
        return file, files.info(file)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path.name}: {error}") from None


def _targets(names: list[str]) -> list[str]:
    """The names that pictures get when they are decoded. Raises ValueError.

    They must be different ones, also where a file system ignores case.
    """
    container.check_names(names)
    targets = [f"{Path(name).stem}.png" for name in names]
    folded = [target.casefold() for target in targets]
    # Names may differ only in case (A.png, a.png) or in suffix (a.jpg, a.png).
    for i, target in enumerate(targets):
        if folded[i] in folded[i + 1 :]:
            raise ValueError(
                f"{names[i]!r} and another picture would both be decoded to {target!r}: rename "
                "one, or make two files"
            )
    return targets


def _check_target(path: Path, force: bool) -> None:
    """Before the work, not after it."""
    if not path.parent.is_dir():
        raise ValueError(
            f"there is no folder {path.parent}: expected one to write {path.name} into; make it "
            "first"
        )
    _refuse_to_overwrite([path], force)


def _refuse_to_overwrite(paths: list[Path], force: bool) -> None:
    # `lexists` and not `exists`: a dangling symbolic link is in the way, too.
    there = [path for path in paths if os.path.lexists(path)]
    if there and not force:
        more = f" and {len(there) - 1} more" if there[1:] else ""
        raise ValueError(
            f"{there[0]}{more} is there already: expected a new name; add --force to overwrite it"
        )
