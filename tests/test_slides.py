"""The talk: both decks hold every slide, picture and note; numbers come from the results."""

import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.util import Pt

import layout
from autoencoders import data
from layout import Box

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("build_slides", ROOT / "slides" / "build.py")
build = sys.modules["build_slides"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)

DECK = (ROOT / "slides" / "deck.md").read_text("utf-8")
RESULTS = json.loads((ROOT / "slides" / "results.json").read_text("utf-8"))
VOID = {"img", "meta", "br", "link", "hr", "input"}
SMALL = """---
title: Small
subtitle: A talk
author: []
sources:
  cars: [cars_sample, COURSE_DATA/cars]
  digits: [scikit-learn's digits, COURSE_DATA/MNIST]
typed:
  8 × 8: blocks
notes: Welcome.
---

## First

A value: **{{a.x:.2f}} dB**

![](figures/a.png){alt="An A"}

::: notes
It is {{a.x}}.
:::
"""


class Page(HTMLParser):
    """Slides of deck.html: heading, words, picture and notes of each; and the page's addresses."""

    def __init__(self, text: str):
        super().__init__()
        self.slides, self.addresses, self.inside = [], [], []
        self.feed(text)
        self.addresses += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [
            attributes[a]
            for a in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
            if attributes.get(a)
        ]
        if tag == "section":
            self.slides.append({"title": "", "text": "", "notes": "", "pictures": []})
        kind = attributes.get("class", "").split()[:1]
        if tag == "div" and kind in (["picture"], ["text"], ["caption"]) and "style" in attributes:
            self.slides[-1][f"place of {kind[0]}"] = place(attributes["style"])
        if tag == "img":
            self.slides[-1]["pictures"].append((attributes["src"], attributes.get("alt", "")))
        elif tag not in VOID:
            self.inside.append(
                "notes"
                if attributes.get("class") == "notes"
                else "title"
                if tag in ("h1", "h2")
                else tag
            )

    def handle_endtag(self, tag):
        if tag not in VOID:
            self.inside.pop()

    def handle_data(self, text):
        if self.slides and not {"script", "style"} & set(self.inside):
            self.slides[-1][
                "notes" if "notes" in self.inside else "title" if "title" in self.inside else "text"
            ] += text


def place(style: str) -> Box:
    """Where a style puts something, in inches: the page has 96 pixels an inch."""
    sides = dict(re.findall(r"(left|top|width|height): ([\d.]+)px", style))
    return Box(*(float(sides[side]) / 96 for side in ("left", "top", "width", "height")))


def box_of(shape) -> Box:
    """Where a shape of PowerPoint stands, in inches."""
    sides = (shape.left, shape.top, shape.width, shape.height)
    return Box(*(side.inches for side in sides))


def drawn(slide) -> list:
    """The pictures on a slide of PowerPoint."""
    return [shape for shape in slide.shapes if shape.shape_type == MSO_SHAPE_TYPE.PICTURE]


def apart(one: Box, other: Box) -> bool:
    """Whether two boxes do not overlap, but for a rounding error."""
    slack = 0.02
    beside = one.left + one.width <= other.left + slack
    beside = beside or other.left + other.width <= one.left + slack
    above = one.top + one.height <= other.top + slack
    above = above or other.top + other.height <= one.top + slack
    return beside or above


def words(text: str) -> str:
    """Text without the marks of markdown, with single spaces."""
    return " ".join(re.sub(r"[*`_]", "", text).split())


def decks(folder: Path, text: str = DECK, results: Path = ROOT / "slides", real: bool = False):
    slides = build.build(text, results, folder, real)
    return (
        slides,
        Presentation(str(folder / "deck.pptx")),
        Page((folder / "deck.html").read_text("utf-8")),
    )


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return decks(tmp_path_factory.mktemp("talk"))


