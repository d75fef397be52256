"""How the codec is trained: its losses, `training.fit` around them, and recipes of what we ship.

All losses are sums of a rate and a distortion, or a distortion alone: bits per pixel, and squared
error in grey levels (0 to 255), weighted by the Lagrange multiplier lambda in bits per pixel and
unit of squared error.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoencoders import course, data, training
from autoencoders.codec import files, weights
from autoencoders.codec.model import LearnedCodec

# ---- Training for bits ----


def rate_distortion(model: LearnedCodec, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rate + lambda * distortion of a `LearnedCodec`, averaged over pictures `(N, 3, H, W)`.

    Each picture gets a level, at random while training, else by turns. Each level's loss is divided
    by the root of its lambda, about as bits grow with it, so that no level drowns the others.
    """
    lambdas = torch.tensor(model.arguments["lambdas"])
    level = torch.arange(len(batch)) % len(lambdas)
    if model.training:
        level = torch.randint(len(lambdas), (len(batch),))
    weight = lambdas[level].to(batch.device)
    pictures, bits = model(batch, level.to(batch.device))
    rate = bits / batch[0, 0].numel()  # (N,), as are weight and distortion
    distortion = 255**2 * (pictures - batch).square().flatten(1).mean(1)
    # The factor is 1 at a lambda of 0.003, which lies amid the default ones.
    loss = ((rate + weight * distortion) * (0.003 / weight).sqrt()).mean()
    return {"loss": loss, "bits_per_pixel": rate.mean(), "squared_error": distortion.mean()}


def codec_training(
    model: LearnedCodec,
    pictures: torch.Tensor,
    *,
    valid: torch.Tensor | None = None,
    lr: float = 1e-3,
    batch_size: int = 16,
    **options,
) -> training.Training:
    """A `LearnedCodec`, to be trained for bits; `options` are those of `training.fit`.

    `pictures` `(N, 3, H, W)` with H and W multiples of 8, or of any size with `prepare_batch`
    cropping them so. The PCA layers are near a good place already and learn at a twentieth of the
    rate.
    """
    slow = []
    fast = []
    for name, parameter in model.named_parameters():
        is_pca = name.startswith(("analysis_pca", "synthesis_pca"))
        (slow if is_pca else fast).append(parameter)
    optimizer = torch.optim.Adam([{"params": slow, "lr": lr / 20}, {"params": fast, "lr": lr}])
    options |= {"batch_size": batch_size, "optimizer": optimizer, "clip": 2.0}
    return training.Training(model, rate_distortion, pictures, valid, options, save_weights)


def fit_codec(model: LearnedCodec, pictures: torch.Tensor, **options) -> dict:
    """Run `codec_training`; returns the history."""
    return codec_training(model, pictures, **options).run()


def save_weights(model: LearnedCodec, out: Path, decoder_only: bool = False) -> None:
    """Write the weights as the program reads them."""
    file = weights.pack(model, decoder_only=decoder_only)
    with course.replacing(out) as part:
        part.write_bytes(file)


# ---- Training latents themselves, for a decoder that stays as it is ----


def rounded_at_random(
    residual: torch.Tensor, progress: float, slope: float | None = None
) -> torch.Tensor:
    """Each value rounded up or down, the nearer the likelier, and ever more surely.

    Stochastic Gumbel annealing (Yang et al. 2020, arXiv:2006.04240), with a gradient; `progress`
    goes from 0 to 1. With a `slope` the logits fall linearly with the distance, one of the ways of
    Perugachi-Diaz et al. 2024 (arXiv:2401.17789); without, as its inverse hyperbolic tangent.
    """
    temperature = 0.5 * math.exp(-2 * progress)  # from 0.5 to 0.07
    # Two candidates for each value, the integers below and above; the nearer, the likelier.
    below = residual.detach().floor()
    # Clamped, since atanh(1) is infinite.
    up = (residual - below).clamp(1e-4, 1 - 1e-4)
    distances = torch.stack([up, 1 - up], -1)
    logits = -torch.atanh(distances) if slope is None else -slope * distances
    # The share of the upper candidate, from 0 to 1: soft, so that it has a gradient.
    return below + nn.functional.gumbel_softmax(logits / temperature, temperature)[..., 1]


