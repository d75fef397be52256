"""One wheel face-on on a test bench, intact or with one defect, and the exact mask of that defect.

The design is fixed. What varies is what varies in a factory: light, exposure, how far rim and tyre are turned, a slight
tilt and shift, dust, the tyre's lettering, grain. A defect of a seed is drawn from that seed too, so that the same
wheel can be rendered with it and without it.
"""

import hashlib
import io
from dataclasses import dataclass

import bpy
import numpy as np
from blender import add_mesh, clear_scene, painted, plain, to_srgb
from camera import SENSOR, View, place_camera
from defects import DEFECTS, NUTS, cut_spoke, dent, draw_defect, stick_on
from jobs import Job, faultless, write, write_table
from light import new_world, panel
from PIL import Image
from scene import render_radiance
from scipy import ndimage
from shapes import (
    Canvas,
    blotches,
    coverage,
    generator,
    grid_faces,
    lerp,
    revolve,
    sd_segments,
    smoothstep,
)
from sheets import contact_sheet, jpeg, read_pictures

FIRST_SEED = 400_000
FIRST_DEFECT_SEED = 410_000  # and a thousand further for each kind
GOOD = {"train": 200, "validation": 40, "test": 60}
PER_DEFECT = 15
SIZE = 128
SAMPLES = 8  # light paths a pixel at twice the size, so 32 for each pixel that is kept
TYRE, RIM, HALF_WIDTH = 0.330, 0.262, 0.105  # metres
SPOKES = 5
HUB = 0.104
NUT_CIRCLE, NUT = 0.070, 0.021
TEXELS = 512  # of a canvas that covers the wheel's face
RIM_COLOUR = (0.36, 0.31, 0.24)
NUT_COLOUR = (0.30, 0.30, 0.31)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, the grey of Pillow and torchvision


@dataclass(frozen=True)
class Bench:
    """What differs from one picture to the next."""

    rim_angle: float  # radians
    tyre_angle: float
    tilt: np.ndarray  # of the camera's position, metres across and up
    shift: np.ndarray  # of its target
    scale: float
    lamps: np.ndarray  # watts a square metre of the three lamps
    lamp_shift: np.ndarray
    warmth: float
    exposure: float
    dust: float
    grain: float  # standard deviation, in grey levels of 255


def plan(options):
    """The files of MVTec AD's layout, and of the validation folder of MVTec LOCO."""
    seeds = faultless("wheels", FIRST_SEED, sum(GOOD.values()))
    jobs = []
    for split, n in GOOD.items():
        for number in range(n):
            jobs.append(Job((f"{split}/good/{number:03d}.png",), draw_good, (seeds.pop(0),)))
    for k, kind in enumerate(DEFECTS):
        first_seed = FIRST_DEFECT_SEED + 1000 * k
        for number, seed in enumerate(faultless("wheels", first_seed, PER_DEFECT)):
            mask = f"ground_truth/{kind}/{number:03d}_mask.png"
            jobs.append(Job((mask, f"test/{kind}/{number:03d}.png"), draw_defective, (seed, kind)))
    return jobs


def draw_good(seed):
    return [png(good(seed))]


def draw_defective(seed, kind):
    picture, mask = defective(seed, kind)
    return [png(mask), png(picture)]


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def finish(jobs, folder):
    rows = []
    for job in jobs:
        *masks, name = job.files
        split, defect, _ = name.split("/")
        row = {"file": name, "split": split, "defect": defect, "seed": job.arguments[0]}
        row |= {"area_percent": "", "mask": "", "mask_sha256": "", "sha256": digest(folder / name)}
        for mask in masks:
            share = (np.asarray(Image.open(folder / mask)) > 0).mean()
            area = f"{100 * share:.2f}"
            row |= {"area_percent": area, "mask": mask, "mask_sha256": digest(folder / mask)}
        rows.append(row)
    write_table(folder / "wheels.csv", rows)

    # To look at: good wheels, then five of each defect above their masks.
    sheet = [read_pictures(folder, [f"train/good/{i:03d}.png" for i in range(10)])]
    for kind in DEFECTS:
        pairs = []
        for i in range(5):
            pairs += [f"test/{kind}/{i:03d}.png", f"ground_truth/{kind}/{i:03d}_mask.png"]
        sheet.append(read_pictures(folder, pairs))
    write(folder / "contact_sheet.jpg", jpeg(contact_sheet(sheet)))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw_bench(seed):
    rng = generator(seed, "bench")
    return Bench(
        rim_angle=rng.uniform(0, 2 * np.pi),
        tyre_angle=rng.uniform(0, 2 * np.pi),
        tilt=rng.normal(0, 0.10, 2).clip(-0.22, 0.22),
        shift=rng.normal(0, 0.006, 2).clip(-0.013, 0.013),
        scale=rng.normal(1, 0.012),
        lamps=np.array([14.0, 9.0, 9.0]) * np.exp2(rng.normal(0, 0.35, 3)),
        lamp_shift=rng.normal(0, 0.15, 3),
        warmth=rng.normal(0, 0.03),
        exposure=np.exp2(rng.normal(0, 0.18)),
        dust=rng.beta(1.3, 3.0),
        grain=rng.uniform(0.5, 1.2),
    )


