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


def cross_entropy(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """Cross-entropy of `(input, label)`, in nats, averaged over the batch.

    Beside it stands the share of right answers, "accuracy".
    """
    x, label = batch
    logits = model(x).float()
    return {
        "loss": F.cross_entropy(logits, label),
        "accuracy": (logits.argmax(1) == label).float().mean(),
    }
