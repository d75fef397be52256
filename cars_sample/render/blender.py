"""The few things we ask of Blender: objects from arrays, images from arrays, materials from short descriptions."""

import bpy
import numpy as np


def clear_scene():
    bpy.ops.wm.read_factory_settings(use_empty=True)


def add_object(name, data, location=(0, 0, 0), rotation=(0, 0, 0), scale=1.0):
    thing = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(thing)
    thing.location, thing.rotation_euler = location, rotation
    thing.scale = (scale, scale, scale) if np.isscalar(scale) else scale
    return thing


def add_mesh(
    name,
    vertices,
    faces,
    materials,
    uv=None,
    material_index=None,
    smooth=True,
    sharp=None,
    **placement,
):
    """An object from vertices (n, 3) and a list of face arrays (m, corners); `uv` has a list of (m, corners, 2) like them.
    `sharp` is the angle in degrees above which an edge stays sharp."""
    faces = [np.asarray(f) for f in faces]
    corners = np.concatenate([np.full(len(f), f.shape[1]) for f in faces])
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices, np.float32).ravel())
    mesh.loops.add(corners.sum())
    mesh.loops.foreach_set(
        "vertex_index", np.concatenate([f.ravel() for f in faces]).astype(np.int32)
    )
    mesh.polygons.add(len(corners))
    mesh.polygons.foreach_set("loop_start", (np.cumsum(corners) - corners).astype(np.int32))
    mesh.polygons.foreach_set("use_smooth", np.full(len(corners), smooth))
    if material_index is not None:
        mesh.polygons.foreach_set("material_index", np.asarray(material_index, np.int32))
    if uv is not None:
        layer = mesh.uv_layers.new(name="UV")
        layer.data.foreach_set(
            "uv", np.concatenate([np.asarray(u, np.float32).reshape(-1, 2) for u in uv]).ravel()
        )
    mesh.update(calc_edges=True)
    mesh.validate()
    if sharp is not None:
        mesh.set_sharp_from_angle(angle=np.radians(sharp))
    for material in materials:
        mesh.materials.append(material)
    return add_object(name, mesh, **placement)


def subtract(thing, cutters):
    """Cut closed meshes out of a closed mesh and remove them. Fails loudly, where Blender's solver silently does nothing."""
    for cutter in cutters:
        modifier = thing.modifiers.new("cut", "BOOLEAN")
        modifier.operation, modifier.object, modifier.solver = "DIFFERENCE", cutter, "MANIFOLD"
        modifier.material_mode = "TRANSFER"
    before = len(thing.data.vertices)
    graph = bpy.context.evaluated_depsgraph_get()
    thing.data = bpy.data.meshes.new_from_object(thing.evaluated_get(graph))
    thing.modifiers.clear()
    assert len(thing.data.vertices) != before, "nothing was cut: are all meshes closed?"
    thing.data.set_sharp_from_angle(angle=np.radians(38))
    for cutter in cutters:
        bpy.data.objects.remove(cutter)


class Nodes:
    """A node tree, built by `add(type, input=value or socket, ...)`. Attributes are set before inputs, whose names may have
    underscores for spaces or be given by number as `_0`, `_1`."""

    def __init__(self, tree):
        self.tree = tree

    def add(self, kind, attributes=None, **inputs):
        node = self.tree.nodes.new("ShaderNode" + kind)
        for key, value in (attributes or {}).items():
            setattr(node, key, value)
        self.set(node, **inputs)
        return node

    def set(self, node, **inputs):
        for key, value in inputs.items():
            socket = (
                node.inputs[int(key[1:])] if key[0] == "_" else node.inputs[key.replace("_", " ")]
            )
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = (
                    (*value, 1)
                    if np.ndim(value) == 1 and socket.type == "RGBA" and len(value) == 3
                    else value
                )

    def math(self, operation, *values):
        return self.add(
            "Math", {"operation": operation}, **{f"_{i}": v for i, v in enumerate(values)}
        ).outputs[0]

    def mix(self, factor, a, b, blend="MIX"):
        return self.add(
            "Mix", {"data_type": "RGBA", "blend_type": blend}, _0=factor, _6=a, _7=b
        ).outputs[2]

    def remap(self, value, low, high, to_low=0.0, to_high=1.0):
        return self.add("MapRange", _0=value, _1=low, _2=high, _3=to_low, _4=to_high).outputs[0]

    def noise(self, vector, scale, detail=4.0, distortion=0.0):
        return self.add(
            "TexNoise", Vector=vector, Scale=scale, Detail=detail, Distortion=distortion
        ).outputs[0]

    def bump(self, height, distance, **inputs):
        return self.add("Bump", Height=height, Distance=distance, **inputs).outputs[0]

    def position(self):
        return self.add("TexCoord").outputs["Object"]


