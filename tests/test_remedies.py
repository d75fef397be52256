import json

import numpy as np
import pytest
import torch

from autoencoders import data, models, recipes, remedies


@pytest.fixture(scope="module")
def turning():
    return data.turntable()


@pytest.fixture(scope="module")
def bodies():
    return data.bodies()


@pytest.fixture
def small(monkeypatch, turning, bodies):
    """Few pictures of both sets, in the place of all."""
    some = torch.arange(0, len(turning.pictures), 40)  # 150, and their neighbours in elevation
    few_turning = turning._replace(
        pictures=turning.pictures[some],
        elevation=turning.elevation[some],
        body_type=turning.body_type[some],
        train=torch.arange(32),
    )
    unseen = bodies.unseen[::20]
    few_bodies = bodies._replace(train=bodies.train[::10], unseen=unseen)
    monkeypatch.setattr(data, "turntable", lambda: few_turning)
    monkeypatch.setattr(data, "bodies", lambda: few_bodies)
    monkeypatch.setattr(remedies, "SEEDS", (0, 1))
    return few_turning, few_bodies


def test_varied_pictures_are_each_another_and_keep_their_labels():
    torch.manual_seed(0)
    same = torch.rand(1, 3, 32, 32).expand(6, -1, -1, -1)
    pictures, label = remedies.varied((same, torch.arange(6)), size=16)
    assert pictures.shape == (6, 3, 16, 16) and label.tolist() == [0, 1, 2, 3, 4, 5]
    assert len({picture.sum().item() for picture in pictures}) == 6
    assert pictures.min() >= 0 and pictures.max() <= 1


def test_answers_do_not_depend_on_the_side_that_is_seen():
    torch.manual_seed(0)
    model, x = models.ResidualNetwork(3, width=4, levels=2).eval(), torch.rand(70, 3, 16, 16)
    torch.testing.assert_close(remedies.answers(model, x), remedies.answers(model, x.flip(-1)))
    both = (model(x) + model(x.flip(-1))) / 2
    torch.testing.assert_close(remedies.answers(model, x), both)
    one = remedies.answers(model, x[69:])
    torch.testing.assert_close(remedies.answers(model, x)[69:], one)


def test_what_differs_from_the_backdrop_is_cut_out(turning):
    """Bright squares of many colours, each elsewhere, before a backdrop that gets lighter."""
    random = torch.Generator().manual_seed(0)
    n = 400
    light = 0.4 + 0.3 * torch.rand(n, 1, 1, 1, generator=random)
    pictures = light * torch.linspace(0.6, 1.2, 64)[:, None].expand(n, 3, 64, 64).clone()
    truth = torch.zeros(n, 1, 64, 64)
    for picture, mask in zip(pictures, truth, strict=True):
        top, left = torch.randint(8, 40, (2,), generator=random).tolist()
        picture[:, top : top + 16, left : left + 16] = torch.rand(3, 1, 1, generator=random)
        picture[0, top : top + 16, left : left + 16] = 0.95  # so that each can be told apart
        mask[:, top : top + 16, left : left + 16] = 1
    cars = turning._replace(pictures=pictures, elevation=torch.rand(n, generator=random))
    found = remedies.cut_outs(cars)
    assert found.shape == (n, 1, 64, 64) and found.max() == 1 and found.min() == 0
    both = ((found > 0.5) & (truth > 0.5)).sum((1, 2, 3))
    either = ((found > 0.5) | (truth > 0.5)).sum((1, 2, 3))
    assert (both / either).min() > 0.9


def test_of_several_pieces_the_largest_is_the_car():
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10:30] = True
    mask[18:22, 18:22] = False  # a window
    mask[40:46, 40:46] = True  # a reflection on the floor
    mask[50, 5:60] = True  # the line where floor and wall meet
    whole = np.zeros((64, 64), bool)
    whole[10:30, 10:30] = True
    found = remedies._one_piece(mask)
    assert (found != whole).sum() <= 4  # corners may be rounded
    assert not remedies._one_piece(np.zeros((64, 64), bool)).any()


def test_cars_of_the_turntable_are_cut_out(turning):
    some = torch.arange(0, 6000, 12)
    cars = turning._replace(pictures=turning.pictures[some], elevation=turning.elevation[some])
    masks = remedies.cut_outs(cars)
    # A car takes a sixth to a half of its picture, and never reaches the edge.
    share = masks.mean((1, 2, 3))
    assert share.quantile(0.01) > 0.1 and share.quantile(0.99) < 0.5
    assert (masks[:, :, 0].amax((1, 2)) > 0).float().mean() < 0.02
    # In the middle stands a car, in the corners none.
    assert masks[:, 0, 30:36, 28:36].mean() > 0.95 and masks[:, 0, :6, :6].mean() < 0.01


