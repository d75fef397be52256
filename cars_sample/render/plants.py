"""Trees, hedges and grass, as clouds of small leaves around branches that grow."""

import numpy as np
from blender import add_mesh, new_material, output, plain
from shapes import pick

LEAF_COLOURS = {  # weight by which a plant has it; linear light
    (0.040, 0.075, 0.018): 30,
    (0.060, 0.090, 0.022): 25,
    (0.028, 0.050, 0.018): 25,
    (0.090, 0.095, 0.025): 10,
    (0.150, 0.075, 0.018): 5,
    (0.075, 0.080, 0.045): 5,
}


def leaf_material(rng, brightness=1.0):
    """Leaves let part of the light through: opaque ones turn black."""
    base = np.array(pick(rng, LEAF_COLOURS)) * brightness
    material, nodes, shader = new_material("leaves")
    spot = nodes.position()
    clump, leaf = nodes.noise(spot, 0.9, 2.0), nodes.noise(spot, 9.0, 1.0)
    mixed = nodes.math(
        "ADD", nodes.math("MULTIPLY", clump, 0.55), nodes.math("MULTIPLY", leaf, 0.45)
    )
    colour = nodes.mix(
        nodes.remap(mixed, 0.32, 0.68),
        (*base * 0.55, 1),
        (*np.minimum(base * (2.3, 2.0, 1.7), 1), 1),
    )
    nodes.set(shader, Base_Color=colour, Roughness=0.5)
    through = nodes.add("BsdfTranslucent", Color=colour)
    output(
        nodes,
        nodes.add("MixShader", _0=0.38, _1=shader.outputs[0], _2=through.outputs[0]).outputs[0],
    )
    return material


def bark():
    return plain((0.055, 0.042, 0.032), roughness=0.9)


def scatter_leaves(rng, clumps, n, size, outward):
    """n quads around clumps (x, y, z, radius), facing away from the point `outward` more than at random, as leaves do."""
    chosen = clumps[rng.integers(len(clumps), size=n)]
    spread = rng.normal(size=(n, 3)).clip(-2, 2) * (0.46, 0.46, 0.34)
    place = chosen[:, :3] + spread * chosen[:, 3:]
    normal = place - outward
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True) + rng.normal(size=(n, 3)) * 0.7
    a = np.cross(normal, rng.normal(size=(n, 3)))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(normal, a)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    scale = size * rng.uniform(0.5, 1.5, (n, 1))
    vertices = np.stack(
        [place - a * scale, place - b * scale * 0.55, place + a * scale, place + b * scale * 0.55],
        1,
    )
    return vertices.reshape(-1, 3), np.arange(4 * n).reshape(-1, 4)


def grow(rng, height, crown_base, width, levels):
    """Branches (start, end, radius) of a tree and the tips where leaves grow, by repeated forking towards the light."""
    branches, tips = [], []

    def branch(start, direction, length, radius, level):
        bent = direction + rng.normal(0, 0.12, 3)
        end = start + bent / np.linalg.norm(bent) * length
        branches.append((start, end, radius))
        if level >= levels - 2:
            tips.append(end)
        if level == levels:
            return
        for _ in range(rng.integers(2, 5)):
            fork = direction * 0.55 + rng.normal(size=3) * (0.62, 0.62, 0.45) + (0, 0, 0.18)
            at = start + (end - start) * rng.uniform(0.45, 1.0)
            branch(
                at,
                fork / np.linalg.norm(fork),
                length * rng.uniform(0.6, 0.85),
                radius * 0.58,
                level + 1,
            )

    root, top = np.zeros(3), np.array([*rng.normal(0, 0.05, 2) * height, height * 0.72])
    branches.append((root, top, 0.017 * height))
    for share in np.linspace(crown_base / height, 0.72, rng.integers(6, 10)):
        angle, rise = rng.uniform(0, 2 * np.pi), 0.25 + share
        out = np.array([np.cos(angle), np.sin(angle), rise])
        reach = width * height * (1.15 - 0.75 * abs(share - 0.45)) * rng.uniform(0.7, 1.1) * 0.36
        branch(top * share / 0.72, out / np.linalg.norm(out), reach, 0.008 * height, 1)
    return branches, np.array(tips)


def branch_mesh(branches, sides=5):
    """Cones from each start to each end."""
    start, end = (np.array([b[i] for b in branches]) for i in (0, 1))
    radius = np.array([b[2] for b in branches])
    axis = (end - start) / np.linalg.norm(end - start, axis=1, keepdims=True)
    across = np.cross(axis, [0.31, 0.79, 0.53])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    other = np.cross(axis, across)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[None, :, None]
    circle = across[:, None] * np.cos(angle) + other[:, None] * np.sin(angle)
    rings = np.stack(
        [
            start[:, None] + circle * radius[:, None, None],
            end[:, None] + circle * radius[:, None, None] * 0.6,
        ],
        1,
    )
    i = np.arange(sides)
    quad = np.stack([i, (i + 1) % sides, sides + (i + 1) % sides, sides + i], -1)
    faces = quad[None] + 2 * sides * np.arange(len(branches))[:, None, None]
    return rings.reshape(-1, 3), faces.reshape(-1, 4)


