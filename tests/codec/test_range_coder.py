import decimal
import random
import zlib

import numpy as np
import torch
from conftest import car

from autoencoders import codec
from autoencoders.codec import range_coder
from autoencoders.codec.container import CorruptFileError

TABLE_LIMITS, TABLE_CRC = [64, 64, 64, 64, 147, 487, 1632, 5482], 2083377764


def test_tables_are_laplace_distributions_in_whole_numbers():
    for i in (0, 16, 20, 49):
        limit = range_coder.tables()[i][0]
        table = np.full(2000, i)
        symbols = np.clip(
            np.rint(np.random.default_rng(i).laplace(0, 2 ** ((i - 16) / 4), 2000)), -limit, limit
        ).astype(int)
        writer = range_coder.Writer()
        writer.code(table, symbols)
        estimate = (
            codec.laplace_bits(torch.tensor(symbols), torch.tensor((i - 16) / 4)).sum().item()
        )
        assert 8 * len(writer.finish()) < 1.01 * estimate + 32


def test_tables_never_change():
    """They are part of the format: another rounding anywhere, and old files are lost."""
    writer, rng = range_coder.Writer(), random.Random(0)
    for i, (limit, _) in enumerate(range_coder.tables()):
        writer.code(np.full(40, i), np.array([rng.randint(-limit, limit) for _ in range(40)]))
    assert (len(range_coder.tables()), [limit for limit, _ in range_coder.tables()][::7]) == (
        50,
        TABLE_LIMITS,
    )
    assert zlib.crc32(writer.finish()) == TABLE_CRC


def test_tables_do_not_follow_the_callers_decimal_precision(coder):
    file = codec.encode(car(2, 40, 40), 5, coder)
    range_coder.tables.cache_clear()
    with decimal.localcontext(decimal.Context(prec=4)):
        assert codec.encode(car(2, 40, 40), 5, coder) == file
    range_coder.tables.cache_clear()


def test_the_table_next_to_a_scale():
    scales = np.array([-99, -4, -3.9, 0, 0.124, 0.125, 8.25, 99])
    expected = np.array([0, 0, 0, 16, 16, 17, 49, 49])
    np.testing.assert_array_equal(range_coder.table_of(scales), expected)


def stream(rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    table = np.array([rng.randrange(50) for _ in range(rng.randrange(30))], int)
    limits = [range_coder.tables()[i][0] for i in table]
    return table, np.array(
        [rng.choice([0, 1, -limit, limit, rng.randint(-limit, limit)]) for limit in limits], int
    )


def decodes(file: bytes, parts) -> bool:
    reader = range_coder.Reader(file)
    try:
        return all((reader.code(table) == symbols).all() for table, symbols in parts)
    except CorruptFileError:
        return False


def is_shortest(file: bytes, parts) -> bool:
    """What decodes is an interval, so the numbers next to the file that end a byte earlier tell."""
    if not file:
        return True
    number = int.from_bytes(file[:-1], "big")
    shorter = [
        n.to_bytes(len(file) - 1, "big") for n in (number, number + 1) if n < 256 ** (len(file) - 1)
    ]
    return not any(decodes(s, parts) for s in shorter)


def test_thousands_of_streams_come_back_and_are_shortest():
    rng = random.Random(0)
    for _ in range(3000):
        parts, writer = [stream(rng) for _ in range(rng.randrange(1, 4))], range_coder.Writer()
        for table, symbols in parts:
            assert (writer.code(table, symbols) == symbols).all()
        file = writer.finish()
        assert decodes(file, parts) and is_shortest(file, parts) and not file.endswith(b"\0")


def test_carries_come_back_and_are_shortest():
    """Symbols chosen so that the interval holds a carry, close to its lower end.

    There the coder's own last words may not be ours.
    """
    rng, tight = random.Random(0), 0

    def interval(writer, table, symbol):
        trial = writer.coder.clone()
        trial.encode(symbol + range_coder.tables()[table][0], range_coder.tables()[table][1])
        return trial.pos()[1]

    for _ in range(40):
        writer, parts, low = (
            range_coder.Writer(),
            [(np.array([30]), np.array([rng.randint(10, 90)]))],
            0,
        )
        writer.code(*parts[0])
        while low + 2**32 <= 2**64 and len(parts) < 30:
            trials = []
            for table in rng.sample(range(50), 12):
                limit, first = (
                    range_coder.tables()[table][0],
                    interval(writer, table, -range_coder.tables()[table][0])[0],
                )
                a, b = -limit, limit
                while a < b:  # the last symbol that begins before the carry
                    middle = (a + b + 1) // 2
                    a, b = (
                        (middle, b)
                        if interval(writer, table, middle)[0] >= first
                        else (a, middle - 1)
                    )
                low, width = interval(writer, table, a)
                trials.append((low + width > 2**64, low, table, a))
            _, low, table, symbol = max(trials)
            parts.append((np.array([table]), np.array([symbol])))
            writer.code(*parts[-1])
            file = writer.finish()
            assert decodes(file, parts) and is_shortest(file, parts)
        tight += low + 2**32 > 2**64
    assert tight > 10


def test_what_no_table_holds_is_clipped():
    writer = range_coder.Writer()
    limit = range_coder.tables()[3][0]
    assert writer.code(np.array([3, 3]), np.array([10**6, -(10**6)])).tolist() == [limit, -limit]
