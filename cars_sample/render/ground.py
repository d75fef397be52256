"""What the car stands on: asphalt, concrete, paving, gravel, grass, with the marks that use leaves."""

import numpy as np
from blender import add_mesh, new_material, plain
from shapes import box_mesh, grid_faces

GROUNDS = {  # darker and lighter colour, size of the grain (1/m), height of the grain (m), roughness
    "asphalt": ((0.045, 0.045, 0.047), (0.085, 0.084, 0.082), 75, 0.0035, (0.60, 0.92)),
    "concrete": ((0.22, 0.21, 0.19), (0.34, 0.325, 0.30), 60, 0.003, (0.70, 0.90)),
    "paving": ((0.16, 0.14, 0.125), (0.27, 0.245, 0.22), 60, 0.003, (0.65, 0.90)),
    "gravel": ((0.15, 0.135, 0.11), (0.34, 0.31, 0.27), 42, 0.018, (0.85, 0.95)),
    "grass": ((0.035, 0.050, 0.014), (0.085, 0.100, 0.032), 24, 0.05, (0.80, 0.90)),
    "dirt": ((0.09, 0.07, 0.05), (0.19, 0.15, 0.11), 30, 0.015, (0.85, 0.95)),
    "hall": ((0.26, 0.25, 0.235), (0.36, 0.35, 0.335), 8, 0.0, (0.08, 0.30)),
}


def ground_material(rng, kind, brightness=1.0):
    """Coarse patches, fine grain, dark stains, cracks or joints, and dampness, which shows in the roughness."""
    dark, light, grain, relief, rough = GROUNDS[kind]
    material, nodes, shader = new_material(kind)
    spot = nodes.position()
    tone = brightness * rng.uniform(0.75, 1.5 if kind == "asphalt" else 1.15)
    patches = nodes.noise(spot, rng.uniform(0.15, 0.5), 9.0)
    fine = nodes.noise(spot, grain * rng.uniform(0.8, 1.2), 4.0)
    ramp = nodes.remap(patches, 0.33, 0.68)
    colour = nodes.mix(ramp, (*np.array(dark) * tone, 1), (*np.array(light) * tone, 1))
    speckle = nodes.remap(fine, 0.28, 0.72, 0.05, 0.95)
    colour = nodes.mix(
        0.5 if kind != "hall" else 0.1,
        colour,
        nodes.add("CombineXYZ", X=speckle, Y=speckle, Z=speckle).outputs[0],
        blend="OVERLAY",
    )
    stains = nodes.remap(nodes.noise(spot, 1.6, 8.0, 0.8), 0.42, 0.70, 1.06, 0.72)
    if kind in ("asphalt", "concrete"):
        # Cracks are the borders of distorted cells; most of them are left out by a slow noise.
        warped = nodes.add(
            "VectorMath",
            {"operation": "ADD"},
            _0=spot,
            _1=nodes.add("TexNoise", Vector=spot, Scale=1.7, Detail=6.0).outputs[1],
        )
        border = nodes.add(
            "TexVoronoi",
            {"feature": "DISTANCE_TO_EDGE"},
            Vector=warped.outputs[0],
            Scale=rng.uniform(0.2, 0.45),
        ).outputs[0]
        crack = nodes.remap(border, 0, 0.006, rng.uniform(0.35, 0.9), 1)
        stains = nodes.math(
            "MULTIPLY",
            stains,
            nodes.math("MAXIMUM", crack, nodes.remap(nodes.noise(spot, 0.25, 2.0), 0.42, 0.55)),
        )
    if kind in ("paving", "concrete", "hall"):
        size = {"paving": (0.20, 0.10), "concrete": (3.0, 3.0), "hall": (0.6, 0.6)}[kind]
        gap = {"paving": 0.006, "concrete": 0.012, "hall": 0.003}[kind]
        joint = nodes.add(
            "TexBrick",
            {"offset": 0.5 if kind == "paving" else 0.0},
            Vector=spot,
            Scale=1.0,
            Bias=-0.2,
        )
        nodes.set(
            joint,
            Color1=(1, 1, 1),
            Color2=(0.78, 0.76, 0.74),
            Mortar=(0.45, 0.45, 0.43),
            Mortar_Size=gap,
            Mortar_Smooth=0.4,
        )
        nodes.set(joint, Brick_Width=size[0], Row_Height=size[1])
        colour = nodes.mix(1.0, colour, joint.outputs[0], blend="MULTIPLY")
    colour = nodes.add(
        "VectorMath", {"operation": "SCALE"}, _0=colour, Scale=stains if kind != "hall" else 1.0
    ).outputs[0]
    damp = (
        rng.uniform(0.0, 0.35)
        if kind in ("asphalt", "concrete", "paving") and rng.random() < 0.25
        else 0.0
    )
    roughness = nodes.remap(patches, 0.35, 0.65, rough[0] - damp * 1.3, rough[1] - damp)
    nodes.set(shader, Base_Color=colour, Roughness=roughness, Specular_IOR_Level=0.35)
    if relief:
        nodes.set(shader, Normal=nodes.bump(fine, relief))
    return material


