"""Build the talk, build/deck.pptx and build/deck.html, from `deck.md` and what was recorded.

`make slides` takes the committed results, in slides/; `make run` ends with the talk about its own,
in build/. It lives beside the talk, because it is no part of what a student reads in `src/`, and it
imports neither torch nor matplotlib: the talk must be there in seconds. `deck.md` says in its
header how a slide is written.
"""

import copy
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import pypandoc
import yaml
from PIL import Image
from pptx import Presentation
from pptx.enum.dml import MSO_THEME_COLOR
from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.enum.text import PP_ALIGN
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls
from pptx.shapes.autoshape import Shape
from pptx.util import Inches, Pt

import layout
from autoencoders import course
from layout import Box, Layout

HERE = Path(__file__).resolve().parent
# The wheel's pandoc, whatever other one the machine has.
PANDOC = Path(pypandoc.__file__).parent / "files" / ("pandoc.exe" if os.name == "nt" else "pandoc")
WORDS_A_MINUTE = 130

# ---- How deck.md is written; its header explains each of these ----

PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.S)
EXPRESSION = re.compile(
    r"([a-z_][a-z0-9_.]*)"  # a result
    r"((?:\s*/\s*[a-z0-9_.]+)*)"  # divided by others
    r"(?:\|(n|unit|split|data))?"  # something about it
    r"(?::(\S+))?"  # a format
)
CHOICE = re.compile(r"([a-z_][a-z0-9_.]*) *([<>]) *(-?[\d.]+) *\?(.*?) : (.*)", re.S)
CLAIM = re.compile(r"\s*([a-z_][a-z0-9_.]*) *([<>]) *(\S+)\s*")
HEADING = re.compile(r"^(##?) +(.*?)(?: *\{((?:\w+=\"[^\"]*\" *)+)\})? *$", re.M)
UNIT = re.compile(r"(\d\**) (?=\**(?:dB|kB|%|bytes)\b|%)")
TIMES = re.compile(r"(?<=\d) × (?=\d)")
NOTES = re.compile(r"^::: *notes *\n(.*?)^::: *$\n?", re.S | re.M)
FIGURE = re.compile(r"^!\[(.*?)\]\(figures/([^)\s]+)\)(?:\{alt=\"(.*?)\"\})? *$", re.M)
COMMENT = re.compile(r"<!--.*?-->", re.S)
NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|twenty|thirty|forty|fifty|sixty|eighty|ninety"
    r"|hundreds?|thousands?|millions?|dozens?|half|halves|third|quarters?|twice|double)\b",
    re.I,
)


class DeckError(ValueError):
    """What is wrong with the talk: the slide, what stands there, and how to mend it."""


@dataclass
class Slide:
    """One slide with its numbers filled in.

    `used` are the names of the results that its visible text quotes, `sources` the data sets that
    these may come from.
    """

    title: str
    text: str
    notes: str
    caption: str = ""
    figure: str = ""
    alt: str = ""
    sources: list = field(default_factory=list)
    used: list = field(default_factory=list)
    level: int = 2
    spare: bool = False
    warnings: list = field(default_factory=list)
    layout: Layout | None = None  # of a slide with a figure


# ---- Numbers ----


def results_folder() -> Path:
    """Where the talk takes its numbers and figures: `slides/`, which is committed.

    With `COURSE_DATA` or `COURSE_OUT` it is where a run with them puts its results.
    """
    own = os.environ.get("COURSE_DATA") or os.environ.get("COURSE_OUT")
    return course.results_folder() if own else course.COMMITTED


def load(folder: Path) -> dict:
    """The recorded numbers of a folder. Raises DeckError if there are none, or a damaged file."""
    try:
        results = course.load_results(folder)
    except course.CorruptFileError as error:
        raise DeckError(str(error)) from None
    if not results:
        raise DeckError(
            f"no numbers in {folder / 'results.json'}: expected those that the notebooks record; "
            "execute them with `make run`"
        )
    return results


def shown(value: float, style: str | None = None) -> str:
    """A number as readers see it: as in README (whole from 100 up, else one decimal), or formatted.

    `style` is one of Python's, such as `.2f`; `abs.1f` drops the sign, `up` rounds up to a whole
    number.
    """
    if style == "up":
        value = math.ceil(value)
        style = ".0f"
    if style and style.startswith("abs"):
        value = abs(value)
        style = style[3:]
    if not style:
        whole = isinstance(value, int) or abs(value) >= 100
        style = ".0f" if whole else ".1f"
    text = format(value, style.replace(".", ",.", 1))  # with commas between thousands
    return text.replace("-", "−")  # a minus sign: a line may end after a hyphen


