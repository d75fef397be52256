"""The baseline: a picture as a matrix, its SVD, and a file of its first k components."""

import lzma
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from autoencoders.course import CorruptFileError

DTYPES = {"float32": 0, "float16": 1, "int8": 2, "int8-coded": 3}
MAGIC = b"SVD1"
HEADER = struct.Struct("<4sBHHHI")  # magic, dtype, height, width, rank, CRC-32 of everything else


class SVD(NamedTuple):
    """The factors of `matrix = U @ diag(s) @ Vt`, with any leading batch dimensions.

    Their shapes are `(..., m, k)`, `(..., k)` and `(..., k, n)`.
    """

    U: np.ndarray
    s: np.ndarray
    Vt: np.ndarray

    def truncate(self, k: int) -> "SVD":
        """Keep the `k` largest components: the best of rank k there is (Eckart & Young 1936)."""
        if not 1 <= k <= self.s.shape[-1]:
            raise ValueError(
                f"k={k}: expected a rank from 1 to {self.s.shape[-1]}, "
                "the number of singular values"
            )
        return SVD(self.U[..., :k], self.s[..., :k], self.Vt[..., :k, :])

    def matrix(self) -> np.ndarray:
        """Multiply the factors out again, `(..., m, n)`."""
        return (self.U * self.s[..., None, :]) @ self.Vt

    def energy(self) -> np.ndarray:
        """The share of the squared norm in the first 1, 2, ... components, `(..., k)`, up to 1."""
        total = np.cumsum(self.s**2, axis=-1)
        return total / total[..., -1:]


def to_matrix(pictures: np.ndarray) -> np.ndarray:
    """Lay the three channels side by side: pictures `(..., H, W, 3)` -> matrices `(..., H, 3W)`."""
    if pictures.ndim < 3 or pictures.shape[-1] != 3:
        raise ValueError(
            f"pictures of shape {pictures.shape}: "
            "expected (..., height, width, 3); use data.to_bytes for tensors"
        )
    return np.concatenate([pictures[..., channel] for channel in range(3)], axis=-1)


def to_picture(matrices: np.ndarray) -> np.ndarray:
    """Matrices `(..., H, 3W)` back to pictures `(..., H, W, 3)`, uint8, rounded and clipped."""
    if matrices.shape[-1] % 3:
        raise ValueError(
            f"a matrix of shape {matrices.shape}: "
            "expected three channels side by side, a width that 3 divides"
        )
    channels = np.split(matrices, 3, axis=-1)
    return np.stack(channels, axis=-1).round().clip(0, 255).astype(np.uint8)


def decompose(matrix: np.ndarray) -> SVD:
    """The reference: SciPy's full decomposition of one matrix `(m, n)`.

    It computes in float64 for anything but float32.
    """
    matrix = np.asarray(matrix)
    return SVD(
        *scipy.linalg.svd(matrix.astype(np.result_type(matrix, np.float32)), full_matrices=False)
    )


