"""Every training of the course, from the command line: `python -m autoencoders train NAME`.

Made for schedulers: the same command goes on where an earlier one was interrupted; SIGTERM and
SIGUSR1 let it save and end with status 75; each epoch is a line of JSON. Under `torchrun` several
processes share the work.
"""

import inspect
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import filelock
import torch

from autoencoders import course, data, distributed, inspection, models, recipes, turntable
from autoencoders.codec import training as codec_training
from autoencoders.training import Training

# ---- What can be trained ----

# Conditions of notebook 02's sweep.
CONV = "convolutional, shifted pictures"
DENSE = "dense, shifted pictures, PCA start"


def conv(latent: int = 256, width: int = 16, epochs: int | None = None, seed: int = 0) -> Training:
    """The convolutional autoencoder of notebook 02's sweep, for cars of 64x64."""
    return recipes.small_training(CONV, latent, seed, recipes.small_cars(), width, epochs)


def dense(
    latent: int = 256, width: int = 256, epochs: int | None = None, seed: int = 0
) -> Training:
    """The dense autoencoder of notebook 02's sweep; `width` is that of its hidden layers."""
    return recipes.small_training(DENSE, latent, seed, recipes.small_cars(), width, epochs)


def restorer(task: str, steps: int = inspection.STEPS, seed: int = 0) -> Training:
    """The U-Net of notebook 06, trained to restore wheels by one of its tasks."""
    parts = data.wheels()
    return inspection.restorer_training(task, parts.pictures[parts.train], seed, steps)


# What the command line can set of each are its arguments.
TRAININGS = {
    "classifier": turntable.attribute_classifier,
    "codec": codec_training.shipped_codec,
    "colourisation": partial(restorer, "colourisation"),
    "conv": conv,
    "cvae": turntable.conditional_vae,
    "dcgan": turntable.dcgan,
    "denoiser": partial(recipes.denoiser_training, (0.05, 0.8)),
    "dense": dense,
    "finished-codec": codec_training.finished_codec,
    "inpainting": partial(restorer, "inpainting"),
    "masked": partial(restorer, "masked"),
    "student": codec_training.shipped_student,
    "vae": turntable.vae,
}
# Options of the command line that are arguments of some trainings, with their types.
SETTINGS = {"latent": int, "width": int, "epochs": int, "steps": int, "beta": float}
# Those that have another name there.
OPTIONS = {"folders": "pictures", "taught": "without-teacher"}


def plan(name: str, **settings) -> Training:
    """The training `name` with these of its arguments set. Raises ValueError for wrong ones."""
    check_settings(name, settings)
    return TRAININGS[name](**settings)


def check_settings(name: str, settings: Iterable[str]) -> None:
    """Raise ValueError for a setting that the training `name` does not have, or one it lacks."""
    taken = inspect.signature(TRAININGS[name]).parameters
    missing = []
    for setting, parameter in taken.items():
        if parameter.default is parameter.empty and setting not in settings:
            missing.append(setting)
    if missing:
        raise ValueError(f"train {name} without {_options(missing)}: expected it; name a file")
    foreign = [setting for setting in settings if setting not in taken]
    if foreign:
        raise ValueError(
            f"train {name} with {_options(foreign)}: expected no more than {_options(taken)}; "
            "leave it out"
        )


def _options(settings: Iterable[str]) -> str:
    """Arguments of trainings as the command line has them."""
    return ", ".join(f"--{OPTIONS.get(setting, setting)}" for setting in settings)


# ---- The command ----


def add_train(commands) -> None:
    """Add `train` to the parsers of a command line."""
    command = commands.add_parser("train", help="train one of the course's models")
    command.add_argument(
        "name", choices=sorted(TRAININGS), metavar="NAME", help=", ".join(sorted(TRAININGS))
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the weights, such as conv.pt"
    )
    command.add_argument(
        "--result", type=Path, metavar="FILE", help="also write settings and quality, as JSON"
    )
    command.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="what an interrupted training goes on from (default: beside --out)",
    )
    command.add_argument(
        "--save-seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="how often it is written, so what a crash may cost (default: %(default)g)",
    )
    command.add_argument(
        "--wait",
        type=float,
        default=120.0,
        metavar="S",
        help="how long to wait for another process that trains into --out (default: %(default)g)",
    )
    command.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    for setting, kind in SETTINGS.items():
        command.add_argument(f"--{setting}", type=kind, metavar="N", help="where there is one")
    command.add_argument("--batch-size", type=int, metavar="N", help="pictures in a step")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    command.add_argument("--precision", help="auto, float32 or bfloat16")
    command.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: only algorithms that always give the same bits",
    )
    command.add_argument(
        "--pictures",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="of codec and student: renders beside those of cars_sample/",
    )
    command.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="of finished-codec: weights of `train codec`, from which it goes on",
    )
    command.add_argument(
        "--without-teacher", action="store_true", help="let the student learn from the originals"
    )
    command.add_argument("--force", action="store_true", help="overwrite FILE")
    command.set_defaults(run=run_train)


