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
import pytorch_msssim
import torch
from torch import nn
from torch.func import functional_call

from autoencoders import course, data, training
from autoencoders.codec import archive, files, weights
from autoencoders.codec.archive import ArchiveModel
from autoencoders.codec.model import LearnedCodec

# ---- Training for bits ----


def squared_error(pictures: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    """The mean squared error of each picture, in grey levels: `(N, 3, H, W)` twice -> `(N,)`."""
    return 255**2 * (pictures - originals).square().flatten(1).mean(1)


def two_errors(pictures: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    """Squared error, and 1 - MS-SSIM at half its weight; otherwise like `squared_error`.

    In each picture, a percent less of the one counts as much as two percent less of the other.
    Pictures have at least 176 pixels each way. MS-SSIM is that of Wang et al. 2003.
    """
    error = squared_error(pictures, originals)
    # Variances are differences of nearly equal numbers: bfloat16 has too few digits for them.
    with torch.autocast(pictures.device.type, enabled=False):
        similarity = pytorch_msssim.ms_ssim(
            pictures.clamp(0, 1), originals, data_range=1.0, size_average=False
        )
    # At most 40 dB, so that equal pictures do not divide by 0.
    dissimilarity = (1 - similarity).clamp(min=1e-4)
    exchange_rate = (error / dissimilarity).detach()
    return (2 * error + exchange_rate * dissimilarity) / 3


def rate_distortion(
    model: LearnedCodec, batch: torch.Tensor, distortion_of: Callable = squared_error
) -> dict[str, torch.Tensor]:
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
    distortion = distortion_of(pictures, batch)
    # The factor is 1 at a lambda of 0.003, which lies amid the default ones.
    loss = ((rate + weight * distortion) * (0.003 / weight).sqrt()).mean()
    return {
        "loss": loss,
        "bits_per_pixel": rate.mean(),
        "squared_error": squared_error(pictures, batch).mean(),
    }


def rate_and_two_errors(model: LearnedCodec, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """`rate_distortion` with the distortion of `two_errors`."""
    return rate_distortion(model, batch, two_errors)


def codec_training(
    model: LearnedCodec,
    pictures: torch.Tensor,
    *,
    loss_fn: Callable = rate_distortion,
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
    return training.Training(model, loss_fn, pictures, valid, options, save_weights)


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


# ---- Overfitting: an archive's decoder and coefficients, for its pictures alone ----


def soft_round(x: torch.Tensor, temperature: float) -> torch.Tensor:
    """Rounding with slopes: the nearer to 0 the temperature, the steeper (Kim et al. 2024, C3)."""
    middle = x.floor() + 0.5
    slope = torch.tanh((x - middle) / temperature)
    return middle + 0.5 * slope / math.tanh(0.5 / temperature)


class Overfitted(nn.Module):
    """The coefficients of pictures `(N, 3, H, W)`, and the decoder that is trained with them.

    Coefficients are rounded softly and with noise, harder as `progress` grows, which `fit` sets.
    From `LATE` on the decoder's weights are rounded as they will be in the file, to the precision
    of `archive.pack`, with gradients as if they were not. (With coefficients so, too, it gets
    worse: a gradient that goes straight through knows nothing of the other integers.)

    H and W are multiples of 32. `psnr`, in dB, is what the mean of all pictures is steered to in so
    many `epochs`.
    """

    LATE = 0.85  # of the training
    LR = 0.15  # of coefficients, in quantisation steps a visit of their picture

    def __init__(
        self,
        decoder: ArchiveModel,
        pictures: torch.Tensor,
        *,
        psnr: float,
        precision: float,
        epochs: int,
    ):
        super().__init__()
        self.arguments = {"psnr": psnr, "precision": precision, "epochs": epochs}
        self.decoder = decoder
        self.psnr = psnr
        self.precision = precision
        self.epochs = epochs
        self.shapes = decoder.shapes(*pictures.shape[2:])
        # Finer steps for a better picture: half as wide for 6 dB more.
        coarseness = 10 ** ((28 - psnr) / 20)
        nn.init.constant_(decoder.gain, coarseness)
        start = [x.flatten(1) / coarseness for x in decoder.analysis(pictures)]
        # Coefficients are moved by `after_step`, so that only a batch's own rows change.
        self.register_buffer("values", torch.cat(start, 1))
        self.register_buffer("first", torch.zeros_like(self.values))
        self.register_buffer("second", torch.zeros_like(self.values))
        self.register_buffer("visits", torch.zeros(len(pictures), 1))
        # The newest PSNR of each picture.
        self.register_buffer("reached", torch.full((len(pictures),), float(psnr)))
        # What a bit per pixel costs, as logarithm. About where it ends for photographs of cars.
        self.start = math.log(4.5) - 0.16 * (psnr - 28)
        self.register_buffer("steady", torch.tensor(self.start))
        self.register_buffer("log_price", torch.tensor(self.start))
        self.register_buffer("progress", torch.tensor(0.0, dtype=torch.float64))
        # Of the newest batch, for `after_step`: its pictures' numbers, their coefficients, and a
        # zero for each, whose gradient will be its PSNR.
        self.which = None
        self.leaf = None
        self.told = None

    def forward(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures by their numbers `(n,)`, and their estimated bits `(n,)`."""
        self.which = which
        # Leaves of autograd, for the gradients of this batch's rows.
        self.leaf = self.values[which].requires_grad_(self.training)
        self.told = torch.zeros_like(self.reached[which]).requires_grad_(self.training)
        parameters = self.parameters_as_used()
        coefficients = self.as_groups(self.quantise(self.leaf))
        return functional_call(self.decoder, parameters, (coefficients,))

    def quantise(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients as the decoder gets them."""
        if not self.training:
            return values.round()
        progress = self.progress.item()
        temperature = max(0.1, 0.3 - 0.2 * progress / self.LATE)
        noise = (torch.rand_like(values) - 0.5) * (1 - 0.5 * progress)
        return soft_round(soft_round(values, temperature) + noise, temperature)

    def parameters_as_used(self) -> dict[str, torch.Tensor]:
        """The decoder's weights, towards the end as its file will have them."""
        parameters = dict(self.decoder.named_parameters())
        if self.training and self.progress.item() < self.LATE:
            return parameters
        precisions = archive.precisions(parameters, self.precision)
        for name, tensor in parameters.items():
            steps, exponent = weights.steps_of(name, tensor, precisions.get(name))
            rounded = torch.from_numpy(steps / 2.0**exponent).view(tensor.shape).to(tensor)
            parameters[name] = tensor + (rounded - tensor).detach()
        return parameters

    def as_groups(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Rows of coefficients `(n, ...)` as the decoder takes them."""
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = values.split(sizes, 1)
        return [x.view(-1, *shape) for x, shape in zip(parts, self.shapes, strict=True)]

    @torch.no_grad()
    def drawn(self, which: torch.Tensor) -> torch.Tensor:
        """Pictures by their numbers `(n,)`, as the coefficients rounded now draw them."""
        return self.decoder.walk(self.as_groups(self.values[which].round()))

    @torch.no_grad()
    def after_step(self, *_) -> None:
        """A hook for the optimiser: a step of Adam for this batch's coefficients, and the price.

        While the mean PSNR is above `psnr`, bits get dearer: at once by a fifth for each decibel,
        and by as much again in a tenth of the training. The price stays near where it starts.
        """
        progress = self.progress.item()
        rate = self.LR * max(0.01, 0.5 + 0.5 * math.cos(math.pi * progress))
        which = self.which
        gradient = self.leaf.grad
        self.visits[which] += 1
        # Each row counts its own visits, so that no momentum outlasts them.
        first = torch.lerp(self.first[which], gradient, 0.1)
        second = torch.lerp(self.second[which], gradient.square(), 0.01)
        self.first[which] = first
        self.second[which] = second
        visits = self.visits[which]
        first = first / (1 - 0.9**visits)
        second = second / (1 - 0.99**visits)
        self.values[which] -= rate * first / (second.sqrt() + 1e-10)
        self.reached[which] = self.told.grad
        share = len(which) / (len(self.values) * self.epochs)  # of the training
        excess = self.reached.mean() - self.psnr
        self.steady += 2 * share * excess
        self.steady.clamp_(self.start - 1, self.start + 0.6)
        self.log_price.copy_(self.steady + 0.2 * excess)


def overfitting(model: Overfitted, batch) -> dict[str, torch.Tensor]:
    """Root of the squared error + price * rate: `batch` is `(numbers of pictures, these pictures)`.

    The root, since the mean of decibels is what counts: their logarithm would leave the difficult
    pictures behind, and squared errors the easy ones.
    """
    which, pictures = batch
    height, width = pictures.shape[2:]
    drawn, bits = model(which)  # (n, 3, H, W) and (n,)
    plain = model.drawn(which)
    # Without what was added up to whole squares of 32 pixels.
    drawn = drawn[..., :height, :width]
    plain = plain[..., :height, :width]
    rate = bits.mean() / (height * width)
    squared_error = (drawn.float() - pictures).square().flatten(1).mean(1)
    reached = (plain.float().clamp(0, 1) - pictures).square().flatten(1).mean(1)
    # Of a picture without any error the PSNR would be infinite.
    reached = -10 * reached.clamp(min=1e-9).log10()
    # Always 0, for a loss changes no model. By its gradient `after_step` learns what was reached.
    message = (model.told * reached).sum()
    # In units of what `psnr` allows.
    allowed = 10 ** (-model.psnr / 10)
    distortion = 2 * (squared_error / allowed + 1e-9).sqrt().mean()
    return {
        "loss": distortion + model.log_price.exp() * rate + message,
        "bits_per_pixel": rate,
        "psnr": reached.mean(),
    }


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
ARCHIVE = {"width": 24, "features": 12, "post": 12, "blocks": 1}
ARCHIVE_PSNR = 28.0
ARCHIVE_EPOCHS = 800
ARCHIVE_PRECISION = 7.0  # see `weights.pack`: coarse, since every byte of the decoder counts


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
    """The first stage of the codec that comes with the program: 45 minutes on one core.

    With 196 renders, those of `cars_sample` and of `folders`. `finished_codec` is the second stage.
    """
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


def finished_codec(start: Path, epochs: int = 300, seed: int = 0) -> training.Training:
    """The second stage of the codec that comes with the program, for MS-SSIM as well.

    `start` has the weights of `shipped_codec`. With the cars of `cars_sample` alone, in crops large
    enough for MS-SSIM: half an hour on one core. Raises ValueError.
    """
    pictures = training_pictures()
    training.seed_everything(seed)
    first = weights.unpack(start.read_bytes())
    files.check_encoder(first)
    model = first.floating_copy().requires_grad_(True)
    return codec_training(
        model,
        pictures,
        loss_fn=rate_and_two_errors,
        epochs=epochs,
        lr=6e-4,
        batch_size=2,
        # Squares of 181 to 256 of the 256 pixels, brought to 176.
        prepare_batch=data.augment(176, area=(0.5, 1), colours=True),
        seed=seed,
    )


def shipped_student(
    folders: Sequence[Path] = (), epochs: int = 150, seed: int = 0, taught: bool = True
) -> training.Training:
    """A student of notebook 04, taught by the shipped codec's pictures or by the originals.

    Half an hour on one core.
    """
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
    checkpoint: str | Path | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> bytes:
    """A file of uint8 pictures of one size, with a decoder that is trained for them.

    `psnr` is the mean to aim at, in dB, and `progress` as for `encode_all`. Raises ValueError.
    """
    if not 0 < psnr < 100:
        raise ValueError(f"psnr={psnr}: expected decibels, such as 28")
    sizes = [picture.shape[1::-1] for picture in pictures.values()]
    files.check_archive(sizes)
    height, width = files.archive_shape(sizes[0])
    batch = data.to_float(np.stack([*pictures.values()]))
    # As they are coded: the last row and column repeated up to whole squares of 32 pixels.
    more = (0, width - batch.shape[3], 0, height - batch.shape[2])
    whole = nn.functional.pad(batch, more, mode="replicate")
    training.seed_everything(0)
    decoder = ArchiveModel(**ARCHIVE)
    model = Overfitted(decoder, whole, psnr=psnr, precision=ARCHIVE_PRECISION, epochs=epochs)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    optimizer.register_step_post_hook(model.after_step)
    with archive.one_thread():
        training.fit(
            model,
            overfitting,
            (torch.arange(len(batch)), batch),
            epochs=epochs,
            batch_size=4,
            optimizer=optimizer,
            schedule=training.cosine,
            clip=2.0,
            checkpoint=checkpoint,
        )
    coefficients = model.as_groups(model.values.round())
    return files.encode_archive(pictures, decoder, coefficients, ARCHIVE_PRECISION, progress)
