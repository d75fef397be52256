"""Our codec against everyday codecs on your own photographs: `make bench DATA=folder`.

BD-rates at 128x128, 256x256 and full size, by PSNR and by MS-SSIM, with 95 % intervals over the
pictures; then one file of all pictures against one contact sheet of each format. Each measurement
is a line of build/bench/measured.jsonl, so an interrupted run goes on where it was.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
from tqdm import tqdm

from autoencoders import codec, course, data, metrics

# From about 22 to 38 dB; a BD-rate is an average over the qualities that two codecs share.
SETTINGS = {
    "codec": range(1, 9),
    "JPEG": (5, 10, 20, 35, 55, 75, 88),
    "WebP": (0, 10, 30, 50, 70, 85),
    "AVIF": (10, 20, 32, 44, 56, 70),
    "AVIF 4:4:4": (10, 20, 32, 44, 56, 70),
    "AVIF tuned": (4, 10, 20, 32, 44, 58),
    "JPEG XL": (1, 10, 30, 50, 65, 80),
}
MEASURES = {"PSNR": "psnr", "MS-SSIM": "ms_ssim"}
SMALLEST = 176  # pixels each way that MS-SSIM's five scales need


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="photographs, at least two")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where results go")
    parser.add_argument("--limit", type=int, default=50, help="of how many pictures (default: 50)")
    parser.add_argument(
        "--sizes", nargs="+", default=["128", "256", "full"], help="pixels, or full: as they are"
    )
    parser.add_argument(
        "--with-decoder",
        action="store_true",
        help="also an archive with a decoder of its own, at 128x128: three quarters of an hour",
    )
    parser.add_argument(
        "--effort",
        type=int,
        default=0,
        metavar="STEPS",
        help="also ours with so long a search for a smaller file, as in encode (default: none)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="also against our codec with other weights, as `train codec` writes them",
    )
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """Measure what is not yet measured, and print and write both tables. Raises ValueError."""
    if options.effort < 0:
        raise ValueError(f"--effort {options.effort}: expected a whole number from 0 up")
    options.out.mkdir(parents=True, exist_ok=True)
    # Ours come first: each is compared with all rivals.
    ours = ["codec"]
    if options.effort:
        ours.append(f"codec, effort {options.effort}")
    others = [*rivals()]
    for file in options.weights:
        if not file.is_file():
            raise ValueError(f"--weights {file}: no such file; expected one of `train codec`")
        model_of(f"codec with {file}")  # an error now, not after half an hour
        others.append(f"codec with {file}")
    measured = Measured(options.out / "measured.jsonl")
    rows = {}
    for size in options.sizes:
        pictures = read(options.folder, size, options.limit)
        for name, rates in bd_rates(pictures, size, ours, others, measured).items():
            rows.setdefault(name, {}).update(rates)
        show(rows, "bytes at equal quality, difference in % [95 % interval]")
    save(rows, options.out / "bd_rates.csv")
    cars = read(options.folder, "128", options.limit)
    rows = one_file(cars, options)
    show(rows, f"one file of {len(cars)} pictures of 128x128, as good as ours")
    save(rows, options.out / "one_file.csv")


def read(folder: Path, size: str, limit: int) -> list[np.ndarray]:
    """The first pictures of a folder, uint8, as central squares or ("full") as they are."""
    if size == "full":
        side = None
    elif size.isdigit() and 16 <= int(size) <= 4096:
        side = int(size)
    else:
        raise ValueError(f"--sizes {size}: expected a number of pixels from 16 to 4096, or full")
    if not folder.is_dir():
        raise ValueError(f"no folder {str(folder)!r}: expected one with photographs in it")
    files = data.picture_files(folder)[:limit]
    if len(files) < 2:
        raise ValueError(
            f"{len(files)} pictures in {folder}: expected two or more, since intervals tell how "
            "much pictures differ"
        )
    return [data.read(file, side) for file in files]


class Measured:
    """Measurements by what was measured, in a file that grows by a line with each."""

    def __init__(self, path: Path):
        self.path = path
        self.known = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    key, values = json.loads(line)
                except ValueError:
                    continue  # the last line of a run that was killed while it wrote
                self.known[key] = values

    def of(self, pictures: list[np.ndarray], name: str, setting) -> list[dict]:
        """Bytes and quality of each picture in a codec's file."""
        keys = [self._key(picture, name, setting) for picture in pictures]
        missing = [i for i, key in enumerate(keys) if key not in self.known]
        # Everyday encoders run outside Python's global lock; ours keeps all cores busy by itself.
        threads = 1 if name.startswith("codec") else os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            results = pool.map(lambda i: measure(pictures[i], name, setting), missing)
            for i, values in zip(missing, results, strict=True):
                self.known[keys[i]] = values
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([keys[i], values]) + "\n")
        return [self.known[key] for key in keys]

    def _key(self, picture: np.ndarray, name: str, setting) -> str:
        # Other weights, another Pillow, other arguments of it or another picture make it another
        # measurement.
        if name.startswith("codec"):
            coder = model_of(name).identity
        else:
            coder = f"{PIL.__version__} {metrics.CODECS[name]}"
        digest = hashlib.sha256(picture.tobytes()).hexdigest()[:16]
        shape = "x".join(map(str, picture.shape))
        return f"{name} {setting} {coder} {shape} {digest}"