@pytest.fixture
def small(tmp_path):
    """Results of one number and one figure, and how to build the small deck from them."""
    (tmp_path / "figures").mkdir()
    shutil.copy(ROOT / "slides" / "figures" / "linear_basis.png", tmp_path / "figures" / "a.png")

    def run(text: str = SMALL, value=1.25, source: str = "cars_sample", real: bool = False):
        (tmp_path / "results.json").write_text(
            json.dumps(
                {"a.x": {"value": value, "unit": "dB", "split": "unseen", "n": 20, "data": source}}
            ),
            "utf-8",
        )
        return decks(tmp_path / "out", text, tmp_path, real)

    run.folder = tmp_path
    return run


def test_number_of_slides_and_titles(talk):
    slides, powerpoint, page = talk
    titles = [words(slide.title) for slide in slides]
    assert [words(slide.shapes.title.text_frame.text) for slide in powerpoint.slides] == titles
    assert [words(slide["title"]) for slide in page.slides] == titles
    assert (
        12 <= sum(not slide.spare for slide in slides) <= 16
        and sum(slide.spare for slide in slides) >= 4
    )
    assert len(set(titles)) == len(titles) and all(0 < len(title) <= 75 for title in titles)
    assert titles[0] == "Encode autos with autoencoders" and "Spare slides" in titles


def test_each_picture_is_embedded_with_alternative_text(talk):
    slides, powerpoint, page = talk
    for slide, one, other in zip(slides, powerpoint.slides, page.slides, strict=True):
        shown = drawn(one)
        assert len(shown) == len(other["pictures"]) == bool(slide.figure)
        if slide.figure:
            file = (ROOT / "slides" / "figures" / slide.figure).read_bytes()
            assert shown[0].image.blob == file
            assert (
                shown[0]._element.xpath("string(.//p:cNvPr/@descr)")
                == slide.alt
                == other["pictures"][0][1]
            )
            assert len(slide.alt) > 20 and other["pictures"][0][0].startswith(
                "data:image/png;base64,"
            )


def test_text_in_figures_is_legible_from_the_last_row(talk):
    small = {}
    for slide, one, other in zip(talk[0], talk[1].slides, talk[2].slides, strict=True):
        for shape in drawn(one):
            about = Image.open(io.BytesIO(shape.image.blob)).info
            inches = shape.image.size[0] / about["dpi"][0]
            narrower = min(shape.width.inches, other["place of picture"].width)
            points = float(about["Smallest text"]) * narrower / inches
            if points < 18:
                small[slide.figure] = f"{points:.1f} pt"
    assert not small, (
        f"text below 18 points: {small}; make the figure smaller, which magnifies it on the slide"
    )


def test_a_figure_fills_its_slide_in_both_decks(talk):
    for slide, one, other in zip(talk[0], talk[1].slides, talk[2].slides, strict=True):
        if not slide.figure:
            continue
        picture = box_of(drawn(one)[0])
        aspect = picture.width / picture.height
        # Title, sources and text take their part; a shape between 3:2 and 2:1 fits best.
        least = 0.54 if 1.54 <= aspect <= 2 else 0.45
        for box in (picture, other["place of picture"]):
            share = box.area / (layout.WIDTH * layout.HEIGHT)
            assert share > least, f"{slide.title}: the figure covers {share:.0%} of the slide"
            assert box.width / box.height == pytest.approx(aspect, rel=0.01)


def test_both_decks_have_one_layout_and_nothing_overlaps(talk):
    kinds = set()
    for slide, one, other in zip(talk[0], talk[1].slides, talk[2].slides, strict=True):
        if not slide.figure:
            continue
        kinds.add(slide.layout.kind)
        picture = box_of(drawn(one)[0])
        for side in ("left", "top", "width", "height"):
            here = getattr(other["place of picture"], side)
            assert here == pytest.approx(getattr(picture, side), abs=0.02), slide.title
        boxes = [box_of(shape) for shape in one.shapes]
        for number, box in enumerate(boxes):
            overlapping = [one for one in boxes[number + 1 :] if not apart(box, one)]
            assert not overlapping, f"{slide.title}: {box} overlaps {overlapping}"
        if slide.layout.kind in ("column", "strip"):
            text = other["place of text"]
            assert text.left == pytest.approx(slide.layout.texts[0].left, abs=0.02)
            assert apart(text, picture), slide.title
    assert kinds >= {"cover", "column"}