def good(seed):
    """The picture of an intact wheel, uint8 (128, 128, 3)."""
    return with_grain(render_clean(seed), seed)


def defective(seed, kind):
    """A picture with a defect and its mask, uint8 (128, 128, 3) and (128, 128) of 0 and 255.

    The mask is where the picture differs from the same wheel's without the defect by more than the grain explains, both
    taken before the grain is added. Of its connected regions only those count that have 5 pixels or more and one
    that differs three times as much: fainter ones are the renderer's own noise.
    """
    intact, broken = render_clean(seed), render_clean(seed, kind)
    if kind == "nut_colour":
        broken = with_luma_of(broken, intact)
    if kind == "brightness":
        broken = with_hue_of(broken, intact)
    difference = np.abs(np.round(broken) - np.round(intact)).max(-1)
    threshold = 3 * draw_bench(seed).grain + 2
    regions, n = ndimage.label(difference > threshold, np.ones((3, 3)))
    numbers = np.arange(1, n + 1)
    sizes = np.bincount(regions.ravel(), minlength=n + 1)[1:]
    peaks = ndimage.maximum(difference, regions, numbers)
    kept = numbers[(sizes >= 5) & (np.array(peaks) > 3 * threshold)]
    mask = np.isin(regions, kept)
    # Where nothing differs, nothing shall: what is left of the renderer's noise outside the mask is taken back.
    nearby = ndimage.binary_dilation(mask, iterations=4)
    broken = np.where(nearby[..., None], broken, intact)
    return with_grain(broken, seed), mask.astype(np.uint8) * 255


def render_clean(seed, defect=None):
    """What the camera sees before its grain: float (128, 128, 3) from 0 to 255."""
    bench = draw_bench(seed)
    clear_scene()
    build_wheel(seed, bench, draw_defect(seed, defect) if defect else None)
    build_surroundings(bench)
    place_camera(face_on(bench))
    bpy.context.scene.camera.data.dof.use_dof = False
    light = render_radiance(seed, 2 * SIZE, SAMPLES) * 0.9 * bench.exposure
    light = light * (1 + bench.warmth, 1, 1 - bench.warmth)
    v = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)  # Narkowicz 2015
    large = to_srgb(np.clip(v, 0, 1)) * 255
    return np.stack([reduce(channel) for channel in np.moveaxis(large, -1, 0)], -1).clip(0, 255)


def reduce(channel):
    small = Image.fromarray(channel.astype(np.float32)).resize(
        (SIZE, SIZE), Image.Resampling.LANCZOS
    )
    return np.asarray(small, float)


def with_grain(clean, seed):
    rng = generator(seed, "grain")
    grain = draw_bench(seed).grain
    noise = rng.normal(0, grain, (SIZE, SIZE, 1)) + rng.normal(0, 0.4 * grain, (SIZE, SIZE, 3))
    return (np.round(clean) + noise + 0.5).clip(0, 255).astype(np.uint8)


def with_luma_of(colours, greys):
    """The chroma of one picture with the grey of another, each colour brought into the range where it leaves it."""
    grey = (greys @ LUMA)[..., None]
    chroma = colours - (colours @ LUMA)[..., None]
    room = np.where(chroma > 0, 255 - grey, grey)
    share = np.minimum(1, room / np.maximum(np.abs(chroma), 1e-6)).min(-1, keepdims=True)
    return grey + chroma * share


def with_hue_of(greys, colours):
    """The brightness of one picture with the ratios of red, green and blue of another."""
    factor = (greys @ LUMA) / np.maximum(colours @ LUMA, 1e-6)
    largest = 255 / np.maximum(colours.max(-1), 1e-6)
    return colours * np.minimum(factor, largest)[..., None]


