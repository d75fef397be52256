"""From where a car is seen: direction, height, focal length, and the distance at which it fills the picture."""

from dataclasses import dataclass

import bpy
import numpy as np
from blender import add_object
from shapes import generator, pick

SENSOR = 36.0  # mm
VIEWS = {"front": 8, "front three-quarter": 50, "side": 12, "rear three-quarter": 23, "rear": 7}


@dataclass(frozen=True)
class View:
    label: str  # front, front-left, side-left, rear-left, rear, ...
    direction: np.ndarray  # unit vector (x, y) from the car to the camera
    position: np.ndarray  # metres
    target: np.ndarray
    focal_length: float  # mm on a 36 mm wide square sensor
    f_number: float
    roll: float  # radians


def draw_view(seed, design):
    rng = generator(seed, "camera")
    kind = pick(rng, VIEWS)
    azimuth = np.radians(
        {
            "front": rng.normal(0, 7),
            "front three-quarter": rng.uniform(22, 62),
            "side": rng.normal(90, 7),
            "rear three-quarter": rng.uniform(116, 157),
            "rear": rng.normal(180, 7),
        }[kind]
    )
    side = rng.choice([1, -1])  # 1: the car's left
    azimuth = azimuth * side
    focal_length = np.exp(rng.uniform(np.log(30), np.log(90)))
    height = np.clip(rng.normal(1.45, 0.33), 0.55, 2.4)
    if rng.random() < 0.07:
        height = rng.uniform(2.6, 4.0)
    fill = rng.uniform(0.92, 1.13)
    direction = np.array([np.cos(azimuth), np.sin(azimuth)])
    position, target = frame(design, direction, height, focal_length, fill, rng)
    word = {"front three-quarter": "front", "rear three-quarter": "rear"}.get(kind, kind)
    # Seen from behind, the car's own left is on the left; labels always name the car's side that faces the camera.
    label = word if kind in ("front", "rear") else f"{word}-{'left' if side > 0 else 'right'}"
    return View(
        label,
        direction,
        position,
        target,
        focal_length,
        rng.choice([1.8, 2.8, 4, 5.6, 8]),
        rng.normal(0, 0.012),
    )


def frame(design, direction, height, focal_length, fill, rng):
    """Camera position and target such that the car spans the share `fill` of the picture, a little off centre."""
    length, width, top = design.length / 2, design.width / 2, design.height
    corners = [
        [x * 0.97, y * 0.97, z]
        for x in (-length, length)
        for y in (-width, width)
        for z in (0.0, top * 0.55)
    ]
    corners += [
        [x, y, top] for x in (-length * 0.45, length * 0.3) for y in (-width * 0.7, width * 0.7)
    ]
    target, distance = np.array([0, 0, top * rng.uniform(0.44, 0.54)]), 6.0
    offset = rng.normal(0, 0.025)
    for _ in range(40):
        position = np.array([*direction * distance, height])
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        relative = corners - position
        depth = relative @ forward * SENSOR / 2 / focal_length
        across, up = relative @ right / depth, relative @ np.cross(right, forward) / depth
        extent = max(np.ptp(across) / 2, np.abs(up).max() * 1.05)
        distance *= 1 + 0.8 * (extent / fill - 1)
        middle = (across.max() + across.min()) / 2 - offset
        target = target + right * middle * SENSOR / 2 / focal_length * distance * 0.5
    return position, target


def place_camera(view):
    from mathutils import Quaternion, Vector

    camera = bpy.data.cameras.new("camera")
    camera.lens, camera.sensor_width, camera.clip_end = view.focal_length, SENSOR, 2000
    thing = add_object("camera", camera, view.position)
    thing.rotation_mode = "QUATERNION"
    look = Vector(view.target - view.position).to_track_quat("-Z", "Y")
    thing.rotation_quaternion = look @ Quaternion((0, 0, 1), view.roll)
    camera.dof.use_dof, camera.dof.aperture_fstop = True, float(view.f_number)
    camera.dof.focus_distance = float(np.linalg.norm(view.position - view.target)) - 1.0
    bpy.context.scene.camera = thing


def remove_camera():
    """Take the camera out again, where one scene is seen from several places."""
    camera = bpy.context.scene.camera
    if camera is not None:
        bpy.data.objects.remove(camera)
