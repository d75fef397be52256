"""One whole car: body, greenhouse, wheels, and what is really modelled besides: mirrors, handles, plates, seats, exhausts."""

from dataclasses import dataclass

import bpy
import numpy as np
from blender import add_mesh, add_object, painted, plain, subtract
from body import Design, Greenhouse, LowerBody, draw_design, shell
from details import BodyPaint, draw_layout, paint_greenhouse, paint_plate
from shapes import box_mesh, cushion_mesh, generator, lerp, pick, revolve
from wheels import build_wheel, draw_style

GLASS = (0.70, 0.76, 0.74)


@dataclass
class Car:
    design: Design
    root: object  # an empty at the middle of the car on the ground; x forward, y left
    parts: list


def build_car(seed, body_type=None, detail=1.0, paint=None):
    """Build the car of a seed around the origin. `detail` below 1 is for parked cars: coarser, and the paint's colour comes from
    each object's colour, so that one car serves for many."""
    return _Builder(seed, body_type, detail, paint).car()


class _Builder:
    def __init__(self, seed, body_type, detail, paint=None):
        self.seed, self.detail, self.shared = seed, detail, detail < 1
        self.design = draw_design(seed, body_type, paint)
        self.body = LowerBody(self.design)
        self.greenhouse = Greenhouse(self.design, self.body, seed)
        self.layout = draw_layout(seed, self.design, self.body)
        self.rng = generator(seed, "car parts")
        self.black = plain((0.008, 0.008, 0.008), roughness=0.8)
        self.chrome = plain((0.6, 0.6, 0.6), 1, 0.15)
        self.paint = plain(
            self.design.colour, self.design.metallic, 0.33, 1.0, car_paint=self.shared
        )
        self.parts = []

    def car(self):
        self.shells()
        self.wheels()
        self.mirrors_and_handles()
        self.plates()
        self.cabin()
        self.extras()
        root = add_object("car", None)
        for part in self.parts:
            part.parent = root
        return Car(self.design, root, self.parts)

    def add(self, name, vertices, faces, material, s=0.0, y=0.0, z=0.0, **options):
        """A part at (s, y, z) in the car's coordinates."""
        self.parts.append(
            add_mesh(
                name,
                vertices,
                faces,
                [material],
                location=(self.design.length / 2 - s, y, z),
                **options,
            )
        )
        return self.parts[-1]

    def cushion(self, half, material, s, y, z, exponent=4.0, rotation=(0, 0, 0)):
        return self.add(
            "cushion", *cushion_mesh(half, exponent), material, s, y, z, rotation=rotation
        )

    def shells(self):
        d, body, house, k = self.design, self.body, self.greenhouse, self.detail
        paint = BodyPaint(self.seed, d, body, house, self.layout, (int(256 * k), int(1536 * k)))
        vertices, faces, uv = shell(
            body.surface(int(300 * k), int(72 * k)), body.cap, d.length, body.half
        )
        materials = [
            painted(paint.canvas, 0.006, waviness=0.003, car_paint=self.shared),
            self.black,
        ]
        lower = add_mesh("lower body", vertices, faces, materials, uv)
        subtract(lower, [*self.arches(), *self.bed()])
        glass = paint_greenhouse(
            self.seed, d, body, house, self.layout, (int(256 * k), int(1024 * k))
        )
        vertices, faces, uv = shell(
            house.surface(int(220 * k), int(48 * k)), house.cap, d.length, body.half
        )
        material = painted(glass, 0.005, waviness=0.002, glass=GLASS, car_paint=self.shared)
        self.parts += [lower, add_mesh("greenhouse", vertices, faces[:3], [material], uv[:3])]

    def arches(self):
        d, half = self.design, self.body.half
        for s in d.axles:
            for side in (1, -1):
                outer, inner = half + 0.3, half - 0.34
                ends = (outer, inner) if side > 0 else (-inner, -outer)
                vertices, faces = revolve([(d.arch, y) for y in ends], 64, closed=True)
                yield add_mesh(
                    "arch",
                    vertices,
                    faces,
                    [self.black],
                    smooth=False,
                    location=(d.length / 2 - s, 0, d.wheel + 0.01),
                )

    def bed(self):
        d = self.design
        if d.body_type != "pickup":
            return
        start, end = d.tail + 0.12, d.length - 0.09
        width = min(
            self.body.half - 0.10, self.body.side_at(end, d.deck - 0.1) - 0.05
        )  # the corners at the tail are round
        vertices, faces = box_mesh(((end - start) / 2, width, 0.45))
        yield add_mesh(
            "bed",
            vertices,
            faces,
            [self.black],
            smooth=False,
            location=(d.length / 2 - (start + end) / 2, 0, d.deck),
        )

    def wheels(self):
        d, half = self.design, self.body.half
        templates = build_wheel(draw_style(self.seed, d))
        steer = self.rng.normal(0, 0.13)
        for axle, s in enumerate(d.axles):
            for side in (1, -1):
                turn = (steer if axle == 0 else 0) + (0 if side > 0 else np.pi)
                spin = self.rng.uniform(0, 2 * np.pi)
                for part in templates:
                    where = (d.length / 2 - s, side * (half - 0.125), d.wheel - 0.006)
                    self.parts.append(add_object(part.name, part.data, where, (0, spin, turn)))
        for part in templates:
            bpy.data.objects.remove(part)

    def mirrors_and_handles(self):
        d, half, rng = self.design, self.body.half, self.rng
        cover = self.paint if rng.random() < (0.2 if d.cargo else 0.75) else self.black
        handle = (
            self.chrome if rng.random() < 0.25 else self.paint if rng.random() < 0.8 else self.black
        )
        mirror, size = (
            plain((0.5, 0.52, 0.55), 1, 0.03),
            1.25 if d.tall or d.body_type == "van" else 1.0,
        )
        s = lerp(d.screen, d.roof_front, 0.42) + (0.42 if d.body_type == "van" else 0.18)
        z = float(self.body.top(s)) + 0.095
        doors = [self.layout.pillar - 0.13] + (
            [self.layout.rear_gap - 0.10] if d.doors == 4 else []
        )
        if d.body_type == "van" and d.doors == 4:
            doors[1] = self.layout.pillar + 0.16
        for side in (1, -1):
            turn = (0, 0, side * 0.2)
            self.cushion(
                (0.050 * size, 0.092 * size, 0.056 * size),
                cover,
                s,
                side * (half + 0.05),
                z,
                3.0,
                turn,
            )
            self.cushion(
                (0.005, 0.075 * size, 0.043 * size),
                mirror,
                s + 0.048 * size,
                side * (half + 0.045),
                z,
                3.2,
                turn,
            )
            self.cushion((0.04, 0.08, 0.016), cover, s, side * (half - 0.02), z - 0.06, 3.0)
            for at in doors:
                z_handle = float(self.body.top(at)) - 0.165
                y = self.body.side_at(at, z_handle)
                self.cushion((0.105, 0.020, 0.016), handle, at, side * (y + 0.018), z_handle, 3.0)
                self.cushion(
                    (0.055, 0.006, 0.026), self.black, at, side * (y + 0.001), z_handle - 0.005, 2.5
                )

    def plates(self):
        canvas, width, height = paint_plate(self.seed)
        material = painted(canvas)
        uv = [np.array([[[0, 0], [1, 0], [1, 1], [0, 1]]])]
        ends = [(-0.012, self.layout.front_plate, 1)] if self.rng.random() < 0.75 else []
        for s, z, facing in [*ends, (self.design.length + 0.015, self.layout.rear_plate, -1)]:
            corners = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]]) * (
                1,
                facing * width / 2,
                height / 2,
            )
            self.add(
                "plate", corners, [np.array([[0, 1, 2, 3]])], material, s, 0, z, uv=uv, smooth=False
            )
            self.cushion(
                (0.008, width / 2 + 0.01, height / 2 + 0.01),
                self.black,
                s + 0.009 * facing,
                0,
                z,
                12.0,
            )

    def cabin(self):
        """Seats, dashboard and steering wheel, as far as one sees them through glass."""
        d, rng = self.design, self.rng
        cloth = plain(
            pick(rng, {(0.02, 0.02, 0.02): 2, (0.20, 0.16, 0.11): 1, (0.09, 0.09, 0.09): 1}),
            roughness=0.75,
        )
        rows = [d.screen + 1.25 if d.body_type == "van" else lerp(d.roof_front, d.roof_rear, 0.22)]
        if not d.cargo and (d.body_type != "pickup" or d.doors == 4):
            rows.append(min(lerp(d.roof_front, d.roof_rear, 0.78), self.layout.pillar + 0.75))
        rest = min(d.height - 0.24, d.belt + 0.33)
        for s in rows:
            for y in (-0.37, 0.37):
                self.cushion(
                    (0.07, 0.22, 0.26), cloth, s + 0.12, y, d.belt - 0.02, rotation=(0, -0.22, 0)
                )
                self.cushion((0.045, 0.12, 0.085), cloth, s + 0.22, y, rest, rotation=(0, -0.15, 0))
        self.cushion(
            (0.30, self.body.half * 0.74, 0.05), self.black, d.screen + 0.55, 0, d.cowl + 0.02
        )
        angle = np.linspace(2 * np.pi, 0, 9)
        vertices, faces = revolve(
            np.stack([0.175 + 0.014 * np.cos(angle), 0.014 * np.sin(angle)], -1), 32
        )
        self.add(
            "steering wheel",
            vertices,
            faces,
            self.black,
            rows[0] - 0.50,
            0.37,
            d.belt + 0.05,
            rotation=(0, 0.35, np.pi / 2),
        )

    def extras(self):
        """Roof rails, spoilers, a cab rack, exhausts, an aerial."""
        d, rng, half = self.design, self.rng, self.body.half
        if d.body_type in ("suv", "wagon") and rng.random() < 0.65:
            material = self.chrome if rng.random() < 0.4 else self.black
            for side in (1, -1):
                at = (
                    (d.roof_front + d.roof_rear) / 2 + 0.05,
                    side * (self.greenhouse.roof - 0.12),
                    d.height - 0.035,
                )
                self.cushion(
                    ((d.roof_rear - d.roof_front) * 0.39, 0.016, 0.022), material, *at, 6.0
                )
        if d.body_type in ("hatchback", "suv") and rng.random() < 0.6:
            roof = float(self.greenhouse.cap(d.roof_rear, 0))
            self.cushion(
                (0.12, self.greenhouse.roof * 0.82, 0.02), self.paint, d.roof_rear + 0.03, 0, roof
            )
        if d.body_type in ("coupe", "sedan") and rng.random() < 0.3:
            self.cushion(
                (0.05, half * 0.66, 0.012),
                self.paint,
                d.length - 0.12,
                0,
                float(self.body.cap(d.length - 0.12, 0)) + 0.004,
            )
        if rng.random() < 0.5:
            self.cushion(
                (0.05, 0.012, 0.03),
                self.black,
                d.roof_rear - 0.1,
                0,
                float(self.greenhouse.cap(d.roof_rear - 0.1, 0)) + 0.012,
                2.5,
                (0, -0.3, 0),
            )
        vertices, faces = revolve([(0.028, 0.02), (0.028, 0.12), (0.034, 0.12), (0.034, 0)], 24)
        for side in [1] if rng.random() < 0.6 else [1, -1]:
            self.add(
                "exhaust",
                vertices,
                faces,
                self.chrome,
                d.length - 0.13,
                side * half * 0.55,
                d.clearance + 0.105,
                rotation=(0, 0, np.pi / 2),
            )
