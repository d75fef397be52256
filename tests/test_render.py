"""The generator of the cars sample.

Shapes need NumPy only; pictures need bpy, which the course itself does not install.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RENDER = Path(__file__).parents[1] / "cars_sample" / "render"
needs_bpy = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None,
    reason="pictures by Blender, because bpy is not installed (mend: as in cars_sample/README.md, "
    "then .render/bin/python -m pytest --noconftest tests/test_render.py)",
)


@pytest.fixture
def generator_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(RENDER))
    import body
    import shapes

    return body, shapes


def volume(vertices, faces):
    """By the divergence theorem: positive if the faces look outwards."""
    total = 0.0
    for f in faces:
        for k in range(1, f.shape[1] - 1):
            a, b, c = vertices[f[:, 0]], vertices[f[:, k]], vertices[f[:, k + 1]]
            total += np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    return total


@pytest.mark.parametrize("seed", range(7))
def test_shells_are_closed_and_of_a_cars_volume(generator_modules, seed):
    body, shapes = generator_modules
    design = body.draw_design(seed, list(body.DESIGNS)[seed])
    lower = body.LowerBody(design)
    house = body.Greenhouse(design, lower, seed)
    for part, (columns, rows), (least, most) in (
        (lower, (150, 36), (4, 12)),
        (house, (110, 24), (0.7, 7)),
    ):
        vertices, faces, uv = body.shell(
            part.surface(columns, rows), part.cap, design.length, lower.half
        )
        assert shapes.directed_edges_once(faces)
        assert least < volume(vertices, faces) < most
        assert [len(f) for f in faces] == [len(u) for u in uv]


def test_an_open_or_twisted_mesh_is_found(generator_modules):
    _, shapes = generator_modules
    _, faces = shapes.box_mesh((1, 1, 1))
    assert shapes.directed_edges_once(faces)
    assert not shapes.directed_edges_once([faces[0][1:]])
    twisted = faces[0].copy()
    twisted[2] = twisted[2][::-1]
    assert not shapes.directed_edges_once([twisted])


def test_primitives_have_their_volume(generator_modules):
    _, shapes = generator_modules
    assert volume(*shapes.box_mesh((1, 2, 3))) == pytest.approx(48)
    cylinder = shapes.revolve([(1, 1), (1, 0)], 256, closed=True)
    assert shapes.directed_edges_once(cylinder[1])
    assert volume(*cylinder) == pytest.approx(np.pi, rel=1e-3)
    ball = shapes.cushion_mesh((1, 1, 1), exponent=2, rows=65, columns=128)
    assert shapes.directed_edges_once(ball[1])
    assert volume(*ball) == pytest.approx(4 / 3 * np.pi, rel=5e-3)


def test_signed_distances(generator_modules):
    _, shapes = generator_modules
    x, y = np.array([0.0, 3.0, 1.5, 0.0]), np.array([0.0, 0.0, 0.0, -4.0])
    np.testing.assert_allclose(shapes.sd_box(x, y, 0, 0, 2, 1), [-1, 1, -0.5, 3])
    np.testing.assert_allclose(
        shapes.sd_polygon(x, y, [(-2, -1), (2, -1), (2, 1), (-2, 1)]), [-1, 1, -0.5, 3]
    )


def test_each_element_has_a_seed_of_its_own(generator_modules):
    _, shapes = generator_modules
    draws = {name: shapes.generator(7, name).random() for name in ("design", "camera", "sky")}
    assert len(set(draws.values())) == 3
    assert draws["sky"] == shapes.generator(7, "sky").random()


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(RENDER), *map(str, arguments)],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--count", "0"], "'0'"), (["--first-seed", "-1"], "expected"), ([], "--out")],
)
def test_bad_options(arguments, expected):
    result = run(*arguments)
    assert result.returncode == 2 and expected in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("bpy") is not None, reason="bpy is installed")
def test_missing_bpy_is_explained(tmp_path):
    result = run("--count", 1, "--out", tmp_path)
    assert result.returncode == 1
    assert (
        "bpy" in result.stderr
        and "Python 3.11" in result.stderr
        and "requirements.txt" in result.stderr
    )
    assert "Traceback" not in result.stderr


@needs_bpy
def test_a_seed_is_a_picture(tmp_path):
    for folder in ("a", "b"):
        result = run("--count", 1, "--first-seed", 7, "--size", 64, "--out", tmp_path / folder)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "a/car_007.png").read_bytes() == (tmp_path / "b/car_007.png").read_bytes()
    assert (tmp_path / "a/cars.csv").read_bytes() == (tmp_path / "b/cars.csv").read_bytes()


@needs_bpy
def test_a_batch_goes_on_where_it_was_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run("--count", 3, "--size", 32, "--out", whole).returncode == 0
    process = subprocess.Popen(
        [sys.executable, str(RENDER), "--count", "3", "--size", "32", "--out", str(killed)],
        stderr=subprocess.DEVNULL,
    )
    while not (killed / "car_000.png").exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    (killed / ".car_001.png.part").write_bytes(b"half a picture")
    before = (killed / "car_000.png").stat().st_mtime_ns
    assert run("--count", 3, "--size", 32, "--out", killed).returncode == 0
    assert (killed / "car_000.png").stat().st_mtime_ns == before
    assert {p.name: p.read_bytes() for p in killed.iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()
    }


@needs_bpy
def test_pictures_of_another_size_stop_it(tmp_path):
    assert run("--count", 1, "--size", 32, "--out", tmp_path).returncode == 0
    result = run("--count", 1, "--size", 48, "--out", tmp_path)
    assert result.returncode == 1 and "32×32" in result.stderr and "48" in result.stderr


@needs_bpy
@pytest.mark.parametrize("name", ["turntable", "wheels", "bodies"])
def test_a_seed_of_each_set_is_a_picture(tmp_path, name):
    """The same bytes twice, however many processes share the work."""
    for folder, workers in (("a", 1), ("b", 2)):
        result = run(name, "--limit", 2, "--workers", workers, "--out", tmp_path / folder)
        assert result.returncode == 0, result.stderr
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@needs_bpy
def test_defects_leave_the_rest_alone():
    """A nut of the same grey, a patch of the same hue; nothing differs far from the mask."""
    script = """
