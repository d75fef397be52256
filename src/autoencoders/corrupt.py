"""Pictures in [0, 1], made worse on purpose: noise, no colours, hidden parts, drawn defects.

With a seed a corruption is always the same, to test with; without one it is another each time, to
train with.
"""

import numpy as np
import torch

# Kinds of noise, and what `amount` means.
KINDS = {
    "uniform": "a random value from 0 to `amount` is added to each value",
    "gaussian": "normal noise with standard deviation `amount` is added to each value",
    "salt_and_pepper": "the share `amount` of the pixels becomes black or white",
    "blocks": "the share `amount` of the 4x4 blocks becomes black",
}


def add_noise(
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


# ---- Tasks that need no labels: what to restore, and from what ----

# How much red, green and blue weigh in a grey level: ITU-R BT.601, as in Pillow and JPEG.
GREY = (0.299, 0.587, 0.114)
# Sides of the squares that are hidden, in pixels of a picture of 128x128 (Zavrtanik et al. 2021).
PATCHES = (2, 4, 8, 16)
# Of three disjoint masks each hides a third; of four, three together hide 75 % (He et al. 2022).
THIRDS, QUARTERS = 3, 4
MASKED_PATCH = 8


def grey(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures `(N, 3, H, W)` without colours: three equal channels, the grey level of each pixel.

    Raises ValueError.
    """
    check(pictures)
    if pictures.shape[1] != 3:
        raise ValueError(f"{pictures.shape[1]} channels: expected 3, red, green and blue")
    weights = torch.tensor(GREY, device=pictures.device)
    level = (pictures * weights[:, None, None]).sum(1, keepdim=True)  # (N, 1, H, W)
    return level.expand(-1, 3, -1, -1).contiguous()


def disjoint_masks(
    size: int, patch: int, parts: int, n: int = 1, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Masks `(n, parts, 1, size, size)` of 0 and 1, in squares of `patch` pixels.

    The `parts` masks of a picture share nothing and together cover it, so that what they hide can
    be put together to a whole picture (Zavrtanik et al. 2021). Which mask a square belongs to is
    random; all masks have as many squares, give or take one. Raises ValueError.
    """
    if patch < 1 or size % patch or not 1 <= parts <= (size // patch) ** 2:
        raise ValueError(
            f"size={size}, patch={patch}, parts={parts}: expected a patch that divides the size, "
            "and at most as many parts as there are patches"
        )
    side = size // patch
    # Sorting random numbers is a random order; the remainder deals the squares out like cards.
    order = torch.rand(n, side * side, generator=generator).argsort(1).argsort(1)
    dealt = (order % parts).reshape(n, 1, 1, side, side)
    masks = (dealt == torch.arange(parts).reshape(1, parts, 1, 1, 1)).float()
    return masks.repeat_interleave(patch, 3).repeat_interleave(patch, 4)


def without_colours(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(input, target) of colourisation: grey in, colours out."""
    return grey(batch), batch


def without_parts(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(input, target) of inpainting: a third of each picture is black, in squares of one size.

    The size is drawn anew for each batch `(N, C, size, size)` from `PATCHES`.
    """
    patch = PATCHES[torch.randint(len(PATCHES), ()).item()]
    hidden = disjoint_masks(batch.shape[-1], patch, THIRDS, len(batch))[:, 0].to(batch)
    return batch * (1 - hidden), batch


def without_most(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(input, target) of a masked autoencoder: three quarters of the squares are black."""
    shown = disjoint_masks(batch.shape[-1], MASKED_PATCH, QUARTERS, len(batch))[:, 0].to(batch)
    return batch * shown, batch


# ---- Defects drawn by a program, to choose settings with ----

DRAWN = ("line", "stain", "shade", "transplant")


def draw_defects(pictures: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one defect into each picture `(N, 3, H, W)`: the pictures, and masks `(N, 1, H, W)`.

    In turn a thin line, a stain of another colour, a shade (brighter or darker), and a piece of the
    same picture from somewhere else (Li et al. 2021, arXiv:2104.04015). They lie on the part, not
    beside it: where pictures differ from their border. Always the same for a seed. Raises
    ValueError.
    """
    check(pictures)
    defective, masks = [], []
    for i, picture in enumerate(pictures):
        # NumPy mixes the two into one seed: no picture of another seed gets the same defect.
        random = np.random.default_rng((seed, i))
        changed, mask = _draw(picture.cpu(), DRAWN[i % len(DRAWN)], random)
        defective.append(changed)
        masks.append(mask)
    return torch.stack(defective).to(pictures), torch.stack(masks).to(pictures)


def _draw(
    picture: torch.Tensor, kind: str, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One picture `(3, H, W)` with a defect of one of `DRAWN`, and the mask `(1, H, W)`."""
    place = _on_the_part(picture, random)
    opacity = _line(picture, place, random) if kind == "line" else _blot(picture, place, random)
    # From barely visible to opaque: a setting that only suits plain defects would mislead.
    strength = random.uniform(0.3, 1)
    colour = torch.from_numpy(random.random(3)).float()[:, None, None]
    if kind == "shade":
        # Half to one and a half times as bright, but never nearly as bright as before.
        other = picture * (1 + random.choice([-1, 1]) * random.uniform(0.2, 0.5))
    elif kind == "transplant":
        quarter = max(1, picture.shape[-1] // 4)
        moved = random.integers(quarter // 2, quarter + 1, size=2) * random.choice([-1, 1], size=2)
        other = picture.roll(tuple(moved.tolist()), (1, 2))
    else:
        other = colour.expand_as(picture)
    changed = picture + strength * opacity * (other - picture)
    return changed.clamp(0, 1), (opacity > 0.5).to(picture)


def _on_the_part(picture: torch.Tensor, random: np.random.Generator) -> tuple[float, float]:
    """A random place (y, x), in pixels, where the picture differs from its own border."""
    border = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], 1)
    away = (picture - border.median(1).values[:, None, None]).abs().amax(0)  # (H, W)
    # The upper half: a threshold would fail where a part fills the picture, border and all.
    on_part = away > away.median()
    if not on_part.any():  # one colour only: anywhere will do
        on_part = torch.ones_like(on_part)
    ys, xs = torch.nonzero(on_part, as_tuple=True)
    chosen = random.integers(len(ys))
    return ys[chosen].item(), xs[chosen].item()


def _line(picture, place: tuple[float, float], random: np.random.Generator) -> torch.Tensor:
    """The opacity `(1, H, W)` of a thin line around a place."""
    side = picture.shape[-1]
    angle = random.uniform(0, np.pi)
    half = side * random.uniform(0.03, 0.15)
    width = side / 128 * random.uniform(0.6, 1.4)
    y, x = _from(picture, place)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    # How far from the nearest point of the segment, in pixels.
    distance = np.hypot(across, np.maximum(np.abs(along) - half, 0))
    return _soft(width - distance)


def _blot(picture, place: tuple[float, float], random: np.random.Generator) -> torch.Tensor:
    """The opacity `(1, H, W)` of a blot with a wavy outline around a place."""
    # Evenly in the logarithm: from 0.1 to 3 % of the picture's area.
    area = np.exp(random.uniform(np.log(0.001), np.log(0.03)))
    radius = picture.shape[-1] * np.sqrt(area / np.pi)
    y, x = _from(picture, place)
    angle = np.arctan2(y, x)
    outline = np.ones_like(angle)
    for waves in (2, 3, 5):
        outline += random.uniform(0, 0.25) * np.sin(waves * angle + random.uniform(0, 2 * np.pi))
    return _soft(radius * outline - np.hypot(y, x))


def _from(picture, place: tuple[float, float]) -> np.ndarray:
    """How far each pixel lies from a place, down and to the right: `(2, H, W)`."""
    y, x = np.mgrid[: picture.shape[-2], : picture.shape[-1]]
    return np.stack([y - place[0], x - place[1]])


def _soft(inside: np.ndarray) -> torch.Tensor:
    """Opacity `(1, H, W)` from pixels inside an edge: half on it, so that edges are not jagged."""
    return torch.from_numpy(np.clip(inside + 0.5, 0, 1)).float()[None]
