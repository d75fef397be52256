"""Networks for the cars that turn: what they are told about a picture, and how they are trained.

A recipe writes small weights, which come with notebook 05: `python -m autoencoders recipe NAME`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from autoencoders import data, generative, losses, models, training

ANSWERS = (7, 13, 2)  # of the attribute classifier: body types, paints, cosine and sine
# The columns of `conditions`: 7 body types, 13 paints, cosine, sine, elevation.
SINE = 21  # the column of the azimuth's sine in `conditions`
CONDITIONS = 23
MIDDLE, SPREAD = 16.0, 12.0  # degrees: elevations lie between 4 and 28


def conditions(
    body_type: torch.Tensor, paint: torch.Tensor, azimuth: torch.Tensor, elevation: torch.Tensor
) -> torch.Tensor:
    """What a conditional model is told about pictures, `(N, 23)`; each argument is `(N,)`.

    Seven columns for the body type and thirteen for the paint, a one where it is; then cosine and
    sine of the azimuth, and the elevation, brought to -1 to 1. Angles are in degrees. Raises
    ValueError for a body type or paint that there is not.
    """
    columns = [
        generative.one_hot(body_type, ANSWERS[0]),  # (N, 7)
        generative.one_hot(paint, ANSWERS[1]),  # (N, 13)
        generative.angle(azimuth),  # (N, 2)
        (elevation[:, None] - MIDDLE) / SPREAD,  # (N, 1)
    ]
    return torch.cat(columns, 1)


def all_conditions(cars: data.Turntable) -> torch.Tensor:
    """`conditions` of all pictures of the set, `(6000, 23)`."""
    return conditions(cars.body_type, cars.paint, cars.azimuth, cars.elevation)


def mirrored(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror every other picture of `(pictures, conditions)`, and turn its azimuth the other way.

    Both sides of a car look alike, so a car seen from its left is, mirrored, one from its right.
    """
    pictures, told = batch
    mirror = torch.rand(len(pictures)) < 0.5
    pictures = torch.where(mirror[:, None, None, None], pictures.flip(3), pictures)
    # A copy, since the batch may be the caller's own.
    told = told.clone()
    # The azimuth counts from the front, so mirrored it changes its sign: the cosine stays.
    told[:, SINE] = torch.where(mirror, -told[:, SINE], told[:, SINE])
    return pictures, told


def mirrored_and_moved(batch: tuple[torch.Tensor, torch.Tensor], margin: int = 3) -> tuple:
    """As `mirrored`, and moved by up to `margin` pixels, all pictures of a batch alike."""
    pictures, told = mirrored(batch)
    side = pictures.shape[-1]
    wide = F.pad(pictures, (margin,) * 4, mode="reflect")
    # `margin` is the middle: not moved.
    top, left = torch.randint(0, 2 * margin + 1, (2,)).tolist()
    return wide[:, :, top : top + side, left : left + side], told


