import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import car, small_codec, walks
from PIL import Image

from autoencoders import codec, data
from autoencoders.codec import container, files
from autoencoders.codec.container import CorruptFileError
from codec.conftest import collection, psnr

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"


@pytest.mark.parametrize("height,width", [(1, 1), (7, 9), (61, 37), (8, 520), (64, 64)])
def test_round_trip_of_any_size(coder, height, width, monkeypatch):
    monkeypatch.setattr(files, "TILE", 12)
    picture = car(5, height, width) if min(height, width) > 1 else np.full((1, 1, 3), 99, np.uint8)
    with walks() as seen:
        file = codec.encode(picture, 8, coder)
        decoded = codec.decode(file, coder)
    tiles = -(-height // 96) * -(-width // 96)
    assert decoded.shape == picture.shape and decoded.dtype == np.uint8
    assert len(seen) == 2 * tiles
    for encoder, decoder in zip(seen[:tiles], seen[tiles:], strict=True):
        torch.testing.assert_close(encoder, decoder, rtol=0, atol=0)
    assert psnr(decoded, picture) > 18


def test_one_and_many_tiles_look_the_same(coder, monkeypatch):
    """What the synthesis sees around a tile is enough: no seams."""
    picture = car(5, 200, 264)
    with torch.inference_mode():
        latents = coder.analysis(data.to_float(picture[None])).round()
    monkeypatch.setattr(codec.LearnedCodec, "walk", lambda self, tile, *_: tile)
    monkeypatch.setattr(torch, "empty", lambda *shape, **_: latents.clone())
    monkeypatch.setattr(torch, "zeros_like", lambda tile, **_: tile.clone())
    one = files._read(coder, 4, (264, 200), None)
    monkeypatch.setattr(files, "TILE", 9)
    many = files._read(coder, 4, (264, 200), None)
    assert np.abs(one.astype(int) - many).max() <= 1


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((30, 50, 3)),
        np.full((16, 16, 3), 255),
        np.random.default_rng(0).integers(0, 256, (40, 33, 3)),
    ],
)
def test_flat_pictures_and_noise(coder, picture):
    picture = picture.astype(np.uint8)
    assert codec.decode(codec.encode(picture, 8, coder), coder).shape == picture.shape


def test_quality_costs_bytes_and_shows(coder):
    coded = [codec.encode(car(3), quality, coder) for quality in range(1, 9)]
    sizes = np.array([len(file) for file in coded])
    assert (np.diff(sizes) > 0).all()
    worst, best = (psnr(codec.decode(file, coder), car(3)) for file in (coded[0], coded[-1]))
    assert best > worst + 1


def test_files_take_what_the_model_estimates(coder):
    for quality in (1, 5, 8):
        picture = car(4, 128, 128)
        with torch.inference_mode():
            decoded, bits = coder(data.to_float(picture[None]), torch.tensor([quality - 1]))
        file = codec.encode(picture, quality, coder)
        assert bits.item() / 8 - 8 < len(file) < 1.03 * bits.item() / 8 + 24
        assert np.abs(data.to_bytes(decoded)[0].astype(int) - codec.decode(file, coder)).max() <= 1


def test_collections_and_archives(coder, archive):
    pictures = dict(codec.decode_all(collection(coder), coder))
    assert {name: picture.shape for name, picture in pictures.items()} == {
        "a.jpg": (64, 64, 3),
        "b.png": (24, 40, 3),
    }
    np.testing.assert_array_equal(
        pictures["a.jpg"], codec.decode(codec.encode(car(1), 5, coder), coder)
    )
    opened = dict(codec.decode_all(archive))  # without any model
    assert list(opened) == ["a.png", "b.png"] and psnr(opened["a.png"], car(1, 32, 32)) > 15


def test_latents_instead_of_the_analysis(coder):
    """Tile by tile; what the analysis finds gives the file that there is without them."""
    pictures = {"a.png": car(1, 528, 16), "b.png": car(2, 528, 16)}
    with torch.inference_mode():
        found = coder.analysis(data.to_float(np.stack([*pictures.values()])))

    def encoded(latents):
        rest = iter(latents.split(1))
        return codec.encode_all(pictures, 5, coder, latents_for=lambda _: next(rest))

    plain = codec.encode_all(pictures, 5, coder)
    assert (
        abs(len(encoded(found)) - len(plain)) < 0.02 * codec.info(plain, coder)["bytes"]["latents"]
    )
    (_, a), (_, b) = codec.decode_all(encoded(found.flip(0)), coder)
    assert psnr(a, pictures["b.png"]) > 20 > psnr(a, pictures["a.png"])
    assert psnr(b, pictures["a.png"]) > 20
    with pytest.raises(
        ValueError, match=r"latents of shape \(1, 16, 65, 2\): expected \(1, 16, 66, 2\)"
    ):
        encoded(found[:, :, :65])
    with pytest.raises(ValueError, match="all finite"):
        encoded(found * torch.nan)


