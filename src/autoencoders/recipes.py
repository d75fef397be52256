"""Trainings that take longer than a notebook may: `python -m autoencoders recipe NAME`.

Their results, small weights or numbers, come with the course; each recipe says how they were made.
"""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from autoencoders import course, data, losses, metrics, models, training

LATENTS = (16, 32, 64, 128, 256, 512)  # values, of 12,288 in a picture of 64x64
SEEDS = (0, 1, 2)


def initialise(model: nn.Module) -> nn.Module:
    """Draw weights at a scale at which signals neither die out nor blow up (He et al. 2015)."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def begin_at_mean(model: models.DenseAutoencoder, pictures: torch.Tensor) -> None:
    """Let an untrained dense autoencoder answer the mean of some pictures, as PCA does."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    mean = pictures.mean(0).flatten()
    with torch.no_grad():
        layers[0].bias.copy_(-layers[0].weight @ mean)
        layers[-1].weight.mul_(0.1)
        layers[-1].bias.copy_(mean)


def shifted(batch: torch.Tensor) -> torch.Tensor:
    """Mirror every other picture of `(N, 3, H, W)` and move each by up to an eighth of its side.

    What a crop is for a network that takes one size only. Edges are mirrored.
    """
    margin = batch.shape[-1] // 8
    padded = F.pad(batch, (margin,) * 4, mode="reflect")
    return data.augment(crop=batch.shape[-1])(padded)


# How the networks of the sweep are trained, by the names of figures and tables: 12,288 -> 256 ->
# latent and back, or a convolutional network of a fiftieth of its weights. In the dense one tens of
# thousands of small changes add up in every sum, so it takes smaller steps.
CONDITIONS = {
    "dense, whole pictures": {
        "kind": "dense", "prepare": data.augment(), "lr": 3e-4, "epochs": 160,
    },
    "dense, shifted pictures": {
        "kind": "dense", "prepare": shifted, "lr": 3e-4, "epochs": 480,
    },
    "convolutional, whole pictures": {
        "kind": "conv", "prepare": data.augment(), "lr": 4e-3, "epochs": 320,
    },
    "convolutional, crops": {
        "kind": "conv", "prepare": data.augment(crop=48), "lr": 4e-3, "epochs": 320,
    },
}  # fmt: skip


def train_small(
    condition: str, latent: int, seed: int, cars: torch.Tensor, epochs: int | None = None
) -> tuple[nn.Module, dict]:
    """Train an autoencoder of pictures of 64x64 under one of `CONDITIONS`, until it is flat.

    Validation stops it where it gets worse, and chooses the weights; else the learning rate ends
    at zero. `cars` `(N, 3, 64, 64)` are split by `data.split`. Returns the model and the history.
    """
    recipe = CONDITIONS[condition]
    train, validation, _ = data.split(len(cars))
    training.seed_everything(seed)
    if recipe["kind"] == "dense":
        model = initialise(models.DenseAutoencoder(64, latent, hidden=256))
        begin_at_mean(model, cars[train])
    else:
        model = initialise(models.ConvAutoencoder(64, latent, width=16))
    epochs = epochs or recipe["epochs"]
    history = training.fit(
        model,
        losses.mse,
        cars[train],
        cars[validation],
        epochs=epochs,
        lr=recipe["lr"],
        batch_size=16,
        prepare_batch=recipe["prepare"],
        validate_every=epochs // 40,
        patience=12,
        seed=seed,
    )
    return model, history


def latent_sweep(out: Path) -> None:
    """Train each of `CONDITIONS` with each latent and seed, and write what they reach, as JSON.

    A list of runs with "condition", "latent", "seed", "epochs" (trained), "best_epoch" (kept), and
    the mean PSNR of "train", "validation" and "unseen" cars in dB. What is there already is kept,
    so an interrupted sweep goes on. 20 minutes on two cores.
    """
    cars = F.avg_pool2d(data.cars(128, course.ROOT / "cars_sample")[0], 2)
    parts = data.split(len(cars))
    runs = json.loads(out.read_text("utf-8")) if out.exists() else []
    done = {(run["condition"], run["latent"], run["seed"]) for run in runs}
    wanted = [(c, latent, seed) for latent in LATENTS for c in CONDITIONS for seed in SEEDS]
    for condition, latent, seed in tqdm([key for key in wanted if key not in done]):
        model, history = train_small(condition, latent, seed, cars)
        losses_seen = history["valid_loss"]
        best = history["epoch"][losses_seen.index(min(losses_seen))]
        run = {"condition": condition, "latent": latent, "seed": seed}
        run |= {"epochs": history["epoch"][-1], "best_epoch": best}
        with torch.no_grad():
            for name, part in zip(parts._fields, parts, strict=True):
                decoded = model(cars[part]).clamp(0, 1)
                run[name] = round(metrics.psnr(cars[part], decoded).mean().item(), 3)
        runs.append(run)
        with course.replacing(out) as partial:
            partial.write_text(json.dumps(runs, indent=0) + "\n", "utf-8")