def attributes(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> dict:
    """The loss of the attribute classifier on `(pictures, conditions)`.

    The sum of the cross-entropies of body type and paint, in nats, and four times the mean squared
    error of cosine and sine, so that all three are of one size when training begins.
    """
    pictures, told = batch
    # From ones and zeros back to numbers of classes, (N,) each.
    body_type, paint = told[:, :7].argmax(1), told[:, 7:20].argmax(1)
    body_logits, paint_logits, direction = model(pictures)  # (N, 7), (N, 13), (N, 2)
    angle = F.mse_loss(direction, told[:, 20:22])
    classes = F.cross_entropy(body_logits, body_type) + F.cross_entropy(paint_logits, paint)
    return {
        "loss": classes + 4 * angle,
        # Shares of right answers: shown, not minimised.
        "body_type": (body_logits.argmax(1) == body_type).float().mean(),
        "paint": (paint_logits.argmax(1) == paint).float().mean(),
        "angle": angle,
    }


def azimuth(direction: torch.Tensor) -> torch.Tensor:
    """Degrees from 0 to 360, `(N,)`, of cosines and sines `(N, 2)` of any length."""
    # atan2 goes from -180 to 180 degrees.
    return torch.rad2deg(torch.atan2(direction[:, 1], direction[:, 0])) % 360


def turned(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How many degrees lie between two azimuths, 0 to 180: 2 between 359 and 1."""
    # The shorter way round: the difference is brought to -180 to 180 first.
    return ((a - b + 180) % 360 - 180).abs()


def by_car(numbers: torch.Tensor, cars: data.Turntable) -> torch.Tensor:
    """Numbers of pictures `(6 * n,)` of whole cars as a row for each car, `(n, 6)`."""
    # Stable, so that the views of a car keep their order.
    order = cars.car[numbers].argsort(stable=True)
    return numbers[order].reshape(-1, 6)


def two_views(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Two views of each car: one to encode, the other to decode.

    From six views of N cars, pictures `(N, 6, 3, H, W)` and conditions `(N, 6, 23)`, come pictures
    and conditions of the one, then of the other. Every other car is mirrored, in both.
    """
    pictures, told = batch
    car = torch.arange(len(pictures))
    # The first two of a random order of each car's six views.
    first, second, *_ = torch.rand(len(pictures), 6).argsort(1).T
    mirror = torch.rand(len(pictures)) < 0.5
    views = []
    for view in (first, second):
        # (N, 3, H, W) and (N, 23). Indexing by tensors copies: the batch stays as it is.
        picture, words = pictures[car, view], told[car, view]
        picture = torch.where(mirror[:, None, None, None], picture.flip(3), picture)
        words[:, SINE] = torch.where(mirror, -words[:, SINE], words[:, SINE])
        views += [picture, words]
    return tuple(views)


def other_view(
    model: generative.ConditionalVAE, batch: tuple, beta: float = 1.0, sigma: float = 0.3
) -> dict:
    """The negative ELBO of a picture, given the latents of another picture of the same car.

    `batch` is (pictures, conditions) of the views that are encoded and the same of those that are
    decoded. Terms and units are those of `losses.elbo`. The latents can only help with what both
    views share, the car itself; where the camera stands must come from the conditions. With
    (pictures, conditions) alone both views are the same.
    """
    # Validation pictures do not go through `two_views`.
    if len(batch) == 2:
        batch = (*batch, *batch)
    seen, seen_told, wanted, wanted_told = batch
    mean, log_variance = model.encode(seen, seen_told)  # (N, latent) both
    z = generative.reparameterise(mean, log_variance) if model.training else mean
    decoded = model.decode(z, wanted_told)
    squares = (decoded.float() - wanted) ** 2
    reconstruction = squares.flatten(1).sum(1).mean() / (2 * sigma**2)
    kl = losses.kl_per_dimension(mean, log_variance).sum()
    return {"loss": reconstruction + beta * kl, "reconstruction": reconstruction, "kl": kl}


def attribute_classifier(epochs: int = 30, width: int = 16, seed: int = 0) -> training.Training:
    """The classifier of body type, paint and azimuth, to be trained on the training cars."""
    training.seed_everything(seed)
    model = models.AttributeClassifier(ANSWERS, width=width)
    options = {"epochs": epochs, "batch_size": 64, "lr": 4e-3, "weight_decay": 1e-2, "seed": seed}
    return _told(model, attributes, options | {"prepare_batch": mirrored_and_moved})


def conditional_vae(
    epochs: int = 360, width: int = 16, latent: int = 8, seed: int = 0
) -> training.Training:
    """The conditional VAE, to be trained to draw the training cars from another side.

    In an epoch each car is drawn once, from one of its sides.
    """
    training.seed_everything(seed)
    model = generative.ConditionalVAE(CONDITIONS, size=64, latent=latent, width=width)
    options = {"epochs": epochs, "batch_size": 16, "lr": 3e-3, "seed": seed}
    return _told(model, other_view, options | {"prepare_batch": two_views}, views=True)


def vae(
    beta: float = 1.0, epochs: int = 40, width: int = 16, latent: int = 16, seed: int = 0
) -> training.Training:
    """A VAE, to be trained on the training cars at 32x32."""
    cars = data.turntable(32)
    training.seed_everything(seed)
    model = generative.VAE(size=32, latent=latent, width=width)
    options = {"epochs": epochs, "batch_size": 32, "lr": 3e-3, "seed": seed}
    # Mirrored without their conditions, since this VAE is told nothing.
    options |= {"prepare_batch": flipped}
    # Not "auto", by which machines with fast bfloat16 would train other weights.
    options |= {"precision": "float32"}
    loss_fn = partial(losses.elbo, beta=beta)
    return training.Training(model, loss_fn, cars.pictures[cars.train], options=options)


def body_types(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> dict:
    """The loss of a classifier with a single answer: cross-entropy in nats, and "accuracy"."""
    pictures, label = batch
    # The only answer of its tuple, (N, 7).
    logits = model(pictures)[0]
    right = (logits.argmax(1) == label).float().mean()
    return {"loss": F.cross_entropy(logits, label), "accuracy": right}


def judge(epochs: int = 30, width: int = 16, seed: int = 0) -> training.Training:
    """The classifier of body types at 32x32, whose features the scores are made of."""
    cars = data.turntable(32)
    training.seed_everything(seed)
    model = models.AttributeClassifier((ANSWERS[0],), width=width)
    options = {"epochs": epochs, "batch_size": 64, "lr": 4e-3, "weight_decay": 1e-2, "seed": seed}
    options |= {"prepare_batch": _flipped_and_label, "precision": "float32"}
    train = (cars.pictures[cars.train], cars.body_type[cars.train])
    return training.Training(model, body_types, train, options=options)


def _flipped_and_label(batch: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    # A car keeps its body type in the mirror.
    pictures, label = batch
    return flipped(pictures), label


def _told(model, loss_fn, options: dict, views: bool = False) -> training.Training:
    """A training on cars of 64x64 and what a model is told about them."""
    cars = data.turntable(64)
    told = all_conditions(cars)
    # With views an item is a car, so the pictures are (cars, 6, 3, 64, 64).
    train = by_car(cars.train, cars) if views else cars.train
    # To watch it: without `patience` validation chooses nothing.
    options |= {"precision": "float32", "validate_every": max(1, options["epochs"] // 12)}
    return training.Training(
        model,
        loss_fn,
        (cars.pictures[train], told[train]),
        (cars.pictures[cars.validation], told[cars.validation]),
        options,
    )


def flipped(pictures: torch.Tensor) -> torch.Tensor:
    """Mirror every other picture of `(N, 3, H, W)`."""
    mirror = torch.rand(len(pictures)) < 0.5
    return torch.where(mirror[:, None, None, None], pictures.flip(3), pictures)


def dcgan(epochs: int = 160, width: int = 32, latent: int = 64, seed: int = 0) -> training.Training:
    """The DCGAN, to be trained on the training cars at 32x32; of it the generator is saved."""
    cars = data.turntable(32)
    training.seed_everything(seed)
    model = generative.DCGAN(size=32, latent=latent, width=width)
    options = {"epochs": epochs, "batch_size": 32, "prepare_batch": flipped, "seed": seed}
    options |= {"optimizer": adam_pair(model), "schedule": training.cosine, "clip": None}
    options |= {"precision": "float32"}
    # The order in which they take turns in each step.
    turns = {"d": losses.discriminator, "g": losses.generator}
    train = cars.pictures[cars.train]
    return training.Training(model, turns, train, options=options, save=save_generator)


def save_generator(model: generative.DCGAN, out: Path) -> None:
    """Pictures are drawn without the discriminator, which only training needs."""
    models.save(model.generator, out)


def adam_pair(gan: generative.DCGAN, lr: float = 2e-4) -> dict[str, torch.optim.Optimizer]:
    """DCGAN's optimisers: Adam with less momentum than usual (Radford et al. 2016)."""
    parts = {"d": gan.discriminator, "g": gan.generator}
    return {
        name: torch.optim.Adam(part.parameters(), lr, (0.5, 0.999)) for name, part in parts.items()
    }


def _write(out: Path, planned: Callable[..., training.Training], **settings) -> None:
    planned(**settings).write(out)


TRAININGS = {
    "turntable-attributes": attribute_classifier,
    "turntable-conditional-vae": conditional_vae,
    "turntable-dcgan": dcgan,
    "turntable-judge": judge,
    # The weight of the KL term below, at and above 1, where the loss is the bound.
    "turntable-vae-0.1": partial(vae, beta=0.1),
    "turntable-vae-1": partial(vae, beta=1.0),
    "turntable-vae-30": partial(vae, beta=30.0),
}
RECIPES = {name: partial(_write, planned=planned) for name, planned in TRAININGS.items()}
