"""Where the car stands: a street, a car park, a drive, a field, a country road, a studio, a showroom.

Everything is placed relative to the car, on all its sides, since what the camera does not see is mirrored in the paint.
"""

import bpy
import numpy as np
from blender import add_mesh, add_object, plain
from body import draw_paint
from buildings import build_fence, build_house
from car import build_car
from ground import ground_material, litter, marking, slab, tyre_marks
from light import daylight, new_world, panel
from plants import build_bush, build_grass, build_hedge, build_tree
from shapes import box_mesh, generator, grid_faces, pick, revolve

SETTINGS = {
    "parking": 27,
    "street": 23,
    "driveway": 15,
    "field": 9,
    "road": 10,
    "showroom": 9,
    "studio": 7,
}
# What borders the scene on each side, by setting.
BORDERS = {
    "parking": {"houses": 32, "trees": 38, "hedge": 14, "fence": 10, "open": 6},
    "street": {"houses": 55, "trees": 22, "hedge": 14, "fence": 9},
    "driveway": {"houses": 34, "trees": 26, "hedge": 22, "fence": 18},
    "field": {"houses": 6, "trees": 66, "hedge": 10, "fence": 6, "open": 12},
    "road": {"houses": 6, "trees": 52, "hedge": 12, "fence": 8, "open": 22},
}


def draw_setting(seed):
    return pick(generator(seed, "setting"), SETTINGS)


def build_setting(seed, setting, view):
    """Build the surroundings of a kind, light included."""
    if setting == "studio":
        studio(seed)
    elif setting == "showroom":
        showroom(seed, view)
    else:
        daylight(seed, view)
        Outdoors(seed, setting, view).build()


def studio(seed):
    """A seamless backdrop under soft boxes."""
    rng = generator(seed, "studio")
    new_world(0.15, (0.8, 0.85, 0.95))
    grey = pick(
        rng,
        {
            (0.75, 0.75, 0.75): 4,
            (0.32, 0.32, 0.33): 2,
            (0.06, 0.06, 0.065): 2,
            (0.5, 0.53, 0.57): 1,
        },
    )
    bend = np.linspace(0, np.pi / 2, 20)
    profile = np.concatenate(
        [
            [(0, 0), (6, 0)],
            np.stack([6 + 3.5 * np.sin(bend), 3.5 - 3.5 * np.cos(bend)], -1),
            [(9.5, 12)],
        ]
    )
    vertices, faces = revolve(profile, 64)
    add_mesh(
        "backdrop",
        vertices[:, [0, 2, 1]] * (1.3, 1.3, 1),
        [faces[0][:, ::-1]],
        [plain(grey, roughness=rng.choice([0.3, 0.7]))],
    )
    for i in range(rng.integers(2, 4)):
        panel(
            (rng.uniform(-1, 1), (i - 1) * 2.6, 4.8),
            (rng.uniform(2, 4), rng.uniform(0.2, 0.8), 0.02),
            rng.uniform(12, 30),
            seen=False,
        )
    for _ in range(2):
        a = rng.uniform(0, 2 * np.pi)
        panel(
            (np.cos(a) * 6.5, np.sin(a) * 6.5, 2.4),
            (0.02, 1.6, 1.2),
            rng.uniform(5, 14),
            (0, 0, a),
            seen=False,
            colour=(1, 1, 1),
        )


