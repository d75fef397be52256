"""Models that invent pictures: variational autoencoders and a DCGAN.

All draw a latent `z` from a standard normal distribution and decode it, `model.sample(n)`. Pictures
are `(N, channels, size, size)` in [0, 1]; `size` is 4 times a power of 2, such as 32 or 64.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from autoencoders.models import conv, deconv

GRID = 4  # the side of the coarsest map


class VAE(nn.Module):
    """Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114).

    The encoder answers a normal distribution of latents for each picture, by its mean and the
    logarithm of its variance. Convolutions halve the picture down to 4x4: three for 32x32, four
    for 64x64; the decoder doubles as often. `latent` is the number of latents, `width` the channels
    of the first layer. Raises ValueError.
    """

    def __init__(self, channels: int = 3, size: int = 32, latent: int = 16, width: int = 16):
        super().__init__()
        self.arguments = {"channels": channels, "size": size, "latent": latent, "width": width}
        _check(**self.arguments)
        self._build(conditions=0, **self.arguments)

    def _build(self, channels, size, latent, width, conditions):
        widths = [width * 2**level for level in range(_halvings(size))]
        flat = widths[-1] * GRID**2
        self.encoder = (
            nn.Sequential(  #                     (N, 3, 32, 32), written for the defaults
                conv(channels, width, 5),  #                     (N, 16, 16, 16)
                *(conv(a, b) for a, b in pairwise(widths)),  #   (N, 32, 8, 8), (N, 64, 4, 4)
                nn.Flatten(),  #                                 (N, 1024)
            )
        )
        # Two numbers for each latent: its mean and the logarithm of its variance.
        self.to_latent = nn.Linear(flat + conditions, 2 * latent)  # (N, 32)
        self.decoder = nn.Sequential(
            nn.Linear(latent + conditions, flat),  #         (N, 1024)
            nn.GELU(),
            nn.Unflatten(1, (widths[-1], GRID, GRID)),  #    (N, 64, 4, 4)
            *(deconv(b, a) for a, b in reversed(list(pairwise(widths)))),  # up to (N, 16, 16, 16)
            nn.Conv2d(width, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),  #                           (N, 3, 32, 32)
            nn.Sigmoid(),
        )

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance of the latents of pictures, `(N, latent)` both."""
        _pictures(x, self.arguments)
        return self.to_latent(self.encoder(x)).float().chunk(2, 1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures from latents `(N, latent)`."""
        return self.decoder(z)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The reconstruction, and mean and log-variance of the latents.

        In training a latent is drawn, in evaluation it is the mean.
        """
        mean, log_variance = self.encode(x)
        z = reparameterise(mean, log_variance) if self.training else mean
        return self.decode(z), mean, log_variance

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """Invent `n` pictures, always the same ones for a seed: decoded from N(0, I)."""
        return self.decode(normal(n, self.arguments["latent"], seed))


class ConditionalVAE(VAE):
    """VAE that is told what to draw (Sohn et al. 2015).

    Encoder and decoder both get a vector of `conditions` numbers for each picture, such as a class
    as ones and zeros, or the cosine and the sine of an angle. So the latents need not say it again.
    """

    def __init__(
        self,
        conditions: int,
        channels: int = 3,
        size: int = 32,
        latent: int = 16,
        width: int = 16,
    ):
        nn.Module.__init__(self)
        shape = {"channels": channels, "size": size, "latent": latent, "width": width}
        _check(conditions=conditions, **shape)
        self.arguments = {"conditions": conditions, **shape}
        self._build(**self.arguments)

    def encode(self, x, c):
        """Mean and log-variance of the latents of pictures, given their conditions `(N, K)`."""
        _pictures(x, self.arguments)
        _conditions(c, len(x), self.arguments["conditions"])
        seen = torch.cat([self.encoder(x), c], 1)
        return self.to_latent(seen).float().chunk(2, 1)

    def decode(self, z, c):
        """Pictures from latents `(N, latent)` and conditions `(N, K)`."""
        _conditions(c, len(z), self.arguments["conditions"])
        return self.decoder(torch.cat([z, c], 1))

    def forward(self, x, c):
        """As for `VAE`; `c` `(N, K)` are the conditions."""
        mean, log_variance = self.encode(x, c)
        z = reparameterise(mean, log_variance) if self.training else mean
        return self.decode(z, c), mean, log_variance

    @torch.no_grad()
    def sample(self, c, seed: int = 0):
        """Invent a picture for each row of the conditions `(N, K)`."""
        return self.decode(normal(len(c), self.arguments["latent"], seed), c)


class Generator(nn.Module):
    """The half of a DCGAN that draws pictures from latents; see `DCGAN`."""

    def __init__(self, channels: int = 3, size: int = 32, latent: int = 64, width: int = 32):
        super().__init__()
        self.arguments = {"channels": channels, "size": size, "latent": latent, "width": width}
        _check(**self.arguments)
        widths = _widths(size, width)
        coarsest = widths[-1]
        self.layers = nn.Sequential(  #  (N, 64), sizes written for the defaults
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, coarsest, GRID, bias=False),  # (N, 128, 4, 4)
            nn.BatchNorm2d(coarsest),
            nn.ReLU(),
            *(_up(b, a) for a, b in reversed(list(pairwise(widths)))),  # up to (N, 32, 16, 16)
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),  # (N, 3, 32, 32)
            nn.Sigmoid(),
        )
        _start(self)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures from latents `(N, latent)`."""
        return self.layers(z)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """Invent `n` pictures, always the same ones for a seed."""
        return self(normal(n, self.arguments["latent"], seed))


class Discriminator(nn.Module):
    """The half of a DCGAN that tells real pictures from generated ones; see `DCGAN`."""

    def __init__(self, channels: int = 3, size: int = 32, width: int = 32):
        super().__init__()
        widths = _widths(size, width)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),  #  (N, 32, 16, 16)
            nn.LeakyReLU(0.2),
            *(_down(a, b) for a, b in pairwise(widths)),  #         (N, 64, 8, 8), (N, 128, 4, 4)
            nn.Conv2d(widths[-1], 1, GRID),  #                      (N, 1, 1, 1)
            nn.Flatten(0),  #                                       (N,)
        )
        _start(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A logit for each picture, `(N,)`, large for a real one."""
        return self.layers(x)


