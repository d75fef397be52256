"""Figures for notebooks and slides: arrays in, axes out; nothing here trains or measures."""

import textwrap

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

# Okabe & Ito 2008: colours that colour-blind readers tell apart; yellow is left out, too pale for a
# projector.
BLUE, RED, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#6E6E6E"
COLOURS = [BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK]
MARKERS = "os^Dvp*"
# One look a codec in all figures of the course. A longer name that begins with one of these has its
# look, unless it has one of its own: "SVD int8" that of "SVD".
LOOKS = {
    "JPEG": (RED, "s", "-"),
    "JPEG 2000": (ORANGE, "P", "-"),
    "JPEG XL": (ORANGE, "X", "--"),
    "WebP": (GREEN, "^", "-"),
    "AVIF": (PINK, "D", "-"),
    "AVIF 4:4:4": (PINK, "d", "--"),
    "AVIF tuned": (PINK, "X", ":"),
    "PNG": (GREY, "H", "-"),
    "SVD": (GREY, "v", "-"),
    "SVD of own blocks": (GREY, "s", ":"),
    "SVD int8-coded": (GREY, "<", "--"),
    "block PCA": (BLACK, "p", "-"),
    "block PCA, a byte a value": (BLACK, "o", "--"),
    "dense": (SKY, "*", "-"),
    "convolutional": (BLUE, "h", "-"),
    "convolutional, 2,600 epochs": (BLUE, "o", "--"),
    "convolutional, 4,096 values": (BLUE, "s", ":"),
    "codec": (BLUE, "o", "-"),
    "small codec": (SKY, "o", "--"),
}
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "font.size": 17,
    "axes.titlesize": 18,
    "axes.titlelocation": "left",
    "axes.labelsize": 17,
    "legend.fontsize": 17,
    "legend.handlelength": 1.3,
    "legend.labelspacing": 0.25,
    "lines.linewidth": 2.4,
    "lines.markersize": 8,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 18,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "autoencoders",  # the same figure gives the same file
    "svg.fonttype": "path",
}
CHARACTER = 0.145  # inches that a character of the course's text is wide, about
LINE = 0.3  # inches that a line of it is high
SIDE = 2.56  # inches of a tile: 256 pixels on a page, so that each pixel of 128 becomes two


def use_style() -> None:
    """Make the course's look matplotlib's default: for the first cell of a notebook."""
    plt.rcParams.update(STYLE)


def look(name: str) -> dict | None:
    """Colour, marker and line style that a codec has in all figures, or None for another name."""
    known = [key for key in LOOKS if name.startswith(key)]
    if not known:
        return None
    # The longest: "JPEG 2000" begins with "JPEG", too.
    colour, marker, style = LOOKS[max(known, key=len)]
    return {"color": colour, "marker": marker, "ls": style}


def _show(pictures) -> np.ndarray:
    """Tensors `(N, C, H, W)` in [0, 1] or uint8 arrays `(N, H, W, 3)`, as matplotlib takes them."""
    shape = tuple(pictures.shape)
    channels = 1 if isinstance(pictures, torch.Tensor) else -1
    if len(shape) != 4 or shape[channels] not in (1, 3):
        raise ValueError(
            f"pictures of shape {shape}: expected tensors (N, 3, H, W) or arrays (N, H, W, 3); "
            "add [None] for a single one"
        )
    if channels == -1:
        return pictures
    return pictures.detach().cpu().float().clamp(0, 1).movedim(1, -1).numpy()


def _picture(axis, picture, title: str = "", side: float = SIDE) -> None:
    white = 255 if picture.dtype == np.uint8 else 1
    # Without interpolation, and stretched to axes of whole pixels, a page shows the pixels as they
    # are; matplotlib would otherwise smooth away what is to be compared.
    axis.imshow(picture, cmap="gray", vmin=0, vmax=white, interpolation="none", aspect="auto")
    longest = max(len(line) for line in title.split("\n"))
    # A title wider than its picture would run into the next one.
    size = axis.title.get_fontsize()
    wide = CHARACTER * longest * size / plt.rcParams["font.size"]
    # An empty title is 0 wide, and must not be divided by.
    axis.set_title(title, loc="center", fontsize=size * min(1, side / (wide + 1e-9)))
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _height(titles) -> float:
    """Inches that the tallest of some titles takes."""
    return max((LINE * (title.count("\n") + 1) for title in titles if title), default=0.0)


