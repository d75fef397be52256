"""The command line: `python -m autoencoders <command>`; `--help` lists the commands."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from autoencoders import codec, course, data, download, metrics, training
from autoencoders.models import LearnedCodec

# The model of an archive is in its file, so it is small.
ARCHIVE = dict(groups=(3, 9, 20), width=8, post=16, blocks=1, context=8)  # noqa: C408
PRECISION = 5.0  # steps that a weight's spread is rounded to
EPOCHS = 400  # passes over the pictures of an archive for its decoder, and three quarters as many for the latents
# The student of notebook 04 draws the shipped codec's latents, at one quality, with a quarter of the weights.
STUDENT = dict(width=18, post=16, blocks=3, context=2)  # noqa: C408


def add_encode(commands) -> None:
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
        "--quality", type=int, metavar="1..8", help="from 1, the smallest files, to 8 (default: 5)"
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
        help="the mean PSNR to aim at, 20 to 31 dB (default: 28)",
    )
    command.add_argument(
        "--epochs", type=int, default=EPOCHS, help="how long to train it (default: %(default)s)"
    )
    command.add_argument("--force", action="store_true", help="overwrite FILE")
    command.set_defaults(run=run_encode)


def run_encode(arguments) -> None:
    _check_target(arguments.out, arguments.force)
    if arguments.with_decoder and arguments.quality is not None:
        raise ValueError(
            "--quality with --with-decoder: an archive has the one quality that it is trained for; give --psnr instead"
        )
    if arguments.psnr is not None and not (arguments.with_decoder and 20 <= arguments.psnr <= 31):
        raise ValueError(
            f"--psnr {arguments.psnr:g}: expected 20 to 31 dB, and --with-decoder; other files have a --quality"
        )
    _targets([path.name for path in arguments.pictures])
    pictures = {
        path.name: _read(path, arguments.size) for path in _progress(arguments.pictures, "read")
    }
    if arguments.with_decoder:
        psnr = 28.0 if arguments.psnr is None else arguments.psnr
        file = _archive(pictures, psnr, arguments.epochs, _checkpoints(arguments.out))
    elif len(pictures) == 1:
        file = codec.encode(
            *pictures.values(), quality=5 if arguments.quality is None else arguments.quality
        )
    else:
        file = _collect(
            codec.encode_all(pictures, 5 if arguments.quality is None else arguments.quality),
            len(pictures),
        )
    _replace(arguments.out, lambda part: part.write_bytes(file))
    for checkpoint in _checkpoints(arguments.out):
        checkpoint.unlink(missing_ok=True)
    pixels = sum(picture[..., 0].size for picture in pictures.values())
    about = f"{arguments.out}: {len(file):,} bytes, {8 * len(file) / pixels:.3f} bits per pixel"
    if arguments.with_decoder:
        decoded = [
            metrics.psnr(pictures[name][None], picture[None])[0]
            for name, picture in codec.decode_all(file)
        ]
        about += f", {np.mean(decoded):.2f} dB"
        if abs(np.mean(decoded) - psnr) > 0.3:
            print(
                f"note: {psnr:g} dB were asked for; what came is not near. Try another --psnr, or more --epochs",
                file=sys.stderr,
            )
    print(about)


def _archive(
    pictures: dict[str, np.ndarray], psnr: float, epochs: int, checkpoints: list[Path]
) -> bytes:
    """A file of pictures of equal size with a decoder that is trained for them, and resumes from `checkpoints`."""
    shapes = {picture.shape[:2] for picture in pictures.values()}
    if len(shapes) > 1 or any(side % 8 for shape in shapes for side in shape):
        sizes = ", ".join(f"{width}x{height}" for height, width in sorted(shapes)[:5])
        raise ValueError(
            f"pictures of {sizes} pixels: --with-decoder expects all of one size, with sides that 8 divides; resize them"
        )
    batch = data.to_float(np.stack([*pictures.values()]))
    training.seed_everything(0)
    model = LearnedCodec(**ARCHIVE, lambdas=[0.0039 * 10 ** (0.17 * (psnr - 28))]).start_from_pca(
        batch
    )  # about what a car takes
    if not checkpoints[0].exists():
        checkpoints[1].unlink(missing_ok=True)  # of a decoder that is gone
    training.fit_codec(
        model, batch, lr=3e-3, batch_size=4, epochs=epochs, checkpoint=checkpoints[0]
    )
    receiver = codec.unpack(codec.pack(model, PRECISION, decoder_only=True))
    size = max(
        1, min(20, 20 * 256**2 // batch[0, 0].numel())
    )  # of a batch: pictures of 256 x 256 take some hundred megabytes
    with torch.no_grad():
        latents = torch.cat([model.analysis(part) for part in batch.split(size)])
    options = {
        "epochs": max(1, 3 * epochs // 4),
        "batch_size": size,
        "checkpoint": checkpoints[1],
    }
    latents, model.log_gain = training.fit_latents(receiver, latents, batch, psnr + 0.02, **options)
    return _collect(codec.encode_all(pictures, 1, model, PRECISION, latents), len(pictures))


def add_decode(commands) -> None:
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


def run_decode(arguments) -> None:
    file, about = _open(arguments.file)
    names = about["names"]
    try:
        targets = [
            arguments.out / name
            for name in _targets(names if names != [""] else [arguments.file.name])
        ]
    except ValueError as error:
        raise codec.CorruptFileError(f"{arguments.file.name}: {error}") from None
    _refuse_to_overwrite(targets, arguments.force)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for target, (_, picture) in zip(
        targets, _progress(codec.decode_all(file), "decode", len(targets)), strict=True
    ):
        _replace(target, lambda part, picture=picture: Image.fromarray(picture).save(part, "PNG"))
    print(f"{arguments.out}: {len(targets)} picture{'s' * (len(targets) > 1)}")


def add_info(commands) -> None:
    command = commands.add_parser(
        "info", help="what is in a file of encode, and what takes how many bytes"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="such as cars.aez")
    command.set_defaults(run=run_info)


def run_info(arguments) -> None:
    file, about = _open(arguments.file)
    count, pixels = len(about["sizes"]), sum(width * height for width, height in about["sizes"])
    print(
        f"version {about['version']}, {about['kind']}, quality {about['quality']}, {count} picture{'s' * (count > 1)}"
    )
    for part, length in about["bytes"].items():
        print(f"{part:<8}{length:>12,} bytes")
    print(f"{'all':<8}{len(file):>12,} bytes, {8 * len(file) / pixels:.3f} bits per pixel")
    for name, (width, height) in zip(about["names"], about["sizes"], strict=True):
        print(f"{width}x{height} {name}".rstrip())


def add_train(commands) -> None:
    command = commands.add_parser(
        "train", help="train the weights that come with the program or a notebook"
    )
    command.add_argument(
        "what",
        choices=["codec", "student"],
        help="the learned codec, or a small network that draws its pictures",
    )
    command.add_argument(
        "--pictures",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="renders beside those of cars_sample/",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="what to write, such as codec.aew"
    )
    command.add_argument(
        "--epochs", type=int, help="passes over the pictures (default: 1200, a student's 60)"
    )
    command.add_argument(
        "--seed", type=int, default=0, help="of all random numbers (default: %(default)s)"
    )
    command.add_argument(
        "--without-teacher", action="store_true", help="let the student learn from the originals"
    )
    command.add_argument("--force", action="store_true", help="overwrite FILE")
    command.set_defaults(run=run_train)


def run_train(arguments) -> None:
    if arguments.without_teacher and arguments.what != "student":
        raise ValueError("--without-teacher: expected with `train student` alone; leave it out")
    _check_target(arguments.out, arguments.force)
    sample = (
        data.ROOT / "cars_sample"
    )  # never real_data(): the shipped weights have seen renders alone
    small, _ = data.cars(128, sample)
    seen, unseen = data.split(len(small))
    pictures = torch.cat(
        [
            data.cars(256, sample)[0][seen],
            *(data.cars(256, folder, None)[0] for folder in arguments.pictures),
        ]
    )
    training.seed_everything(arguments.seed)
    options = {"seed": arguments.seed, "checkpoint": _checkpoint(arguments.out)}
    if arguments.what == "codec":
        model, epochs = (
            LearnedCodec().start_from_pca(small[seen]),
            1200 if arguments.epochs is None else arguments.epochs,
        )
        options |= {
            "validate_every": 50,
            "prepare_batch": data.augment(64, area=(1 / 16, 0.3), colours=True),
            "valid": small[unseen],
        }
        history = training.fit_codec(model, pictures, epochs=epochs, **options)
        about = f"loss of unseen cars {history['valid_loss'][-1]:.4f}"
    else:
        model, epochs = (
            LearnedCodec(codec.shipped().groups, **STUDENT),
            60 if arguments.epochs is None else arguments.epochs,
        )
        crop = data.augment(128, area=(0.2, 1), colours=True)
        crops = torch.cat(
            [crop(pictures) for _ in _progress(range(16), "crops")]
        )  # the walk through their latents takes long, so once
        options |= {"lr": 3e-3, "batch_size": 8, "taught": not arguments.without_teacher}
        history = training.fit_student(
            model, codec.shipped(), crops, quality=5, epochs=epochs, **options
        )
        about = f"training loss {history['train_loss'][-1]:.3e}"
    file = codec.pack(model, decoder_only=arguments.what == "student")
    _replace(arguments.out, lambda part: part.write_bytes(file))
    print(
        f"{arguments.out}: {len(file):,} bytes; {len(pictures)} pictures, {epochs} epochs, {about}"
    )


def add_download(commands) -> None:
    command = commands.add_parser(
        "download", help="fetch MNIST or Fashion-MNIST for COURSE_DATA=FOLDER"
    )
    command.add_argument(
        "names",
        nargs="+",
        choices=sorted(download.SETS),
        metavar="NAME",
        help=" or ".join(download.SETS),
    )
    command.add_argument(
        "--to", default="data", metavar="FOLDER", help="where to put them (default: %(default)s)"
    )
    command.set_defaults(run=run_download)


def run_download(arguments) -> None:
    for name in arguments.names:
        print(f"{name}: complete in {download.download(name, arguments.to)}")


def _checkpoint(out: Path, step: str = "") -> Path:
    return out.with_name(f"{out.name}{step}.checkpoint")


def _checkpoints(out: Path) -> list[Path]:
    """Of the two trainings behind an archive."""
    return [_checkpoint(out), _checkpoint(out, ".latents")]


def _read(path: Path, size: int | None) -> np.ndarray:
    if size is not None and not 1 <= size <= 4096:
        raise ValueError(f"--size {size}: expected 1 to 4096 pixels")
    if not path.is_file():
        raise ValueError(
            f"there is no picture {path}: expected a JPEG, PNG, WebP, ... file; check its name"
        )
    try:
        picture = data.read(path, size)
        codec.check_sizes([picture.shape[1::-1]])
    except Exception as error:  # decoders raise whatever they like on damaged files
        about = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        raise ValueError(
            f"{path} cannot be read ({about}): expected a whole JPEG, PNG, WebP, ... file; mend or convert it"
        ) from None
    return picture


def _open(path: Path) -> tuple[bytes, dict]:
    """A file of `encode` and what it says of itself; an error names it."""
    file = path.read_bytes()
    try:
        return file, codec.info(file)
    except codec.CorruptFileError as error:
        raise codec.CorruptFileError(f"{path.name}: {error}") from None


def _targets(names: list[str]) -> list[str]:
    """The names that pictures get when they are decoded: different ones, also where a file system ignores case."""
    codec.check_names(names)
    targets = {f"{Path(name).stem}.png".casefold(): name for name in names}
    if len(targets) < len(names):
        lost = next(name for name in names if name not in targets.values())
        raise ValueError(
            f"{lost!r} and another picture would both be decoded to {Path(lost).stem + '.png'!r}: rename one, or make two files"
        )
    return [f"{Path(name).stem}.png" for name in names]


def _check_target(path: Path, force: bool) -> None:
    """Before the work, not after it."""
    if not path.parent.is_dir():
        raise ValueError(
            f"there is no folder {path.parent}: expected one to write {path.name} into; make it first"
        )
    _refuse_to_overwrite([path], force)


def _refuse_to_overwrite(paths: list[Path], force: bool) -> None:
    there = [path for path in paths if os.path.lexists(path)]
    if there and not force:
        more = f" and {len(there) - 1} more" if there[1:] else ""
        raise ValueError(
            f"{there[0]}{more} is there already: expected a new name; add --force to overwrite it"
        )


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    with course.replacing(path) as part:
        write(part)


def _progress(steps, what: str, total: int | None = None):
    return tqdm(
        steps,
        what,
        total,
        unit="picture",
        disable=bool(os.environ.get("CI")) or not sys.stderr.isatty(),
    )


def _collect(parts, count: int) -> bytes:
    """The file at the end of `codec.encode_all`."""
    return b"".join(_progress(parts, "encode", count + 1))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m autoencoders", description="Tools around the course's notebooks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_encode, add_decode, add_info, add_train, add_download):
        add(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "interrupted: a training goes on from where it was when the same command is given again",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
