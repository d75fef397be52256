"""The geometry of the body: two shells, a lower body and a greenhouse, each a ring in plan view times a profile from the side.

Coordinates in metres: s runs from the nose (0) to the tail (length), y to the left, z up; the world's x is length / 2 - s.
Surfaces are arrays (rows, columns, 3) of (s, y, z) for the left half, y ≥ 0: columns go round from nose to tail, rows up.
"""

from dataclasses import dataclass, replace

import numpy as np
from shapes import bezier, generator, grid_faces, lerp, pick, smooth_curve


@dataclass(frozen=True)
class Design:
    """A body type in metres: overall size, wheels, heights of the side view, and where the glass begins and ends along s."""

    length: float
    width: float
    height: float
    wheelbase: float
    overhang: float  # in front of the front axle
    clearance: float
    wheel: float  # outer radius of the tyre
    belt: float  # height of the body under the side windows, like the next three
    nose: float
    cowl: float  # where bonnet and windscreen meet
    deck: float
    screen: float  # s of the windscreen's foot, then of its top, of the rear screen's top, and of its foot
    roof_front: float
    roof_rear: float
    tail: float
    tumblehome: float  # how much narrower the roof is than the belt, each side
    body_type: str = ""
    doors: int = 4
    cargo: bool = False  # a van without rear side windows
    paint: str = ""
    colour: tuple = (0.5, 0.5, 0.5)
    metallic: float = 0.0
    # the plan view
    front_exponent: float = 4.5
    rear_exponent: float = 6.0
    bow: float = 0.08
    # the section
    edge: float = 0.07  # radius of the bonnet's and the shoulder's edge
    crease: float = 0.64
    crease_rise: float = 0.05
    hollow: float = 0.012
    flare: float = 0.014
    snout: float = 0.03
    chin: float = 0.1

    @property
    def axles(self):
        return self.overhang, self.overhang + self.wheelbase

    @property
    def arch(self):
        """Radius of the wheel arches."""
        return self.wheel + (0.065 if self.tall else 0.038)

    @property
    def tall(self):
        return self.body_type in ("suv", "pickup")

    @property
    def boxy(self):
        return self.body_type in ("suv", "wagon", "van", "hatchback", "pickup")


DESIGNS = {
    "sedan": Design(
        4.78,
        1.83,
        1.47,
        2.80,
        0.92,
        0.16,
        0.336,
        0.93,
        0.74,
        0.97,
        1.03,
        1.36,
        2.16,
        3.30,
        4.22,
        0.16,
    ),
    "hatchback": Design(
        4.22,
        1.79,
        1.49,
        2.62,
        0.85,
        0.16,
        0.325,
        0.97,
        0.77,
        1.02,
        1.04,
        1.12,
        1.94,
        3.62,
        4.08,
        0.16,
    ),
    "wagon": Design(
        4.76,
        1.83,
        1.48,
        2.80,
        0.92,
        0.16,
        0.335,
        0.97,
        0.76,
        1.00,
        1.03,
        1.36,
        2.18,
        4.18,
        4.64,
        0.16,
    ),
    "suv": Design(
        4.66,
        1.90,
        1.72,
        2.74,
        0.90,
        0.23,
        0.375,
        1.13,
        0.96,
        1.15,
        1.18,
        1.34,
        2.02,
        4.12,
        4.54,
        0.13,
    ),
    "pickup": Design(
        5.50,
        1.97,
        1.86,
        3.40,
        0.95,
        0.28,
        0.400,
        1.21,
        1.06,
        1.22,
        1.21,
        1.50,
        2.12,
        3.42,
        3.64,
        0.12,
    ),
    "coupe": Design(
        4.46,
        1.86,
        1.34,
        2.66,
        0.93,
        0.13,
        0.340,
        0.87,
        0.67,
        0.90,
        0.95,
        1.48,
        2.26,
        2.92,
        4.02,
        0.19,
    ),
    "van": Design(
        4.95,
        1.95,
        1.84,
        3.00,
        0.93,
        0.18,
        0.345,
        1.13,
        0.86,
        1.16,
        1.16,
        0.86,
        1.78,
        4.62,
        4.87,
        0.11,
    ),
}
BODY_TYPES = {
    "sedan": 24,
    "hatchback": 16,
    "wagon": 11,
    "suv": 19,
    "pickup": 10,
    "coupe": 11,
    "van": 10,
}
PAINTS = {  # share in per cent, colour in linear light, metallic
    "white": (20, (0.70, 0.70, 0.69), 0.0),
    "black": (18, (0.006, 0.006, 0.007), 0.0),
    "grey": (15, (0.10, 0.105, 0.11), 0.75),
    "silver": (14, (0.42, 0.43, 0.44), 0.85),
    "navy": (7, (0.010, 0.020, 0.070), 0.4),
    "blue": (5, (0.02, 0.075, 0.26), 0.3),
    "red": (8, (0.32, 0.008, 0.012), 0.15),
    "maroon": (3, (0.10, 0.006, 0.011), 0.5),
    "green": (2, (0.015, 0.05, 0.03), 0.4),
    "beige": (4, (0.24, 0.19, 0.12), 0.7),
    "brown": (1.5, (0.07, 0.04, 0.022), 0.6),
    "orange": (1.5, (0.60, 0.17, 0.01), 0.1),
    "yellow": (1.5, (0.66, 0.45, 0.015), 0.0),
}