def _tiles(heads: list[float], columns: int, side: float, left: float, title: str) -> np.ndarray:
    """Axes `(rows, columns)`, each of exactly `side` inches, so that they stand in line.

    `heads` are the inches over each row for its titles, `left` those beside them for their names;
    `title` says the figure's message over all of them.
    """
    # By hand and not by matplotlib's layout, which makes room for a row's titles by shrinking its
    # pictures: then columns no longer stand in line.
    gap = 0.06  # inches between pictures
    across = columns * side + (columns - 1) * gap
    down = len(heads) * side + (len(heads) - 1) * gap
    # On a slide a large figure is made smaller, and its text with it. So that it can still be read
    # from the last row, text grows with the figure: 17 points are right for 9.4 x 5.6 inches.
    # Larger text makes a title longer, which may take a line more, so there are two rounds.
    scale = 1.0
    for _ in range(2):
        wrapped = "\n".join(textwrap.wrap(title, int(across / (CHARACTER * scale))))
        top = LINE * (wrapped.count("\n") + 1) + 0.12 if title else 0.0
        scale = max(1, across / (9.4 - left), down / (5.6 - top - sum(heads)))
    title = "\n".join(textwrap.wrap(title, int(across / (CHARACTER * scale))))
    top = LINE * (title.count("\n") + 1) + 0.12 if title else 0.0
    left, top = scale * left, scale * top
    heads = [scale * head for head in heads]
    width, height = left + across, top + sum(heads) + down
    # In two steps: a figure that never had a layout gets that of the course's style with its first
    # savefig, since matplotlib takes None for "the default" when it restores what there was.
    figure = plt.figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("none")
    size = scale * plt.rcParams["font.size"]
    if title:
        where = {"x": left / width, "y": 1 - 0.05 / height, "ha": "left", "va": "top"}
        figure.suptitle(title, fontsize=size, **where)
    axes = np.empty((len(heads), columns), object)
    # Row by row from the top; matplotlib counts upwards from the bottom.
    bottom = height - top
    for row, head in enumerate(heads):
        bottom -= head + side
        for column in range(columns):
            x = left + column * (side + gap)
            box = (x / width, bottom / height, side / width, side / height)  # shares of the figure
            axes[row, column] = figure.add_axes(box)
            axes[row, column].title.set_fontsize(size)
            axes[row, column].yaxis.label.set_fontsize(size)
        bottom -= gap
    return axes