def decompose_all(matrices: np.ndarray, workers: int = 2) -> SVD:
    """Decompose a batch `(N, m, n)`, m <= n, at once in float32.

    Many times faster than one by one, and near enough for pictures.

    Through the m x m Gram matrix A Aᵀ = U s² Uᵀ, then s Vᵀ = Uᵀ A. Squaring costs the singular
    values below about 1/3000 of the largest their accuracy, but U stays orthonormal, so the full
    product still gives the matrix back.
    """
    if matrices.ndim != 3 or not 1 <= matrices.shape[1] <= matrices.shape[2]:
        raise ValueError(
            f"matrices of shape {matrices.shape}: "
            "expected (N, m, n) with m <= n; transpose tall ones"
        )
    batch = torch.from_numpy(np.ascontiguousarray(matrices, dtype=np.float32))
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(workers) as pool,
    ):  # matrices are too small to share one; each core takes some
        parts = list(pool.map(_gram, batch.chunk(workers)))
    return SVD(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _gram(a: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = torch.linalg.eigh(a @ a.mT).eigenvectors.flip(-1)  # eigh sorts upwards
    v = u.mT @ a
    s = (
        v.norm(dim=-1).cummin(dim=-1).values
    )  # the smallest come out a little disordered; u, s and v still multiply to a
    return u.numpy(), s.numpy(), (v / s.clamp(min=1e-12)[..., None]).numpy()


def values(height: int, width: int, rank: int) -> int:
    """How many numbers are in the factors of a picture: `rank * (height + 3 * width + 1)`."""
    return rank * (height + 3 * width + 1)


def compress(picture: np.ndarray, rank: int, dtype: str = "int8") -> bytes:
    """Encode a uint8 picture `(H, W, 3)` as a file of its first `rank` components.

    `dtype` is one of `DTYPES`. Raises ValueError.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8:
        raise ValueError(
            f"a picture of dtype {picture.dtype}: "
            "expected uint8 from 0 to 255; use data.to_bytes for tensors"
        )
    return pack(decompose(to_matrix(picture)), rank, dtype)


def pack(svd: SVD, rank: int, dtype: str = "int8") -> bytes:
    """`compress` for a decomposition that is there already, of one matrix `(H, 3W)`."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: expected one of {', '.join(DTYPES)}")
    u, s, vt = svd.truncate(rank)
    height, width = u.shape[0], vt.shape[1] // 3
    if dtype in ("float32", "float16"):
        little_endian = np.dtype(dtype).newbyteorder("<")  # the same file from every machine
        factors = (
            u,
            s / 255,
            vt,
        )  # in units of white, so that s fits float16, which ends at 65,504
        body = b"".join(x.astype(little_endian).tobytes() for x in factors)
    else:
        body = _quantise(u.T, vt, s, error=(svd.s[rank:] ** 2).sum(), coded=dtype == "int8-coded")
    fields = (MAGIC, DTYPES[dtype], height, width, rank)
    return HEADER.pack(*fields, zlib.crc32(HEADER.pack(*fields, 0) + body)) + body


# What comes of forged factors is looked at, at the end.
@np.errstate(over="ignore", invalid="ignore")
def decompress(data: bytes) -> np.ndarray:
    """Decode a file of `compress` to a uint8 picture `(H, W, 3)`.

    Raises CorruptFileError for anything else.
    """
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise CorruptFileError(
            f"{len(data)} bytes that begin with {bytes(data[:4])!r}: "
            f"expected an SVD file, which begins with {MAGIC!r}"
        )
    _, code, height, width, rank, checksum = HEADER.unpack_from(data)
    body = data[HEADER.size :]
    if checksum != zlib.crc32(HEADER.pack(MAGIC, code, height, width, rank, 0) + body):
        raise CorruptFileError(
            f"{len(data)} bytes with a wrong checksum: "
            "the file is damaged or cut short; copy or encode it again"
        )
    count = rank * (height + 3 * width)  # values of U and V together
    scales = 2 * rank  # bytes: a float16 for each component
    # float32 and float16 have U, S and V; int8 a byte for each value of U and V beside the scales.
    lengths = {0: 4 * (count + rank), 1: 2 * (count + rank), 2: count + scales}
    # What is entropy-coded, code 3, can have any length.
    fits = len(body) > scales if code == 3 else len(body) == lengths.get(code)
    # The checksum does not say that the numbers make sense. 2**26 pixels bound the memory.
    if not fits or not 1 <= rank <= min(height, 3 * width) or height * width > 2**26:
        about = f"dtype {code}, {height}x{width} pixels, rank {rank}, {len(body)} bytes"
        raise CorruptFileError(f"{about}: no such file was ever written; encode the picture again")
    if code < 2:
        numbers = np.frombuffer(body, ("<f4", "<f2")[code]).astype(np.float32)
        u, s, vt = np.split(numbers, [rank * height, rank * (height + 1)])
        # (H, rank), scaled column by column, times (rank, 3W) is the picture as a matrix (H, 3W).
        matrix = (u.reshape(height, rank) * (s * 255)) @ vt.reshape(rank, 3 * width)
    else:
        scale = np.frombuffer(body[:scales], "<f2").astype(np.float32) * 255
        rows = body[scales:] if code == 2 else _decode(body[scales:], rank, count)
        # A row for each component: H values of U, then 3W of V.
        factors = np.frombuffer(rows, np.int8).reshape(rank, -1).astype(np.float32)
        matrix = (factors[:, :height].T * scale) @ factors[:, height:]
    if not np.isfinite(matrix).all():
        raise CorruptFileError(
            "factors that are no numbers: expected finite ones; encode the picture again"
        )
    return to_picture(matrix)


# Raw LZMA: the header that this leaves out would be as long as a small picture's component.
LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 0, "pb": 0, "dict_size": 2**20}]
# rounding may add this share of the error that truncation makes; measured to give the fewest bytes
COARSENESS = 0.2