import numpy as np
import wheel_bench as bench
from scipy import ndimage
for kind in ("nut_colour", "brightness"):
    picture, mask = bench.defective(410001, kind)
    intact = bench.with_grain(bench.render_clean(410001), 410001)
    far = ~ndimage.binary_dilation(mask > 0, iterations=6)
    assert mask.any() and (picture[far] == intact[far]).all(), kind
    inside = (mask > 0) & (picture.max(-1) < 250) & (intact.max(-1) < 250)
    before, after = (x[inside].astype(float) for x in (intact, picture))
    if kind == "nut_colour":
        assert np.abs((after - before) @ bench.LUMA).max() < 1.5
        assert np.abs(after - before).max() > 20
    else:
        ratio = (after @ bench.LUMA) / (before @ bench.LUMA)
        assert np.abs(after - ratio[:, None] * before).max() < 8
        assert np.abs(ratio - 1).max() > 0.1
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=RENDER,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr


def test_plans_leave_out_faulty_seeds(generator_modules, tmp_path, monkeypatch):
    import jobs

    table = tmp_path / "faulty.csv"
    table.write_text("set,seed,reason\nwheels,3,tiny\nwheels,5,tiny\nbodies,4,hidden\n", "utf-8")
    monkeypatch.setattr(jobs, "FAULTY", table)
    assert jobs.faultless("wheels", 2, 3) == [2, 4, 6]
    assert jobs.faultless("bodies", 2, 3) == [2, 3, 5]


@pytest.mark.parametrize("arguments", [["lorries"], ["wheels", "--limit", "0"]])
def test_bad_sets(arguments, tmp_path):
    result = run(*arguments, "--out", tmp_path)
    assert result.returncode == 2 and repr(arguments[-1]) in result.stderr
