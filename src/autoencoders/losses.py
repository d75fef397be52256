"""Losses for `training.fit`: `loss(model, batch)` returns a dict of named scalars, with "loss" among them."""

import torch
from torch.nn import functional as F


def mse(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Mean squared error over all values of a batch: `batch` is `(N, ...)` itself to be reproduced, or `(input, target)`.

    In units of the target squared: for pictures in [0, 1], PSNR = -10 log10(mse) of one picture.
    """
    x, target = batch if isinstance(batch, tuple) else (batch, batch)
    y = model(x)
    if y.shape != target.shape:
        raise ValueError(
            f"the model returns {tuple(y.shape)} for a target {tuple(target.shape)}: expected equal; crop to multiples of 16"
        )
    return {"loss": F.mse_loss(y.float(), target.float())}


def binary_cross_entropy(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Binary cross-entropy over all values of a batch, in nats a value: how surprised a model's greys are by the target's.

    `batch` as for `mse`, values of model and target in [0, 1]. Behind a sigmoid its gradient does not fade where the model is
    sure and wrong, as that of the squared error does. Raises ValueError.
    """
    x, target = batch if isinstance(batch, tuple) else (batch, batch)
    y = model(x)
    if y.shape != target.shape:
        raise ValueError(
            f"the model returns {tuple(y.shape)} for a target {tuple(target.shape)}: expected equal"
        )
    if target.min() < 0 or target.max() > 1:
        raise ValueError(
            f"a target from {target.min():.3g} to {target.max():.3g}: expected values in [0, 1]; divide bytes by 255"
        )
    with torch.autocast(x.device.type, enabled=False):  # on a GPU autocast refuses this function
        return {"loss": F.binary_cross_entropy(y.float(), target.float())}


def cross_entropy(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Cross-entropy of `(input, label)`, in nats, averaged over the batch, and beside it the share of right answers."""
    x, label = batch
    logits = model(x).float()
    return {
        "loss": F.cross_entropy(logits, label),
        "accuracy": (logits.argmax(1) == label).float().mean(),
    }


def rate_distortion(model: torch.nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """Bits per pixel + lambda * squared error in grey levels of a `LearnedCodec`, averaged over the batch.

    Each picture `(N, 3, H, W)` gets a quality level, at random while training, by turns else. Each level's loss is divided by the
    root of its lambda, about as bits grow with it, so that no level drowns the others.
    """
    lambdas = torch.tensor(model.arguments["lambdas"])
    quality = (
        torch.randint(len(lambdas), (len(batch),))
        if model.training
        else torch.arange(len(batch)) % len(lambdas)
    )
    weight = lambdas[quality].to(batch.device)
    pictures, bits = model(batch, quality.to(batch.device))
    rate = bits / batch[0, 0].numel()
    distortion = 255**2 * (pictures - batch).square().flatten(1).mean(1)
    loss = ((rate + weight * distortion) * (0.003 / weight).sqrt()).mean()
    return {"loss": loss, "bits_per_pixel": rate.mean(), "squared_error": distortion.mean()}


def coding(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """`rate_distortion` of `models.Latents`, at the codec's only level: `batch` is `(numbers of pictures, these pictures)`.

    While training, the quantisation steps of the codec shrink as long as the mean PSNR is below `model.psnr`, and grow else;
    lambda goes with the inverse square of the steps, which stay between 1.4 times and 0.84 times what they were.
    """
    which, pictures = batch
    drawn, bits = model(which)
    rate = bits.mean() / pictures[0, 0].numel()
    squared_error = 255**2 * (drawn - pictures).square().flatten(1).mean(1)
    psnr = (
        -10 * (drawn.detach().clamp(0, 1) - pictures).square().flatten(1).mean(1).log10().mean()
    )  # clipped, as it is decoded
    change = float((model.codec.log_gain - model.start).mean())
    weight = model.codec.arguments["lambdas"][0] * 4**change
    if (
        model.training
    ):  # steps half as wide are worth about 3 dB, so this settles within a tenth of the training
        change = min(
            max(-0.5, change + min(0.15, 3.3 / model.steps) * (model.psnr - float(psnr))), 0.25
        )
        model.codec.log_gain.copy_(model.start + change)
    distortion = squared_error.mean()
    return {
        "loss": rate + weight * distortion,
        "bits_per_pixel": rate,
        "squared_error": distortion,
        "psnr": psnr,
    }


def drawing(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Mean squared error of what a `LearnedCodec` draws: `batch` is `(decoded latents, quality levels, pictures to be drawn)`."""
    latents, quality, target = batch
    return {"loss": F.mse_loss(model.synthesis(latents, quality).float(), target)}
