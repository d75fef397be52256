"""Files of pictures: what the entropy model expects, turned into bytes, and back to the same bytes.

A file holds one picture, a collection by name, or an archive, which has the decoder in it too.
`quality` counts from 1, the smallest files; the network's level is one less.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from autoencoders import data
from autoencoders.codec import archive, container, weights
from autoencoders.codec.archive import ArchiveModel
from autoencoders.codec.container import CorruptFileError, check_names, check_sizes
from autoencoders.codec.model import LearnedCodec
from autoencoders.codec.range_coder import Reader, Writer, table_of

QUALITY = 5
BLOCK = 8  # pixels to a latent place, each way
# A picture is coded tile by tile, so that a large one takes little memory. In latent places:
TILE = 64  # what is coded at once
HALO = 8  # what the networks see around it
ALONE = 32 * 32  # up to here one thread codes a picture
AT_ONCE = 2**18  # pixels of an archive that are coded at once: for ever, as the format is


def encode(
    picture: np.ndarray,
    quality: int = QUALITY,
    model: LearnedCodec | None = None,
    latents: torch.Tensor | None = None,
) -> bytes:
    """A file of one uint8 picture `(H, W, 3)`, up to 4096 x 4096 pixels.

    `quality` is from 1 (small) to 8. The weights are not in the file: whoever decodes needs the
    same program (`shipped`), or the same `model`. `latents` `(1, channels, h, w)`, such as those of
    `refine`, are coded instead of those that the model's encoder finds. Raises ValueError.
    """
    model = checked_model(model)
    level = level_of(model, quality)
    width, height = size = _size(picture)
    check_sizes([size])
    source = from_pixels(model, picture)
    if latents is not None:
        source = from_latents(_checked_latents(latents, model, picture))
    writer = Writer()
    _write(model, level, size, source, writer)
    # Sides count from 0 here, so that up to 128 pixels take one byte.
    head = container.number(width - 1) + container.number(height - 1)
    return container.seal(container.PICTURE, level, head + writer.finish(), model.identity)


def decode(file: bytes, model: LearnedCodec | None = None) -> np.ndarray:
    """The uint8 picture `(H, W, 3)` of a file of `encode`.

    Raises CorruptFileError for anything else.
    """
    opened = _open(file, model)
    if len(opened.sizes) != 1:
        raise CorruptFileError(
            f"{len(opened.sizes)} pictures in the file: expected one; use decode_all"
        )
    _, picture = next(_read_all(opened))
    return picture


def encode_all(
    pictures: Mapping[str, np.ndarray],
    quality: int = QUALITY,
    model: LearnedCodec | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
    latents_for: Callable[[np.ndarray], torch.Tensor] | None = None,
) -> bytes:
    """One file of many pictures by name; otherwise like `encode`.

    A name is that of a file, without folders. `progress` goes around the loop over the pictures, as
    `tqdm` does. `latents_for(picture)` gives the latents of each, such as `refine` with a quality.
    Raises ValueError.
    """
    head = _list(pictures)
    model = checked_model(model)
    level = level_of(model, quality)
    # One range coder for all pictures: each further one costs no bytes of its own.
    writer = Writer()
    for picture in progress(pictures.values()):
        source = from_pixels(model, picture)
        if latents_for is not None:
            source = from_latents(_checked_latents(latents_for(picture), model, picture))
        _write(model, level, _size(picture), source, writer)
    return container.seal(container.COLLECTION, level, head + writer.finish(), model.identity)


def encode_archive(
    pictures: Mapping[str, np.ndarray],
    model: ArchiveModel,
    coefficients: list[torch.Tensor],
    precision: float,
    progress: Callable[[Iterable], Iterable] = iter,
) -> bytes:
    """One file of pictures of one size, with the decoder in it: it needs nothing but this program.

    `model` was trained for these pictures, and so were their `coefficients`, a tensor `(N, bands,
    h, w)` for each group of `archive.groups`. `precision` is that of `archive.pack`. Raises
    ValueError.
    """
    head = _list(pictures)
    sizes = [_size(picture) for picture in pictures.values()]
    check_archive(sizes)
    size = sizes[0]
    height, width = archive_shape(size)
    expected = [(len(pictures), *shape) for shape in model.shapes(height, width)]
    given = [tuple(x.shape) for x in coefficients]
    if given != expected or not all(x.isfinite().all() for x in coefficients):
        raise ValueError(f"coefficients of shapes {given}: expected {expected}, all finite")
    packed = archive.pack(model, precision)
    # What the receiver will have, with rounded weights, is what predicts here too.
    receiver = archive.unpack(packed)
    writer = Writer()
    for chosen in progress(_batches(len(pictures), size)):
        archive.write(receiver, [x[chosen] for x in coefficients], writer)
    body = container.part(packed) + head + writer.finish()
    return container.seal(container.ARCHIVE, 0, body)


def archive_shape(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the pictures that an archive codes in place of (width, height) pixels."""
    width, height = size
    return archive.UNIT * -(-height // archive.UNIT), archive.UNIT * -(-width // archive.UNIT)


def check_archive(sizes: list[tuple[int, int]]) -> None:
    """Raise ValueError for sizes (width, height) that no archive holds together."""
    different = sorted(set(sizes))
    if len(different) != 1:
        listed = ", ".join(f"{width}x{height}" for width, height in different[:5]) or "no"
        raise ValueError(
            f"pictures of {listed} pixels: an archive with its decoder expects all of one size; "
            "resize them"
        )
    height, width = archive_shape(different[0])
    if height * width > container.MAX_ARCHIVE_PIXELS:
        width, height = different[0]
        raise ValueError(
            f"pictures of {width}x{height} pixels: an archive with its decoder expects at most "
            f"{container.MAX_ARCHIVE_PIXELS:,} in each, such as 800x640; resize them"
        )


def _batches(count: int, size: tuple[int, int]) -> list[slice]:
    """How many pictures of an archive are coded together, to bound the memory."""
    height, width = archive_shape(size)
    together = max(1, AT_ONCE // (height * width))
    return [slice(i, min(i + together, count)) for i in range(0, count, together)]


def decode_all(file: bytes, model: LearnedCodec | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 pictures of any file of this codec, one by one.

    A file of one picture has no name. Raises CorruptFileError.
    """
    return _read_all(_open(file, model))


def info(file: bytes, model: LearnedCodec | None = None) -> dict:
    """What a file says of itself: "version", "kind", "quality", "names", "sizes" and "bytes".

    Sizes are (width, height) in pixels; bytes are those of "header", "decoder" and "latents".
    Raises CorruptFileError.
    """
    opened = _open(file, model)
    # All that is left: the first seven bytes, lengths, names and sizes.
    header = len(file) - len(opened.decoder) - len(opened.stream)
    return {
        "version": container.start(file).version,
        "kind": container.KINDS[opened.kind],
        "quality": opened.level + 1,
        "names": opened.names,
        "sizes": opened.sizes,
        "bytes": {
            "header": header,
            "decoder": len(opened.decoder),
            "latents": len(opened.stream),
        },
    }


# ---- From bytes to what they declare ----


class _Opened(NamedTuple):
    """A file, checked and taken apart; `stream` is what the range coder wrote."""

    kind: int
    level: int
    names: list[str]
    sizes: list[tuple[int, int]]
    decoder: bytes
    stream: bytes
    model: LearnedCodec | ArchiveModel


def _open(file: bytes, model: LearnedCodec | None) -> _Opened:
    _, kind, level = container.start(file)
    if kind == container.WEIGHTS:
        raise CorruptFileError("a file of weights alone: expected pictures")
    # Which weights it takes is known first: the checksum depends on them.
    decoder = b""
    if kind == container.ARCHIVE:
        decoder, body = container.take_part(container.unseal(file))
        model = archive.unpack(decoder)
    else:
        model = checked_model(model)
        body = container.unseal(file, model.identity)
    try:
        if kind == container.PICTURE:
            width, body = container.take_number(body)
            height, body = container.take_number(body)
            names, sizes = [""], [[width + 1, height + 1]]
        else:
            head, body = container.take_part(body)
            names, sizes = json.loads(container.inflate(head))
            check_names(names)
        # Whoever forged the file has put a right checksum in it.
        check_sizes(sizes)
        # Three bits hold eight levels; a model may have fewer, and that of an archive has one.
        levels = 1 if kind == container.ARCHIVE else model.levels
        if len(names) != len(sizes) or level >= levels:
            raise ValueError(f"{len(names)} names, {len(sizes)} sizes, quality {level + 1}")
        if kind == container.ARCHIVE:
            check_archive([tuple(size) for size in sizes])
    except CorruptFileError:
        raise
    # JSON that is nested too deeply raises RecursionError.
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFileError(
            f"a list of pictures that no program wrote ({error}): encode them again"
        ) from None
    # JSON has lists only; callers get (width, height) as tuples.
    sizes = [tuple(size) for size in sizes]
    return _Opened(kind, level, names, sizes, decoder, body, model)


def _read_all(opened: _Opened) -> Iterator[tuple[str, np.ndarray]]:
    reader = Reader(opened.stream)
    if opened.kind == container.ARCHIVE:
        yield from _read_archive(opened, reader)
        return
    for name, size in zip(opened.names, opened.sizes, strict=True):
        yield name, _read(opened.model, opened.level, size, reader)


def _read_archive(opened: _Opened, reader: Reader) -> Iterator[tuple[str, np.ndarray]]:
    width, height = size = opened.sizes[0]
    for chosen in _batches(len(opened.names), size):
        names = opened.names[chosen]
        pictures = archive.read(opened.model, len(names), *archive_shape(size), reader)
        for name, picture in zip(names, pictures, strict=True):
            yield name, picture[:height, :width]  # without what the encoder has padded


# ---- What callers pass ----


def checked_model(model: LearnedCodec | None) -> LearnedCodec:
    """The model, or the shipped one. Raises ValueError for one in floating point."""
    model = model or weights.shipped()
    if not model.fixed_point:
        raise ValueError(
            "a model in floating point: expected one in fixed point, which every machine computes "
            "alike; use unpack(pack(model))"
        )
    return model


def level_of(model: LearnedCodec, quality: int) -> int:
    """The level, from 0, of a quality, from 1. Raises ValueError."""
    if not (isinstance(quality, int) and 1 <= quality <= model.levels):
        raise ValueError(
            f"{quality=}: expected a whole number from 1, the smallest files, to {model.levels}"
        )
    return quality - 1


def _size(picture: np.ndarray) -> tuple[int, int]:
    """Width and height of a picture. Raises ValueError."""
    # Anything may come here, such as a list, a float array or a grey picture.
    is_array = isinstance(picture, np.ndarray) and picture.size > 0
    if not (is_array and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
        shape = getattr(picture, "shape", None)
        kind = getattr(picture, "dtype", type(picture).__name__)
        raise ValueError(
            f"a picture of shape {shape}, {kind}: expected uint8 (height, width, 3); use "
            "data.to_bytes for tensors"
        )
    height, width = picture.shape[:2]
    return width, height


def _list(pictures: Mapping[str, np.ndarray]) -> bytes:
    """Names and sizes as a part of a file. Raises ValueError."""
    names = list(pictures)
    sizes = [_size(picture) for picture in pictures.values()]
    check_names(names)
    check_sizes(sizes)
    return container.part(container.deflate(json.dumps([names, sizes], ensure_ascii=False)))


def _checked_latents(
    latents: torch.Tensor, model: LearnedCodec, picture: np.ndarray
) -> torch.Tensor:
    latents = torch.as_tensor(latents)
    expected = (1, sum(model.groups), *grid(_size(picture)))
    if tuple(latents.shape) != expected or not latents.isfinite().all():
        raise ValueError(
            f"latents of shape {tuple(latents.shape)}: expected {expected}, all finite, as the "
            "analysis returns them"
        )
    return latents


# ---- Tiles ----


class Span(NamedTuple):
    """A tile along one side of a latent grid: its own places, and those that the networks see.

    `within` is where its own places lie among those that are seen.
    """

    own: slice
    seen: slice
    within: slice


def spans(length: int) -> list[Span]:
    """The tiles along a side of `length` latent places."""
    result = []
    for begin in range(0, length, TILE):  # the last tile may be shorter
        end = min(begin + TILE, length)
        # At the picture's border there is no halo: the layers pad there, as in training.
        first = max(begin - HALO, 0)
        last = min(end + HALO, length)
        within = slice(begin - first, end - first)
        result.append(Span(slice(begin, end), slice(first, last), within))
    return result


def tiles(height: int, width: int) -> Iterator[tuple[Span, Span]]:
    """The tiles of a latent grid, as rows and columns."""
    return product(spans(height), spans(width))


def grid(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the latent grid of a picture of (width, height) pixels."""
    width, height = size
    return -(-height // BLOCK), -(-width // BLOCK)


def pixels_of(places: slice) -> slice:
    """The pixels of latent places, along one side."""
    return slice(BLOCK * places.start, BLOCK * places.stop)


def padded(picture: np.ndarray) -> np.ndarray:
    """A picture with sides that `BLOCK` divides, as it is coded."""
    height, width = grid(_size(picture))
    below = BLOCK * height - picture.shape[0]
    right = BLOCK * width - picture.shape[1]
    # Repeating the last row and column costs fewer bits than an edge to black would.
    return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="edge")


def check_encoder(model: LearnedCodec) -> None:
    """Raise ValueError for weights of a decoder alone, in which those of the encoder are all 0."""
    for name, weight in model.state_dict().items():
        if name.startswith("analysis") and weight.any():
            return
    raise ValueError("weights of a decoder alone: expected an encoder's, too, as in codec.aew")


def from_pixels(model: LearnedCodec, picture: np.ndarray) -> Callable[[Span, Span], torch.Tensor]:
    """A function that finds the latents of a tile, from its pixels and those around it."""
    check_encoder(model)
    whole = padded(picture)

    def latents_of(rows: Span, columns: Span) -> torch.Tensor:
        pixels = whole[None, pixels_of(rows.seen), pixels_of(columns.seen)]  # (1, 8h, 8w, 3)
        # Latents of the halo are left out: they belong to other tiles.
        return model.analysis(data.to_float(pixels))[:, :, rows.within, columns.within]

    return latents_of


def from_latents(latents: torch.Tensor) -> Callable[[Span, Span], torch.Tensor]:
    """A function that cuts a tile out of latents `(1, channels, h, w)`."""

    def latents_of(rows: Span, columns: Span) -> torch.Tensor:
        return latents[:, :, rows.own, columns.own]

    return latents_of


def alone_if_small(places: int) -> AbstractContextManager:
    """One thread for a small picture."""
    return archive.one_thread() if places <= ALONE else nullcontext()


@contextmanager
def _exactly(places: int) -> Iterator[None]:
    """No gradients, no autocast, and one thread for a small picture."""
    with (
        alone_if_small(places),
        torch.inference_mode(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _write(
    model: LearnedCodec,
    level: int,
    size: tuple[int, int],
    latents_of: Callable[[Span, Span], torch.Tensor],
    writer: Writer,
) -> None:
    """Write the latents of a picture of (width, height) pixels, tile by tile."""
    height, width = grid(size)
    levels = torch.tensor([level])

    # Encoding is the walk, with a visit that writes what it gets and returns what will be read.
    def visit(values, mean, scale):
        residual = (values - mean).round().numpy().astype(np.int64)
        # Clipped to what the tables can write. The walk goes on from these, as the decoder's will.
        symbols = writer.code(table_of(scale.numpy()).ravel(), residual.ravel())
        return mean + torch.from_numpy(symbols).view(mean.shape)

    with _exactly(height * width):
        for rows, columns in tiles(height, width):
            # The entropy model gets a tile without halo and predicts it from itself alone. float64
            # holds its fixed-point numbers exactly.
            model.walk(latents_of(rows, columns).double(), levels, visit)


def _read(model: LearnedCodec, level: int, size: tuple[int, int], reader: Reader) -> np.ndarray:
    """Read a picture of (width, height) pixels: first all latents, then tile by tile its pixels."""
    height, width = grid(size)
    levels = torch.tensor([level])
    shape = (1, sum(model.groups), height, width)
    # float32 holds decoded latents exactly: they are multiples of 1/64 within +-2^13.
    latents = torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last)
    picture = np.empty((BLOCK * height, BLOCK * width, 3), np.uint8)

    # Decoding is the same walk: `values` are nothing, and the symbols come from the file.
    def visit(values, mean, scale):
        symbols = reader.code(table_of(scale.numpy()).ravel())
        return mean + torch.from_numpy(symbols).view(mean.shape)

    with _exactly(height * width):
        for rows, columns in tiles(height, width):
            tile = latents[:, :, rows.own, columns.own]  # a view: `copy_` fills `latents` itself
            nothing = torch.zeros_like(tile, dtype=torch.float64)
            tile.copy_(model.walk(nothing, levels, visit))
        # The decoder's networks see beyond a tile, so all latents must be there.
        for rows, columns in tiles(height, width):
            seen = latents[:, :, rows.seen, columns.seen]
            pixels = data.to_bytes(model.synthesis(seen, levels))[0]
            inner = pixels[pixels_of(rows.within), pixels_of(columns.within)]
            picture[pixels_of(rows.own), pixels_of(columns.own)] = inner
    return picture[: size[1], : size[0]]  # without what the encoder has padded
