import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from autoencoders import course, plots, report


def recorded() -> dict:
    return course.load_results(course.results_folder())


def test_record_keeps_and_shows_nothing(capsys):
    report.record("svd.psnr_rank16", 25.6612345678, unit="dB", split="unseen", n=20)
    report.record("archive.bytes", 131_328, unit="bytes")
    assert capsys.readouterr().out == ""
    assert recorded() == {
        "svd.psnr_rank16": {
            "value": 25.6612,
            "unit": "dB",
            "split": "unseen",
            "n": 20,
            "data": "cars_sample",
        },
        "archive.bytes": {
            "value": 131_328,
            "unit": "bytes",
            "split": "",
            "n": None,
            "data": "cars_sample",
        },
    }


def test_results_are_sorted_and_replaced():
    for name, value in (
        ("b.x", 1),
        ("a.y", np.float32(0.1)),
        ("a.x", torch.tensor(2.5)),
        ("b.x", 3),
    ):
        report.record(name, value)
    path = course.results_folder() / "results.json"
    text = path.read_text("utf-8")
    assert list(json.loads(text)) == ["a.x", "a.y", "b.x"]
    assert recorded()["b.x"]["value"] == 3
    assert recorded()["a.y"]["value"] == 0.1
    report.record("b.x", 3)
    assert path.read_text("utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("name", ["psnr", "SVD.psnr", "svd.psnr rank", "svd..psnr", "svd.16"])
def test_names(name):
    with pytest.raises(ValueError, match="expected lower-case words joined by dots"):
        report.record(name, 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3", None])
def test_values(value):
    with pytest.raises(ValueError, match=r"a\.b=.*: expected one finite number"):
        report.record("a.b", value)


def test_a_notebook_alone_finds_what_the_earlier_ones_recorded(monkeypatch, tmp_path):
    """Of the committed results, unless these are of other pictures or of another run."""
    monkeypatch.delenv("COURSE_OUT")
    monkeypatch.setattr(course, "BUILD", tmp_path / "build")
    monkeypatch.setattr(course, "COMMITTED", tmp_path / "slides")
    monkeypatch.setenv("COURSE_OUT", str(course.COMMITTED))
    report.record("a.x", 1)
    report.record("a.y", 2)
    assert {name: result["value"] for name, result in report.load().items()} == {"a.x": 1, "a.y": 2}
    monkeypatch.setenv("COURSE_OUT", str(tmp_path / "other"))
    assert report.load() == {}
    monkeypatch.delenv("COURSE_OUT")
    report.record("a.y", 3)
    assert {name: result["value"] for name, result in report.load().items()} == {"a.x": 1, "a.y": 3}
    assert list(recorded()) == ["a.y"]
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert list(report.load()) == ["a.y"]


def test_in_a_notebook_a_record_is_in_the_output_and_out_of_sight(monkeypatch):
    published = []
    monkeypatch.setattr(report, "get_ipython", object)
    monkeypatch.setattr(report, "display", lambda data, raw: published.append((data, raw)))
    report.record("archive.bytes", 131_328, unit="bytes")
    result = {"name": "archive.bytes"} | recorded()["archive.bytes"]
    assert published == [({report.MIME: result}, True)]


def test_a_table_has_units_intervals_and_its_best_in_bold():
    rows = {
        "JPEG": {"bytes a picture": 2060, "PSNR [dB]": np.float64(28.123), "BD-rate [%]": None},
        "<ours>": {"bytes a picture": 688, "PSNR [dB]": 27.96, "BD-rate [%]": (-65.04, -67.2, -63)},
    }
    best = {"bytes a picture": "lowest", "PSNR [dB]": "highest"}
    table = report.table(rows, best, {"BD-rate [%]": 1})
    assert table.frame.to_dict("index") == {
        "JPEG": {"bytes a picture": "2,060", "PSNR [dB]": "28.12", "BD-rate [%]": "–"},
        "<ours>": {
            "bytes a picture": "688",
            "PSNR [dB]": "27.96",
            "BD-rate [%]": "-65.0 [-67.2, -63.0]",
        },
    }
    html = table._repr_html_()
    assert "<b>688</b>" in html and "<b>28.12</b>" in html and html.count("<b>") == 2
    assert "&lt;ours&gt;" in html and "<ours>" not in html
    assert repr(table) == table.frame.to_string()
    with pytest.raises(ValueError, match="column 'bytes': expected one of bytes a picture, PSNR"):
        report.table(rows, {"bytes": "lowest"})


def test_a_table_of_recorded_numbers():
    report.record("a.x", 3, "bytes", "unseen", 20)
    row = {"value": "3", "unit": "bytes", "pictures": "20 unseen", "data": "cars_sample"}
    assert report.table_of(["a.x"]).frame.to_dict("index") == {"a.x": row}


def draw():
    with plt.rc_context(plots.STYLE):
        ax = plots.lines({"a": ([1, 2], [3, 4])}, "bytes", "dB")
        report.save_figure("a_figure", ax)
    plt.close("all")
    return {p.name: p.read_bytes() for p in (course.results_folder() / "figures").iterdir()}


def test_figures_are_the_same_bytes_twice():
    first, second = draw(), draw()
    assert sorted(first) == ["a_figure.png", "a_figure.svg"] and first == second
    assert b"<dc:date>" not in first["a_figure.svg"]


def test_save_figure_takes_figures_and_grids(pictures):
    report.save_figure("grid", plots.grid(pictures))
    report.save_figure("figure", plt.figure())
    names = {path.name for path in (course.results_folder() / "figures").iterdir()}
    assert names == {"grid.png", "figure.png", "figure.svg"}  # what holds pictures has no SVG
    with pytest.raises(ValueError, match="name='a/b': expected letters, digits and underscores"):
        report.save_figure("a/b", plt.figure())
    plt.close("all")
