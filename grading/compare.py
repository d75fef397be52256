"""What was handed in against what the code produces: outputs cell by cell, and compressed files against what the text claims of them."""

import io
import math
import re
import tokenize

from driver import outline

LINE = re.compile(
    r"^([a-z]\w*(?:\.\w+)+) = (-?[\d,.]+(?:e[+-]?\d+)?)", re.M
)  # as report.record prints it
NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d*)?(?:[eE][-+]?\d+)?")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
CLAIM = re.compile(r"claim[ *_`]*:(.{1,300})", re.I)  # bounded: hostile text must not cost time
DECIBELS = 0.1  # a claimed PSNR may be off by so much


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def near(a: str, b: str) -> bool:
    """Two numbers as printed: integers must be equal, others to a thousandth or to a step of the last digit."""
    if "." not in a + b and "e" not in (a + b).lower():
        return number(a) == number(b)
    digits = min(len(x.partition(".")[2]) if "e" not in x.lower() else 99 for x in (a, b))
    return math.isclose(number(a), number(b), rel_tol=1e-3, abs_tol=1.01 * 10**-digits)


def same_line(a: str, b: str) -> bool:
    a, b = (" ".join(ADDRESS.sub("0x", line).split()) for line in (a, b))
    if a == b:
        return True
    pairs = [NUMBER.findall(line) for line in (a, b)]
    words = [NUMBER.sub("#", line).replace(" ", "") for line in (a, b)]
    return words[0] == words[1] and all(near(x, y) for x, y in zip(*pairs, strict=True))


def differences(stored: dict, fresh: dict, bands: dict, numbers_only: bool) -> list[str]:
    """What is in one outline and not in the other; recorded numbers are compared with their bands alone."""
    found = []
    claimed, made = (dict(LINE.findall(outlined["text"])) for outlined in (stored, fresh))
    for name, value in claimed.items():
        if name not in made:
            found.append(f"handed in: {name} = {value}; the code records no such number")
        elif name in bands and not bands[name][0] <= number(value) <= bands[name][1]:
            found.append(
                f"handed in: {name} = {value}; the code gives {made[name]}, expected {bands[name][0]} to {bands[name][1]}"
            )
        elif name not in bands and not near(value, made[name]):
            found.append(f"handed in: {name} = {value}; the code gives {made[name]}")
    found += [
        f"the code records {name} = {value}, which was not handed in"
        for name, value in made.items()
        if name not in claimed
    ]
    if not numbers_only:
        kept, again = (
            [
                line
                for line in outlined["text"].splitlines()
                if line.strip() and not LINE.match(line)
            ]
            for outlined in (stored, fresh)
        )
        for a, b in zip(kept, again, strict=False):
            if not same_line(a, b):
                found.append(f"handed in: {a[:200]!r}; the code gives {b[:200]!r}")
        found += [
            f"handed in: {line[:200]!r}; the code gives no such line" for line in kept[len(again) :]
        ]
        found += [
            f"the code gives {line[:200]!r}, which was not handed in" for line in again[len(kept) :]
        ]
    if stored["images"] != fresh["images"]:
        found.append(
            f"handed in: {', '.join(stored['images']) or 'no picture'}; the code gives {', '.join(fresh['images']) or 'none'}"
        )
    if stored["error"] and not fresh["error"]:
        found.append(f"handed in: an error, {stored['error'][:200]}; the code gives none")
    return found


def outputs(cells: list, fresh: dict, bands: dict, ignored: set, known: set) -> list[dict]:
    """Findings on the cells of a notebook, `{"cell", "kind", "what"}`; `fresh` are the outlines of the re-run by cell number.

    `ignored` are ids of cells whose recorded numbers alone count. In a cell of the course a widget is passed over: nobody moves it here.
    """
    findings, last = [], 0
    for index, cell in enumerate(cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        count, stored = cell.get("execution_count"), outline(cell.outputs)
        if isinstance(count, int):
            if count < last:
                findings.append(
                    {
                        "cell": index,
                        "kind": "order",
                        "what": f"executed as number {count}, after the cell with number {last}",
                    }
                )
            last = count
        again = fresh.get(index)
        widget = any(
            "application/vnd.jupyter.widget-view+json" in output.get("data", {})
            for output in cell.outputs
        )
        if again is None or again["state"] != "done" or (widget and cell.source.strip() in known):
            continue
        if not cell.outputs and (again["text"].strip() or again["images"]):
            findings.append(
                {
                    "cell": index,
                    "kind": "stripped",
                    "what": "no output was handed in; the code gives some",
                }
            )
            continue
        if again["error"] and not stored["error"]:
            found = (
                ["the code fails, which what was handed in does not show"] if cell.outputs else []
            )
        else:
            found = differences(stored, again, bands, cell.get("id") in ignored)
        findings += [{"cell": index, "kind": "different", "what": what} for what in found[:3]]
    return findings


def claims(cells: list) -> dict[str, dict]:
    """What lines such as `Claim: beetle.svd of car_003.png, 4,321 bytes, 28.1 dB` say, by file."""
    found = {}
    for line in (
        match[1]
        for cell in cells
        if cell.cell_type == "markdown"
        for match in CLAIM.finditer(cell.source)
    ):
        file = re.search(r"[\w.-]+\.(?:svd|aez)\b", line)
        picture = re.search(r"[\w.-]+\.(?:png|jpe?g|webp|avif)\b", line, re.I)
        size, quality = (
            re.search(r"(\d[\d,]*)\s*bytes", line),
            re.search(r"(\d+(?:\.\d+)?)\s*dB", line),
        )
        if file:
            found[file[0]] = {
                "picture": picture and picture[0],
                "bytes": size and int(number(size[1])),
                "psnr": quality and float(quality[1]),
            }
    return found


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
