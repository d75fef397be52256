"""The networks of notebook 06: one U-Net, trained to restore good parts from three corruptions.

A recipe writes small weights or numbers, which come with the notebook:
`python -m autoencoders recipe NAME`.
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from autoencoders import (
    corrupt,
    data,
    detection,
    generative,
    losses,
    models,
    recipes,
    training,
)

# What `fit` does to a batch of good pictures: (input, target).
CORRUPTIONS = {
    "colourisation": corrupt.without_colours,
    "inpainting": corrupt.without_parts,
    "masked": corrupt.without_most,
}
STEPS, BATCH = 1200, 8
SEEDS = (0, 1, 2)
# How the recipes score pictures and make maps. In notebook 06, on good validation wheels and
# defects drawn into them, these are among the best, within chance; fixed here, so that a tie there
# does not change the files.
SCORER = detection.Scorer(("squared",), (2.0,), standardised=True)
MAPPER = detection.Scorer(("squared",), (8.0,), standardised=False)
FEW = 20  # good pictures, where there are few


def restorer() -> nn.Module:
    """The untrained network, the same for every task: a U-Net with 316,764 parameters."""
    return models.ConvDenoiser(channels=3, width=24, levels=3)


def restorer_training(
    task: str,
    good: torch.Tensor,
    seed: int = 0,
    steps: int = STEPS,
    prepare_batch=None,
) -> training.Training:
    """The network, to be trained on good pictures `(N, 3, size, size)` to restore them.

    As many steps whatever the number of pictures. `prepare_batch` replaces the task's own
    corruption. Raises ValueError, also for pictures without colours, from which colourisation can
    learn nothing.
    """
    if task not in CORRUPTIONS:
        raise ValueError(f"task={task!r}: expected one of {', '.join(CORRUPTIONS)}")
    if task == "colourisation" and not coloured(good):
        raise ValueError(
            "colourisation of pictures without colours: expected pictures in colour; leave this "
            "task out for a grey camera"
        )
    training.seed_everything(seed)
    # Fewer pictures come more often, so that each task and each set gets as many steps.
    options = {"epochs": max(1, round(steps * BATCH / len(good)))}
    options |= {"batch_size": min(BATCH, len(good)), "lr": 2e-3, "seed": seed}
    options |= {"prepare_batch": prepare_batch or CORRUPTIONS[task]}
    return training.Training(restorer(), losses.mse, good, options=options)


def train_restorer(
    task: str, good: torch.Tensor, checkpoint: Path | None = None, **settings
) -> nn.Module:
    """Run `restorer_training`, whose `settings` these are; returns the network.

    With a `checkpoint` an interrupted training goes on. Raises ValueError.
    """
    planned = restorer_training(task, good, **settings)
    planned.run(checkpoint=checkpoint)
    return planned.model


def coloured(pictures: torch.Tensor) -> bool:
    """Whether any of the pictures `(N, 3, H, W)` has a colour that is not grey."""
    # A grey picture saved as JPEG may differ by a few of 255 steps between its channels.
    return bool((pictures.amax(1) - pictures.amin(1)).max() > 0.02)


def tasks_for(parts: data.Inspection) -> tuple[str, ...]:
    """The tasks that a set's pictures can be used for: all, or all but colourisation."""
    if coloured(parts.pictures[parts.train]):
        return detection.TASKS
    return tuple(task for task in detection.TASKS if task != "colourisation")


def write_weights(out: Path, task: str) -> None:
    """Train on the good training wheels with seed 0; write the weights."""
    parts = data.wheels()
    restorer_training(task, parts.pictures[parts.train]).write(out)


