"""The network of an archive: wavelets, and small networks that know this archive's pictures alone.

A picture is coded as coefficients of a wavelet transform, coarse ones first. An entropy model
predicts each from what is decoded already, and a last network corrects what the wavelets draw.
Everything is trained for the pictures of one file, as Cool-Chic (Ladune et al. 2023,
arXiv:2212.05458) and C3 (Kim et al. 2024, arXiv:2312.02753) do for one picture; they have pyramids
in place of wavelets.

A decoder computes in fixed point: sums of multiples of powers of two, which float64 holds exactly
in whatever order, so that every machine decodes the same integers.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from autoencoders import data
from autoencoders.codec import container, weights
from autoencoders.codec.model import laplace_bits
from autoencoders.codec.range_coder import Reader, Writer, split_mean, table_of

LEVELS = 5  # of wavelets: each halves both sides
UNIT = 2**LEVELS  # pixels that divide both sides
MOST = 64  # channels or blocks of a network
STEP = 40  # grey levels to a quantisation step, before a band's own gain
# Where rounded weights cost most, by measurement: rounded as coarsely as the others, the last one
# alone would cost 0.7 dB, and each of the others 1 to 3 % of the bytes.
SENSITIVE = ("band", "colours", "features", "views.0.weight", "middle.weight", "post.0.weight")

# Filters of the CDF 9/7 wavelet (Cohen, Daubechies and Feauveau 1992), that of JPEG 2000: what a
# coefficient adds to the sample at its own place, and to those one, two, ... places away.
LOW = (0.788486, 0.418092, -0.040689, -0.064539)
HIGH = (0.852699, -0.377403, -0.110624, 0.023849, 0.037828)

# Colours as an orthonormal transform, so that an error costs as much there as in R, G and B.
COLOURS = (
    (3**-0.5, 2**-0.5, -(6**-0.5)),  # R
    (3**-0.5, 0.0, 2 * 6**-0.5),  # G
    (3**-0.5, -(2**-0.5), -(6**-0.5)),  # B
)

# Neighbours in the same band that are decoded before a coefficient, as (rows, columns): two rows
# of five above it, and two to its left.
BEFORE = tuple((down, right) for down in (-2, -1, 0) for right in range(-2, 3))[:12]
SLANT = 3  # columns by which a row follows the one above it, where diagonals are decoded at once


class Group(NamedTuple):
    """Coefficients of one level and colour: three bands of details, or one of what is left.

    The bands hold details along rows, along columns, and along both.
    """

    level: int  # 1 is the finest
    colour: int
    bands: int


@cache
def groups() -> list[Group]:
    """All groups in the order of decoding. The finest details have no colour of their own."""
    result = [Group(LEVELS, colour, 1) for colour in range(3)]
    for level in range(LEVELS, 0, -1):
        for colour in range(3 if level > 1 else 1):
            result.append(Group(level, colour, 3))
    return result


def exact(values) -> torch.Tensor:
    """Constants as multiples of 2^-12, in float64."""
    return torch.tensor(values, dtype=torch.float64).mul(2**12).round().div(2**12)


@cache
def wavelet(length: int) -> torch.Tensor:
    """The matrix `(length, length)` from coefficients, low ones before high ones, to samples."""
    filters = exact(LOW).tolist(), exact(HIGH).tolist()
    matrix = torch.zeros(length, length, dtype=torch.float64)
    for sample in range(length):
        for place in range(sample - 4, sample + 5):
            # Low coefficients are at even places, high ones at odd places.
            taps = filters[place % 2]
            if abs(place - sample) < len(taps):
                # Beyond its ends the row of coefficients is mirrored, again and again.
                inside = abs(place) % (2 * length - 2)
                inside = min(inside, 2 * length - 2 - inside)
                column = inside // 2 + length // 2 * (inside % 2)
                matrix[sample, column] += taps[abs(place - sample)]
    return matrix


@cache
def _matrix(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return wavelet(length).to(device, dtype)


def join(low: torch.Tensor, details: torch.Tensor | None) -> torch.Tensor:
    """One level of the inverse transform: `(N, 1, h, w)` and `(N, 3, h, w)` -> `(N, 1, 2h, 2w)`."""
    height, width = low.shape[2:]
    rows = _matrix(2 * height, low.dtype, low.device)
    columns = _matrix(2 * width, low.dtype, low.device)
    if details is None:
        # Without details, only the low coefficients' part of the matrices is needed.
        return rows[:, :height] @ low @ columns[:, :width].T
    along_rows, along_columns, both = details.split(1, 1)
    upper = torch.cat([low, along_rows], 3)
    lower = torch.cat([along_columns, both], 3)
    return rows @ torch.cat([upper, lower], 2) @ columns.T


def part(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of `join`: one level of the transform."""
    height, width = samples.shape[2:]
    rows = torch.linalg.inv(wavelet(height)).to(samples)
    columns = torch.linalg.inv(wavelet(width)).to(samples)
    all_four = rows @ samples @ columns.T
    upper, lower = all_four.chunk(2, 2)
    low, along_rows = upper.chunk(2, 3)
    along_columns, both = lower.chunk(2, 3)
    return low, torch.cat([along_rows, along_columns, both], 1)