class Filler:
    """Fills the placeholders of one slide and keeps account of what was used."""

    def __init__(self, where: str, results: dict, accepted: list, folder: Path):
        self.where = where
        self.results = results
        self.accepted = accepted
        self.folder = folder
        self.used = []

    def error(self, what: str) -> DeckError:
        return DeckError(f"{self.where}: {what}")

    def result(self, name: str, placeholder: str) -> dict:
        """A result by its name. Raises DeckError if there is none, or of another data set."""
        if name not in self.results:
            raise self.error(
                f"{placeholder} names {name!r}, which is not in {self.folder / 'results.json'}. "
                f"Known: {self.similar(name)}. "
                "Correct the name in slides/deck.md, or execute the notebook that records it"
            )
        result = self.results[name]
        if result["data"] not in self.accepted:
            raise self.error(
                f"{placeholder} is a number of {result['data']!r}, but the slide expects "
                f"{' or '.join(map(repr, self.accepted))}. "
                "Execute the notebooks again (`make run`, with the same COURSE_DATA), "
                "or name the source in the slide's sources"
            )
        self.used.append(name)
        return result

    def similar(self, name: str) -> str:
        """Some names that could have been meant: those of the same notebook, or else any."""
        namespace = name.split(".")[0]
        near = [known for known in self.results if known.split(".")[0] == namespace]
        names = near or list(self.results)
        return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")

    def value(self, term: str, placeholder: str) -> float:
        """The value of a number or of a result's name."""
        if re.fullmatch(r"-?[\d.]+", term):
            return float(term)
        return self.result(term, placeholder)["value"]

    def holds(self, left: float, sign: str, right: float) -> bool:
        return left < right if sign == "<" else left > right

    def fill(self, text: str) -> str:
        """The text with every placeholder replaced."""
        text = PLACEHOLDER.sub(self.one, text)
        if "{{" in text or "}}" in text:
            raise self.error("a placeholder is not closed: expected {{name}}, both braces doubled")
        return text

    def one(self, match: re.Match) -> str:
        placeholder = match[0]
        inside = match[1].strip()
        if choice := CHOICE.fullmatch(inside):
            name, sign, limit, yes, no = choice.groups()
            true = self.holds(self.value(name, placeholder), sign, float(limit))
            return (yes if true else no).strip()
        expression = EXPRESSION.fullmatch(inside)
        if not expression:
            raise self.error(
                f"{placeholder} is no placeholder: expected {{{{name}}}}, {{{{name:.1f}}}}, "
                "{{name / other:.0f}}, {{name|n}} or {{name < 0 ? words : other words}}; "
                "see the header of slides/deck.md"
            )
        name, divisors, about, style = expression.groups()
        if about:
            return self.about(name, about, placeholder)
        value = self.value(name, placeholder)
        for divisor in re.split(r"\s*/\s*", divisors)[1:]:
            value = value / self.value(divisor, placeholder)
        try:
            return shown(value, style)
        except ValueError:
            raise self.error(
                f"{placeholder} has the format {style!r}: "
                "expected one such as .1f, abs.1f, .0f or up"
            ) from None

    def about(self, name: str, key: str, placeholder: str) -> str:
        """What else is recorded of a result: n, unit, split or data."""
        text = self.result(name, placeholder)[key]
        if text in (None, ""):
            raise self.error(
                f"{placeholder}: {name} was recorded without {key!r}; "
                "record it with it, or leave it out"
            )
        return str(text)


# ---- Slides ----


@dataclass
class Deck:
    """What all slides are made from: the header of deck.md, the results and their folder.

    `names` are the data sets as results.json calls them, under the short names of the header.
    """

    header: dict
    names: dict
    results: dict
    folder: Path