def measure(picture: np.ndarray, name: str, setting) -> dict:
    """Encode and decode a picture: the file's bytes, and what is left of it in dB."""
    if name.startswith("codec"):
        file = encode(picture, name, setting)
        decoded = codec.decode(file, model_of(name))
    else:
        file, decoded = metrics.pillow(picture, name, setting)
    pair = picture[None], decoded[None]
    values = {"bytes": len(file), "psnr": float(metrics.psnr(*pair)[0])}
    if min(picture.shape[:2]) >= SMALLEST:
        values["ms_ssim"] = float(metrics.ms_ssim(*pair)[0])
    return values


@cache
def model_of(name: str) -> codec.LearnedCodec:
    """Our codec with the weights that come with the program, or those of a file in its name."""
    _, is_other, file = name.partition("codec with ")
    return codec.unpack(Path(file).read_bytes()) if is_other else codec.shipped()


def encode(picture: np.ndarray, name: str, quality: int) -> bytes:
    """Our file of a picture: by the encoder alone, or by so many steps as the name tells."""
    _, effort, steps = name.partition("effort ")
    if not effort:
        return codec.encode(picture, quality, model_of(name))
    latents = codec.refine(picture, quality, int(steps))
    return codec.encode(picture, quality, latents=latents)


def rivals() -> list[str]:
    """Of everyday codecs, those that can be measured here."""
    others = [name for name in SETTINGS if name != "codec"]
    return [name for name in others if name != "JPEG XL" or metrics.has_jpeg_xl()]


def bd_rates(
    pictures: list[np.ndarray], size: str, ours: list[str], others: list[str], measured: Measured
) -> dict:
    """BD-rates of each of `ours` against each of `others`, `{row: {column: (rate, low, high)}}`."""
    pixels = f"{size} pixels" if size != "full" else "full size"
    pixels += f" ({len(pictures)})"
    # Small pictures have no MS-SSIM.
    large = min(min(picture.shape[:2]) for picture in pictures) >= SMALLEST
    measures = MEASURES if large else {"PSNR": "psnr"}
    curves = {}
    for name in [*ours, *others]:
        table = []
        settings = SETTINGS["codec" if name.startswith("codec") else name]
        for setting in tqdm(settings, desc=f"{pixels}, {name}", leave=False):
            table.append(measured.of(pictures, name, setting))
        for measure_name, key in measures.items():
            curves[name, measure_name] = curve(table, key)
    rates = {}
    for name in ours:
        for rival in others:
            row = f"{name}, against {rival}" if len(ours) > 1 else f"against {rival}"
            rates[row] = {
                f"{pixels}, {m}": metrics.bd_rate_interval(curves[name, m], curves[rival, m])
                for m in measures
            }
    return rates