def errors(model: nn.Module, task: str, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """`detection.error_maps` of pictures that a network has restored."""
    return detection.error_maps(pictures, detection.restore(model, task, pictures))


def evaluate(
    scores: torch.Tensor, parts: data.Inspection, maps: torch.Tensor | None = None
) -> dict:
    """What scores `(N,)` and anomaly maps `(N, 1, H, W)` of a set's unseen pictures are worth.

    "image" and "aupr" of the scores, "by_defect" against the good ones, and, where there are maps
    and masks, "pixel" and "pro".
    """
    defect = parts.defect[parts.unseen]
    found = {
        "image": detection.auroc(defect > 0, scores),
        "aupr": detection.aupr(defect > 0, scores),
        "by_defect": {},
    }
    for number, name in enumerate(parts.defects[1:], 1):
        # The good ones are the same for each defect: one rate of false alarms for all.
        some = (defect == 0) | (defect == number)
        if (defect == number).any():
            found["by_defect"][name] = detection.auroc(defect[some] > 0, scores[some])
    if maps is not None and parts.masks is not None:
        masks = parts.masks[parts.unseen]
        found |= {"pixel": detection.auroc(masks, maps), "pro": detection.pro(masks, maps)}
    return found


def judge(unseen: dict, usual: dict, parts: data.Inspection) -> dict:
    """`evaluate` by `SCORER` and `MAPPER`, for each task's error maps `{task: maps}`.

    `unseen` and `usual` are of the unseen and of good pictures. With more than one task also
    "combined", whose maps are the largest of the tasks'.
    """
    scored = {task: SCORER.maps(unseen[task], usual[task]) for task in unseen}
    mapped = {task: MAPPER.maps(unseen[task], usual[task]) for task in unseen}
    # Any task may raise the alarm, so the largest of their values counts.
    if len(unseen) > 1:
        scored["combined"] = detection.combine([*scored.values()])
        mapped["combined"] = detection.combine([*mapped.values()])
    found = {}
    for task, maps in scored.items():
        found[task] = evaluate(SCORER.scores(maps), parts, mapped[task])
    return found


def rounded(found: dict) -> dict:
    """Numbers to four digits, for a file that is kept."""
    short = {}
    for name, value in found.items():
        short[name] = rounded(value) if isinstance(value, dict) else round(value, 4)
    return short


def seeds(out: Path) -> None:
    """Train each task with each seed on the wheels, and write what they reach on the unseen ones.

    A list of runs with "task", "seed" and what `evaluate` finds; "combined" is as in
    `judge`. What is there already is kept. 20 minutes on one core.
    """
    parts = data.wheels()
    train, unseen = parts.pictures[parts.train], parts.pictures[parts.unseen]
    runs = recipes.runs_so_far(out)
    done = {run["seed"] for run in runs}
    for seed in tqdm([seed for seed in SEEDS if seed not in done]):
        found, usual = {}, {}
        for task in detection.TASKS:
            kept = out.with_name(f"{out.name}.{task}.{seed}.checkpoint")
            model = train_restorer(task, train, kept, seed=seed)
            found[task] = errors(model, task, unseen)
            # What errors are usual can be told from half of them.
            usual[task] = errors(model, task, train[::2])
        for task, values in judge(found, usual, parts).items():
            runs.append({"task": task, "seed": seed} | rounded(values))
        recipes.write_runs(runs, out)
    for kept in out.parent.glob(f"{out.name}.*.checkpoint"):
        kept.unlink()


# ---- Few good pictures ----


def moved_and_lit(batch: torch.Tensor) -> torch.Tensor:
    """Pictures `(N, 3, H, W)`, each moved by up to 4 pixels and made up to a tenth brighter or
    darker: the augmentation that needs no network."""
    size = batch.shape[-1]
    padded = F.pad(batch, (4, 4, 4, 4), mode="replicate")
    moved = data.augment(crop=size, flip=False)(padded)
    return (moved * torch.empty(len(batch), 1, 1, 1).uniform_(0.9, 1.1)).clamp(0, 1)


def invent(good: torch.Tensor, n: int, seed: int = 0, epochs: int = 150) -> torch.Tensor:
    """Pictures `(n, 3, size, size)` drawn by a VAE that is trained on the few `good` ones."""
    training.seed_everything(seed)
    vae = generative.VAE(channels=3, size=good.shape[-1], latent=8, width=16)
    loss = partial(losses.elbo, beta=0.1)
    training.fit(vae, loss, good, epochs=epochs, batch_size=4, lr=2e-3, seed=seed)
    # Drawn from the prior, and with no noise added: the decoder's mean is the picture.
    with torch.no_grad():
        return vae.eval().decode(generative.normal(n, 8, seed)).clamp(0, 1)


def few(out: Path) -> None:
    """Inpainting with 20 good wheels: as they are, augmented, or with 180 that a VAE invents.

    A list of runs with "condition", "seed" and what `evaluate` finds. All with as many steps, and
    the errors that are usual taken from the 20. What is there already is kept. 20 minutes on one
    core.
    """
    parts = data.wheels()
    unseen = parts.pictures[parts.unseen]
    runs = recipes.runs_so_far(out)
    done = {(run["condition"], run["seed"]) for run in runs}
    corruption = CORRUPTIONS["inpainting"]
    for seed in tqdm(SEEDS):
        # Other twenty for each seed: which ones they are is part of the luck.
        order = torch.randperm(len(parts.train), generator=torch.Generator().manual_seed(seed))
        good = parts.pictures[parts.train[order[:FEW]]]
        for condition in ("20 real", "20 real, moved and lit", "20 real, 180 invented"):
            if (condition, seed) in done:
                continue
            known, prepare = good, corruption
            if condition.endswith("lit"):
                prepare = partial(_after, first=moved_and_lit, then=corruption)
            if condition.endswith("invented"):
                known = torch.cat([good, invent(good, 180, seed)])
            model = train_restorer("inpainting", known, seed=seed, prepare_batch=prepare)
            usual = {"inpainting": errors(model, "inpainting", good)}
            found = {"inpainting": errors(model, "inpainting", unseen)}
            values = judge(found, usual, parts)["inpainting"]
            runs.append({"condition": condition, "seed": seed} | rounded(values))
            recipes.write_runs(runs, out)


def _after(batch: torch.Tensor, first, then) -> tuple[torch.Tensor, torch.Tensor]:
    """What `then` makes of what `first` makes of a batch; a function that a checkpoint can name."""
    return then(first(batch))


# Minutes on one core: 2, 2 and 2, 20, 20.
RECIPES = {f"wheels-{task}": partial(write_weights, task=task) for task in CORRUPTIONS}
RECIPES |= {"wheels-seeds": seeds, "wheels-few": few}
