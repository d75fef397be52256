"""What is painted rather than modelled: panel gaps, lights, grille, windows, pillars, number plates, dirt.

The surfaces of `body` are evaluated once more, a point for each texel, so that everything can be drawn with signed distances in
metres, where it really lies on the car.
"""

from dataclasses import dataclass

import numpy as np
from shapes import (
    Canvas,
    blotches,
    coverage,
    generator,
    lerp,
    pick,
    sd_box,
    sd_polygon,
    sd_segments,
    smooth_max,
    smoothstep,
    stripes,
)

BLACK_PLASTIC = {"colour": (0.012, 0.012, 0.013), "metallic": 0, "roughness": 0.5, "coat": 0}
BLACK_GLOSS = {"colour": (0.006, 0.006, 0.006), "metallic": 0, "roughness": 0.12, "coat": 0.5}
CHROME = {"colour": (0.6, 0.61, 0.62), "metallic": 1, "roughness": 0.14, "coat": 0}
TAIL_LAMP_HEIGHTS = {
    "sedan": 0.16,
    "coupe": 0.13,
    "hatchback": 0.22,
    "wagon": 0.22,
    "suv": 0.26,
    "van": 0.36,
    "pickup": 0.34,
}
RED_LAMP = {"colour": (0.36, 0.004, 0.006), "metallic": 0, "roughness": 0.12, "coat": 1}


@dataclass(frozen=True)
class Layout:
    """Where things are along the side (s in metres) and at the ends (heights)."""

    front_gap: float  # front edge of the front door
    pillar: float  # between the doors
    rear_gap: float  # rear edge of the last door
    sill: float
    front_plate: float
    rear_plate: float


def draw_layout(seed, design, body):
    rng, d = generator(seed, "layout"), design
    front, rear = d.axles
    share = {
        "pickup": 0.5 if d.doors == 4 else 0.85,
        "van": 0.3,
        "suv": 0.34,
        "wagon": 0.34,
        "coupe": 0.72,
    }
    pillar = lerp(d.roof_front, d.roof_rear, share.get(d.body_type, 0.42 if d.doors == 4 else 0.62))
    if d.body_type == "coupe":
        pillar = lerp(d.roof_front, d.tail, 0.5)
    front_gap = front + d.arch + rng.uniform(0.10, 0.18)
    if d.body_type == "van":
        pillar = front_gap + rng.uniform(0.95, 1.05)
    rear_gap = (
        d.tail + 0.03
        if d.body_type == "pickup"
        else rear - d.arch * 0.35
        if d.doors == 4 or d.body_type == "van"
        else pillar
    )
    return Layout(
        front_gap,
        pillar,
        rear_gap,
        sill=d.clearance + 0.10,
        front_plate=d.clearance + rng.uniform(0.24, 0.31),
        rear_plate=body.bumper + (0.13 if rng.random() < 0.75 else -0.14),
    )


def where(region, distance):
    """A distance that counts in a region only."""
    return np.where(region, distance, 1.0)