def build_wheel(seed, bench, defect):
    """Tyre, rim, nuts, and what one sees behind the spokes. The axle lies along y, the outside is towards +y."""
    tyre = painted(paint_tyre(seed, bench), bump=0.0025)
    bead = [(RIM - 0.006, 0.84), (RIM + 0.006, 0.96)]
    wall = [
        (lerp(RIM, TYRE, share), out) for share, out in ((0.3, 1.03), (0.6, 1.04), (0.85, 0.99))
    ]
    tread = [(TYRE - 0.004, 0.86), (TYRE, 0.6), (TYRE, -0.8)]
    profile = [(radius, out * HALF_WIDTH) for radius, out in [*bead, *wall, *tread]]
    add_face("tyre", *revolve(profile, 128), tyre, bench.tyre_angle)

    rim = painted(paint_rim(seed, bench, defect), bump=0.002)
    add_face("rim", *rim_mesh(defect), rim, bench.rim_angle, sharp=40)
    add_nuts(bench, defect)
    dark = plain((0.006, 0.006, 0.006), roughness=0.9)
    steel = plain((0.20, 0.19, 0.18), 0.9, 0.5)
    drum = plain((0.10, 0.10, 0.10), 0.8, 0.5)
    for name, profile, material in (
        ("drum", [(0.98 * RIM, 0.080), (0.94 * RIM, 0.03), (0.94 * RIM, -0.08)], drum),
        ("disc", [(0, 0.015), (0.70 * RIM, 0.015), (0.70 * RIM, -0.01)], steel),
        ("back", [(0, -0.03), (0.96 * RIM, -0.03)], dark),
    ):
        vertices, faces = revolve(profile, 64)
        add_mesh(name, vertices, faces, [material])
    if defect and defect.kind == "sticker":
        stick_on(defect, bench.rim_angle, HALF_WIDTH * 1.06)


def add_face(name, vertices, faces, material, angle, sharp=None):
    """A part whose texture is its own face, seen along the axle."""
    uv = [0.5 + 0.5 * vertices[f][..., [0, 2]] / TYRE for f in faces]
    add_mesh(name, vertices, faces, [material], uv=uv, sharp=sharp, rotation=(0, angle, 0))


def polar_canvas(colour, metallic, roughness):
    """A canvas that covers the wheel's face, with the radius and the angle of each texel."""
    axis = np.linspace(-TYRE, TYRE, TEXELS)
    x, z = np.meshgrid(axis, axis)
    return Canvas((TEXELS, TEXELS), colour, metallic, roughness), x, z


def paint_tyre(seed, bench):
    canvas, x, z = polar_canvas((0.022, 0.022, 0.023), 0, 0.75)
    rng = generator(seed, "lettering")
    r, angle = np.hypot(x, z), np.arctan2(z, x)
    middle = (RIM + TYRE) / 2 + 0.002
    for start in rng.uniform(0, 0.5) + np.array([0, np.pi]):
        for letter in range(rng.integers(5, 11)):
            along = (angle - start - 0.085 * letter + np.pi) % (2 * np.pi) - np.pi
            strokes = made_up_letter(rng, along * middle, r - middle)
            canvas.put(coverage(strokes - 0.0022, 0.0016), (0.13, 0.13, 0.13), raise_by=0.4)
    rings = np.minimum(np.abs(r - RIM - 0.016), np.abs(r - TYRE + 0.014))
    canvas.put(coverage(rings - 0.001, 0.0014), raise_by=0.3)
    put_dust(canvas, seed, "tyre dust", bench.dust, (0.10, 0.085, 0.065))
    return canvas


def made_up_letter(rng, x, y):
    """Signed distance to three to five of the strokes of a letter 20 mm tall."""
    corners = np.array(
        [
            (-0.006, -0.010),
            (0.006, -0.010),
            (-0.006, 0.0),
            (0.006, 0.0),
            (-0.006, 0.010),
            (0.006, 0.010),
        ]
    )
    pairs = [(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 5), (4, 5), (0, 3)]
    distance = np.full(np.shape(x), 1.0)
    near = np.hypot(x, y) < 0.02
    for number in rng.choice(len(pairs), rng.integers(3, 6), replace=False):
        a, b = pairs[number]
        distance[near] = np.minimum(
            distance[near], sd_segments(x[near], y[near], [corners[a], corners[b]])
        )
    return distance


def paint_rim(seed, bench, defect):
    canvas, x, z = polar_canvas(RIM_COLOUR, 0.55, 0.38)
    r, angle = np.hypot(x, z), np.arctan2(z, x)
    # A turned ring on the edge, a cap in the middle, a bore for the valve.
    canvas.put(coverage(np.abs(r - 0.955 * RIM) - 0.004), (0.55, 0.53, 0.50), 0.8, 0.25)
    canvas.put(coverage(r - 0.038), (0.05, 0.05, 0.055), 0.2, 0.3, raise_by=0.3)
    canvas.put(coverage(np.abs(r - 0.024) - 0.003), (0.45, 0.44, 0.42), 0.8, 0.3)
    for k in range(NUTS):
        at = nut_place(k)
        canvas.put(
            coverage(np.hypot(x - at[0], z - at[1]) - 0.7 * NUT), (0.012, 0.012, 0.012), 0, 0.8
        )
    valve = np.hypot(r * np.cos(angle - 0.63) - 0.235, r * np.sin(angle - 0.63)) - 0.007
    canvas.put(coverage(valve), (0.02, 0.02, 0.02), 0, 0.6, raise_by=0.5)
    put_dust(canvas, seed, "rim dust", 0.7 * bench.dust, (0.12, 0.10, 0.08))
    if defect:
        DEFECTS[defect.kind](defect, canvas, x, z)
    return canvas


