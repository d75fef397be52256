"""One picture from one seed: describe, build, render, develop."""

import tempfile
from pathlib import Path

import bpy
import numpy as np
from blender import clear_scene
from body import draw_design
from camera import draw_view, place_camera
from car import build_car
from develop import develop
from setting import build_setting, draw_setting

SAMPLES = 32  # light paths a pixel
THREADS = 2


def render_radiance(seed, size, samples=SAMPLES, keep_scene=False):
    """What the camera sees: linear light, float64 (size, size, 3).

    `keep_scene` lets Cycles keep its data for the next picture of the same scene. The number of threads changes the
    time alone, not the picture.
    """
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.seed = "CPU", seed & 0x7FFFFFFF
    cycles.samples, cycles.use_adaptive_sampling = samples, False
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 6, 2, 3
    cycles.transmission_bounces, cycles.transparent_max_bounces = 2, 12
    cycles.sample_clamp_indirect, cycles.blur_glossy = 8.0, 0.5
    cycles.caustics_reflective = cycles.caustics_refractive = False
    render = scene.render
    render.resolution_x = render.resolution_y = size
    render.filter_size = 1.2
    render.threads_mode, render.threads = "FIXED", THREADS
    render.use_persistent_data = keep_scene
    render.image_settings.file_format, render.image_settings.color_depth = "OPEN_EXR", "16"
    with tempfile.TemporaryDirectory() as folder:
        render.filepath = str(Path(folder) / "radiance.exr")
        bpy.ops.render.render(write_still=True)
        loaded = bpy.data.images.load(render.filepath)
        pixels = np.empty(size * size * 4, np.float32)
        loaded.pixels.foreach_get(pixels)
    return pixels.reshape(size, size, 4)[::-1, :, :3].astype(float)


def describe(seed):
    """The labels of a seed's picture, known before it is rendered."""
    design = draw_design(seed)
    view = draw_view(seed, design)
    return {
        "seed": seed,
        "body_type": design.body_type,
        "paint": design.paint,
        "view": view.label,
        "setting": draw_setting(seed),
    }


def render_picture(seed, size=256):
    """The picture of a seed, uint8 (size, size, 3)."""
    clear_scene()
    car = build_car(seed)
    view = draw_view(seed, car.design)
    place_camera(view)
    build_setting(seed, draw_setting(seed), view)
    return develop(render_radiance(seed, size), seed)
