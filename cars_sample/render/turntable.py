"""Cars on a turntable: one whole car a seed, from six directions, on a plain studio backdrop.

The camera, the lamps and the backdrop stay where they are, and the car turns. Its size in the picture does not change
with the angle: the distance is such that the car fits at every one.
"""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from blender import add_mesh, clear_scene, plain, to_srgb
from body import DESIGNS, PAINTS, draw_design
from camera import SENSOR, View, place_camera, remove_camera
from car import build_car
from develop import png
from jobs import Job, faultless, write, write_table
from light import new_world, panel
from PIL import Image
from scene import render_radiance
from shapes import generator, grid_faces
from sheets import contact_sheet, jpeg

FIRST_SEED = 300_000
CARS = {"train": 800, "validation": 100, "test": 100}
VIEWS = 6
CONTACT_SHEET = "contact_sheet.jpg"
CARS_A_SHEET = 20  # WebP packs several small sheets better than a large one
SIZE = 64
DETAIL = 0.6  # of the meshes and textures: enough for 64 pixels, at a third of the building time
SAMPLES = 8  # light paths a pixel at twice the size, so 32 for each pixel that is kept
FOCAL_LENGTH = 70.0  # mm on a 36 mm wide square sensor
EXPOSURE = 0.54  # one for all pictures, so that a white car is brighter than a black one
FILL = 0.96  # share of the picture's width that the car's diagonal takes


@dataclass(frozen=True)
class Turn:
    """A direction from which a car is seen, in degrees."""

    azimuth: float  # of the camera, seen from the car: 0 in front, counter-clockwise from above
    elevation: float  # of the camera over the ground


