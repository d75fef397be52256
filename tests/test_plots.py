from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from autoencoders import data, plots


@pytest.fixture(autouse=True)
def close():
    with plt.rc_context():
        yield
    plt.close("all")


def test_grid_shows_each_picture_as_it_is(pictures):
    axes = plots.grid(data.to_float(pictures[:5]), titles=list("abcde"), columns=3)
    assert axes.shape == (2, 3)
    np.testing.assert_allclose(axes[1, 1].images[0].get_array(), pictures[4] / 255.0, atol=1e-6)
    assert axes[1, 1].get_title() == "e" and not axes[1, 2].axison
    assert plots.grid(pictures[:1]).shape == (1, 1)
    assert plots.grid(torch.rand(2, 1, 8, 8))[0, 0].images[0].get_cmap().name == "gray"


def test_before_after_magnifies_the_error_around_grey(pictures):
    before = torch.full((1, 3, 4, 4), 0.5)
    axes = plots.before_after(before, before + 0.1, titles=["20 dB"], magnify=4)
    np.testing.assert_allclose(axes[2, 0].images[0].get_array(), 0.9, rtol=1e-5)
    assert axes[1, 0].get_title() == "20 dB" and axes[2, 0].get_ylabel() == "error ×4"
    same = plots.before_after(pictures, pictures, columns=3)
    assert same.shape == (3, 3)
    np.testing.assert_array_equal(same[2, 1].images[0].get_array(), 0.5)


def test_convergence_draws_both_curves_in_one_colour():
    history = {
        "epoch": [1, 2, 3],
        "train_loss": [3.0, 2, 1],
        "valid_loss": [4.0, 3, 2],
        "lr": [1, 1, 1],
        "seconds": 1.0,
    }
    ax = plots.convergence(history, label="dense")
    assert [line.get_label() for line in ax.lines] == ["dense, train", "dense, valid"]
    assert ax.lines[0].get_color() == ax.lines[1].get_color() and ax.get_yscale() == "log"
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[1, 4], [2, 3], [3, 2]])
    plots.convergence(history, label="conv", ax=ax)
    assert len(ax.lines) == 4 and ax.lines[2].get_color() != ax.lines[0].get_color()


def test_rate_distortion_tells_curves_apart_without_colour():
    curves = {
        name: ([500, 1000, 2000], [20 + i, 25 + i, 30 + i]) for i, name in enumerate("abcdefgh")
    }
    ax = plots.rate_distortion(curves)
    assert (
        ax.get_xscale() == "log"
        and ax.get_xlabel() == "bytes per picture"
        and ax.get_ylabel() == "PSNR [dB]"
    )
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert len(looks) == 8 and len({marker for _, marker, _ in looks}) == 7
    ax.figure.canvas.draw()
    assert "1,000" in [label.get_text() for label in ax.get_xticklabels()]


def test_style_is_for_a_projector():
    plots.use_style()
    assert plt.rcParams["font.size"] >= 17 and plt.rcParams["svg.hashsalt"]


@pytest.mark.parametrize(
    "bad", [torch.rand(3, 8, 8), torch.rand(1, 4, 8, 8), np.zeros((8, 8, 3), np.uint8)]
)
def test_a_single_picture_is_no_batch(bad):
    with pytest.raises(ValueError, match=r"expected tensors \(N, .*add \[None\] for a single one"):
        plots.grid(bad)


def test_before_and_after_must_match(pictures):
    with pytest.raises(
        ValueError, match=r"shapes \(2, 64, 64, 3\) and \(3, 64, 64, 3\): expected as many pictures"
    ):
        plots.before_after(pictures[:2], pictures[:3])


def test_rows_have_a_name_and_their_titles(pictures):
    axes = plots.rows(
        {"clean": pictures[:2], "noisy": data.to_float(pictures[2:4])},
        {"noisy": ["20 dB", "21 dB"]},
    )
    assert axes.shape == (2, 2) and [axis.get_ylabel() for axis in axes[:, 0]] == ["clean", "noisy"]
    assert [axis.get_title() for axis in axes.flat] == ["", "", "20 dB", "21 dB"]
    np.testing.assert_allclose(axes[1, 1].images[0].get_array(), pictures[3] / 255.0, atol=1e-6)
    with pytest.raises(ValueError, match=r"rows of \[2, 1\] pictures: expected as many in each"):
        plots.rows({"clean": pictures[:2], "noisy": pictures[:1]})


def test_titles_fit_over_their_picture(pictures):
    axes = plots.grid(pictures[:2], ["k = 1", "a title much too long for it"], side=1.3)
    widths = [
        axis.title.get_window_extent().width / axis.get_window_extent().width for axis in axes.flat
    ]
    assert max(widths) < 1.1 and axes.flat[0].title.get_fontsize() == plt.rcParams["font.size"]


