"""The codec's commands, with a little codec in place of the shipped one."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from conftest import car, counted_steps, small_codec
from PIL import Image

from autoencoders import __main__ as command_line
from autoencoders import codec, data, metrics, training
from autoencoders.codec import cli, files, weights
from autoencoders.codec import training as recipes
from codec.conftest import TINY


@pytest.fixture(autouse=True)
def little(coder, monkeypatch):
    monkeypatch.setattr(weights, "shipped", lambda: coder)
    monkeypatch.setattr(recipes, "ARCHIVE", TINY)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for i in range(2):
        Image.fromarray(car(i, 32, 40)).save(tmp_path / f"car{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments) -> int:
    return command_line.main([str(a) for a in arguments])


def refused(capsys, *arguments) -> str:
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ")
    return err


def decoded(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_picture_is_written_as_encode_gives_it(folder, coder, capsys):
    assert run("encode", "car0.png", "-o", "one.aez", "--quality", 3) == 0
    assert (folder / "one.aez").read_bytes() == codec.encode(car(0, 32, 40), 3, coder)
    assert run("encode", "car0.png", "-o", "default.aez") == 0
    assert (folder / "default.aez").read_bytes() == codec.encode(car(0, 32, 40), 5, coder)
    assert run("decode", "one.aez", "-o", "out") == 0
    assert [p.name for p in (folder / "out").iterdir()] == ["one.png"]
    np.testing.assert_array_equal(
        decoded("out/one.png"), codec.decode((folder / "one.aez").read_bytes(), coder)
    )
    out, err = capsys.readouterr()
    assert "one.aez: " in out and "bits per pixel" in out and err == ""


def test_effort_makes_another_file_for_the_same_decoder(folder, coder, capsys):
    assert run("encode", "car0.png", "-o", "one.aez", "--quality", 3, "--effort", 5) == 0
    latents = codec.refine(car(0, 32, 40), 3, 5)
    expected = codec.encode(car(0, 32, 40), 3, coder, latents)
    assert (folder / "one.aez").read_bytes() == expected
    assert run("encode", "car0.png", "car1.png", "-o", "cars.aez", "--effort", 2) == 0
    assert run("decode", "cars.aez", "-o", "out") == 0
    capsys.readouterr()
    for options in (("--effort", -1), ("--effort", 5, "--with-decoder")):
        assert run("encode", "car0.png", "-o", "two.aez", *options) == 1
        assert "--effort" in capsys.readouterr().err
    assert not (folder / "two.aez").exists()


def test_several_pictures(folder, coder, capsys):
    assert run("encode", "car0.png", "car1.png", "-o", "cars.aez") == 0
    pictures = {f"car{i}.png": car(i, 32, 40) for i in range(2)}
    assert (folder / "cars.aez").read_bytes() == codec.encode_all(pictures, 5, coder)
    assert run("decode", "cars.aez", "-o", folder / "new" / "out") == 0
    assert sorted(p.name for p in (folder / "new" / "out").iterdir()) == ["car0.png", "car1.png"]
    capsys.readouterr()
    assert run("info", "cars.aez") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "version 1, collection, quality 5, 2 pictures" and lines[-2:] == [
        "40x32 car0.png",
        "40x32 car1.png",
    ]
    size = (folder / "cars.aez").stat().st_size
    numbers = [int(line.split()[1].replace(",", "")) for line in lines[1:5]]
    assert numbers[3] == size == sum(numbers[:3]) and lines[4].endswith(
        f"{8 * size / (2 * 32 * 40):.3f} bits per pixel"
    )


def test_any_mode_and_orientation_at_its_own_size(folder, coder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (9, 7), 77).save("grey.png")
    Image.new("RGBA", (9, 7), (255, 0, 0, 0)).save("clear.png")
    Image.fromarray(car(0, 24, 40)).save("turned.png", exif=exif)
    assert (
        run("encode", "grey.png", "clear.png", "turned.png", "-o", "all.aez", "--quality", "8") == 0
    )
    expected = {
        "grey.png": np.full((7, 9, 3), 77, np.uint8),
        "clear.png": np.full((7, 9, 3), 255, np.uint8),
    }
    expected["turned.png"] = np.rot90(car(0, 24, 40), -1).copy()
    assert (folder / "all.aez").read_bytes() == codec.encode_all(expected, 8, coder)


def test_nothing_is_overwritten_without_force(folder, capsys):
    (folder / "cars.aez").write_text("precious")
    assert "cars.aez is there already: expected a new name; add --force" in refused(
        capsys, "encode", "car0.png", "-o", "cars.aez"
    )
    assert (folder / "cars.aez").read_text() == "precious"
    assert run("encode", "car0.png", "-o", "cars.aez", "--force") == 0
    (folder / "out").mkdir()
    (folder / "out" / "cars.png").write_text("precious")
    capsys.readouterr()
    assert "cars.png is there already" in refused(capsys, "decode", "cars.aez", "-o", "out")
    assert (folder / "out" / "cars.png").read_text() == "precious"
    assert run("decode", "cars.aez", "-o", "out", "--force") == 0
    assert decoded("out/cars.png").shape == (32, 40, 3)
    assert not list(folder.rglob("*.part"))


def test_a_failure_leaves_the_old_file(folder, monkeypatch, capsys):
    (folder / "cars.aez").write_text("precious")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert "disk full" in refused(capsys, "encode", "car0.png", "-o", "cars.aez", "--force")
    assert (folder / "cars.aez").read_text() == "precious" and not list(folder.rglob("*.part"))


def test_bad_pictures_are_named(folder, capsys):
    (folder / "bad.jpg").write_text("no picture")
    Image.new("1", (4096, 4104)).save("large.png")
    assert "bad.jpg cannot be read" in refused(
        capsys, "encode", "car0.png", "bad.jpg", "-o", "cars.aez"
    )
    assert (
        "large.png cannot be read"
        in (message := refused(capsys, "encode", "large.png", "-o", "cars.aez"))
        and "4096x4104" in message
    )
    assert "there is no picture missing.png: expected" in refused(
        capsys, "encode", "missing.png", "-o", "cars.aez"
    )
    assert "there is no folder nowhere: expected one to write cars.aez into" in refused(
        capsys, "encode", "car0.png", "-o", "nowhere/cars.aez"
    )
    assert "bad.jpg: 10 bytes that begin with" in refused(capsys, "info", "bad.jpg")
    assert "quality=9: expected" in refused(
        capsys, "encode", "car0.png", "-o", "cars.aez", "--quality", 9
    )
    assert "quality=0: expected" in refused(
        capsys, "encode", "car0.png", "car1.png", "-o", "cars.aez", "--quality", 0
    )
    assert not (folder / "cars.aez").exists()


def test_pictures_that_would_fall_on_one_another(folder, capsys):
    (folder / "sub").mkdir()
    for name in ("sub/car0.png", "car0.webp", "CAR0.bmp"):
        Image.fromarray(car(3, 32, 40)).save(name)
    assert "the name 'car0.png' twice" in refused(
        capsys, "encode", "car0.png", "sub/car0.png", "-o", "cars.aez"
    )
    assert "would both be decoded to 'car0.png'" in refused(
        capsys, "encode", "car0.png", "car0.webp", "-o", "cars.aez"
    )
    assert "would both be decoded to" in refused(
        capsys, "encode", "car0.png", "CAR0.bmp", "-o", "cars.aez"
    )


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "..\\evil", "..", "", "a\0b", "a\nb"]
)
def test_hostile_names_write_nothing(folder, coder, capsys, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(files, "check_names", lambda names: None)
        pictures = {"a.png": car(0, 8, 8), name: car(0, 8, 8)}
        (folder / "evil.aez").write_bytes(codec.encode_all(pictures, 5, coder))
    before = sorted(folder.parent.rglob("*"))
    assert "a list of pictures that no program wrote (the name" in refused(
        capsys, "decode", "evil.aez", "-o", "out"
    )
    assert sorted(folder.parent.rglob("*")) == before


def test_names_that_fall_on_one_another_are_corrupt(folder, coder, capsys):
    pictures = {"a.png": car(0, 8, 8), "A.jpg": car(0, 8, 8)}
    (folder / "two.aez").write_bytes(codec.encode_all(pictures, 5, coder))
    assert "two.aez: 'a.png' and another picture would both" in refused(
        capsys, "decode", "two.aez", "-o", "out"
    )
    with pytest.raises(codec.CorruptFileError):
        cli.run_decode(
            type("", (), {"file": folder / "two.aez", "out": folder / "out", "force": False})
        )
    assert not (folder / "out").exists()


def test_damaged_and_missing_files(folder, capsys):
    (folder / "bad.aez").write_text("no file of ours")
    for command in (["info", "bad.aez"], ["decode", "bad.aez", "-o", "out"]):
        assert "expected a file of this codec" in refused(capsys, *command)
    assert "No such file" in refused(capsys, "info", "missing.aez")
    assert not (folder / "out").exists()


def test_an_archive_is_trained_and_needs_no_weights(folder, capsys, monkeypatch):
    command = ["encode", "car0.png", "car1.png", "-o", "cars.aez", "--with-decoder"]
    assert run(*command, "--epochs", 3, "--psnr", 20) == 0
    monkeypatch.setattr(weights, "shipped", None)
    told, note = capsys.readouterr()
    assert note == (
        "note: 20 dB were asked for; what came is not near. Try another --psnr, or more --epochs\n"
    )
    assert run("info", "cars.aez") == 0
    assert "version 2, archive, quality 1, 2 pictures" in capsys.readouterr().out
    assert run("decode", "cars.aez", "-o", "out") == 0
    mean = np.mean(
        [
            metrics.psnr(decoded(f"car{i}.png")[None], decoded(f"out/car{i}.png")[None])[0]
            for i in range(2)
        ]
    )
    assert f"bits per pixel, {mean:.2f} dB" in told
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "car0.png",
        "car1.png",
        "cars.aez",
    ]


def test_an_archive_goes_on_after_an_interruption(folder, capsys, monkeypatch):
    command = ["encode", "car0.png", "car1.png", "--with-decoder", "--epochs", 4, "-o"]
    assert run(*command, "whole.aez") == 0
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **k: fit(*a, **k, save_seconds=-1))
    with counted_steps(monkeypatch, torch.optim.Adam, 3):
        assert run(*command, "cut.aez") == 130
    assert "goes on from where it was" in capsys.readouterr().err
    assert (folder / "cut.aez.checkpoint").exists()
    assert not (folder / "cut.aez").exists()
    Image.fromarray(car(9, 32, 40)).save("other.png")
    other_pictures = ["encode", "car0.png", "other.png", *command[3:], "cut.aez"]
    other_psnr = [*command[:-1], "--psnr", 27, "-o", "cut.aez"]
    for changed in (other_pictures, other_psnr):
        assert "is of another run (" in refused(capsys, *changed)
    with counted_steps(monkeypatch, torch.optim.Adam) as others:
        assert run(*command, "cut.aez") == 0
    assert len(others) == 4 - 3 + 1
    assert (folder / "cut.aez").read_bytes() == (folder / "whole.aez").read_bytes()
    assert not [*folder.glob("*.checkpoint")]


def test_archives_want_equal_sizes(folder, capsys):
    Image.fromarray(car(0, 24, 40)).save("other.png")
    Image.fromarray(car(0, 600, 1000)).save("large.png")
    start = ["encode", "-o", "cars.aez", "--with-decoder"]
    assert "pictures of 40x24, 40x32 pixels: an archive with its decoder expects" in refused(
        capsys, *start, "car0.png", "other.png"
    )
    assert "pictures of 1000x600 pixels: an archive with its decoder expects" in refused(
        capsys, *start, "large.png"
    )
    assert "--quality with --with-decoder" in refused(capsys, *start, "car0.png", "--quality", 3)
    assert "--psnr 32: expected 20 to 31 dB" in refused(capsys, *start, "car0.png", "--psnr", 32)
    assert "--psnr 30: expected 20 to 31 dB, and --with-decoder" in refused(
        capsys, "encode", "-o", "c.aez", "car0.png", "--psnr", 30
    )


def test_weights_are_trained_packed_and_seeded(folder, capsys, monkeypatch):
    """With all sizes cut down; what is passed on is what the shipped weights were trained with."""
    given, original = [], data.cars

    def cars(size, where, limit=100):
        given.append((size, where, limit))
        return original(size // 8, data.ROOT / "cars_sample", 10)

    monkeypatch.setattr(data, "cars", cars)
    monkeypatch.setattr(recipes, "LearnedCodec", lambda: codec.LearnedCodec((2, 3), 4, 4, 1, 4))
    monkeypatch.setattr(data, "augment", lambda crop, **options: given.append((crop, options)))
    monkeypatch.setenv("COURSE_DATA", str(folder))  # is not to be looked at
    for out, seed in (("a.aew", 1), ("b.aew", 1), ("c.aew", 2)):
        assert (
            run(
                "train",
                "codec",
                "--pictures",
                "renders",
                "--out",
                out,
                "--epochs",
                2,
                "--seed",
                seed,
            )
            == 0
        )
    sample = data.ROOT / "cars_sample"
    assert given[:4] == [
        (128, sample, 100),
        (256, sample, 100),
        (256, folder.__class__("renders"), None),
        given[3],
    ]
    assert given[3] == (64, {"area": (1 / 16, 0.3), "colours": True})
    files = [(folder / name).read_bytes() for name in ("a.aew", "b.aew", "c.aew")]
    assert files[0] == files[1] != files[2] and codec.unpack(files[0]).groups == [2, 3]
    said = capsys.readouterr()
    assert "a.aew: " in said.err and "18 training items, 2 epochs, last loss" in said.err
    # A line for each epoch of each of the three.
    assert [json.loads(line)["epoch"] for line in said.out.splitlines()] == 3 * [1, 2]
    assert "a.aew is there already" in refused(capsys, "train", "codec", "--out", "a.aew")


def test_a_student_learns_from_its_teacher_or_from_the_originals(folder, capsys, monkeypatch):
    original = data.cars
    monkeypatch.setattr(
        data,
        "cars",
        lambda size, where, limit=100: original(size // 8, data.ROOT / "cars_sample", 10),
    )
    monkeypatch.setattr(data, "augment", lambda crop, **options: lambda pictures: pictures)
    monkeypatch.setattr(recipes, "STUDENT", {"width": 4, "post": 4, "blocks": 0, "context": 2})
    for out, options in (("a.aew", []), ("b.aew", []), ("c.aew", ["--without-teacher"])):
        assert run("train", "student", "--out", out, "--epochs", 1, *options) == 0
    a, b, c = ((folder / name).read_bytes() for name in ("a.aew", "b.aew", "c.aew"))
    assert a == b != c and codec.unpack(a).arguments["width"] == 4
    about = f"a.aew: {len(a):,} bytes; 128 training items, 1 epochs, last loss"
    assert about in capsys.readouterr().err
    assert "train codec with --without-teacher: expected no more than --pictures, --ep" in refused(
        capsys, "train", "codec", "--out", "d.aew", "--without-teacher"
    )


def test_progress_only_where_somebody_looks(folder, capsys, monkeypatch):
    monkeypatch.delenv("CI")
    assert run("encode", "car0.png", "-o", "a.aez") == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("encode", "car0.png", "-o", "b.aez") == 0 and "read" in capsys.readouterr().err


def test_floating_point_models_do_not_slip_in(folder, monkeypatch, capsys):
    monkeypatch.setattr(weights, "shipped", small_codec)
    assert "a model in floating point" in refused(capsys, "encode", "car0.png", "-o", "x.aez")
    assert torch.is_grad_enabled()
