"""Autoencoders, denoisers and classifiers for square pictures with values in [0, 1]."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from autoencoders import course


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """A convolution of stride 2 and its non-linearity.

    `(N, inputs, H, W)` -> `(N, outputs, H/2, W/2)`.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2), nn.GELU()
    )


def deconv(inputs: int, outputs: int) -> nn.Sequential:
    """`conv` backwards: four values a place become 2x2 pixels.

    `(N, inputs, H, W)` -> `(N, outputs, 2H, 2W)`.

    Sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158); a transposed one leaves
    checkerboards.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2), nn.GELU()
    )


class DenseAutoencoder(nn.Module):
    """Fully connected autoencoder: each value sees all pixels (Hinton & Salakhutdinov 2006).

    `size` is the picture's side (32 to 256), `latent` and `hidden` are numbers of values. Without
    hidden layer (`hidden=0`) it is linear, and what it can learn is PCA. Raises ValueError.
    """

    def __init__(self, size: int = 128, latent: int = 64, hidden: int = 256):
        super().__init__()
        check(size, latent)
        if hidden < 0:
            raise ValueError(
                f"hidden={hidden}: "
                "expected at least 0, the number of values between pixels and latent"
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
    """Convolutional autoencoder: four halvings down to a map, four doublings back.

    The map has `(size/16)^2` places.

    `size` is the picture's side (32 to 256, a multiple of 16), `latent` the number of values a
    picture is squeezed into, `width` the channels of the first layer. A `latent` that is a multiple
    of `(size/16)^2` stays a map `(N, latent/(size/16)^2, size/16, size/16)`, and the model then
    takes crops too; any other number becomes a vector. Raises ValueError.
    """

    def __init__(self, size: int = 128, latent: int = 1024, width: int = 32):
        super().__init__()
        check(size, latent)
        if size % 16 or width < 1:
            near = f"{size // 16 * 16} or {size // 16 * 16 + 16}"
            raise ValueError(
                f"size={size}, width={width}: "
                f"four halvings need a size that 16 divides, e.g. {near}, and a width from 1"
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
    """Fully connected denoising autoencoder of grey pictures `(N, 1, size, size)`: 784-64-784.

    The last layer is a sigmoid (Vincent et al. 2008).

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
    """Convolutional denoiser, `(N, channels, H, W)` to the same: a small U-Net.

    Ronneberger et al. 2015.

    Sides must be multiples of 2 to the power of `levels`; `width` is the number of channels of the
    finest map, doubled from level to level. The decoder sees each of the encoder's maps again, so
    that edges need not pass through the coarsest. Raises ValueError.
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
    """Fully connected classifier of grey pictures `(N, 1, size, size)`: 784-256-256-10.

    Returns logits `(N, classes)`. Raises ValueError.
    """

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
    """Small convolutional classifier of grey pictures `(N, 1, H, W)`, at least 4x4.

    Returns logits `(N, classes)`. Raises ValueError.
    """

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
    """Raise ValueError unless `x` is `(N, channels, H, W)` with good sides.

    Good are sides that `multiple` divides, or that are `size`.
    """
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
            f"a batch of shape {tuple(x.shape)}: expected {wanted}; "
            "add [None] for a single picture, or crop"
        )


def check(size: int, latent: int) -> None:
    """Raise ValueError for a `size` outside 32 to 256 pixels or an impossible `latent`.

    It is from 1 to the number of a picture's values.
    """
    if not 32 <= size <= 256:
        raise ValueError(
            f"size={size}: expected a square picture's side from 32 to 256 pixels; "
            "ask data.cars for another size"
        )
    if not 1 <= latent <= 3 * size * size:
        raise ValueError(
            f"latent={latent}: expected 1 to {3 * size * size} values, no more than the picture has"
        )


def parameters(module: nn.Module) -> int:
    """The number of learnt values in a model or a part of it."""
    return sum(p.numel() for p in module.parameters())


def save(model: nn.Module, path: str | Path) -> None:
    """Write a model's constructor arguments and its weights, in half precision."""
    weights = {name: value.half() for name, value in model.state_dict().items()}
    content = {"model": type(model).__name__, "arguments": model.arguments, "weights": weights}
    with course.replacing(Path(path)) as part:
        torch.save(content, part)