def test_a_codec_has_one_look_everywhere():
    assert plots.look("AVIF 4:4:4 sheet") == plots.look("AVIF 4:4:4") != plots.look("AVIF")
    assert plots.look("something else") is None
    several = plots.lines({"WebP": ([1], [1]), "x": ([1], [2]), "y": ([1], [3])}, "", "")
    alone = plots.lines({"WebP": ([1], [1])}, "", "")
    assert several.lines[0].get_color() == alone.lines[0].get_color() == plots.GREEN
    assert len({line.get_color() for line in several.lines}) == 3
    looks = [plots.look(name) for name in plots.LOOKS]
    assert len({(style["color"], style["marker"], style["ls"]) for style in looks}) == len(looks)


def test_names_stand_at_the_height_of_their_lines_on_linear_axes():
    ax = plots.lines({"low": ([1, 2], [10, 15]), "high": ([1, 2], [10, 45])}, "", "", labels="ends")
    assert all(-0.1 < text.xyann[1] < 1.1 for text in ax.texts)


def test_tiles_keep_their_places_when_a_figure_is_saved(tmp_path):
    plots.use_style()
    figure = plots.grid(torch.rand(2, 3, 8, 8))[0, 0].figure
    figure.savefig(tmp_path / "a.png", bbox_inches="tight")
    assert not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)


def test_names_at_the_ends_do_not_overlap():
    curves = {name: ([1, 2], [0, i / 100]) for i, name in enumerate(("JPEG", "WebP", "AVIF", "d"))}
    ax = plots.lines(curves, "", "", labels="ends")
    ax.figure.canvas.draw()
    # Of an annotation as a whole the extent has its leader in it.
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == ["JPEG", "WebP", "AVIF", "d"]
    assert all(low.y1 <= high.y0 + 2 for low, high in pairwise(boxes))
    assert ax.get_legend() is None
    with pytest.raises(ValueError, match="labels='side': expected 'legend' or 'ends'"):
        plots.lines(curves, "", "", labels="side")


def test_names_at_one_end_follow_the_heights_of_their_lines():
    curves = {"second": ([1, 2], [0, 51]), "first": ([1, 2], [0, 50]), "far": ([1, 2], [0, 100])}
    ax = plots.lines(curves, "", "", labels="ends")
    assert [text.get_text() for text in ax.texts] == ["first", "second", "far"]


def test_heights_move_as_little_as_they_must():
    np.testing.assert_allclose(plots._apart([0, 0.5, 0.9], 0.1), [0, 0.5, 0.9])
    np.testing.assert_allclose(plots._apart([0, 0.9, 1.2], 0.1), [0, 0.87, 0.97])
    np.testing.assert_allclose(plots._apart([0.5, 0.5], 0.1), [0.45, 0.55], atol=1e-5)


def test_tiles_are_of_one_size_and_in_line(pictures):
    """Also where one row has titles and another has none."""
    axes = plots.rows({"a": pictures[:3], "b": pictures[:3]}, {"b": ["x"] * 3}, title="A message")
    boxes = [axis.get_window_extent() for axis in axes.flat]
    np.testing.assert_allclose([(box.width, box.height) for box in boxes], 256, atol=1e-6)
    for column in axes.T:
        assert len({round(axis.get_window_extent().x0, 3) for axis in column}) == 1
    assert axes[0, 0].figure.get_suptitle() == "A message"


def test_bars_show_their_numbers_longest_on_top():
    ax = plots.bars(
        {"JPEG": 195.2, "AVIF": 90.26, "mine": 127}, "size [kB]", " kB", {"JPEG": (1, 2)}
    )
    assert [text.get_text() for text in ax.texts] == ["90.3 kB", "127 kB", "195 kB"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["AVIF", "mine", "JPEG"]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2])


def test_a_long_title_is_wrapped_and_text_grows_with_the_figure(pictures):
    """So that it can be read when a slide makes the figure smaller."""
    title = "The network finds edges that the best filter smooths away, at its own noise"
    named = dict.fromkeys(("one", "two", "three", "four"), pictures[:4])
    figure = plots.rows(named, title=title)[0, 0].figure
    assert figure.get_suptitle().split() == title.split() and "\n" in figure.get_suptitle()
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
    width, height = figure.get_size_inches()
    grown = figure._suptitle.get_fontsize() / plt.rcParams["font.size"]
    assert 17 * grown * min(10.1 / width, 5.95 / height) >= 18  # points, on a slide
