"""A grid of trainings, each in a folder of its own: `launch/submit.py` starts them.

A run's folder is named by a hash of its settings, and it is done when its `result.json` is there.
So a sweep that is asked for twice goes on where it was, and one that is widened trains only what is
new. There is no other record than these folders.
"""

import csv
import hashlib
import itertools
import json
import os
import signal
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import matplotlib.pyplot as plt
import numpy as np

from autoencoders import __main__ as command_line
from autoencoders import course, distributed, plots, recipes, trainings

# What the trainings of notebook 02's sweep are called in its file.
CONDITIONS = {"conv": trainings.CONV, "dense": trainings.DENSE}


@dataclass(frozen=True)
class Run:
    """One training of a sweep. Calling it trains, or goes on; a scheduler may call it again."""

    folder: Path
    name: str  # one of `trainings.TRAININGS`
    settings: tuple[tuple[str, float], ...]

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    def __call__(self) -> None:
        if self.result.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--out", self.folder / "weights.pt", "--result", self.result, "--force"]
        for setting, value in self.settings:
            options += [f"--{setting}", value]
        # Of SIGTERM submitit takes no notice, as it waits for a signal of its own. A run that is
        # cancelled or preempted shall save, and end.
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            status = command_line.main(["train", self.name, *map(str, options)])
        finally:
            signal.signal(signal.SIGTERM, before)
        if status == distributed.EXIT_STOPPED and "SLURM_JOB_ID" in os.environ:
            _wait_for_the_end()
        # An exception is what a scheduler's log and state tell about.
        if status != 0:
            raise RuntimeError(f"{self.name} in {self.folder.name} ended with status {status}")

    def checkpoint(self):
        """What submitit starts again after an interruption: the same call."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def state(self) -> str:
        """ "done", "running", "interrupted" or "waiting"."""
        if self.result.exists():
            return "done"
        lock = self.folder / "weights.pt.lock"
        if lock.exists():
            try:
                with filelock.FileLock(lock, timeout=0):
                    pass
            except filelock.Timeout:
                return "running"
        return "interrupted" if (self.folder / "weights.pt.checkpoint").exists() else "waiting"

    def read(self) -> dict:
        """Its `result.json`. Raises CorruptFileError."""
        try:
            return json.loads(self.result.read_text("utf-8"))
        except ValueError as error:
            raise course.CorruptFileError(
                f"{self.result} cannot be read ({error}): expected what a training writes; delete "
                "it and submit the sweep again"
            ) from None


@dataclass(frozen=True)
class Sweep:
    """What a file such as `launch/sweep.toml` asks for."""

    name: str  # one of `trainings.TRAININGS`
    grid: dict[str, list]
    fixed: dict  # settings that all runs share
    machine: dict  # for the scheduler: "threads", "minutes", "parallel"

    @staticmethod
    def read(path: Path) -> "Sweep":
        """A sweep in a TOML file. Raises ValueError that says what is wrong."""
        try:
            content = tomllib.loads(path.read_text("utf-8"))
            return Sweep._made_of(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; launch/sweep.toml is an example") from None

    @staticmethod
    def _made_of(content: dict) -> "Sweep":
        unknown = [name for name in content if name not in ("train", "grid", "fixed", "machine")]
        if unknown:
            raise ValueError(f"{unknown[0]}: expected train, [grid], [fixed] and [machine] alone")
        name = content.get("train")
        if not isinstance(name, str) or name not in trainings.TRAININGS:
            raise ValueError(f"train = {name!r}: expected one of {', '.join(trainings.TRAININGS)}")
        for table in ("grid", "fixed", "machine"):
            if not isinstance(content.setdefault(table, {}), dict):
                raise ValueError(f"{table} = {content[table]!r}: expected a table, [{table}]")
        grid, fixed = content["grid"], content["fixed"]
        twice = [setting for setting in grid if setting in fixed]
        if twice:
            raise ValueError(f"{twice[0]} in [grid] and in [fixed]: expected it in one of them")
        trainings.check_settings(name, grid | fixed)
        for setting, values in grid.items():
            _check_values(setting, values)
        for setting, value in fixed.items():
            _check_values(setting, [value])
        return Sweep(name, grid, fixed, _machine(content["machine"]))

    def runs(self, folder: Path) -> Iterator[Run]:
        """All runs, whether done or not, in a fixed order."""
        for values in itertools.product(*self.grid.values()):
            settings = self.fixed | dict(zip(self.grid, values, strict=True))
            # Sorted: neither the order of a file's lines nor the seed's place makes another run.
            ordered = tuple(sorted(settings.items()))
            text = json.dumps([self.name, ordered])
            digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
            yield Run(folder / digest, self.name, ordered)


def _wait_for_the_end(seconds: float = 60) -> None:
    """Let Slurm end this process: of a preempted job that ends by itself it thinks that it failed.

    Then it would not queue the job again. Ends at once when the job's script is gone.
    """
    script = os.getppid()
    end = time.monotonic() + seconds
    while os.getppid() == script and time.monotonic() < end:
        time.sleep(0.2)


MACHINE = {"threads": 1, "minutes": 60, "parallel": 100}


def _machine(given: dict) -> dict:
    """What a run asks the scheduler for. Raises ValueError for what is no number of something."""
    for name, number in given.items():
        if name not in MACHINE or type(number) is not int or number < 1:
            raise ValueError(
                f"{name} = {number!r} in [machine]: expected {', '.join(MACHINE)}, each a whole "
                "number from 1 up"
            )
    return MACHINE | given


def _check_values(setting: str, values: list) -> None:
    """Raise ValueError unless these are different numbers that the setting may have."""
    kind = trainings.SETTINGS.get(setting, int)  # a seed is one too
    kinds = (int,) if kind is int else (int, float)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{setting} = {values!r} in [grid]: expected a list of numbers")
    if any(type(value) not in kinds for value in values):
        raise ValueError(f"{setting} = {values!r}: expected numbers of type {kind.__name__}")
    if len({*values}) < len(values):
        raise ValueError(f"{setting} = {values!r}: expected each number once")


def status(sweep: Sweep, folder: Path) -> dict[str, int]:
    """How many runs are in which state. Raises ValueError where there is no such folder."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: expected that of a sweep; submit it first")
    states = [run.state() for run in sweep.runs(folder)]
    return {state: states.count(state) for state in ("done", "running", "interrupted", "waiting")}


