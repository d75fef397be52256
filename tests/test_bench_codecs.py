"""`make bench DATA=folder`: measures once, goes on where it was, and says what it cannot use."""

import csv
import re

import bench_codecs
import numpy as np
import pytest
from conftest import car
from PIL import Image

from autoencoders import codec, metrics

SIZE = 40  # pixels: quick, and too small for MS-SSIM


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(car(i, SIZE, SIZE + 8 * i)).save(folder / f"{i}.png")
    return folder


def bench(folder, *more):
    out = folder.parent / "bench"
    return bench_codecs.main([str(folder), "--out", str(out), *more]), out


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(bench_codecs, "SETTINGS", {"codec": (1, 5, 8), "JPEG": (5, 50, 95)})


def test_it_compares_at_equal_quality(folder, quick, capsys):
    status, out = bench(folder, "--sizes", str(SIZE), "full")
    assert status == 0, capsys.readouterr().err
    rates = read(out / "bd_rates.csv")
    assert [(rate["row"], rate["column"]) for rate in rates] == [
        ("against JPEG", f"{SIZE} pixels (3), PSNR"),
        ("against JPEG", "full size (3), PSNR"),
    ]
    for rate in rates:
        assert -95 < float(rate["low"]) <= float(rate["value"]) <= float(rate["high"]) < 50
    ours, our_psnr, sheet, its_psnr = read(out / "one_file.csv")
    assert (ours["row"], sheet["row"]) == ("codec, weights not counted", "JPEG, a contact sheet")
    assert float(ours["value"]) < float(sheet["value"])
    assert float(our_psnr["value"]) <= float(its_psnr["value"])


def test_effort_is_measured_beside_the_encoder_alone(folder, quick, capsys):
    status, out = bench(folder, "--sizes", str(SIZE), "--effort", "2")
    assert status == 0, capsys.readouterr().err
    rates = {rate["row"]: float(rate["value"]) for rate in read(out / "bd_rates.csv")}
    assert [*rates] == ["codec, against JPEG", "codec, effort 2, against JPEG"]
    # Two steps of search change little, but something.
    assert rates["codec, effort 2, against JPEG"] != rates["codec, against JPEG"]
    names = [row["row"] for row in read(out / "one_file.csv") if row["column"] == "bytes"]
    assert names[0] == "codec, weights not counted"
    assert names[2] == "codec, effort 2, weights not counted"
    assert names[1] == names[3] == "JPEG, a contact sheet"


def test_other_weights_are_a_rival(folder, quick, capsys):
    other = folder.parent / "other.aew"
    other.write_bytes(codec.pack(codec.shipped(), 8))
    status, out = bench(folder, "--sizes", str(SIZE), "--weights", str(other))
    assert status == 0, capsys.readouterr().err
    rates = {rate["row"]: float(rate["value"]) for rate in read(out / "bd_rates.csv")}
    assert [*rates] == ["against JPEG", f"against codec with {other}"]
    # Weights that are rounded more coarsely draw worse.
    assert -30 < rates[f"against codec with {other}"] < 0


def test_it_measures_nothing_twice_and_survives_a_cut_line(folder, quick, monkeypatch, capsys):
    _, out = bench(folder, "--sizes", str(SIZE))
    first = (out / "bd_rates.csv").read_bytes()
    lines = (out / "measured.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 3 * 3  # codecs, settings, pictures
    (out / "measured.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    calls = []
    measure = bench_codecs.measure
    monkeypatch.setattr(bench_codecs, "measure", lambda *a: calls.append(a) or measure(*a))
    status, _ = bench(folder, "--sizes", str(SIZE))
    assert status == 0 and len(calls) == 1 and (out / "bd_rates.csv").read_bytes() == first
    # A rival with other arguments is another rival.
    calls.clear()
    monkeypatch.setitem(metrics.CODECS, "JPEG", metrics.CODECS["JPEG"] | {"progressive": True})
    assert bench(folder, "--sizes", str(SIZE))[0] == 0
    assert {name for _, name, _ in calls} == {"JPEG"} and len(calls) == 3 * 3


def test_a_sheet_is_the_smallest_that_is_good_enough():
    pictures = np.stack([car(i, SIZE, SIZE) for i in range(3)])
    size, psnr = bench_codecs.sheet_of(pictures, "JPEG", 30)
    assert psnr >= 30
    smaller = bench_codecs.sheet_of(pictures, "JPEG", 27)
    assert smaller[0] < size and 27 <= smaller[1] < 30
    with pytest.raises(ValueError, match="JPEG does not reach 90"):
        bench_codecs.sheet_of(pictures, "JPEG", 90)


@pytest.mark.parametrize(
    "names,options,message",
    [
        ((), (), "0 pictures in .*: expected two or more"),
        (("0.png",), (), "1 pictures in .*: expected two or more"),
        (("0.png", "1.png"), ("--sizes", "huge"), "--sizes huge: expected a number of pixels"),
        (("0.png", "1.png"), ("--effort", "-1"), "--effort -1: expected a whole number"),
        (("0.png", "1.png"), ("--weights", "none.aew"), "--weights none.aew: no such file"),
    ],
)
def test_what_it_cannot_use_is_said(folder, names, options, message, capsys):
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    status, _ = bench(folder, *options)
    captured = capsys.readouterr().err
    assert status == 1 and re.search(f"error: {message}", captured)
