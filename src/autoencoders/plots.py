"""Figures for notebooks and slides: arrays in, axes out; nothing here trains or computes a metric."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

# Okabe & Ito 2008: eight colours that colour-blind readers tell apart; yellow is left out, too pale for a projector.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = "os^Dvp*"
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=COLOURS), "font.size": 17, "axes.titlesize": 18, "axes.titlelocation": "left",
    "axes.labelsize": 17, "legend.fontsize": 17, "legend.handlelength": 1.3, "legend.labelspacing": 0.25, "lines.linewidth": 2.4,
    "lines.markersize": 8, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False,
    "figure.titlesize": 18, "figure.constrained_layout.use": True, "figure.dpi": 72, "savefig.dpi": 150, "svg.hashsalt": "autoencoders",
    "svg.fonttype": "path",
}  # fmt: skip
CHARACTER = 0.145  # inches that a character of the course's text is wide, about


def use_style() -> None:
    """Make the course's look matplotlib's default: for the first cell of a notebook."""
    plt.rcParams.update(STYLE)


def _show(pictures) -> np.ndarray:
    """Tensors `(N, C, H, W)` in [0, 1] or uint8 arrays `(N, H, W, 3)`, as arrays `(N, H, W, C)` that matplotlib takes."""
    shape, colour = tuple(pictures.shape), 1 if isinstance(pictures, torch.Tensor) else -1
    if len(shape) != 4 or shape[colour] not in (1, 3):
        raise ValueError(
            f"pictures of shape {shape}: expected tensors (N, 3, H, W) or arrays (N, H, W, 3); add [None] for a single one"
        )
    return (
        pictures.detach().cpu().float().clamp(0, 1).movedim(1, -1).numpy()
        if colour == 1
        else pictures
    )


def _picture(axis, picture, title: str = "", side: float = 1.6) -> None:
    axis.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=255 if picture.dtype == np.uint8 else 1,
        interpolation="none",
    )
    longest = max(map(len, title.split("\n")))
    axis.set_title(
        title,
        loc="center",
        fontsize=min(1, side / (CHARACTER * longest + 1e-9)) * plt.rcParams["font.size"],
    )
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _height(titles) -> float:
    """Inches that the tallest of some titles takes."""
    return max((0.27 * (title.count("\n") + 1) for title in titles if title), default=0.0)


def grid(pictures, titles=None, columns: int = 8, side: float = 1.6) -> np.ndarray:
    """Pictures in rows of `columns`, each `side` inches; `titles` one a picture. Returns the axes, `(rows, columns)`."""
    pictures, titles = _show(pictures), titles or [""] * len(pictures)
    columns = min(columns, len(pictures))
    count = -(-len(pictures) // columns)
    _, axes = plt.subplots(
        count, columns, figsize=(side * columns, (side + _height(titles)) * count), squeeze=False
    )
    for i, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if i < len(pictures):
            axis.set_axis_on()
            _picture(axis, pictures[i], titles[i], side)
    return axes


def rows(named: dict, titles: dict | None = None, side: float = 1.3) -> np.ndarray:
    """A row for each `name: pictures`, as many in each, with its name at the left; `titles` are `{name: one a picture}`.

    Returns the axes, `(rows, columns)`.
    """
    shown, titles = {name: _show(pictures) for name, pictures in named.items()}, titles or {}
    columns = len(next(iter(shown.values())))
    if {len(pictures) for pictures in shown.values()} != {columns}:
        raise ValueError(
            f"rows of {[len(pictures) for pictures in shown.values()]} pictures: expected as many in each"
        )
    heights = [side + _height(titles.get(name, [])) for name in shown]
    width = side * columns + CHARACTER * max(
        len(line) for name in shown for line in name.split("\n")
    )
    _, axes = plt.subplots(
        len(shown), columns, figsize=(width, sum(heights)), squeeze=False, height_ratios=heights
    )
    for line, (name, pictures) in zip(axes, shown.items(), strict=True):
        for axis, picture, title in zip(
            line, pictures, titles.get(name, [""] * columns), strict=True
        ):
            _picture(axis, picture, title, side)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return axes


def before_after(
    before,
    after,
    titles=None,
    names=("before", "after"),
    magnify: float = 4,
    columns: int = 5,
    side: float = 1.3,
) -> np.ndarray:
    """Three rows: the pictures, what became of them, and the error, `magnify` times, around mid-grey.

    `titles` stand over the second row, e.g. each picture's PSNR. Returns the axes, `(3, columns)`.
    """
    before, after = _show(before)[:columns], _show(after)[:columns]
    if before.shape != after.shape:
        raise ValueError(
            f"shapes {before.shape} and {after.shape}: expected as many pictures of one size before as after"
        )
    unit = [x / 255.0 if x.dtype == np.uint8 else x for x in (before, after)]
    error = np.clip(0.5 + magnify * (unit[1] - unit[0]), 0, 1)
    shown = {names[0]: before, names[1]: after, f"error ×{magnify:g}": error}
    return rows(shown, {names[1]: titles[: len(before)]} if titles is not None else None, side)


def convergence(
    history: dict, terms=("loss",), label: str = "", log: bool = True, ax=None
) -> plt.Axes:
    """Training (thin) and validation (thick) curves of `fit`'s history against the epoch; call again with `ax` for more runs."""
    ax = ax or plt.subplots(figsize=(7, 4.2))[1]
    for term in terms:
        colour = ax._get_lines.get_next_color()
        for part, look in (("train", {"lw": 1.2, "ls": "--"}), ("valid", {})):
            if f"{part}_{term}" in history:
                ax.plot(
                    history["epoch"],
                    history[f"{part}_{term}"],
                    color=colour,
                    label=f"{label or term}, {part}",
                    **look,
                )
    ax.set(xlabel="epoch", ylabel=terms[0], yscale="log" if log else "linear")
    ax.legend()
    return ax


def lines(
    curves: dict, xlabel: str, ylabel: str, logx: bool = False, logy: bool = False, ax=None
) -> plt.Axes:
    """One line with its own colour and marker for each `name: (x, y)`; axis labels carry the units."""
    ax = ax or plt.subplots(figsize=(7.5, 4.8))[1]
    for i, (name, (x, y)) in enumerate(curves.items()):
        ax.plot(
            x,
            y,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            ls="-" if i < len(COLOURS) else "--",
            label=name,
        )
    ax.set(
        xlabel=xlabel,
        ylabel=ylabel,
        xscale="log" if logx else "linear",
        yscale="log" if logy else "linear",
    )
    ax.legend()
    return ax


def rate_distortion(
    curves: dict, quality: str = "PSNR [dB]", rate: str = "bytes per picture", ax=None
) -> plt.Axes:
    """Quality against rate, one line a codec: `{"JPEG": (bytes, psnr), ...}`, rates on a logarithmic axis with plain numbers."""
    ax = lines(curves, rate, quality, logx=True, ax=ax)
    ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))

    def label(x, _):
        wide = (
            ax.get_xlim()[1] > 120 * ax.get_xlim()[0]
        )  # then there is no room but for powers of ten
        return "" if wide and round(np.log10(x) % 1, 6) else f"{x:,.0f}" if x >= 1 else f"{x:g}"

    ax.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(label))
    ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    return ax