def slab(centre, half, material, turn=0.0, z=0.0):
    """A thin box whose top lies at z."""
    vertices, faces = box_mesh((*half, 0.1))
    return add_mesh(
        "slab",
        vertices,
        faces,
        [material],
        smooth=False,
        location=(*centre, z - 0.1),
        rotation=(0, 0, turn),
    )


def marking(rng, centre, half, colour=(0.55, 0.55, 0.53), turn=0.0):
    """A worn painted line on the ground."""
    material, nodes, shader = new_material("marking")
    wear = nodes.noise(nodes.position(), 14.0, 8.0)
    threshold = rng.uniform(0.32, 0.5)
    visible = nodes.remap(wear, threshold, threshold + 0.06)
    nodes.set(shader, Base_Color=colour, Roughness=0.75, Alpha=visible)
    x, y = half
    corners = np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]])
    return add_mesh(
        "marking",
        corners,
        [np.array([[0, 1, 2, 3]])],
        [material],
        smooth=False,
        location=(*centre, 0.003),
        rotation=(0, 0, turn),
    )


def tyre_marks(rng, turn):
    """Two dark tracks, as wide apart as wheels are, along the direction `turn`."""
    material, nodes, shader = new_material("tracks")
    shade = nodes.remap(
        nodes.noise(nodes.position(), 0.8, 6.0), 0.4, 0.7, 0.0, rng.uniform(0.25, 0.55)
    )
    nodes.set(shader, Base_Color=(0.015, 0.015, 0.016), Roughness=0.7, Alpha=shade)
    offset, length = rng.normal(0, 0.8), 18.0
    x = np.linspace(-length, length, 40)
    bend = offset + rng.normal(0, 0.01) * x**2 / 4
    for side in (-0.75, 0.75):
        vertices = np.concatenate(
            [np.stack([x, bend + side + w, 0 * x + 0.002], -1) for w in (-0.11, 0.11)]
        )
        add_mesh(
            "track", vertices, [grid_faces(2, 40)], [material], smooth=False, rotation=(0, 0, turn)
        )


def litter(rng, centre, radius, n, dry):
    """Fallen leaves and pebbles, thicker where the wind left them."""
    heaps = zip(rng.uniform(-radius, radius, (5, 2)), rng.uniform(0.3, radius, 5), strict=True)
    place = (
        np.concatenate([rng.normal(middle, spread, (n // 5, 2)) for middle, spread in heaps])
        + centre
    )
    m, size, turn = (
        len(place),
        rng.uniform(0.008, 0.03, len(place)),
        rng.uniform(0, 2 * np.pi, (len(place), 1)),
    )
    angle = turn + np.linspace(0, 2 * np.pi, 4, endpoint=False)
    corners = np.stack(
        [
            place[:, :1] + np.cos(angle) * size[:, None],
            place[:, 1:] + np.sin(angle) * size[:, None] * 0.7,
            rng.uniform(0.003, 0.02, (m, 4)),
        ],
        -1,
    )
    colour = (0.13, 0.085, 0.04) if dry else (0.20, 0.19, 0.17)
    add_mesh(
        "litter",
        corners.reshape(-1, 3),
        [np.arange(4 * m).reshape(-1, 4)],
        [plain(colour, roughness=0.8)],
        smooth=False,
    )