def build_tree(rng, height, season="green"):
    """A broad-leaved tree, a bare one ("bare"), or a conifer ("conifer"), its foot at the origin."""
    if season == "conifer":
        whorls = []
        for z in np.linspace(0.08, 0.98, 24):
            reach = (1.02 - z) ** 0.85 * height * 0.26 * rng.uniform(0.75, 1.15)
            for angle in rng.uniform(0, 2 * np.pi, 7):
                for share in (0.35, 0.7, 1.0):
                    whorls.append(
                        (
                            np.cos(angle) * reach * share,
                            np.sin(angle) * reach * share,
                            z * height - 0.25 * reach * share**2,
                            0.10 + 0.16 * reach,
                        )
                    )
        branches = [(np.zeros(3), np.array([0, 0, height * 0.97]), 0.014 * height)]
        clumps, leaves, size = np.array(whorls), 22000, 0.055
    else:
        crown = height * rng.uniform(0.2, 0.34)
        branches, tips = grow(
            rng, height, crown, rng.uniform(0.5, 0.8), 5 if season == "bare" else 4
        )
        clumps = np.concatenate([tips, rng.uniform(0.07, 0.15, (len(tips), 1)) * height], 1)
        leaves, size = (0 if season == "bare" else 48000), 0.055 * height / 8
    wood, wood_faces = branch_mesh(branches)
    if not leaves:
        return add_mesh("bare tree", wood, [wood_faces], [bark()], smooth=False)
    middle = np.array([0, 0, height * 0.5])
    vertices, faces = scatter_leaves(rng, clumps, leaves, size, middle)
    index = np.r_[np.zeros(len(faces), int), np.ones(len(wood_faces), int)]
    vertices = np.concatenate([vertices, wood])
    return add_mesh(
        "tree",
        vertices,
        [faces, wood_faces + 4 * leaves],
        [leaf_material(rng), bark()],
        material_index=index,
        smooth=False,
    )


def build_bush(rng, height):
    """A round shrub of several stems."""
    n = rng.integers(25, 50)
    clumps = np.concatenate(
        [
            rng.normal(size=(n, 3)) * (0.42, 0.42, 0.28) * height + (0, 0, height * 0.45),
            np.full((n, 1), height * 0.28),
        ],
        1,
    )
    clumps[:, 2] = np.abs(clumps[:, 2])
    vertices, faces = scatter_leaves(
        rng, clumps, 14000, 0.03 * height**0.5, np.array([0, 0, height * 0.2])
    )
    return add_mesh("bush", vertices, [faces], [leaf_material(rng)], smooth=False)


def build_hedge(rng, length, height):
    """A cut hedge along x, its top a little uneven, over a dark core."""
    n = int(length * 160)
    x, on_top = rng.uniform(-length / 2, length / 2, n), rng.random(n) < 0.3
    top = height * (1 + 0.05 * np.sin(x * 0.9 + rng.uniform(0, 6)) + 0.03 * np.sin(x * 3.1))
    y = np.where(on_top, rng.uniform(-0.4, 0.4, n), rng.choice([-0.4, 0.4], n))
    clumps = np.stack(
        [x, y, np.where(on_top, 1, rng.uniform(0.02, 1, n)) * top, np.full(n, 0.12)], -1
    )
    vertices, faces = scatter_leaves(
        rng, clumps, int(2600 * length), 0.04, np.array([0, 0, height / 2])
    )
    hedge = add_mesh("hedge", vertices, [faces], [leaf_material(rng, 0.8)], smooth=False)
    corners = np.array(
        [
            [x, y, z]
            for x in (-length / 2, length / 2)
            for y in (-0.33, 0.33)
            for z in (0, height * 0.9)
        ]
    )
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [1, 5, 7, 3]])
    return [
        hedge,
        add_mesh(
            "core", corners, [quads], [plain((0.012, 0.018, 0.006), roughness=1)], smooth=False
        ),
    ]


def build_grass(rng, centre, radius, tall=0.05, n=180000, keep=None):
    """Single blades in a disc, thicker in clumps, bleached in places. `keep(x, y)` says where blades may stand."""
    r, angle = radius * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    x, y = centre[0] + r * np.cos(angle), centre[1] + r * np.sin(angle)
    waves = rng.uniform(0.5, 4, (8, 2)) * rng.choice([-1, 1], (8, 2))
    clumps = sum(np.sin(x * a + y * b + rng.uniform(0, 6)) for a, b in waves) / 2
    stays = rng.random(n) < 1 / (1 + np.exp(-1.5 * clumps - 1))
    if keep is not None:
        stays &= keep(x, y)
    x, y, clumps = x[stays], y[stays], clumps[stays]
    n = len(x)
    high = tall * rng.uniform(0.4, 1.4, n) * (1 + 0.25 * clumps.clip(-2, 2))
    turn, lean = rng.uniform(0, 2 * np.pi, n), rng.normal(0, 0.55, (n, 2)) * high[:, None]
    wide = 0.003 + 0.003 * rng.random(n)
    base = np.stack(
        [
            np.stack([x + k * wide * np.cos(turn), y + k * wide * np.sin(turn), 0 * x], -1)
            for k in (-1, 1)
        ],
        1,
    )
    tip = np.stack([x + lean[:, 0], y + lean[:, 1], high], -1)[:, None]
    material, nodes, shader = new_material("blades")
    spot = nodes.position()
    green = nodes.mix(
        nodes.remap(nodes.noise(spot, 7.0), 0.35, 0.65),
        (0.045, 0.070, 0.016, 1),
        (0.11, 0.13, 0.04, 1),
    )
    nodes.set(
        shader,
        Roughness=0.6,
        Base_Color=nodes.mix(
            nodes.remap(nodes.noise(spot, 0.7), 0.5, 0.72), green, (0.20, 0.17, 0.075, 1)
        ),
    )
    return add_mesh(
        "grass",
        np.concatenate([base, tip], 1).reshape(-1, 3),
        [np.arange(3 * n).reshape(-1, 3)],
        [material],
        smooth=False,
    )
