"""Wheels: a tyre, a rim whose spokes are a height field over polar coordinates, a drum and a brake disc behind it."""

from dataclasses import dataclass

import numpy as np
from blender import add_mesh, plain
from shapes import generator, grid_faces, lerp, pick, revolve, smoothstep


@dataclass(frozen=True)
class WheelStyle:
    radius: float  # of the tyre, metres
    rim: float
    width: float
    spokes: int
    kind: str  # plain, twin, forked, wire, steel
    finish: str
    inner: float  # half width of a spoke at the hub, and at the rim
    outer: float
    dish: float  # how much deeper the hub lies than the rim


FINISHES = {  # weight, colour, metallic, roughness
    "silver": (60, (0.36, 0.365, 0.37), 1, 0.36),
    "grey": (17, (0.09, 0.09, 0.095), 0.9, 0.35),
    "black": (15, (0.012, 0.012, 0.012), 0.2, 0.3),
    "polished": (8, (0.6, 0.6, 0.6), 1, 0.16),
}


def draw_style(seed, design):
    rng = generator(seed, "wheel")
    simple = design.cargo or rng.random() < 0.08
    kind = "steel" if simple else pick(rng, {"plain": 40, "twin": 25, "forked": 20, "wire": 15})
    spokes = {
        "plain": [5, 5, 6, 7, 8, 10],
        "twin": [5, 5, 6, 7],
        "forked": [5, 6, 7, 8],
        "wire": [12, 14, 16],
        "steel": [10, 12],
    }[kind]
    return WheelStyle(
        radius=design.wheel,
        rim=design.wheel
        * (0.62 if simple else rng.uniform(0.66, 0.75))
        * (0.94 if design.tall else 1),
        width=rng.uniform(0.205, 0.25),
        spokes=int(rng.choice(spokes)),
        kind=kind,
        finish=pick(rng, {"silver": 1, "black": 1})
        if simple
        else pick(rng, {key: value[0] for key, value in FINISHES.items()}),
        inner=rng.uniform(0.028, 0.045),
        outer=rng.uniform(0.018, 0.036),
        dish=rng.uniform(0.01, 0.045),
    )


def spoke_mask(style, r, angle):
    """1 on the spokes, hub and rim edge, 0 between them, for polar coordinates r (metres) and angle."""
    x = r / style.rim
    around = angle % (2 * np.pi / style.spokes) - np.pi / style.spokes
    off = np.abs(around) * r
    width = lerp(style.inner, style.outer, x) * (0.75 if style.spokes > 7 else 1.15)
    if style.kind == "twin":
        off, width = np.abs(off - (0.018 + 0.02 * x)), 0.012
    elif style.kind == "forked":
        off, width = np.abs(off - np.maximum(0, x - 0.45) * 0.12), 0.016
    elif style.kind == "wire":
        width = 0.011
    distance = np.minimum(off - width, r - 0.30 * style.rim)
    if style.kind == "steel":  # a disc with a ring of holes
        distance = -(np.hypot(off, r - 0.74 * style.rim) - 0.022)
    return smoothstep(0.008, -0.004, np.minimum(distance, 0.90 * style.rim - r))


def build_wheel(style):
    """The parts of one wheel, its axle along y, its outside towards +y; all share the same placement."""
    edge, rim, radius = style.width / 2, style.rim, style.radius
    tyre = plain((0.02, 0.02, 0.021), roughness=0.75)
    bead = [(rim - 0.01, edge * 0.80), (rim + 0.004, edge * 0.93), (rim + 0.012, edge * 0.96)]
    wall = [
        (lerp(rim, radius, share), edge * out)
        for share, out in ((0.4, 1.04), (0.58, 1.02), (0.62, 1.04), (0.8, 0.98))
    ]
    tread = [
        (radius - 0.008, edge * 0.86),
        (radius - 0.002, edge * 0.74),
        (radius, edge * 0.4),
        (radius, -edge * 0.4),
    ]
    profile = [*bead, *wall, *tread, (radius - 0.01, -edge * 0.85), (rim, -edge)]
    vertices, faces = revolve(profile, 72)
    parts = [add_mesh("tyre", vertices, faces, [tyre])]
    r = np.linspace(0, rim, 34)[:, None]
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)[None]
    mask = spoke_mask(style, r, angle)
    y = (
        edge * 0.80
        - style.dish * (1 - r / rim) ** 1.2
        + 0.006 * smoothstep(0.02, 0, np.abs(r - 0.96 * rim))
        - 0.055 * (1 - mask)
    )
    nuts = smoothstep(
        0.012, 0.006, np.hypot(r * np.cos(angle * 5) - 0.17 * rim, r * np.sin(angle * 5) / 5)
    )
    y = np.where(r < 0.10 * rim, y + 0.006, y) - 0.006 * nuts
    vertices = np.stack([r * np.cos(angle), y, r * np.sin(angle)], -1).reshape(-1, 3)
    faces = grid_faces(34, 300, wrap=True)
    faces = faces[(mask.reshape(-1)[faces] > 0.03).any(1)]
    _, colour, metallic, roughness = FINISHES[style.finish]
    parts.append(add_mesh("rim", vertices, [faces], [plain(colour, metallic, roughness)], sharp=50))
    drum, disc, dark = (
        plain((0.12, 0.12, 0.12), 1, 0.5),
        plain((0.22, 0.21, 0.20), 1, 0.45),
        plain((0.004, 0.004, 0.004), 0, 0.8),
    )
    for name, profile, material in (
        (
            "drum",
            [(rim * 0.97, edge * 0.8), (rim * 0.93, edge * 0.3), (rim * 0.93, -edge * 0.8)],
            drum,
        ),
        ("disc", [(0, edge * 0.2), (rim * 0.68, edge * 0.2), (rim * 0.68, 0)], disc),
        ("back", [(0, 0), (rim * 0.95, 0)], dark),
    ):
        vertices, faces = revolve(profile, 48)
        parts.append(add_mesh(name, vertices, faces, [material]))
    return parts