def grid(
    pictures, titles=None, columns: int = 4, side: float = SIDE, title: str = ""
) -> np.ndarray:
    """Pictures in rows of `columns`, each `side` inches; `titles` one a picture.

    `title` says the figure's message. Returns the axes, `(rows, columns)`.
    """
    pictures = _show(pictures)
    titles = titles or [""] * len(pictures)
    columns = min(columns, len(pictures))
    count = -(-len(pictures) // columns)
    axes = _tiles([_height(titles)] * count, columns, side, 0.0, title)
    # The last row may have room left over, which stays empty.
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture, words in zip(axes.flat, pictures, titles, strict=False):
        axis.set_axis_on()
        _picture(axis, picture, words, side)
    return axes


def rows(
    named: dict, titles: dict | None = None, side: float = SIDE, title: str = ""
) -> np.ndarray:
    """A row for each `name: pictures`, as many in each, with its name at the left.

    `titles` are `{name: one a picture}`, `title` says the figure's message. Returns the axes,
    `(rows, columns)`.
    """
    shown = {name: _show(pictures) for name, pictures in named.items()}
    titles = titles or {}
    counts = [len(pictures) for pictures in shown.values()]
    columns = counts[0]
    if set(counts) != {columns}:
        raise ValueError(f"rows of {counts} pictures: expected as many in each")
    heads = [_height(titles.get(name, [])) for name in shown]
    # A name may have several lines, and the widest decides.
    lines = "\n".join(shown).split("\n")
    left = CHARACTER * max(map(len, lines)) + 0.15
    axes = _tiles(heads, columns, side, left, title)
    for line, (name, pictures) in zip(axes, shown.items(), strict=True):
        words = titles.get(name, [""] * columns)
        for axis, picture, text in zip(line, pictures, words, strict=True):
            _picture(axis, picture, text, side)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return axes


def before_after(
    before,
    after,
    titles=None,
    names=("before", "after"),
    magnify: float = 4,
    columns: int = 4,
    side: float = SIDE,
    title: str = "",
) -> np.ndarray:
    """Three rows: the pictures, what became of them, and the error, `magnify` times, around grey.

    `titles` stand over the second row, e.g. each picture's PSNR; `title` says the figure's message.
    Returns the axes, `(3, columns)`.
    """
    before, after = _show(before)[:columns], _show(after)[:columns]
    if before.shape != after.shape:
        raise ValueError(
            f"shapes {before.shape} and {after.shape}: expected as many pictures of one size "
            "before as after"
        )
    # Bytes would wrap around where the difference is negative.
    unit = [x / 255.0 if x.dtype == np.uint8 else x for x in (before, after)]
    error = np.clip(0.5 + magnify * (unit[1] - unit[0]), 0, 1)
    shown = {names[0]: before, names[1]: after, f"error ×{magnify:g}": error}
    over = None if titles is None else {names[1]: list(titles)[: len(before)]}
    return rows(shown, over, side, title)


def convergence(
    history: dict, terms=("loss",), label: str = "", log: bool = True, ax=None
) -> plt.Axes:
    """Training (thin) and validation (thick) curves of `fit`'s history against the epoch.

    Call again with `ax` for more runs.
    """
    if ax is None:
        ax = plt.subplots(figsize=(8.5, 5))[1]
    for term in terms:
        colour = _next_colour(ax)
        for part, style in (("train", {"lw": 1.2, "ls": "--"}), ("valid", {})):
            if f"{part}_{term}" in history:
                name = f"{label or term}, {part}"
                values = history[f"{part}_{term}"]
                ax.plot(history["epoch"], values, color=colour, label=name, **style)
    ax.set(xlabel="epoch", ylabel=terms[0], yscale="log" if log else "linear")
    ax.legend()
    return ax


def _next_colour(ax) -> str:
    """The first colour of the course that no line of these axes has."""
    taken = {line.get_color() for line in ax.lines}
    free = [colour for colour in COLOURS if colour not in taken]
    return free[0] if free else COLOURS[len(ax.lines) % len(COLOURS)]


def lines(
    curves: dict,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    ax=None,
    labels: str = "legend",
) -> plt.Axes:
    """One line with its own colour and marker for each `name: (x, y)`; axis labels carry the units.

    A codec has the look that it has everywhere (`look`). `labels` says where the names stand: in a
    "legend", or at the "ends" of the lines, where they cover nothing. Raises ValueError.
    """
    if labels not in ("legend", "ends"):
        raise ValueError(f"labels={labels!r}: expected 'legend' or 'ends'")
    if ax is None:
        ax = plt.subplots(figsize=(9, 5.4))[1]
    looks = {name: look(name) for name in curves}
    # Names without a look of their own get what no codec in this figure has, other colours first.
    colours = {style["color"] for style in looks.values() if style}
    used = {(style["color"], style["marker"]) for style in looks.values() if style}
    spare = [pair for pair in zip(COLOURS, MARKERS, strict=True) if pair not in used]
    spare.sort(key=lambda pair: pair[0] in colours)
    # More than seven lines: the same colours and markers again, dashed.
    spare = [{"color": c, "marker": m, "ls": "-"} for c, m in spare]
    spare += [{"color": c, "marker": m, "ls": "--"} for c, m in zip(COLOURS, MARKERS, strict=True)]
    for name, (x, y) in curves.items():
        style = looks[name] or spare.pop(0)
        ax.plot(x, y, label=name, **style)
    scales = {"xscale": "log" if logx else "linear", "yscale": "log" if logy else "linear"}
    ax.set(xlabel=xlabel, ylabel=ylabel, **scales)
    if labels == "ends":
        label_ends(ax)
    else:
        ax.legend()
    return ax


def label_ends(ax) -> None:
    """Write the name of each line to the right of the axes, at the height of its last point.

    Call it last, once the axes have their limits: names that would overlap are moved apart.
    """
    # matplotlib calls lines without a label `_child0` and so on.
    named = [line for line in ax.lines if not line.get_label().startswith("_")]
    # Asking for the limits is what makes matplotlib bring them up to date with the lines.
    ax.get_xlim()
    ax.get_ylim()
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in named]
    heights = [to_axes.transform(end)[1] for end in ends]
    # Text has a size in inches, places are shares of the axes' height.
    inches = ax.figure.get_size_inches()[1] * ax.get_position().height
    step = LINE / inches

    def from_below(i: int) -> tuple:
        # Of lines that end about as high the leftmost is named first, so that few leaders cross.
        return round(heights[i] / 0.08), -ends[i][0], heights[i]

    order = sorted(range(len(named)), key=from_below)
    spread = _apart(np.sort(heights), step)
    for i, y in zip(order, spread, strict=True):
        colour = named[i].get_color()
        ax.annotate(
            named[i].get_label(),
            xy=ends[i],
            xytext=(1.04, y),
            textcoords="axes fraction",
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 1, "alpha": 0.5},
            annotation_clip=False,
        )