def draw_paint(rng, name=None):
    """A paint's name and its colour in linear light, a little different from car to car.

    Names come with the measured shares of paints. With `name` the colour is one of that paint; as many random numbers are
    drawn, so that all else of a seed stays as it is.
    """
    drawn = pick(rng, {key: value[0] for key, value in PAINTS.items()})
    name = name or drawn
    colour = np.array(PAINTS[name][1]) * rng.uniform(0.85, 1.12) + rng.normal(0, 0.003, 3)
    return name, tuple(np.clip(colour, 0.003, 0.8))


def draw_design(seed, body_type=None, paint=None):
    """A car as a Design: a body type with its measures varied, in a paint. Both are drawn unless they are given."""
    rng = generator(seed, "design")
    drawn = pick(rng, BODY_TYPES)
    body_type = body_type or drawn
    base = DESIGNS[body_type]
    along, up, slim = rng.normal(1, 0.022), rng.normal(1, 0.016), rng.normal(1, 0.012)
    panel_van = body_type == "van" and rng.random() < 0.45
    if panel_van:  # the taller delivery van
        up *= rng.uniform(1.04, 1.10)
    changes = {
        key: getattr(base, key) * along
        for key in ("length", "wheelbase", "overhang", "screen", "roof_front", "roof_rear", "tail")
    }
    changes |= {key: getattr(base, key) * up for key in ("height", "belt", "cowl", "deck")}
    for key in ("screen", "roof_front", "roof_rear"):
        changes[key] += rng.normal(0, 0.04)
    if body_type in ("sedan", "coupe"):
        changes["tail"] += rng.uniform(-0.10, 0.10)
    if body_type == "hatchback" and rng.random() < 0.3:
        changes["roof_rear"] -= 0.2
    three_door = {"coupe": 1.0, "hatchback": 0.25, "pickup": 0.4}.get(body_type, 0)
    wanted = paint
    paint, colour = draw_paint(rng, wanted)
    if panel_van and rng.random() < 0.6 and wanted is None:
        paint, colour = "white", (0.68, 0.68, 0.67)
    return replace(
        base,
        **changes,
        body_type=body_type,
        width=base.width * slim,
        nose=base.nose * up * rng.uniform(0.97, 1.06),
        wheel=base.wheel * rng.normal(1, 0.018),
        clearance=base.clearance * rng.uniform(0.9, 1.1),
        doors=2 if rng.random() < three_door or panel_van else 4,
        cargo=panel_van and rng.random() < 0.7,
        paint=paint,
        colour=colour,
        metallic=PAINTS[paint][2],
        front_exponent=rng.uniform(3.6, 5.0)
        + (1.6 if body_type in ("pickup", "suv", "van") else 0),
        rear_exponent=rng.uniform(5.0, 7.0)
        + {"sedan": -1.2, "coupe": -1.2, "pickup": 6.0}.get(body_type, 0.0),
        bow=rng.uniform(0.03, 0.11),
        edge=rng.uniform(0.045, 0.08),
        crease=rng.uniform(0.58, 0.74),
        crease_rise=rng.uniform(0.0, 0.12),
        hollow=rng.uniform(0.004, 0.026),
        flare=rng.uniform(0.008, 0.022) + (0.012 if body_type in ("suv", "pickup", "coupe") else 0),
        snout=rng.uniform(0.0, 0.035),
        chin=rng.uniform(0.05, 0.13),
    )


