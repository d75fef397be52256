"""The set `bodies`: cars in ordinary settings, sorted into folders by body type, as unevenly as a museum's pictures."""

import hashlib
import io

import numpy as np
from body import draw_design
from camera import draw_view, place_camera
from car import build_car
from develop import develop
from jobs import Job, faulty_seeds, write, write_table
from PIL import Image
from scene import clear_scene, describe, render_radiance
from setting import build_setting, draw_setting
from sheets import contact_sheet, jpeg, read_pictures

FIRST_SEED = 200_000
TRAIN = {
    "sedan": 118,
    "suv": 94,
    "hatchback": 82,
    "wagon": 58,
    "coupe": 25,
    "van": 14,
    "pickup": 10,
}
TEST = 40  # of each body type
SIZE = 128
SAMPLES = 16  # light paths a pixel at twice the size, so 64 for each pixel that is kept


def plan(options):
    """Seeds in their order; each goes to its own body type, first to the test set, then to the training set."""
    left_out = faulty_seeds("bodies")
    wanted = {body_type: TEST + n for body_type, n in TRAIN.items()}
    jobs = []
    seed = FIRST_SEED
    while any(wanted.values()):
        body_type = draw_design(seed).body_type
        if wanted[body_type] and seed not in left_out:
            split = "test" if wanted[body_type] > TRAIN[body_type] else "train"
            wanted[body_type] -= 1
            jobs.append(Job((f"{split}/{body_type}/car_{seed}.jpg",), draw, (seed,)))
        seed += 1
    return jobs


def draw(seed):
    file = io.BytesIO()
    picture = Image.fromarray(render(seed))
    picture.save(file, "JPEG", quality=92, subsampling=0, optimize=True)
    return [file.getvalue()]


def render(seed):
    """As the hundred are rendered, then brought to half the size: uint8 (128, 128, 3)."""
    clear_scene()
    car = build_car(seed)
    view = draw_view(seed, car.design)
    place_camera(view)
    build_setting(seed, draw_setting(seed), view)
    large = Image.fromarray(develop(render_radiance(seed, 2 * SIZE, SAMPLES), seed))
    return np.asarray(large.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def finish(jobs, folder):
    rows = []
    for job in jobs:
        name = job.files[0]
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        split = name.split("/")[0]
        rows.append({"file": name, "split": split, **describe(*job.arguments), "sha256": sha256})
    rows.sort(key=lambda row: row["file"])
    write_table(folder / "bodies.csv", rows)

    # To look at: a row for each body type.
    sheet = []
    for body_type in TRAIN:
        names = [row["file"] for row in rows if row["file"].startswith(f"train/{body_type}/")]
        sheet.append(read_pictures(folder, names[:10]))
    write(folder / "contact_sheet.jpg", jpeg(contact_sheet(sheet)))
