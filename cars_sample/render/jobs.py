"""Pictures as jobs: each drawn once, written whole, and kept when a run is interrupted. Needs no bpy itself."""

import contextlib
import csv
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

FAULTY = Path(__file__).with_name("faulty.csv")


class Job(NamedTuple):
    """What to draw: `draw(*arguments)` gives the bytes of each of `files`; the last file says that the job is done."""

    files: tuple[str, ...]
    draw: Callable
    arguments: tuple


def faulty_seeds(name):
    """The seeds of a set whose pictures were looked at and left out."""
    with FAULTY.open(newline="", encoding="utf-8") as file:
        return {int(row["seed"]) for row in csv.DictReader(file) if row["set"] == name}


def faultless(name, first_seed, n):
    """The first n seeds from a number on that are not left out."""
    left_out = faulty_seeds(name)
    seeds = []
    seed = first_seed
    while len(seeds) < n:
        if seed not in left_out:
            seeds.append(seed)
        seed += 1
    return seeds


def render_all(jobs, folder, workers):
    """Do what is not yet done, in `workers` processes; the number of them changes no picture. Returns how many were waiting."""
    waiting = [job for job in jobs if not (folder / job.files[-1]).exists()]
    tasks = [(job, folder) for job in waiting]
    done = len(jobs) - len(waiting)
    with contextlib.ExitStack() as stack:
        results = map(work, tasks)
        if workers > 1:
            # A fresh interpreter for each: Blender does not survive a fork. What it has added to
            # the search path would hide `bpy` itself there.
            sys.path[:] = [path for path in sys.path if f"{os.sep}bpy{os.sep}" not in path]
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(context.Pool(workers, initializer=use_one_thread))
            results = pool.imap_unordered(work, tasks)
        progress = tqdm(results, "rendering", len(jobs), unit="job", initial=done)
        for _ in progress:
            pass
    return len(waiting)


def use_one_thread():
    import scene

    scene.THREADS = 1


def work(task):
    job, folder = task
    try:
        with quiet_stdout():
            contents = job.draw(*job.arguments)
    except AssertionError as error:
        # A few seeds in a thousand draw a shape that Blender cannot cut.
        raise RuntimeError(
            f"{job.files[-1]}: {error} Leave its seed out: add it to {FAULTY}, then go on."
        ) from None
    for name, data in zip(job.files, contents, strict=True):
        write(folder / name, data)


def write(path, data):
    """All of a file or nothing of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def write_table(path, rows):
    """Rows with the same keys as CSV."""
    columns = list(rows[0])
    lines = [",".join(columns)]
    for row in rows:
        lines.append(",".join(str(row[column]) for column in columns))
    write(path, ("\n".join(lines) + "\n").encode())


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
