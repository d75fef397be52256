"""Façades, painted storey by storey with every window its own; flat and pitched roofs; fences."""

import numpy as np
from blender import add_mesh, painted, plain
from shapes import Canvas, blotches, box_mesh, coverage, pick, sd_box, smoothstep, stripes

WALLS = {
    (0.42, 0.39, 0.34): "plaster", (0.52, 0.50, 0.47): "plaster", (0.55, 0.47, 0.34): "plaster", (0.34, 0.33, 0.31): "panels",
    (0.26, 0.115, 0.08): "brick", (0.33, 0.19, 0.13): "brick", (0.20, 0.15, 0.12): "brick", (0.20, 0.20, 0.21): "panels",
    (0.58, 0.57, 0.54): "boards", (0.30, 0.36, 0.40): "boards", (0.40, 0.37, 0.28): "boards", (0.36, 0.38, 0.39): "sheet",
}  # fmt: skip
TEXELS = 30  # per metre


def facade(rng, width, storey, storeys, ground="windows"):
    """A canvas of width × storey · storeys metres. `ground`: what the lowest storey has, of windows, shop, garage, blank."""
    height = storey * storeys
    x, y = np.meshgrid(np.arange(0, width, 1 / TEXELS), np.arange(0, height, 1 / TEXELS))
    wall = list(WALLS)[rng.integers(len(WALLS))]
    kind = WALLS[wall]
    c = Canvas(x.shape, wall, 0, 0.85)
    c.shade(1 + 0.05 * blotches(rng, x.shape, 120) + 0.05 * blotches(rng, x.shape, 6))
    if kind == "brick":
        course = np.floor(y / 0.085)
        c.shade(1 + 0.16 * np.sin(course * 91.7 + np.floor((x + course % 2 * 0.12) / 0.24) * 57.3))
        mortar = np.minimum(-stripes(x + course % 2 * 0.12, 0.24, 0.22), -stripes(y, 0.085, 0.068))
        c.put(coverage(mortar, 0.02) * 0.5, (0.36, 0.34, 0.31), raise_by=-0.2)
    elif kind in ("boards", "sheet"):
        pitch, along = (0.16, y) if kind == "boards" else (0.25, x)
        ramp = along / pitch % 1
        c.shade(0.80 + 0.25 * ramp if kind == "boards" else 1 + 0.12 * np.sin(2 * np.pi * ramp))
        c.height += 0.3 * ramp
    elif kind == "panels":
        for along, pitch in ((x, rng.uniform(1.1, 2.4)), (y, storey / 2)):
            c.put(
                coverage(stripes(along, pitch, 0.03), 0.02) * 0.8, (0.05, 0.05, 0.05), raise_by=-0.3
            )
    bays = max(2, round(width / rng.uniform(2.3, 4.2)))
    bay = width / bays
    half_w, half_h = bay * rng.uniform(0.22, 0.40), storey * rng.uniform(0.22, 0.34)
    white = rng.random() < 0.65
    frame = (0.6, 0.6, 0.58) if white else (0.03, 0.03, 0.03)
    panes, sill, door = rng.integers(1, 4), rng.random() < 0.6, rng.integers(bays)
    for level in range(storeys):
        for column in range(bays):
            cx, cy = bay * (column + 0.5), storey * (level + 0.52)
            w, h, kind = half_w, half_h, "window"
            if level == 0:
                kind = (
                    "door"
                    if column == door and ground == "windows"
                    else {"windows": "window", "shop": "shop", "garage": "garage", "blank": "none"}[
                        ground
                    ]
                )
                if kind == "door":
                    w, h, cy = 0.5, storey * 0.38, storey * 0.38
                elif kind in ("shop", "garage"):
                    w, h, cy = (
                        bay * 0.44,
                        storey * (0.38 if kind == "shop" else 0.40),
                        storey * 0.42,
                    )
            if kind != "none":
                opening(c, rng, x, y, cx, cy, w, h, kind, frame, panes, sill)
    if ground == "shop":  # a sign over the whole front
        sign = sd_box(x, y, width / 2, storey * 0.9, width * 0.46, storey * 0.07)
        colour = rng.uniform(0.02, 0.5, 3)
        c.put(coverage(sign, 0.02), colour, 0, 0.4, 0.3, raise_by=0.4)
        letters = np.sin(x * 9) * np.sin(x * 23 + 1) > 0.1
        text = np.maximum(
            sd_box(x, y, width / 2, storey * 0.9, width * 0.2, storey * 0.035),
            np.where(letters, -1, 1),
        )
        c.put(
            coverage(text, 0.02), (0.75, 0.75, 0.7) if colour.mean() < 0.25 else (0.04, 0.04, 0.05)
        )
    # Weather: dark at the foot, streaks from above, a gutter pipe.
    c.shade(1 - 0.35 * np.exp(-y / 0.5) - 0.10 * smoothstep(height - 0.8, height, y))
    streaks = np.clip(blotches(rng, (1, x.shape[1]), 40), 0, 2) * smoothstep(
        0, 1, (y % storey) / storey
    )
    c.shade(1 - 0.10 * streaks)
    if rng.random() < 0.6:
        c.put(
            coverage(np.abs(x - bay * rng.integers(1, bays)) - 0.05, 0.02),
            (0.25, 0.25, 0.25),
            0,
            0.5,
            raise_by=0.5,
        )
    return c, height