def _quantise(u: np.ndarray, vt: np.ndarray, s: np.ndarray, error: float, coded: bool) -> bytes:
    """One scale a component (float16), then its rows of U and V in int8, entropy-coded if asked.

    Uncoded, each row uses all 127 steps. Coded, the steps are so coarse that each component's
    rounding adds equally much to the squared error, `COARSENESS * error` in all (reverse
    water-filling, Cover & Thomas 10.3.3): weak components cost little.
    """
    floor = 0.0
    if coded:
        # Rounding to a step adds step^2 / 12 to a value's squared error, times s^2 in the picture.
        values = len(s) * (u.shape[1] + vt.shape[1])
        floor = np.sqrt(12 * COARSENESS * error / values) / np.maximum(s, 1e-6)
    # (rank,) each: the largest value gets 127 steps, unless fewer do.
    step_u = np.maximum(np.abs(u).max(axis=1) / 127, floor)
    step_v = np.maximum(np.abs(vt).max(axis=1) / 127, floor)
    rounded = []
    for x, step in ((u, step_u), (vt, step_v)):
        # A component of nothing but zeros has a step of 0, and stays 0.
        rounded.append(np.rint(x / np.maximum(step, 1e-12)[:, None]))
    rows = np.concatenate(rounded, axis=1)  # (rank, H + 3W)
    # The decoder only needs the product of the singular value and both steps.
    scale = (s / 255 * step_u * step_v).astype("<f2").tobytes()
    return scale + (_encode(rows.astype(np.int8)) if coded else rows.astype(np.int8).tobytes())


def _encode(rows: np.ndarray) -> bytes:
    """Each row as it is or as differences of neighbours, whichever is smaller.

    One bit a row tells which; LZMA packs them all.
    """
    differences = np.diff(rows, axis=1, prepend=np.int8(0))  # modulo 256, which adding up undoes
    smooth = np.abs(differences.astype(int)).sum(axis=1) < np.abs(rows.astype(int)).sum(axis=1)
    chosen = np.where(smooth[:, None], differences, rows)
    packed = lzma.compress(chosen.tobytes(), lzma.FORMAT_RAW, filters=LZMA)
    return np.packbits(smooth).tobytes() + packed