def showroom(seed, view):
    """A hall with a shining floor, strip lights, stands and other cars."""
    rng = generator(seed, "showroom")
    new_world(0.2, (0.8, 0.85, 0.95))
    slab((0, 0), (16, 16), ground_material(rng, "hall"))
    walls = [
        plain(
            rng.choice(
                [
                    (0.6, 0.6, 0.58),
                    (0.42, 0.08, 0.06),
                    (0.16, 0.18, 0.21),
                    (0.03, 0.03, 0.035),
                    (0.5, 0.46, 0.38),
                ]
            ),
            roughness=0.7,
        )
        for _ in range(4)
    ]
    for k in range(4):
        a = k * np.pi / 2
        vertices, faces = box_mesh((0.1, 16, 3))
        add_mesh(
            "wall",
            vertices,
            faces,
            [walls[k]],
            smooth=False,
            location=(np.cos(a) * 14, np.sin(a) * 14, 3),
            rotation=(0, 0, a),
        )
        if rng.random() < 0.5:  # a glass front onto daylight
            for i in range(-4, 5):
                panel(
                    (
                        np.cos(a) * 13.85 - np.sin(a) * i * 2.9,
                        np.sin(a) * 13.85 + np.cos(a) * i * 2.9,
                        2.2,
                    ),
                    (0.03, 1.3, 1.6),
                    rng.uniform(0.7, 2.2),
                    (0, 0, a),
                    colour=(0.85, 0.93, 1),
                )
    slab((0, 0), (16, 16), plain((0.30, 0.30, 0.30), roughness=0.9), z=6.2)
    for i in range(rng.integers(3, 6)):
        for j in (-1, 0, 1):
            panel(
                (j * 5.5, (i - 2) * 2.8, 5.4),
                (rng.uniform(1.5, 2.4), 0.10, 0.03),
                rng.uniform(18, 42),
            )
    for _ in range(rng.integers(5, 12)):  # stands, banners, furniture
        a, far = rng.uniform(0, 2 * np.pi), rng.uniform(7.5, 13)
        half = rng.uniform((0.03, 0.2, 0.4), (0.3, 1.0, 1.4))
        vertices, faces = box_mesh(half)
        colour = (
            rng.uniform(0.02, 0.7, 3) if rng.random() < 0.5 else rng.uniform(0.02, 0.7, 1).repeat(3)
        )
        add_mesh(
            "stand",
            vertices,
            faces,
            [plain(colour, roughness=0.5)],
            smooth=False,
            location=(np.cos(a) * far, np.sin(a) * far, half[2]),
            rotation=(0, 0, a),
        )
    others = ParkedCars(seed, rng, view)
    for _ in range(rng.integers(1, 4)):
        a, far = (
            np.arctan2(-view.direction[1], -view.direction[0]) + rng.normal(0, 0.7),
            rng.uniform(6, 9.5),
        )
        others.park(np.cos(a) * far, np.sin(a) * far, rng.uniform(0, 2 * np.pi))
    others.remove_templates()


class ParkedCars:
    """Copies of one or two coarse cars in the paints of the street, never where they would hide the subject."""

    def __init__(self, seed, rng, view):
        self.rng, self.view, self.taken = rng, view, [(0.0, 0.0)]
        self.templates = [build_car(int(rng.integers(1 << 30)), detail=0.42) for _ in range(2)]

    def park(self, x, y, turn):
        """True if there was room."""
        spot, camera = np.array([x, y]), self.view.position[:2]
        ahead = spot @ self.view.direction
        across = abs(spot[0] * self.view.direction[1] - spot[1] * self.view.direction[0])
        hides = ahead > 0.5 and across < 3.2 + 0.3 * ahead
        if (
            hides
            or np.hypot(*(spot - camera)) < 4.5
            or min(np.hypot(x - a, y - b) for a, b in self.taken) < 2.45
        ):
            return False
        from mathutils import Matrix

        template = self.templates[self.rng.integers(2)]
        colour = (*draw_paint(self.rng)[1], 1)
        place = Matrix.Translation((x, y, 0)) @ Matrix.Rotation(turn, 4, "Z")
        for part in template.parts:
            copy = add_object("parked", part.data)
            copy.matrix_world = place @ part.matrix_basis
            copy.color = colour
        self.taken.append((x, y))
        return True

    def remove_templates(self):
        for template in self.templates:
            for part in template.parts:
                bpy.data.objects.remove(part)


