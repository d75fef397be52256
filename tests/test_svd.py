import contextlib
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import car

from autoencoders import metrics, svd


@pytest.fixture
def picture() -> np.ndarray:
    return car(3, 48, 64)


def squared(a, b) -> float:
    return ((a.astype(float) - b) ** 2).sum()


def test_matrix_lays_the_channels_side_by_side(pictures):
    matrices = svd.to_matrix(pictures)
    assert matrices.shape == (8, 64, 192)
    np.testing.assert_array_equal(matrices[:, :, 64:128], pictures[..., 1])
    np.testing.assert_array_equal(svd.to_picture(matrices), pictures)


def test_to_picture_rounds_and_clips():
    assert svd.to_picture(np.array([[-3.0, 127.6, 300.0]])).tolist() == [[[0, 128, 255]]]


def test_decomposition_by_hand():
    factors = svd.decompose(
        np.array([[3, 0, 0], [0, 4, 0]])
    )  # singular values are what stands there
    np.testing.assert_allclose(factors.s, [4, 3])
    np.testing.assert_allclose(factors.matrix(), [[3, 0, 0], [0, 4, 0]], atol=1e-12)
    np.testing.assert_allclose(factors.energy(), [16 / 25, 1])


def test_eckart_young(picture):
    matrix = svd.to_matrix(picture).astype(float)
    factors = svd.decompose(matrix)
    for k in (1, 5, 20, 48):
        np.testing.assert_allclose(
            squared(factors.truncate(k).matrix(), matrix),
            (factors.s[k:] ** 2).sum(),
            rtol=1e-9,
            atol=1e-9,
        )


def test_batch_agrees_with_scipy(pictures):
    matrices = svd.to_matrix(pictures)
    batch = svd.decompose_all(matrices)
    for i, matrix in enumerate(matrices):
        one = svd.decompose(matrix)
        np.testing.assert_allclose(batch.s[i], one.s, atol=1e-3 * one.s[0])
        for k in (1, 4, 16):
            ours, reference = (
                squared(f.truncate(k).matrix(), matrix) for f in (SVD_at(batch, i), one)
            )
            assert abs(10 * np.log10(ours / reference)) < 0.01
    assert (np.diff(batch.s) <= 0).all()
    np.testing.assert_allclose(batch.matrix(), matrices, atol=0.5)
    np.testing.assert_allclose(
        np.swapaxes(batch.U, 1, 2) @ batch.U, np.broadcast_to(np.eye(64), (8, 64, 64)), atol=1e-4
    )


def SVD_at(batch: svd.SVD, i: int) -> svd.SVD:
    return svd.SVD(*(part[i] for part in batch))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batch_of_any_length(pictures, count):
    assert svd.decompose_all(svd.to_matrix(pictures[:count])).s.shape == (count, 64)


def test_batch_of_flat_pictures_has_finite_factors():
    flat = svd.decompose_all(np.full((1, 8, 24), 7.0))
    assert all(np.isfinite(part).all() for part in flat)
    np.testing.assert_allclose(flat.matrix(), 7, rtol=1e-5)


def test_storage_of_rank_64_is_the_lecture_s():
    assert svd.values(128, 128, 64) == 64 * (128 + 384 + 1) == 32_832


@pytest.mark.parametrize("dtype,size", [("float32", 4), ("float16", 2)])
def test_plain_files_hold_exactly_the_values(picture, dtype, size):
    assert len(svd.compress(picture, 5, dtype)) == svd.HEADER.size + size * svd.values(48, 64, 5)


def test_int8_file_size(picture):
    assert (
        len(svd.compress(picture, 5, "int8")) == svd.HEADER.size + svd.values(48, 64, 5) + 5
    )  # the scale takes two bytes


@pytest.mark.parametrize(
    "dtype,loss", [("float32", 0.001), ("float16", 0.02), ("int8", 0.2), ("int8-coded", 1.2)]
)
@pytest.mark.parametrize("rank", [1, 6, 20])
def test_round_trip_costs_little_beside_truncation(dtype, loss, rank):
    picture = car(3, 48, 64)
    truncated = svd.to_picture(svd.decompose(svd.to_matrix(picture)).truncate(rank).matrix())
    decoded = svd.decompress(svd.compress(picture, rank, dtype))
    assert decoded.shape == picture.shape and decoded.dtype == np.uint8
    best, ours = (metrics.psnr(x[None], picture[None])[0] for x in (truncated, decoded))
    assert best - loss < ours < best + 0.05