def read(text: str, results: dict, folder: Path, real: bool = False) -> tuple[dict, list[Slide]]:
    """Header and slides of a `deck.md`, numbers filled in; the first slide is the header's title.

    `real` says that the run is on real data (COURSE_DATA), which decides what each source must be
    called.
    """
    parts = re.match(r"---\n(.*?)\n---\n(.*)", text, re.S)
    if not parts:
        raise DeckError("slides/deck.md: expected a header between two lines of ---")
    header = yaml.safe_load(parts[1])
    body = COMMENT.sub("", parts[2])
    names = {}
    for name, known in header["sources"].items():
        # Two names: with the pictures of the repository, and with COURSE_DATA.
        names[name] = known[real] if isinstance(known, list) else known
    deck = Deck(header, names, results, folder)

    on_cover = f"{header['subtitle']}\n\n{header.get('picture', '')}"
    cover = make_slide(deck, "cover", header["title"], on_cover, header["notes"], {})
    if cover.figure:
        cover.layout = layout.cover(aspect_of(deck, cover.figure), bool(header["author"]))
    slides = [cover]
    headings = list(HEADING.finditer(body))
    ends = [heading.start() for heading in headings[1:]] + [len(body)]
    for heading, end in zip(headings, ends, strict=True):
        title = heading[2]
        inside = body[heading.end() : end]
        attributes = dict(re.findall(r'(\w+)="(.*?)"', heading[3] or ""))
        notes = NOTES.search(inside)
        where = f"slide {len(slides) + 1}, {title!r}"
        said = notes[1] if notes else ""
        slide = make_slide(deck, where, title, NOTES.sub("", inside), said, attributes)
        slide.level = len(heading[1])
        # Everything is spare from the one heading of level 1 on.
        slide.spare = slides[-1].spare or slide.level == 1
        if slide.figure:
            slide.layout = layout_of(deck, where, slide)
        slides.append(slide)
    return header, slides


def make_slide(
    deck: Deck, where: str, title: str, text: str, notes: str, attributes: dict
) -> Slide:
    """One slide: numbers filled in, its figure found, its claims and typed numbers checked."""
    sources = sources_of(deck, where, attributes)
    filler = Filler(where, deck.results, sources, deck.folder)
    caption, file, alt = figure_of(deck, where, text)
    text = FIGURE.sub("", text)
    if "![" in text:
        raise DeckError(
            f"{where}: expected a figure alone on its line, "
            'as ![caption](figures/name.png){alt="what it shows"}'
        )

    def filled(part: str) -> str:
        """With numbers, and with spaces before units and in 8 × 8 at which no line ends."""
        part = UNIT.sub("\\1\N{NO-BREAK SPACE}", filler.fill(part).strip())
        return TIMES.sub("\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}", part)

    slide = Slide(filled(title), filled(text), "", filled(caption), file, filled(alt), sources)
    slide.used = list(dict.fromkeys(filler.used))  # what is only said has no source line
    slide.notes = filler.fill(notes).strip()
    for part in (title, text, caption, alt, notes):
        for number in typed_numbers(part, deck.header.get("typed", {})):
            slide.warnings.append(
                f"{where}: {number!r} is typed: take it from the results, "
                "or list it under `typed` in the header"
            )
    for claim in filter(None, attributes.get("claims", "").split(",")):
        slide.warnings += failed(claim, where, filler)
    return slide


def sources_of(deck: Deck, where: str, attributes: dict) -> list[str]:
    """The data sets that a slide's numbers may come from; the cars where it names none."""
    sources = []
    for source in attributes.get("sources", "cars").split(","):
        source = source.strip()
        if source not in deck.names:
            raise DeckError(
                f"{where}: sources name {source!r}: expected {', '.join(deck.names)}; "
                "add it to the header of slides/deck.md"
            )
        sources.append(deck.names[source])
    return sources


def figure_of(deck: Deck, where: str, text: str) -> tuple[str, str, str]:
    """Caption, file name and alternative text of a slide's figure; three times "" without one."""
    figures = FIGURE.findall(text)
    if not figures:
        return "", "", ""
    if len(figures) > 1:
        raise DeckError(
            f"{where}: {len(figures)} figures: expected one a slide; "
            "split it, or join them in the notebook"
        )
    caption, file, alt = figures[0]
    folder = deck.folder / "figures"
    if not (folder / file).is_file():
        near = sorted(path.name for path in folder.glob(file.split("_")[0] + "*.png"))
        hint = f", but {', '.join(near)}" if near else ""
        raise DeckError(
            f"{where}: there is no figures/{file} in {deck.folder}{hint}. "
            "Correct the name in slides/deck.md, or execute the notebook that saves it"
        )
    if not alt:
        raise DeckError(
            f"{where}: figures/{file} has no text for who cannot see it: "
            f'write ![caption](figures/{file}){{alt="what it shows"}}'
        )
    return caption, file, alt


