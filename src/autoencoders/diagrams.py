"""Drawings of networks: a block for each tensor, with its size, and the layers between them."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from autoencoders.plots import BLACK, BLUE, GREEN, GREY, ORANGE

ROLES = {"picture": GREY, "encoder": BLUE, "latent": ORANGE, "decoder": GREEN}
GAP = 0.85  # inches between two blocks, for the arrow


def network(stages: list[tuple], skips: list[tuple[int, int]] = (), title: str = "", ax=None):
    """Draw a network from left to right.

    `stages` are `(role, layer, shape)`: the role "picture", "encoder", "latent" or "decoder"
    decides the colour, `layer` is what makes this tensor of the one before ("" for the first), and
    `shape` is the tensor's, `(C, H, W)` or `(values,)`, without the batch. A block is the higher
    the more rows a tensor has, and the wider the more channels. `skips` are pairs of stages that a
    skip connection joins. Returns the axes. Raises ValueError for an unknown role.
    """
    for role, _, _ in stages:
        if role not in ROLES:
            raise ValueError(f"role={role!r}: expected one of {', '.join(ROLES)}")
    # Everything is laid out in inches: the axes' units, so that text and blocks fit one another.
    sizes = [_block(shape) for _, _, shape in stages]
    width = sum(w for w, _ in sizes) + GAP * (len(stages) + 0.6)
    tallest = max(h for _, h in sizes)
    if ax is None:
        ax = plt.subplots(figsize=(width, tallest + 1.6 + 0.45 * len(skips)))[1]
    left = 0.5 * GAP
    places = []  # where skip connections begin and end: the middle of each block's top
    for (role, layer, shape), (w, h) in zip(stages, sizes, strict=True):
        ax.add_patch(Rectangle((left, -h / 2), w, h, color=ROLES[role], alpha=0.85, lw=0))
        ax.text(left + w / 2, -h / 2 - 0.1, _words(shape), ha="center", va="top")
        if layer:
            _arrow(ax, (left - GAP, 0), (left, 0))
            # Under the arrow, since over the blocks there may be skip connections.
            ax.text(left - 0.5 * GAP, -0.14, layer, ha="center", va="top", rotation=90)
        places.append((left + w / 2, h / 2))
        left += w + GAP
    # After the blocks, so that the bows lie over them.
    for start, end in skips:
        _skip(ax, places[start], places[end])
    # Below the blocks stand their sizes, in up to three lines; above them rise the bows.
    ax.set(xlim=(0, width), ylim=(-tallest / 2 - 1.1, tallest / 2 + 0.1 + 0.45 * len(skips)))
    ax.set_title(title)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _block(shape: tuple) -> tuple[float, float]:
    """Width and height in inches: logarithmic, or 49,152 values would dwarf all others."""
    if len(shape) == 1:  # a vector: a thin bar
        return 0.14, 0.35 + 0.16 * np.log2(shape[0])
    channels, rows, _ = shape
    return 0.1 + 0.07 * np.log2(channels + 1), 0.3 + 0.3 * np.log2(rows)


def _words(shape: tuple) -> str:
    if len(shape) == 1:
        return f"{shape[0]:,}"
    channels, rows, columns = shape
    return f"{channels}\n× {rows}\n× {columns}"


def _arrow(ax, start, end, **style) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "color": BLACK, "lw": 1.4} | style
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=2, shrinkB=2, **style))


def _skip(ax, start, end) -> None:
    """A bow over the blocks from one to another."""
    # Bent to the left of its way, which is upwards for one that runs to the right.
    _arrow(ax, start, end, connectionstyle="arc3,rad=-0.25", color=GREY, ls="--", lw=1.6)


def flow(
    nodes: dict[str, tuple[float, float]],
    edges: list[tuple],
    colours: dict[str, str] | None = None,
    title: str = "",
    ax=None,
):
    """Draw a pipeline: a box for each of `nodes` `{text: (x, y)}`, an arrow for each of `edges`.

    Places count in boxes: `(1, 0)` is right of `(0, 0)`, and y grows upwards. An edge is
    `(from, to)` or `(from, to, words)`. `colours` are `{text: colour}`. Returns the axes. Raises
    ValueError for an edge from or to no node.
    """
    colours = colours or {}
    wide, high = 1.75, 0.95  # inches of a box
    step_x, step_y = 2.45, 1.6  # inches from a box to the next, so that arrows have room
    places = {name: (x * step_x, y * step_y) for name, (x, y) in nodes.items()}
    lefts = [place[0] for place in places.values()]
    heights = [place[1] for place in places.values()]
    if ax is None:
        size = (max(lefts) - min(lefts) + wide + 0.4, max(heights) - min(heights) + high + 0.9)
        ax = plt.subplots(figsize=size)[1]
    for name, (left, bottom) in places.items():
        box = Rectangle(
            (left - wide / 2, bottom - high / 2),
            wide,
            high,
            facecolor="white",
            edgecolor=colours.get(name, BLACK),
            lw=2.4,
        )
        ax.add_patch(box)
        ax.text(left, bottom, name, ha="center", va="center")
    for start, end, *words in edges:
        for name in (start, end):
            if name not in places:
                raise ValueError(f"edge {start!r} to {end!r}: expected nodes, {name!r} is none")
        # At the boxes' edges, since an arrow between centres would cross their text.
        a, b = _sides(np.array(places[start]), np.array(places[end]), wide, high)
        _arrow(ax, a, b, lw=1.8)
        if words:
            x, y = (np.array(a) + b) / 2
            if a[0] == b[0]:  # upright: beside the arrow
                ax.text(x + 0.1, y, words[0], ha="left", va="center")
            else:
                ax.text(x, y + 0.08, words[0], ha="center", va="bottom")
    ax.set(
        xlim=(min(lefts) - wide / 2 - 0.1, max(lefts) + wide / 2 + 0.1),
        ylim=(min(heights) - high / 2 - 0.1, max(heights) + high / 2 + 0.1),
        title=title,
    )
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _sides(a: np.ndarray, b: np.ndarray, wide: float, high: float) -> tuple[tuple, tuple]:
    """Where an arrow leaves one box and meets the other: the sides that face each other."""
    half = np.array([wide, high]) / 2 * np.sign(b - a)
    # Boxes side by side are joined at their sides, others at top and bottom.
    beside = abs(b - a)[0] >= wide
    half[1 if beside else 0] = 0
    return tuple(a + half), tuple(b - half)
