"""Build the talk: `deck.md`, filled with recorded numbers and figures, as build/deck.pptx and build/deck.html.

It lives beside the talk, because it is no part of what a student reads in `src/`, and it imports nothing of the package: the
talk must be there in seconds. `deck.md` says in its header how a slide is written.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import pypandoc
import yaml
from pptx import Presentation
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls
from pptx.util import Inches

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PANDOC = (
    Path(pypandoc.__file__).parent / "files" / ("pandoc.exe" if os.name == "nt" else "pandoc")
)  # the wheel's, whatever else there is
WORDS_A_MINUTE = 130

PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.S)
EXPRESSION = re.compile(
    r"([a-z_][a-z0-9_.]*)((?:\s*/\s*[a-z0-9_.]+)*)(?:\|(n|unit|split|data))?(?::(\S+))?"
)
CHOICE = re.compile(r"([a-z_][a-z0-9_.]*) *([<>]) *(-?[\d.]+) *\?(.*?) : (.*)", re.S)
CLAIM = re.compile(r"\s*([a-z_][a-z0-9_.]*) *([<>]) *(\S+)\s*")
HEADING = re.compile(r"^(##?) +(.*?)(?: *\{((?:\w+=\"[^\"]*\" *)+)\})? *$", re.M)
UNIT = re.compile(r"(\d\**) (?=\**(?:dB|kB|%|bytes)\b|%)")
NOTES = re.compile(r"^::: *notes *\n(.*?)^::: *$\n?", re.S | re.M)
FIGURE = re.compile(r"^!\[(.*?)\]\(figures/([^)\s]+)\)(?:\{alt=\"(.*?)\"\})? *$", re.M)
COMMENT = re.compile(r"<!--.*?-->", re.S)
NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|eighty|ninety|"
    r"hundreds?|thousands?|millions?|dozens?|half|halves|third|quarters?|twice|double)\b",
    re.I,
)


class DeckError(ValueError):
    """What is wrong with the talk: the slide, what stands there, and how to mend it."""


@dataclass
class Slide:
    """One slide with its numbers filled in. `used` are the names of the results that its visible text quotes."""

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


def results_folder() -> Path:
    """Where the notebooks put their results: as `autoencoders.report.folder`, which would import torch."""
    return ROOT / (
        os.environ.get("COURSE_OUT") or ("build" if os.environ.get("COURSE_DATA") else "slides")
    )


def load(folder: Path) -> dict:
    """The recorded numbers of a folder; DeckError if there are none, or if the file is not what `report.record` writes."""
    path = folder / "results.json"
    if not path.exists():
        raise DeckError(
            f"no {path}: expected the numbers that the notebooks record; execute them with `make run`"
        )
    try:
        results = json.loads(path.read_text("utf-8"))
        for name, result in results.items():
            if not {"value", "unit", "split", "n", "data"} <= result.keys() or not math.isfinite(
                result["value"]
            ):
                raise ValueError(f"{name} has no finite value with unit, split, n and data")
    except (ValueError, AttributeError, TypeError) as error:  # a JSONDecodeError is a ValueError
        raise DeckError(
            f"{path} is damaged ({error}): expected what report.record writes; delete it and run the notebooks again"
        ) from None
    return results


def shown(value: float, style: str | None = None) -> str:
    """A number as readers see it: like README (whole from 100 up, else one decimal), or in a format.

    `style` is one of Python's, such as `.2f`; `abs.1f` drops the sign, `up` rounds up to a whole number.
    """
    if style == "up":
        value, style = math.ceil(value), ".0f"
    if style and style.startswith("abs"):
        value, style = abs(value), style[3:]
    if not style:
        style = ".0f" if isinstance(value, int) or abs(value) >= 100 else ".1f"
    return format(value, style.replace(".", ",.", 1)).replace(
        "-", "−"
    )  # a minus: a hyphen may end a line


class Filler:
    """Fills the placeholders of one slide and keeps account of what was used."""

    def __init__(self, where: str, results: dict, accepted: list, where_from: Path):
        self.where, self.results, self.accepted, self.where_from = (
            where,
            results,
            accepted,
            where_from,
        )
        self.used = []

    def result(self, name: str, placeholder: str) -> dict:
        if name not in self.results:
            near = [
                known for known in self.results if known.split(".")[0] == name.split(".")[0]
            ] or list(self.results)
            hint = ", ".join(near[:6]) + (", ..." if len(near) > 6 else "")
            raise DeckError(
                f"{self.where}: {placeholder} names {name!r}, which is not in {self.where_from / 'results.json'}. Known: {hint}. "
                "Correct the name in slides/deck.md, or execute the notebook that records it"
            )
        result = self.results[name]
        if result["data"] not in self.accepted:
            raise DeckError(
                f"{self.where}: {placeholder} is a number of {result['data']!r}, but the slide expects "
                f"{' or '.join(map(repr, self.accepted))}. "
                "Execute the notebooks again (`make run`, with the same COURSE_DATA), or name the source in the slide's sources"
            )
        self.used.append(name)
        return result

    def value(self, term: str, placeholder: str) -> float:
        return (
            float(term)
            if re.fullmatch(r"[\d.]+", term)
            else self.result(term, placeholder)["value"]
        )

    def one(self, match: re.Match) -> str:
        placeholder, inside = match[0], match[1].strip()
        if choice := CHOICE.fullmatch(inside):
            name, sign, limit, yes, no = choice.groups()
            value = self.result(name, placeholder)["value"]
            return (
                yes if (value < float(limit) if sign == "<" else value > float(limit)) else no
            ).strip()
        expression = EXPRESSION.fullmatch(inside)
        if not expression:
            raise DeckError(
                f"{self.where}: {placeholder} is no placeholder: expected {{{{name}}}}, {{{{name:.1f}}}}, {{{{name / other:.0f}}}}, "
                "{{name|n}} or {{name < 0 ? words : other words}}; see the header of slides/deck.md"
            )
        name, divisors, about, style = expression.groups()
        if about:
            text = self.result(name, placeholder)[about]
            if text in (None, ""):
                raise DeckError(
                    f"{self.where}: {placeholder}: {name} was recorded without {about!r}; record it with it, or leave it out"
                )
            return str(text)
        value = self.value(name, placeholder)
        for divisor in re.split(r"\s*/\s*", divisors)[1:]:
            value = value / self.value(divisor, placeholder)
        try:
            return shown(value, style)
        except ValueError:
            raise DeckError(
                f"{self.where}: {placeholder} has the format {style!r}: expected one such as .1f, abs.1f, .0f or up"
            ) from None

    def fill(self, text: str) -> str:
        text = PLACEHOLDER.sub(self.one, text)
        if "{{" in text or "}}" in text:
            raise DeckError(
                f"{self.where}: a placeholder is not closed: expected {{{{name}}}}, both braces doubled"
            )
        return text


def read(text: str, results: dict, folder: Path, real: bool = False) -> tuple[dict, list[Slide]]:
    """Header and slides of a `deck.md`, numbers filled in; the first slide is the header's title.

    `real` says that the run is on real data (COURSE_DATA), which decides what each source must be called.
    """
    parts = re.match(r"---\n(.*?)\n---\n(.*)", text, re.S)
    if not parts:
        raise DeckError("slides/deck.md: expected a header between two lines of ---")
    header, body = yaml.safe_load(parts[1]), COMMENT.sub("", parts[2])
    names = {
        name: known[real] if isinstance(known, list) else known
        for name, known in header["sources"].items()
    }
    headings = list(HEADING.finditer(body))
    ends = [h.start() for h in headings[1:]] + [len(body)]
    slides = [
        make_slide(
            header,
            "cover",
            header["title"],
            header["subtitle"],
            header["notes"],
            {},
            names,
            results,
            folder,
        )
    ]
    spare = False
    for heading, end in zip(headings, ends, strict=True):
        title, inside = heading[2], body[heading.end() : end]
        attributes = dict(re.findall(r'(\w+)="(.*?)"', heading[3] or ""))
        notes = NOTES.search(inside)
        where = f"slide {len(slides) + 1}, {title!r}"
        said = notes[1] if notes else ""
        slide = make_slide(
            header, where, title, NOTES.sub("", inside), said, attributes, names, results, folder
        )
        slide.level = len(heading[1])
        spare = slide.spare = (
            spare or slide.level == 1
        )  # everything from the one heading of level 1 on
        slides.append(slide)
    return header, slides


def make_slide(header, where, title, text, notes, attributes, names, results, folder) -> Slide:
    """One slide: its sources are looked up, its placeholders filled, its figure found, its claims and typed numbers checked."""
    sources = [s.strip() for s in attributes.get("sources", "cars").split(",")]
    if unknown := [s for s in sources if s not in names]:
        raise DeckError(
            f"{where}: sources name {unknown[0]!r}: expected {', '.join(names)}; add it to the header of slides/deck.md"
        )
    filler = Filler(where, results, [names[s] for s in sources], folder)
    figures = FIGURE.findall(text)
    if len(figures) > 1:
        raise DeckError(
            f"{where}: {len(figures)} figures: expected one a slide; split it, or join them in the notebook"
        )
    caption, file, alt = figures[0] if figures else ("", "", "")
    if figures and not (folder / "figures" / file).is_file():
        near = sorted(p.name for p in (folder / "figures").glob(file.split("_")[0] + "*.png"))
        raise DeckError(
            f"{where}: there is no figures/{file} in {folder}"
            + (f", but {', '.join(near)}" if near else "")
            + ". Correct the name in "
            "slides/deck.md, or execute the notebook that saves it"
        )
    if figures and not alt:
        raise DeckError(
            f'{where}: figures/{file} has no text for who cannot see it: write ![caption](figures/{file}){{alt="what it shows"}}'
        )
    raw = FIGURE.sub("", text)
    if "![" in raw:
        raise DeckError(
            f'{where}: expected a figure alone on its line, as ![caption](figures/name.png){{alt="what it shows"}}'
        )
    typed = [
        n
        for part in (title, raw, caption, alt, notes)
        for n in typed_numbers(part, header.get("typed", {}))
    ]
    filled = [
        UNIT.sub("\\1\N{NO-BREAK SPACE}", filler.fill(part).strip())
        for part in (title, raw, caption, alt)
    ]
    used = list(dict.fromkeys(filler.used))
    slide = Slide(
        *filled[:2],
        filler.fill(notes).strip(),
        filled[2],
        file,
        filled[3],
        [names[s] for s in sources],
        used,
    )
    slide.warnings += [
        f"{where}: {n!r} is typed: take it from the results, or list it under `typed` in the header"
        for n in typed
    ]
    for claim in filter(None, attributes.get("claims", "").split(",")):
        said = CLAIM.fullmatch(claim)
        if not said:
            raise DeckError(
                f"{where}: claim {claim!r}: expected 'name < number' or 'name > other.name'"
            )
        left, right = (
            filler.value(term, claim) if term[0] != "-" else float(term)
            for term in (said[1], said[3])
        )
        if not (left < right if said[2] == "<" else left > right):
            slide.warnings.append(
                f"{where} claims {claim.strip()}, but here it is {shown(left)} against {shown(right)}: reword the slide"
            )
    return slide


def typed_numbers(text: str, allowed: dict) -> list[str]:
    """Digits and number words outside placeholders, but for the `allowed` phrases: numbers that somebody typed."""
    text = PLACEHOLDER.sub(" ", text)
    for phrase in sorted(allowed, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text, flags=re.I)
    return NUMBER.findall(text)


def minutes(notes: str) -> float:
    """How long notes take to read aloud."""
    return len(re.findall(r"\w\S*", notes)) / WORDS_A_MINUTE


def clock(time: float) -> str:
    return f"{int(time)}:{round(60 * (time % 1)) % 60:02d}"


def timed(slides: list[Slide]) -> list[str]:
    """The notes, each with the time at which it begins; spare slides have none."""
    now, notes = 0.0, []
    for slide in slides:
        length = minutes(slide.notes)
        stamp = "(spare)" if slide.spare else f"({clock(now)} to {clock(now + length)})"
        notes.append(f"{stamp}\n\n{slide.notes}" if slide.notes else "")
        now += 0 if slide.spare else length
    return notes


def source_line(slide: Slide, results: dict) -> str:
    """What stands at the foot: the data sets of the slide, and over how many pictures its numbers are averaged."""
    parts = []
    for source in slide.sources:
        about = [
            (results[name]["n"], results[name]["split"])
            for name in slide.used
            if results[name]["data"] == source
        ]
        counts = dict.fromkeys(f"{n:,} {split}".strip() for n, split in about if n is not None)
        parts.append(source + (f", n = {' and '.join(counts)}" if counts else ""))
    return " · ".join(parts)


def markdown(
    header: dict, slides: list[Slide], notes: list[str], feet: list[str], html: bool
) -> str:
    """What pandoc gets: for HTML with the parts of a slide told apart."""
    cover = {
        "title": slides[0].title,
        "subtitle": slides[0].text,
        "author": header["author"],
        "lang": "en",
    }
    cover |= {"notes": notes[0], "last": str(len(slides))}
    out = ["---\n" + yaml.safe_dump(cover, allow_unicode=True) + "---\n"]
    for number, (slide, note, foot) in enumerate(
        zip(slides[1:], notes[1:], feet[1:], strict=True), 2
    ):
        kind = ("figure-only" if not slide.text else "both") if slide.figure else "text-only"
        out.append(f"{'#' * slide.level} {slide.title}" + (f" {{.{kind}}}" if html else ""))
        if slide.text:
            out.append(f"::: text\n{slide.text}\n:::" if html else slide.text)
        if slide.figure and html:
            out.append(
                f"::: picture\n![]({slide.figure}){{alt={json.dumps(slide.alt, ensure_ascii=False)}}}\n"
            )
            out.append((f"[{slide.caption}]{{.caption}}\n\n" if slide.caption else "") + ":::")
        elif slide.figure:
            out.append(f"![{slide.caption}]({slide.figure})")
        if html:
            out.append(f"::: foot\n[{foot}]{{}} [{number} / {len(slides)}]{{}}\n:::")
        if note:
            out.append(f"::: notes\n{note}\n:::")
    return "\n\n".join(out) + "\n"


def pandoc(text: str, folder: Path, *options: str) -> None:
    """Run the wheel's pandoc on markdown; figures are looked for in `folder`."""
    command = [str(PANDOC), "--from=markdown", "--slide-level=2", "--fail-if-warnings"]
    done = subprocess.run(
        [*command, f"--resource-path={folder / 'figures'}", *options],
        input=text,
        encoding="utf-8",
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise DeckError(f"pandoc could not build the slides: {done.stderr.strip()}")


def scaled(element, attributes, factor: float) -> None:
    for name in attributes:
        element.set(name, str(round(int(element.get(name)) * factor)))


def reference(path: Path) -> None:
    """Our own style for PowerPoint: pandoc's slides at 16:9 in full size, Arial, dark blue titles, no text below 18 points."""
    path.write_bytes(
        subprocess.run(
            [str(PANDOC), "--print-default-data-file=reference.pptx"],
            capture_output=True,
            check=True,
        ).stdout
    )
    deck = Presentation(str(path))
    factor = Inches(13.333) / deck.slide_width
    deck.slide_width, deck.slide_height = 12192000, 6858000
    master = deck.slide_master
    for part in (master, *deck.slide_layouts):
        tree = part._element
        for point in tree.xpath(".//p:sp//a:off"):
            scaled(point, "xy", factor)
        for extent in tree.xpath(".//p:sp//a:ext[@cx]"):
            scaled(extent, ("cx", "cy"), factor)
        for style in tree.xpath(".//a:defRPr[@sz]"):
            style.set("sz", str(max(1800, round(int(style.get("sz")) * factor))))
    for style in deck.part._element.xpath("//p:defaultTextStyle//a:defRPr[@sz]"):
        style.set("sz", "2000")  # captions
    theme = next(r.target_part for r in master.part.rels.values() if r.reltype.endswith("/theme"))
    theme._blob = theme.blob.replace(b'typeface="Calibri"', b'typeface="Arial"').replace(
        b"1F497D", b"003F66"
    )

    def place(
        layout,
        number,
        left,
        top,
        width,
        height,
        size,
        bold=False,
        colour=None,
        space=0,
        anchor="t",
        bullet=False,
    ):
        shape = next(s for s in layout.placeholders if s.placeholder_format.idx == number)
        shape.left, shape.top, shape.width, shape.height = (
            Inches(x) for x in (left, top, width, height)
        )
        shape.text_frame._txBody.bodyPr.set("anchor", anchor)
        for style in shape._element.xpath(".//a:lstStyle"):
            fill = f'<a:solidFill><a:schemeClr val="{colour or "tx1"}"/></a:solidFill>'
            hang = 'marL="342900" indent="-342900"' if bullet else 'marL="0" indent="0"'
            mark = '<a:buFont typeface="Arial"/><a:buChar char="•"/>' if bullet else "<a:buNone/>"
            style.getparent().replace(
                style,
                parse_xml(
                    '<a:lstStyle xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main">'
                    f'<a:lvl1pPr {hang} algn="l"><a:spcBef><a:spcPts val="{100 * space}"/></a:spcBef>{mark}'
                    f'<a:defRPr sz="{100 * size}" b="{int(bold)}">{fill}</a:defRPr></a:lvl1pPr></a:lstStyle>'
                ),
            )

    layouts = {layout.name: layout for layout in deck.slide_layouts}
    title = {"size": 32, "bold": True, "colour": "tx2", "anchor": "ctr"}
    place(layouts["Title Slide"], 0, 0.9, 2.0, 11.5, 1.6, 48, True, "tx2", anchor="b")
    place(layouts["Title Slide"], 1, 0.9, 3.8, 11.5, 1.6, 28)
    place(layouts["Section Header"], 0, 0.9, 2.4, 11.5, 1.4, 44, True, "tx2", anchor="b")
    place(layouts["Section Header"], 1, 0.9, 4.0, 11.5, 1.4, 28)
    for layout in (layouts["Title and Content"], layouts["Content with Caption"]):
        place(layout, 0, 0.6, 0.3, 12.1, 1.1, **title)
    place(layouts["Title and Content"], 1, 0.6, 1.5, 12.1, 5.2, 26, space=12, bullet=True)
    place(layouts["Content with Caption"], 2, 0.6, 1.6, 3.7, 5.1, 24, space=14)
    place(layouts["Content with Caption"], 1, 4.5, 1.5, 8.3, 5.2, 24)
    for part in (master, *deck.slide_layouts):
        for shape in part.placeholders:
            left = {13: 11.2, 15: 0.6, 16: 9.0}.get(
                int(shape.placeholder_format.type)
            )  # number, footer, date
            if left is not None:
                shape.left, shape.top = Inches(left), Inches(6.82)
                shape.width, shape.height = (
                    Inches({0.6: 8.4, 9.0: 2.0, 11.2: 1.5}[left]),
                    Inches(0.5),
                )
            if left == 0.6:
                for style in shape._element.xpath(".//a:lvl1pPr"):
                    style.set("algn", "l")
    deck.save(str(path))


def finish(path: Path, slides: list[Slide], feet: list[str]) -> None:
    """Add what pandoc leaves out of a pptx: source line and slide number, where the layouts have them, and alternative text."""
    deck = Presentation(str(path))
    if len(deck.slides) != len(feet):
        made = [
            slide.shapes.title.text_frame.text if slide.shapes.title else "no title"
            for slide in deck.slides
        ]
        raise DeckError(
            f"pandoc made {len(made)} slides of {len(feet)}: {made}. Write text first, then one figure, and only a title after #"
        )
    style = '<a:rPr lang="en" sz="1800"><a:solidFill><a:srgbClr val="555555"/></a:solidFill><a:latin typeface="+mn-lt"/></a:rPr>'
    for number, (slide, said, foot) in enumerate(zip(deck.slides, slides, feet, strict=True), 1):
        for picture in slide._element.xpath(".//p:pic/p:nvPicPr/p:cNvPr"):
            picture.set("descr", said.alt)
        number_field = f'<a:fld type="slidenum" id="{{C5EF2332-01BF-834F-8236-50238282D533}}">{style}<a:t>{number}</a:t></a:fld>'
        lines = {
            "ftr": ("l", f"<a:r>{style}<a:t>{escape(foot)}</a:t></a:r>"),
            "sldNum": ("r", number_field),
        }
        for place in slide.slide_layout.placeholders:
            kind = place._element.xpath("string(.//p:ph/@type)")
            if number == 1 or kind not in lines or (kind == "ftr" and not foot):
                continue
            side, line = lines[kind]
            shape = parse_xml(
                f"<p:sp {nsdecls('a', 'p')}>"
                f'<p:nvSpPr><p:cNvPr id="{900 + len(kind)}" name="{place.name}"/><p:cNvSpPr><a:spLocks noGrp="1"/></p:cNvSpPr>'
                f'<p:nvPr><p:ph type="{kind}" sz="quarter" idx="{place.placeholder_format.idx}"/></p:nvPr></p:nvSpPr><p:spPr/>'
                f'<p:txBody><a:bodyPr/><a:lstStyle/><a:p><a:pPr algn="{side}"/>{line}</a:p></p:txBody></p:sp>'
            )
            slide.shapes._spTree.append(shape)
    deck.save(str(path))


def build(text: str, folder: Path, out: Path, real: bool = False) -> list[Slide]:
    """Write deck.pptx and deck.html into `out` from a deck's text and the results of `folder`; return the slides."""
    results = load(folder)
    header, slides = read(text, results, folder, real)
    notes, feet = (
        timed(slides),
        [source_line(slide, results) if slide.level == 2 else "" for slide in slides],
    )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        style, pptx, page = (
            Path(scratch) / name for name in ("reference.pptx", "deck.pptx", "deck.html")
        )
        reference(style)
        pandoc(
            markdown(header, slides, notes, feet, html=False),
            folder,
            f"--reference-doc={style}",
            f"--output={pptx}",
        )
        finish(pptx, slides, feet)
        pandoc(
            markdown(header, slides, notes, feet, html=True), folder, "--to=dzslides", "--standalone", "--embed-resources",
            f"--template={HERE / 'template.html'}", f"--output={page}",
        )  # fmt: skip
        for path in (pptx, page):  # both or neither
            (out / path.name).write_bytes(path.read_bytes())
    return slides


def main() -> int:
    try:
        slides = build(
            (HERE / "deck.md").read_text("utf-8"),
            results_folder(),
            ROOT / "build",
            bool(os.environ.get("COURSE_DATA")),
        )
    except DeckError as error:
        print(f"make slides: {error}", file=sys.stderr)
        return 1
    for warning in (w for slide in slides for w in slide.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    spare = sum(slide.spare for slide in slides)
    length = sum(minutes(slide.notes) for slide in slides if not slide.spare)
    print(
        f"build/deck.pptx and build/deck.html: {len(slides) - spare} slides, {length:.1f} minutes read aloud, and {spare} spare."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
