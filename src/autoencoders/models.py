"""Autoencoders and denoisers for square pictures, an encoder to a latent and a decoder back, and classifiers. In [0, 1] in and out."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """A convolution of stride 2 and its non-linearity: `(N, inputs, H, W)` -> `(N, outputs, H/2, W/2)`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2), nn.GELU()
    )


def deconv(inputs: int, outputs: int) -> nn.Sequential:
    """`conv` backwards, `(N, inputs, H, W)` -> `(N, outputs, 2H, 2W)`: four values a place become 2x2 pixels.

    Sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158); a transposed one leaves checkerboards.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2), nn.GELU()
    )


class DenseAutoencoder(nn.Module):
    """Fully connected autoencoder: every latent value sees every pixel (Hinton & Salakhutdinov 2006).

    `size` is the picture's side (32 to 256), `latent` and `hidden` are numbers of values. Without hidden layer (`hidden=0`)
    it is linear, and what it can learn is PCA. Raises ValueError.
    """

    def __init__(self, size: int = 128, latent: int = 64, hidden: int = 256):
        super().__init__()
        check(size, latent)
        if hidden < 0:
            raise ValueError(
                f"hidden={hidden}: expected at least 0, the number of values between pixels and latent"
            )
        self.arguments = {"size": size, "latent": latent, "hidden": hidden}
        pixels = 3 * size * size
        layers = [pixels, latent] if hidden == 0 else [pixels, hidden, latent]
        self.encoder = nn.Sequential(
            nn.Flatten(), *_dense(layers)
        )  # (N, 3, size, size) -> (N, latent)
        self.decoder = nn.Sequential(
            *_dense(layers[::-1]), nn.Unflatten(1, (3, size, size))
        )  # and back

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


def _dense(sizes: list[int]) -> list[nn.Module]:
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.GELU())]
    return layers[:-1]  # no non-linearity after the last


class ConvAutoencoder(nn.Module):
    """Convolutional autoencoder: four halvings down to a grid of `(size/16)^2` places, four doublings back.

    `size` is the picture's side (32 to 256, a multiple of 16), `latent` the number of values a picture is squeezed into,
    `width` the channels of the first layer. A `latent` that is a multiple of `(size/16)^2` stays a map `(N, latent/(size/16)^2,
    size/16, size/16)`, and the model then takes crops too; any other number becomes a vector. Raises ValueError.
    """

    def __init__(self, size: int = 128, latent: int = 1024, width: int = 32):
        super().__init__()
        check(size, latent)
        if size % 16 or width < 1:
            near = f"{size // 16 * 16} or {size // 16 * 16 + 16}"
            raise ValueError(
                f"size={size}, width={width}: four halvings need a size that 16 divides, e.g. {near}, and a width from 1"
            )
        self.arguments = {"size": size, "latent": latent, "width": width}
        grid = size // 16
        channels = latent // grid**2 if latent % grid**2 == 0 else 16
        self.encoder = nn.Sequential(  #        (N, 3, 128, 128), written for size = 128, width = 32
            conv(3, width, 5),  #               (N, 32, 64, 64)
            conv(width, 2 * width),  #          (N, 64, 32, 32)
            conv(2 * width, 4 * width),  #      (N, 128, 16, 16)
            nn.Conv2d(4 * width, channels, 3, stride=2, padding=1),  # (N, 16, 8, 8)
        )
        self.decoder = nn.Sequential(
            deconv(channels, 4 * width),  #     (N, 128, 16, 16)
            deconv(4 * width, 2 * width),  #    (N, 64, 32, 32)
            deconv(2 * width, width),  #        (N, 32, 64, 64)
            nn.Conv2d(width, 12, 3, padding=1),  # (N, 12, 64, 64)
            nn.PixelShuffle(2),  #              (N, 3, 128, 128)
            nn.Sigmoid(),
        )
        if latent % grid**2:
            self.encoder.extend([nn.Flatten(), nn.Linear(channels * grid**2, latent)])
            vector = [
                nn.Linear(latent, channels * grid**2),
                nn.Unflatten(1, (channels, grid, grid)),
            ]
            self.decoder = nn.Sequential(*vector, *self.decoder)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


class DenseDenoiser(nn.Module):
    """Fully connected denoising autoencoder for grey pictures `(N, 1, size, size)`: 784-64-784, a sigmoid last (Vincent et al. 2008).

    Raises ValueError.
    """

    def __init__(self, size: int = 28, hidden: int = 64):
        super().__init__()
        _positive(size=size, hidden=hidden)
        self.arguments = {"size": size, "hidden": hidden}
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(size * size, hidden), nn.ReLU()
        )  # (N, 64)
        self.decoder = nn.Sequential(
            nn.Linear(hidden, size * size), nn.Unflatten(1, (1, size, size))
        )  # (N, 1, 28, 28)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _shape(x, 1, 1, self.arguments["size"])
        return (
            self.decoder(self.encoder(x)).float().sigmoid()
        )  # in bfloat16 it would round to 0 or 1, where the gradient ends


class ConvDenoiser(nn.Module):
    """Convolutional denoiser, `(N, channels, H, W)` to the same: a small U-Net (Ronneberger et al. 2015).

    Sides must be multiples of 2 to the power of `levels`; `width` is the number of channels of the finest map, doubled from level
    to level. The decoder sees each of the encoder's maps again, so that edges need not pass through the coarsest. Raises ValueError.
    """

    def __init__(self, channels: int = 1, width: int = 32, levels: int = 2):
        super().__init__()
        _positive(channels=channels, width=width, levels=levels)
        self.arguments = {"channels": channels, "width": width, "levels": levels}
        widths = [width * 2**i for i in range(levels)]
        first = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1), nn.GELU()
        )
        self.encoder = nn.ModuleList(
            [first, *(conv(a, b) for a, b in pairwise(widths))]
        )  # (N, 32, H/2, W/2), (N, 64, H/4, W/4)
        self.decoder = nn.ModuleList(
            [deconv(b, a) for a, b in pairwise(widths)]
        )  # (N, 64, H/4, W/4) -> (N, 32, H/2, W/2)
        self.merge = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(2 * a, a, 3, padding=1), nn.GELU()) for a in widths[:-1]]
        )
        self.last = nn.Sequential(
            nn.Conv2d(width, 4 * channels, 3, padding=1), nn.PixelShuffle(2)
        )  # (N, channels, H, W)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _shape(x, self.arguments["channels"], 2 ** self.arguments["levels"])
        maps = [self.encoder[0](x)]
        for layer in self.encoder[1:]:
            maps.append(layer(maps[-1]))
        y = maps.pop()
        for up, merge in zip(reversed(self.decoder), reversed(self.merge), strict=True):
            y = merge(torch.cat([maps.pop(), up(y)], 1))
        return self.last(y).float().sigmoid()


class DenseClassifier(nn.Module):
    """Fully connected classifier of grey pictures `(N, 1, size, size)`: 784-256-256-10, logits `(N, classes)`. Raises ValueError."""

    def __init__(self, size: int = 28, hidden: int = 256, classes: int = 10):
        super().__init__()
        _positive(size=size, hidden=hidden, classes=classes)
        self.arguments = {"size": size, "hidden": hidden, "classes": classes}
        sizes = [size * size, hidden, hidden]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(hidden, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _shape(x, 1, 1, self.arguments["size"])
        return self.layers(x)


class ConvClassifier(nn.Module):
    """Small convolutional classifier of grey pictures `(N, 1, H, W)`, at least 4x4: logits `(N, classes)`. Raises ValueError."""

    def __init__(self, width: int = 16, classes: int = 10):
        super().__init__()
        _positive(width=width, classes=classes)
        self.arguments = {"width": width, "classes": classes}
        self.layers = nn.Sequential(
            conv(1, width, 5),  #                         (N, 16, 14, 14), written for 28x28
            conv(width, 2 * width),  #                    (N, 32, 7, 7)
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.GELU(),  #                                 (N, 64, 7, 7)
            nn.AdaptiveMaxPool2d(2),  #                   (N, 64, 2, 2)
            nn.Flatten(),
            nn.Linear(16 * width, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _shape(x, 1, 1)
        return self.layers(x)


class DenoiseAndClassify(nn.Module):
    """A denoiser and a classifier as one model: noisy pictures in, logits `(N, classes)` out."""

    def __init__(self, denoiser: nn.Module, classifier: nn.Module):
        super().__init__()
        self.denoiser, self.classifier = denoiser, classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.denoiser(x))


def _positive(**numbers: int) -> None:
    if bad := ", ".join(f"{name}={number}" for name, number in numbers.items() if number < 1):
        raise ValueError(f"{bad}: expected at least 1")


def _shape(x: torch.Tensor, channels: int, multiple: int, size: int | None = None) -> None:
    """Raise ValueError unless `x` is `(N, channels, H, W)` with sides that `multiple` divides, or that are `size`."""
    sides = tuple(x.shape[2:])
    if (
        x.dim() != 4
        or x.shape[1] != channels
        or any(side % multiple for side in sides)
        or (size and sides != (size, size))
    ):
        wanted = (
            f"(N, {channels}, {size}, {size})"
            if size
            else f"(N, {channels}, H, W), H and W multiples of {multiple}"
        )
        raise ValueError(
            f"a batch of shape {tuple(x.shape)}: expected {wanted}; add [None] for a single picture, or crop"
        )


def check(size: int, latent: int) -> None:
    """Raise ValueError unless `size` is from 32 to 256 pixels and `latent` from 1 to the number of a picture's values."""
    if not 32 <= size <= 256:
        raise ValueError(
            f"size={size}: expected a square picture's side from 32 to 256 pixels; ask data.cars for another size"
        )
    if not 1 <= latent <= 3 * size * size:
        raise ValueError(
            f"latent={latent}: expected 1 to {3 * size * size} values, no more than the picture has"
        )