def test_the_title_slide_has_a_picture_and_three_slides_of_text_never_follow_each_other(talk):
    slides = talk[0]
    assert slides[0].figure and slides[0].layout.kind == "cover"
    main = [slide for slide in slides if not slide.spare]
    assert main[-1].figure, "the last slide stays on the wall while people ask"
    text_only = "".join("f" if slide.figure else "t" for slide in main)
    assert "ttt" not in text_only, text_only
    assert text_only.count("t") <= 3


def test_authors_stand_above_the_picture_of_the_title_slide(small):
    picture = "picture: '![](figures/a.png){alt=\"An A\"}'\n"
    slides, powerpoint, page = small(
        SMALL.replace("author: []\n", "author: [Ada, Charles]\n" + picture)
    )
    said = [shape.text_frame.text for shape in powerpoint.slides[0].shapes if shape.has_text_frame]
    assert said == ["Small", "A talk\nAda, Charles"]
    assert "Ada, Charles" in page.slides[0]["text"]
    without, _, _ = small(SMALL.replace("author: []\n", "author: []\n" + picture))
    assert slides[0].layout.picture.top > without[0].layout.picture.top


def test_a_title_keeps_to_one_line(talk):
    for slide in talk[0]:
        width = layout.width_of(slide.title, layout.TITLE_SIZE, bold=True)
        assert width <= layout.TITLE.width, f"{slide.title}: shorten it"


THREE = "Seen: **20.1 dB**\n\nUnseen: **19.8 dB**\n\n**1,024 bytes** a picture"


@pytest.mark.parametrize(
    ("aspect", "kind"),
    [(1, "column"), (1.5, "column"), (1.9, "column"), (2.5, "strip"), (4, "strip")],
)
def test_the_shape_of_a_figure_decides_where_text_goes(aspect, kind):
    chosen = layout.arrange(THREE, aspect)
    assert chosen.kind == kind
    rivals = (layout.column(THREE, aspect, layout.BODY), layout.strip(THREE, aspect, layout.BODY))
    assert chosen.picture.area == max(rival.picture.area for rival in rivals)
    assert chosen.picture.width / chosen.picture.height == pytest.approx(aspect)
    assert len(chosen.texts) == (1 if kind == "column" else 3)
    if kind == "column":
        assert chosen.texts[0].width <= 0.28 * layout.WIDTH
    # Before, each figure had to fit into 8.3 by 5.2 inches, whatever its shape.
    assert chosen.picture.width >= min(8.3, 5.2 * aspect)


def test_a_column_takes_the_largest_type_that_fits():
    sizes = [
        layout.arrange(text, 1.5).type.key
        for text in ("**20 dB**", "**123,456\N{NO-BREAK SPACE}bytes**")
    ]
    assert sizes[0] == layout.TYPES[0].key > sizes[1]
    crowded = "\n\n".join(["Some words before a number: **20.1 dB**"] * 4)
    assert layout.arrange(crowded, 1.5).type == layout.SMALL


def test_a_caption_stands_below_the_picture():
    plan = layout.arrange(THREE, 1.5, caption=True)
    assert plan.caption.top == pytest.approx(plan.picture.top + plan.picture.height)
    assert plan.caption.top + plan.caption.height <= layout.BOTTOM + 1e-9
    assert layout.arrange("", 1.5).kind == "alone"


def test_a_list_goes_into_a_column_whatever_the_shape():
    text = "- **First:** one\n- **Second:** another"
    assert layout.arrange(text, 3).kind == "column"
    assert layout.strip(text, 3, layout.BODY) is None


def test_text_that_is_too_long_stops_the_build(small):
    long = "\n\n".join(["Many words, and no figure beside them is large enough"] * 12)
    with pytest.raises(
        build.DeckError, match=r"slide 2, 'First': its text does not fit beside .* shorten it"
    ):
        small(SMALL.replace("A value", long))


