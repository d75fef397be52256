"""Writes golden/: small files that every later version must decode to the same latents.

Run it when the format or the weights change.
"""

import json
import zlib
from pathlib import Path

import numpy as np
from codec.conftest import overfitted
from conftest import walks
from PIL import Image

from autoencoders import codec, data

GOLDEN = Path(__file__).with_name("golden")


def archive(pictures: dict) -> bytes:
    """With a decoder trained for a moment, so that every layer of it does something."""
    model = overfitted(np.stack([*pictures.values()]), epochs=100)
    coefficients = model.as_groups(model.values.round())
    return codec.encode_archive(pictures, model.decoder, coefficients, 10.0)


def main() -> None:
    cars, _ = data.cars(128, data.ROOT / "cars_sample", 4)
    a, b, c, d = data.to_bytes(cars)
    trio = {"front.jpg": b[:40, :56], "Käfer.png": c[30:54, :], "dot.png": d[60:61, 60:61]}
    files = {
        "car.aez": codec.encode(a, 5),
        "odd.aez": codec.encode(b[20:81, 30:67], 8),
        "coarse.aez": codec.encode(d[:64, :96], 1),
        "collection.aez": codec.encode_all(trio, 3),
        "archive.aez": archive({"one.png": a[32:96, 32:96], "two.png": b[32:96, 32:96]}),
    }
    GOLDEN.mkdir(exist_ok=True)
    golden = {}
    for name, file in files.items():
        (GOLDEN / name).write_bytes(file)
        with walks() as seen:
            pictures = [picture for _, picture in codec.decode_all(file)]
        pngs = [f"{Path(name).stem}_{i}.png" for i in range(len(pictures))]
        for png, picture in zip(pngs, pictures, strict=True):
            Image.fromarray(picture).save(GOLDEN / png, optimize=True)
        latents = zlib.crc32(b"".join(tile.numpy().astype("<f8").tobytes() for tile in seen))
        golden[name] = {"latents": latents, "pictures": pngs}
    (GOLDEN / "golden.json").write_text(json.dumps(golden, indent=1) + "\n", "utf-8")
    print(
        f"{len(golden)} files, {sum(p.stat().st_size for p in GOLDEN.iterdir()):,} bytes in "
        f"{GOLDEN}"
    )


if __name__ == "__main__":
    main()
