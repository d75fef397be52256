"""Where everything stands on a slide: one layout, for PowerPoint and for the browser.

A figure is what people look at, so it gets all the room that there is. Its shape decides where the
text goes: beside a figure that is nearly square stands a narrow column, above a wide one a strip.
All lengths are inches, on a slide of 13.33 by 7.5; sizes of text are points.
"""

import re
from dataclasses import dataclass, replace

WIDTH = 13.333
HEIGHT = 7.5
MARGIN = 0.3
TOP = 1.0  # below the title
BOTTOM = 6.95  # above the line of sources
GAP = 0.2

# A title keeps to one line, which leaves that much more for the figure.
TITLE_SIZE = 30

LEAD = 1.2  # from line to line, in sizes of the text

NARROWEST_COLUMN = 2.4
WIDEST_COLUMN = 0.28 * WIDTH
MOST_CELLS = 4  # side by side in a strip
BETWEEN = 0.3  # from paragraph to paragraph in a column

CAPTION = 0.45  # height of a line under the picture
BULLET = 0.25  # a list's indentation


@dataclass(frozen=True)
class Type:
    """Sizes of the text beside a figure, and of a number that the slide shows off, in points."""

    text: int
    key: int


SMALL = Type(20, 30)
TYPES = (Type(24, 44), Type(22, 36), SMALL)  # a column takes the first that fits


@dataclass(frozen=True)
class Box:
    """A rectangle on the slide, in inches."""

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        return self.width * self.height

    def holding(self, aspect: float) -> "Box":
        """The largest box inside, in the middle, that is `aspect` times as wide as high."""
        width = min(self.width, self.height * aspect)
        height = width / aspect
        left = self.left + (self.width - width) / 2
        top = self.top + (self.height - height) / 2
        return Box(left, top, width, height)


TITLE = Box(MARGIN, 0.2, WIDTH - 2 * MARGIN, 0.7)
BODY = Box(MARGIN, TOP, WIDTH - 2 * MARGIN, BOTTOM - TOP)


@dataclass(frozen=True)
class Layout:
    """Where the picture, its caption and each paragraph of the text stand.

    `kind` is "column", "strip" or "alone". A column has one box, which holds all its paragraphs; a
    strip has a box a paragraph.
    """

    kind: str
    picture: Box
    texts: tuple[Box, ...] = ()
    caption: Box | None = None
    type: Type = SMALL


# ---- The room that text takes ----


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a slide's text; a list is one of them."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def is_list(text: str) -> bool:
    """Whether a slide's text is a list: it has bullets, and nothing in it is shown off."""
    return text.lstrip().startswith("- ")


def pieces(paragraph: str) -> list[tuple[str, bool]]:
    """What stands on a line of its own, and whether it is a key number, written in `**`."""
    parts = re.split(r"\*\*(.+?)\*\*", paragraph, flags=re.S)
    said = [(" ".join(part.split(" ")).strip(), bool(i % 2)) for i, part in enumerate(parts)]
    return [(part, key) for part, key in said if part]


def width_of(text: str, size: float, bold: bool = False) -> float:
    """How wide a text is in Arial, within a few per cent."""
    ems = 0.0
    for letter in text:
        if letter in " .,:;'|!iljtfIr()-\N{NO-BREAK SPACE}":
            ems += 0.29
        elif letter.isupper() or letter in "mw%+×=−":
            ems += 0.72
        else:
            ems += 0.555
    return ems * size / 72 * (1.06 if bold else 1)


def lines(text: str, size: float, width: float, bold: bool = False) -> int:
    """How many lines a text takes; a no-break space keeps its neighbours together."""
    count = 1
    used = 0.0
    for word in re.split(r"[ \n]+", text):
        needed = width_of(word + " ", size, bold)
        if used and used + needed > width:
            count += 1
            used = 0.0
        used += needed
    return count


