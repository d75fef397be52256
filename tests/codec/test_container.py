"""Damaged and forged files of all kinds."""

import json
import random
import time
import zlib

import numpy as np
import pytest
from conftest import car, small_codec

from autoencoders import codec
from autoencoders.codec import archive, container
from autoencoders.codec.container import CorruptFileError
from codec.conftest import TINY, read


def mutate(rng: random.Random, file: bytes, other: bytes) -> bytes:
    damaged, places = bytearray(file), sorted(rng.randrange(len(file) + 1) for _ in range(2))
    match rng.randrange(7):
        case 0:
            damaged[rng.randrange(len(file))] ^= 1 << rng.randrange(8)
        case 1:
            del damaged[rng.randrange(len(file)) :]
        case 2:
            damaged[slice(*places)] = rng.randbytes(rng.randrange(1, 9))
        case 3:
            damaged += rng.choice(
                [rng.randbytes(rng.randrange(1, 9)), bytes(rng.randrange(1, 9)), file, other]
            )
        case 4:
            damaged = bytearray(other + file)
        case 5:
            damaged[rng.randrange(9)] = rng.randrange(256)
        case 6:
            damaged[slice(*places)] = other[slice(*places)]
    return bytes(damaged)


def test_ten_thousand_mutations_are_refused(coder, file_of):
    rng, all_files = random.Random(0), list(file_of.values())
    for i in range(10_000):
        file = all_files[i % 4]
        damaged = mutate(rng, file, rng.choice(all_files))
        if damaged not in all_files:
            with pytest.raises(CorruptFileError):
                read(damaged, coder)


def listed(text: str | bytes, coder, body: bytes = b"", level: int = 0) -> bytes:
    packed = container.deflate(text) if isinstance(text, str) else text
    return container.seal(
        container.COLLECTION, level, container.part(packed) + body, coder.identity
    )


def weighty(body: bytes = b"", **changes) -> bytes:
    """Weights with some of their head changed, and a right checksum."""
    head, stream = container.take_part(
        codec.pack(small_codec(groups=(2, 3), width=4, post=4, context=4))[7:]
    )
    head = json.loads(container.inflate(head))
    head["model"] |= changes.pop("model", {})
    return container.seal(
        container.WEIGHTS,
        0,
        container.part(container.deflate(json.dumps(head | changes))) + (body or stream),
    )


def overfitted_decoder(body: bytes = b"", pictures: str = '[["a"], [[8, 8]]]', **changes) -> bytes:
    """An archive, with some of its decoder's head changed, and a right checksum."""
    packed = archive.pack(codec.ArchiveModel(**TINY), 10.0)
    head, stream = container.take_part(packed)
    head = json.loads(container.inflate(head))
    head["model"] |= changes.pop("model", {})
    packed = container.part(container.deflate(json.dumps(head | changes))) + (body or stream)
    names = container.part(container.deflate(pictures))
    return container.seal(container.ARCHIVE, 0, container.part(packed) + names + b"\0")


def one(coder, width: int, height: int, body: bytes = b"", level: int = 0) -> bytes:
    return container.seal(
        container.PICTURE,
        level,
        container.number(width - 1) + container.number(height - 1) + body,
        coder.identity,
    )