def opening(c, rng, x, y, cx, cy, w, h, kind, frame, panes, sill):
    """One window, door, shop window or garage door, w and h its half sizes."""
    d = sd_box(x, y, cx, cy, w, h)
    c.put(coverage(d - 0.08, 0.02), frame, 0, 0.5, raise_by=0.2)
    if kind in ("garage", "door"):
        colour = (0.55, 0.55, 0.53) if rng.random() < 0.6 else tuple(rng.uniform(0.03, 0.3, 3))
        c.put(coverage(d, 0.02), colour, 0, 0.5, raise_by=-0.6)
        c.put(coverage(np.maximum(stripes(y, 0.5, 0.025), d), 0.02) * 0.7, (0.05, 0.05, 0.05))
    else:
        c.put(coverage(d, 0.02), (0.012, 0.014, 0.016), 0, 0.04, 1.0, raise_by=-0.6)
        blind = rng.random() if kind == "window" else 0.0
        if blind > 0.45:  # curtains or a blind, part of the way down
            low = cy + h - 2 * h * (1.0 if blind > 0.85 else rng.uniform(0.1, 0.7))
            cloth = np.maximum(d + 0.03, low - y)
            c.put(
                coverage(cloth, 0.02) * 0.85,
                rng.uniform(0.15, 0.45) * np.array([1, 0.96, 0.88]),
                0,
                0.3,
                0.6,
            )
        elif rng.random() < 0.3:  # something light inside
            spot = sd_box(x, y, cx + rng.uniform(-w, w) / 2, cy - h * 0.4, w * 0.4, h * 0.5)
            c.put(coverage(np.maximum(spot, d), 0.05) * 0.5, (0.16, 0.14, 0.10))
        bars = w / panes - 0.03 - np.abs((x - cx + w) % (2 * w / panes) - w / panes)
        c.put(coverage(np.maximum(bars, d), 0.02), frame, 0, 0.5, 0)
    c.shade(1 - 0.45 * coverage(np.maximum(d, cy + h - 0.18 - y), 0.06))  # the lintel's shadow
    if sill and kind == "window":
        c.put(
            coverage(sd_box(x, y, cx, cy - h - 0.11, w + 0.14, 0.05), 0.02),
            (0.42, 0.42, 0.40),
            0,
            0.7,
            raise_by=0.3,
        )
        c.shade(1 - 0.25 * coverage(sd_box(x, y, cx, cy - h - 0.45, w, 0.3), 0.15))


