"""The trainings of notebook 07: from scratch, and with cars cut out of other pictures.

A recipe writes small weights or numbers, which come with the notebook:
`python -m autoencoders recipe NAME`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F
from tqdm import tqdm

from autoencoders import (
    classification,
    course,
    data,
    losses,
    models,
    pretrained,
    recipes,
    training,
)

SIZE = 64  # pixels a side, unless said otherwise
SEEDS = (0, 1, 2)


# ---- Training a classifier ----


def varied(batch: tuple, size: int = SIZE) -> tuple:
    """Pictures of a batch `(pictures, labels)`, each cropped, mirrored and recoloured at random.

    Each becomes `size` pixels wide; three fifths of a picture or more are left of it.
    """
    pictures, label = batch
    from torchvision.transforms import v2  # loaded late, as it takes long

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, (0.6, 1), (0.85, 1.18), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.5),
        ]
    )
    # One by one: torchvision draws once for each call, which a batch would share.
    return torch.stack([transform(picture) for picture in pictures]), label


def train_classifier(
    model: torch.nn.Module,
    train: tuple[torch.Tensor, ...],
    epochs: int,
    seed: int = 0,
    loss_fn=losses.cross_entropy,
    prepare_batch=varied,
    weights: torch.Tensor | None = None,
    lr: float = 2e-3,
    checkpoint: Path | None = None,
) -> dict:
    """Train a classifier in place; returns `fit`'s history.

    `train` are pictures and, as its last part, their labels. `weights` `(N,)` say how often a
    picture is drawn: None draws a class by the root of its share, between as often as it occurs and
    equally often.
    """
    if weights is None:
        label = train[-1]
        weights = classification.class_weights(label, power=0.5)[label]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    history = training.fit(
        model,
        loss_fn,
        train,
        epochs=epochs,
        batch_size=32,
        prepare_batch=prepare_batch,
        weights=weights,
        optimizer=optimizer,
        seed=seed,
        checkpoint=checkpoint,
    )
    model.eval()
    return history


@torch.no_grad()
def answers(model: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Logits `(N, classes)` of pictures: the mean of those of each and of its mirror image."""
    found = []
    for some in pictures.split(64):
        found.append((model(some) + model(some.flip(-1))) / 2)
    return torch.cat(found)


def smaller(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Pictures `(N, 3, H, W)` brought to `size` pixels a side by averaging."""
    return F.interpolate(pictures, size=(size, size), mode="area")


def written(label: torch.Tensor) -> str:
    """Class numbers below 10 as a string of digits, which takes little room in a file."""
    return "".join(str(number) for number in label.tolist())


# ---- Does resolution matter? ----

# Sides in pixels, and epochs: first equally many, then as many as take equal arithmetic.
RESOLUTIONS = ((32, 60), (64, 60), (128, 60), (32, 240), (128, 15))


def resolutions(out: Path) -> None:
    """Train the residual network on `bodies` at three resolutions, three seeds each.

    A list of runs with "size", "epochs", "seed", the accuracy on the "train"ing pictures, and the
    class "predicted" for each unseen one, as a digit. What is there already is kept. 40 minutes on
    one core.
    """
    cars = data.bodies()
    label = cars.label[cars.train]
    runs = recipes.runs_so_far(out)
    done = {(run["size"], run["epochs"], run["seed"]) for run in runs}
    wanted = [(size, epochs, seed) for size, epochs in RESOLUTIONS for seed in SEEDS]
    for size, epochs, seed in tqdm([one for one in wanted if one not in done]):
        pictures = smaller(cars.pictures, size)
        training.seed_everything(seed)
        model = models.ResidualNetwork(len(cars.classes), width=16)
        train_classifier(
            model,
            (pictures[cars.train], label),
            epochs,
            seed,
            prepare_batch=partial(varied, size=size),
        )
        seen = answers(model, pictures[cars.train]).argmax(1)
        unseen = answers(model, pictures[cars.unseen]).argmax(1)
        runs.append(
            {
                "size": size,
                "epochs": epochs,
                "seed": seed,
                "train": round((seen == label).float().mean().item(), 4),
                "predicted": written(unseen),
            }
        )
        recipes.write_runs(runs, out)


# ---- Cars cut out of other pictures ----


def cut_outs(cars: data.Turntable) -> torch.Tensor:
    """How much of each pixel of the turntable's pictures belongs to the car, `(N, 1, 64, 64)`.

    A car is what differs from the backdrop. The backdrop is where the camera is alike: the median
    of pictures whose elevation is nearly the same, and in which other cars stand otherwise. Its
    light is that of the picture's own left and right edge. Shadows count as car.
    """
    pictures = cars.pictures  # (N, 3, 64, 64)
    edges = torch.cat([pictures[..., :3], pictures[..., -3:]], dim=-1)
    light = edges.median(-1).values  # (N, 3, 64), a value for each row
    light = F.avg_pool1d(F.pad(light, (2, 2), mode="replicate"), 5, stride=1)[..., None]
    unlit = pictures / light.clamp(min=1e-3)
    order = cars.elevation.argsort()
    differ = torch.empty(len(pictures), 64, 64)
    many = 160  # pictures that share a backdrop; as many neighbours come in on either side
    for start in range(0, len(order), many):
        own = order[start : start + many]
        near = order[max(0, start - many // 2) : start + many + many // 2]
        backdrop = unlit[near].median(0).values * light[own]
        differ[own] = (pictures[own] - backdrop).abs().amax(1)
    solid = np.stack([_one_piece(mask) for mask in (differ > 0.07).numpy()])
    masks = torch.from_numpy(solid).float()[:, None]
    # Soft edges: a hard one would be a sign that something was pasted.
    return F.avg_pool2d(masks, 3, stride=1, padding=1)


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected region of a mask `(H, W)`, its gaps closed and its threads cut."""
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=2))
    mask = ndimage.binary_opening(mask, iterations=1)
    regions, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # what is no region
    return regions == sizes.argmax()