def aspect_of(deck: Deck, figure: str) -> float:
    """How many times as wide as high a figure is."""
    with Image.open(deck.folder / "figures" / figure) as picture:
        return picture.width / picture.height


def layout_of(deck: Deck, where: str, slide: Slide) -> Layout:
    """Where figure and text of a slide stand. Raises DeckError if the text is too long."""
    try:
        return layout.arrange(slide.text, aspect_of(deck, slide.figure), bool(slide.caption))
    except ValueError as error:
        raise DeckError(f"{where}: {error}") from None


def failed(claim: str, where: str, filler: Filler) -> list[str]:
    """A warning if a claim such as `conv.gain_over_svd > 0` does not hold for these results."""
    said = CLAIM.fullmatch(claim)
    if not said:
        raise DeckError(
            f"{where}: claim {claim!r}: expected 'name < number' or 'name > other.name'"
        )
    left = filler.value(said[1], claim)
    right = filler.value(said[3], claim)
    if filler.holds(left, said[2], right):
        return []
    return [
        f"{where} claims {claim.strip()}, but here it is {shown(left)} against {shown(right)}: "
        "reword the slide"
    ]


def typed_numbers(text: str, allowed: dict) -> list[str]:
    """Digits and number words outside placeholders, but for the `allowed` phrases."""
    text = PLACEHOLDER.sub(" ", text)
    for phrase in sorted(allowed, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text, flags=re.I)
    return NUMBER.findall(text)


def minutes(notes: str) -> float:
    """How long notes take to read aloud."""
    return len(re.findall(r"\w\S*", notes)) / WORDS_A_MINUTE


def clock(time: float) -> str:
    """Minutes as 4:30."""
    return f"{int(time)}:{round(60 * (time % 1)) % 60:02d}"


def timed(slides: list[Slide]) -> list[str]:
    """The notes, each with the time at which it begins; spare slides have none."""
    now = 0.0
    notes = []
    for slide in slides:
        stamp = "(spare)"
        if not slide.spare:
            begin = now
            now += minutes(slide.notes)
            stamp = f"({clock(begin)} to {clock(now)})"
        notes.append(f"{stamp}\n\n{slide.notes}" if slide.notes else "")
    return notes


def source_line(slide: Slide, results: dict) -> str:
    """What stands at the foot: the slide's data sets, and over how many pictures it averages."""
    parts = []
    for source in slide.sources:
        counts = {}  # a dict keeps the order, a set does not
        for name in slide.used:
            result = results[name]
            if result["data"] == source and result["n"] is not None:
                counts[f"{result['n']:,} {result['split']}".strip()] = True
        parts.append(f"{source}, n = {' and '.join(counts)}" if counts else source)
    return " · ".join(parts)


# ---- Through pandoc ----


def markdown(
    header: dict, slides: list[Slide], notes: list[str], feet: list[str], html: bool
) -> str:
    """What pandoc gets: for HTML with the parts of a slide told apart."""
    cover = {
        "title": slides[0].title,
        "subtitle": slides[0].text,
        "author": header["author"],
        "lang": "en",
        "notes": notes[0],
        "last": str(len(slides)),
    }
    if html and slides[0].layout:
        cover["picture"] = picture_in_html(slides[0]) + "\n"
    out = ["---\n" + yaml.safe_dump(cover, allow_unicode=True) + "---\n"]
    for number in range(1, len(slides)):
        slide = slides[number]
        if html:
            out += html_parts(slide)
            out.append(f"::: foot\n[{feet[number]}]{{}} [{number + 1} / {len(slides)}]{{}}\n:::")
        else:
            out += powerpoint_parts(slide)
        if notes[number]:
            out.append(f"::: notes\n{notes[number]}\n:::")
    return "\n\n".join(out) + "\n"


def html_parts(slide: Slide) -> list[str]:
    """A slide for the browser, without foot and notes: template.html lays out each kind."""
    kind = slide.layout.kind if slide.layout else "text-only"
    parts = [f"{'#' * slide.level} {slide.title} {{.{kind}}}"]
    if slide.text and not slide.layout:
        parts.append(f"::: text\n{slide.text}\n:::")
    elif slide.text:
        # A strip's cells lie beside each other, so together they are as wide as the whole strip.
        first, last = slide.layout.texts[0], slide.layout.texts[-1]
        around = Box(first.left, first.top, last.left + last.width - first.left, first.height)
        keys = "" if layout.is_list(slide.text) else " .keys"
        large = f"--text: {slide.layout.type.text}pt; --key: {slide.layout.type.key}pt"
        parts.append(f'::: {{.text{keys} style="{css(around)}; {large}"}}\n{slide.text}\n:::')
    if slide.figure:
        parts.append(picture_in_html(slide))
    if slide.caption:
        parts.append(f'::: {{.caption style="{css(slide.layout.caption)}"}}\n{slide.caption}\n:::')
    return parts