def plan_normals(s, y):
    """Outward normals of a plan-view ring, exactly along s where it crosses the middle."""
    ds, dy = np.gradient(s), np.gradient(y)
    length = np.hypot(ds, dy) + 1e-9
    ns, ny = -dy / length, ds / length
    ns[0], ny[0], ns[-1], ny[-1] = -1, 0, 1, 0
    return ns, ny


class LowerBody:
    """Everything below the windows, with bonnet and boot lid."""

    def __init__(self, design):
        self.design = d = design
        self.half = d.width / 2
        middle, drop = (d.screen + d.tail) / 2, 0.07 if d.body_type == "coupe" else 0.045
        lip = 0.015 if d.body_type in ("sedan", "coupe") else -0.02
        van = d.body_type == "van"
        self.top = smooth_curve(
            [
                (0, d.nose - drop),
                (0.16, d.nose),
                (d.overhang if not van else 0.55, lerp(d.nose, d.cowl, 0.66)),
                (d.screen + 0.1, d.cowl - 0.02),
                (middle, d.belt + 0.02),
                (d.tail, d.deck),
                (d.length - 0.10, d.deck + lip / 2),
                (d.length, d.deck - 0.02),
            ],
            0.14,
        )
        bonnet = 0.05 if d.body_type == "coupe" else 0.07
        self.crown = smooth_curve(
            [(0, 0.05), (0.6, bonnet), (d.screen, bonnet), (d.tail, 0.035), (d.length, 0.03)], 0.15
        )
        # Inward offsets (metres) against relative height, for side, front and rear.
        c = d.crease
        self.side = smooth_curve(
            [
                (0, 0.10),
                (0.06, 0.06),
                (0.13, 0.018),
                (0.22, 0.012 + d.hollow),
                (0.40, 0.006 + d.hollow),
                (c - 0.06, 0.005),
                (c, 0),
                (c + 0.05, 0.012),
                (0.9, 0.034),
                (1, 0.055),
            ],
            0.02,
        )
        self.front = smooth_curve(
            [
                (0, 0.12),
                (0.07, 0.055),
                (0.16, 0.012),
                (0.38, 0),
                (0.47, 0.010),
                (0.54, 0.018 + d.snout),
                (0.8, 0.035 + d.snout),
                (1, d.chin + d.snout),
            ],
            0.03,
        )
        self.rear = smooth_curve(
            [
                (0, 0.12),
                (0.1, 0.04),
                (0.2, 0),
                (0.45, 0),
                (0.52, 0.035),
                (0.6, 0.045),
                (0.88, 0.03),
                (1, 0.045),
            ],
            0.025,
        )

    def cap(self, s, y):
        """Height of bonnet, boot lid and, between them, the floor under the windows."""
        return self.top(s) + self.crown(s) * np.clip(1 - (y / self.half) ** 2, 0, 1)

    @property
    def bumper(self):
        """Height of the rear bumper's upper edge."""
        return lerp(self.design.clearance + 0.08, float(self.cap(self.design.length, 0)), 0.47)

    def ring(self, n):
        """The outline in plan view, n points even in arc length: s, y, arc length."""
        d, t = self.design, np.linspace(0, 1, 3000)
        angle = np.pi / 2 * np.where(t < 0.5, 4 * t**3, 1 - 4 * (1 - t) ** 3)
        cos, sin, a = np.cos(angle).clip(0), np.sin(angle).clip(0), d.length / 2
        s = np.concatenate(
            [
                a - a * cos ** (2 / d.front_exponent),
                (a + a * cos ** (2 / d.rear_exponent))[::-1][1:],
            ]
        )
        y = self.half * np.concatenate(
            [sin ** (2 / d.front_exponent), (sin ** (2 / d.rear_exponent))[::-1][1:]]
        )
        s = s + d.bow * (y / self.half) ** 2 * np.clip(1 - s / a, 0, 1) ** 3
        arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(s), np.diff(y)))])
        even = np.linspace(0, arc[-1], n)
        s, y = np.interp(even, arc, s), np.interp(even, arc, y)
        y[0] = y[-1] = 0
        return s, y, even

    def side_at(self, s, z):
        """How far from the middle the side lies at (s, z): where mirrors and handles are fixed."""
        ring_s, ring_y, _ = self.ring(600)
        d = self.design
        h = (z - d.clearance) / (float(self.top(s)) - d.edge - d.clearance)
        return float(
            np.interp(s, ring_s, ring_y) - self.side(h - d.crease_rise * (s / d.length - 0.5))
        )

    def surface(self, columns, rows, wall=0.86):
        """The wall, and from the share `wall` of the rows on the round edge to the cap."""
        d = self.design
        s, y, self.arc = self.ring(columns)
        self.ns, self.ny = ns, ny = plan_normals(s, y)
        front, rear, side = np.clip(-ns, 0, 1) ** 2, np.clip(ns, 0, 1) ** 2, ny**2
        v = np.linspace(0, 1, rows)[:, None]
        self.edge_z = top = self.cap(s, y)
        self.sill_z = sill = d.clearance + 0.02 * front + 0.08 * rear + 0 * s
        h = np.clip(v / wall, 0, 1)
        z = sill + h * (top - d.edge - sill)
        inward = (
            front * self.front(h)
            + rear * self.rear(h)
            + side * self.side(h - d.crease_rise * (s / d.length - 0.5))
        )
        bulge = sum(
            np.exp(-(((np.hypot(s - x, z - d.wheel) - d.arch) / 0.07) ** 2)) for x in d.axles
        )
        inward = inward - d.flare * bulge * side
        wall_s, wall_y = s - ns * inward, y - ny * inward
        # The edge: a quadratic Bézier from the wall's last row to the cap.
        q, last = np.clip((v - wall) / (1 - wall), 0, 1), inward[-1:]
        bend_s, bend_y = s - ns * (last + 0.1 * d.edge), y - ny * (last + 0.1 * d.edge)
        end_s, end_y = s - ns * (last + 1.5 * d.edge), np.maximum(y - ny * (last + 1.5 * d.edge), 0)
        end_z = self.cap(end_s, end_y)
        bend_z = end_z - 0.2 * (end_z - top) - 0.002
        edge = v > wall
        points = [(wall_s, bend_s, end_s), (wall_y, bend_y, end_y), (z, bend_z, end_z)]
        surface = np.stack([np.where(edge, bezier(w[-1:], b, e, q), w) for w, b, e in points], -1)
        return on_axis(surface)