def height_of(text: str, width: float, type: Type) -> float:
    """How high a text is: a list, or paragraphs with each key number large on its own line."""
    blocks = paragraphs(text)
    if is_list(text):
        blocks = [item.replace("*", "") for item in re.split(r"^- ", text, flags=re.M)[1:]]
        width -= BULLET
    height = (len(blocks) - 1) * BETWEEN
    for block in blocks:
        for part, key in pieces(block):
            size = type.key if key else type.text
            height += lines(part, size, width, key) * size * LEAD / 72
    return height


def narrowest(text: str, type: Type) -> float:
    """The width of the longest word: nothing is cut within a word or within a key number."""
    bullets = is_list(text)
    widest = 0.0
    for paragraph in paragraphs(text):
        for piece, key in pieces(paragraph):
            size = type.key if key and not bullets else type.text
            for word in re.split(r"[ \n]+", piece):
                widest = max(widest, width_of(word, size, key))
    indent = BULLET if bullets else 0
    return widest + indent + 0.05


# ---- The layouts ----


def arrange(text: str, aspect: float, caption: bool = False) -> Layout:
    """The layout in which a picture, `aspect` times as wide as high, is largest.

    `text` is what stands beside it, its numbers filled in. Raises ValueError if it is too long.
    """
    body = replace(BODY, height=BODY.height - CAPTION) if caption else BODY
    if not text:
        best = Layout("alone", body.holding(aspect))
    else:
        layouts = [column(text, aspect, body), strip(text, aspect, body)]
        layouts = [layout for layout in layouts if layout]
        if not layouts:
            raise ValueError(
                f"its text does not fit beside the figure: {text[:60]!r}...; expected at most "
                f"{MOST_CELLS} short paragraphs or a short list: shorten it, or split the slide"
            )
        best = max(layouts, key=lambda layout: layout.picture.area)
    if caption:
        under = best.picture
        line = Box(under.left, under.top + under.height, under.width, CAPTION)
        best = replace(best, caption=line)
    return best


def column(text: str, aspect: float, body: Box) -> Layout | None:
    """Text at the left, the picture at the right; None if the text does not fit."""
    # What a picture of full height leaves is the text's, for it would stay white.
    left_over = body.width - GAP - body.height * aspect
    least = max(NARROWEST_COLUMN, narrowest(text, SMALL), left_over)
    for width in (min(least, WIDEST_COLUMN), WIDEST_COLUMN):
        for type in TYPES:
            too_high = height_of(text, width, type) > body.height
            if too_high or narrowest(text, type) > width:
                continue
            rest = width + GAP
            room = replace(body, left=body.left + rest, width=body.width - rest)
            words = replace(body, width=width)
            return Layout("column", room.holding(aspect), (words,), type=type)
    return None


def strip(text: str, aspect: float, body: Box) -> Layout | None:
    """Text in a row of cells, the picture below; None for a list or for too many cells."""
    parts = paragraphs(text)
    if is_list(text) or len(parts) > MOST_CELLS:
        return None
    width = (body.width - GAP * (len(parts) - 1)) / len(parts)
    if narrowest(text, SMALL) > width:
        return None
    height = max(height_of(part, width, SMALL) for part in parts) + 0.1
    cells = []
    for number in range(len(parts)):
        cells.append(Box(body.left + number * (width + GAP), body.top, width, height))
    rest = height + GAP / 2
    room = replace(body, top=body.top + rest, height=body.height - rest)
    return Layout("strip", room.holding(aspect), tuple(cells))


def cover(aspect: float, authors: bool) -> Layout:
    """The title slide: title and subtitle, a line each, above a picture that fills the rest."""
    lines_above = 2.0 + 0.45 * authors
    room = Box(MARGIN, lines_above, WIDTH - 2 * MARGIN, HEIGHT - lines_above - 0.2)
    title = Box(MARGIN, 0.3, WIDTH - 2 * MARGIN, 0.95)
    subtitle = Box(MARGIN, 1.25, WIDTH - 2 * MARGIN, lines_above - 1.35)
    return Layout("cover", room.holding(aspect), (title, subtitle))
