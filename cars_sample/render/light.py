"""Sky, clouds and sun outdoors; lamps indoors."""

import bpy
import numpy as np
from blender import Nodes, add_mesh, add_object, plain
from shapes import box_mesh, generator, lerp


def new_world(strength=1.0, colour=None):
    world = bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    # Sampling the sky by a map of its brightness, small because making it takes longer than the rendering.
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 256
    nodes = Nodes(world.node_tree)
    background = world.node_tree.nodes["Background"]
    nodes.set(background, Strength=strength)
    if colour is not None:
        nodes.set(background, Color=colour)
    return nodes, background


def daylight(seed, view):
    """A sky with clouds, and a sun anywhere, more often behind the photographer; three in ten skies are overcast."""
    rng = generator(seed, "sky")
    elevation = np.radians(rng.uniform(12, 62))
    towards_camera = np.arctan2(view.direction[1], view.direction[0])
    azimuth = towards_camera + rng.choice([1, -1]) * abs(rng.normal(0.8, 0.75))
    overcast = rng.random() < 0.32
    nodes, background = new_world()
    sky = nodes.add(
        "TexSky",
        {
            "sky_type": "MULTIPLE_SCATTERING",
            "sun_elevation": elevation,
            "sun_rotation": np.pi / 2 - azimuth,
            "sun_disc": False,
            "altitude": 200.0,
        },
    )
    # Clouds: noise on a plane above, seen in perspective.
    ray = nodes.add("TexCoord").outputs["Generated"]
    rise = nodes.math("ADD", nodes.add("SeparateXYZ", _0=ray).outputs[2], 0.18)
    plane = nodes.add(
        "VectorMath",
        {"operation": "DIVIDE"},
        _0=ray,
        _1=nodes.add("CombineXYZ", X=rise, Y=rise, Z=rise).outputs[0],
    ).outputs[0]
    plane = nodes.add(
        "VectorMath", {"operation": "ADD"}, _0=plane, _1=tuple(rng.uniform(-20, 20, 3))
    ).outputs[0]
    start = 0.15 if overcast else rng.uniform(0.38, 0.62)
    cover = nodes.remap(nodes.noise(plane, rng.uniform(0.7, 1.6), 7.0), start, start + 0.28)
    bright = (6 + 8 * np.sin(elevation)) if overcast else (8 + 10 * np.sin(elevation))
    nodes.set(
        background,
        Color=nodes.mix(cover, sky.outputs[0], (bright * 0.97, bright, bright * 1.04, 1)),
    )
    if not overcast:
        sun = bpy.data.lights.new("sun", "SUN")
        warm = min(1.0, elevation)
        sun.energy = rng.uniform(45, 85) * min(1.0, 0.35 + np.sin(elevation))
        sun.angle, sun.color = np.radians(1.0), (1, lerp(0.78, 0.96, warm), lerp(0.55, 0.90, warm))
        from mathutils import Vector

        ray = -np.array(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        )
        add_object("sun", sun).rotation_euler = Vector(ray).to_track_quat("-Z", "Y").to_euler()


def panel(centre, half, watts, rotation=(0, 0, 0), seen=True, colour=(1, 0.97, 0.92)):
    """A glowing rectangle."""
    vertices, faces = box_mesh(half)
    lamp = add_mesh(
        "lamp",
        vertices,
        faces,
        [plain(colour, glow=watts)],
        smooth=False,
        location=centre,
        rotation=rotation,
    )
    lamp.visible_camera = seen
    return lamp
