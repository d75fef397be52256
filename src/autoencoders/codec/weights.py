"""Weights as files: each tensor in integers times a power of two, entropy-coded.

Between a file and its symbols stands no floating-point result that another machine might round
otherwise: the weights are such integers, the entropy model runs in fixed point, which float64 holds
exactly whatever the order of its sums (Balle et al. 2019, "Integer networks for data compression
with latent-variable models"), and its scale picks one of a few integer tables.
"""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch

from autoencoders.codec import container
from autoencoders.codec.container import CorruptFileError
from autoencoders.codec.model import LearnedCodec, laplace_bits
from autoencoders.codec.range_coder import FINEST, Reader, Writer, tables

# Trained in two stages, by `python -m autoencoders train` codec and finished-codec; see README.
WEIGHTS_FILE = Path(__file__).with_name("codec.aew")
MAX_WEIGHTS = 2**22  # of a model that a file may ask for
MAX_EXPONENT = 12  # the finest step of a weight is 2^-12
SMALL_EXPONENT = 10  # that of biases, gains and all others that are few


def packed_tensors(model: LearnedCodec, decoder_only: bool) -> dict[str, torch.Tensor]:
    """What `pack` writes, by name and in its order: gains as they are used, not their logarithm."""
    # A decoder must not compute powers itself: they may be rounded otherwise on another machine.
    left_out = ("log_gain", "analysis") if decoder_only else ("log_gain",)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(left_out):
            tensors[name] = tensor
    gains = model.gains().detach().double()
    # Gains come last, `(levels, channels)` each.
    return tensors | dict(zip(("gain", "inverse", "shift"), gains, strict=True))


def pack(model: LearnedCodec, precision: float = 64.0, decoder_only: bool = False) -> bytes:
    """The weights of a model as a file, without the encoder's (`analysis`) if `decoder_only`.

    Each tensor is rounded to steps of about its spread (root mean square) / `precision`, in powers
    of two. Raises ValueError for weights that are out of any range.
    """
    writer = Writer()
    tensors = packed_tensors(model, decoder_only)
    # Convolutions hold nearly all weights; what else there is costs little and stays fine.
    many = [name for name, tensor in tensors.items() if tensor.dim() == 4]
    exponents, picks = write_tensors(tensors, dict.fromkeys(many, precision), writer)
    # What it takes to build the model, and to read its tensors in the order of `packed_tensors`.
    head = {
        "model": model.arguments,
        "decoder_only": decoder_only,
        "exponents": exponents,
        "tables": picks,
    }
    body = container.part(container.deflate(json.dumps(head))) + writer.finish()
    return container.seal(container.WEIGHTS, 0, body)


def write_tensors(
    tensors: dict[str, torch.Tensor], precisions: dict[str, float], writer: Writer
) -> tuple[list[int], list[int]]:
    """Write tensors, rounded as in `pack`; what `read_tensors` needs.

    Those without one of the `precisions` stay fine.
    """
    exponents = []
    picks = []
    for name, tensor in tensors.items():
        steps, exponent = steps_of(name, tensor, precisions.get(name))
        pick = _cheapest(steps)
        # One table for the whole tensor: its number is in the head.
        writer.code(np.full(steps.size, pick), steps)
        exponents.append(exponent)
        picks.append(pick)
    return exponents, picks


def steps_of(name: str, tensor: torch.Tensor, precision: float | None) -> tuple[np.ndarray, int]:
    """A tensor as integers `(n,)` in steps of 2^-exponent, and this exponent. Raises ValueError."""
    values = tensor.detach().cpu().double().flatten().numpy()
    exponent = _exponent(name, values, precision)
    return np.rint(values * 2.0**exponent).astype(np.int64), exponent


