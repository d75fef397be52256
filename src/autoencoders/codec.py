"""Files of the learned codec: what the entropy model expects, turned into bytes by a range coder, and back to the same integers.

Between a file and its symbols stands no floating-point result that another machine might round otherwise: the weights are integers
times powers of two, the entropy model runs in fixed point, which float64 holds exactly whatever the order of its sums (Balle et al.
2019, "Integer networks for data compression with latent-variable models"), and its scale picks one of a few integer tables.
"""

import json
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Context, Decimal, localcontext
from functools import cache
from pathlib import Path

import constriction
import numpy as np
import torch

from autoencoders import data
from autoencoders.course import CorruptFileError
from autoencoders.models import LearnedCodec, laplace_bits

MAGIC = b"AE"
VERSION = 1
PICTURE, COLLECTION, ARCHIVE, WEIGHTS = range(4)
MAX_PIXELS = (
    4096 * 4096
)  # of one picture, sides rounded up to multiples of 8; sixteen times as many in one file
MAX_WEIGHTS = 2**22
MAX_LIST = 2**23  # bytes of the names and sizes of a file, before zlib
ALONE = 32 * 32  # latent places of a picture, up to which one thread codes it
TILE, HALO = (
    64,
    8,
)  # latent places, of 8x8 pixels each: what is decoded and developed at once, and what the networks see around it
WEIGHTS_FILE = Path(__file__).with_name("codec.aew")


# ---- Symbols: integers around an expected value, coded with the table that their expected spread picks ----


@cache
def tables() -> list[tuple[int, constriction.stream.model.Categorical]]:
    """For each scale 2^(i/4 - 4), i = 0 to 49, the largest symbol and the coder's model of a Laplace distribution's bins.

    Symbols run from minus to plus the largest one, beyond what is likely, so that a wrong guess costs bits instead of being cut off.
    The probabilities come from decimal arithmetic, the same on every machine.
    """
    result = []
    with localcontext(Context(prec=30)):  # not the caller's precision, which may be another
        for i in range(50):
            scale = (Decimal(i - 16) / 4 * Decimal(2).ln()).exp()
            limit = max(
                64, int(18 * scale + Decimal("1e-9")) + 3
            )  # where 18 * scale is whole, whichever way it was rounded
            ratio, half = (-1 / scale).exp(), (-1 / (2 * scale)).exp()
            side = [
                (1 / half - half) / 2 * ratio
            ]  # P(1), P(2), ...: each the one before times exp(-1/scale)
            while len(side) < limit:
                side.append(side[-1] * ratio)
            masses = np.array(
                [max(1, int(p * 2**30)) for p in [*side[::-1], 1 - half, *side]], np.float64
            )
            result.append(
                (limit, constriction.stream.model.Categorical(masses / 2**30, perfect=False))
            )
    return result


def table_of(log2_scale: np.ndarray) -> np.ndarray:
    """The index into `tables` that is next to a scale."""
    return np.clip(np.floor(4 * log2_scale + 0.5) + 16, 0, 49).astype(np.int64)