class Greenhouse:
    """Windows, pillars and roof; it sinks 4 cm into the lower body."""

    def __init__(self, design, body, seed):
        self.design, self.body = design, body
        rng, d = generator(seed, "greenhouse"), design
        self.base = body.half - 0.055 - d.edge * 0.5
        self.roof = self.base - d.tumblehome - rng.uniform(-0.01, 0.02)
        self.exponents = rng.uniform(3.0, 3.8), rng.uniform(4.0, 5.5) + d.boxy
        self.arch = {"coupe": 0.05, "pickup": 0.03, "sedan": 0.065}.get(d.body_type, 0.05)
        self.peak = lerp(d.roof_front, d.roof_rear, 0.36)
        self.reach = max(d.roof_rear - self.peak, self.peak - d.roof_front)

    def cap(self, s, y):
        return (
            self.design.height
            - self.arch * ((s - self.peak) / self.reach) ** 2
            - 0.035 * (y / self.roof) ** 2
        )

    def surface(self, columns, rows, wall=0.8, rail=0.93):
        """The walls up to the share `rail` of their height, and from the share `wall` of the rows on the edge of the roof."""
        d, t = self.design, np.linspace(0, 1, 3000)
        angle = np.pi * np.where(t < 0.5, 2 * t * t, 1 - 2 * (1 - t) ** 2)

        def outline(angle):
            cos, sin = np.cos(angle), np.sin(angle).clip(0)
            exponent = np.where(cos > 0, *self.exponents)
            return -np.sign(cos) * np.abs(cos) ** (2 / exponent), sin ** (2 / exponent)

        x, y = outline(angle)
        steps = np.hypot(
            np.diff(x) * (d.tail - d.screen) * 0.4, np.diff(y) * (self.base + self.roof) / 2
        )
        arc = np.concatenate([[0], np.cumsum(steps)])
        x, sin = outline(np.interp(np.linspace(0, arc[-1], columns), arc, angle))
        sin[0] = sin[-1] = 0

        def at(g):
            """The ring at relative height g: 0 the belt, 1 the roof."""
            belly = 4 * g * (1 - g)
            front = lerp(d.screen, d.roof_front, g) - 0.05 * belly * (d.roof_front - d.screen)
            rear = lerp(d.tail, d.roof_rear, g) + belly * (0.03 + 0.06 * (d.tail - d.roof_rear))
            s = (front + rear) / 2 + (rear - front) / 2 * x
            y = (lerp(self.base, self.roof, g) + 0.02 * belly) * sin
            foot = (
                self.body.cap(
                    (d.screen + d.tail) / 2 + (d.tail - d.screen) / 2 * x, self.base * sin
                )
                - 0.04
            )
            top = self.cap(
                (d.roof_front + d.roof_rear) / 2 + (d.roof_rear - d.roof_front) / 2 * x,
                self.roof * sin,
            )
            return s, y, lerp(foot, top, g)

        v = np.linspace(0, 1, rows)[:, None]
        g = np.clip(v / wall, 0, 1) * rail
        walls, bend = at(g), at(1.0)
        self.relative_height = g + 0 * walls[0]
        self.ns, self.ny = plan_normals(bend[0], bend[1])
        end_s, end_y = bend[0] - 0.09 * self.ns, np.maximum(bend[1] - 0.09 * self.ny, 0)
        ends = end_s, end_y, self.cap(end_s, end_y)
        q = np.clip((v - wall) / (1 - wall), 0, 1)
        surface = np.stack(
            [
                np.where(v > wall, bezier(w[-1:], b, e, q), w)
                for w, b, e in zip(walls, bend, ends, strict=True)
            ],
            -1,
        )
        return on_axis(surface)

    def footprint(self, s, y, grow=0.0):
        """Less than 0 inside the greenhouse's foot in plan view."""
        d = self.design
        x = (s - (d.screen + d.tail) / 2) / ((d.tail - d.screen) / 2 + grow)
        exponent = np.where(x < 0, *self.exponents)
        return (np.abs(x) ** exponent + np.abs(y / (self.base + grow)) ** exponent) ** (
            1 / exponent
        ) - 1


