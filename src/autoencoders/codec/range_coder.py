"""Entropy coding: integers around an expected value, coded with the table that their scale picks.

The coder itself is constriction's (Bamler 2022, arXiv:2201.01741). The tables are integers from
decimal arithmetic, so every machine has the same.
"""

from decimal import Context, Decimal, localcontext
from functools import cache
from typing import NamedTuple

import constriction
import numpy as np

from autoencoders.codec.container import CorruptFileError

TABLES = 50
FINEST = -16  # table i is for the scale 2^((i + FINEST) / 4)
PARTS = 8  # of a step: where between two integers the middle of a distribution can be
LEAST = 64  # what all tables can write; those with a middle can write more
LEAST_WITH_MIDDLE = 1024
NOTHING = Decimal(2) ** -60  # as a probability

Categorical = constriction.stream.model.Categorical


class Table(NamedTuple):
    """The bins of a Laplace distribution for symbols from -limit to limit, as the coder's model."""

    limit: int
    model: Categorical


@cache
def tables() -> list[Table]:
    """A table for each scale 2^(i/4 - 4), i = 0 to 49, around 0."""
    return [table_at(number) for number in range(TABLES)]


@cache
def table_at(number: int) -> Table:
    """A table by its number: one of `tables`, or, from 50 on, one with its middle at eighths.

    Those are i + 50 * (1 + eighth). Eighths are 0 to 7, and from 4 on they are negative: the last
    one is -1/8. Tables go beyond what is likely, so that a wrong guess costs bits instead of being
    cut off.
    """
    variant, i = divmod(number, TABLES)
    # Not the caller's precision, which may be another.
    with localcontext(Context(prec=30)):
        if variant == 0:
            return _table(i, Decimal(0), LEAST)
        eighth = variant - 1
        middle = Decimal(eighth if eighth < PARTS // 2 else eighth - PARTS) / PARTS
        return _table(i, middle, LEAST_WITH_MIDDLE)


def _table(i: int, middle: Decimal, least: int) -> Table:
    scale = (Decimal(i + FINEST) / 4 * Decimal(2).ln()).exp()
    # Beyond 18 scales lies a share of e^-18. Where 18 * scale is whole, it may have been rounded
    # either way, which must not change the table.
    limit = max(least, int(18 * scale + Decimal("1e-9")) + 3)
    ratio = (-1 / scale).exp()
    half = (-1 / (2 * scale)).exp()
    # By how much a middle above 0 makes symbols above it likelier, and those below less likely.
    tilt = (middle / scale).exp()
    # P(1), P(2), ... around 0: each is the one before times exp(-1 / scale).
    side = [(1 / half - half) / 2 * ratio]
    # Further out they get the least mass in any case: `tilt` is at most e^8.
    while len(side) < limit and side[-1] > NOTHING:
        side.append(side[-1] * ratio)
    below = [p / tilt for p in reversed(side)]
    above = [p * tilt for p in side]
    # The bin from -1/2 to 1/2 has what is left: around 0 that is 1 - half.
    at_zero = 1 - half * (tilt + 1 / tilt) / 2
    # Whole numbers from 1 up: the coder must be able to write every symbol.
    masses = [max(1, int(p * 2**30)) for p in (*below, at_zero, *above)]
    beyond = [1] * (limit - len(side))
    masses = beyond + masses + beyond
    model = Categorical(np.array(masses, np.float64) / 2**30, perfect=False)
    return Table(limit, model)


@cache
def _limits() -> np.ndarray:
    around_zero = [table.limit for table in tables()]
    with_middle = [max(LEAST_WITH_MIDDLE, limit) for limit in around_zero]
    return np.array(around_zero + with_middle * PARTS)


def table_of(log2_scale: np.ndarray) -> np.ndarray:
    """The number of the table around 0 that is nearest to a scale."""
    index = np.floor(4 * log2_scale + 0.5) - FINEST
    return np.clip(index, 0, TABLES - 1).astype(np.int64)


def split_mean(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest integer to a mean, and what to add to `table_of` for the rest of it, in eighths.

    A symbol is then a value less that integer.
    """
    eighths = np.floor(PARTS * mean + 0.5).astype(np.int64)
    whole = (eighths + PARTS // 2) // PARTS
    return whole, TABLES * (1 + eighths % PARTS)


class Writer:
    """Turns symbols into bytes."""

    def __init__(self):
        self.coder = constriction.stream.queue.RangeEncoder()

    def code(self, table: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Write symbols, each with its table, both `(n,)`; return them, clipped to the tables."""
        plan = _plan(table)
        result = np.clip(symbols, -plan.limits, plan.limits)
        shifted = (result + plan.limits)[plan.order].astype(np.int32)
        for model, part in plan.runs:
            self.coder.encode(shifted[part], model)
        return result

    def finish(self) -> bytes:
        """The fewest bytes that point into the coder's last interval; zeros may follow them."""
        # The last interval is [low, low + width) in 64 bits, after `words` words of 32 bits.
        words, (low, width) = self.coder.pos()
        head = int.from_bytes(self.coder.get_compressed()[:words].astype(">u4").tobytes(), "big")
        if low + 2**32 > 2**64:
            head -= 1  # get_compressed has carried into these words, where we may not have to
        # With ever more bytes, until a multiple of the last one's unit lies in the interval.
        for count in range(9):
            unit = 1 << (64 - 8 * count)
            tail = -(-low // unit) * unit  # rounded up
            if tail < low + width:
                number = (head << 64) + tail
                return number.to_bytes(4 * words + 8, "big").rstrip(b"\0")
        raise AssertionError("an empty interval")


class Reader:
    """Turns bytes of a `Writer` into the same symbols."""

    def __init__(self, body: bytes):
        padded = body + bytes(16 - len(body) % 4)  # the zeros that `finish` has left out
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self.coder = constriction.stream.queue.RangeDecoder(words)

    def code(self, table: np.ndarray) -> np.ndarray:
        """Read the symbols that were written with these tables, `(n,)`.

        Raises CorruptFileError for a bit stream that no encoder writes.
        """
        plan = _plan(table)
        shifted = np.empty(len(table), np.int64)
        try:
            for model, part in plan.runs:
                shifted[part] = self.coder.decode(model, part.stop - part.start)
        except AssertionError:
            raise CorruptFileError(
                "a bit stream that no encoder writes: encode the picture again"
            ) from None
        result = np.empty_like(shifted)
        result[plan.order] = shifted
        return result - plan.limits


class _Plan(NamedTuple):
    """How symbols with given tables, `(n,)`, are coded: all with one table, then all with the next.

    `limits` `(n,)`: the largest of each; `order` `(n,)`: which is coded when; `runs`: which part of
    that order by which of the coder's models.
    """

    limits: np.ndarray
    order: np.ndarray
    runs: list[tuple[Categorical, slice]]


def _plan(table: np.ndarray) -> _Plan:
    # One call of the coder for each table is much faster than one for each symbol.
    counts = np.bincount(table)
    ends = counts.cumsum()
    runs = []
    for i in counts.nonzero()[0].tolist():
        runs.append((table_at(i).model, slice(ends[i] - counts[i], ends[i])))
    return _Plan(_limits()[table], np.argsort(table, kind="stable"), runs)