def draw_look(seed):
    """Body type and paint of a seed: every type in every paint equally often."""
    number = seed - FIRST_SEED
    types, paints = list(DESIGNS), list(PAINTS)
    return types[number % len(types)], paints[number // len(types) % len(paints)]


def draw_turns(seed):
    rng = generator(seed, "turntable")
    return [Turn(rng.uniform(0, 360), rng.uniform(4, 28)) for _ in range(VIEWS)]


def plan(options):
    """A job for each car, a strip of its six pictures, of which `finish` makes sheets; and one to look at."""
    seeds = faultless("turntable", FIRST_SEED, sum(CARS.values()))
    jobs = [Job((f"parts/car_{seed}.png",), draw, (seed,)) for seed in seeds]
    return [*jobs, Job((CONTACT_SHEET,), draw_contact_sheet, (FIRST_SEED,))]


def draw(seed):
    return [png(np.concatenate(render_car(seed), 1))]


def finish(jobs, folder):
    """Sheets of twenty cars, a car a row, as lossless WebP, and a table with a row for each picture."""
    jobs = [job for job in jobs if job.files[0] != CONTACT_SHEET]
    splits = []
    for split, n in CARS.items():
        splits += n * [split]
    rows = []
    for first in range(0, len(jobs), CARS_A_SHEET):
        some = jobs[first : first + CARS_A_SHEET]
        strips = [np.asarray(Image.open(folder / job.files[0])) for job in some]
        name = f"turntable_{first // CARS_A_SHEET:02d}.webp"
        write(folder / name, lossless_webp(np.concatenate(strips)))
        for row, (job, strip) in enumerate(zip(some, strips, strict=True)):
            for labels in describe(*job.arguments):
                left = labels["view"] * SIZE
                pixels = np.ascontiguousarray(strip[:, left : left + SIZE])
                sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
                place = {"sheet": name, "row": row, "split": splits[first + row]}
                rows.append({**place, **labels, "sha256": sha256})
    write_table(folder / "turntable.csv", rows)


def lossless_webp(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=True, quality=100, method=6)
    return file.getvalue()


def draw_contact_sheet(seed):
    """One car from twelve azimuths, as each of the seven body types, in each of the thirteen paints."""
    front = Turn(azimuth=35, elevation=14)
    body_type, paint = "coupe", "red"
    turns = [Turn(azimuth, front.elevation) for azimuth in range(0, 360, 30)]
    rows = [
        render_car(seed, turns, (body_type, paint)),
        np.concatenate([render_car(seed, [front], (other, paint)) for other in DESIGNS]),
        np.concatenate([render_car(seed, [front], (body_type, other)) for other in PAINTS]),
    ]
    return [jpeg(contact_sheet(rows, scale=2))]


def describe(seed):
    """The labels of a seed's six pictures."""
    body_type, paint = draw_look(seed)
    design = draw_design(seed, body_type, paint)
    paint_srgb = hexadecimal(design.colour)
    return [
        {
            "car": seed,
            "view": view,
            "body_type": body_type,
            "paint": paint,
            "paint_srgb": paint_srgb,
            "azimuth": f"{turn.azimuth:.2f}",
            "elevation": f"{turn.elevation:.2f}",
        }
        for view, turn in enumerate(draw_turns(seed))
    ]


def hexadecimal(linear):
    red, green, blue = np.round(to_srgb(np.array(linear)) * 255).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def render_car(seed, turns=None, look=None, size=SIZE):
    """The pictures of a seed's car, uint8 (views, size, size, 3).

    `turns` asks for other directions than the seed's own, `look` for another body type and paint.
    """
    body_type, paint = look or draw_look(seed)
    clear_scene()
    car = build_car(seed, body_type, DETAIL, paint)
    for part in car.parts:
        part.color = (
            *car.design.colour,
            1,
        )  # meshes of low detail take their paint from the object
    build_studio(seed)
    pictures = []
    for turn in turns or draw_turns(seed):
        car.root.rotation_euler = (0, 0, -np.radians(turn.azimuth))
        remove_camera()
        place_camera(look_at(car.design, turn.elevation))
        radiance = render_radiance(seed, 2 * size, SAMPLES, keep_scene=True)
        large = Image.fromarray(expose(radiance))
        pictures.append(np.asarray(large.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(pictures)


def build_studio(seed):
    """A floor that bends up into a wall, of a grey of the seed's own, and four soft boxes."""
    grey = generator(seed, "backdrop").uniform(0.10, 0.24)
    bend = np.linspace(0, np.pi / 2, 20)
    curve = np.stack([-5 - 5 * np.sin(bend), 5 - 5 * np.cos(bend)], -1)
    profile = np.concatenate([[(30, 0), (-5, 0)], curve, [(-10, 20)]])
    edges = [np.insert(profile, 1, y, axis=1) for y in (-30.0, 30.0)]
    vertices = np.stack(edges, 1).reshape(-1, 3)
    backdrop = plain((grey, grey, grey), roughness=0.8)
    add_mesh("backdrop", vertices, [grid_faces(len(profile), 2)], [backdrop])
    new_world(0.30, (0.85, 0.92, 1.0))
    panel((2.0, 0, 6.0), (2.4, 3.2, 0.02), 30, seen=False)
    panel((5, -6, 3.0), (0.02, 2.0, 1.6), 16, (0, 0, -0.9), seen=False)
    panel((5, 6, 2.4), (0.02, 1.2, 1.2), 8, (0, 0, 0.9), seen=False)
    panel((-6, 0, 4.5), (0.02, 4.0, 0.6), 10, seen=False)


def look_at(design, elevation):
    """A camera in front of the turntable at such a distance that the turning car always fits."""
    reach = np.hypot(design.length, design.width) / 2
    distance = reach / FILL * FOCAL_LENGTH / (SENSOR / 2) + 0.35 * reach
    angle = np.radians(elevation)
    target = np.array([0, 0, 0.42 * design.height])
    position = target + distance * np.array([np.cos(angle), 0, np.sin(angle)])
    return View("", np.array([1.0, 0.0]), position, target, FOCAL_LENGTH, f_number=16, roll=0.0)


def expose(radiance):
    """Radiance in linear light to uint8, with one exposure for all pictures and a film-like curve (Narkowicz 2015)."""
    v = radiance * EXPOSURE
    v = v * (2.51 * v + 0.03) / (v * (2.43 * v + 0.59) + 0.14)
    return (to_srgb(np.clip(v, 0, 1)) * 255 + 0.5).astype(np.uint8)