def parameters(module: nn.Module) -> int:
    """The number of learnt values in a model or a part of it."""
    return sum(p.numel() for p in module.parameters())


def leaky(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU with slope 1/8, by which fixed-point numbers can be multiplied exactly."""
    return nn.functional.leaky_relu(x, 0.125)


class Residual(nn.Module):
    """A picture plus two convolutions of it: `(N, width, H, W)` -> the same."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(width, width, 3, padding=1),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(leaky(self.first(x)))


LAMBDAS = tuple(0.0006 * 1.67**level for level in range(8))


class Context(nn.Module):
    """The entropy model of one group of latent channels: mean and scale of each value from what is decoded already.

    Decoded are the groups before, everywhere, and of this group the places of the passes before: as in Minnen et al. 2018
    (arXiv:1809.02736), but in few passes over many places instead of place by place (He et al. 2021, arXiv:2103.15306).
    A pass is (stride, its places modulo stride, the neighbours of each that are known by then).
    """

    AROUND = tuple((a, b) for a in range(-2, 3) for b in range(-2, 3) if (a + b) % 2)
    HALF = ((2, ((1, 1),), ((-1, -1), (-1, 1), (1, -1), (1, 1))), (2, ((0, 1), (1, 0)), AROUND))
    FAR = (
        (4, ((2, 2),), ((-2, -2), (-2, 2), (2, -2), (2, 2))),
        (4, ((0, 2), (2, 0)), ((-2, 0), (0, -2), (0, 2), (2, 0))),
    )
    FIRST = (
        (4, ((0, 0),), ()),
        *FAR,
        *HALF,
    )  # coarse to fine: this group has none before it to go by
    LATER = ((2, ((0, 0),), ()), *HALF)

    def __init__(self, before: int, channels: int, width: int):
        super().__init__()
        self.passes = self.LATER if before else self.FIRST
        hidden = width + width // 2
        self.before = nn.ModuleList(
            [nn.Conv2d(2 * before + 2, width, 1), nn.Conv2d(width, width, 3, padding=1)]
        )
        self.own = nn.Conv2d(2 * channels, width // 2, 1)
        self.near = nn.ModuleList(
            nn.Conv2d(width + len(taps) * (width // 2 + 2), hidden, 1) for _, _, taps in self.passes
        )
        self.middle = nn.ModuleList(nn.Conv2d(hidden, hidden, 1) for _ in self.passes)
        self.last = nn.ModuleList(nn.Conv2d(hidden, 2 * channels, 1) for _ in self.passes)


class LearnedCodec(nn.Module):
    """Learned image codec (Balle et al. 2018, arXiv:1802.01436) that starts as PCA of 8x8 blocks and learns what to add.

    Pictures `(N, 3, H, W)` in [0, 1], H and W multiples of 8; latents `(N, channels, H/8, W/8)`. `groups`: how many latent
    channels are decoded after one another; `width`, `post`, `context`: channels of the networks beside the PCA, of the `blocks`
    at half resolution, and of the entropy model. `lambdas`: for each quality level, from small files to large, what a squared grey
    level is worth in bits; a level has a gain for each channel (Cui et al. 2021, arXiv:2003.02012). The last layers of all
    networks start at zero. Raises ValueError.
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
        }
        self.arguments["lambdas"] = list(lambdas)
        numbers = (
            min(*groups, width, post, context // 2) >= 1
            and max(width, post, context) <= 512
            and 0 <= blocks <= 32
        )
        if not (
            numbers and 1 <= sum(groups) <= 192 and 1 <= len(lambdas) <= 8 and min(lambdas) > 0
        ):
            raise ValueError(
                f"{self.arguments}: expected numbers from 1 (blocks 0, context 2) to 512 (blocks 32), at most 192 channels in all, "
                "and one to eight lambdas above 0"
            )
        channels, act = sum(groups), nn.LeakyReLU(0.125)

        def up(inputs, outputs):
            return nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2), act

        self.groups, self.fixed_point = list(groups), False
        self.analysis_pca = nn.Conv2d(
            3, channels, 8, stride=8
        )  #     (N, 3, H, W) -> (N, channels, H/8, W/8)
        self.analysis_net = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2), act,  #       (N, width, H/2, W/2)
            nn.Conv2d(width, width, 5, stride=2, padding=2), act,  #   (N, width, H/4, W/4)
            nn.Conv2d(width, width, 5, stride=2, padding=2), act,  #   (N, width, H/8, W/8)
            nn.Conv2d(width, channels, 3, padding=1),  #               (N, channels, H/8, W/8)
        )  # fmt: skip
        self.synthesis_pca = nn.ConvTranspose2d(channels, 3, 8, stride=8)  # (N, 3, H, W)
        self.synthesis_net = nn.Sequential(
            nn.Conv2d(channels + 1, width, 3, padding=1), act,  #      (N, width, H/8, W/8)
            Residual(width), *up(width, width),  #                     (N, width, H/4, W/4)
            Residual(width), *up(width, post),  #                      (N, post, H/2, W/2)
        )  # fmt: skip
        self.post = nn.Sequential(
            nn.Conv2d(post + 12, post, 3, padding=1), act,  #          (N, post, H/2, W/2)
            *[Residual(post) for _ in range(blocks)],
            nn.Conv2d(post, 12, 3, padding=1), nn.PixelShuffle(2),  #  (N, 3, H, W)
        )  # fmt: skip
        self.context = nn.ModuleList(
            Context(sum(groups[:i]), group, context) for i, group in enumerate(groups)
        )
        gain = (
            0.5 * torch.tensor(lambdas).div(0.004).log2()
        )  # half the step for a quarter of the error
        self.log_gain = nn.Parameter(gain[:, None].repeat(1, channels))
        for layer in (
            self.analysis_net[-1],
            self.post[-2],
            *(layer for part in self.context for layer in part.last),
        ):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_from_pca(self, pictures: torch.Tensor, step: float = 40.0) -> "LearnedCodec":
        """Set both PCA layers to the principal components of the pictures' 8x8 blocks, in units of `step` grey levels."""
        blocks = nn.functional.unfold(self.centre(pictures), 8, stride=8).mT.flatten(0, 1)
        mean, unit = blocks.mean(0), step / 64
        components = torch.linalg.eigh((blocks - mean).mT @ (blocks - mean)).eigenvectors.flip(1)[
            :, : sum(self.groups)
        ]
        self.analysis_pca.weight.copy_((components.mT / unit).view(-1, 3, 8, 8))
        self.analysis_pca.bias.copy_(-(mean @ components) / unit)
        self.synthesis_pca.weight.copy_((components.mT * unit).view(-1, 3, 8, 8))
        self.synthesis_pca.bias.copy_(mean.view(3, 64).mean(1))
        scales = ((blocks - mean) @ components / unit).abs().mean(0).add(0.1).log2()
        for part, scale in zip(self.context, scales.split(self.groups), strict=True):
            for layer in part.last:
                layer.bias[len(scale) :] = scale
        return self

    @staticmethod
    def centre(pictures: torch.Tensor) -> torch.Tensor:
        """Grey levels around 0, 64 of them a unit: [0, 1] -> [-2, 1.98]."""
        return pictures * (255 / 64) - 2

    def analysis(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures -> latents, before quantisation, in units of the quantisation step at gain 1."""
        x = self.centre(pictures)
        with torch.autocast(
            x.device.type, enabled=False
        ):  # eight bits of mantissa are too few for what is rounded next
            y = self.analysis_pca(x.float())
        return y + self.analysis_net(x).float()

    def synthesis(self, latents: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        """Decoded latents and their quality levels `(N,)` -> pictures, not clipped."""
        with torch.autocast(latents.device.type, enabled=False):
            base = self.synthesis_pca(latents)
        level = self.level(latents, quality)
        details = self.synthesis_net(torch.cat([latents / 4, level], 1))
        base = (
            base
            + self.post(
                torch.cat([details, nn.functional.pixel_unshuffle(base, 2).to(details.dtype)], 1)
            ).float()
        )
        return (base + 2) * (64 / 255)

    def level(self, latents: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        """The quality as a channel `(N, 1, h, w)` around 0, by which networks know how coarse the latents are."""
        level = (quality.to(latents) - (len(self.log_gain) - 1) / 2) / 4
        return level[:, None, None, None].expand(-1, 1, *latents.shape[2:])

    def gains(self) -> torch.Tensor:
        """For each quality and channel: the gain, its inverse, and its log2, `(3, qualities, channels)`."""
        if self.fixed_point:
            return self.fixed_gains
        return torch.stack([self.log_gain.exp2(), (-self.log_gain).exp2(), self.log_gain])

    def snap(self, x: torch.Tensor) -> torch.Tensor:
        """In fixed point: round to multiples of 1/256, within +-2048. While training: nothing."""
        return (
            x.mul(256).add_(0.5).floor_().clamp_(-(2**19), 2**19).div_(256)
            if self.fixed_point
            else x
        )

    def walk(self, latents: torch.Tensor, quality: torch.Tensor, visit: Callable) -> torch.Tensor:
        """Go through the latents in the order of decoding and return what a decoder has at the end.

        At each pass `visit(values, mean, log2_scale)` gets its latents times the gain, and what the entropy model expects of them,
        all `(N, group, places...)`; it returns the decoded values, which later passes go by. A decoder ignores `values`.
        """
        gain, inverse, shift = self.gains()[:, quality, :, None, None]
        height, width = latents.shape[2:]
        level = self.level(latents, quality)
        frame = torch.cat(
            [torch.ones_like(level), level], 1
        )  # 0 beyond the border, where it is padded
        known = []
        for part, here in zip(
            self.context, torch.arange(sum(self.groups)).split(self.groups), strict=True
        ):
            before = torch.cat([*known, *(x.abs() for x in known), frame], 1)
            for layer in part.before:
                before = self.snap(leaky(layer(before)))
            here = slice(int(here[0]), int(here[-1]) + 1)
            decoded = torch.zeros_like(latents[:, here])
            for (stride, places, taps), near, middle, last in zip(
                part.passes, part.near, part.middle, part.last, strict=True
            ):
                own = (
                    self.snap(leaky(part.own(torch.cat([decoded, decoded.abs()], 1))))
                    if taps
                    else frame[:, :0]
                )
                own = nn.functional.pad(torch.cat([own, frame], 1), (2, 2, 2, 2))
                decoded = decoded.clone()
                for row, column in places:
                    if row < height and column < width:
                        at = (..., slice(row, None, stride), slice(column, None, stride))
                        starts = [(2 + row + a, 2 + column + b) for a, b in taps]
                        neighbours = [
                            own[..., a : a + height - row : stride, b : b + width - column : stride]
                            for a, b in starts
                        ]
                        x = self.snap(leaky(near(torch.cat([before[at], *neighbours], 1))))
                        mean, scale = last(self.snap(leaky(middle(x)))).chunk(2, 1)
                        mean, scale = (
                            self.snap(mean * 4 * gain[:, here]),
                            self.snap(scale + shift[:, here]),
                        )
                        values = visit(latents[:, here][at] * gain[:, here], mean, scale)
                        decoded[at] = self.snap(values * inverse[:, here] / 4)
            known.append(decoded)
        return torch.cat(known, 1) * 4

    def decoded(self, pictures: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        """The latents that a decoder has of pictures, `(N, channels, H/8, W/8)`: `synthesis` draws from them."""
        latents = self.analysis(pictures)
        latents = latents.double() if self.fixed_point else latents
        return self.walk(
            latents, quality, lambda values, mean, _: mean + (values - mean).round()
        ).float()

    def forward(
        self, pictures: torch.Tensor, quality: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What comes back of the pictures, and the bits that each is estimated to take, `(N,)`.

        While training, bits are those of values with noise as wide as a quantisation step, which has a gradient; else of rounded ones.
        """

        def rounding(residual):
            rounded = residual + (residual.round() - residual).detach()
            return (
                residual + torch.rand_like(residual) - 0.5 if self.training else rounded
            ), rounded

        return self.code(self.analysis(pictures), quality, rounding)

    def code(
        self, latents: torch.Tensor, quality: torch.Tensor, rounding: Callable
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What comes back of latents, and their bits. `rounding(residual)`: the residual as it is estimated, and as it is decoded."""
        bits = latents.new_zeros(len(latents))

        def visit(values, mean, scale):
            nonlocal bits
            estimated, decoded = rounding(values - mean)
            bits = bits + laplace_bits(estimated, scale).flatten(1).sum(1)
            return mean + decoded

        with torch.autocast(latents.device.type, enabled=False):
            decoded = self.walk(
                latents.double() if self.fixed_point else latents, quality, visit
            ).float()
        return self.synthesis(decoded, quality), bits

    def floating(self) -> "LearnedCodec":
        """A copy of a model in fixed point that has slopes again, but stays as it is: to train what goes with rounded weights."""
        model = copy.deepcopy(self)
        model.fixed_point = False
        model.context.float()
        model.log_gain.data = self.fixed_gains[2].float()
        return model.requires_grad_(False)


class Latents(nn.Module):
    """Latents `(N, channels, h, w)` as what is learnt, for a codec that stays as it is: each goes where it pays in its own picture.

    They are rounded up or down at random, the nearer the likelier, and within `steps` calls while training ever more surely
    (stochastic Gumbel annealing, Yang et al. 2020, arXiv:2006.04240). `psnr`, in dB, is what `losses.coding` steers to.
    """

    def __init__(self, codec: LearnedCodec, latents: torch.Tensor, psnr: float, steps: int):
        super().__init__()
        self.codec, self.shape, self.psnr, self.steps = codec, latents.shape, psnr, steps
        self.register_buffer("start", codec.log_gain.detach().clone())
        self.values = nn.Embedding.from_pretrained(
            latents.flatten(1).clone(), freeze=False, sparse=True
        )
        self.register_buffer("step", torch.tensor(0))

    def forward(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of pictures by their numbers `(n,)`: what comes back of them, and their estimated bits."""
        temperature = 0.5 * math.exp(-2 * self.step.item() / self.steps)
        self.step += self.training

        def rounding(residual):
            below = residual.detach().floor()
            up = (residual - below).clamp(1e-4, 1 - 1e-4)
            logits = -torch.atanh(torch.stack([up, 1 - up], -1)) / temperature
            rounded = (
                below + nn.functional.gumbel_softmax(logits, temperature)[..., 1]
                if self.training
                else residual.round()
            )
            return rounded, rounded

        return self.codec.code(
            self.values(which).view(-1, *self.shape[1:]), torch.zeros_like(which), rounding
        )


def laplace_bits(residual: torch.Tensor, log2_scale: torch.Tensor) -> torch.Tensor:
    """Bits of a value that a Laplace distribution around 0, integrated over a bin of width 1 around it, gives to it."""
    scale = log2_scale.clamp(-4, 7).exp2()
    far, near = ((residual.abs() + side) / scale for side in (0.5, -0.5))
    inside = 1 - 0.5 * (torch.exp(-far) + torch.exp(-near.abs()))
    outside = 0.5 * (torch.exp(-near.clamp(min=0)) - torch.exp(-far))
    return -torch.where(near < 0, inside, outside).clamp(min=1e-9).log2()