def curve(table: list[list[dict]], key: str) -> metrics.Curve:
    """Quality against bytes, of settings in which both rise."""
    sizes = np.array([[values["bytes"] for values in row] for row in table], float)
    quality = np.array([[values[key] for values in row] for row in table])
    # Two settings may give the same file; a curve needs points that rise.
    keep = [0]
    for i in range(1, len(sizes)):
        if (
            sizes[i].mean() > sizes[keep[-1]].mean()
            and quality[i].mean() > quality[keep[-1]].mean()
        ):
            keep.append(i)
    return metrics.Curve(sizes[keep], quality[keep])


def one_file(pictures: list[np.ndarray], options: argparse.Namespace) -> dict:
    """Bytes of one file of all pictures: ours, and contact sheets of at least its mean PSNR."""
    stack = np.stack(pictures)
    named = {f"{i:04d}.png": picture for i, picture in enumerate(pictures)}
    files = {"codec, weights not counted": codec.encode_all(named, 5)}
    if options.effort:
        search = partial(codec.refine, quality=5, steps=options.effort)
        searched = codec.encode_all(named, 5, latents_for=search)
        files[f"codec, effort {options.effort}, weights not counted"] = searched
    if options.with_decoder:
        files["codec, decoder in the file"] = archive(named, options.out)
    rows = {}
    for name, file in files.items():
        decoded = np.stack([picture for _, picture in codec.decode_all(file)])
        reached = float(metrics.psnr(stack, decoded).mean())
        rows[name] = {"bytes": len(file), "PSNR [dB]": reached}
        for rival in rivals():
            size, psnr = sheet_of(stack, rival, reached)
            # Each is as good as the file of ours above it.
            label = f"  {rival}, a contact sheet" + " " * (len(rows) // (1 + len(rivals())))
            rows[label] = {"bytes": size, "PSNR [dB]": psnr}
    return rows


def archive(named: dict[str, np.ndarray], out: Path) -> bytes:
    """Train a decoder for these pictures; goes on where it was interrupted."""
    from autoencoders.codec import training

    path = out / "archive.aez"
    if not path.exists():
        file = training.train_archive(named, checkpoint=out / "archive.pt")
        with course.replacing(path) as part:
            part.write_bytes(file)
    file = path.read_bytes()
    if codec.info(file)["names"] != list(named):
        raise ValueError(f"{path} holds other pictures: delete it, or give another --out")
    return file


def sheet_of(pictures: np.ndarray, name: str, wanted: float) -> tuple[int, float]:
    """Bytes and PSNR of the smallest contact sheet that is at least as good as wanted."""
    low, high = 0, 100
    best = None
    while low <= high:
        middle = (low + high) // 2
        file, decoded = metrics.sheet(pictures, name, middle)
        psnr = float(metrics.psnr(pictures, decoded).mean())
        if psnr >= wanted:
            best, high = (len(file), psnr), middle - 1
        else:
            low = middle + 1
    if best is None:
        raise ValueError(f"{name} does not reach {wanted:.2f} dB: expected a quality below it")
    return best


def cells(rows: dict) -> Iterator[tuple[str, str, str]]:
    """Row, column and text of each value."""
    for row, columns in rows.items():
        for column, value in columns.items():
            if isinstance(value, tuple):
                rate, low, high = value
                text = f"{rate:+.1f} [{low:+.1f}, {high:+.1f}]"
            elif isinstance(value, float):
                text = f"{value:.2f}"
            else:
                text = f"{value:,}"
            yield row, column, text


def show(rows: dict, title: str) -> None:
    table: dict = {}
    for row, column, text in cells(rows):
        table.setdefault(column, {})[row] = text
    print(f"\n{title}\n{pd.DataFrame(table).to_string(na_rep='-')}", flush=True)


def save(rows: dict, path: Path) -> None:
    """A line for each value: row, column, value, and the ends of its interval where it has one."""
    lines = []
    for row, columns in rows.items():
        for column, value in columns.items():
            value, *ends = value if isinstance(value, tuple) else (value,)
            low, high = ends or (None, None)
            lines.append(
                {"row": row.strip(), "column": column, "value": value, "low": low, "high": high}
            )
    with course.replacing(path) as part:
        pd.DataFrame(lines).to_csv(part, index=False)


if __name__ == "__main__":
    sys.exit(main())
