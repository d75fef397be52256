"""The learned codec as a network: an autoencoder, and an entropy model that predicts its latents.

Papers on compression call the encoder of such a network its analysis transform and the decoder its
synthesis transform; so do the names here.
"""

import copy
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

# Eight levels, each about 1.3 times as many bits as the one before.
LAMBDAS = tuple(0.0006 * 1.67**level for level in range(8))
SLOPE = 0.125  # of the leaky ReLU: fixed-point numbers can be multiplied by 1/8 exactly
REACH = 2  # how far away, in rows and columns, the entropy model looks at decoded neighbours

# The order of decoding: in which pass each place of the latents' grid is decoded. The map repeats
# in both directions. The first group of channels knows no other group, so it goes from coarse to
# fine, and each pass lies between places that are known already.
FIRST = (
    (0, 4, 2, 4),
    (4, 3, 4, 3),
    (2, 4, 1, 4),
    (4, 3, 4, 3),
)
# Later groups go by the groups before them as well, and three passes are enough.
LATER = (
    (0, 2, 0, 2),
    (2, 1, 2, 1),
    (0, 2, 0, 2),
    (2, 1, 2, 1),
)


class Pass(NamedTuple):
    """What is decoded at once: all places that are in `places` modulo `stride`, as (row, column).

    `taps` are the offsets (rows, columns) to the neighbours that are decoded by then.
    """

    stride: int
    places: list[tuple[int, int]]
    taps: list[tuple[int, int]]


@cache
def passes(order: tuple[tuple[int, ...], ...]) -> list[Pass]:
    """The passes of an order of decoding, which is a 4x4 map such as `FIRST`."""
    order = np.array(order)
    offsets = range(-REACH, REACH + 1)
    result = []
    for number in range(order.max() + 1):
        chosen = order == number
        # Some passes repeat after two places already, and then fewer slices take them.
        repeated = np.tile(chosen[:2, :2], (2, 2))
        stride = 2 if (repeated == chosen).all() else 4
        rows, columns = chosen[:stride, :stride].nonzero()
        places = [*zip(rows.tolist(), columns.tolist(), strict=True)]
        taps = []
        for down, right in product(offsets, offsets):
            neighbours = np.roll(order, (-down, -right), axis=(0, 1))
            if (neighbours[chosen] < number).all():
                taps.append((down, right))
        result.append(Pass(stride, places, taps))
    return result