def picture_in_html(slide: Slide) -> str:
    """A slide's figure in its place."""
    alt = json.dumps(slide.alt, ensure_ascii=False)
    style = css(slide.layout.picture)
    return f'::: {{.picture style="{style}"}}\n![]({slide.figure}){{alt={alt}}}\n\n:::'


def css(box: Box) -> str:
    """A place on the slide in pixels: a slide of the browser has 96 an inch."""
    sides = {"left": box.left, "top": box.top, "width": box.width, "height": box.height}
    return "; ".join(f"{side}: {96 * inches:.1f}px" for side, inches in sides.items())


def powerpoint_parts(slide: Slide) -> list[str]:
    """A slide for PowerPoint, without notes: pandoc chooses a layout by what is there."""
    parts = [f"{'#' * slide.level} {slide.title}"]
    if slide.text:
        parts.append(slide.text)
    if slide.figure:
        parts.append(f"![{slide.caption}]({slide.figure})")
    return parts


def pandoc(text: str, folder: Path, *options: str) -> None:
    """Run pandoc on markdown with the figures of `folder`. Raises DeckError, with what it said."""
    command = [
        str(PANDOC),
        "--from=markdown",
        "--slide-level=2",
        "--fail-if-warnings",
        f"--resource-path={folder / 'figures'}",
        *options,
    ]
    done = subprocess.run(command, input=text, encoding="utf-8", capture_output=True, check=False)
    if done.returncode:
        raise DeckError(f"pandoc could not build the slides: {done.stderr.strip()}")


# ---- PowerPoint ----


@dataclass
class Place:
    """Where a placeholder of a layout stands, in inches, and how its text looks, in points."""

    left: float
    top: float
    width: float
    height: float
    size: int
    bold: bool = False
    colour: str = "tx1"
    space: int = 0
    anchor: str = "t"
    bullet: bool = False


# Layout -> number of the placeholder in it -> where and how. tx2 is the theme's dark blue.
HEAD = {"bold": True, "colour": "tx2"}
TITLE = Place(*astuple(layout.TITLE), layout.TITLE_SIZE, anchor="ctr", **HEAD)
LAYOUTS = {
    "Title Slide": {
        0: Place(0.9, 2.0, 11.5, 1.6, 48, anchor="b", **HEAD),
        1: Place(0.9, 3.8, 11.5, 1.6, 28),
    },
    "Section Header": {
        0: Place(0.9, 2.4, 11.5, 1.4, 44, anchor="b", **HEAD),
        1: Place(0.9, 4.0, 11.5, 1.4, 28),
    },
    "Title and Content": {
        0: TITLE,
        1: Place(0.6, 1.4, 12.1, 5.3, 28, space=16, bullet=True),
    },
    "Content with Caption": {
        0: TITLE,
        2: Place(0.3, 1.0, 3.7, 5.9, layout.SMALL.text),  # moved on each slide, as its layout says
        1: Place(4.2, 1.0, 8.8, 5.9, layout.SMALL.text),
    },
}
# At the foot of every layout, by PowerPoint's numbers for slide number, footer and date:
# left edge and width, in inches.
FEET = {13: (11.53, 1.5), 15: (0.3, 9.0), 16: (9.4, 2.0)}
FOOTER = 15


def reference(path: Path) -> None:
    """Write our style for PowerPoint: pandoc's slides at 16:9, Arial, dark blue titles.

    No text is below 18 points, so that it can be read from the last row.
    """
    command = [str(PANDOC), "--print-default-data-file=reference.pptx"]
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    deck = Presentation(str(path))
    widen(deck)
    recolour(deck)
    for kind in deck.slide_layouts:
        for number, place in LAYOUTS.get(kind.name, {}).items():
            shape = next(s for s in kind.placeholders if s.placeholder_format.idx == number)
            put(shape, place)
    for part in (deck.slide_master, *deck.slide_layouts):
        for shape in part.placeholders:
            put_at_the_foot(shape)
    deck.save(str(path))