def test_text_of_every_slide_is_in_both_decks(talk):
    for slide, one, other in zip(*(talk[0], talk[1].slides, talk[2].slides), strict=True):
        for line in filter(None, slide.text.split("\n")):
            line = words(line.removeprefix("- "))
            assert line in words(
                " ".join(shape.text_frame.text for shape in one.shapes if shape.has_text_frame)
            )
            assert line in words(other["text"])


def test_every_slide_has_notes_with_its_time(talk):
    slides, powerpoint, page = talk
    for slide, one, other in zip(slides, powerpoint.slides, page.slides, strict=True):
        if slide.level == 2:
            notes = one.notes_slide.notes_text_frame.text
            assert (
                words(slide.notes)
                and words(notes) == words(other["notes"])
                and words(slide.notes) in words(notes)
            )
            assert (
                notes.startswith("(spare)")
                if slide.spare
                else re.match(r"\(\d+:\d\d to \d+:\d\d\)", notes)
            )


def test_the_notes_take_ten_to_twelve_minutes(talk):
    assert build.minutes("one two three, four - five " * 26) == 1
    assert 10 <= sum(build.minutes(slide.notes) for slide in talk[0] if not slide.spare) <= 12


def test_no_placeholder_is_left(talk):
    _, powerpoint, page = talk
    everything = str(page.slides) + "".join(
        shape.text_frame.text
        for s in powerpoint.slides
        for shape in s.shapes
        if shape.has_text_frame
    )
    everything += "".join(
        slide.notes_slide.notes_text_frame.text
        for slide in powerpoint.slides
        if slide.has_notes_slide
    )
    number = RESULTS["conv.psnr_unseen_float"]["value"]
    assert (
        f"{number:.1f}" in everything
        and "{{" not in everything
        and "}}" not in everything
        and "<!--" not in everything
    )


def test_the_page_needs_no_network(talk):
    assert len(talk[2].addresses) >= 10
    assert [address[:60] for address in talk[2].addresses if not address.startswith("data:")] == []


def test_text_is_large_enough_and_inside_the_slide(talk):
    _, powerpoint, _ = talk
    width, height = powerpoint.slide_width, powerpoint.slide_height
    assert abs(width / height - 16 / 9) < 1e-3
    for part in (powerpoint.slide_master, *powerpoint.slide_layouts, *powerpoint.slides):
        sizes = [
            int(size)
            for size in part._element.xpath(".//a:defRPr/@sz | .//a:rPr/@sz | .//a:endParaRPr/@sz")
        ]
        assert all(size >= 1800 for size in sizes), part.name
        for shape in part.shapes:
            assert (
                shape.left >= 0
                and shape.top >= 0
                and shape.left + shape.width <= width
                and shape.top + shape.height <= height
            ), shape.name
    style = (ROOT / "slides" / "template.html").read_text("utf-8")
    slide_sizes = [
        int(size)
        for size in re.findall(r"(?:font:|font-size:) *(\d+)px", style.split("@media screen")[0])
    ]
    assert min(kind.text for kind in layout.TYPES) >= 18
    assert (
        len(slide_sizes) > 4 and min(slide_sizes) >= 24
    )  # pixels of a slide 1280 wide: 18 points at 13.33 inches
    assert Pt(18) == 228600 and width == 12192000


def test_feet_say_where_numbers_come_from(talk):
    slides, powerpoint, page = talk
    index = next(i for i, slide in enumerate(slides) if "conv.psnr_seen_float" in slide.used)
    foot = "cars_sample, n = 70 seen and 20 unseen"
    assert foot in page.slides[index]["text"] and foot in [
        s.text_frame.text for s in powerpoint.slides[index].shapes if s.has_text_frame
    ]
    assert f"{index + 1} / {len(slides)}" in words(page.slides[index]["text"])
    _, room = build.FEET[build.FOOTER]
    for slide in slides:  # a longer line would be cut off
        assert layout.width_of(build.source_line(slide, RESULTS), 18) <= room