def leaky(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU with a slope by which fixed-point numbers can be multiplied exactly."""
    return nn.functional.leaky_relu(x, SLOPE)


def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE)


def _down(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2), nn.LeakyReLU(SLOPE)


def _up(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
    return convolution, nn.PixelShuffle(2), nn.LeakyReLU(SLOPE)


class Residual(nn.Module):
    """Its input plus two convolutions of it: `(N, width, H, W)` -> the same."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(leaky(self.first(x)))


class Context(nn.Module):
    """The entropy model of one group of latent channels: mean and scale of each latent.

    It goes by what is decoded already: the groups before, everywhere, and of this group the passes
    before. So do Minnen et al. 2018 (arXiv:1809.02736), place by place; few passes over many places
    (He et al. 2021, arXiv:2103.15306) are faster.

    `before` is the number of channels in all groups before, `channels` that of this group, `width`
    that of the layers. Latents reach its layers as a quarter of their value.
    """

    def __init__(self, before: int, channels: int, width: int):
        super().__init__()
        self.passes = passes(LATER if before else FIRST)
        self.fixed_point = False  # `set_fixed_point` changes it
        hidden = width + width // 2
        tap = width // 2 + 2  # channels that describe one neighbour
        inputs = [width + len(step.taps) * tap for step in self.passes]
        # Decoded values come with their magnitudes, which tell about the scale of those to come.
        self.before = nn.ModuleList(
            [
                # Values, magnitudes and the two channels of `frame`.
                nn.Conv2d(2 * before + 2, width, 1),
                nn.Conv2d(width, width, 3, padding=1),
            ]
        )
        self.own = nn.Conv2d(2 * channels, width // 2, 1)
        # Each pass has three layers of its own, which see one place and its neighbours.
        self.near = nn.ModuleList(nn.Conv2d(count, hidden, 1) for count in inputs)
        self.middle = nn.ModuleList(nn.Conv2d(hidden, hidden, 1) for _ in inputs)
        self.last = nn.ModuleList(nn.Conv2d(hidden, 2 * channels, 1) for _ in inputs)

    def forward(
        self,
        latents: torch.Tensor,
        known: list[torch.Tensor],
        frame: torch.Tensor,
        gains: torch.Tensor,
        visit: Callable,
    ) -> torch.Tensor:
        """Go through one group in the order of decoding; return what a decoder has at the end.

        `latents` `(N, channels, h, w)` are those of this group, `known` the decoded groups before,
        `frame` `(N, 2, h, w)` ones and the level, `gains` `(3, N, channels, 1, 1)` those of this
        group, and `visit` is as in `LearnedCodec.walk`.
        """
        gain, inverse, shift = gains
        height, width = latents.shape[2:]
        before = self.summary(known, frame)
        decoded = torch.zeros_like(latents)
        for number, (stride, places, taps) in enumerate(self.passes):
            around = self.surroundings(decoded, frame) if taps else None
            decoded = decoded.clone()  # autograd still needs what `around` was computed from
            for row, column in places:
                if row >= height or column >= width:
                    continue  # the grid is too small to have such a place
                at = (..., slice(row, None, stride), slice(column, None, stride))
                inputs = [before[at]]
                # `around` has a border of REACH, so that each place has all its neighbours.
                for down, right in taps:
                    rows = slice(REACH + row + down, REACH + height + down, stride)
                    columns = slice(REACH + column + right, REACH + width + right, stride)
                    inputs.append(around[..., rows, columns])
                mean, scale = self.predict(number, torch.cat(inputs, 1))
                # The gain makes quantisation steps of width 1; log2 of the scale is shifted.
                mean = self.snap(mean * 4 * gain)
                scale = self.snap(scale + shift)
                values = visit(latents[at] * gain, mean, scale)
                decoded[at] = self.snap(values * inverse / 4)
        return decoded

    def summary(self, known: list[torch.Tensor], frame: torch.Tensor) -> torch.Tensor:
        """What the groups before tell, `(N, width, h, w)`."""
        magnitudes = [x.abs() for x in known]
        x = torch.cat([*known, *magnitudes, frame], 1)
        for layer in self.before:
            x = self.apply_layer(layer, x)
        return x

    def surroundings(self, decoded: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
        """What this group's decoded places tell, `(N, width // 2 + 2, h + 4, w + 4)`.

        Beyond the border all is 0, also the ones of `frame`, by which the layers know it.
        """
        x = torch.cat([decoded, decoded.abs()], 1)
        x = self.apply_layer(self.own, x)
        x = torch.cat([x, frame], 1)
        return nn.functional.pad(x, (REACH, REACH, REACH, REACH))

    def predict(self, number: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A quarter of the mean, and log2 of the scale, for places of a pass; both at gain 1."""
        x = self.apply_layer(self.near[number], x)
        x = self.apply_layer(self.middle[number], x)
        mean, scale = self.last[number](x).chunk(2, 1)
        return mean, scale

    def apply_layer(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """A layer and its non-linearity; in fixed point rounded again."""
        return self.snap(leaky(layer(x)))

    def snap(self, x: torch.Tensor) -> torch.Tensor:
        """In fixed point: round to multiples of 1/256, within +-2048. Else: nothing."""
        if not self.fixed_point:
            return x
        # Halves go up; another rule would make other files.
        steps = x.mul(256).add_(0.5).floor_()
        return steps.clamp_(-(2**19), 2**19).div_(256)

    def set_fixed_point(self, fixed: bool) -> None:
        """Compute in fixed point, or in float32 again.

        Sums of multiples of 2^-20, far below 2^33, are exact in float64, in whatever order.
        """
        self.fixed_point = fixed
        self.to(torch.float64 if fixed else torch.float32)


class LearnedCodec(nn.Module):
    """Learned image codec (Balle et al. 2018, arXiv:1802.01436), which starts as PCA of 8x8 blocks.

    Pictures `(N, 3, H, W)` in [0, 1], H and W multiples of 8; latents `(N, channels, H/8, W/8)`.

    - `groups`: how many latent channels are decoded at a time, one group after the other.
    - `width`, `post`, `context`: channels of the networks beside the PCA, of the `blocks` at half
      resolution, and of the entropy model.
    - `lambdas`: for each level, from small files to large ones, the Lagrange multiplier in bits
      per pixel and unit of squared error, in grey levels. A level has a gain for each channel (Cui
      et al. 2021, arXiv:2003.02012). Levels count from 0.

    The last layers of all networks start at zero, so that training starts at the PCA. Raises
    ValueError.
    """

    def __init__(
        self,
        groups=(3, 9, 20, 48),
        width: int = 48,
        post: int = 32,
        blocks: int = 3,
        context: int = 48,
        lambdas=LAMBDAS,
    ):
        super().__init__()
        self.arguments = {
            "groups": list(groups),
            "width": width,
            "post": post,
            "blocks": blocks,
            "context": context,
            "lambdas": list(lambdas),
        }
        _check(**self.arguments)
        self.groups = list(groups)
        channels = sum(groups)
        self.analysis_pca = nn.Conv2d(3, channels, 8, stride=8)  # (N, channels, H/8, W/8)
        self.analysis_net = nn.Sequential(
            *_down(3, width),  #                       (N, width, H/2, W/2)
            *_down(width, width),  #                   (N, width, H/4, W/4)
            *_down(width, width),  #                   (N, width, H/8, W/8)
            nn.Conv2d(width, channels, 3, padding=1),  # (N, channels, H/8, W/8)
        )
        self.synthesis_pca = nn.ConvTranspose2d(channels, 3, 8, stride=8)  # (N, 3, H, W)
        self.synthesis_net = nn.Sequential(
            *_conv(channels + 1, width),  #            (N, width, H/8, W/8)
            Residual(width),
            *_up(width, width),  #                     (N, width, H/4, W/4)
            Residual(width),
            *_up(width, post),  #                      (N, post, H/2, W/2)
        )
        # Twelve channels are the three colours of 2x2 pixels, here and at the end.
        self.post = nn.Sequential(
            *_conv(post + 12, post),  #                (N, post, H/2, W/2)
            *(Residual(post) for _ in range(blocks)),
            nn.Conv2d(post, 12, 3, padding=1),  #      (N, 12, H/2, W/2)
            nn.PixelShuffle(2),  #                     (N, 3, H, W)
        )
        self.context = nn.ModuleList(
            Context(sum(groups[:i]), group, context) for i, group in enumerate(groups)
        )
        # Four times the lambda for half the quantisation step, a quarter of the squared error.
        gain = 0.5 * torch.tensor(lambdas).div(0.004).log2()
        self.log_gain = nn.Parameter(gain[:, None].repeat(1, channels))
        # The state of a model in fixed point: `to_fixed_point` sets all three.
        self.fixed_point = False
        self.register_buffer("fixed_gains", None, persistent=False)
        self.identity = 0
        self._zero_last_layers()

    def _zero_last_layers(self) -> None:
        layers = [self.analysis_net[-1], self.post[-2]]
        for part in self.context:
            layers.extend(part.last)
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def levels(self) -> int:
        """The number of levels, from small files to large ones."""
        return len(self.log_gain)

    @torch.no_grad()
    def start_from_pca(self, pictures: torch.Tensor, step: float = 40.0) -> "LearnedCodec":
        """Set both PCA layers to the principal components of the pictures' 8x8 blocks.

        Latents are then in units of `step` grey levels. Returns the model itself.
        """
        channels = sum(self.groups)
        unit = step / 64
        blocks = nn.functional.unfold(self.centre(pictures), 8, stride=8)  # (N, 192, places)
        blocks = blocks.mT.flatten(0, 1)  #                                  (N * places, 192)
        mean = blocks.mean(0)
        blocks = blocks - mean
        components = torch.linalg.eigh(blocks.mT @ blocks).eigenvectors  # the weakest one first
        components = components.flip(1)[:, :channels]
        self.analysis_pca.weight.copy_((components.mT / unit).view(-1, 3, 8, 8))
        self.analysis_pca.bias.copy_(-(mean @ components) / unit)
        self.synthesis_pca.weight.copy_((components.mT * unit).view(-1, 3, 8, 8))
        self.synthesis_pca.bias.copy_(mean.view(3, 64).mean(1))
        # The entropy model starts with a mean of 0 and one scale for each channel.
        latents = blocks @ components / unit
        scales = latents.abs().mean(0).add(0.1).log2()
        for part, scale in zip(self.context, scales.split(self.groups), strict=True):
            for layer in part.last:
                layer.bias[len(scale) :] = scale
        return self

    @staticmethod
    def centre(pictures: torch.Tensor) -> torch.Tensor:
        """Grey levels around 0, 64 of them a unit: [0, 1] -> [-2, 1.98]."""
        return pictures * (255 / 64) - 2

    def analysis(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures -> latents before quantisation, in units of the quantisation step at gain 1."""
        x = self.centre(pictures)
        # Eight bits of mantissa are too few for what is rounded next.
        with torch.autocast(x.device.type, enabled=False):
            y = self.analysis_pca(x.float())
        return y + self.analysis_net(x).float()

    def synthesis(self, latents: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Decoded latents and their levels `(N,)` -> pictures, not clipped."""
        with torch.autocast(latents.device.type, enabled=False):
            base = self.synthesis_pca(latents)
        levels = self.level_map(latents, level)
        details = self.synthesis_net(torch.cat([latents / 4, levels], 1))
        pixels = nn.functional.pixel_unshuffle(base, 2).to(details.dtype)
        # What the PCA draws is corrected at half resolution, 2x2 pixels being one place there.
        correction = self.post(torch.cat([details, pixels], 1))
        return (base + correction.float() + 2) * (64 / 255)

    def level_map(self, latents: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The level as a channel `(N, 1, h, w)` around 0: it tells how coarse the latents are."""
        centred = (level.to(latents) - (self.levels - 1) / 2) / 4
        height, width = latents.shape[2:]
        return centred[:, None, None, None].expand(-1, 1, height, width)

    def gains(self) -> torch.Tensor:
        """Gain, its inverse and its log2 for each level and channel, `(3, levels, channels)`."""
        if self.fixed_point:
            return self.fixed_gains
        gain = self.log_gain.exp2()
        inverse = (-self.log_gain).exp2()
        return torch.stack([gain, inverse, self.log_gain])

    def walk(self, latents: torch.Tensor, level: torch.Tensor, visit: Callable) -> torch.Tensor:
        """Go through the latents in the order of decoding; return what a decoder has at the end.

        This one walk serves training, encoding and decoding. At each pass `visit(values, mean,
        log2_scale)` gets latents times their gain, and what the entropy model expects of them, all
        `(N, group, rows, columns)`; it returns the decoded values, which later passes go by. A
        decoder ignores `values`.
        """
        gains = self.gains()[:, level, :, None, None]  # (3, N, channels, 1, 1)
        levels = self.level_map(latents, level)
        # Padding puts 0 in the place of the ones: so layers can tell the border from a value.
        frame = torch.cat([torch.ones_like(levels), levels], 1)
        groups = zip(
            self.context,
            latents.split(self.groups, 1),
            gains.split(self.groups, 2),
            strict=True,
        )
        known = []
        for context, group, group_gains in groups:
            known.append(context(group, known, frame, group_gains, visit))
        return torch.cat(known, 1) * 4

    def decoded(self, pictures: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The latents that a decoder has of pictures, `(N, channels, H/8, W/8)`."""
        latents = self.analysis(pictures)
        if self.fixed_point:
            latents = latents.double()

        def visit(values, mean, scale):
            return mean + (values - mean).round()

        return self.walk(latents, level, visit).float()

    def forward(
        self, pictures: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pictures' reconstructions, and the bits that each is estimated to take, `(N,)`."""
        return self.code(self.analysis(pictures), level, self.quantise)

    def quantise(self, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A residual as its bits are estimated, and as it is decoded.

        Decoded is the rounded residual; its gradient goes straight through. While training, the
        bits are those of the residual with uniform noise as wide as a quantisation step, which has
        a gradient (Balle et al. 2017, arXiv:1611.01704).
        """
        rounded = residual + (residual.round() - residual).detach()
        noisy = residual + torch.rand_like(residual) - 0.5 if self.training else rounded
        return noisy, rounded

    def code(
        self, latents: torch.Tensor, level: torch.Tensor, quantise: Callable
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstructions of latents, and their bits `(N,)`; `quantise` as the method above."""
        decoded, bits = self.estimate(latents, level, quantise)
        return self.synthesis(decoded, level), bits

    def estimate(
        self, latents: torch.Tensor, level: torch.Tensor, quantise: Callable
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a decoder has of latents, and their bits `(N,)`; `quantise` as the method above."""
        costs = []

        def visit(values, mean, scale):
            estimated, decoded = quantise(values - mean)
            costs.append(laplace_bits(estimated, scale).flatten(1).sum(1))
            return mean + decoded

        if self.fixed_point:
            latents = latents.double()
        with torch.autocast(latents.device.type, enabled=False):
            decoded = self.walk(latents, level, visit).float()
        return decoded, sum(costs)

    def to_fixed_point(self, gains: torch.Tensor, identity: int) -> "LearnedCodec":
        """Bring the entropy model into fixed point, in place: what encodes and decodes files.

        Its weights must be multiples of 2^-12 already, as a file of weights has them; `gains`
        `(3, levels, channels)` are those of this file and `identity` is its CRC-32. Such a model
        has no gradients. Returns the model itself.
        """
        self.fixed_point = True
        self.fixed_gains = gains
        self.identity = identity
        for part in self.context:
            part.set_fixed_point(True)
        return self.eval().requires_grad_(False)

    def floating_copy(self) -> "LearnedCodec":
        """A copy of a model in fixed point that computes in float32, with the same rounded weights.

        Gradients pass through it, but its own weights stay as they are: to train what goes with
        them.
        """
        model = copy.deepcopy(self)
        model.fixed_point = False
        for part in model.context:
            part.set_fixed_point(False)
        model.log_gain.data = self.fixed_gains[2].float()
        return model.requires_grad_(False)


def _check(groups, width, post, blocks, context, lambdas) -> None:
    """Raise ValueError for numbers that make no model, or one too large for a file to ask for."""
    fits = (
        # Half of `context` is the width of a layer, `own`, which must have a channel.
        min(*groups, width, post, context // 2) >= 1,
        max(width, post, context) <= 512,
        0 <= blocks <= 32,
        1 <= sum(groups) <= 192,
        1 <= len(lambdas) <= 8 and min(lambdas) > 0,
    )
    if not all(fits):
        raise ValueError(
            f"{groups=}, {width=}, {post=}, {blocks=}, {context=}, {lambdas=}: expected numbers "
            "from 1 (blocks 0, context 2) to 512 (blocks 32), at most 192 channels in all, and "
            "one to eight lambdas above 0"
        )


def laplace_bits(residual: torch.Tensor, log2_scale: torch.Tensor) -> torch.Tensor:
    """Bits of a residual under a Laplace distribution around 0, integrated over a bin of width 1.

    Shapes that broadcast; -log2 of the probability, at most 30 bits.
    """
    scale = log2_scale.clamp(-4, 7).exp2()
    far = (residual.abs() + 0.5) / scale
    near = (residual.abs() - 0.5) / scale
    # The bin holds 0, or it lies on one side of it: there a difference of two tails is exact.
    inside = 1 - 0.5 * (torch.exp(-far) + torch.exp(-near.abs()))
    outside = 0.5 * (torch.exp(-near.clamp(min=0)) - torch.exp(-far))
    probability = torch.where(near < 0, inside, outside)
    return -probability.clamp(min=1e-9).log2()