def run_train(arguments: Namespace) -> None:
    """Train and write weights. Raises ValueError, OSError, `distributed.Stopped`."""
    if arguments.deterministic:
        torch.use_deterministic_algorithms(True)
    with distributed.started() as team, distributed.stopping_on(), _alone(arguments, team):
        # Not before the lock: the process that held it may just have written the file.
        _check_target(arguments.out, arguments.force, team)
        planned = plan(arguments.name, **_settings(arguments))
        kept = arguments.checkpoint or arguments.out.with_name(f"{arguments.out.name}.checkpoint")
        options = {"checkpoint": kept, "save_seconds": arguments.save_seconds}
        options |= {"device": arguments.device, "report": partial(_tell, team)}
        for option in ("batch_size", "precision"):
            if getattr(arguments, option) is not None:
                options[option] = getattr(arguments, option)
        if team.leads and kept.exists():
            print(f"goes on from {kept}", file=sys.stderr, flush=True)
        history = planned.run(**options)
        if team.leads:
            _write(planned, history, arguments)
            kept.unlink(missing_ok=True)


def _settings(arguments: Namespace) -> dict:
    """The arguments of the training that were given."""
    given = {"seed": arguments.seed}
    for setting in SETTINGS:
        if getattr(arguments, setting) is not None:
            given[setting] = getattr(arguments, setting)
    if arguments.pictures is not None:
        given["folders"] = arguments.pictures
    if arguments.start is not None:
        given["start"] = arguments.start
    if arguments.without_teacher:
        given["taught"] = False
    return given


def _tell(team: distributed.Team, numbers: dict) -> None:
    """A line of JSON for a log. Flushed: whoever watches it wants to see it now."""
    if team.leads:
        print(json.dumps(numbers), flush=True)


def _write(planned: Training, history: dict, arguments: Namespace) -> None:
    planned.save(planned.model, arguments.out)
    loss = next(v[-1] for k, v in reversed(history.items()) if k.endswith("loss"))
    train = planned.train if isinstance(planned.train, tuple) else (planned.train,)
    about = f"{len(train[0])} training items, {history['epoch'][-1]} epochs, last loss {loss:.4g}"
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes; {about}", file=sys.stderr)
    if arguments.result is None:
        return
    settings = _settings(arguments)
    for name in ("folders", "start"):  # of this machine
        settings.pop(name, None)
    result = {"name": arguments.name, "settings": settings, "history": history}
    result["parameters"] = models.parameters(planned.model)
    if planned.judge is not None:
        result["quality"] = planned.judge(planned.model)
    with course.replacing(arguments.result) as part:
        part.write_text(json.dumps(result) + "\n", "utf-8")


def _check_target(out: Path, force: bool, team: distributed.Team) -> None:
    # Asked by one for all: the first may write the file while another still looks.
    there = team.gather(out.exists())[0]
    if there and not force:
        raise ValueError(f"{out} is there already: expected a new name; give --force to replace it")


@contextmanager
def _alone(arguments: Namespace, team: distributed.Team) -> Iterator[None]:
    """Let no other training write the same file: two would spoil each other's checkpoint.

    Raises ValueError where another one does after `--wait` seconds.
    """
    out = arguments.out
    if not team.leads:
        yield
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    # The system gives the lock back when its holder dies, also on a machine that is gone.
    lock = filelock.FileLock(out.with_name(f"{out.name}.lock"))
    try:
        lock.acquire(arguments.wait)
    except filelock.Timeout:
        raise ValueError(
            f"another process is training into {out}, and was after {arguments.wait:g} seconds of "
            "waiting: expected to be the only one; let it end, or name another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
        if out.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