def test_every_number_has_its_source(talk):
    assert [warning for slide in talk[0] for warning in slide.warnings] == []
    allowed = build.yaml.safe_load(DECK.split("---\n")[1])["typed"]
    body = build.COMMENT.sub("", DECK).lower()
    assert [
        phrase for phrase in allowed if body.count(phrase.lower()) < 2
    ] == []  # in the list and in a slide


@pytest.mark.parametrize(
    "typed", ["6.1 dB", "twelve cars", "1,024 bytes", "half of it", "a hundred", "8 × 8 and 9"]
)
def test_typed_numbers_are_noticed(small, typed):
    for text in (
        SMALL.replace("A value", typed),
        SMALL.replace("It is", typed),
        SMALL.replace("First", typed),
        SMALL.replace("An A", typed),
    ):
        warnings = small(text)[0][1].warnings
        assert (
            len(warnings) == 1
            and "is typed: take it from the results, or list it under `typed`" in warnings[0]
        )
    assert small(SMALL.replace("A value", "8 × 8, float and one"))[0][1].warnings == []


def test_the_result_table_of_readme_has_no_typed_number():
    text = (ROOT / "README.md").read_text("utf-8")
    table = [line for line in text.splitlines() if line.startswith("| [")]
    assert len(table) >= 2
    for row in table:
        _, question, figure, result = row.strip("|").split(" | ")
        result = re.sub(r"<!--[a-z0-9_.:]+-->[^<]*<!---->", "", result)
        for phrase in ("28 dB", "float32", "one picture", "10,000 test digits"):
            result = result.replace(phrase, "")
        assert build.NUMBER.findall(result) == [], result
        assert build.NUMBER.findall(question) == []
        assert re.sub(r"\]\(.*?\)", "", figure).replace("100 cars", "").strip("[ ").isascii()


def test_a_changed_number_appears_in_both_decks(tmp_path):
    results = tmp_path / "slides"
    shutil.copytree(ROOT / "slides", results)
    changed = json.loads((results / "results.json").read_text("utf-8"))
    changed["conv.gain_over_svd"]["value"] = 88.76
    (results / "results.json").write_text(json.dumps(changed), "utf-8")
    _, powerpoint, page = decks(tmp_path / "out", results=results)
    text = " ".join(
        shape.text_frame.text
        for slide in powerpoint.slides
        for shape in slide.shapes
        if shape.has_text_frame
    )
    notes = " ".join(
        slide.notes_slide.notes_text_frame.text
        for slide in powerpoint.slides
        if slide.has_notes_slide
    )
    for place in (
        text,
        notes,
        " ".join(s["text"] for s in page.slides),
        " ".join(s["notes"] for s in page.slides),
    ):
        assert "88.8" in place and not re.search(r"\b6\.1\b", place)


def test_numbers_as_readers_see_them(small):
    styles = {
        "{{a.x}}": "1.2",
        "{{a.x:.2f}}": "1.25",
        "{{a.x:+.1f}}": "+1.2",
        "{{a.x:up}}": "2",
        "{{a.x / 10:.3f}}": "0.125",
        "{{a.x / a.x:.0f}}": "1",
        "{{a.x|n}}": "20",
        "{{a.x|split}}": "unseen",
        "{{a.x|data}}": "cars_sample",
        "{{a.x > 1 ? more : less}}": "more",
        "{{a.x < 1 ? less : more}}": "more",
    }
    for placeholder, expected in styles.items():
        _, powerpoint, page = small(SMALL.replace("{{a.x:.2f}}", placeholder))
        assert page.slides[1]["text"].split()[2] == expected, placeholder
        assert powerpoint.slides[1].shapes[1].text_frame.text.split()[2] == expected
    assert (
        build.shown(-1234.5, "abs.1f") == "1,234.5"
        and build.shown(-1.25) == "−1.2"
        and build.shown(48163) == "48,163"
    )


