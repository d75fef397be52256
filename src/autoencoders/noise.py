"""Four kinds of noise for pictures in [0, 1]: fixed ones to test with, fresh ones to train with."""

import torch

# kind: what `amount` means
KINDS = {
    "uniform": "a random value from 0 to `amount` is added to each value",
    "gaussian": "normal noise with standard deviation `amount` is added to each value",
    "salt_and_pepper": "the share `amount` of the pixels becomes black or white",
    "blocks": "the share `amount` of the 4x4 blocks becomes black",
}


def add(
    pictures: torch.Tensor, kind: str = "uniform", amount: float = 0.9, seed: int | None = None
) -> torch.Tensor:
    """Pictures `(N, C, H, W)` in [0, 1] with noise of one of `KINDS`, clipped to [0, 1] again.

    With a `seed` (for tests) picture i gets the noise of `seed` and i, whatever comes before or
    after it. Without one (for training) it is torch's global random numbers, other ones each time;
    a checkpoint keeps those. Raises ValueError.
    """
    check(pictures)
    if (
        kind not in KINDS
        or not 0 <= amount <= 4
        or (amount > 1 and kind in ("salt_and_pepper", "blocks"))
    ):
        raise ValueError(
            f"{kind=}, {amount=}: expected one of {', '.join(KINDS)}, and an amount from 0 to 4, "
            "to 1 where it is a share"
        )
    if seed is None:
        return _add(pictures, kind, amount, None)
    generators = (torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(len(pictures)))
    return torch.cat(
        [
            _add(picture[None].cpu(), kind, amount, g)
            for picture, g in zip(pictures, generators, strict=True)
        ]
    ).to(pictures)


def _add(
    x: torch.Tensor, kind: str, amount: float, generator: torch.Generator | None
) -> torch.Tensor:
    n, _, height, width = x.shape
    options = {"generator": generator, "device": x.device}
    if kind == "uniform":
        return (x + amount * torch.rand(x.shape, **options)).clamp(0, 1)
    if kind == "gaussian":
        return (x + amount * torch.randn(x.shape, **options)).clamp(0, 1)
    if kind == "blocks":
        missing = torch.rand(n, 1, -(-height // 4), -(-width // 4), **options) < amount
        missing = missing.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, :height, :width]
        return x.masked_fill(missing, 0)
    hit, white = torch.rand(2, n, 1, height, width, **options)
    return torch.where(hit < amount, (white < 0.5).to(x), x)


def check(pictures: torch.Tensor) -> None:
    """Raise ValueError unless it is a float tensor `(N, C, H, W)` with values in [0, 1]."""
    if (
        not isinstance(pictures, torch.Tensor)
        or pictures.dim() != 4
        or not pictures.is_floating_point()
    ):
        what = (
            f"{tuple(pictures.shape)}, {pictures.dtype}"
            if hasattr(pictures, "shape")
            else type(pictures).__name__
        )
        raise ValueError(
            f"pictures={what}: expected a float tensor (N, C, H, W); "
            "add [None] for a single picture, divide bytes by 255"
        )
    if len(pictures) and not (pictures.min() >= 0 and pictures.max() <= 1):
        low, high = pictures.min().item(), pictures.max().item()
        raise ValueError(
            f"pictures from {low:.3g} to {high:.3g}: expected values in [0, 1]; "
            "divide bytes by 255, clamp what a model returns"
        )