@pytest.mark.parametrize(
    "forge",
    {
        "nothing": lambda c: b"",
        "magic alone": lambda c: b"AE",
        "no body": lambda c: container.seal(container.PICTURE, 0, b"", c.identity),
        "endless number": lambda c: container.seal(container.PICTURE, 0, b"\xff" * 20, c.identity),
        "huge": lambda c: one(c, 2**34, 2**34),
        "a little too large": lambda c: one(c, 4096, 4097),
        "a line of too many padded pixels": lambda c: one(c, 4096 * 4096, 1),
        "many huge pictures": lambda c: listed(
            json.dumps([[str(i) for i in range(17)], [[4096, 4096]] * 17]), c
        ),
        "no list": lambda c: listed("1", c),
        "no JSON": lambda c: listed("{", c),
        "an object": lambda c: listed('{"a": 1, "b": 2}', c),
        "a string for names": lambda c: listed('["ab", [[8, 8], [8, 8]]]', c),
        "no pictures": lambda c: listed("[[], []]", c),
        "fewer sizes": lambda c: listed('[["a", "b"], [[8, 8]]]', c),
        "three sides": lambda c: listed('[["a"], [[8, 8, 8]]]', c),
        "a side of 0": lambda c: listed('[["a"], [[0, 8]]]', c),
        "a negative side": lambda c: listed('[["a"], [[-8, -8]]]', c),
        "infinity": lambda c: listed('[["a"], [[1e999, 8]]]', c),
        "nan": lambda c: listed('[["a"], [[NaN, 8]]]', c),
        "fractions": lambda c: listed('[["a"], [[8.0, 8]]]', c),
        "truth": lambda c: listed('[["a"], [[true, 8]]]', c),
        "text": lambda c: listed('[["a"], [["8", "8"]]]', c),
        "sizes a number": lambda c: listed('[["a"], 7]', c),
        "names of numbers": lambda c: listed("[[1], [[8, 8]]]", c),
        "many digits": lambda c: listed(f'[["a"], [[{"9" * 5000}, 8]]]', c),
        "a path": lambda c: listed('[["../a"], [[8, 8]]]', c),
        "a Windows path": lambda c: listed('[["..\\\\a"], [[8, 8]]]', c),
        "the folder above": lambda c: listed('[[".."], [[8, 8]]]', c),
        "an empty name": lambda c: listed('[[""], [[8, 8]]]', c),
        "a zero byte": lambda c: listed('[["a\\u0000"], [[8, 8]]]', c),
        "an escape": lambda c: listed('[["\\u001b[2J"], [[8, 8]]]', c),
        "half a letter": lambda c: listed('[["\\ud800"], [[8, 8]]]', c),
        "twice the same": lambda c: listed('[["a", "a"], [[8, 8], [8, 8]]]', c),
        "many the same": lambda c: listed(json.dumps([["a"] * 200_000, [[8, 8]] * 200_000]), c),
        "many names": lambda c: listed(
            json.dumps([[str(i) for i in range(200_000)], [[8, 8]] * 200_000]), c
        ),
        "deep nesting": lambda c: listed("[" * 100_000, c),
        "a zlib bomb": lambda c: listed(zlib.compress(bytes(10**8), 9), c),
        "cut zlib": lambda c: listed(container.deflate('[["a"], [[8, 8]]]')[:-1], c),
        "more after zlib": lambda c: listed(container.deflate('[["a"], [[8, 8]]]') + b"x", c),
        "no UTF-8": lambda c: listed(zlib.compress(b'[["\xff"], [[8, 8]]]'), c),
        "no such quality": lambda c: container.seal(container.ARCHIVE, 7, overfitted_decoder()[7:]),
        "a picture for weights": lambda c: container.seal(
            container.ARCHIVE, 0, container.part(one(c, 8, 8)) + b"\0"
        ),
        "a part that is too long": lambda c: container.seal(
            container.ARCHIVE, 0, container.number(10**9) + b"\0"
        ),
        "an archive of a wide network": lambda c: overfitted_decoder(model={"width": 10**6}),
        "an archive of endless blocks": lambda c: overfitted_decoder(model={"blocks": 10**12}),
        "an archive with an argument": lambda c: overfitted_decoder(model={"extra": 1}),
        "an archive of text": lambda c: overfitted_decoder(model={"width": "4"}),
        "an archive's exponent": lambda c: overfitted_decoder(exponents=[2000] * 200),
        "an archive's few tables": lambda c: overfitted_decoder(tables=[1]),
        "an archive of two sizes": lambda c: overfitted_decoder(
            pictures='[["a", "b"], [[8, 8], [8, 9]]]'
        ),
        "a large archive": lambda c: overfitted_decoder(pictures='[["a"], [[4000, 4000]]]'),
        "an archive of none": lambda c: overfitted_decoder(pictures="[[], []]"),
        "an unknown argument": lambda c: weighty(model={"extra": 1}),
        "no head": lambda c: container.seal(
            container.WEIGHTS, 0, container.part(container.deflate("[]"))
        ),
        "deep head": lambda c: container.seal(
            container.WEIGHTS, 0, container.part(container.deflate("[" * 100_000))
        ),
        "wide network": lambda c: weighty(model={"width": 10**6}),
        "too many weights": lambda c: weighty(model={"width": 512, "post": 512, "blocks": 32}),
        "wide in text": lambda c: weighty(model={"width": "8"}),
        "fractional width": lambda c: weighty(model={"width": 4.5}),
        "endless blocks": lambda c: weighty(model={"blocks": 10**12}),
        "many groups": lambda c: weighty(model={"groups": [1] * 10**5}),
        "no groups": lambda c: weighty(model={"groups": []}),
        "negative group": lambda c: weighty(model={"groups": [5, -1]}),
        "many qualities": lambda c: weighty(model={"lambdas": [1.0] * 10**5}),
        "lambda of text": lambda c: weighty(model={"lambdas": "abc"}),
        "exponent": lambda c: weighty(exponents=[2000] * 200),
        "few exponents": lambda c: weighty(exponents=[1]),
        "exponents in text": lambda c: weighty(exponents=["1"] * 200),
        "table": lambda c: weighty(tables=[-1] * 200),
        "fractional table": lambda c: weighty(tables=[1.5] * 200),
    }.items(),
    ids=lambda item: item[0],
)
def test_forged_files_are_refused(coder, forge):
    file, start = forge[1](coder), time.process_time()
    with pytest.raises(CorruptFileError):
        read(file, coder)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "model,message",
    [
        ({"width": 512, "post": 512, "blocks": 32}, "more than 4,194,304 weights"),
        ({"width": 10**6}, "expected numbers from 1"),
        ({"blocks": 10**4}, "expected numbers from 1"),
        ({"lambdas": [1.0] * 9}, "one to eight lambdas"),
    ],
    ids=str,
)
def test_absurd_networks_are_refused_before_they_are_built(model, message):
    with pytest.raises(CorruptFileError, match=message):
        codec.unpack(weighty(model=model))


