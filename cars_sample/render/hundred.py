"""The set `cars`: any number of seeds, as PNG of any size."""

import csv
import hashlib
import struct
import sys

from develop import png
from jobs import Job, write_table
from scene import describe, render_picture


def plan(options):
    """A job for each picture: those of a list, or `count` seeds from `first_seed` on."""
    seeds = range(options.first_seed, options.first_seed + options.count)
    names = {f"car_{seed:03d}.png": seed for seed in seeds}
    if options.like:
        with open(options.like, newline="", encoding="utf-8") as file:
            names = {row["file"]: int(row["seed"]) for row in csv.DictReader(file)}
    for name in names:
        check_size(options.out / name, options.size)
    return [Job((name,), draw, (seed, options.size)) for name, seed in names.items()]


def draw(seed, size):
    return [png(render_picture(seed, size))]


def finish(jobs, folder):
    rows = []
    for job in jobs:
        name, seed = job.files[0], job.arguments[0]
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rows.append({"file": name, **describe(seed), "sha256": sha256})
    write_table(folder / "cars.csv", rows)


def check_size(path, size):
    """Pictures of another size in the same folder are a mistake, not a job half done."""
    if not path.exists():
        return
    found = struct.unpack(">II", path.read_bytes()[16:24])
    if found != (size, size):
        sys.exit(
            f"{path} is {found[0]}×{found[1]}, but --size {size} was asked for. "
            "Choose another --out, or remove the file."
        )