def widen(deck) -> None:
    """Scale slides of 4:3 to 16:9, and their text with them, to at least 18 points."""
    factor = Inches(13.333) / deck.slide_width
    deck.slide_width = 12192000
    deck.slide_height = 6858000
    for part in (deck.slide_master, *deck.slide_layouts):
        tree = part._element
        for point in tree.xpath(".//p:sp//a:off"):
            scale(point, "xy", factor)
        for extent in tree.xpath(".//p:sp//a:ext[@cx]"):
            scale(extent, ("cx", "cy"), factor)
        for style in tree.xpath(".//a:defRPr[@sz]"):
            style.set("sz", str(max(1800, round(int(style.get("sz")) * factor))))
    for style in deck.part._element.xpath("//p:defaultTextStyle//a:defRPr[@sz]"):
        style.set("sz", "2000")  # captions


def scale(element, attributes, factor: float) -> None:
    for name in attributes:
        element.set(name, str(round(int(element.get(name)) * factor)))


def recolour(deck) -> None:
    """Arial for Calibri, which not everybody has, and a blue that is dark enough."""
    relations = deck.slide_master.part.rels.values()
    theme = next(r.target_part for r in relations if r.reltype.endswith("/theme"))
    blob = theme.blob.replace(b'typeface="Calibri"', b'typeface="Arial"')
    theme._blob = blob.replace(b"1F497D", b"003F66")


def put(shape, place: Place) -> None:
    """Move a placeholder of a layout and give its text its style."""
    shape.left = Inches(place.left)
    shape.top = Inches(place.top)
    shape.width = Inches(place.width)
    shape.height = Inches(place.height)
    body = shape.text_frame._txBody.bodyPr
    body.set("anchor", place.anchor)
    body.set("lIns", "0")  # so that titles, texts and sources begin on one line
    indent = 'marL="0" indent="0"'
    mark = "<a:buNone/>"
    if place.bullet:
        indent = 'marL="342900" indent="-342900"'
        mark = '<a:buFont typeface="Arial"/><a:buChar char="•"/>'
    style = (
        f"<a:lstStyle {nsdecls('a')}>"
        f'<a:lvl1pPr {indent} algn="l">'
        f'<a:spcBef><a:spcPts val="{100 * place.space}"/></a:spcBef>'
        f"{mark}"
        f'<a:defRPr sz="{100 * place.size}" b="{int(place.bold)}">'
        f'<a:solidFill><a:schemeClr val="{place.colour}"/></a:solidFill>'
        "</a:defRPr></a:lvl1pPr></a:lstStyle>"
    )
    for old in shape._element.xpath(".//a:lstStyle"):
        old.getparent().replace(old, parse_xml(style))


def put_at_the_foot(shape) -> None:
    """Move slide number, footer and date of a layout below everything else."""
    kind = int(shape.placeholder_format.type)
    if kind not in FEET:
        return
    left, width = FEET[kind]
    shape.left = Inches(left)
    shape.top = Inches(6.97)
    shape.width = Inches(width)
    shape.height = Inches(0.45)
    if kind == FOOTER:
        shape.text_frame._txBody.bodyPr.set("lIns", "0")
        for style in shape._element.xpath(".//a:lvl1pPr"):
            style.set("algn", "l")


FOOT_STYLE = (
    '<a:rPr lang="en" sz="1800"><a:solidFill><a:srgbClr val="555555"/></a:solidFill>'
    '<a:latin typeface="+mn-lt"/></a:rPr>'
)


def finish(path: Path, slides: list[Slide], feet: list[str], folder: Path) -> None:
    """Add what pandoc leaves out of a pptx: our layout, source line, number, alternative text.

    Raises DeckError if pandoc made more or fewer slides than there should be.
    """
    deck = Presentation(str(path))
    if len(deck.slides) != len(feet):
        titles = [slide.shapes.title for slide in deck.slides]
        made = [title.text_frame.text if title else "no title" for title in titles]
        raise DeckError(
            f"pandoc made {len(made)} slides of {len(feet)}: {made}. "
            "Write text first, then one figure, and only a title after #"
        )
    for number, (slide, said, foot) in enumerate(zip(deck.slides, slides, feet, strict=True), 1):
        if number == 1 and said.figure:
            slide.shapes.add_picture(str(folder / "figures" / said.figure), 0, 0)
        if said.layout:
            lay_out(slide, said)
        for picture in slide._element.xpath(".//p:pic/p:nvPicPr/p:cNvPr"):
            picture.set("descr", said.alt)
        if number > 1:  # the cover has neither
            add_foot(slide, number, foot)
    deck.save(str(path))