class ArchiveModel(nn.Module):
    """Decoder and entropy model of pictures `(N, 3, H, W)` of one size, for one file.

    H and W are multiples of 32. Coefficients are integers, in a list of tensors `(N, bands, H /
    2^level, W / 2^level)` as in `groups`.

    - `width`: channels of the entropy model; `features` those of its view of the picture so far.
    - `post`, `blocks`: channels and residual blocks of the last network, at half resolution.

    Raises ValueError.
    """

    def __init__(self, width: int = 24, features: int = 12, post: int = 12, blocks: int = 1):
        super().__init__()
        self.arguments = {"width": width, "features": features, "post": post, "blocks": blocks}
        # Before anything is built: a forged file may ask for any number.
        for name, value in self.arguments.items():
            if not (type(value) is int and 1 <= value <= MOST):
                raise ValueError(f"{name}={value!r}: expected a whole number from 1 to {MOST}")
        self.width = width
        self.fixed_point = False

        def random(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) * 0.7 / shape[-1] ** 0.5)

        # The first layer of the entropy model, as a sum of what each kind of neighbour gives.
        # Neighbours before, with their magnitudes: for each grey band, and for coloured ones.
        self.own = random(4, width, 2 * len(BEFORE))
        # Magnitudes: 3x3 places of the bands before, in this group ...
        self.siblings = random(width, 9)
        # ... of the same band one level coarser, for each of the four places that one becomes ...
        self.parents = random(4 * width, 9)
        # ... and of the colours before, with the value in the middle.
        self.colours = random(2, width, 10)
        # The grey picture so far.
        self.patches = nn.Parameter(0.1 * random(width, 25).data)
        self.views = nn.ModuleList(
            [nn.Conv2d(25, features, 1), nn.Conv2d(features, features, 3, padding=1)]
        )
        self.features = nn.Parameter(0.1 * random(3, width, features).data)
        # Biases, for levels (the last for what is left), and for bands of colours.
        self.level = nn.Parameter(torch.zeros(LEVELS + 1, width))
        self.band = nn.Parameter(torch.zeros(3, 4, width))
        # The second layer adds to the first, and the third gives mean and log2 of the scale.
        self.middle = nn.Linear(width, width)
        self.last = nn.Parameter(torch.zeros(2, width))
        start = [[-1.5 if group.level == 1 else 0.5] * 3 for group in groups()]
        self.scale = nn.Parameter(torch.tensor(start))  # (groups, bands)
        # How much a step of each band is worth.
        self.gain = nn.Parameter(torch.ones(len(groups()), 3))
        self.post = nn.ModuleList(
            [nn.Conv2d(15, post, 3, padding=1)]
            + [nn.Conv2d(post, post, 3, padding=1) for _ in range(2 * blocks)]
            + [nn.Conv2d(post, 12, 3, padding=1)]
        )
        nn.init.zeros_(self.post[-1].weight)
        nn.init.zeros_(self.post[-1].bias)

    # ---- Between pictures and coefficients ----

    @staticmethod
    def shapes(height: int, width: int) -> list[tuple[int, int, int]]:
        """Bands, height and width of each group, for pictures of so many pixels."""
        return [(g.bands, height >> g.level, width >> g.level) for g in groups()]

    @staticmethod
    def analysis(pictures: torch.Tensor) -> list[torch.Tensor]:
        """The coefficients of pictures in [0, 1], not rounded: where training starts."""
        colours = exact(COLOURS).to(pictures)
        planes = torch.einsum("rc,nrhw->cnhw", colours, pictures * 255 - 128) / STEP
        found = {}
        for colour, samples in enumerate(planes.unsqueeze(2)):
            for level in range(1, LEVELS + 1):
                samples, found[Group(level, colour, 3)] = part(samples)
            found[Group(LEVELS, colour, 1)] = samples
        return [found[group] for group in groups()]

    def gained(self, number: int, coefficients: torch.Tensor) -> torch.Tensor:
        """Coefficients of a group in units of `STEP`."""
        bands = groups()[number].bands
        gain = self.gain[number, :bands].to(coefficients.dtype)
        return self.snap(coefficients * gain[:, None, None])

    def synthesis(self, planes: list[torch.Tensor], finest: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1], not clipped: what the wavelets draw, and a correction of it.

        `planes` are the three colours `(N, 1, H, W)`, the last two at half resolution, and `finest`
        the finest details `(N, 3, H/2, W/2)`.
        """
        planes = torch.cat([planes[0], *(self.snap(join(x, None)) for x in planes[1:])], 1)
        x = torch.cat([F.pixel_unshuffle(planes, 2), finest / 4], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.snap(F.relu(self.post[0](x)))
        inner = self.post[1:-1]
        for first, second in zip(inner[::2], inner[1::2], strict=True):
            x = self.snap(x + second(self.snap(F.relu(first(x)))))
        x = planes + F.pixel_shuffle(self.post[-1](x), 2).to(planes.dtype)
        colours = exact(COLOURS).to(x)
        return (torch.einsum("rc,nchw->nrhw", colours, x) * STEP + 128) / 255

    # ---- The entropy model ----

    def view_for(self, number: int, low: torch.Tensor) -> torch.Tensor | None:
        """What is seen of the grey picture so far, `(N, 1, 25 + features, h * w)`; by grey details.

        The 5x5 places around each of `low` `(N, 1, h, w)`, less the one in the middle, and what two
        convolutions make of them.
        """
        group = groups()[number]
        if group.colour or group.bands == 1:
            return None
        patches = F.unfold(F.pad(low, (2, 2, 2, 2), mode="replicate"), 5)  # (N, 25, h * w)
        patches = patches - patches[:, 12:13]
        x = patches.unflatten(2, low.shape[2:])
        for layer in self.views:
            x = self.snap(F.relu(layer(x)))
        return torch.cat([patches, x.flatten(2).to(patches.dtype)], 1)[:, None]

    def around(
        self,
        number: int,
        known: list[torch.Tensor],
        view: torch.Tensor | None,
        bands: slice = slice(None),
    ) -> torch.Tensor:
        """What all but a band itself adds to its first layer, `(N, bands, width, h * w)`.

        `known` are the groups so far. A band of group `number` looks at the bands before it there.
        `view` is for grey details. `bands` chooses some of the group's bands.
        """
        group = groups()[number]
        own = known[number]
        is_low = group.bands == 1
        bias = self.band[group.colour, 3:] if is_low else self.band[group.colour, :3]
        bias = bias[bands] + self.level[LEVELS if is_low else group.level - 1]
        total = bias.to(own.dtype)[:, :, None]  # (bands, width, 1)
        if not is_low:
            # For the first band nothing, for the second the first, for the third both.
            magnitudes = own[:, :2].abs().cumsum(1)
            magnitudes = F.pad(magnitudes, (0, 0, 0, 0, 1, 0))[:, bands]
            total = total + _mix(_thrice(self.siblings, 3)[bands], _around(magnitudes))
        coarser = group._replace(level=group.level + 1)
        if coarser in groups():
            magnitudes = known[groups().index(coarser)][:, bands].abs()
            parents = _mix(_thrice(self.parents, 3)[bands], _around(magnitudes))
            parents = parents.unflatten(3, magnitudes.shape[2:])
            total = total + F.pixel_shuffle(parents, 2).flatten(3)
        for colour in range(group.colour):
            values = known[groups().index(group._replace(colour=colour))][:, bands]
            near, at = self.colours[colour].split((9, 1), 1)
            near = near[None] if is_low else _thrice(near, 3)[bands]
            total = total + _mix(near, _around(values.abs()))
            total = total + at.to(values.dtype) * values.flatten(2).unsqueeze(2)
        if view is not None:
            weights = torch.cat([_thrice(self.patches, 5), self.features], 2)
            total = total + _mix(weights[bands], view)
        return total.expand(len(own), -1, -1, own[0, 0].numel())

    def own_weights(self, number: int) -> torch.Tensor:
        """The weights of neighbours in the same band, `(bands, width, 24)`."""
        group = groups()[number]
        if group.colour:
            return self.own[3:].expand(group.bands, -1, -1)
        return self.own[: group.bands]

    def predict(
        self, x: torch.Tensor, scale_bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log2 of the scale, `(N, bands, places)`, from the sum in the first layer.

        `x` is `(N, bands, width, places)`, `scale_bias` `(bands,)` from `self.scale`.
        """
        x = self.snap(F.relu(x))
        more = _mix(self.middle.weight[None], x) + self.middle.bias.to(x.dtype)[:, None]
        x = self.snap(x + F.relu(more))
        x = _mix(self.last[None], x).to(self.scale.dtype)
        mean, scale = x.unbind(2)
        return self.snap(mean), self.snap(scale + scale_bias[:, None])

    def snap(self, x: torch.Tensor) -> torch.Tensor:
        """In fixed point: round to multiples of 1/256, within +-2048. Else: nothing."""
        if not self.fixed_point:
            return x
        return x.mul(256).add_(0.5).floor_().clamp_(-(2**19), 2**19).div_(256)

    # ---- All of it ----

    def forward(self, coefficients: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rounded coefficients -> pictures in [0, 1], not clipped, and estimated bits `(N,)`."""
        bits = 0.0
        # The entropy model is most of the work, and autocast would cast its inputs again and again.
        is_fast = torch.is_autocast_enabled(coefficients[0].device.type)
        seen = [x.bfloat16() if is_fast else x for x in coefficients]

        def estimate(number, low):
            nonlocal bits
            x = self.around(number, seen, self.view_for(number, low.to(seen[0].dtype)))
            x = x + _mix(self.own_weights(number), _before(seen[number]))
            bias = self.scale[number, : groups()[number].bands]
            mean, scale = self.predict(x, bias)
            residual = coefficients[number].flatten(2) - mean
            bits = bits + laplace_bits(residual, scale).sum((1, 2))

        pictures = self.walk(coefficients, estimate)
        return pictures, bits

    def walk(self, coefficients: list[torch.Tensor], visit: Callable | None = None) -> torch.Tensor:
        """Go through the groups in the order of decoding, and draw the pictures, not clipped.

        `visit(number, low)` may look at `coefficients[number]` or fill it; `low` is the plane of
        this colour so far, of the same size.
        """
        planes = [torch.zeros_like(x) for x in coefficients[:3]]
        for number, group in enumerate(groups()):
            if visit:
                visit(number, planes[group.colour])
            finest = self.gained(number, coefficients[number])
            if group.bands == 1:
                planes[group.colour] = finest
            else:
                planes[group.colour] = self.snap(join(planes[group.colour], finest))
        return self.synthesis(planes, finest)

    def to_fixed_point(self) -> "ArchiveModel":
        """Bring the model into fixed point, in place: what encodes and decodes files.

        Its weights must be multiples of 2^-12 already, as a file has them.
        """
        self.fixed_point = True
        return self.double().eval().requires_grad_(False)

    def code(self, coefficients: list[torch.Tensor], visit: Callable) -> torch.Tensor:
        """Encode or decode coefficients, float64, and draw the pictures; in fixed point only.

        `visit(mean, scale, values)` gets many coefficients that do not depend on each other, and
        returns what a decoder will have in place of these values. All are `(N, places)`.
        """

        def code_group(number, low):
            view = self.view_for(number, low)
            weights = self.own_weights(number)
            for band in range(groups()[number].bands):
                one = slice(band, band + 1)
                around = self.around(number, coefficients, view, one)
                bias = self.scale[number, one]
                self._code_band(coefficients[number][:, band], around, weights[band], bias, visit)

        return self.walk(coefficients, code_group)

    def _code_band(
        self,
        band: torch.Tensor,
        around: torch.Tensor,
        weights: torch.Tensor,
        bias: torch.Tensor,
        visit: Callable,
    ) -> None:
        """Go through a band `(N, h, w)` along its diagonals, and fill it in place."""
        count, height, width = band.shape
        # Two rows above and two columns on each side, so that every place has its neighbours.
        padded = band.new_zeros(count, (height + 2) * (width + 4))
        offsets = torch.tensor([down * (width + 4) + right for down, right in BEFORE])
        for rows, columns in diagonals(height, width):
            at = (rows + 2) * (width + 4) + columns + 2
            values = padded[:, at + offsets[:, None]][:, None]  # (N, 1, 12, places)
            values = torch.cat([values, values.abs()], 2)
            x = around[..., rows * width + columns] + _mix(weights[None], values)
            mean, scale = self.predict(x, bias)
            padded[:, at] = visit(mean[:, 0], scale[:, 0], band[:, rows, columns])
        band.copy_(padded.view(count, height + 2, width + 4)[:, 2:, 2:-2])


@cache
def diagonals(height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Rows and columns of places that are decoded at once.

    A row is `SLANT` columns behind the one above it, so that `BEFORE` are known.
    """
    result = []
    for number in range(width + SLANT * (height - 1)):
        first = max(0, -(-(number - width + 1) // SLANT))
        rows = torch.arange(first, min(height - 1, number // SLANT) + 1)
        result.append((rows, number - SLANT * rows))
    return result


def _mix(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A linear layer at each place: `(bands, outputs, inputs)` times `(N, bands, inputs, places)`.

    Where one of both has one band only, it serves all.
    """
    count, bands = x.shape[:2]
    weights = weights.to(x.dtype)
    if bands == 1:
        # All bands look at the same: one product with all their weights.
        together = weights.flatten(0, 1).expand(count, -1, -1)
        return torch.bmm(together, x[:, 0]).unflatten(1, weights.shape[:2])
    # Without `expand`, matmul would copy all of `x` into another order.
    weights = weights.expand(count, bands, -1, -1).flatten(0, 1)
    return torch.bmm(weights, x.flatten(0, 1)).unflatten(0, (count, bands))


def _around(x: torch.Tensor) -> torch.Tensor:
    """The 3x3 places around each of `(N, bands, h, w)`: `(N, bands, 9, h * w)`."""
    return F.unfold(x.flatten(0, 1)[:, None], 3, padding=1).unflatten(0, x.shape[:2])


def _before(x: torch.Tensor) -> torch.Tensor:
    """The `BEFORE` neighbours of `(N, bands, h, w)`, with magnitudes: `(N, bands, 24, h * w)`."""
    padded = F.pad(x.flatten(0, 1)[:, None], (2, 2, 2, 0))
    values = F.unfold(padded, (3, 5))[:, : len(BEFORE)]
    return torch.cat([values, values.abs()], 1).unflatten(0, x.shape[:2])


def _thrice(weights: torch.Tensor, side: int) -> torch.Tensor:
    """Weights `(outputs, side * side)` of a neighbourhood, for each of three bands.

    Details along columns are seen as those along rows, turned over.
    """
    turned = weights.unflatten(1, (side, side)).mT.flatten(1)
    return torch.stack([weights, turned, weights])


# ---- As bytes ----


def pack(model: ArchiveModel, precision: float) -> bytes:
    """The weights of a model, for the file of an archive; `precision` as in `weights.pack`."""
    writer = Writer()
    tensors = model.state_dict()
    exponents, picks = weights.write_tensors(tensors, precisions(tensors, precision), writer)
    head = {"model": model.arguments, "exponents": exponents, "tables": picks}
    return container.part(container.deflate(json.dumps(head))) + writer.finish()


def precisions(tensors: dict[str, torch.Tensor], precision: float) -> dict[str, float]:
    """How finely the tensors that hold nearly all weights are rounded, by name."""
    result = {}
    for name, tensor in tensors.items():
        if tensor.numel() >= 200:
            result[name] = precision * (6 if name in SENSITIVE else 1)
    return result


def unpack(packed: bytes) -> ArchiveModel:
    """The model of `pack`, in fixed point. Raises CorruptFileError."""
    head, stream = container.take_part(packed)
    with weights.forgery_named():
        head = json.loads(container.inflate(head))
        # Its first random weights are overwritten, and nobody else's numbers change by them.
        with torch.random.fork_rng([]):
            model = ArchiveModel(**head["model"]).double()
        weights.read_tensors(model.state_dict(), head["exponents"], head["tables"], Reader(stream))
    return model.to_fixed_point()


def write(model: ArchiveModel, coefficients: list[torch.Tensor], writer: Writer) -> None:
    """Write coefficients, each clipped to what the tables can hold."""

    def visit(mean, scale, values):
        whole, eighths = split_mean(mean.numpy())
        symbols = values.round().numpy().astype(np.int64) - whole
        numbers = table_of(scale.numpy()) + eighths
        symbols = writer.code(numbers.ravel(), symbols.ravel())
        return torch.from_numpy(symbols.reshape(whole.shape) + whole).double()

    _code(model, coefficients, visit)


def read(model: ArchiveModel, count: int, height: int, width: int, reader: Reader) -> np.ndarray:
    """Read pictures of so many pixels, uint8 `(count, height, width, 3)`.

    Raises CorruptFileError.
    """
    coefficients = []
    for bands, rows, columns in model.shapes(height, width):
        coefficients.append(torch.zeros(count, bands, rows, columns, dtype=torch.float64))

    def visit(mean, scale, values):
        whole, eighths = split_mean(mean.numpy())
        numbers = table_of(scale.numpy()) + eighths
        symbols = reader.code(numbers.ravel())
        return torch.from_numpy(symbols.reshape(whole.shape) + whole).double()

    return data.to_bytes(_code(model, coefficients, visit))


def _code(model: ArchiveModel, coefficients: list[torch.Tensor], visit: Callable) -> torch.Tensor:
    with one_thread(), torch.inference_mode(), torch.autocast("cpu", enabled=False):
        coefficients = [x.double().clone() for x in coefficients]
        return model.code(coefficients, visit)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work with one thread.

    In small layers two would wait for each other, the longer the busier the machine is.
    """
    threads = torch.get_num_threads()  # set for the whole process, so it is set back
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
