"""Losses for `training.fit`: `loss(model, batch)` returns a dict of named scalars.

One of them is "loss", which is minimised; the others are only shown.
"""

import torch
from torch.nn import functional as F


def mse(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Mean squared error over all values of a batch.

    `batch` is `(N, ...)`, itself to be reproduced, or `(input, target)`.

    In units of the target squared: for pictures in [0, 1], PSNR = -10 log10(mse) of one picture.
    """
    x, target = batch if isinstance(batch, tuple) else (batch, batch)
    y = model(x)
    if y.shape != target.shape:
        raise ValueError(
            f"the model returns {tuple(y.shape)} for a target {tuple(target.shape)}: "
            "expected equal; crop to multiples of 16"
        )
    # In float32, even if the layers compute in bfloat16, which has two or three digits.
    return {"loss": F.mse_loss(y.float(), target.float())}


def binary_cross_entropy(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Binary cross-entropy over all values of a batch, in nats a value.

    `batch` as for `mse`, values of model and target in [0, 1]. Behind a sigmoid its gradient does
    not fade where the model is sure and wrong, as that of the squared error does. Raises
    ValueError.
    """
    x, target = batch if isinstance(batch, tuple) else (batch, batch)
    y = model(x)
    if y.shape != target.shape:
        raise ValueError(
            f"the model returns {tuple(y.shape)} for a target {tuple(target.shape)}: expected equal"
        )
    if target.min() < 0 or target.max() > 1:
        raise ValueError(
            f"a target from {target.min():.3g} to {target.max():.3g}: "
            "expected values in [0, 1]; divide bytes by 255"
        )
    with torch.autocast(x.device.type, enabled=False):  # on a GPU autocast refuses this function
        return {"loss": F.binary_cross_entropy(y.float(), target.float())}


def cross_entropy(
    model: torch.nn.Module,
    batch,
    weight: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Cross-entropy of `(input, label)`, in nats, averaged over the batch.

    Beside it stands the share of right answers, "accuracy". A label is a number, `(N,)`, or a share
    of each class, `(N, classes)`. `weight` `(classes,)` multiplies the loss of a class's pictures;
    `shift` `(classes,)` is added to the logits (logit adjustment, Menon et al. 2021,
    arXiv:2007.07314, equation 10).
    """
    x, label = batch
    logits = model(x).float()  # (N, classes)
    shifted = logits if shift is None else logits + shift
    number = label if label.dim() == 1 else label.argmax(1)
    return {
        "loss": F.cross_entropy(shifted, label, weight),
        "accuracy": (logits.argmax(1) == number).float().mean(),
    }


def focal(model: torch.nn.Module, batch, gamma: float = 2.0) -> dict[str, torch.Tensor]:
    """Focal loss of `(input, label)`, averaged over the batch, and "accuracy".

    Cross-entropy in which a picture counts the less, the surer its right class already is (Lin et
    al. 2017, arXiv:1708.02002, equation 4).
    """
    x, label = batch
    logits = model(x).float()  # (N, classes)
    nats = F.cross_entropy(logits, label, reduction="none")  # -log p, (N,)
    unsure = (1 - (-nats).exp()) ** gamma
    return {
        "loss": (unsure * nats).mean(),
        "accuracy": (logits.argmax(1) == label).float().mean(),
    }


def elbo(
    model: torch.nn.Module, batch, beta: float = 1.0, sigma: float = 0.1
) -> dict[str, torch.Tensor]:
    """Negative evidence lower bound of a VAE, in nats a picture (Kingma & Welling 2014, eq. 10).

    `batch` is `(N, C, H, W)`, or `(pictures, conditions)`. All terms are summed over pixels or
    latents and averaged over the batch: "loss" = "reconstruction" + `beta` * "kl". The decoder's
    pixels are normal with standard deviation `sigma`, so the reconstruction term is the squared
    error over 2 sigma^2; its constant is left out. With `beta` below 1 it is no bound any more, but
    a choice between sharp pictures and orderly latents (Higgins et al. 2017).
    """
    # A conditional VAE is given the conditions as well.
    inputs = batch if isinstance(batch, tuple) else (batch,)
    x = inputs[0]
    decoded, mean, log_variance = model(*inputs)  # (N, C, H, W), then (N, latent) twice
    squares = (decoded.float() - x.float()) ** 2
    reconstruction = squares.flatten(1).sum(1).mean() / (2 * sigma**2)
    kl = kl_per_dimension(mean, log_variance).sum()
    return {"loss": reconstruction + beta * kl, "reconstruction": reconstruction, "kl": kl}


def kl_per_dimension(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL divergence of N(mean, variance) from N(0, 1), in nats, `(latent,)`: averaged over a batch.

    `mean` and `log_variance` are `(N, latent)`. A latent whose mean is 0 for all pictures and whose
    variance is 1 has a divergence of 0: it says nothing, the posterior has collapsed.
    """
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).mean(0)


def discriminator(gan: torch.nn.Module, real: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a GAN's discriminator minimises: binary cross-entropy on real and generated pictures.

    `real` is `(N, C, H, W)`; as many are generated. In nats, the mean of both halves: 0.69 where it
    only guesses (Goodfellow et al. 2014). Beside it the share of right answers, "accuracy".
    """
    z = torch.randn(len(real), gan.arguments["latent"], device=real.device)
    # Here the generator is not trained, so it needs no gradients.
    with torch.no_grad():
        fake = gan.generator(z)
    on_real = gan.discriminator(real).float()  # (N,) logits, above 0 for "real"
    on_fake = gan.discriminator(fake).float()
    # softplus(-logit) is -log sigmoid(logit), without rounding to 0 or 1
    loss = (F.softplus(-on_real).mean() + F.softplus(on_fake).mean()) / 2
    right = ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2
    return {"loss": loss, "accuracy": right}


def generator(gan: torch.nn.Module, real: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a GAN's generator minimises: that the discriminator takes its pictures for real.

    The non-saturating form, -log D(G(z)), whose slope does not fade where the discriminator is sure
    (Goodfellow et al. 2014, section 3). In nats, averaged over as many pictures as `real` has.
    """
    z = torch.randn(len(real), gan.arguments["latent"], device=real.device)
    # The gradient passes through the discriminator, but only the generator's optimiser steps.
    return {"loss": F.softplus(-gan.discriminator(gan.generator(z)).float()).mean()}