def new_material(name):
    """A material, its nodes, and its Principled shader."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    return material, Nodes(material.node_tree), material.node_tree.nodes["Principled BSDF"]


def output(nodes, shader):
    nodes.set(nodes.tree.nodes["Material Output"], Surface=shader)


def plain(colour, metallic=0.0, roughness=0.5, coat=0.0, glow=None, car_paint=False):
    """One colour all over. `glow` in W/m² makes a lamp of it; `car_paint` takes the colour from the object instead."""
    material, nodes, shader = new_material("plain")
    nodes.set(
        shader, Base_Color=tuple(colour), Metallic=metallic, Roughness=roughness, Coat_Weight=coat
    )
    if glow is not None:
        nodes.set(shader, Emission_Color=tuple(colour), Emission_Strength=glow)
    if car_paint:
        nodes.set(shader, Base_Color=nodes.add("ObjectInfo").outputs["Color"])
    return material


def to_srgb(linear):
    return np.where(
        linear < 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055
    )


def image(array, colour=False):
    """A Blender image from an array (h, w) or (h, w, 3) in [0, 1]; the first row is v = 0. `colour` arrays are linear light."""
    height, width = array.shape[:2]
    pixels = np.ones((height, width, 4), np.float32)
    clipped = np.clip(array if array.ndim == 3 else array[..., None], 0, 1)
    pixels[..., :3] = to_srgb(clipped) if colour else clipped
    picture = bpy.data.images.new("canvas", width, height, alpha=False, float_buffer=False)
    if not colour:
        picture.colorspace_settings.name = "Non-Color"
    picture.pixels.foreach_set(pixels.ravel())
    picture.update()
    return picture


def painted(canvas, bump=0.004, waviness=0.0, repeat=False, glass=None, car_paint=False):
    """A material from a `shapes.Canvas`. `bump` is the height in metres of its height channel, `waviness` that of slow dents in
    the sheet metal, which make reflections wobble. `glass` is the tint (r, g, b) of the canvas's glass; None: it has none."""
    material, nodes, shader = new_material("painted")

    def texture(array, colour=False):
        return nodes.add(
            "TexImage",
            {"image": image(array, colour), "extension": "REPEAT" if repeat else "EXTEND"},
        ).outputs[0]

    colour = texture(canvas.colour, colour=True)
    if car_paint:
        colour = nodes.mix(texture(canvas.paint), colour, nodes.add("ObjectInfo").outputs["Color"])
    surface = nodes.add("SeparateColor", _0=texture(canvas.surface)).outputs
    normal = nodes.bump(texture(canvas.height), bump)
    if waviness:
        normal = nodes.bump(nodes.noise(nodes.position(), 2.2, 1.0), waviness, Normal=normal)
        nodes.set(shader, Coat_Normal=normal)
    nodes.set(
        shader,
        Base_Color=colour,
        Metallic=surface[0],
        Roughness=surface[1],
        Coat_Weight=surface[2],
        Coat_Roughness=0.02,
        Normal=normal,
    )
    if glass is not None:
        # Thin glass: a tinted transparency, and a mirror by Fresnel's law, twice, because a pane has two faces.
        masks = nodes.add(
            "SeparateColor", _0=texture(np.stack([canvas.glass, canvas.tint, 0 * canvas.tint], -1))
        ).outputs
        clear = nodes.add(
            "BsdfTransparent", Color=nodes.mix(masks[1], (*glass, 1), (0.05, 0.055, 0.055, 1))
        )
        mirror = nodes.add("BsdfGlossy", Roughness=0.0)
        reflectance = nodes.add(
            "Math",
            {"operation": "MULTIPLY", "use_clamp": True},
            _0=nodes.add("Fresnel", IOR=1.5).outputs[0],
            _1=1.6,
        )
        pane = nodes.add(
            "MixShader", _0=reflectance.outputs[0], _1=clear.outputs[0], _2=mirror.outputs[0]
        )
        lining = nodes.add("BsdfDiffuse", Color=(0.05, 0.048, 0.045))
        inside = nodes.add("NewGeometry").outputs["Backfacing"]
        sheet = nodes.add("MixShader", _0=inside, _1=shader.outputs[0], _2=lining.outputs[0])
        output(
            nodes,
            nodes.add("MixShader", _0=masks[0], _1=sheet.outputs[0], _2=pane.outputs[0]).outputs[0],
        )
    return material