def test_full_rank_in_float32_is_lossless(picture):
    np.testing.assert_array_equal(svd.decompress(svd.compress(picture, 48, "float32")), picture)


def test_more_rank_is_more_quality_and_more_bytes(picture):
    for dtype in svd.DTYPES:
        files = [svd.compress(picture, rank, dtype) for rank in (1, 2, 4, 8, 16)]
        quality = [metrics.psnr(svd.decompress(f)[None], picture[None])[0] for f in files]
        assert (np.diff(quality) > 0).all() and (np.diff([len(f) for f in files]) > 0).all()


def test_coding_pays(picture):
    """Coarser steps cost less than 1 dB, and the bytes are halved."""
    plain, coded = svd.compress(picture, 8, "int8"), svd.compress(picture, 8, "int8-coded")
    quality = [metrics.psnr(svd.decompress(f)[None], picture[None])[0] for f in (plain, coded)]
    assert quality[1] > quality[0] - 1 and len(coded) < 0.5 * len(plain)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", svd.DTYPES)
@pytest.mark.parametrize("shape", [(256, 256), (1, 1), (3, 200), (200, 3)])
def test_flat_and_odd_pictures(dtype, value, shape):
    picture = np.full((*shape, 3), value, np.uint8)
    rank = min(2, shape[0], 3 * shape[1])
    decoded = svd.decompress(svd.compress(picture, rank, dtype))
    assert decoded.shape == picture.shape and np.abs(decoded.astype(int) - value).max() <= 2


def test_files_are_the_same_twice(picture):
    for dtype in svd.DTYPES:
        assert svd.compress(picture, 8, dtype) == svd.compress(picture, 8, dtype)


def test_pack_spares_the_second_decomposition(picture):
    factors = svd.decompose(svd.to_matrix(picture))
    assert svd.pack(factors, 7, "int8-coded") == svd.compress(picture, 7, "int8-coded")


@pytest.mark.parametrize("dtype", svd.DTYPES)
def test_mutated_files_are_refused(dtype):
    file = svd.compress(car(1, 24, 24), 4, dtype)
    rng = random.Random(dtype)
    for _ in range(250):
        damaged = bytearray(file)
        match rng.randrange(4):
            case 0:
                damaged[rng.randrange(len(file))] ^= 1 << rng.randrange(8)
            case 1:
                del damaged[rng.randrange(len(file)) :]
            case 2:
                damaged[rng.randrange(len(file)) : rng.randrange(len(file))] = rng.randbytes(
                    rng.randrange(1, 9)
                )
            case 3:
                damaged += rng.randbytes(rng.randrange(1, 9))
        if damaged != file:
            with pytest.raises(svd.CorruptFileError, match="encode|expected an SVD file"):
                svd.decompress(bytes(damaged))


def signed(code, height, width, rank, body) -> bytes:
    """A file whose checksum is right: what a mutation cannot make but an attacker can."""
    fields = (svd.MAGIC, code, height, width, rank)
    return svd.HEADER.pack(*fields, zlib.crc32(svd.HEADER.pack(*fields, 0) + body)) + body


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"SVD1",
        b"\x89PNG" + bytes(40),
        signed(0, 65535, 65535, 1, bytes(1 << 20)),  # 12 GB if it were believed
        signed(2, 8, 8, 0, b""),
        signed(2, 8, 8, 9, bytes(9 * 34)),
        signed(9, 8, 8, 1, bytes(34)),
        signed(1, 8, 8, 1, struct.pack("<33e", *[float("nan")] * 33)),
        signed(0, 8, 8, 1, struct.pack("<33f", *[1e38] * 33)),
        signed(3, 8, 8, 1, b""),
        signed(3, 8, 8, 1, bytes(3) + b"no lzma"),
        signed(
            3,
            8,
            8,
            2,
            bytes(5) + svd.lzma.compress(bytes(99), svd.lzma.FORMAT_RAW, filters=svd.LZMA),
        ),
        signed(
            3,
            1000,
            1000,
            1,
            bytes(3) + svd.lzma.compress(bytes(10**8), svd.lzma.FORMAT_RAW, filters=svd.LZMA),
        ),
    ],
)
def test_forged_files_are_refused(file):
    with pytest.raises(svd.CorruptFileError, match="encode|expected an SVD file"):
        svd.decompress(file)