class Writer:
    """Turns symbols into bytes."""

    def __init__(self):
        self.coder = constriction.stream.queue.RangeEncoder()

    def code(self, table: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Write symbols, each with its table, both `(n,)`; returns them, clipped to what the tables hold."""
        limits, order, runs = _plan(table)
        result = np.clip(symbols, -limits, limits)
        shifted = (result + limits)[order].astype(np.int32)
        for model, part in runs:
            self.coder.encode(shifted[part], model)
        return result

    def finish(self) -> bytes:
        """The fewest bytes that point into the coder's last interval; zeros may follow them."""
        words, (low, width) = self.coder.pos()
        head = int.from_bytes(self.coder.get_compressed()[:words].astype(">u4").tobytes(), "big")
        head -= (
            low + 2**32 > 2**64
        )  # get_compressed has carried into the words before, where we may not have to
        for count in range(9):
            unit = 1 << (64 - 8 * count)
            tail = -(-low // unit) * unit
            if tail < low + width:
                return ((head << 64) + tail).to_bytes(4 * words + 8, "big").rstrip(b"\0")
        raise AssertionError("an empty interval")


class Reader:
    """Turns bytes of a `Writer` into the same symbols."""

    def __init__(self, body: bytes):
        padded = body + bytes(16 - len(body) % 4)
        self.coder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(padded, ">u4").astype(np.uint32)
        )

    def code(self, table: np.ndarray) -> np.ndarray:
        """Read the symbols that were written with these tables, `(n,)`."""
        limits, order, runs = _plan(table)
        shifted = np.empty(len(table), np.int64)
        try:
            for model, part in runs:
                shifted[part] = self.coder.decode(model, part.stop - part.start)
        except AssertionError:
            raise CorruptFileError(
                "a bit stream that no encoder writes: encode the picture again"
            ) from None
        result = np.empty_like(shifted)
        result[order] = shifted
        return result - limits


def _plan(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
    """For symbols with these tables, `(n,)`: the largest of each, in which order they are coded, and which part of that by which model."""
    counts = np.bincount(table)
    ends = counts.cumsum()
    runs = [(tables()[i][1], slice(ends[i] - counts[i], ends[i])) for i in counts.nonzero()[0]]
    return np.array([limit for limit, _ in tables()])[table], np.argsort(table, kind="stable"), runs


# ---- Weights: integers times a power of two for each tensor ----


def pack(model: LearnedCodec, precision: float = 64.0, decoder_only: bool = False) -> bytes:
    """The weights as a file: each tensor in steps of about its spread / `precision`, entropy-coded; without the analysis if wanted."""
    tensors = _tensors(model, decoder_only)
    writer, exponents, picks = Writer(), [], []
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().double().flatten().numpy()
        spread = np.sqrt(np.mean(values**2)) + 1e-9
        most = np.log2(
            tables()[-1][0] / (np.abs(values).max() + 1e-9)
        )  # steps that are this fine still fit the widest table
        if not most >= 0:
            raise ValueError(
                f"weights {name!r} reach from {values.min():.3g} to {values.max():.3g}: expected none so far out; train again"
            )
        fine = 10 if tensor.dim() < 4 else np.clip(np.ceil(np.log2(precision / spread)), 0, 12)
        exponents.append(int(min(fine, np.floor(most))))
        steps = np.rint(values * 2.0 ** exponents[-1]).astype(np.int64)
        picks.append(_cheapest(steps))
        writer.code(np.full(steps.size, picks[-1]), steps)
    head = json.dumps(
        {
            "model": model.arguments,
            "decoder_only": decoder_only,
            "exponents": exponents,
            "tables": picks,
        }
    )
    return _seal(WEIGHTS, 0, _chunk(_squeeze(head)) + writer.finish())


def _cheapest(steps: np.ndarray) -> int:
    """The table that codes these symbols in the fewest bits."""
    sizes, counts = (
        torch.from_numpy(part) for part in np.unique(np.abs(steps), return_counts=True)
    )
    fits = [i for i, (limit, _) in enumerate(tables()) if limit >= sizes[-1]]
    return min(
        fits,
        key=lambda i: (counts * laplace_bits(sizes.double(), torch.tensor((i - 16) / 4))).sum(),
    )


def unpack(file: bytes) -> LearnedCodec:
    """The model of a file of `pack`, its entropy model in fixed point: what encodes and decodes. Raises CorruptFileError."""
    kind, _, body = _open(file, 0)
    if kind != WEIGHTS:
        raise CorruptFileError(
            f"a file of kind {kind}: expected weights ({WEIGHTS}), as pack writes them"
        )
    head, body = _cut(body)
    try:
        head, reader = json.loads(_loosen(head)), Reader(body)
        with torch.device("meta"):  # no memory before we know how much
            model = LearnedCodec(**head["model"])
        if sum(t.numel() for t in model.state_dict().values()) > MAX_WEIGHTS:
            raise ValueError(f"more than {MAX_WEIGHTS:,} weights")
        for parameter in model.to_empty(device="cpu").parameters():
            torch.nn.init.zeros_(parameter)  # an analysis that is not in the file
        tensors = _tensors(model, head["decoder_only"])
        for tensor, exponent, pick in zip(
            tensors.values(), head["exponents"], head["tables"], strict=True
        ):
            if not (0 <= exponent <= 12 and 0 <= pick < len(tables())):
                raise ValueError(f"exponent {exponent}, table {pick}")
            steps = reader.code(np.full(tensor.numel(), pick)) / 2.0**exponent
            tensor.data.copy_(torch.from_numpy(steps).view(tensor.shape))
    except CorruptFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise CorruptFileError(
            f"weights that no program wrote ({type(error).__name__}: {error}): get the file again"
        ) from None
    model.fixed_gains = torch.stack([tensors[name] for name in ("gain", "inverse", "shift")])
    model.identity = zlib.crc32(file)
    model.fixed_point = True
    model.to(memory_format=torch.channels_last)
    model.context.double()  # sums of multiples of 2^-20, far below 2^33: exact in any order
    return model.eval().requires_grad_(False)


def _tensors(model: LearnedCodec, decoder_only: bool) -> dict[str, torch.Tensor]:
    """What is packed, by name, in a fixed order: gains as they are used, not their logarithm."""
    left_out = ("log_gain", "analysis") if decoder_only else ("log_gain",)
    tensors = {name: t for name, t in model.state_dict().items() if not name.startswith(left_out)}
    return tensors | dict(
        zip(("gain", "inverse", "shift"), model.gains().detach().double(), strict=True)
    )


@cache
def shipped() -> LearnedCodec:
    """The model that comes with the program, trained on renders alone. Raises ValueError where its file is missing or damaged."""
    if not WEIGHTS_FILE.exists():
        raise ValueError(
            f"no {WEIGHTS_FILE.name} beside codec.py: expected the weights that come with the program; install it again"
        )
    return unpack(WEIGHTS_FILE.read_bytes())


# ---- Pictures ----


def encode(picture: np.ndarray, quality: int = 5, model: LearnedCodec | None = None) -> bytes:
    """A file of one uint8 picture `(H, W, 3)`, up to 4096 x 4096 pixels, in a quality from 1 (small) to 8. Raises ValueError.

    The weights are not in it: whoever decodes needs the same program (`shipped`), or the same `model`.
    """
    model, level = _model(model), _level(model or shipped(), quality)
    height, width = _checked(picture)
    check_sizes([(width, height)])
    writer = Writer()
    _write(model, level, picture, writer)
    return _seal(
        PICTURE, level, _number(width - 1) + _number(height - 1) + writer.finish(), model.identity
    )


def decode(file: bytes, model: LearnedCodec | None = None) -> np.ndarray:
    """The uint8 picture `(H, W, 3)` of a file of `encode`. Raises CorruptFileError for anything else."""
    about = info(file, model)
    if len(about["sizes"]) != 1:
        raise CorruptFileError(
            f"{len(about['sizes'])} pictures in the file: expected one; use decode_all"
        )
    return next(_read_all(about))[1]


def encode_all(
    pictures: Mapping[str, np.ndarray], quality: int = 5, model: LearnedCodec | None = None, precision: float | None = None,
    latents: torch.Tensor | None = None,
) -> Iterator[bytes]:  # fmt: skip
    """One file of many pictures by name, and with `precision` also of the decoder: yields b"" after each picture, then the file.

    With the decoder in it, the file needs nothing but this program. `precision` is how many steps a weight's spread is
    rounded to; `model` then is one that `fit_codec` has trained. `latents` `(N, channels, h, w)`, for pictures of one size, are
    coded instead of the analysis'. A name is that of a file, without folders. Raises ValueError.
    """
    names, sizes = list(pictures), [_checked(picture)[::-1] for picture in pictures.values()]
    check_names(names)
    check_sizes(sizes)
    weights = b"" if precision is None else pack(model, precision, decoder_only=True)
    analysis = model
    model = unpack(weights) if weights else _model(model)
    level, writer = _level(model, quality), Writer()
    wanted = [
        (len(names), sum(model.groups), -(-height // 8), -(-width // 8)) for width, height in sizes
    ]
    if latents is not None and (
        any(tuple(latents.shape) != shape for shape in wanted)
        or not torch.as_tensor(latents).isfinite().all()
    ):
        shapes = " and ".join(map(str, dict.fromkeys(wanted)))
        raise ValueError(
            f"latents of shape {tuple(latents.shape)}: expected {shapes}, all finite, as the analysis returns them"
        )
    for i, picture in enumerate(pictures.values()):
        _write(
            model,
            level,
            picture,
            writer,
            analysis,
            None if latents is None else torch.as_tensor(latents[i : i + 1]),
        )
        yield b""
    head = _chunk(_squeeze(json.dumps([names, sizes], ensure_ascii=False)))
    kind = ARCHIVE if weights else COLLECTION
    yield _seal(
        kind,
        level,
        (_chunk(weights) if weights else b"") + head + writer.finish(),
        0 if weights else model.identity,
    )


def decode_all(file: bytes, model: LearnedCodec | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 pictures of any file of this codec, one by one; a file of one picture has no name. Raises CorruptFileError."""
    return _read_all(info(file, model))


def _read_all(about: dict) -> Iterator[tuple[str, np.ndarray]]:
    reader = Reader(about["stream"])
    for name, (width, height) in zip(about["names"], about["sizes"], strict=True):
        yield name, _read(about["model"], about["quality"] - 1, height, width, reader)


def info(file: bytes, model: LearnedCodec | None = None) -> dict:
    """What a file says of itself: version, kind, quality, names, sizes (width, height), bytes of header, decoder and latents."""
    version, kind, _ = _first(file)
    if kind == WEIGHTS:
        raise CorruptFileError("a file of weights alone: expected pictures")
    model = None if kind == ARCHIVE else _model(model)
    _, level, body = _open(file, 0 if kind == ARCHIVE else model.identity)
    decoder = b""
    if kind == ARCHIVE:
        decoder, body = _cut(body)
        model = unpack(decoder)
    if kind == PICTURE:
        (width, body), names = _take(body), [""]
        height, body = _take(body)
        sizes = [(width + 1, height + 1)]
    else:
        head, body = _cut(body)
        names, sizes = [], []
    try:
        if kind != PICTURE:
            names, sizes = json.loads(_loosen(head))
            check_names(names)
        check_sizes(sizes)
        sizes = [tuple(size) for size in sizes]
        if len(names) != len(sizes) or level >= len(model.log_gain):
            raise ValueError(f"{len(names)} names, {len(sizes)} sizes, quality {level + 1}")
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFileError(
            f"a list of pictures that no program wrote ({error}): encode them again"
        ) from None
    about = {
        "version": version,
        "kind": ("picture", "collection", "archive")[kind],
        "quality": level + 1,
        "names": names,
        "sizes": sizes,
    }
    lengths = {
        "header": len(file) - len(decoder) - len(body),
        "decoder": len(decoder),
        "latents": len(body),
    }
    return about | {"bytes": lengths, "stream": body, "model": model}


def _model(model: LearnedCodec | None) -> LearnedCodec:
    model = model or shipped()
    if not model.fixed_point:
        raise ValueError(
            "a model in floating point: expected one in fixed point, which every machine computes alike; use unpack(pack(model))"
        )
    return model


def _level(model: LearnedCodec, quality: int) -> int:
    if not (isinstance(quality, int) and 1 <= quality <= len(model.log_gain)):
        raise ValueError(
            f"quality={quality!r}: expected a whole number from 1, the smallest files, to {len(model.log_gain)}"
        )
    return quality - 1


def _checked(picture: np.ndarray) -> tuple[int, int]:
    about = f"a picture of shape {getattr(picture, 'shape', None)}, {getattr(picture, 'dtype', type(picture).__name__)}"
    if (
        not isinstance(picture, np.ndarray)
        or picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or not picture.size
    ):
        raise ValueError(
            f"{about}: expected uint8 (height, width, 3); use data.to_bytes for tensors"
        )
    return picture.shape[:2]


def check_sizes(sizes: list) -> None:
    """Refuse sizes (width, height) that no file holds: what is declared bounds what a decoder allocates."""
    total = 0
    for width, height in sizes:
        pixels = -(-width // 8) * -(-height // 8) * 64
        if not (
            type(width) is type(height) is int and min(width, height) > 0 and pixels <= MAX_PIXELS
        ):
            raise ValueError(
                f"{width!r}x{height!r} pixels: expected 1 to {MAX_PIXELS:,}, such as 4096x4096; make the picture smaller, or cut it"
            )
        total += pixels
    if total > 16 * MAX_PIXELS:
        raise ValueError(
            f"{total:,} pixels in {len(sizes)} pictures: expected at most {16 * MAX_PIXELS:,} in a file; make several files"
        )


def check_names(names: list) -> None:
    """Refuse names that are no plain file names, or not different: they become files in somebody's folder."""
    if not isinstance(names, list) or not 1 <= len(names) <= 10_000:
        raise ValueError(
            f"{len(names)} names: expected a list of 1 to 10,000 pictures; make several files"
        )
    for name in names:
        plain = (
            isinstance(name, str)
            and name not in ("", ".", "..")
            and len(name.encode(errors="replace")) < 256
        )
        if not plain or any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cs") for c in name):
            raise ValueError(
                f"the name {name!r}: expected that of a file, without folders and control characters; rename it"
            )
    if len(set(names)) < len(names):
        raise ValueError(
            f"the name {Counter(names).most_common(1)[0][0]!r} twice: expected different ones; rename a picture"
        )


def _tiles(
    height: int, width: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], tuple[slice, slice]]]:
    """For each tile of a latent grid: its places, those with the halo around them, and where it lies among the latter."""
    for i in range(0, height, TILE):
        for j in range(0, width, TILE):
            ends = min(i + TILE, height), min(j + TILE, width)
            tops = max(i - HALO, 0), max(j - HALO, 0)
            inner = tuple(slice(a, b) for a, b in zip((i, j), ends, strict=True))
            outer = tuple(
                slice(t, min(b + HALO, n))
                for t, b, n in zip(tops, ends, (height, width), strict=True)
            )
            yield (
                inner,
                outer,
                tuple(slice(a - t, b - t) for a, b, t in zip((i, j), ends, tops, strict=True)),
            )


@contextmanager
def _exactly(places: int) -> Iterator[None]:
    """No gradients, no autocast, and one thread for a small picture: where the machine is busy, layer by layer waits for the other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if places <= ALONE else threads)
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_num_threads(threads)


def _write(
    model: LearnedCodec,
    level: int,
    picture: np.ndarray,
    writer: Writer,
    analysis: LearnedCodec | None = None,
    latents: torch.Tensor | None = None,
) -> None:
    height, width = (-(-side // 8) for side in picture.shape[:2])
    padded = np.pad(
        picture,
        ((0, 8 * height - picture.shape[0]), (0, 8 * width - picture.shape[1]), (0, 0)),
        mode="edge",
    )
    quality = torch.tensor([level])

    def visit(values, mean, scale):
        symbols = writer.code(
            table_of(scale.numpy()).ravel(),
            (values - mean).round().numpy().astype(np.int64).ravel(),
        )
        return mean + torch.from_numpy(symbols).view(mean.shape)

    with _exactly(height * width):
        for inner, outer, within in _tiles(height, width):
            rows, columns = (slice(8 * part.start, 8 * part.stop) for part in outer)
            if latents is None:
                part = (analysis or model).analysis(data.to_float(padded[None, rows, columns]))[
                    :, :, *within
                ]
            else:
                part = latents[:, :, *inner]
            model.walk(part.double(), quality, visit)


def _read(model: LearnedCodec, level: int, rows: int, columns: int, reader: Reader) -> np.ndarray:
    height, width = -(-rows // 8), -(-columns // 8)
    shape = 1, sum(model.groups), height, width
    quality, latents = (
        torch.tensor([level]),
        torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last),
    )
    picture = np.empty((8 * height, 8 * width, 3), np.uint8)

    def visit(values, mean, scale):
        return mean + torch.from_numpy(reader.code(table_of(scale.numpy()).ravel())).view(
            mean.shape
        )

    with _exactly(height * width):
        for inner, _, _ in _tiles(height, width):
            latents[:, :, *inner] = model.walk(
                torch.zeros_like(latents[:, :, *inner], dtype=torch.float64), quality, visit
            )
        for inner, outer, within in _tiles(height, width):
            tile = data.to_bytes(model.synthesis(latents[:, :, *outer], quality))[0]
            target, source = (
                tuple(slice(8 * part.start, 8 * part.stop) for part in parts)
                for parts in (inner, within)
            )
            picture[target] = tile[source]
    return picture[:rows, :columns]


# ---- Bytes ----


def _seal(kind: int, level: int, body: bytes, identity: int = 0) -> bytes:
    """Magic, a byte of version, kind and quality level, CRC-32 of all the rest and of the weights that it takes to decode, body."""
    first = MAGIC + bytes([VERSION << 5 | kind << 3 | level])
    return first + zlib.crc32(first + body, identity).to_bytes(4, "little") + body


def _first(file: bytes) -> tuple[int, int, int]:
    if len(file) < 7 or file[:2] != MAGIC:
        raise CorruptFileError(
            f"{len(file)} bytes that begin with {bytes(file[:2])!r}: expected a file of this codec, which begins with {MAGIC!r}"
        )
    version, kind, level = file[2] >> 5, file[2] >> 3 & 3, file[2] & 7
    if version != VERSION:
        raise CorruptFileError(
            f"version {version} of the format: expected {VERSION}; decode it with the program that wrote it"
        )
    return version, kind, level


def _open(file: bytes, identity: int) -> tuple[int, int, bytes]:
    _, kind, level = _first(file)
    body = file[7:]
    if zlib.crc32(file[:3] + body, identity) != int.from_bytes(file[3:7], "little"):
        raise CorruptFileError(
            f"{len(file)} bytes with a wrong checksum: damaged, cut short, or written with other weights; copy or encode it again"
        )
    return kind, level, body


def _number(value: int) -> bytes:
    """Seven bits a byte, low ones first; the top bit says that more follow."""
    head = bytearray()
    while value > 127:
        head.append(value & 127 | 128)
        value >>= 7
    return bytes([*head, value])


def _take(body: bytes) -> tuple[int, bytes]:
    """A number of `_number` and what follows it."""
    value = 0
    for i, byte in enumerate(body[:5]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, body[i + 1 :]
    raise CorruptFileError("a number that does not end: encode the picture again")


def _chunk(part: bytes) -> bytes:
    return _number(len(part)) + part


def _cut(body: bytes) -> tuple[bytes, bytes]:
    length, body = _take(body)
    if length > len(body):
        raise CorruptFileError(
            f"a part of {length} bytes where {len(body)} are left: copy or encode the file again"
        )
    return body[:length], body[length:]


def _squeeze(text: str) -> bytes:
    return zlib.compress(text.encode(), 9)


def _loosen(packed: bytes) -> str:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, MAX_LIST)
        if not inflater.eof or inflater.unused_data:
            raise ValueError("too long, or cut short")
        return text.decode()
    except (zlib.error, ValueError) as error:
        raise CorruptFileError(
            f"a header that zlib refuses ({error}): copy or encode the file again"
        ) from None