def collect(sweep: Sweep, folder: Path) -> list[dict]:
    """Write what is done as `runs.json`, `runs.csv` and, where it can be drawn, `runs.png`.

    `runs.json` is of the form of `notebooks/latent_sweep.json`, for `COURSE_SWEEP=folder`. Returns
    the rows. Raises CorruptFileError.
    """
    rows = [_row(run) for run in sweep.runs(folder) if run.result.exists()]
    if not rows:
        raise ValueError(
            f"no run of {folder} is done: expected at least one; submit the sweep, then ask status"
        )
    recipes.write_runs(rows, folder / "runs.json")
    flat = [
        {name: value for name, value in row.items() if not isinstance(value, list)} for row in rows
    ]
    with course.replacing(folder / "runs.csv") as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*flat[0]])
        writer.writeheader()
        writer.writerows(flat)
    if "unseen" in rows[0] and "latent" in rows[0]:
        _draw(rows, folder / "runs.png")
    return flat


def _row(run: Run) -> dict:
    """A run as the sweep of notebook 02 has it: settings, how long it took, how good it is."""
    result = run.read()
    history = result["history"]
    row = {"model": run.name, "run": run.folder.name} | dict(run.settings)
    if run.name in CONDITIONS:
        row["condition"] = CONDITIONS[run.name]
    row |= {"parameters": result["parameters"], "epochs": history["epoch"][-1]}
    row["seconds"] = round(history["seconds"], 1)
    if "valid_loss" in history:
        row["best_epoch"] = recipes.best_epoch(history)
    row |= result.get("quality", {})
    row |= {name: history[name] for name in ("epoch", "valid_loss") if name in history}
    return row


def _draw(rows: list[dict], out: Path) -> None:
    """PSNR of unseen cars against the latent: a dot for each run, a line for each width."""
    plots.use_style()
    fig, ax = plt.subplots(figsize=(9, 5.4))
    widths = sorted({row.get("width", 0) for row in rows})
    for width, colour in zip(widths, itertools.cycle(plots.COLOURS)):
        same = [row for row in rows if row.get("width", 0) == width]
        latents = sorted({row["latent"] for row in same})
        ax.plot(*zip(*((r["latent"], r["unseen"]) for r in same), strict=True), "o", color=colour)
        means = [np.mean([r["unseen"] for r in same if r["latent"] == z]) for z in latents]
        ax.plot(latents, means, color=colour, label=f"width {width}" if width else None)
    ax.set_xscale("log", base=2)
    latents = sorted({row["latent"] for row in rows})
    ax.set_xticks(latents, latents)
    ax.set(xlabel="values in the latent", ylabel="PSNR, unseen cars [dB]")
    seeds = len({row.get("seed", 0) for row in rows})
    ax.set_title(f"{rows[0]['model']}: {len(rows)} runs; lines are means over up to {seeds} seeds")
    if widths != [0]:
        ax.legend()
    fig.savefig(out, dpi=120, bbox_inches="tight")
    plt.close(fig)