def test_what_a_part_and_a_list_declare_is_checked_at_once():
    with pytest.raises(CorruptFileError, match="a part of 1000000000 bytes where 1 are left"):
        container.take_part(container.number(10**9) + b"\0")
    bomb = zlib.compress(b" " * (container.MAX_LIST + 1), 9)
    with pytest.raises(CorruptFileError, match="a header that zlib refuses .too long"):
        container.inflate(bomb)


def test_forged_streams_decode_or_are_refused(coder):
    """Right checksums around random bytes: a picture of the declared size, or CorruptFileError."""
    rng = random.Random(0)
    for i in range(60):
        width, height = rng.randrange(1, 40), rng.randrange(1, 40)
        body = rng.choice([b"", b"\xff" * 50, rng.randbytes(rng.randrange(300)), bytes(90)])
        file = (
            one(coder, width, height, body, rng.randrange(8))
            if i % 2
            else listed(f'[["a"], [[{width}, {height}]]]', coder, body)
        )
        try:
            assert codec.decode(file, coder).shape == (height, width, 3)
        except CorruptFileError as error:
            assert "bit stream that no encoder writes" in str(error)
    for _ in range(5):  # weights of random numbers
        try:
            file = overfitted_decoder(rng.randbytes(3000), '[["a"], [[9, 7]]]')
            assert codec.decode(file).shape == (7, 9, 3)
        except CorruptFileError as error:
            assert "bit stream" in str(error)


def test_bytes_after_the_end_are_of_no_use(coder):
    """The checksum covers them; whoever forges it gains nothing."""
    file = one(coder, 24, 24, codec.encode(car(0, 24, 24), 1, coder)[9:] + bytes(100))
    np.testing.assert_array_equal(
        codec.decode(file, coder), codec.decode(codec.encode(car(0, 24, 24), 1, coder), coder)
    )
