"""The trainings behind notebook 04, made short: they do as they say, and go on where they were."""

import json

import numpy as np
import pytest

from autoencoders import __main__ as command_line
from autoencoders import course, data, metrics
from autoencoders.codec import recipes


@pytest.fixture
def cars():
    return data.cars(128, limit=20)[0]


def stored(name: str) -> list[dict]:
    return json.loads((course.ROOT / "notebooks" / name).read_text("utf-8"))


@pytest.mark.parametrize("idea", recipes.STEPS)
def test_what_an_idea_lacks_stays_at_its_start(cars, idea):
    start = recipes.small_learned_codec().start_from_pca(cars[data.split(20).train])
    model = recipes.train_step(idea, 0, cars, epochs=1)
    networks = model.post[-2].weight.abs().sum() + model.analysis_net[-1].weight.abs().sum()
    neighbours = sum(layer.weight.abs().sum() for part in model.context for layer in part.last)
    assert (networks > 0) == recipes.STEPS[idea]["networks"]
    assert (neighbours > 0) == recipes.STEPS[idea]["neighbours"]
    # The scales are trained in any case.
    assert not np.allclose(model.context[0].last[0].bias, start.context[0].last[0].bias.detach())


def test_students_go_on_where_they_were(tmp_path, monkeypatch):
    trained = []

    def train(taught, seed, cars, epochs):
        trained.append((taught, seed))
        return 28.0 + taught

    monkeypatch.setattr(recipes, "train_small_student", train)
    out = tmp_path / "students.json"
    out.write_text(json.dumps([{"taught": True, "seed": 0, "psnr": 27.0}]), "utf-8")
    assert command_line.main(["recipe", "distillation", "--out", str(out)]) == 0
    runs = json.loads(out.read_text("utf-8"))
    assert len(trained) == 9 and (True, 0) not in trained
    assert [run["psnr"] for run in runs[:3]] == [27.0, 28.0, 29.0]


def test_a_damaged_file_is_named(tmp_path, capsys):
    out = tmp_path / "steps.json"
    out.write_text('[{"idea": ')
    assert command_line.main(["recipe", "codec-steps", "--out", str(out)]) == 1
    assert "steps.json cannot be read" in (told := capsys.readouterr().err) and "delete it" in told


def test_the_stored_runs_are_whole():
    there = {(run["idea"], run["seed"]) for run in stored("codec_steps.json")}
    assert there == {(idea, seed) for idea in recipes.STEPS for seed in recipes.SEEDS}
    there = {(run["taught"], run["seed"]) for run in stored("distillation.json")}
    assert there == {(taught, seed) for taught in (True, False) for seed in recipes.STUDENT_SEEDS}


def test_the_archive_lies_between_the_stored_sheets():
    cars = data.to_bytes(data.cars(128, course.ROOT / "cars_sample")[0])
    archive = course.load_results(course.COMMITTED)["archive.psnr"]["value"]
    levels = []
    for stem in ("hundred_cars_coarser", "hundred_cars"):
        file = (course.ROOT / "notebooks" / f"{stem}.avif").read_bytes()
        levels.append(metrics.psnr(cars, recipes.cut_sheet(file)).mean())
    assert levels[0] < archive <= levels[1] < levels[0] + 0.5
