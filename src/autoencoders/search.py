"""Hyperparameters of a conditional VAE, chosen openly: every trial is kept.

`python -m autoencoders recipe conditional-vae-search --out FILE` writes what notebook 05 shows, for
the turning cars; `conditional-vae-search-fashion` does it for Fashion-MNIST, in $COURSE_DATA.
"""

import math
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from autoencoders import course, generative, labelled, losses, models, recipes, training

SIGMA = 0.1  # of the decoder's pixels, the same for all trials: else their bounds do not compare
CHOICES = {"latent": (4, 8, 16, 32), "width": (8, 16, 24)}
RANGES = {"beta": (0.3, 10.0), "lr": (5e-4, 1e-2)}  # drawn so that each factor of 2 is as likely
TRIALS = 14
SEEDS = (1, 2, 3)


def draw(trial: int) -> dict[str, float]:
    """The hyperparameters of a trial, always the same for its number."""
    # A generator of its own: earlier trials and trainings do not change what it draws.
    dice = torch.Generator().manual_seed(trial)
    chosen = {}
    for name, values in CHOICES.items():
        chosen[name] = values[torch.randint(len(values), (), generator=dice).item()]
    for name, (low, high) in RANGES.items():
        share = torch.rand((), generator=dice).item()
        # Uniform in the logarithm; two digits, so that a table shows exactly what was used.
        chosen[name] = float(f"{low * (high / low) ** share:.2g}")
    return chosen


def parts(pictures: labelled.Labelled, limit: int = 4800) -> dict[str, tuple]:
    """Pictures and their classes as ones and zeros, of each split, at most `limit` and 600 each."""
    told = generative.one_hot(pictures.labels, len(pictures.classes))
    numbers = {
        "train": pictures.train[:limit],
        "validation": pictures.validation[:600],
        "unseen": pictures.unseen[:600],
    }
    return {name: (pictures.pictures[i], told[i]) for name, i in numbers.items()}


def train(
    chosen: dict, data: dict, epochs: int, seed: int = 0, checkpoint: Path | None = None
) -> generative.ConditionalVAE:
    """A conditional VAE of 32x32 with some hyperparameters, trained on `parts(...)["train"]`."""
    pictures, told = data["train"]  # (N, C, 32, 32), (N, classes)
    training.seed_everything(seed)
    model = generative.ConditionalVAE(
        told.shape[1], pictures.shape[1], 32, chosen["latent"], chosen["width"]
    )
    training.fit(
        model,
        partial(losses.elbo, beta=chosen["beta"], sigma=SIGMA),
        data["train"],
        epochs=epochs,
        batch_size=32,
        lr=chosen["lr"],
        seed=seed,
        precision="float32",
        checkpoint=checkpoint,
    )
    return model.eval()


def bound(model: generative.ConditionalVAE, part: tuple) -> float:
    """The negative ELBO in nats a picture, with beta = 1 whatever it was trained with.

    One draw of the latents for each picture, always the same ones.
    """
    pictures, told = part
    with torch.no_grad():
        mean, log_variance = model.encode(pictures, told)
        noise = generative.normal(len(pictures), mean.shape[1])  # (N, latent)
        decoded = model.decode(mean + (0.5 * log_variance).exp() * noise, told)
        # Summed over a picture's values and averaged over pictures, as in `losses.elbo`.
        squares = ((decoded - pictures) ** 2).flatten(1).sum(1).mean()
        kl = losses.kl_per_dimension(mean, log_variance).sum()
    return (squares / (2 * SIGMA**2) + kl).item()


def search(out: Path, name: str = "turntable", epochs: int = 5, longer: int = 15) -> None:
    """Try `TRIALS` draws, train the best longer with each of `SEEDS`, and write all as JSON.

    A list of runs with the hyperparameters, "epochs", "seed", and the negative ELBO of "validation"
    pictures; that of "unseen" ones is only taken of the best, when everything is chosen. What is
    there already is kept, so an interrupted search goes on.
    """
    data = parts(labelled.read(name, 32))
    runs = recipes.runs_so_far(out)
    # Trials stand first in the file and in order, so their number says where to go on.
    for trial in tqdm(range(len(runs), TRIALS)):
        chosen = draw(trial)
        run = chosen | {"epochs": epochs, "seed": 0}
        # Unseen pictures are not looked at before the choice is made.
        runs.append(run | _judged(train(chosen, data, epochs), data, ("validation",)))
        recipes.write_runs(runs, out)
    best = best_of(runs)
    # What stands behind the trials are longer trainings, one a seed, in the same order.
    for seed in SEEDS[max(0, len(runs) - TRIALS) :]:
        run = best | {"epochs": longer, "seed": seed}
        model = train(best, data, longer, seed)
        runs.append(run | _judged(model, data, ("validation", "unseen")))
        recipes.write_runs(runs, out)


def best_of(runs: list[dict]) -> dict[str, float]:
    """The hyperparameters of the trial with the lowest negative ELBO on validation pictures."""
    # Seed 0 marks a trial; the longer trainings have those of `SEEDS`.
    trials = [run for run in runs if run["seed"] == 0]
    best = min(trials, key=lambda run: run["validation"])
    return {name: best[name] for name in (*CHOICES, *RANGES)}


def _judged(model, data: dict, names: tuple[str, ...]) -> dict[str, float]:
    judged = {name: round(bound(model, data[name]), 2) for name in names}
    # NaN compares as false with everything, and would spoil the choice of the best.
    if not all(map(math.isfinite, judged.values())):
        raise ValueError(f"a negative ELBO of {judged}: expected finite ones; lower RANGES['lr']")
    return judged


def train_classes(out: Path, epochs: int = 60) -> None:
    """Train what the search of the turning cars chose for longer; write its weights."""
    trials = recipes.runs_so_far(course.ROOT / "notebooks" / "search_turntable.json")
    data = parts(labelled.read("turntable", 32))
    kept = out.with_name(f"{out.name}.checkpoint")
    model = train(best_of(trials), data, epochs, checkpoint=kept)
    models.save(model, out)
    # The checkpoint has served once the weights are written.
    kept.unlink()


RECIPES = {
    "turntable-classes": train_classes,
    "conditional-vae-search": search,
    "conditional-vae-search-fashion": partial(search, name="FashionMNIST"),
}
