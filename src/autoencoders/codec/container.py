"""The bytes of a file: its first seven, numbers, parts, checksums, and what a file may declare.

A file begins with `MAGIC`; a byte of version (3 bits), kind (2 bits) and level (3 bits); and a
CRC-32 of all the rest, continued from that of the weights that it takes to decode. What follows
depends on the kind: see `files` and `weights`.
"""

import unicodedata
import zlib
from collections import Counter
from typing import NamedTuple

from autoencoders.course import CorruptFileError

# What never changes, or old files are lost.
MAGIC = b"AE"
PICTURE, COLLECTION, ARCHIVE, WEIGHTS = range(4)
KINDS = ("picture", "collection", "archive", "weights")
VERSIONS = (1, 1, 2, 1)  # of each kind; an archive of version 1 had another decoder

# Limits of what a file may declare: a forged one shall not cost more memory than a real one.
MAX_PIXELS = 4096 * 4096  # of one picture, sides rounded up to multiples of 8
MAX_ALL_PIXELS = 16 * MAX_PIXELS  # of all pictures in a file
MAX_ARCHIVE_PIXELS = 2**19  # of one picture in an archive, which is coded whole
MAX_PICTURES = 10_000
MAX_LIST = 2**23  # bytes of the names and sizes of a file, before zlib


class Start(NamedTuple):
    """What the third byte of a file says."""

    version: int
    kind: int
    level: int


def seal(kind: int, level: int, body: bytes, identity: int = 0) -> bytes:
    """A file around a body; `identity` is that of the weights that it takes to decode."""
    first = MAGIC + bytes([VERSIONS[kind] << 5 | kind << 3 | level])
    # The checksum goes on from that of the weights: with other weights it is wrong.
    checksum = zlib.crc32(first + body, identity)
    return first + checksum.to_bytes(4, "little") + body


def start(file: bytes) -> Start:
    """Version, kind and level of a file. Raises CorruptFileError if it is not of this codec."""
    if len(file) < 7 or file[:2] != MAGIC:
        raise CorruptFileError(
            f"{len(file)} bytes that begin with {bytes(file[:2])!r}: expected a file of this "
            f"codec, which begins with {MAGIC!r}"
        )
    # Version in the three high bits, then two bits of kind and three of level, as in `seal`.
    result = Start(file[2] >> 5, file[2] >> 3 & 3, file[2] & 7)
    expected = VERSIONS[result.kind]
    if result.version != expected:
        raise CorruptFileError(
            f"version {result.version} of the format, {KINDS[result.kind]}: expected {expected}; "
            "decode it with the program that wrote it"
        )
    return result


def unseal(file: bytes, identity: int = 0) -> bytes:
    """The body of a file, once its checksum is right. Raises CorruptFileError."""
    start(file)
    body = file[7:]
    # The first three bytes count too: a changed kind or level is noticed as well.
    if zlib.crc32(file[:3] + body, identity) != int.from_bytes(file[3:7], "little"):
        raise CorruptFileError(
            f"{len(file)} bytes with a wrong checksum: damaged, cut short, or written with other "
            "weights; copy or encode it again"
        )
    return body


def number(value: int) -> bytes:
    """Seven bits a byte, low ones first; the top bit says that more follow."""
    head = bytearray()
    while value > 127:
        head.append(value & 127 | 128)
        value >>= 7
    return bytes([*head, value])


def take_number(body: bytes) -> tuple[int, bytes]:
    """A value that `number` wrote, and what follows it. Raises CorruptFileError."""
    value = 0
    for i, byte in enumerate(body[:5]):  # 35 bits are more than any file needs
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, body[i + 1 :]
    raise CorruptFileError("a number that does not end: encode the picture again")


def part(content: bytes) -> bytes:
    """A part of a file, with its length before it."""
    return number(len(content)) + content


def take_part(body: bytes) -> tuple[bytes, bytes]:
    """What `part` wrote, and what follows it. Raises CorruptFileError."""
    length, body = take_number(body)
    if length > len(body):
        raise CorruptFileError(
            f"a part of {length} bytes where {len(body)} are left: copy or encode the file again"
        )
    return body[:length], body[length:]


def deflate(text: str) -> bytes:
    """A text in fewer bytes, by zlib."""
    return zlib.compress(text.encode(), 9)


def inflate(packed: bytes) -> str:
    """The text of `deflate`, up to `MAX_LIST` bytes of it. Raises CorruptFileError."""
    inflater = zlib.decompressobj()
    try:
        # A few bytes of zlib could become gigabytes.
        text = inflater.decompress(packed, MAX_LIST)
        if not inflater.eof or inflater.unused_data:
            raise ValueError("too long, or cut short")
        return text.decode()
    except (zlib.error, ValueError) as error:
        raise CorruptFileError(
            f"a header that zlib refuses ({error}): copy or encode the file again"
        ) from None


def check_sizes(sizes: list) -> None:
    """Raise ValueError for sizes (width, height) that no file holds.

    What is declared bounds what a decoder allocates.
    """
    total = 0
    for width, height in sizes:
        # The type first: a forged file may declare text, fractions or infinity.
        whole = type(width) is type(height) is int
        # As the coder pads it: each side rounded up to whole blocks of 8 pixels.
        pixels = 64 * -(-width // 8) * -(-height // 8) if whole else 0
        if not (whole and min(width, height) > 0 and pixels <= MAX_PIXELS):
            raise ValueError(
                f"{width!r}x{height!r} pixels: expected 1 to {MAX_PIXELS:,}, such as 4096x4096; "
                "make the picture smaller, or cut it"
            )
        total += pixels
    if total > MAX_ALL_PIXELS:
        raise ValueError(
            f"{total:,} pixels in {len(sizes)} pictures: expected at most {MAX_ALL_PIXELS:,} in a "
            "file; make several files"
        )


def check_names(names: list) -> None:
    """Raise ValueError for names that are not different, plain names of files.

    They become files in somebody's folder.
    """
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_PICTURES:
        raise ValueError(
            f"{len(names)} names: expected a list of 1 to {MAX_PICTURES:,} pictures; make several "
            "files"
        )
    for name in names:
        if not _is_plain(name):
            raise ValueError(
                f"the name {name!r}: expected that of a file, without folders and control "
                "characters; rename it"
            )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"the name {twice!r} twice: expected different ones; rename a picture")


def _is_plain(name: object) -> bool:
    if not isinstance(name, str) or name in ("", ".", ".."):
        return False
    # File systems take 255 bytes. `replace`, since half a character cannot be encoded at all;
    # the check below refuses it.
    if len(name.encode(errors="replace")) > 255:
        return False
    # Cc are control characters, Cs halves of a character that UTF-8 cannot write.
    return not any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cs") for c in name)
