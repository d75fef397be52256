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
    # A share cannot exceed 1; uniform and normal noise may be stronger than the picture itself.
    is_share = kind in ("salt_and_pepper", "blocks")
    most = 1 if is_share else 4
    if kind not in KINDS or not 0 <= amount <= most:
        raise ValueError(
            f"{kind=}, {amount=}: expected one of {', '.join(KINDS)}, and an amount from 0 to 4, "
            "to 1 where it is a share"
        )
    if seed is None:
        return _add(pictures, kind, amount, None)
    noisy = []
    for i, picture in enumerate(pictures):
        # A factor above any number of pictures: no picture of another seed gets the same noise.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        # On the CPU, because a GPU draws other random numbers from the same seed.
        noisy.append(_add(picture[None].cpu(), kind, amount, generator))  # (1, C, H, W)
    return torch.cat(noisy).to(pictures)  # back to the device and dtype that came in


def _add(
    x: torch.Tensor, kind: str, amount: float, generator: torch.Generator | None
) -> torch.Tensor:
    n, _, height, width = x.shape
    # No generator means torch's global one, which `training.seed_everything` seeds.
    options = {"generator": generator, "device": x.device}
    if kind == "uniform":
        return (x + amount * torch.rand(x.shape, **options)).clamp(0, 1)
    if kind == "gaussian":
        return (x + amount * torch.randn(x.shape, **options)).clamp(0, 1)
    if kind == "blocks":
        # Rounded up: a side that 4 does not divide ends with a part of a block.
        down = -(-height // 4)
        across = -(-width // 4)
        # One channel, so that all colours of a block go together.
        missing = torch.rand(n, 1, down, across, **options) < amount
        missing = missing.repeat_interleave(4, 2).repeat_interleave(4, 3)  # a block is 4x4 pixels
        missing = missing[:, :, :height, :width]  # (N, 1, H, W)
        return x.masked_fill(missing, 0)
    # Salt and pepper. Two draws for a pixel: whether it is hit, and whether it becomes white.
    hit, white = torch.rand(2, n, 1, height, width, **options)  # (N, 1, H, W) each
    return torch.where(hit < amount, (white < 0.5).to(x), x)


def check(pictures: torch.Tensor) -> None:
    """Raise ValueError unless it is a float tensor `(N, C, H, W)` with values in [0, 1]."""
    is_tensor = isinstance(pictures, torch.Tensor)
    if not (is_tensor and pictures.dim() == 4 and pictures.is_floating_point()):
        what = type(pictures).__name__
        if hasattr(pictures, "shape"):  # a tensor of another kind, or an array of NumPy
            what = f"{tuple(pictures.shape)}, {pictures.dtype}"
        raise ValueError(
            f"pictures={what}: expected a float tensor (N, C, H, W); "
            "add [None] for a single picture, divide bytes by 255"
        )
    # Written so that NaN, which compares as false with everything, is refused too.
    if len(pictures) and not (pictures.min() >= 0 and pictures.max() <= 1):
        low, high = pictures.min().item(), pictures.max().item()
        raise ValueError(
            f"pictures from {low:.3g} to {high:.3g}: expected values in [0, 1]; "
            "divide bytes by 255, clamp what a model returns"
        )