WRONG = {
    "{{a.y}}": (
        r"slide 2, 'First': \{\{a\.y\}\} names 'a\.y', which is not in .*results\.json\. "
        r"Known: a\.x\. Correct the name"
    ),
    "{{a.x:q}}": "has the format 'q': expected one such as",
    "{{3 * 4}}": "is no placeholder: expected",
    "{{a.x": "a placeholder is not closed",
}


@pytest.mark.parametrize("placeholder", WRONG)
def test_unknown_placeholders_stop_the_build(small, placeholder):
    with pytest.raises(build.DeckError, match=WRONG[placeholder]):
        small(SMALL.replace("{{a.x:.2f}}", placeholder))
    assert not (small.folder / "out").exists()


def test_a_missing_figure_stops_the_build(small):
    with pytest.raises(
        build.DeckError,
        match=r"slide 2, 'First': there is no figures/a_b\.png in .*, but a\.png\. Correct the",
    ):
        small(SMALL.replace("figures/a.png", "figures/a_b.png"))
    with pytest.raises(
        build.DeckError, match=r"figures/a\.png has no text for who cannot see it: write"
    ):
        small(SMALL.replace('{alt="An A"}', ""))
    with pytest.raises(build.DeckError, match="2 figures: expected one a slide"):
        small(SMALL.replace("A value", '![](figures/a.png){alt="An A"}\n\nA value'))


