import json
from pathlib import Path

import pytest
import torch

from autoencoders import data, detection, inspection, losses, models

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


@pytest.fixture(scope="module")
def parts():
    return data.wheels()


@pytest.fixture
def small(parts):
    """A few wheels of 32x32, with each kind of defect twice among the unseen."""
    unseen_good = parts.unseen[parts.defect[parts.unseen] == 0]
    chosen = [parts.train[:10], parts.validation[:4], unseen_good[:4]]
    for number in range(1, len(parts.defects)):
        chosen.append((parts.defect == number).nonzero()[:2, 0])
    numbers = torch.cat(chosen)
    pool = torch.nn.functional.avg_pool2d
    return parts._replace(
        pictures=pool(parts.pictures[numbers], 4),
        masks=(pool(parts.masks[numbers], 4) > 0.3).float(),
        defect=parts.defect[numbers],
        train=torch.arange(10),
        validation=torch.arange(10, 14),
        unseen=torch.arange(14, len(numbers)),
        files=[parts.files[number] for number in numbers],
    )


def test_equal_terms(small):
    """Only the corruption differs: the same start, as many steps on the same pictures."""
    assert tuple(inspection.CORRUPTIONS) == detection.TASKS
    trained = {}
    for task in detection.TASKS:
        good = small.pictures[small.train]
        trained[task] = inspection.train_restorer(task, good, seed=1, steps=4)
    counts = {models.parameters(model) for model in trained.values()}
    assert counts == {316_764}
    again = inspection.train_restorer("masked", small.pictures[small.train], seed=1, steps=4)
    for one, other in zip(again.parameters(), trained["masked"].parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_learns_to_restore(small):
    good = small.pictures[small.train]
    before = losses.mse(inspection.restorer(), inspection.CORRUPTIONS["colourisation"](good))
    model = inspection.train_restorer("colourisation", good, steps=60)
    after = losses.mse(model, inspection.CORRUPTIONS["colourisation"](good))
    assert after["loss"] < 0.2 * before["loss"]


def test_grey_cameras_leave_colourisation_out(small):
    grey = small.pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert inspection.tasks_for(small) == detection.TASKS
    assert inspection.tasks_for(small._replace(pictures=grey)) == ("inpainting", "masked")
    with pytest.raises(ValueError, match="colourisation of pictures without colours"):
        inspection.train_restorer("colourisation", grey[:8], steps=1)
    with pytest.raises(ValueError, match="task='jigsaw': expected one of colourisation"):
        inspection.train_restorer("jigsaw", grey[:8], steps=1)


def test_evaluate_perfect_maps(small):
    masks = small.masks[small.unseen]
    found = inspection.evaluate(masks.amax((1, 2, 3)), small, masks)
    assert found["image"] == found["aupr"] == found["pixel"] == 1
    assert found["pro"] == pytest.approx(1)
    assert set(found["by_defect"]) == set(small.defects[1:])
    without = inspection.evaluate(masks.amax((1, 2, 3)), small._replace(masks=None), masks)
    assert set(without) == {"image", "aupr", "by_defect"}


def test_recipes_write_what_the_notebook_reads(tmp_path, monkeypatch, small):
    monkeypatch.setattr(data, "wheels", lambda: small)
    monkeypatch.setattr(inspection, "STEPS", 2)
    monkeypatch.setattr(inspection, "FEW", 4)
    monkeypatch.setattr(inspection, "SEEDS", (0, 1))
    planned = inspection.restorer_training
    quick = lambda *given, **named: planned(*given, **named | {"steps": 2})  # noqa: E731
    monkeypatch.setattr(inspection, "restorer_training", quick)
    for name, recipe in inspection.RECIPES.items():
        out = tmp_path / f"{name}.out"
        recipe(out)
        if name in ("wheels-seeds", "wheels-few"):
            runs = json.loads(out.read_text("utf-8"))
            key = "task" if name == "wheels-seeds" else "condition"
            shipped = json.loads((NOTEBOOKS / f"{name.replace('-', '_')}.json").read_text("utf-8"))
            assert {run[key] for run in runs} == {run[key] for run in shipped}
            assert {run["seed"] for run in shipped} == {0, 1, 2}
            assert set(runs[0]) == set(shipped[0])
            # Given again, it finds all of it done.
            recipe(out)
            assert json.loads(out.read_text("utf-8")) == runs
        else:
            assert models.parameters(models.load(out, models.ConvDenoiser)) == 316_764
    assert len(list(tmp_path.iterdir())) == len(inspection.RECIPES), "no checkpoint is left"


def test_shipped_weights_are_small_and_restore(parts):
    x = parts.pictures[parts.validation[:2]]
    for task in detection.TASKS:
        path = NOTEBOOKS / f"wheels_{task}.pt"
        assert path.stat().st_size < 1_000_000
        model = models.load(path, models.ConvDenoiser)
        restored = detection.restore(model, task, x)
        error = ((restored - x) ** 2).mean() / x.var()
        assert error < 0.15, f"{task}: {error:.3f} of the pictures' variance"
