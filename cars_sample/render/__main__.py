"""Render pictures of cars:  python cars_sample/render --count 100 --size 256 --out FOLDER [--first-seed N]

Each seed is a picture, FOLDER/car_<seed>.png, and a row of FOLDER/cars.csv. What is there already is kept, so that an interrupted
run goes on where it stopped. `--like cars_sample/cars.csv` renders the seeds of a list under its file names instead.
"""

import argparse
import contextlib
import csv
import hashlib
import os
import struct
import sys
from pathlib import Path

COLUMNS = ["file", "seed", "body_type", "paint", "view", "setting", "sha256"]


def main():
    options = parse(sys.argv[1:])
    check_blender()
    if options.like:
        with open(options.like, newline="", encoding="utf-8") as file:
            jobs = {row["file"]: int(row["seed"]) for row in csv.DictReader(file)}
    else:
        jobs = {
            f"car_{seed:03d}.png": seed
            for seed in range(options.first_seed, options.first_seed + options.count)
        }
    options.out.mkdir(parents=True, exist_ok=True)
    for name in jobs:
        check_size(options.out / name, options.size)
    try:
        render_all(jobs, options.out, options.size)
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on from here.")


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python cars_sample/render",
        description="Render pictures of cars with Blender's Cycles.",
    )
    parser.add_argument(
        "--count", type=positive, default=100, help="how many pictures (default: 100)"
    )
    parser.add_argument(
        "--size", type=positive, default=256, help="width and height in pixels (default: 256)"
    )
    parser.add_argument(
        "--first-seed",
        type=natural,
        default=0,
        help="seed of the first picture; the others count on (default: 0)",
    )
    parser.add_argument(
        "--like", type=Path, metavar="CSV", help="render the files and seeds listed there instead"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where the pictures and cars.csv go",
    )
    return parser.parse_args(arguments)


def natural(text):
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def positive(text):
    if natural(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 1 or more")
    return int(text)


def check_blender():
    try:
        import bpy  # noqa: F401
    except ImportError as error:
        requirements = Path(__file__).with_name("requirements.txt")
        sys.exit(
            f"bpy, Blender as a Python module, cannot be imported: {error}\n"
            f"This is Python {sys.version_info.major}.{sys.version_info.minor}; the pinned bpy needs Python 3.11. Mend it with\n"
            f"  python3.11 -m venv .render && .render/bin/pip install -r {requirements}\n"
            f"and run this command again with .render/bin/python."
        )


def check_size(path, size):
    """Pictures of another size in the same folder are a mistake, not a job half done."""
    if path.exists():
        found = struct.unpack(">II", path.read_bytes()[16:24])
        if found != (size, size):
            sys.exit(
                f"{path} is {found[0]}×{found[1]}, but --size {size} was asked for. Choose another --out, or remove the file."
            )


def render_all(jobs, folder, size):
    from develop import png
    from scene import describe, render_picture  # needs bpy
    from tqdm import tqdm

    waiting = {name: seed for name, seed in jobs.items() if not (folder / name).exists()}
    for name, seed in tqdm(
        waiting.items(),
        desc="rendering",
        unit="picture",
        initial=len(jobs) - len(waiting),
        total=len(jobs),
    ):
        with quiet_stdout():
            data = png(render_picture(seed, size))
        write(folder / name, data)
    rows = [
        dict(
            file=name,
            **describe(seed),
            sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        )
        for name, seed in jobs.items()
    ]
    lines = [",".join(COLUMNS), *(",".join(str(row[column]) for column in COLUMNS) for row in rows)]
    write(folder / "cars.csv", ("\n".join(lines) + "\n").encode())
    print(
        f"{len(jobs)} pictures in {folder}: {len(waiting)} rendered now, {len(jobs) - len(waiting)} kept."
    )


def write(path, data):
    """All of a file or nothing of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


@contextlib.contextmanager
def quiet_stdout():
    """Blender reports every file it saves on the process's standard output."""
    sys.stdout.flush()
    saved, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)


if __name__ == "__main__":
    main()