def _apart(heights, step: float) -> np.ndarray:
    """Rising heights, moved as little as makes each at least `step` above the one below.

    None ends higher than at 0.97: there the axes end, and the title begins.
    """
    apart = np.array(heights, float)
    # Two that are too near are pushed apart, half each, until all have room.
    for _ in range(100):
        lacking = step - np.diff(apart)
        if (lacking <= 1e-6).all():
            break
        for i in np.flatnonzero(lacking > 0):
            apart[i] -= lacking[i] / 2
            apart[i + 1] += lacking[i] / 2
    # The highest may stand at 0.97, the next one a step below it, and so on down.
    return np.minimum(apart, 0.97 - step * np.arange(len(apart))[::-1])


def rate_distortion(
    curves: dict,
    quality: str = "PSNR [dB]",
    rate: str = "bytes per picture",
    ax=None,
    labels: str = "ends",
) -> plt.Axes:
    """Quality against rate, one line a codec: `{"JPEG": (bytes, psnr), ...}`.

    Rates are on a logarithmic axis with plain numbers; the codecs' names stand at their lines.
    """
    rising = {}
    for name, (sizes, levels) in curves.items():
        # Each line ends at its largest files, where its name goes.
        order = np.argsort(sizes)
        rising[name] = np.asarray(sizes)[order], np.asarray(levels)[order]
    ax = lines(rising, rate, quality, logx=True, ax=ax, labels=labels)
    ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))

    def label(x, _):
        # Over more than two decades there is no room but for powers of ten.
        wide = ax.get_xlim()[1] > 120 * ax.get_xlim()[0]
        if wide and round(np.log10(x) % 1, 6):
            return ""
        return f"{x:,.0f}" if x >= 1 else f"{x:g}"

    ax.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(label))
    # Minor ticks would be labelled too, and in powers of ten.
    ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    return ax


def bars(values: dict, xlabel: str, unit: str = "", intervals: dict | None = None, ax=None):
    """A horizontal bar for each `name: value`, its number beside it, the longest on top.

    `intervals` are `{name: (low, high)}`. A codec has its colour (`look`). Returns the axes.
    """
    if ax is None:
        rows_of_text = sum(name.count("\n") + 1 for name in values)
        ax = plt.subplots(figsize=(9, 0.28 * rows_of_text + 0.15 * len(values) + 1.2))[1]
    # `barh` begins at the bottom, so the longest comes last.
    names = sorted(values, key=values.get)
    colours = [(look(name) or {"color": GREY})["color"] for name in names]
    drawn = ax.barh(names, [values[name] for name in names], color=colours)
    for name, (low, high) in (intervals or {}).items():
        ax.plot([low, high], [name, name], color=BLACK, lw=3)
    words = [f"{_beside(values[name])}{unit}" for name in names]
    ax.bar_label(drawn, words, padding=6)
    ax.set(xlabel=xlabel)
    ax.grid(axis="y", visible=False)
    # Room for the numbers beside the bars.
    ax.margins(x=0.15)
    return ax


def _beside(value: float) -> str:
    """A number beside its bar: whole from a hundred on, else with one digit behind the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
