"""Eight things that can be wrong with a wheel: where, how large, and what each changes."""

from dataclasses import dataclass

import numpy as np
from blender import add_mesh, painted
from shapes import Canvas, blotches, coverage, generator, lerp, sd_box, sd_segments, smoothstep

NUTS = 5
NUT_COLOURS = {  # linear light; in the picture they get the grey of the nut that they replace
    "brass": (0.42, 0.25, 0.03),
    "red": (0.50, 0.04, 0.03),
    "blue": (0.03, 0.12, 0.60),
    "green": (0.04, 0.30, 0.08),
}


@dataclass(frozen=True)
class Defect:
    """A defect in the rim's own coordinates: polar, metres and radians."""

    kind: str
    radius: float
    angle: float
    size: float  # 0 tiny to 1 plain
    turn: float  # direction of what is long
    seed: int
    nuts: tuple = ()
    colour: tuple = ()

    @property
    def place(self):
        return self.radius * np.cos(self.angle), self.radius * np.sin(self.angle)


def draw_defect(seed, kind):
    """The defect of a kind that a seed's wheel has."""
    rng = generator(seed, f"defect {kind}")
    spoke = rng.integers(5) * 2 * np.pi / 5
    radius, angle = rng.uniform(0.13, 0.20), spoke + rng.normal(0, 0.05)
    if rng.random() < 0.35:  # on the edge
        radius, angle = rng.uniform(0.240, 0.250), rng.uniform(0, 2 * np.pi)
    if kind == "broken_spoke":
        radius, angle = rng.uniform(0.13, 0.21), spoke
    if kind == "sticker" and rng.random() < 0.5:  # on the tyre
        radius = rng.uniform(0.285, 0.300)
    several = rng.random() < 0.3
    nuts = rng.permutation(NUTS)[: 2 if several else 1].tolist()
    if kind not in ("missing_nut", "nut_colour"):
        nuts = []
    colour = NUT_COLOURS[rng.choice(list(NUT_COLOURS))]
    return Defect(
        kind, radius, angle, rng.uniform(0, 1), rng.uniform(0, np.pi), seed, tuple(nuts), colour
    )


def scratch(defect, canvas, x, z):
    """One to three lines through the paint, bare metal or dirt in them."""
    rng = generator(defect.seed, "scratch")
    length = lerp(0.07, 0.20, defect.size)
    direction = np.array([np.cos(defect.turn), np.sin(defect.turn)])
    side = np.array([-direction[1], direction[0]])
    bare = rng.random() < 0.6
    colour = (0.90, 0.90, 0.92) if bare else (0.015, 0.015, 0.015)
    for _ in range(1 + round(2 * defect.size)):
        middle = np.array(defect.place) + side * rng.normal(0, 0.008)
        points = [
            middle + direction * t * length / 2 + side * rng.normal(0, 0.003)
            for t in (-1, -0.3, 0.4, 1)
        ]
        line = sd_segments(x, z, points)
        canvas.put(
            coverage(line - lerp(0.0024, 0.0036, defect.size), 0.0015),
            colour,
            0,
            0.5,
            raise_by=-0.2,
        )


def rust(defect, canvas, x, z):
    """A blotch of brown scale with a ragged edge."""
    rng = generator(defect.seed, "rust")
    cloud = blotches(rng, x.shape, 60)
    away = np.hypot(x - defect.place[0], z - defect.place[1])
    extent = lerp(0.018, 0.070, defect.size)
    mask = coverage(away - extent * (1 + 0.35 * cloud), 0.004)
    shade = np.clip(1 + 0.35 * blotches(rng, x.shape, 20), 0.3, 1.7)
    canvas.put(mask, (0.17, 0.065, 0.025), 0, 0.9, raise_by=0.3)
    canvas.colour *= (1 - mask + mask * shade)[..., None]


def brightness(defect, canvas, x, z):
    """A patch of the same hue, darker or brighter: as if the paint were thinner or thicker there."""
    rng = generator(defect.seed, "brightness")
    dx, dz = x - defect.place[0], z - defect.place[1]
    cos, sin = np.cos(defect.turn), np.sin(defect.turn)
    extent = lerp(0.020, 0.065, defect.size)
    away = np.hypot((dx * cos + dz * sin) / 1.4, dz * cos - dx * sin)
    factor = rng.uniform(0.28, 0.48) if rng.random() < 0.5 else rng.uniform(1.9, 2.4)
    canvas.colour *= lerp(1.0, factor, coverage(away - extent, 0.006))[..., None]


def leave(defect, canvas, x, z):
    """For the defects that are no matter of paint."""


DEFECTS = {
    "scratch": scratch,
    "dent": leave,
    "broken_spoke": leave,
    "missing_nut": leave,
    "rust": rust,
    "nut_colour": leave,
    "brightness": brightness,
    "sticker": leave,
}


def dent(defect, r, angle, y, rim):
    """The rim's edge, bent inwards: radii and heights of the mesh."""
    around = (angle - defect.angle + np.pi) % (2 * np.pi) - np.pi
    width = lerp(0.10, 0.30, defect.size)
    bump = np.exp(-((around / width) ** 2)) * smoothstep(0.84, 0.98, r / rim)
    depth = lerp(0.010, 0.026, defect.size)
    return r - depth * bump, y - 0.9 * depth * bump


def cut_spoke(defect, r, angle):
    """0 in a ragged gap across one spoke, 1 elsewhere."""
    rng = generator(defect.seed, "break")
    around = (angle - defect.angle + np.pi) % (2 * np.pi) - np.pi
    across = around * r
    knots = np.linspace(-0.08, 0.08, 13)
    ragged = np.interp(across, knots, rng.normal(0, 0.005, 13))
    half = lerp(0.008, 0.030, defect.size)
    gap = np.abs(r - defect.radius - ragged - rng.uniform(-0.4, 0.4) * across) - half
    return np.where(np.abs(across) < 0.075, smoothstep(0.0, 0.004, gap), 1.0)


def stick_on(defect, rim_angle, y):
    """A label of another maker, a few tenths of a millimetre above everything."""
    rng = generator(defect.seed, "sticker")
    half = lerp(0.018, 0.060, defect.size) * np.array([1.0, rng.uniform(0.45, 0.9)])
    u, v = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96))
    ground = [(0.60, 0.60, 0.58), (0.62, 0.45, 0.03), (0.05, 0.20, 0.50), (0.50, 0.05, 0.04)][
        rng.integers(4)
    ]
    ink = (0.02, 0.02, 0.02) if ground[1] > 0.3 else (0.65, 0.65, 0.65)
    canvas = Canvas(u.shape, ground, 0, 0.45)
    for line in np.linspace(-0.6, 0.6, rng.integers(2, 5)):
        end = rng.uniform(0.2, 0.8)
        bar = sd_box(u, v, (end - 0.75) / 2, line, (end + 0.75) / 2, 0.10)
        canvas.put(coverage(bar, 0.02), ink)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    cos, sin = np.cos(defect.turn), np.sin(defect.turn)
    x = defect.place[0] + corners[:, 0] * cos - corners[:, 1] * sin
    z = defect.place[1] + corners[:, 0] * sin + corners[:, 1] * cos
    vertices = np.stack([x, np.full(4, y), z], -1)
    uv = [np.array([[[0, 0], [0, 1], [1, 1], [1, 0]]])]
    face = [np.array([[0, 3, 2, 1]])]
    add_mesh(
        "sticker",
        vertices,
        face,
        [painted(canvas)],
        uv=uv,
        smooth=False,
        rotation=(0, rim_angle, 0),
    )