def lay_out(slide, said: Slide) -> None:
    """Move picture, caption and text of a slide with a figure to where its layout has them."""
    picture = next(shape for shape in slide.shapes if shape.shape_type == MSO_SHAPE_TYPE.PICTURE)
    move(picture, said.layout.picture)
    places = {shape.placeholder_format.idx: shape for shape in slide.placeholders}
    if said.layout.kind == "cover":
        # Pandoc writes an empty line after the subtitle, and each author on a line.
        subtitle, *authors = filter(None, re.split(r"[\n\v]+", places[1].text_frame.text))
        places[1].text_frame.text = "\n".join(
            [subtitle, ", ".join(authors)] if authors else [subtitle]
        )
        for shape, box in zip((places[0], places[1]), said.layout.texts, strict=True):
            move(shape, box)
            for paragraph in shape.text_frame.paragraphs:
                paragraph.alignment = PP_ALIGN.CENTER
        return
    if said.caption:
        caption = next(s for s in slide.shapes if s._element.xpath("./p:nvSpPr/p:cNvSpPr[@txBox]"))
        move(caption, said.layout.caption)
        show_keys(caption, said.layout, "ctr")
    if not said.text:
        return
    text = places[2]
    if said.layout.kind == "strip":
        cells = split(text)
        for cell, box in zip(cells, said.layout.texts, strict=True):
            move(cell, box)
            show_keys(cell, said.layout, "ctr")
        return
    move(text, said.layout.texts[0])
    if layout.is_list(said.text):
        show_list(text, said.layout)
    else:
        show_keys(text, said.layout, "l")


def move(shape, box: Box) -> None:
    shape.left = Inches(box.left)
    shape.top = Inches(box.top)
    shape.width = Inches(box.width)
    shape.height = Inches(box.height)


def split(shape) -> list:
    """A placeholder and text boxes after it that hold one of its paragraphs each."""
    cells = [shape]
    for number in range(1, len(shape.text_frame.paragraphs)):
        element = copy.deepcopy(shape._element)
        about = element.xpath("./p:nvSpPr/p:cNvPr")[0]
        about.set("id", str(800 + number))
        about.set("name", f"Text {number + 1}")
        for place in element.xpath(".//p:ph"):  # a layout has each placeholder once
            place.getparent().remove(place)
        element.xpath("./p:nvSpPr/p:cNvSpPr")[0].set("txBox", "1")
        cells[-1]._element.addnext(element)
        cells.append(Shape(element, shape._parent))
    for kept, cell in enumerate(cells):
        for number, paragraph in enumerate(list(cell.text_frame.paragraphs)):
            if number != kept:
                paragraph._p.getparent().remove(paragraph._p)
    return cells


def show_keys(shape, plan: Layout, align: str) -> None:
    """Give each key number, which is bold, a line of its own in large dark blue type."""
    tight(shape, "t")
    for number, paragraph in enumerate(shape.text_frame.paragraphs):
        space = 0 if number == 0 else layout.BETWEEN * 72
        style(paragraph, align, space)
        runs = list(paragraph.runs)
        for i, run in enumerate(runs):
            key = bool(run.font.bold)
            run.font.size = Pt(plan.type.key if key else plan.type.text)
            if key:
                run.font.color.theme_color = MSO_THEME_COLOR.TEXT_2
            changes = i > 0 and key != bool(runs[i - 1].font.bold)
            if changes:
                run._r.addprevious(parse_xml(f"<a:br {nsdecls('a')}/>"))
                run.text = run.text.lstrip(" ")
                runs[i - 1].text = runs[i - 1].text.rstrip(" ")


def show_list(shape, plan: Layout) -> None:
    """A list beside a figure, with the bullets that this layout has not."""
    tight(shape, "t")
    for number, paragraph in enumerate(shape.text_frame.paragraphs):
        space = 0 if number == 0 else layout.BETWEEN * 72
        indent = round(Inches(layout.BULLET))
        style(paragraph, "l", space, indent)
        for run in paragraph.runs:
            run.font.size = Pt(plan.type.text)