def test_a_number_of_another_data_set_stops_the_build(small):
    other = (
        r"slide 2, 'First': \{\{a\.x:\.2f\}\} is a number of %s, but the slide expects %s\. "
        r"Execute the notebooks again"
    )
    with pytest.raises(build.DeckError, match=other % ("'COURSE_DATA/cars'", "'cars_sample'")):
        small(source="COURSE_DATA/cars")
    with pytest.raises(build.DeckError, match=other % ("'cars_sample'", "'COURSE_DATA/cars'")):
        small(real=True)
    with pytest.raises(
        build.DeckError, match=other % ('"scikit-learn\'s digits"', "'cars_sample'")
    ):
        small(source="scikit-learn's digits")
    with pytest.raises(build.DeckError, match="sources name 'dogs': expected cars, digits"):
        small(SMALL.replace("## First", '## First {sources="dogs"}'))
    declared = SMALL.replace("## First", '## First {sources="cars, digits"}')
    assert "scikit-learn's digits, n = 20 unseen" in small(
        declared, source="scikit-learn's digits"
    )[2].slides[1]["text"].replace("’", "'")
    assert (
        "COURSE_DATA/MNIST, n = 20 unseen"
        in small(declared, source="COURSE_DATA/MNIST", real=True)[2].slides[1]["text"]
    )
    with pytest.raises(build.DeckError, match="is a number of 'COURSE_DATA/MNIST'"):
        small(declared, source="COURSE_DATA/MNIST")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"a.x": 3}',
        '{"a.x": {"value": 3}}',
        '{"a.x": {"value": NaN, "unit": "", "split": "", "n": 1, "data": ""}}',
    ],
)
def test_damaged_results_stop_the_build(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(
        build.DeckError, match=r"results\.json is damaged .*delete it and run the notebooks again"
    ):
        build.build(SMALL, tmp_path, tmp_path / "out")


def test_missing_results_stop_the_build(tmp_path):
    with pytest.raises(build.DeckError, match=r"no .*results\.json: .* `make run`"):
        build.build(SMALL, tmp_path, tmp_path / "out")


def test_claims_that_fail_are_named(small):
    claim = SMALL.replace("## First", '## First {claims="a.x > 1, a.x < 2"}')
    assert small(claim)[0][1].warnings == []
    assert small(claim, value=3.0)[0][1].warnings == [
        "slide 2, 'First' claims a.x < 2, but here it is 3.0 against 2.0: reword the slide"
    ]
    with pytest.raises(build.DeckError, match="claim 'a.x = 2': expected"):
        small(SMALL.replace("## First", '## First {claims="a.x = 2"}'))


def test_comments_are_left_out_and_order_is_free(small):
    second = '## Second\n\n![A line](figures/a.png){alt="Another A"}\n\n::: notes\nMore.\n:::\n'
    head, first = SMALL.split("## First")
    _, powerpoint, page = small(
        head
        + second
        + "\n## First"
        + first
        + "\n<!-- ## Hidden\n\n{{not.there}} -->\n\n# Spare slides\n"
    )
    assert [slide["title"] for slide in page.slides] == ["Small", "Second", "First", "Spare slides"]
    assert "A line" in page.slides[1]["text"] and "A line" in [
        s.text_frame.text for s in powerpoint.slides[1].shapes if s.has_text_frame
    ]


def test_slides_that_pandoc_would_split_are_refused(small):
    with pytest.raises(
        build.DeckError, match="pandoc made 4 slides of 3: .*Write text first, then one figure"
    ):
        small(SMALL + "\n# Spare slides\n\nFor questions\n")


def test_the_command_names_the_error_and_fails(monkeypatch, tmp_path):
    run = [sys.executable, str(ROOT / "slides" / "build.py")]
    done = subprocess.run(
        run,
        env={**build.os.environ, "COURSE_OUT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("make slides: no ")
        and "Traceback" not in done.stderr
    )


def test_names_agree_with_the_package(monkeypatch, tmp_path):
    sources = build.yaml.safe_load(DECK.split("---\n")[1])["sources"]
    assert [sources[name][0] for name in ("cars", "digits")] == [
        data.source("cars"),
        data.source("MNIST"),
    ]
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert [sources[name][1] for name in ("cars", "digits")] == [
        data.source("cars"),
        data.source("MNIST"),
    ]


def test_the_talk_is_of_the_committed_results_or_of_the_run_that_is_asked_for(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("COURSE_OUT")
    assert build.results_folder() == ROOT / "slides"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert build.results_folder() == ROOT / "build"
    monkeypatch.setenv("COURSE_OUT", "build/test")
    assert build.results_folder() == ROOT / "build" / "test"


# What was measured on our cars in long trainings stays so with other pictures.
ALWAYS_SAMPLE = ("archive.", "distillation.psnr", "latent_sweep.", "matched.", "seeds.", "steps.")
ALWAYS_SAMPLE += ("classes.fine_tuned",)
ALWAYS_SAMPLE += tuple(f"generation.{label}" for label in ("azimuth", "body_type", "paint"))


def test_the_same_talk_of_real_photographs(tmp_path):
    shutil.copytree(ROOT / "slides" / "figures", tmp_path / "figures")
    there = {"cars_sample": "COURSE_DATA/cars", "scikit-learn's digits": "COURSE_DATA/MNIST"}
    there["datasets/turntable"] = "COURSE_DATA/FashionMNIST"
    there["datasets/wheels"] = "COURSE_DATA/mvtec_ad"
    there["datasets/bodies"] = "COURSE_DATA/paintings"
    real = {
        name: {
            **result,
            "data": result["data"]
            if name.startswith(ALWAYS_SAMPLE)
            else there.get(result["data"], result["data"]),
        }
        for name, result in RESULTS.items()
    }
    real["svd.coded_over_jpeg_at_28db"]["value"] = 0.9
    real["dense.psnr_unseen"]["value"] = real["dense.psnr_seen"]["value"] + 1
    (tmp_path / "results.json").write_text(json.dumps(real), "utf-8")
    slides, powerpoint, page = decks(tmp_path / "out", results=tmp_path, real=True)
    assert len(slides) == len(powerpoint.slides) == len(page.slides)
    assert any("decompositions beat JPEG" in slide.title for slide in slides)
    assert [
        "dense.psnr_seen > dense.psnr_unseen" in warning
        for slide in slides
        for warning in slide.warnings
    ] == [True]
    assert [words(slide["title"]) for slide in page.slides if "cars_sample" in slide["text"]] == [
        "All 100 cars in one file: we won …",
        "… until the rival also got one file",
        "Is a difference real? Train again, and longer",
        "Which idea buys how much?",
        "How large must the latent be?",
    ]