def _exponent(name: str, values: np.ndarray, precision: float | None) -> int:
    """How fine the steps of a tensor are, 2^-exponent; without `precision`, as fine as is usual."""
    # The finest steps of which the widest table can still count enough.
    most = np.log2(tables()[-1].limit / (np.abs(values).max() + 1e-9))
    if not most >= 0:
        raise ValueError(
            f"weights {name!r} reach from {values.min():.3g} to {values.max():.3g}: expected none "
            "so far out; train again"
        )
    wanted = SMALL_EXPONENT
    if precision is not None:
        # Not 0 for a tensor of zeros, by which the next line would divide.
        spread = np.sqrt(np.mean(values**2)) + 1e-9
        wanted = np.clip(np.ceil(np.log2(precision / spread)), 0, MAX_EXPONENT)
    return int(min(wanted, np.floor(most)))


def _cheapest(steps: np.ndarray) -> int:
    """The table that codes these symbols in the fewest bits."""
    values, counts = np.unique(np.abs(steps), return_counts=True)
    sizes = torch.from_numpy(values).double()
    counts = torch.from_numpy(counts)
    costs = {}
    for i, table in enumerate(tables()):
        # A narrower table would clip the largest.
        if table.limit >= values[-1]:
            log2_scale = torch.tensor((i + FINEST) / 4)
            costs[i] = (counts * laplace_bits(sizes, log2_scale)).sum().item()
    return min(costs, key=costs.get)


def unpack(file: bytes) -> LearnedCodec:
    """The model of a file of `pack`, in fixed point: what encodes and decodes.

    Raises CorruptFileError.
    """
    kind = container.start(file).kind
    body = container.unseal(file)
    if kind != container.WEIGHTS:
        raise CorruptFileError(
            f"a file of kind {kind}: expected weights ({container.WEIGHTS}), as pack writes them"
        )
    head, stream = container.take_part(body)
    with forgery_named():
        head = json.loads(container.inflate(head))
        model = _blank(head["model"])
        tensors = packed_tensors(model, head["decoder_only"])
        read_tensors(tensors, head["exponents"], head["tables"], Reader(stream))
    model.to(memory_format=torch.channels_last)
    gains = torch.stack([tensors[name] for name in ("gain", "inverse", "shift")])
    return model.to_fixed_point(gains, zlib.crc32(file))


@contextmanager
def forgery_named() -> Iterator[None]:
    """One CorruptFileError for whatever goes wrong where a model is made as its file says."""
    try:
        yield
    # It is a ValueError too, but says enough already.
    except CorruptFileError:
        raise
    # A forged head can make any of these, in JSON, in the constructor or in torch.
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise CorruptFileError(
            f"weights that no program wrote ({type(error).__name__}: {error}): get the file again"
        ) from None


def _blank(arguments: dict) -> LearnedCodec:
    """A model with all weights 0, as an encoder's stay that is not in the file."""
    with torch.device("meta"):  # no memory before we know how much
        model = LearnedCodec(**arguments)
    if sum(tensor.numel() for tensor in model.state_dict().values()) > MAX_WEIGHTS:
        raise ValueError(f"more than {MAX_WEIGHTS:,} weights")
    # The memory holds anything so far, also where the file has nothing to put: the encoder.
    for parameter in model.to_empty(device="cpu").parameters():
        torch.nn.init.zeros_(parameter)
    return model


def read_tensors(tensors: dict, exponents: list, picks: list, reader: Reader) -> None:
    """Read tensors from a stream of `write_tensors`, in place. Raises ValueError."""
    for tensor, exponent, pick in zip(tensors.values(), exponents, picks, strict=True):
        if not (0 <= exponent <= MAX_EXPONENT and 0 <= pick < len(tables())):
            raise ValueError(f"exponent {exponent}, table {pick}")
        steps = reader.code(np.full(tensor.numel(), pick)) / 2.0**exponent
        tensor.data.copy_(torch.from_numpy(steps).view(tensor.shape))


@cache
def shipped() -> LearnedCodec:
    """The model that comes with the program, trained on renders alone.

    Raises ValueError where its file is missing or damaged.
    """
    if not WEIGHTS_FILE.exists():
        raise ValueError(
            f"no {WEIGHTS_FILE.name} in the package: expected the weights that come with the "
            "program; install it again"
        )
    return unpack(WEIGHTS_FILE.read_bytes())