def test_info_counts_every_byte_and_tells_nothing_else(coder, file_of):
    for kind in ("picture", "collection", "archive"):
        about = codec.info(file_of[kind], coder)
        assert set(about) == {"version", "kind", "quality", "names", "sizes", "bytes"}
        assert (about["kind"], about["version"]) == (kind, 2 if kind == "archive" else 1)
        assert sum(about["bytes"].values()) == len(file_of[kind])
        assert (about["bytes"]["decoder"] > 0) == (kind == "archive")
    assert codec.info(file_of["picture"], coder)["quality"] == 3
    assert codec.info(file_of["picture"], coder)["bytes"]["header"] == 9
    assert codec.info(file_of["collection"], coder)["sizes"] == [(64, 64), (40, 24)]


def test_progress_goes_around_the_pictures(coder):
    """What it wraps is the loop itself: no tick is anything but a picture, and no byte changes."""
    seen = []

    def watch(pictures):
        for picture in pictures:
            seen.append(picture.shape)
            yield picture

    pictures = {"a.png": car(1, 16, 24), "b.png": car(2, 8, 8)}
    file = codec.encode_all(pictures, 5, coder, progress=watch)
    assert seen == [(16, 24, 3), (8, 8, 3)]
    assert file == codec.encode_all(pictures, 5, coder)


def test_precision_threads_and_autocast_change_nothing(coder):
    def both():
        with walks() as seen:
            file = codec.encode(car(6, 40, 40), 5, coder)
            return codec.decode(file, coder), file, seen

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        picture, file, latents = both()
        for change in (1, 2, "medium", "bfloat16"):
            torch.set_num_threads(change if isinstance(change, int) else 1)
            torch.set_float32_matmul_precision("medium" if change == "medium" else "highest")
            with (
                torch.autocast("cpu", torch.bfloat16, enabled=change == "bfloat16"),
                walks() as seen,
            ):
                decoded = codec.decode(file, coder)
                again = codec.encode(car(6, 40, 40), 5, coder)
            torch.testing.assert_close(seen[0], latents[1], rtol=0, atol=0)
            assert (
                np.abs(decoded.astype(int) - picture).max() <= 1
                and abs(len(again) - len(file)) <= 2
            )
            assert change != "bfloat16" or (again == file and (decoded == picture).all())
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")