class Latents(nn.Module):
    """Latents `(N, channels, h, w)` as parameters, for a codec of one level that stays as it is.

    They are `rounded_at_random`, ever more surely as `progress` grows, which `fit` sets. So each
    goes where it pays in its own picture.

    `steps` is the number of training steps to come, `psnr` what `coding` steers to, in dB.
    """

    def __init__(self, codec: LearnedCodec, latents: torch.Tensor, psnr: float, steps: int):
        super().__init__()
        self.arguments = {"psnr": psnr, "steps": steps}
        self.codec = codec
        self.shape = latents.shape
        self.psnr = psnr
        self.steps = steps
        # A batch holds some pictures only; an embedding has sparse gradients, for these alone.
        self.values = nn.Embedding.from_pretrained(
            latents.flatten(1).clone(), freeze=False, sparse=True
        )
        # How much finer the quantisation steps are than at the start, as log2.
        self.finer = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("start", codec.log_gain.detach().clone())
        self.register_buffer("progress", torch.tensor(0.0, dtype=torch.float64))

    def forward(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstructions of pictures by their numbers `(n,)`, and their estimated bits `(n,)`."""
        latents = self.values(which).view(-1, *self.shape[1:])
        # Level 0, the only one.
        return self.codec.code(latents, torch.zeros_like(which), self.quantise)

    def quantise(self, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A residual as its bits are estimated and as it is decoded, which here is the same."""
        if not self.training:
            rounded = residual.round()
            return rounded, rounded
        rounded = rounded_at_random(residual, self.progress.item())
        return rounded, rounded

    @torch.no_grad()
    def after_step(self, *_) -> None:
        """A hook for the optimiser: follow the gradient of `finer`.

        The quantisation steps stay between 1.4 times and 0.84 times what they were. Steps half as
        wide are worth about 3 dB, so this settles within a tenth of the training.
        """
        # A step changes it by at most 0.15 for each decibel, however short the training.
        rate = min(0.15, 3.3 / self.steps)
        finer = self.finer.item() - rate * self.finer.grad.item()
        # Steps are 2^-finer times as wide as at the start: from 2^0.5 to 2^-0.25.
        finer = min(max(-0.5, finer), 0.25)
        self.codec.log_gain.copy_(self.start + finer)
        # What float32 has made of it.
        self.finer.copy_((self.codec.log_gain - self.start).mean())
        self.finer.grad = None


def coding(model: Latents, batch) -> dict[str, torch.Tensor]:
    """Rate + lambda * distortion of `Latents`: `batch` is `(numbers of pictures, these pictures)`.

    Lambda goes with the inverse square of the quantisation steps. The gradient of `model.finer` is
    by how many dB the mean PSNR is above `model.psnr`: while it is too low, the steps get finer
    (dual ascent: `finer` takes the part of the multiplier of that constraint).
    """
    which, pictures = batch
    drawn, bits = model(which)  # (n, 3, H, W) and (n,)
    rate = bits.mean() / pictures[0, 0].numel()
    squared_error = 255**2 * (drawn - pictures).square().flatten(1).mean(1)
    distortion = squared_error.mean()
    clipped = drawn.detach().clamp(0, 1)  # as it is decoded
    psnr = -10 * (clipped - pictures).square().flatten(1).mean(1).log10().mean()
    weight = model.codec.arguments["lambdas"][0] * 4 ** model.finer.item()
    # A term that is 0, but for its gradient. Of a black picture the PSNR may be infinite.
    excess = (psnr.double() - model.psnr).clamp(max=1e6)
    steering = (model.finer - model.finer.detach()) * excess
    return {
        "loss": rate + weight * distortion + steering.float(),
        "bits_per_pixel": rate,
        "squared_error": distortion,
        "psnr": psnr,
    }


def fit_latents(
    codec: LearnedCodec,
    latents: torch.Tensor,
    pictures: torch.Tensor,
    psnr: float,
    *,
    epochs: int,
    lr: float = 0.04,
    batch_size: int = 20,
    **options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`training.fit` for latents `(N, channels, h, w)` of pictures `(N, 3, 8h, 8w)` themselves.

    They take fewer bits then, at a mean PSNR in dB. `codec` has one level, and the weights that the
    decoder will have, which stay: a model of `unpack`. Returns the latents, and the `log_gain` that
    the codec is to have for them: only its quantisation steps change, all by one factor. Raises
    ValueError.
    """
    _check_latents(codec, latents, pictures)
    if not 0 < psnr < 100:
        raise ValueError(f"psnr={psnr}: expected decibels, such as 28")
    steps = epochs * math.ceil(len(pictures) / batch_size)
    model = Latents(codec.floating_copy(), latents, psnr, steps)
    # It takes sparse gradients only. `finer`, whose gradient is dense, is moved by the hook.
    optimizer = torch.optim.SparseAdam(model.values.parameters(), lr)
    optimizer.register_step_post_hook(model.after_step)
    training.fit(
        model,
        coding,
        (torch.arange(len(pictures)), pictures),
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=training.cosine,
        clip=None,
        **options,
    )
    return model.values.weight.detach().view(model.shape), model.codec.log_gain


def _check_latents(codec: LearnedCodec, latents: torch.Tensor, pictures: torch.Tensor) -> None:
    fits = (
        codec.fixed_point,
        codec.levels == 1,
        tuple(latents.shape[:2]) == (len(pictures), sum(codec.groups)),
        [8 * side for side in latents.shape[2:]] == list(pictures.shape[2:]),
    )
    if not all(fits):
        point = "fixed" if codec.fixed_point else "floating"
        raise ValueError(
            f"a codec of {point} point, {codec.levels} levels, {sum(codec.groups)} channels, "
            f"latents {tuple(latents.shape)}, pictures {tuple(pictures.shape)}: expected one in "
            "fixed point, of one level, latents (N, its channels, h, w) and pictures (N, 3, 8h, "
            "8w); use unpack(pack(model)) and its analysis"
        )


# ---- Distillation ----


def drawing(model: LearnedCodec, batch) -> dict[str, torch.Tensor]:
    """Mean squared error of what a decoder reconstructs from latents, pictures in [0, 1].

    `batch` is `(decoded latents, levels, pictures to be reconstructed)`.
    """
    latents, level, target = batch
    return {"loss": nn.functional.mse_loss(model.synthesis(latents, level).float(), target)}


def student_training(
    student: LearnedCodec,
    teacher: LearnedCodec,
    pictures: torch.Tensor,
    quality: int,
    taught: bool = True,
    **options,
) -> training.Training:
    """The decoder of a small codec, to be trained on a large one's latents.

    Distillation (Hinton et al. 2015, arXiv:1503.02531): the target is the teacher's reconstruction,
    at one `quality`, or, unless `taught`, the pictures themselves, `(N, 3, H, W)` with H and W
    multiples of 8. The student starts from the teacher's PCA, and the rest of it adds nothing at
    first. `options` are those of `training.fit`.
    """
    student.synthesis_pca.load_state_dict(teacher.synthesis_pca.state_dict())
    # The last layer at 0: what comes out at first is the PCA alone.
    nn.init.zeros_(student.post[-2].weight)
    nn.init.zeros_(student.post[-2].bias)
    level = torch.full((len(pictures),), files.level_of(teacher, quality))
    # Once for all epochs, since the teacher does not change.
    latents = []
    targets = []
    with torch.no_grad():
        for part in pictures.split(16):  # to bound the memory
            levels = level[: len(part)]
            latents.append(teacher.decoded(part, levels))
            targets.append(teacher.synthesis(latents[-1], levels) if taught else part)
    train = (torch.cat(latents), level, torch.cat(targets))  # (N, channels, h, w), (N,), pictures
    options |= {"weight_decay": 0.0}
    # A student learns from the teacher's latents, so it has no encoder of its own.
    save = partial(save_weights, decoder_only=True)
    return training.Training(student, drawing, train, options=options, save=save)


def fit_student(*models_and_pictures, **options) -> dict:
    """Run `student_training`; returns the history."""
    return student_training(*models_and_pictures, **options).run()


# ---- Recipes ----

# The student of notebook 04 reconstructs from the shipped codec's latents, at one quality, with a
# quarter of the weights.
STUDENT = {"width": 18, "post": 16, "blocks": 3, "context": 2}
STUDENT_QUALITY = 5
# The model of an archive is in its file, so it is small.
ARCHIVE = {"groups": (3, 9, 20), "width": 8, "post": 16, "blocks": 1, "context": 8}
ARCHIVE_EPOCHS = 400  # for the decoder; the latents take three quarters as many
ARCHIVE_PRECISION = 5.0  # see `pack`: coarse, since every byte of the decoder counts
ARCHIVE_PSNR = 28.0


def _all_but_unseen(n: int) -> torch.Tensor:
    """Numbers of the cars that the shipped weights were trained on: training and validation."""
    train, validation, _ = data.split(n)
    return torch.cat([train, validation]).sort().values


def training_pictures(folders: Sequence[Path] = ()) -> torch.Tensor:
    """The training cars of `cars_sample` and all renders of more folders, `(N, 3, 256, 256)`.

    Never `COURSE_DATA`: the weights that come with the program have seen renders alone.
    """
    sample, _ = data.cars(256, data.ROOT / "cars_sample")
    parts = [sample[_all_but_unseen(len(sample))]]
    for folder in folders:
        parts.append(data.cars(256, folder, None)[0])
    return torch.cat(parts)


def shipped_codec(
    folders: Sequence[Path] = (), epochs: int = 1200, seed: int = 0
) -> training.Training:
    """The codec that comes with the program: 45 minutes on one core with 196 renders."""
    small, _ = data.cars(128, data.ROOT / "cars_sample")
    seen = _all_but_unseen(len(small))
    unseen = data.split(len(small)).unseen
    pictures = training_pictures(folders)
    training.seed_everything(seed)
    model = LearnedCodec().start_from_pca(small[seen])
    return codec_training(
        model,
        pictures,
        # Shown while it trains. Without `patience` they choose nothing and stay unseen.
        valid=small[unseen],
        epochs=epochs,
        validate_every=50,
        # Squares of 64 to 140 of the 256 pixels, brought to 64: cars at many scales.
        prepare_batch=data.augment(64, area=(1 / 16, 0.3), colours=True),
        seed=seed,
    )


def shipped_student(
    folders: Sequence[Path] = (), epochs: int = 60, seed: int = 0, taught: bool = True
) -> training.Training:
    """A student of notebook 04, taught by the shipped codec's pictures or by the originals."""
    pictures = training_pictures(folders)
    training.seed_everything(seed)
    teacher = weights.shipped()
    student = LearnedCodec(teacher.groups, **STUDENT)
    # The walk through the latents of a crop takes long, so there is a fixed set of crops.
    crop = data.augment(128, area=(0.2, 1), colours=True)
    crops = torch.cat([crop(pictures) for _ in range(16)])
    options = {"epochs": epochs, "lr": 3e-3, "batch_size": 8, "seed": seed}
    return student_training(student, teacher, crops, STUDENT_QUALITY, taught, **options)


def train_archive(
    pictures: Mapping[str, np.ndarray],
    psnr: float = ARCHIVE_PSNR,
    epochs: int = ARCHIVE_EPOCHS,
    checkpoints: Sequence[str | Path | None] = (None, None),
    progress: Callable[[Iterable], Iterable] = iter,
) -> bytes:
    """A file of uint8 pictures of one size, with a decoder that is trained for them.

    `psnr` is the mean to aim at, in dB. There are two trainings, of the decoder and then of the
    latents, each with its checkpoint. `progress` as for `encode_all`. Raises ValueError.
    """
    _check_equal_sizes(pictures)
    batch = data.to_float(np.stack([*pictures.values()]))
    training.seed_everything(0)
    weight = 0.0039 * 10 ** (0.17 * (psnr - 28))  # about what a car takes
    model = LearnedCodec(**ARCHIVE, lambdas=[weight]).start_from_pca(batch)
    of_decoder, of_latents = checkpoints
    if of_latents is not None and not Path(of_decoder).exists():
        Path(of_latents).unlink(missing_ok=True)  # of a decoder that is gone
    # First the decoder, with its encoder, which will not be in the file ...
    options = {"epochs": epochs, "batch_size": 4, "lr": 3e-3}
    fit_codec(model, batch, checkpoint=of_decoder, **options)
    # ... then the latents, for this decoder with its weights rounded, as the file will have them.
    receiver = weights.unpack(weights.pack(model, ARCHIVE_PRECISION, decoder_only=True))
    # Twenty pictures of 256 x 256 at a time take some hundred megabytes.
    size = max(1, min(20, 20 * 256**2 // batch[0, 0].numel()))
    with torch.no_grad():
        latents = torch.cat([model.analysis(part) for part in batch.split(size)])
    latents, model.log_gain = fit_latents(
        receiver,
        latents,
        batch,
        psnr + 0.02,  # a margin, so that the mean does not end just below
        epochs=max(1, 3 * epochs // 4),
        batch_size=size,
        checkpoint=of_latents,
    )
    return files.encode_archive(
        pictures, model, ARCHIVE_PRECISION, latents=latents, progress=progress
    )


def _check_equal_sizes(pictures: Mapping[str, np.ndarray]) -> None:
    shapes = sorted({picture.shape[:2] for picture in pictures.values()})
    divisible = all(height % 8 == width % 8 == 0 for height, width in shapes)
    if len(shapes) != 1 or not divisible:
        sizes = ", ".join(f"{width}x{height}" for height, width in shapes[:5])
        raise ValueError(
            f"pictures of {sizes} pixels: an archive with its decoder expects all of one size, "
            "with sides that 8 divides; resize them"
        )