def tight(shape, anchor: str) -> None:
    """Text begins at the box's edge: the layout has counted without PowerPoint's margins."""
    body = shape.text_frame._txBody.bodyPr
    for inset in ("lIns", "tIns", "rIns", "bIns"):
        body.set(inset, "0")
    body.set("wrap", "square")
    body.set("anchor", anchor)


def style(paragraph, align: str, space: float, indent: int = 0) -> None:
    """Alignment, the points above and, with an indentation, a bullet."""
    old = paragraph._p.pPr
    if old is not None:
        paragraph._p.remove(old)
    mark = '<a:buFont typeface="Arial"/><a:buChar char="•"/>' if indent else "<a:buNone/>"
    paragraph._p.insert(
        0,
        parse_xml(
            f'<a:pPr {nsdecls("a")} marL="{indent}" indent="{-indent}" algn="{align}">'
            f'<a:spcBef><a:spcPts val="{round(100 * space)}"/></a:spcBef>{mark}</a:pPr>'
        ),
    )


def add_foot(slide, number: int, foot: str) -> None:
    """Put source line and slide number where the slide's layout has them."""
    texts = {
        "sldNum": (
            '<a:fld type="slidenum" id="{C5EF2332-01BF-834F-8236-50238282D533}">'
            f"{FOOT_STYLE}<a:t>{number}</a:t></a:fld>"
        )
    }
    if foot:
        texts["ftr"] = f"<a:r>{FOOT_STYLE}<a:t>{escape(foot)}</a:t></a:r>"
    for place in slide.slide_layout.placeholders:
        kind = place._element.xpath("string(.//p:ph/@type)")
        if kind not in texts:
            continue
        side = "l" if kind == "ftr" else "r"
        index = place.placeholder_format.idx
        shape = (
            f"<p:sp {nsdecls('a', 'p')}>"
            f'<p:nvSpPr><p:cNvPr id="{900 + len(kind)}" name="{place.name}"/>'
            '<p:cNvSpPr><a:spLocks noGrp="1"/></p:cNvSpPr>'
            f'<p:nvPr><p:ph type="{kind}" sz="quarter" idx="{index}"/></p:nvPr></p:nvSpPr><p:spPr/>'
            "<p:txBody><a:bodyPr/><a:lstStyle/>"
            f'<a:p><a:pPr algn="{side}"/>{texts[kind]}</a:p></p:txBody></p:sp>'
        )
        slide.shapes._spTree.append(parse_xml(shape))


# ---- All of it ----


def build(text: str, folder: Path, out: Path, real: bool = False) -> list[Slide]:
    """Write deck.pptx and deck.html into `out` from a deck's text and the results of `folder`.

    Returns the slides. Raises DeckError, and then writes neither file.
    """
    results = load(folder)
    header, slides = read(text, results, folder, real)
    notes = timed(slides)
    feet = [source_line(slide, results) if slide.level == 2 else "" for slide in slides]
    with tempfile.TemporaryDirectory() as scratch:
        style = Path(scratch) / "reference.pptx"
        pptx = Path(scratch) / "deck.pptx"
        page = Path(scratch) / "deck.html"
        reference(style)
        for_powerpoint = markdown(header, slides, notes, feet, html=False)
        pandoc(for_powerpoint, folder, f"--reference-doc={style}", f"--output={pptx}")
        finish(pptx, slides, feet, folder)
        for_browser = markdown(header, slides, notes, feet, html=True)
        template = f"--template={HERE / 'template.html'}"
        options = ["--to=dzslides", "--standalone", "--embed-resources", template]
        pandoc(for_browser, folder, *options, f"--output={page}")
        out.mkdir(parents=True, exist_ok=True)
        for path in (pptx, page):
            with course.replacing(out / path.name) as part:
                part.write_bytes(path.read_bytes())
    return slides


def main() -> int:
    folder = results_folder()
    text = (HERE / "deck.md").read_text("utf-8")
    try:
        slides = build(text, folder, course.BUILD, real=course.real_data() is not None)
    except DeckError as error:
        print(f"make slides: {error}", file=sys.stderr)
        return 1
    for slide in slides:
        for warning in slide.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    spare = sum(slide.spare for slide in slides)
    length = sum(minutes(slide.notes) for slide in slides if not slide.spare)
    print(
        f"build/deck.pptx and build/deck.html, from {os.path.relpath(folder)}/: "
        f"{len(slides) - spare} slides, {length:.1f} minutes read aloud, and {spare} spare."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