def build_house(rng, centre, turn, width, depth, storeys, ground="windows", pitched=None):
    """A building whose front lies at `centre` (x, y), facing in the direction `turn` (radians)."""
    storey = rng.uniform(2.8, 3.5)
    canvas, height = facade(rng, width, storey, storeys, ground)
    corners, faces = box_mesh((depth / 2, width / 2, height / 2))
    at = corners[faces[0]]
    front_or_back = (np.arange(6) < 2)[:, None, None]
    across = np.where(front_or_back, at[..., 1:2] / width, at[..., :1] / depth)
    uv = np.concatenate([across + 0.5, at[..., 2:] / height + 0.5], -1)
    out = np.array([np.cos(turn), np.sin(turn)])
    middle = np.array(centre) - out * depth / 2
    place = {"smooth": False, "rotation": (0, 0, turn)}
    things = [
        add_mesh(
            "house",
            corners,
            faces,
            [painted(canvas, bump=0.05, repeat=True)],
            [uv],
            location=(*middle, height / 2),
            **place,
        )
    ]
    if pitched if pitched is not None else storeys <= 2 and rng.random() < 0.6:
        rise, over = depth * rng.uniform(0.22, 0.38), 0.5
        x, y = depth / 2 + over, width / 2 + over
        ridge = np.array(
            [
                [-x, -y, -0.1],
                [-x, y, -0.1],
                [x, -y, -0.1],
                [x, y, -0.1],
                [0, -y, rise],
                [0, y, rise],
            ]
        )
        u, v = np.meshgrid(np.arange(0, 4, 0.03), np.arange(0, 4, 0.03))
        tiles = Canvas(
            u.shape,
            pick(rng, {(0.13, 0.055, 0.035): 1, (0.05, 0.05, 0.055): 1, (0.11, 0.09, 0.07): 1}),
            0,
            0.7,
        )
        tiles.shade((0.7 + 0.4 * (v / 0.33 % 1)) * (1 + 0.1 * blotches(rng, u.shape, 10)))
        quads = np.array([[2, 3, 5, 4], [1, 0, 4, 5]])
        slope = np.array([[[0, 0], [width / 4, 0], [width / 4, 1.2], [0, 1.2]]] * 2)
        things.append(
            add_mesh(
                "roof",
                ridge,
                [quads, np.array([[0, 2, 4], [3, 1, 5]])],
                [painted(tiles, 0.02, repeat=True)],
                [slope, np.zeros((2, 3, 2))],
                location=(*middle, height),
                **place,
            )
        )
    else:
        vertices, faces = box_mesh((depth / 2 + 0.12, width / 2 + 0.12, 0.25))
        things.append(
            add_mesh(
                "parapet",
                vertices,
                faces,
                [plain(rng.uniform(0.08, 0.5, 1).repeat(3), roughness=0.8)],
                location=(*middle, height),
                **place,
            )
        )
    return things


def build_fence(rng, centre, turn, length):
    """Boards, upright or lying, or wire mesh on posts."""
    height = rng.uniform(1.0, 2.1)
    x, y = np.meshgrid(np.arange(0, 3.6, 0.012), np.arange(0, height, 0.012))
    colour = pick(
        rng,
        {
            (0.20, 0.13, 0.08): 2,
            (0.46, 0.44, 0.41): 1,
            (0.12, 0.10, 0.085): 1,
            (0.27, 0.25, 0.22): 2,
        },
    )
    c, along = Canvas(x.shape, colour, 0, 0.75), y if rng.random() < 0.35 else x
    c.shade(1 + 0.22 * np.sin(np.floor(along / 0.15) * 12.99) + 0.06 * blotches(rng, x.shape, 40))
    c.put(
        coverage(0.07 - np.abs((along / 0.15) % 1 - 0.5) * 0.15),
        (0.008, 0.008, 0.008),
        raise_by=-0.5,
    )
    vertices, faces = box_mesh((0.03, length / 2, height / 2))
    at = vertices[faces[0]]
    uv = np.stack([at[..., 1] / 3.6, at[..., 2] / height + 0.5], -1)
    return add_mesh(
        "fence",
        vertices,
        faces,
        [painted(c, 0.02, repeat=True)],
        [uv],
        smooth=False,
        location=(*centre, height / 2),
        rotation=(0, 0, turn),
    )