def put_dust(canvas, seed, name, amount, colour):
    rng = generator(seed, name)
    cloud = blotches(rng, (TEXELS, TEXELS), 160)
    canvas.put(np.clip(amount * (0.30 + 0.22 * cloud), 0, 0.6), colour, 0, 0.8)


def rim_mesh(defect):
    """The rim as a height field over polar coordinates, with gaps between its spokes."""
    rows, columns = 84, 720
    r = np.linspace(0, RIM, rows)[:, None]
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    metal = metal_mask(r, angle)
    if defect and defect.kind == "broken_spoke":
        metal = metal * cut_spoke(defect, r, angle)
    y = HALF_WIDTH * 0.80 - 0.030 * (1 - r / RIM) ** 1.3
    y = y + 0.006 * smoothstep(0.010, 0.0, np.abs(r - 0.965 * RIM))
    y = np.where(r < 0.042, y + 0.012, y)  # the cap
    y = y - 0.055 * (1 - metal)
    if defect and defect.kind == "dent":
        r, y = dent(defect, r, angle, y, RIM)
    vertices = np.stack(np.broadcast_arrays(r * np.cos(angle), y, r * np.sin(angle)), -1)
    faces = grid_faces(rows, columns, wrap=True)
    solid = (metal.reshape(-1)[faces] > 0.03).any(1)
    return vertices.reshape(-1, 3), [faces[solid]]


def metal_mask(r, angle):
    """1 on hub, spokes and edge, 0 between them."""
    around = (angle + np.pi / SPOKES) % (2 * np.pi / SPOKES) - np.pi / SPOKES
    width = lerp(0.044, 0.030, r / RIM)
    spoke = np.abs(around) * r - width
    distance = np.minimum(np.minimum(spoke, r - HUB), 0.90 * RIM - r)
    return smoothstep(0.006, -0.004, distance)


def nut_place(k):
    """Where nut k sits between two spokes: x and z in metres."""
    angle = (k + 0.5) * 2 * np.pi / NUTS
    return NUT_CIRCLE * np.array([np.cos(angle), np.sin(angle)])


def add_nuts(bench, defect):
    """Hexagonal nuts with a round cap."""
    profile = [(0.55 * NUT, 0.022), (0.80 * NUT, 0.018), (0.98 * NUT, 0.010), (0.98 * NUT, 0.0)]
    steel = plain(NUT_COLOUR, 0.4, 0.35)
    cos, sin = np.cos(bench.rim_angle), np.sin(bench.rim_angle)
    for k in range(NUTS):
        material = steel
        if defect and k in defect.nuts:
            if defect.kind == "missing_nut":
                continue
            material = plain(defect.colour, 0.4, 0.35)
        x, z = nut_place(k)
        place = (x * cos + z * sin, HALF_WIDTH * 0.80 - 0.026, z * cos - x * sin)
        vertices, faces = revolve(profile, 6, closed=True)
        add_mesh(
            "nut",
            vertices,
            faces,
            [material],
            smooth=False,
            location=place,
            rotation=(0, bench.rim_angle, 0),
        )


def build_surroundings(bench):
    """The bench's plate behind the wheel, and three lamps in front of it."""
    plate = np.array([[-1, -0.15, -1], [1, -0.15, -1], [1, -0.15, 1], [-1, -0.15, 1]])
    add_mesh("plate", plate, [np.array([[0, 1, 2, 3]])], [plain((0.16, 0.17, 0.18), 0.2, 0.6)])
    new_world(0.25, (0.9, 0.95, 1.0))
    places = [(0.0, 1.3, 1.5), (-1.5, 1.4, 0.2), (1.5, 1.4, -0.3)]
    turns = [(-0.75, 0, 0), (0, 0, 0.8), (0, 0, -0.8)]
    for place, turn, watts, shift in zip(places, turns, bench.lamps, bench.lamp_shift, strict=True):
        x, y, z = place
        panel((x + shift, y, z + shift), (0.5, 0.02, 0.5), watts, turn, seen=False)


def face_on(bench):
    """A camera in front of the wheel, 3 m away, a little off the axle."""
    distance = 3.0
    focal_length = SENSOR / 2 * distance / (TYRE * 1.045) / bench.scale
    target = np.array([bench.shift[0], 0.0, bench.shift[1]])
    position = np.array([bench.tilt[0], distance, bench.tilt[1]])
    return View("", np.array([0.0, 1.0]), position, target, focal_length, f_number=16, roll=0.0)