class Outdoors:
    def __init__(self, seed, setting, view):
        self.seed, self.setting, self.view = seed, setting, view
        # The car stands square in a bay or at the kerb, anyhow elsewhere; turning the world is turning the car.
        rng = generator(seed, "turn")
        self.turn = rng.normal(0, 0.03) if setting in ("parking", "street") else rng.normal(0, 0.25)
        self.plants = {}

    def build(self):
        self.ground(generator(self.seed, "ground"))
        parked = generator(self.seed, "parked")
        wanted = {"parking": 0.9, "street": 0.85, "driveway": 0.2, "road": 0.15, "field": 0.2}[
            self.setting
        ]
        self.cars = ParkedCars(self.seed, parked, self.view) if parked.random() < wanted else None
        for side in range(4):
            self.border(generator(self.seed, f"border {side}"), side)
        self.near_things(generator(self.seed, "near"))
        self.horizon(generator(self.seed, "horizon"))
        if self.cars:
            self.bays(parked)
            self.cars.remove_templates()
        for template in self.plants.values():
            bpy.data.objects.remove(template)

    def at(self, along, across):
        """World coordinates of a place in the setting's own axes, which are the car's but for a turn."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        return along * c - across * s, along * s + across * c

    def ground(self, rng):
        kind = self.setting
        under = {
            "parking": {"asphalt": 8, "concrete": 2}, "street": {"asphalt": 1}, "road": {"asphalt": 5, "gravel": 1, "dirt": 1},
            "driveway": {"concrete": 4, "paving": 3, "gravel": 2, "asphalt": 2}, "field": {"grass": 6, "gravel": 2, "dirt": 2},
        }[kind]  # fmt: skip
        self.under = under = pick(rng, under)
        beyond = (
            "grass"
            if kind in ("field", "road")
            else pick(rng, {"grass": 5, "asphalt": 2, "concrete": 2, "paving": 2})
        )
        slab((0, 0), (400, 400), ground_material(rng, beyond), z=-0.045)
        self.near = {"parking": 17, "street": 5.5, "road": 4.0, "driveway": 7, "field": 12}[
            kind
        ] * rng.uniform(0.85, 1.15)
        self.lane = rng.choice(
            [1, -1]
        )  # the side on which the road goes on; the kerb is on the other one
        across = self.at(0, self.lane * (self.near - 1.5)) if kind in ("street", "road") else (0, 0)
        if under != "grass" or beyond != "grass":
            slab(
                across,
                (60 if kind in ("street", "road") else self.near * 1.4, self.near),
                ground_material(rng, under),
                self.turn,
            )
        white = (0.55, 0.55, 0.53)
        if kind == "parking":
            pitch, colour = (
                rng.uniform(2.5, 2.8),
                white if rng.random() < 0.8 else (0.5, 0.36, 0.04),
            )
            self.pitch = pitch
            for i in range(-5, 6):
                marking(rng, self.at(0, (i + 0.5) * pitch), (2.5, 0.05), colour, self.turn)
        if kind in ("street", "road"):
            for i in range(-7, 8):
                marking(rng, self.at(i * 6.0, self.lane * 2.9), (1.5, 0.06), white, self.turn)
            if kind == "street" and rng.random() < 0.7:  # the pavement and its kerb
                edge = 1.15 + rng.uniform(0, 0.3)
                slab(
                    self.at(0, -self.lane * (edge + 0.07)),
                    (60, 0.07),
                    ground_material(rng, "concrete"),
                    self.turn,
                    z=0.12,
                )
                slab(
                    self.at(0, -self.lane * (edge + 1.9)),
                    (60, 1.75),
                    ground_material(rng, pick(rng, {"concrete": 1, "paving": 1, "asphalt": 1})),
                    self.turn,
                    z=0.115,
                )
        if under in ("asphalt", "concrete", "dirt", "gravel") and rng.random() < 0.6:
            tyre_marks(rng, self.turn)
        if under in ("asphalt", "concrete") and rng.random() < 0.4:  # a patched square
            slab(
                rng.uniform(-5, 5, 2),
                rng.uniform(0.5, 2.0, 2),
                ground_material(rng, "asphalt", 0.7 if under == "asphalt" else 1),
                self.turn,
                z=0.0015,
            )
        toward = self.view.position[:2] * 0.5
        if under == "grass":
            build_grass(rng, toward * 0.6, 8.0, tall=rng.uniform(0.025, 0.055))
        elif beyond == "grass" and kind in ("road", "field", "driveway") and rng.random() < 0.8:
            edge = self.near if kind != "field" else self.near * 1.2
            centre = np.array(across)

            def outside(x, y):
                return (
                    np.abs(
                        (x - centre[0]) * -np.sin(self.turn) + (y - centre[1]) * np.cos(self.turn)
                    )
                    > edge
                )

            build_grass(
                rng, -self.view.direction * 5, 11.0, tall=rng.uniform(0.04, 0.12), keep=outside
            )
        if (kind != "parking" and rng.random() < 0.6) or rng.random() < 0.3:
            litter(rng, toward * 0.5, 3.5, rng.integers(100, 500), dry=rng.random() < 0.6)

    def copy_plant(self, rng, kind, place, height):
        """A copy of one of a few plants of a kind, turned and scaled."""
        season = pick(generator(self.seed, "season"), {"green": 70, "bare": 16, "mixed": 14})
        species = "bush"
        if kind == "tree":
            species = (
                "conifer"
                if rng.random() < 0.15
                else season
                if season != "mixed"
                else rng.choice(["green", "bare"])
            )
        key = f"{species} {rng.integers(2)}"
        if key not in self.plants:
            own = generator(self.seed, key)
            self.plants[key] = (
                build_bush(own, 1.0) if species == "bush" else build_tree(own, 8.0, species)
            )
            self.plants[key].location = (0, 0, -100)
        size = height / (1.0 if species == "bush" else 8.0)
        add_object(
            key,
            self.plants[key].data,
            (*place, -0.05),
            (0, 0, rng.uniform(0, 2 * np.pi)),
            (size, size, size * rng.uniform(0.85, 1.15)),
        )

    def border(self, rng, side):
        """One of the four sides: front, left, rear, right of the car."""
        angle = side * np.pi / 2 + self.turn
        out, along = (
            np.array([np.cos(angle), np.sin(angle)]),
            np.array([-np.sin(angle), np.cos(angle)]),
        )
        camera = max(0.0, out @ self.view.position[:2])
        kind = pick(rng, BORDERS[self.setting])
        lateral = side % 2 == 1
        far = {
            "parking": (6, 15),
            "street": (4.2, 7.5),
            "driveway": (3.8, 8),
            "field": (8, 20),
            "road": (6.5, 16),
        }[self.setting]
        far = rng.uniform(*far) + (0 if lateral else 2.5)
        if self.setting in ("street", "road"):
            if not lateral:  # along the road
                far = rng.uniform(22, 45)
            elif (1 if side == 1 else -1) == self.lane:
                far += self.near + 1.0
        if camera > 0.5:
            far = max(far, camera + 4)

        def place(t, d):
            return out * d + along * t

        def clear(spot, room=5.0):
            return np.hypot(*(spot - self.view.position[:2])) > room

        if kind == "houses":
            t = -30.0
            while t < 30:
                width, storeys = rng.uniform(9, 20), rng.integers(1, 5)
                ground = {
                    "driveway": {"garage": 6, "windows": 4},
                    "street": {"windows": 5, "shop": 4, "blank": 1},
                }.get(self.setting, {"windows": 4, "shop": 3, "garage": 2, "blank": 2})
                if self.setting == "driveway":
                    storeys = min(storeys, 2)
                build_house(
                    rng,
                    place(t + width / 2, far + rng.uniform(0, 1.5)),
                    angle + np.pi,
                    width,
                    10,
                    storeys,
                    pick(rng, ground),
                )
                t += width + rng.choice([0.0, rng.uniform(2, 7)])
            for _ in range(rng.integers(0, 6)):
                spot = place(rng.uniform(-20, 20), far - rng.uniform(0.5, 1.2))
                if clear(spot):
                    self.copy_plant(rng, "bush", spot, rng.uniform(0.5, 1.4))
        elif kind == "hedge":
            for part in build_hedge(rng, 26.0, rng.uniform(0.8, 2.3)):
                part.location, part.rotation_euler = (*place(0, far), 0), (0, 0, angle + np.pi / 2)
        elif kind == "fence":
            build_fence(rng, place(0, far), angle, 50.0)
        if kind != "houses" or rng.random() < 0.35:
            behind = far + (2.0 if kind in ("hedge", "fence") else 14 if kind == "houses" else 0)
            for _ in range(rng.integers(14, 40) if kind != "open" else rng.integers(2, 10)):
                spot = place(
                    rng.uniform(-32, 32),
                    behind + rng.exponential(8.0) + (20 if kind == "open" else 0),
                )
                if clear(spot, 7):
                    bush = rng.random() < 0.4
                    self.copy_plant(
                        rng,
                        "bush" if bush else "tree",
                        spot,
                        rng.uniform(0.8, 2.8) if bush else rng.uniform(5, 12),
                    )
        if (
            self.cars
            and self.setting in ("parking", "street")
            and not (self.setting == "street" and not lateral)
        ):
            row = rng.uniform(5.5, 8.5) if self.setting == "parking" else far - 1.9
            if self.setting == "parking" and camera > 0.5:
                row = max(row, camera + 3.5)
            for t in np.arange(-13, 14, 2.7 if self.setting == "parking" else 5.9):
                if rng.random() < 0.6:
                    x, y = place(t + rng.normal(0, 0.15), row)
                    self.cars.park(
                        x,
                        y,
                        angle
                        + (np.pi / 2 if self.setting == "street" else 0)
                        + rng.choice([0, np.pi])
                        + rng.normal(0, 0.03),
                    )

    def bays(self, rng):
        """Neighbours: beside the car in a car park, before and behind it in a street."""
        if self.setting == "parking":
            spots = [(rng.normal(0, 0.3), i * self.pitch, 0) for i in (-3, -2, -1, 1, 2, 3)]
        elif self.setting == "street":
            spots = [
                (i * rng.uniform(5.8, 7.5), rng.normal(0, 0.1), 0) for i in (-3, -2, -1, 1, 2, 3)
            ]
        else:
            spots = [
                (rng.uniform(-14, 14), rng.uniform(-14, 14), rng.uniform(0, 6)) for _ in range(3)
            ]
        for along, across, turn in spots:
            if rng.random() < 0.6 and np.hypot(along, across) > 2.4:
                self.cars.park(
                    *self.at(along, across),
                    self.turn + turn + rng.choice([0, np.pi]) + rng.normal(0, 0.02),
                )

    def near_things(self, rng):
        """Lamp posts, signs, bollards, bins, behind the car as the camera sees it."""
        away = np.arctan2(-self.view.direction[1], -self.view.direction[0])
        for _ in range(rng.integers(0, 5) if self.setting != "field" else 1):
            angle, far = away + rng.normal(0, 0.55), rng.uniform(5, 18)
            x, y = np.cos(angle) * far, np.sin(angle) * far
            kind = pick(rng, {"post": 3, "sign": 2, "bollard": 2, "bin": 2})
            grey = plain(
                rng.choice([(0.22, 0.22, 0.22), (0.10, 0.07, 0.05), (0.03, 0.045, 0.035)]),
                roughness=0.6,
            )
            if kind == "bin":
                vertices, faces = box_mesh((0.28, 0.33, 0.5))
                colour = pick(
                    rng, {(0.03, 0.08, 0.03): 1, (0.02, 0.02, 0.022): 2, (0.03, 0.05, 0.12): 1}
                )
                add_mesh(
                    "bin",
                    vertices,
                    faces,
                    [plain(colour, roughness=0.5)],
                    smooth=False,
                    location=(x, y, 0.52),
                    rotation=(0, 0, angle),
                )
                continue
            height, radius = {"post": (7.0, 0.07), "sign": (2.6, 0.03), "bollard": (0.9, 0.06)}[
                kind
            ]
            vertices, faces = revolve([(radius, height), (radius, 0)], 12)
            add_mesh(kind, vertices[:, [0, 2, 1]], faces, [grey], location=(x, y, 0))
            if kind == "sign":
                vertices, faces = box_mesh((0.012, 0.28, rng.uniform(0.2, 0.35)))
                colour = pick(
                    rng,
                    {
                        (0.45, 0.02, 0.02): 1,
                        (0.02, 0.08, 0.35): 1,
                        (0.55, 0.55, 0.55): 2,
                        (0.55, 0.38, 0.02): 1,
                    },
                )
                add_mesh(
                    "plate",
                    vertices,
                    faces,
                    [plain(colour, roughness=0.4)],
                    smooth=False,
                    location=(x, y, 2.3),
                    rotation=(0, 0, angle + rng.normal(0, 0.5)),
                )

    def horizon(self, rng):
        """Distant hills and woods, bluer with distance."""
        for far, tall, colour in (
            (95, 9, (0.022, 0.032, 0.014)),
            (150, 14, (0.05, 0.065, 0.05)),
            (240, 26, (0.11, 0.14, 0.17)),
        ):
            angle = np.linspace(0, 2 * np.pi, 240)
            k = np.arange(1, 40)
            waves = (rng.normal(size=39) / k**0.8) @ np.sin(
                k[:, None] * angle + rng.uniform(0, 6, (39, 1))
            )
            top = tall * (0.55 + 0.25 * (waves - waves.mean()) / waves.std()).clip(0.1)
            ring = np.stack([np.cos(angle) * far, np.sin(angle) * far, 0 * angle - 1], -1)
            vertices = np.concatenate(
                [ring, ring * (1.2, 1.2, 0) + np.stack([0 * top, 0 * top, top], -1)]
            )
            add_mesh("hills", vertices, [grid_faces(2, 240)], [plain(colour, roughness=1.0)])