def pasted(batch: tuple, backgrounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cars of a batch `(pictures, masks, labels)`, each moved into another picture's background.

    Car and background are mirrored, zoomed, moved and lit at random. Returns pictures of the
    backgrounds' size, and the labels.
    """
    cars, masks, label = batch
    n = len(cars)
    chosen = backgrounds[torch.randint(len(backgrounds), (n,))]
    # A part of the background, half of its width or more.
    behind = _moved(chosen, zoom=1 / torch.empty(n).uniform_(0.5, 1), shift=0.4, mode="reflection")
    both = torch.cat([cars, masks], dim=1)
    both = F.interpolate(both, size=backgrounds.shape[-2:], mode="bilinear")
    zoom = torch.empty(n).uniform_(1.05, 1.65)  # a car fills its picture of the turntable by half
    both = _moved(both, zoom, shift=0.12, mode="zeros")
    light = torch.empty(n, 1, 1, 1).uniform_(0.6, 1.4)
    car, mask = both[:, :3] * light, both[:, 3:]
    together = (mask * car + (1 - mask) * behind).clamp(0, 1)
    return _lit(together), label


def _moved(pictures: torch.Tensor, zoom: torch.Tensor, shift: float, mode: str) -> torch.Tensor:
    """Pictures, each zoomed by its `zoom` `(N,)`, moved by up to `shift`, every other mirrored.

    Shifts are shares of half a side; `mode` says what lies beyond the edge.
    """
    n = len(pictures)
    mirror = torch.randint(2, (n,)) * 2 - 1.0
    where = torch.zeros(n, 2, 3)  # from the new picture's coordinates, -1 to 1, to the old one's
    where[:, 0, 0] = mirror / zoom
    where[:, 1, 1] = 1 / zoom
    where[:, :, 2] = torch.empty(n, 2).uniform_(-shift, shift)
    places = F.affine_grid(where, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, places, padding_mode=mode, align_corners=False)


def _lit(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures with another exposure and another white each."""
    n = len(pictures)
    gamma = torch.empty(n, 1, 1, 1).uniform_(0.7, 1.3)
    white = torch.empty(n, 3, 1, 1).uniform_(0.92, 1.08)
    # Black stays off zero, where a power below 1 has no slope and above has no light.
    return (pictures.clamp(min=1e-3) ** gamma * white).clamp(0, 1)


# Which pictures train: 401 in ordinary settings, 4,800 cars cut out, or a third and two thirds.
TURNED = ("settings alone", "cut-outs alone", "both")
EPOCHS = 20  # of the 4,800 cut-outs


class _Turned:
    """What `fit` does to a batch of cut-outs: pastes them, and puts other pictures in their place.

    A third of the batch becomes pictures of `bodies`, where `share` is a third.
    """

    def __init__(self, cars: data.Collection, share: float):
        self.pictures = cars.pictures[cars.train]
        self.label = cars.label[cars.train]
        self.often = classification.class_weights(self.label, power=0.5)[self.label]
        self.share = share

    def __call__(self, batch: tuple) -> tuple[torch.Tensor, torch.Tensor]:
        count = round(self.share * len(batch[0]))
        cut, label = pasted(tuple(part[count:] for part in batch), self.pictures)
        if not count:
            return cut, label
        chosen = torch.multinomial(self.often, count, replacement=True)
        size = self.pictures.shape[-1]
        whole, own = varied((self.pictures[chosen], self.label[chosen]), size)
        return torch.cat([whole, cut]), torch.cat([own, label])


def _turned_lesson(turning: data.Turntable) -> tuple[torch.Tensor, ...]:
    """Of the turning cars for training: pictures, where the car is in them, body types."""
    some = turning.train
    return turning.pictures[some], cut_outs(turning)[some], turning.body_type[some]


def train_turned(
    condition: str, seed: int = 0, epochs: int = EPOCHS, size: int = SIZE, width: int = 24
) -> models.ResidualNetwork:
    """A network for the seven body types, trained on what a condition of `TURNED` says.

    All conditions take equally many steps. Raises ValueError.
    """
    if condition not in TURNED:
        raise ValueError(f"condition={condition!r}: expected one of {', '.join(TURNED)}")
    cars, turning = data.bodies(), data.turntable()
    cars = cars._replace(pictures=smaller(cars.pictures, size))
    training.seed_everything(seed)
    model = models.ResidualNetwork(len(cars.classes), width)
    if condition == "settings alone":
        train = cars.pictures[cars.train], cars.label[cars.train]
        epochs = round(epochs * len(turning.train) / len(cars.train))
        prepare = partial(varied, size=size)
    else:
        train = _turned_lesson(turning)
        prepare = _Turned(cars, share=1 / 3 if condition == "both" else 0.0)
    train_classifier(model, train, epochs, seed, prepare_batch=prepare)
    return model


def turned_runs(out: Path) -> None:
    """Train on each of `TURNED`, three seeds each, and write what they say of the unseen bodies.

    A list of runs with "condition", "seed" and "predicted", as in `resolutions`. What is there
    already is kept. 40 minutes on one core.
    """
    cars = data.bodies()
    unseen = smaller(cars.pictures[cars.unseen], SIZE)
    runs = recipes.runs_so_far(out)
    done = {(run["condition"], run["seed"]) for run in runs}
    wanted = [(condition, seed) for seed in SEEDS for condition in TURNED]
    for condition, seed in tqdm([one for one in wanted if one not in done]):
        predicted = answers(train_turned(condition, seed), unseen).argmax(1)
        runs.append({"condition": condition, "seed": seed, "predicted": written(predicted)})
        recipes.write_runs(runs, out)


def turned_weights(out: Path) -> None:
    """Train on cut-outs alone, with seed 0, and write the weights. Five minutes on one core.

    So what the network knows comes from the turning cars: no label of `bodies` is in it.
    """
    models.save(train_turned("cut-outs alone"), out)


# ---- What a network knows that was trained on ImageNet ----


@torch.no_grad()
def imagenet_features(pictures: torch.Tensor, size: int = 224) -> torch.Tensor:
    """Features `(N, 1280)` of the pretrained network, the mean of a picture's and its mirror's.

    Raises ImportError where the network is not installed.
    """
    network = pretrained.Features()
    found = []
    for some in tqdm(pictures.split(32), disable=None):
        large = F.interpolate(some, size=(size, size), mode="bicubic").clamp(0, 1)
        found.append((network(large) + network(large.flip(-1))) / 2)
    return torch.cat(found)


def write_features(out: Path) -> None:
    """Write `imagenet_features` of all of `bodies`, in half precision. Two minutes on one core."""
    features = imagenet_features(data.bodies().pictures).half()
    with course.replacing(out) as part:
        torch.save({"features": features}, part)


class FineTuned(torch.nn.Module):
    """The pretrained network with a last layer for our classes, all of it trained further."""

    def __init__(self, classes: int):
        super().__init__()
        self.encoder = pretrained.Features().requires_grad_(True)
        self.answer = torch.nn.Linear(1280, classes)
        torch.nn.init.zeros_(self.answer.weight)  # so that the first steps do no harm below it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(F.dropout(self.encoder(x), 0.2, self.training))


def fine_tuned(out: Path, epochs: int = 2) -> None:
    """Train the pretrained network further on "both" of `TURNED`; a run as in `turned_runs`.

    Twelve minutes on one core.
    """
    cars = data.bodies()
    training.seed_everything(0)
    model = FineTuned(len(cars.classes))
    groups = [
        {"params": model.encoder.parameters(), "lr": 5e-4},
        # The last layer begins from nothing.
        {"params": model.answer.parameters(), "lr": 2.5e-3},
    ]
    training.fit(
        model,
        losses.cross_entropy,
        _turned_lesson(data.turntable()),
        epochs=epochs,
        batch_size=32,
        prepare_batch=_Turned(cars, share=1 / 3),
        optimizer=torch.optim.AdamW(groups, weight_decay=0.02),
        checkpoint=out.with_name(f"{out.name}.checkpoint"),
    )
    predicted = answers(model.eval(), cars.pictures[cars.unseen]).argmax(1)
    run = {"condition": "fine-tuned", "seed": 0, "predicted": written(predicted)}
    recipes.write_runs([run], out)
    out.with_name(f"{out.name}.checkpoint").unlink(missing_ok=True)


# The recipes of notebook 07; each takes the file to write.
RECIPES = {
    "bodies-resolutions": resolutions,
    "bodies-turned-runs": turned_runs,
    "bodies-turned": turned_weights,
    "bodies-imagenet": write_features,
    "bodies-fine-tuned": fine_tuned,
}
