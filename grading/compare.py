"""What was handed in against what the code produces.

Outputs cell by cell, and compressed files against what the text claims of them.
"""

import io
import math
import re
import tokenize

from driver import outline

NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d*)?(?:[eE][-+]?\d+)?")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
CLAIM = re.compile(r"claim[ *_`]*:(.{1,300})", re.I)  # bounded: hostile text must not cost time
DECIBELS = 0.1  # a claimed PSNR may be off by so much


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def near(a: str, b: str) -> bool:
    """Two numbers as printed: whole ones must be equal.

    Others may differ by a thousandth, or by a step of the last digit.
    """
    if "." not in a + b and "e" not in (a + b).lower():
        return number(a) == number(b)
    digits = min(len(x.partition(".")[2]) if "e" not in x.lower() else 99 for x in (a, b))
    return math.isclose(number(a), number(b), rel_tol=1e-3, abs_tol=1.01 * 10**-digits)


def same_line(a: str, b: str) -> bool:
    a, b = _plain(a), _plain(b)
    if a == b:
        return True
    words = [NUMBER.sub("#", line).replace(" ", "") for line in (a, b)]
    if words[0] != words[1]:
        return False
    return all(near(x, y) for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True))


def _plain(line: str) -> str:
    """Without addresses in memory, and with single spaces."""
    return " ".join(ADDRESS.sub("0x", line).split())


def shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def same_value(a: float, b: float) -> bool:
    """Two recorded numbers without a band: whole ones must be equal, others to a thousandth."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return math.isclose(a, b, rel_tol=1e-3)


def differences(stored: dict, fresh: dict, bands: dict, numbers_only: bool) -> list[str]:
    """What is in one outline and not in the other.

    Recorded numbers are compared with their bands alone.
    """
    found = records(stored["records"], fresh["records"], bands)
    if not numbers_only:
        found += lines(stored["text"], fresh["text"])
    if stored["images"] != fresh["images"]:
        handed_in = ", ".join(stored["images"]) or "no picture"
        given = ", ".join(fresh["images"]) or "none"
        found.append(f"handed in: {handed_in}; the code gives {given}")
    if stored["error"] and not fresh["error"]:
        found.append(f"handed in: an error, {stored['error'][:200]}; the code gives none")
    return found


def records(claimed: dict, made: dict, bands: dict) -> list[str]:
    """What differs between the recorded numbers of two outlines."""
    found = []
    for name, value in claimed.items():
        here = f"handed in: {name} = {shown(value)}"
        if name not in made:
            found.append(f"{here}; the code records no such number")
        elif name in bands:
            low, high = bands[name]
            if not low <= value <= high:
                found.append(
                    f"{here}; the code gives {shown(made[name])}, expected {low} to {high}"
                )
        elif not same_value(value, made[name]):
            found.append(f"{here}; the code gives {shown(made[name])}")
    for name, value in made.items():
        if name not in claimed:
            found.append(f"the code records {name} = {shown(value)}, which was not handed in")
    return found


def lines(stored: str, fresh: str) -> list[str]:
    """What differs between the lines of two texts; empty ones do not count."""
    kept = [line for line in stored.splitlines() if line.strip()]
    again = [line for line in fresh.splitlines() if line.strip()]
    found = []
    for a, b in zip(kept, again, strict=False):
        if not same_line(a, b):
            found.append(f"handed in: {a[:200]!r}; the code gives {b[:200]!r}")
    for line in kept[len(again) :]:
        found.append(f"handed in: {line[:200]!r}; the code gives no such line")
    for line in again[len(kept) :]:
        found.append(f"the code gives {line[:200]!r}, which was not handed in")
    return found


def outputs(cells: list, fresh: dict, bands: dict, ignored: set, known: set) -> list[dict]:
    """Findings on the cells of a notebook, `{"cell", "kind", "what"}`.

    `fresh` are the outlines of the re-run by cell number, `ignored` the ids of cells whose recorded
    numbers alone count. In a cell of the course, `known` by its source, a widget is passed over:
    nobody moves it here.
    """
    findings, last = [], 0
    for index, cell in enumerate(cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        count = cell.get("execution_count")
        if isinstance(count, int):
            if count < last:
                what = f"executed as number {count}, after the cell with number {last}"
                findings.append({"cell": index, "kind": "order", "what": what})
            last = count
        again = fresh.get(index)
        if again is None or again["state"] != "done":
            continue
        if cell.source.strip() in known and any(map(_is_widget, cell.outputs)):
            continue
        findings += _of_cell(index, cell, again, bands, cell.get("id") in ignored)
    return findings


def _is_widget(output) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _of_cell(index: int, cell, again: dict, bands: dict, numbers_only: bool) -> list[dict]:
    """Findings on the outputs of one cell, at most three."""
    stored = outline(cell.outputs)
    if not cell.outputs and (again["text"].strip() or again["images"] or again["records"]):
        what = "no output was handed in; the code gives some"
        return [{"cell": index, "kind": "stripped", "what": what}]
    if again["error"] and not stored["error"]:
        found = []
        if cell.outputs:
            found = ["the code fails, which what was handed in does not show"]
    else:
        found = differences(stored, again, bands, numbers_only)
    return [{"cell": index, "kind": "different", "what": what} for what in found[:3]]


def claims(cells: list) -> dict[str, dict]:
    """What lines such as `Claim: a.svd of car_003.png, 4,321 bytes, 28.1 dB` say, by file."""
    found = {}
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        for match in CLAIM.finditer(cell.source):
            found |= _claim(match[1])
    return found


def _claim(line: str) -> dict[str, dict]:
    file = re.search(r"[\w.-]+\.(?:svd|aez)\b", line)
    if not file:
        return {}
    picture = re.search(r"[\w.-]+\.(?:png|jpe?g|webp|avif)\b", line, re.I)
    size = re.search(r"(\d[\d,]*)\s*bytes", line)
    quality = re.search(r"(\d+(?:\.\d+)?)\s*dB", line)
    claim = {
        "picture": picture and picture[0],
        "bytes": size and int(number(size[1])),
        "psnr": quality and float(quality[1]),
    }
    return {file[0]: claim}


def verdict(claim: dict | None, measured: dict) -> str:
    """One sentence on a compressed file: "as claimed", or what is not."""
    if "error" in measured:
        return f"cannot be decoded: {measured['error']}"
    if not claim:
        return "no claim was found"
    wrong = []
    if claim["bytes"] is None or claim["bytes"] != measured["bytes"]:
        wrong.append(f"claimed {claim['bytes']} bytes, measured {measured['bytes']}")
    if measured["psnr"] is None:
        wrong.append("PSNR not measured: no original of this name and size; the claim must name it")
    elif claim["psnr"] is None or not abs(claim["psnr"] - measured["psnr"]) <= DECIBELS:
        wrong.append(f"claimed {claim['psnr']} dB, measured {measured['psnr']:.2f} dB")
    return "; ".join(wrong) or "as claimed"


def comment_words(source: str) -> int:
    """Words in the comments of a code cell, as far as it can be read."""
    words = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            words += len(re.findall(r"\w+", token.string)) if token.type == tokenize.COMMENT else 0
    except (tokenize.TokenError, SyntaxError):
        pass
    return words
