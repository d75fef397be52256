"""Latents made to measure for one picture: smaller files for a decoder that stays as it is.

The codec's encoder answers at once, with what was good on average for its training pictures. From
there gradient descent on rate + lambda * distortion moves each latent to where it pays in *this*
picture (Yang et al. 2020, arXiv:2006.04240). Files and decoder are the same as ever; only encoding
takes longer.
"""

import numpy as np
import torch
from torch import nn

from autoencoders import data, training
from autoencoders.codec import files
from autoencoders.codec.model import LearnedCodec
from autoencoders.codec.training import rounded_at_random

# Found on photographs at two levels; with twice this rate, low levels gain a third less.
LR = 0.01  # of the latents, in quantisation steps
SLOPE = 3.0  # see `rounded_at_random`


class TileLatents(nn.Module):
    """The latents of one tile as parameters, for a `codec` that stays as it is.

    `seen` `(1, channels, h, w)` are the latents that the encoder finds there and in the halo around
    it, which also belong to what the networks draw; `within` tells which of them are the tile's.
    """

    def __init__(self, codec: LearnedCodec, level: int, seen: torch.Tensor, within: tuple):
        super().__init__()
        self.codec = codec
        # Buffers, not attributes: they go along to a GPU.
        self.register_buffer("seen", seen)
        self.within = (..., *within)
        self.pixels = (..., *(files.pixels_of(places) for places in within))
        self.register_buffer("level", torch.tensor([level]))
        # How far they are moved is counted in quantisation steps, which differ between channels.
        self.register_buffer("step", 1 / codec.gains()[0, level][None, :, None, None])
        self.moved = nn.Parameter(torch.zeros_like(seen[self.within]))
        self.register_buffer("progress", torch.tensor(0.0, dtype=torch.float64))

    def latents(self) -> torch.Tensor:
        """The tile's latents as they are now, not rounded."""
        return self.seen[self.within] + self.moved * self.step

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The tile as it is drawn, and its estimated bits `(1,)`."""
        decoded, bits = self.codec.estimate(self.latents(), self.level, self.quantise)
        around = self.seen.clone()
        around[self.within] = decoded
        return self.codec.synthesis(around, self.level)[self.pixels], bits

    def quantise(self, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A residual as its bits are estimated and as it is decoded, which is the same."""
        if not self.training:
            rounded = residual.round()
            return rounded, rounded
        rounded = rounded_at_random(residual, self.progress.item(), SLOPE)
        return rounded, rounded


def tile_cost(model: TileLatents, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rate + lambda * distortion of a tile, in bits, for its pixels `(1, 3, H, W)` in [0, 1]."""
    drawn, bits = model()
    weight = model.codec.arguments["lambdas"][int(model.level)]
    squared_error = 255**2 * (drawn - pixels).square().mean()
    return {"loss": bits.sum() + weight * squared_error * pixels[0, 0].numel()}


@torch.no_grad()
def rounded_cost(tile: TileLatents, pixels: torch.Tensor) -> float:
    """`tile_cost` of the latents as a file will have them, rounded."""
    return tile_cost(tile.eval(), pixels)["loss"].item()


def refine(
    picture: np.ndarray,
    quality: int = files.QUALITY,
    steps: int = 200,
    model: LearnedCodec | None = None,
) -> torch.Tensor:
    """Latents `(1, channels, h, w)` of a uint8 picture `(H, W, 3)`, for `encode(latents=...)`.

    `steps` is how many steps gradient descent takes for each tile. A tile keeps the encoder's
    latents where the search finds none that cost less. The same picture gives the same latents on
    the same machine. Raises ValueError.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}: expected a whole number from 0 up")
    codec = files.checked_model(model).floating_copy()
    level = files.level_of(codec, quality)
    pixels = files.padded(picture)
    # Before the long search, not after it.
    files.check_sizes([pixels.shape[1::-1]])
    whole = data.to_float(pixels[None])  # (1, 3, 8h, 8w)
    height, width = (side // files.BLOCK for side in whole.shape[2:])
    with files.alone_if_small(height * width):
        return _search(codec, level, picture, whole, steps)


def _search(
    codec: LearnedCodec, level: int, picture: np.ndarray, whole: torch.Tensor, steps: int
) -> torch.Tensor:
    """What `refine` returns; `whole` is the padded picture, `(1, 3, 8h, 8w)` in [0, 1]."""
    height, width = (side // files.BLOCK for side in whole.shape[2:])
    spans = [*files.tiles(height, width)]
    found = torch.empty(1, sum(codec.groups), height, width)
    latents_of = files.from_pixels(codec, picture)
    with torch.no_grad():
        for rows, columns in spans:
            found[..., rows.own, columns.own] = latents_of(rows, columns)
    if steps == 0:
        return found
    refined = found.clone()
    for rows, columns in spans:
        seen = found[..., rows.seen, columns.seen]
        tile = TileLatents(codec, level, seen, (rows.within, columns.within))
        own = whole[..., files.pixels_of(rows.own), files.pixels_of(columns.own)]
        before = rounded_cost(tile, own)
        training.fit(
            tile,
            tile_cost,
            own,
            epochs=steps,
            batch_size=1,
            optimizer=torch.optim.Adam([tile.moved], LR),
            schedule=training.cosine,
            clip=None,
            precision="float32",
            progress=False,
        )
        if rounded_cost(tile, own) < before:
            refined[..., rows.own, columns.own] = tile.latents().detach()
    return refined