def on_axis(surface):
    surface[..., 1] = np.maximum(surface[..., 1], 0)
    surface[:, [0, -1], 1] = 0
    return surface


def shell(half_surface, cap, length, half_width, cross=24):
    """Mirror a half surface, close it with a cap above and a floor below: vertices in world coordinates, faces, and texture
    coordinates in which the lower half of the image is the wall and the upper half the cap seen from above."""
    rows, n, _ = half_surface.shape
    mirrored = half_surface[:, 1:-1][:, ::-1] * (1, -1, 1)
    loop = np.concatenate([half_surface, mirrored], 1)
    around = loop.shape[1]
    along = np.linspace(0, 1, n)
    along = np.concatenate([along, along[1:-1][::-1]])
    wall_uv = np.stack(
        np.broadcast_arrays(along[None], np.linspace(0, 0.498, rows)[:, None]), -1
    ).reshape(-1, 2)
    wall = grid_faces(rows, around, wrap=True)

    # The cap's inner vertices, in rows from the left edge to the right one.
    i = np.arange(1, n - 1)
    y = half_surface[-1, i, 1][:, None] * np.linspace(1, -1, cross + 1)[1:-1]
    s = np.broadcast_to(half_surface[-1, i, 0][:, None], y.shape)
    vertices = np.concatenate([loop.reshape(-1, 3), np.stack([s, y, cap(s, y)], -1).reshape(-1, 3)])
    top = (rows - 1) * around
    inner = rows * around + np.arange(y.size).reshape(y.shape)
    lines = np.concatenate([(top + i)[:, None], inner, (top + around - i)[:, None]], 1)
    lid = np.stack([lines[:-1, :-1], lines[1:, :-1], lines[1:, 1:], lines[:-1, 1:]], -1).reshape(
        -1, 4
    )
    tips = np.concatenate(
        [
            np.stack([np.full(cross, top), lines[0, :-1], lines[0, 1:]], -1),
            np.stack([np.full(cross, top + n - 1), lines[-1, 1:], lines[-1, :-1]], -1),
        ]
    )
    left, right = i, around - i
    floor = np.stack([left[:-1], right[:-1], right[1:], left[1:]], -1)
    floor_tips = np.array([[0, right[0], left[0]], [n - 1, left[-1], right[-1]]])

    def cap_uv(index):
        return np.stack(
            [vertices[index, 0] / length, 0.5 + 0.499 * np.abs(vertices[index, 1]) / half_width], -1
        )

    faces = [wall, lid, tips, floor, floor_tips]
    uv = [
        wall_uv[wall],
        cap_uv(lid),
        cap_uv(tips),
        np.zeros((*floor.shape, 2)),
        np.zeros((*floor_tips.shape, 2)),
    ]
    return world(vertices, length), faces, uv


def world(points, length):
    """From (s, y, z) to (x, y, z). Mirrors, so faces that were inside out in s are right in x."""
    points = np.array(points, float)
    points[..., 0] = length / 2 - points[..., 0]
    return points