def test_one_thread_codes_a_small_picture_and_the_others_come_back(coder, file_of, monkeypatch):
    used, walk, threads = [], codec.LearnedCodec.walk, torch.get_num_threads()
    monkeypatch.setattr(
        codec.LearnedCodec,
        "walk",
        lambda *arguments: used.append(torch.get_num_threads()) or walk(*arguments),
    )
    torch.set_num_threads(2)
    try:
        for side, expected in ((256, 1), (264, 2)):
            picture = np.zeros((side, side, 3), np.uint8)
            codec.decode(codec.encode(picture, 1, coder), coder)
            assert used == [expected, expected] and torch.get_num_threads() == 2
            used.clear()
        monkeypatch.setattr(files.Reader, "code", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            codec.decode(file_of["picture"], coder)
        assert used == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


FRESH = """
import json, resource, sys, zlib, numpy as np
sys.path.insert(0, {tests!r})
from conftest import codec, small_codec, walks
coder = codec.unpack(open({weights!r}, "rb").read())

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

with walks() as seen:
    picture = codec.decode(bytes.fromhex({file!r}), coder)
latents = zlib.crc32(seen[0].numpy().tobytes())
large = np.random.default_rng(0).integers(100, 120, (1024, 1536, 3), np.uint8)
codec.decode(codec.encode(large[:512, :512].copy(), 5, coder), coder)
before = peak()
codec.decode(codec.encode(large, 5, coder), coder)
print(json.dumps([latents, picture.tolist(), peak() - before]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="memory cannot be asked for there")
def test_a_fresh_process_decodes_the_same_in_little_memory(tmp_path):
    """Of 1.5 million pixels only the picture and its latents are kept, about 15 MB.

    All layers of all tiles would take 150.
    """
    weights = tmp_path / "weights.aew"
    weights.write_bytes(codec.pack(small_codec()))
    coder = codec.unpack(weights.read_bytes())
    file = codec.encode(car(6, 40, 40), 5, coder)
    code = FRESH.format(tests=str(TESTS), file=file.hex(), weights=str(weights))
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    latents, picture, megabytes = json.loads(run.stdout)
    with walks() as seen:
        decoded = codec.decode(file, coder)
    assert latents == zlib.crc32(seen[0].numpy().tobytes())
    assert np.abs(decoded.astype(int) - picture).max() <= 1
    assert megabytes < 60 or sys.platform != "linux"  # other units there


@pytest.mark.parametrize(
    "make,message",
    [
        (
            lambda c: codec.encode(car(0), 9, c),
            "quality=9: expected a whole number from 1, the smallest files, to 8",
        ),
        (lambda c: codec.encode(car(0), 0, c), "quality=0: expected"),
        (lambda c: codec.encode(car(0), 2.5, c), "quality=2.5: expected"),
        (
            lambda c: codec.encode(car(0) / 255, 5, c),
            r"float64: expected uint8 \(height, width, 3\); use data.to_bytes",
        ),
        (lambda c: codec.encode(car(0)[..., 0], 5, c), r"shape \(64, 64\), uint8: expected"),
        (lambda c: codec.encode(car(0)[:0], 5, c), r"shape \(0, 64, 3\)"),
        (lambda c: codec.encode([1], 5, c), r"shape None, list: expected uint8"),
        (
            lambda c: codec.encode(np.empty((4097, 4096, 3), np.uint8), 5, c),
            "4096x4097 pixels: expected 1 to 16,777,216, .* or cut it",
        ),
        (
            lambda c: codec.encode(car(0), 5, small_codec()),
            r"a model in floating point: .* use unpack\(pack\(model\)\)",
        ),
        (
            lambda c: collection(c, **{"a/b.png": car(0)}),
            "the name 'a/b.png': expected that of a file",
        ),
        (lambda c: collection(c, **{"a\n.png": car(0)}), r"the name 'a\\n.png': expected"),
        (lambda c: codec.encode_all({}, 5, c), "0 names: expected a list of 1 to 10,000"),
        (
            lambda c: collection(
                c, **dict.fromkeys(map(str, range(17)), np.empty((4096, 4096, 3), np.uint8))
            ),
            "at most 268,435,456 in a file",
        ),
    ],
)
def test_callers_errors(coder, make, message):
    with pytest.raises(ValueError, match=message):
        make(coder)


def test_a_file_is_tied_to_its_weights(coder):
    file = codec.encode(car(0), 5, coder)
    with pytest.raises(
        CorruptFileError, match="wrong checksum: damaged, cut short, or written with other weights"
    ):
        codec.decode(file, codec.unpack(codec.pack(coder, precision=8)))
    with pytest.raises(
        CorruptFileError, match="2 pictures in the file: expected one; use decode_all"
    ):
        codec.decode(collection(coder), coder)
    with pytest.raises(CorruptFileError, match="a file of weights alone"):
        codec.decode(codec.pack(coder), coder)
    with pytest.raises(CorruptFileError, match="a file of kind 0: expected weights"):
        codec.unpack(container.seal(0, 0, b""))
    with pytest.raises(CorruptFileError, match="version 2 of the format, picture: expected 1"):
        codec.decode(b"AE\x40" + file[3:], coder)


def test_golden_files_decode_for_ever():
    golden = json.loads((GOLDEN / "golden.json").read_text())
    assert len(golden) >= 4
    for name, expected in golden.items():
        with walks() as seen:
            pictures = list(codec.decode_all((GOLDEN / name).read_bytes()))
        assert (
            zlib.crc32(b"".join(tile.numpy().astype("<f8").tobytes() for tile in seen))
            == expected["latents"]
        ), name
        assert len(pictures) == len(expected["pictures"])
        # All of an archive's decoder is in fixed point; the last layers of the others are not.
        most = 0 if name == "archive.aez" else 1
        for (_, picture), png in zip(pictures, expected["pictures"], strict=True):
            with Image.open(GOLDEN / png) as image:
                assert np.abs(picture.astype(int) - np.asarray(image)).max() <= most, png


def test_weights_of_a_decoder_alone_encode_nothing():
    decoder = codec.unpack(codec.pack(small_codec(), decoder_only=True))
    with pytest.raises(ValueError, match="weights of a decoder alone: expected an encoder's"):
        codec.encode(car(0, 40, 40), 1, decoder)