def test_a_pasted_car_covers_what_its_mask_says():
    torch.manual_seed(0)
    red = torch.tensor([1.0, 0, 0])[:, None, None].expand(12, 3, 64, 64)
    blue = torch.tensor([0, 0, 1.0])[:, None, None].expand(5, 3, 48, 48)
    label = torch.arange(12)
    nothing, same = remedies.pasted((red, torch.zeros(12, 1, 64, 64), label), blue)
    assert nothing.shape == (12, 3, 48, 48) and same.tolist() == label.tolist()
    assert nothing[:, 0].max() < 0.01 and nothing[:, 2].min() > 0.5
    mask = torch.zeros(12, 1, 64, 64)
    mask[:, :, 22:42, 22:42] = 1
    some, _ = remedies.pasted((red, mask, label), blue)
    share = (some[:, 0] > some[:, 2]).float().mean((1, 2))
    # A square of 20 in 64 pixels, enlarged 1.05 to 1.65 times.
    low, high = (1.05 * 20 / 64) ** 2, (1.65 * 20 / 64) ** 2
    assert 0.9 * low < share.min() and share.max() < 1.1 * high


def test_a_third_of_a_batch_comes_from_the_settings(small):
    torch.manual_seed(0)
    turning, bodies = small
    bodies = bodies._replace(pictures=remedies.smaller(bodies.pictures, 32))
    prepare = remedies._Turned(bodies, share=1 / 3)
    label = torch.full((30,), 99)
    pictures, labels = prepare((turning.pictures[:30], torch.ones(30, 1, 64, 64), label))
    assert pictures.shape == (30, 3, 32, 32)
    assert (labels == 99).sum() == 20 and labels[:10].max() < 7
    assert (
        remedies._Turned(bodies, 0.0)((turning.pictures[:3], turning.pictures[:3, :1], label[:3]))[
            1
        ]
        == 99
    ).all()


def test_recipes_write_what_the_notebook_reads(small, tmp_path, monkeypatch):
    _, bodies = small
    monkeypatch.setattr(remedies, "RESOLUTIONS", ((16, 1), (32, 2)))
    monkeypatch.setattr(remedies, "train_turned", quickly(remedies.train_turned))
    remedies.resolutions(tmp_path / "r.json")
    runs = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert [(run["size"], run["epochs"], run["seed"]) for run in runs] == [
        (16, 1, 0),
        (16, 1, 1),
        (32, 2, 0),
        (32, 2, 1),
    ]
    assert {len(run["predicted"]) for run in runs} == {len(bodies.unseen)}
    # What is there is kept: only the last run is made again, to the same answers.
    recipes.write_runs(runs[:3], tmp_path / "r.json")
    remedies.resolutions(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == runs

    remedies.turned_runs(tmp_path / "t.json")
    runs = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert [(run["condition"], run["seed"]) for run in runs] == [
        (condition, seed) for seed in (0, 1) for condition in remedies.TURNED
    ]
    remedies.turned_weights(tmp_path / "t.pt")
    model = models.load(tmp_path / "t.pt", models.ResidualNetwork)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)


class Stub(torch.nn.Module):
    """In place of the pretrained network: as many features, of the mean of each picture's left."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1280), requires_grad=False)

    def forward(self, x):
        assert x.min() >= 0 and x.max() <= 1
        left = x[..., : x.shape[-1] // 2]
        return left.mean((1, 2, 3))[:, None] * self.scale


def test_features_are_those_of_a_picture_and_its_mirror_image(monkeypatch):
    monkeypatch.setattr(remedies.pretrained, "Features", Stub)
    x = torch.rand(35, 3, 16, 16)
    found = remedies.imagenet_features(x, size=16)
    assert found.shape == (35, 1280)
    torch.testing.assert_close(found[:, 0], x.mean((1, 2, 3)))


def test_recipes_of_the_pretrained_network(small, tmp_path, monkeypatch):
    _, bodies = small
    monkeypatch.setattr(remedies.pretrained, "Features", Stub)
    remedies.write_features(tmp_path / "f.pt")
    stored = torch.load(tmp_path / "f.pt", weights_only=True)["features"]
    assert stored.shape == (len(bodies.pictures), 1280) and stored.dtype == torch.float16

    remedies.fine_tuned(tmp_path / "t.json", epochs=1)
    (run,) = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert run["condition"] == "fine-tuned" and len(run["predicted"]) == len(bodies.unseen)
    assert not (tmp_path / "t.json.checkpoint").exists()


def test_fine_tuning_trains_the_encoder_too(monkeypatch):
    monkeypatch.setattr(remedies.pretrained, "Features", Stub)
    model = remedies.FineTuned(classes=7)
    model.answer.weight.data += 1  # which begins with zeros
    model(torch.rand(4, 3, 16, 16)).sum().backward()
    assert model.encoder.scale.grad.abs().sum() > 0


def quickly(train):
    return lambda condition, seed=0: train(condition, seed, epochs=1, size=32, width=4)


def test_another_condition_is_refused():
    with pytest.raises(
        ValueError, match="condition='all': expected one of settings alone, cut-outs"
    ):
        remedies.train_turned("all")
