"""Contact sheets: many pictures in one, to look at."""

import io

import numpy as np
from PIL import Image


def contact_sheet(rows, scale=1, gap=4):
    """Rows of pictures (n, h, w, 3) or (n, h, w), uint8, one below the other on white."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    across = columns * (scale * width + gap) + gap
    down = len(rows) * (scale * height + gap) + gap
    sheet = Image.new("RGB", (across, down), "white")
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            tile = Image.fromarray(picture).convert("RGB")
            tile = tile.resize((scale * width, scale * height), Image.Resampling.BICUBIC)
            sheet.paste(tile, (gap + j * (scale * width + gap), gap + i * (scale * height + gap)))
    return sheet


def jpeg(picture):
    """The bytes of a picture as JPEG, for looking at."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, optimize=True)
    return file.getvalue()


def read_pictures(folder, names):
    """Files as one array (n, h, w, 3)."""
    return np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in names])