class BodyPaint:
    """Paints the lower body. In the texture's lower half the wall, in its upper half bonnet and deck from above."""

    def __init__(self, seed, design, body, greenhouse, layout, shape=(256, 1536)):
        self.rng, self.design, self.body, self.layout = (
            generator(seed, "body paint"),
            design,
            body,
            layout,
        )
        rows, columns = shape
        surface = body.surface(columns, rows)
        self.s, self.y, self.z = np.moveaxis(surface, -1, 0)
        self.from_nose = np.broadcast_to(
            body.arc, shape
        )  # arc length from the middle of the nose, and of the tail
        self.from_tail = body.arc[-1] - self.from_nose
        self.below = self.z - np.broadcast_to(
            body.edge_z - design.edge * 0.55, shape
        )  # height relative to the upper edge
        self.front, self.rear, self.side = (
            np.broadcast_to(m, shape) for m in (body.ns < -0.25, body.ns > 0.25, body.ny > 0.8)
        )
        self.from_wheel = np.min(
            [np.hypot(self.s - x, self.z - design.wheel) for x in design.axles], 0
        )
        self.canvas = Canvas(shape, design.colour, design.metallic, 0.33, 1.0)
        self.trim()
        self.door_gaps()
        self.nose()
        self.headlights()
        self.tail()
        self.dirt(self.canvas, shape)
        self.canvas.above(self.top(shape, greenhouse))

    def trim(self):
        """Black plastic along the bottom, round the arches, as a strip along the doors."""
        rng, d, c = self.rng, self.design, self.canvas
        if rng.random() < 0.8 or d.tall:
            c.put(coverage(self.z - d.clearance - 0.055, 0.006), **BLACK_PLASTIC)
        if rng.random() < {"suv": 0.6, "pickup": 0.3, "wagon": 0.25, "van": 0.4}.get(
            d.body_type, 0
        ):
            c.put(
                coverage(np.minimum(self.z - d.clearance - 0.15, self.from_wheel - d.arch - 0.06)),
                raise_by=0.3,
                **BLACK_PLASTIC,
            )
        if rng.random() < (0.6 if d.cargo else 0.25):
            strip = where(
                self.side & (self.from_wheel > d.arch + 0.05),
                np.abs(self.z - d.clearance - 0.36) - 0.028,
            )
            strip = np.where((self.s > d.axles[0]) & (self.s < d.axles[1]), strip, 1.0)
            c.put(
                coverage(strip), raise_by=0.5, **(BLACK_PLASTIC if rng.random() < 0.7 else CHROME)
            )
        marker = sd_box(
            self.s, self.z, d.axles[0] - d.arch - 0.12, d.wheel + 0.22, 0.05, 0.014, 0.01
        )
        c.put(coverage(where(self.side, marker)), colour=(0.6, 0.14, 0.01), roughness=0.2, coat=1)

    def door_gaps(self):
        rng, d, c, at = self.rng, self.design, self.canvas, self.layout
        s, z, rear = self.s, self.z, d.axles[1]
        doors = (z > at.sill) & self.side
        lean = rng.uniform(-0.10, 0.05)
        c.seam(where(doors, np.abs(s - at.front_gap - lean * (z - 0.6))), 0.007)
        c.seam(where(doors, np.abs(s - at.pillar - 0.05 * (z - 0.6))), 0.007)
        if d.body_type == "pickup":
            c.seam(where(self.side, np.abs(s - at.rear_gap)), 0.009)
        elif at.rear_gap > at.pillar:  # the rear door follows the arch
            over_arch = z > d.wheel + d.arch * 0.7
            lean = 0.0 if d.body_type == "van" else 0.12
            gap = np.where(
                over_arch,
                np.abs(s - at.rear_gap - lean * (z - d.wheel - d.arch)),
                np.abs(self.from_wheel - d.arch - 0.06),
            )
            c.seam(where(doors & (s < rear) & (over_arch | (s < at.rear_gap + 0.03)), gap), 0.007)
        if d.body_type == "van" and at.rear_gap > at.pillar:  # the sliding door's rail
            rail = sd_box(
                s,
                z,
                (at.rear_gap + d.length) / 2 - 0.1,
                d.belt - 0.12,
                (d.length - at.rear_gap) / 2 - 0.2,
                0.012,
            )
            c.put(coverage(where(self.side, rail)), raise_by=-0.4, **BLACK_PLASTIC)
        last = min(max(at.rear_gap, at.pillar), rear - d.arch - 0.05)
        c.seam(where(self.side & (s > at.front_gap) & (s < last), np.abs(z - at.sill)))
        c.seam(
            where(
                self.side,
                np.abs(np.hypot(s - rear - 0.25, z - self.body.edge_z.mean() + 0.17) - 0.075),
            ),
            0.003,
        )

    def nose(self):
        """Grille, air intakes, fog lamps, the gap under the bonnet."""
        rng, d, c, u, below = self.rng, self.design, self.canvas, self.from_nose, self.below
        half = self.body.half
        self.lamp_inside = inside = rng.uniform(0.50, 0.60) * half
        scale = 1.3 if d.tall else 1.0
        kind = pick(
            rng, {"wide": 40, "tall": 30, "slim": 22, "none": 0 if d.body_type == "van" else 6}
        )
        width, bottom = {
            "wide": (inside - 0.04, -0.21),
            "tall": (inside * 0.82, -0.34),
            "slim": (inside - 0.03, -0.12),
            "none": (0.2, -0.05),
        }[kind]
        bottom, taper = bottom * scale, rng.uniform(-0.08, 0.10)
        grille = (
            sd_polygon(
                u,
                below,
                [
                    (-1, -0.03),
                    (width, -0.03),
                    (width + taper * 0.3, bottom / 2),
                    (width - taper, bottom),
                    (-1, bottom),
                ],
            )
            - 0.012
        )
        grille = where(self.front, grille)
        c.seam(where(self.front & (u < inside), np.abs(below + 0.012)), 0.006)
        if kind != "none":
            if rng.random() < 0.6:
                c.put(
                    coverage(np.abs(grille) - 0.011),
                    raise_by=0.6,
                    **(CHROME if rng.random() < 0.7 else BLACK_GLOSS),
                )
            c.put(coverage(grille), raise_by=-0.5, **BLACK_GLOSS)
            period = rng.uniform(0.03, 0.06)
            bars = {
                "bars": stripes(below, period, period * 0.34),
                "ribs": stripes(u, period, period * 0.34),
                "mesh": np.minimum(
                    stripes(below + u, period, period * 0.2),
                    stripes(below - u, period, period * 0.2),
                ),
            }[pick(rng, {"bars": 1, "ribs": 1, "mesh": 1})]
            bright = (
                {"colour": (0.3, 0.3, 0.31), "metallic": 1, "roughness": 0.3}
                if rng.random() < 0.45
                else {"colour": (0.03, 0.03, 0.03), "roughness": 0.3}
            )
            c.put(coverage(np.maximum(bars, grille + 0.008)), raise_by=0.4, **bright)
            c.put(
                coverage(where(self.front, np.hypot(u, (below - bottom * 0.4) * 1.2) - 0.05)),
                raise_by=0.5,
                **CHROME,
            )
            if rng.random() < 0.3:
                c.put(
                    coverage(
                        np.maximum(
                            where(self.front, np.abs(below - bottom * 0.4) - 0.012), u - width
                        )
                    ),
                    raise_by=0.5,
                    **CHROME,
                )
        low, tall = (
            d.clearance + rng.uniform(0.12, 0.17),
            rng.uniform(0.035, 0.075) * (1.3 if d.body_type == "coupe" else 1),
        )
        wide = rng.uniform(0.5, 0.75) * half
        mouth = (
            sd_polygon(
                u,
                self.z,
                [
                    (-1, low + tall),
                    (wide, low + tall),
                    (wide + rng.uniform(-0.1, 0.1), low - tall),
                    (-1, low - tall),
                ],
            )
            - 0.015
        )
        mouth = where(self.front, mouth)
        c.put(coverage(mouth), raise_by=-0.6, **BLACK_PLASTIC)
        c.put(
            coverage(np.maximum(stripes(self.z, 0.04, 0.014), mouth + 0.01)),
            (0.03, 0.03, 0.03),
            0,
            0.4,
            0,
            raise_by=0.3,
        )
        if rng.random() < 0.65:
            out, up = rng.uniform(-0.10, 0.03), rng.uniform(-0.02, 0.06)
            pocket = [
                (wide + 0.12, low + tall + 0.01),
                (half + 0.02 + out, low + tall + up),
                (half + 0.04 + out * 1.4, low - tall + 0.01),
                (wide + 0.15, low - tall),
            ]
            c.put(
                coverage(where(self.front, sd_polygon(u, self.z, pocket) - 0.01)),
                raise_by=-0.4,
                **BLACK_PLASTIC,
            )
            lamp = np.hypot(u - (wide + half + 0.14) / 2, self.z - low - 0.015) - 0.036
            c.put(coverage(where(self.front, lamp)), (0.7, 0.7, 0.7), 0.8, 0.12, 1, raise_by=0.3)

    def headlights(self):
        rng, d, c, u, below, inside = (
            self.rng,
            self.design,
            self.canvas,
            self.from_nose,
            self.below,
            self.lamp_inside,
        )
        half, deep = (
            self.body.half,
            rng.uniform(0.08, 0.12) + (0.05 if d.tall or d.body_type == "van" else 0),
        )
        outer, reach = deep + rng.uniform(0, 0.06), half + rng.uniform(0.14, 0.36)
        kind = pick(rng, {"swept": 56, "square": 18, "slim": 20, "round": 6})
        if kind == "round":
            lamp = np.hypot(u - half * 0.78, below + 0.13) - rng.uniform(0.085, 0.11)
        else:
            swept = [
                (inside, -0.04),
                (half * 0.85, -0.015),
                (reach, -0.01),
                (reach - 0.08, -0.065),
                (half * 0.95, -outer),
                (inside + 0.04, -deep),
            ]
            square = [
                (inside, -0.025),
                (half + 0.05, -0.015),
                (half + 0.10, -outer),
                (inside - 0.02, -outer + 0.01),
            ]
            slim = [
                (inside - 0.05, -0.05),
                (half * 0.8, -0.02),
                (reach, -0.02),
                (reach - 0.1, -0.08),
                (inside, -0.11),
            ]
            lamp = (
                sd_polygon(u, below, {"swept": swept, "square": square, "slim": slim}[kind]) - 0.012
            )
        lamp = where(u < half + 0.5, lamp)
        c.put(coverage(lamp - 0.007), (0.01, 0.01, 0.01), 0, 0.4, 0, raise_by=-0.2)
        c.put(
            coverage(lamp),
            (0.26, 0.27, 0.28) if rng.random() < 0.55 else (0.045, 0.045, 0.05),
            0.7,
            0.25,
            1,
            raise_by=0.3,
        )
        for centre, radius in (
            (inside * 0.5 + half * 0.5 + 0.02, 0.05),
            (inside * 0.5 + half * 0.5 + 0.20, 0.042),
        ):
            bulb = np.hypot(u - centre, below + deep * 0.62) - radius
            c.put(coverage(np.maximum(bulb, lamp + 0.008)), (0.75, 0.76, 0.78), 1, 0.1, 1)
            c.put(
                coverage(np.maximum(np.abs(bulb + 0.004) - 0.005, lamp + 0.008)),
                (0.02, 0.02, 0.02),
                0,
                0.2,
                1,
            )
            c.put(coverage(np.maximum(bulb + radius * 0.55, lamp)), (0.08, 0.09, 0.11), 0, 0.03, 1)
        if rng.random() < 0.45:  # daytime running light
            c.put(
                coverage(np.maximum(np.abs(lamp + 0.016) - 0.006, -below - deep)),
                (0.9, 0.9, 0.9),
                0,
                0.2,
                1,
            )
        amber = (0.5, 0.13, 0.01) if rng.random() < 0.45 else (0.42, 0.42, 0.44)
        c.put(coverage(np.maximum(lamp + 0.01, half + 0.06 - u)), amber, 0.3, 0.15, 1)
        bumper = (u > inside) & (self.s < d.axles[0]) & (self.z > d.wheel)
        c.seam(where(bumper, np.abs(self.s - d.axles[0] + d.arch * 0.6)), 0.004)

    def tail(self):
        rng, d, c, u, below, half = (
            self.rng,
            self.design,
            self.canvas,
            self.from_tail,
            self.below,
            self.body.half,
        )
        tall = TAIL_LAMP_HEIGHTS[d.body_type] * rng.uniform(0.85, 1.15)
        self.lamp_at_tail = inside = rng.uniform(0.54, 0.70) * half
        outside, slant = half + rng.uniform(-0.02, 0.2), rng.uniform(-0.05, 0.06)
        if d.body_type in ("pickup", "van"):
            inside, outside = half * 0.87, half + 0.06
        lamp = sd_polygon(
            u,
            below,
            [
                (inside, -0.03),
                (outside, -0.02),
                (outside - 0.03 + slant, -tall),
                (inside + 0.06 + slant, -tall + rng.uniform(0, 0.05)),
            ],
        )
        lamp = lamp - 0.012
        c.put(coverage(lamp - 0.012), (0.008, 0.008, 0.008), 0, 0.3, 0.5)
        c.put(coverage(lamp), raise_by=0.3, **RED_LAMP)
        c.put(coverage(np.abs(lamp + 0.03) - 0.008), (0.8, 0.05, 0.04), 0.2, 0.15, 1)
        c.put(
            coverage(np.maximum(lamp + 0.015, np.abs(below + tall * 0.68) - tall * 0.12)),
            (0.5, 0.48, 0.46),
            0.4,
            0.15,
            1,
        )
        c.put(
            coverage(np.maximum(lamp + 0.012, stripes(below, 0.02, 0.006))), (0.10, 0, 0), 0, 0.2, 1
        )
        if rng.random() < 0.15:
            c.put(coverage(where(self.rear, sd_box(u, below, 0, -0.06, inside, 0.018))), **RED_LAMP)
        sill, bumper = self.body.sill_z[-1], self.body.bumper
        if rng.random() < 0.75:
            c.put(
                coverage(where(self.rear, self.z - sill - rng.uniform(0.06, 0.16))), **BLACK_PLASTIC
            )
        c.seam(where(self.rear & (u < half * 0.93), np.abs(self.z - bumper)), 0.007)
        c.seam(
            where(
                self.rear & (self.z > bumper), np.abs(u - (half * 0.9 if d.boxy else inside + 0.03))
            ),
            0.006,
        )
        plate = self.layout.rear_plate
        c.put(
            coverage(where(self.rear, sd_box(u, self.z, 0, plate, 0.30, 0.10, 0.03))), raise_by=-0.5
        )
        c.put(
            coverage(where(self.rear, sd_box(u, self.z, 0, plate + 0.095, 0.27, 0.014, 0.008))),
            **(CHROME if rng.random() < 0.4 else BLACK_GLOSS),
        )
        c.put(
            coverage(where(self.rear, np.hypot(u, self.z - plate - 0.17) - 0.035)),
            raise_by=0.5,
            **CHROME,
        )
        c.put(
            coverage(where(self.rear, sd_box(u, self.z, half * 0.8, sill + 0.2, 0.09, 0.02, 0.01))),
            (0.35, 0.005, 0.005),
            0,
            0.2,
            1,
        )

    def dirt(self, canvas, shape):
        """Dust and splashes: low, behind the wheels, unevenly. Dull where they lie."""
        rng, d = self.rng, self.design
        amount = rng.beta(1.2, 4) * (1.6 if d.tall or d.cargo else 1)
        low = np.exp(-np.maximum(self.z - d.clearance, 0) / 0.16)
        splash = np.exp(-(((self.from_wheel - d.arch) / 0.12).clip(0) ** 2))
        mask = np.clip(
            amount * (low + 0.4 * splash) * (1 + 0.5 * blotches(rng, shape, 90)), 0, 0.75
        )
        canvas.put(mask, (0.11, 0.095, 0.075), 0, 0.8, 0)
        canvas.surface[..., 1] += (
            0.10 * np.exp(-(self.z - d.clearance) / 0.12) * (canvas.surface[..., 2] > 0.5)
        )

    def top(self, shape, greenhouse):
        """Bonnet, boot lid, and the floor of the cabin, seen from above."""
        rng, d, half = self.rng, self.design, self.body.half
        s, y = np.meshgrid(np.linspace(0, d.length, shape[1]), np.linspace(0, half, shape[0]))
        c = Canvas(shape, d.colour, d.metallic, 0.33, 1.0)
        edge = half * rng.uniform(0.74, 0.84)
        c.seam(np.where(s < d.screen + 0.15, np.abs(y - edge - 0.03 * np.sin(s * 2)), 1), 0.007)
        foot = greenhouse.footprint(s, y, 0.02)
        c.put(coverage(np.where(s < d.screen + 0.6, foot - 0.06, 1), 0.006), **BLACK_PLASTIC)
        ridge, strength = rng.uniform(0.25, 0.55) * half, rng.uniform(0.1, 0.8)
        c.height += (
            strength * smoothstep(0.07, 0, np.abs(y - ridge - 0.1 * (s - 0.5))) * (s < d.screen)
        )
        if d.body_type in ("sedan", "coupe"):
            c.seam(np.where(s > d.tail + 0.02, np.abs(y - self.lamp_at_tail - 0.05), 1))
            c.seam(np.where(y < self.lamp_at_tail + 0.05, np.abs(s - d.tail - 0.06), 1))
        c.put(coverage(foot, 0.006), (0.02, 0.019, 0.018), 0, 0.8, 0)
        return c