def load(path: str | Path, kind: type[nn.Module]) -> nn.Module:
    """The model of class `kind` in a file of `save`, ready for use.

    Nothing in the file is executed. Raises CorruptFileError, which names the file, for one that is
    damaged or holds another model.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["model"] != kind.__name__:
            raise ValueError(f"a {content['model']}")
        model = kind(**content["arguments"])
        model.load_state_dict({name: w.float() for name, w in content["weights"].items()})
    except Exception as error:  # zip, pickle and torch have errors of their own for a damaged file
        about = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise course.CorruptFileError(
            f"{path.name} cannot be read ({about}): expected a whole file of models.save with a "
            f"{kind.__name__}; restore it: git checkout {path.parent.name}/{path.name}, or take it "
            "again from where you have the course"
        ) from None
    return model.eval()


class ResidualBlock(nn.Module):
    """Two convolutions and a way around them (He et al. 2016, arXiv:1512.03385, figure 2).

    `(N, inputs, H, W)` -> `(N, outputs, H/stride, W/stride)`. The convolutions only have to learn
    what is to be added to their input, so that a block that is not needed does no harm.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            _normalised(inputs, outputs, stride),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.stride = stride
        self.around = nn.Identity()
        # Where the shape changes, the way around must change it too.
        if stride > 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Every second pixel, then 1x1: as a 1x1 convolution with stride 2. That one's gradient
        # writes past its memory where there are few channels (uxlfoundation/oneDNN, issue 6035).
        kept = x[:, :, :: self.stride, :: self.stride]
        return (self.body(x) + self.around(kept)).relu()


class ResidualNetwork(nn.Module):
    """Small residual classifier of pictures `(N, 3, H, W)` in [0, 1].

    Returns logits `(N, classes)`. `width` is the number of channels of the first block; each of the
    `levels - 1` further ones doubles it and halves the map. `maps(x)` is what the last block makes,
    `features(x)` its mean over all places. Raises ValueError.
    """

    def __init__(self, classes: int, width: int = 24, levels: int = 4):
        super().__init__()
        _positive(classes=classes, width=width, levels=levels)
        self.arguments = {"classes": classes, "width": width, "levels": levels}
        widths = [width * 2**level for level in range(levels)]
        blocks = [ResidualBlock(width, width)]
        for inputs, outputs in pairwise(widths):
            blocks.append(ResidualBlock(inputs, outputs, stride=2))
        self.blocks = nn.Sequential(  #            (N, 3, 64, 64), written for 64x64
            nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False),  # (N, 24, 32, 32)
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *blocks,  #                            (N, 192, 4, 4)
        )
        self.answer = nn.Linear(widths[-1], classes)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        _shape(x, 3, 1)
        return self.blocks(2 * x - 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.features(x))


class AttributeClassifier(nn.Module):
    """Convolutional classifier that answers several questions about a picture `(N, C, H, W)`.

    `answers` are the numbers of values of each answer: `(7, 13, 2)` for logits of seven body types
    and thirteen paints, and the cosine and sine of an angle. Raises ValueError.
    """

    def __init__(self, answers: tuple[int, ...], channels: int = 3, width: int = 16):
        super().__init__()
        _positive(channels=channels, width=width, answers=min(answers, default=0))
        self.arguments = {"answers": list(answers), "channels": channels, "width": width}
        self.features = nn.Sequential(  #               (N, 3, 64, 64), written for the turntable
            _normalised(channels, width, stride=2),  #  (N, 16, 32, 32)
            _normalised(width, 2 * width, stride=2),  # (N, 32, 16, 16)
            _normalised(2 * width, 4 * width, stride=2),  # (N, 64, 8, 8)
            _normalised(4 * width, 4 * width),
            _normalised(4 * width, 4 * width, stride=2),  # (N, 64, 4, 4)
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),  #                            (N, 256)
            nn.Linear(16 * width, 4 * width),
            nn.ReLU(),  #                               (N, 64)
        )
        self.answers = nn.Linear(4 * width, sum(answers))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A tensor `(N, values)` for each answer; `features(x)` is what they are made of."""
        _shape(x, self.arguments["channels"], 1)
        return self.answers(self.features(x)).float().split(self.arguments["answers"], 1)


def _normalised(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