def test_random_signed_bodies_decode_or_are_refused():
    rng = random.Random(0)
    for _ in range(300):
        file = signed(
            rng.randrange(4), 8, 8, 1, rng.randbytes(rng.choice([34, 66, 132, rng.randrange(200)]))
        )
        with contextlib.suppress(svd.CorruptFileError):
            assert svd.decompress(file).shape == (8, 8, 3)


def test_callers_errors(picture):
    with pytest.raises(ValueError, match="k=0: expected a rank from 1 to 48"):
        svd.compress(picture, 0)
    with pytest.raises(ValueError, match="k=49"):
        svd.compress(picture, 49)
    with pytest.raises(
        ValueError, match="dtype='int4': expected one of float32, float16, int8, int8-coded"
    ):
        svd.compress(picture, 2, "int4")
    with pytest.raises(ValueError, match=r"dtype float64: expected uint8.*data.to_bytes"):
        svd.compress(picture / 255, 2)
    with pytest.raises(ValueError, match=r"shape \(48, 64\): expected \(..., height, width, 3\)"):
        svd.to_matrix(picture[..., 0])
    with pytest.raises(ValueError, match="that 3 divides"):
        svd.to_picture(np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"expected \(N, m, n\) with m <= n"):
        svd.decompose_all(np.zeros((2, 9, 3)))


@pytest.fixture(scope="module")
def blocks() -> svd.BlockPCA:
    random = torch.Generator().manual_seed(0)
    return svd.BlockPCA(torch.rand(12, 3, 32, 48, generator=random))


def test_all_components_give_the_picture_back(blocks):
    x = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    latent = blocks.encode(x, 192)
    assert latent.shape == (2, 24, 192)
    torch.testing.assert_close(blocks.decode(latent, 32, 48), x, atol=1e-5, rtol=0)


def test_no_other_basis_of_as_many_patterns_is_closer(blocks):
    """To the pictures it was fitted to: the error is the sum of the variances left out."""
    x = torch.rand(12, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    flat = blocks._blocks(x).flatten(0, 1) - blocks.mean
    variances = torch.linalg.svdvals(flat) ** 2 / len(flat)
    k = 20
    kept = flat @ blocks.basis[:k].T @ blocks.basis[:k]
    error = ((flat - kept) ** 2).sum(1).mean()
    torch.testing.assert_close(error, variances[k:].sum(), rtol=1e-4, atol=0)


def test_a_file_of_shared_blocks_comes_back(blocks, pictures):
    picture = pictures[0][:32, :48]
    coarse, fine = (blocks.compress(picture, step) for step in (0.2, 0.02))
    assert len(coarse) < len(fine)
    decoded = blocks.decompress(fine)
    assert decoded.shape == picture.shape and decoded.dtype == np.uint8
    error = np.abs(decoded.astype(int) - picture).mean()
    assert error < np.abs(blocks.decompress(coarse).astype(int) - picture).mean()
    with pytest.raises(ValueError, match="50x32 pixels: expected sides that 8 divides"):
        blocks.compress(np.zeros((32, 50, 3), np.uint8), 0.1)


@pytest.mark.parametrize("cut", [0, 5, 9, 40, -1])
def test_a_damaged_file_of_shared_blocks_is_refused(blocks, pictures, cut):
    file = blocks.compress(pictures[0][:32, :48], 0.05)
    with pytest.raises(svd.CorruptFileError, match="no picture of shared blocks"):
        blocks.decompress(file[:cut])
    with pytest.raises(svd.CorruptFileError, match="no picture of shared blocks"):
        blocks.decompress(b"\xff" * 9 + file[9:])