def paint_greenhouse(seed, design, body, greenhouse, layout, shape=(256, 1024)):
    """Windows, pillars, window frames and roof, as a canvas laid out like the body's."""
    rng, d, (rows, columns) = generator(seed, "glass"), design, shape
    surface = greenhouse.surface(columns, rows)
    s, y, z = np.moveaxis(surface, -1, 0)
    ny, column = greenhouse.ny, np.arange(columns)[None]
    a_pillar = np.argmax(ny > 0.72)
    c_pillar = columns - 1 - np.argmax(ny[::-1] > (0.72 if d.boxy else 0.80))
    arc = np.concatenate(
        [np.zeros((rows, 1)), np.cumsum(np.linalg.norm(np.diff(surface, axis=1), axis=-1), 1)], 1
    )
    behind_a, behind_c = (
        arc - arc[:, a_pillar : a_pillar + 1],
        arc - arc[:, c_pillar : c_pillar + 1],
    )
    up, g = z - body.cap(s, y), greenhouse.relative_height
    under_roof = (g - 0.90) * (d.height - d.belt)
    roof_edge = np.arange(rows)[:, None] / rows > 0.8
    two_tone = rng.random() < 0.1
    roof = (0.006, 0.006, 0.006) if two_tone else d.colour
    c = Canvas(shape, roof, d.metallic, 0.33, 1.0)

    # Side windows: between belt, roof rail, windscreen pillar and a rear end that leans.
    foot = {
        "sedan": -0.42,
        "coupe": -0.55,
        "pickup": -0.13,
        "hatchback": -0.50,
        "wagon": -0.26,
        "suv": -0.30,
        "van": -0.20,
    }[d.body_type]
    head = {
        "sedan": 0.10,
        "coupe": 0.05,
        "pickup": -0.10,
        "hatchback": -0.14,
        "wagon": -0.10,
        "suv": -0.14,
        "van": -0.12,
    }[d.body_type]
    foot, head = (
        d.tail + foot + rng.uniform(-0.05, 0.06),
        d.roof_rear + head + rng.uniform(-0.05, 0.05),
    )
    end, kick = (
        lerp(foot, head, g.clip(0, 1)),
        0 if d.body_type in ("pickup", "van") else rng.uniform(0, 0.12),
    )
    window = smooth_max(0.035 - up + kick * smoothstep(foot - 0.8, foot, s), under_roof, 0.04)
    window = smooth_max(smooth_max(window, 0.045 - behind_a, 0.04), s - end, 0.09)
    side = (column > a_pillar - 2) & (column < c_pillar + 8) & ~roof_edge
    window = where(side, window)
    pillar = layout.pillar + 0.06 * up
    frame = CHROME if rng.random() < 0.3 else BLACK_GLOSS
    shown = np.maximum(window, s - pillar - 0.02) if d.cargo else window
    c.put(coverage(shown - 0.022), **frame)
    c.put(coverage(shown - 0.014), **BLACK_GLOSS)
    glass = coverage(shown)
    if d.doors == 4 or d.body_type in ("hatchback", "van"):
        glass = np.minimum(glass, coverage(0.045 - np.abs(s - pillar)))
    if d.doors == 4 and d.body_type != "pickup":
        upright = d.body_type in ("suv", "wagon", "van")
        quarter = (
            np.minimum(layout.rear_gap + 0.25, foot - 0.4) + 0.05 * up
            if upright
            else min(layout.rear_gap + 0.16, foot - 0.12) - 0.25 * up
        )
        glass = np.minimum(glass, coverage((0.045 if upright else 0.012) - np.abs(s - quarter)))
    if d.body_type in ("van", "hatchback"):
        glass = np.minimum(
            glass,
            coverage(
                0.011
                - np.abs(
                    s
                    - lerp(d.screen, d.roof_front, 0.42)
                    - (0.45 if d.body_type == "van" else 0.12)
                )
            ),
        )
    privacy = (
        0.85
        if d.body_type in ("suv", "van", "wagon") and rng.random() < 0.7
        else 0.5
        if rng.random() < 0.2
        else 0.0
    )
    c.tint = np.where(
        column > c_pillar,
        privacy,
        np.where(side, privacy * smoothstep(pillar - 0.02, pillar + 0.02, s), 0),
    )

    # Windscreen and rear screen, each in a black frame.
    screen = where(
        (column < a_pillar) & ~roof_edge,
        smooth_max(smooth_max(behind_a + 0.035, 0.035 - up, 0.05), under_roof, 0.05),
    )
    rear = smooth_max(smooth_max(0.06 - behind_c, 0.05 - up, 0.06), under_roof + 0.02, 0.06)
    rear = where((column > c_pillar) & ~roof_edge, rear)
    for pane, border in ((screen, 0.022), (rear, 0.020)):
        if pane is rear and d.cargo:
            pane = np.maximum(pane, 0.05 - np.abs(y))  # two doors
        c.put(coverage(pane - 0.004), **BLACK_GLOSS)
        glass = np.maximum(glass, coverage(pane + border))
    c.put(coverage(np.where(column < a_pillar, up - 0.03, 1)), (0.01, 0.01, 0.01), 0, 0.6, 0)
    c.put(glass, glass=1.0)
    wiper = (
        sd_segments(y, up, [(greenhouse.base * 0.12, 0.045), (greenhouse.base * 0.62, 0.08)])
        - 0.008
    )
    c.put(
        coverage(where((column < a_pillar) & ~roof_edge, wiper)),
        (0.01, 0.01, 0.01),
        0,
        0.5,
        0,
        raise_by=0.6,
    )
    c.seam(where(side & (window > 0.02) & (g > 0.3), np.abs(s - pillar)))
    c.seam(
        where(
            (side | roof_edge) & (behind_a > 0.03) & (s < end + 0.1),
            np.abs((g - 0.965) * (d.height - d.belt)),
        ),
        0.004,
    )
    if d.body_type in ("suv", "van", "wagon") and rng.random() < 0.4:  # lamps up the rear pillars
        c.put(
            coverage(where(column > c_pillar, np.maximum(np.abs(behind_c) - 0.055, g - 0.75))),
            glass=0.0,
            **RED_LAMP,
        )

    s, y = np.meshgrid(np.linspace(0, d.length, columns), np.linspace(0, body.half, rows))
    top = Canvas(shape, roof, d.metallic, 0.33, 1.0)
    if rng.random() < 0.25 and not d.cargo:  # sunroof
        top.put(
            coverage(sd_box(s, y, lerp(d.roof_front, d.roof_rear, 0.3), 0, 0.35, 0.40, 0.06)),
            **BLACK_GLOSS,
        )
    return c.above(top)