class DCGAN(nn.Module):
    """Deep convolutional generative adversarial network (Radford et al. 2016, arXiv:1511.06434).

    A generator draws pictures from latents, a discriminator tells them from real ones; each is the
    other's loss (`losses.discriminator`, `losses.generator`). As in the paper: strided convolutions
    in place of pooling, batch normalisation but at the generator's end and the discriminator's
    begin, ReLU here and leaky ReLU there, weights drawn with a standard deviation of 0.02.
    `width` is the number of channels of the finest map. Raises ValueError.
    """

    def __init__(self, channels: int = 3, size: int = 32, latent: int = 64, width: int = 32):
        super().__init__()
        self.generator = Generator(channels, size, latent, width)
        self.discriminator = Discriminator(channels, size, width)
        self.arguments = self.generator.arguments

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures from latents `(N, latent)`."""
        return self.generator(z)

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """Invent `n` pictures, always the same ones for a seed."""
        return self.generator.sample(n, seed)


def _widths(size: int, width: int) -> list[int]:
    """Channels of each map, the finest first: twice as many for each halving."""
    return [width * 2**level for level in range(_halvings(size))]


def _start(network: nn.Module) -> None:
    """Draw the weights of convolutions as the paper does."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.02)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the side, `(N, inputs, H, W)` -> `(N, outputs, 2H, 2W)`, as in DCGAN's generator."""
    return nn.Sequential(
        # A kernel that the stride divides: one of 3 would leave a checkerboard.
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _down(inputs: int, outputs: int) -> nn.Sequential:
    """Half the side, as in DCGAN's discriminator."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


def reparameterise(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """A draw from N(mean, exp(log_variance)) through which gradients flow: mean + sigma * noise."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def normal(n: int, latent: int, seed: int = 0) -> torch.Tensor:
    """`(n, latent)` draws from N(0, I), always the same for a seed."""
    return torch.randn(n, latent, generator=torch.Generator().manual_seed(seed))


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels `(N,)` as rows with a one at their class, `(N, classes)`. Raises ValueError."""
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels from {labels.min().item()} to {labels.max().item()}: "
            f"expected 0 to {classes - 1}, one of the {classes} classes"
        )
    return nn.functional.one_hot(labels, classes).float()


def angle(degrees: torch.Tensor) -> torch.Tensor:
    """Angles `(N,)` in degrees as `(N, 2)`, cosine and sine, so that 359 lies beside 1."""
    radians = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float32))
    return torch.stack([radians.cos(), radians.sin()], 1)


def _halvings(size: int) -> int:
    return round(math.log2(size / GRID))


def _check(size: int, **numbers: int) -> None:
    bad = [f"{name}={number}" for name, number in numbers.items() if number < 1]
    if bad:
        raise ValueError(f"{', '.join(bad)}: expected at least 1")
    if size not in (16, 32, 64, 128):
        raise ValueError(
            f"size={size}: expected 16, 32, 64 or 128 pixels, which halve down to {GRID}; "
            "pad or crop the pictures"
        )


def _pictures(x: torch.Tensor, arguments: dict) -> None:
    expected = (arguments["channels"], arguments["size"], arguments["size"])
    if x.dim() != 4 or x.shape[1:] != expected:
        raise ValueError(
            f"a batch of shape {tuple(x.shape)}: expected (N, {expected[0]}, {expected[1]}, "
            f"{expected[2]}), the size that the model was made for; add [None] for a single picture"
        )


def _conditions(c: torch.Tensor, n: int, conditions: int) -> None:
    if c.shape != (n, conditions):
        raise ValueError(
            f"conditions of shape {tuple(c.shape)}: expected ({n}, {conditions}), "
            "a row for each picture"
        )