def _decode(data: bytes, rank: int, count: int) -> bytes:
    flags = -(-rank // 8)
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA)
    try:
        # One byte more than there should be: enough to see that there is too much, and no more.
        packed = decoder.decompress(data[flags:], max_length=count + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise CorruptFileError(
            f"{len(data)} bytes that LZMA refuses ({error}): encode the picture again"
        ) from None
    if len(packed) != count or not decoder.eof or decoder.unused_data or len(data) < flags:
        raise CorruptFileError(
            f"{len(packed)} factors after LZMA, expected {count}: encode the picture again"
        )
    rows = np.frombuffer(packed, np.int8).reshape(rank, -1)
    smooth = np.unpackbits(np.frombuffer(data[:flags], np.uint8))[:rank].astype(bool)
    return np.where(smooth[:, None], np.cumsum(rows, axis=1, dtype=np.int8), rows).tobytes()


# ---- A basis that all pictures share ----


def _principal(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The right singular vectors of `x` `(N, values)` as rows, and their singular values."""
    if len(x) >= x.shape[1]:
        _, s, vt = torch.linalg.svd(x, full_matrices=False)
        return vt, s
    # Few long rows, such as whole pictures: the small Gram matrix x xᵀ = u s² uᵀ is much cheaper.
    u = torch.linalg.eigh(x @ x.T).eigenvectors.flip(1)
    v = u.T @ x
    s = v.norm(dim=1)
    # The mean is gone from x, so one row follows from the others: the last one has no direction.
    return (v / s[:, None])[:-1], s[:-1]


class BlockPCA:
    """Principal components of square blocks, the same for all pictures.

    A picture is cut into blocks of `side` x `side` pixels, and each block becomes its products with
    the first components: PCA (Pearson 1901) on blocks, as JPEG has cosines on blocks. Fit it to
    training pictures `(N, 3, H, W)`, float32 in [0, 1]. Sender and receiver both need the basis.
    """

    HEADER = struct.Struct("<HHBf")  # height, width, components, step

    def __init__(self, pictures: torch.Tensor, side: int = 8):
        self.side = side
        blocks = self._blocks(pictures).flatten(0, 1)  # (N * blocks, 3 * side * side)
        self.mean = blocks.mean(0)
        self.basis, strengths = _principal(blocks - self.mean)
        self.spread = strengths[0] / len(blocks) ** 0.5  # standard deviation of the first component

    def encode(self, pictures: torch.Tensor, k: int) -> torch.Tensor:
        """The first `k` values of each block, `(N, blocks, k)`."""
        return (self._blocks(pictures) - self.mean) @ self.basis[:k].T

    def decode(self, latent: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Pictures `(N, 3, height, width)` of what `encode` returned."""
        blocks = latent @ self.basis[: latent.shape[-1]] + self.mean
        pictures = F.fold(blocks.mT, (height, width), self.side, stride=self.side)
        return pictures.clamp(0, 1)

    def compress(self, picture: np.ndarray, step: float, k: int = 48) -> bytes:
        """A file of a uint8 picture `(H, W, 3)`: its values as whole steps, packed by zlib.

        `step` says how coarsely they are rounded, in units of white. Raises ValueError.
        """
        height, width, _ = picture.shape
        if height % self.side or width % self.side:
            raise ValueError(
                f"a picture of {width}x{height} pixels: expected sides that {self.side} divides; "
                "crop it"
            )
        x = torch.from_numpy(picture).movedim(-1, 0)[None].float() / 255
        steps = (self.encode(x, k)[0] / step).round().clamp(-127, 127).to(torch.int8)
        # Component by component: like stands beside like, which zlib finds easier to pack.
        packed = zlib.compress(steps.T.contiguous().numpy().tobytes(), 9)
        return self.HEADER.pack(height, width, k, step) + packed

    def decompress(self, file: bytes) -> np.ndarray:
        """The picture in a file of `compress`, uint8 `(H, W, 3)`. Raises CorruptFileError."""
        try:
            height, width, k, step = self.HEADER.unpack_from(file)
            limit = height * width * k // self.side**2
            unpacker = zlib.decompressobj()
            values = unpacker.decompress(file[self.HEADER.size :], limit + 1)
            if len(values) != limit or not unpacker.eof or not 0 < step < 1e3:
                raise ValueError(f"{len(values)} values of step {step}, expected {limit}")
            steps = np.frombuffer(values, np.int8).reshape(k, -1).T.astype(np.float32)
            latent = torch.from_numpy(steps * np.float32(step))[None]
            x = self.decode(latent, height, width)[0]
        except (ValueError, RuntimeError, zlib.error, struct.error) as error:
            raise CorruptFileError(
                f"no picture of shared blocks ({error}): expected a file of BlockPCA.compress"
            ) from None
        return (x.movedim(0, -1) * 255).round().byte().numpy()

    def _blocks(self, pictures: torch.Tensor) -> torch.Tensor:
        """`(N, 3, H, W)` -> `(N, blocks, 3 * side * side)`."""
        return F.unfold(pictures, self.side, stride=self.side).mT