def paint_plate(seed):
    """A number plate with made-up signs: canvas, width and height in metres."""
    rng = generator(seed, "plate")
    squarish = rng.random() < 0.6
    width, height = (0.305, 0.152) if squarish else (0.52, 0.112)
    x, y = np.meshgrid(np.linspace(0, width, 160), np.linspace(0, height, 56))
    c = Canvas(x.shape, (0.62, 0.62, 0.60) if rng.random() < 0.85 else (0.6, 0.43, 0.05), 0, 0.4)
    ink = pick(rng, {(0.01, 0.01, 0.03): 1, (0.02, 0.05, 0.2): 1, (0.01, 0.01, 0.01): 1})
    pitch, tall = width * 0.84 / 6, height * (0.25 if squarish else 0.34)
    segments = [
        ((-1, 1), (1, 1)),
        ((-1, 0), (1, 0)),
        ((-1, -1), (1, -1)),
        ((-1, 0), (-1, 1)),
        ((1, 0), (1, 1)),
        ((-1, -1), (-1, 0)),
        ((1, -1), (1, 0)),
    ]
    for sign in range(6):
        centre = width * 0.08 + pitch * (sign + 0.5)
        for segment in segments:
            if rng.random() < 0.68:
                line = [(centre + a * pitch * 0.27, height * 0.48 + b * tall) for a, b in segment]
                c.put(coverage(sd_segments(x, y, line) - 0.006, 0.003), ink)
    if squarish:
        c.put(
            coverage(sd_box(x, y, width / 2, height * 0.9, width * 0.3, 0.009)), (0.3, 0.05, 0.05)
        )
    return c, width, height
