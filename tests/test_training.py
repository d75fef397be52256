import math
import random
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import counted_steps
from torch import nn
from torch.nn.functional import softplus

from autoencoders import data, losses, models, training


def line(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 1, n)[:, None]
    return x, 3 * x + 1


def weights(model: nn.Module) -> bytes:
    return b"".join(w.numpy().tobytes() for w in model.state_dict().values())


def small(**options) -> tuple[nn.Module, dict]:
    training.seed_everything(0)
    model = models.ConvAutoencoder(32, 16, width=4)
    x = torch.rand(24, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    options = {"epochs": 3, "batch_size": 7, "prepare_batch": data.augment(32)} | options
    return model, training.fit(model, losses.mse, x[:18], x[18:, :, :32, :32], **options)


def test_finds_a_straight_line():
    model = nn.Linear(1, 1)
    history = training.fit(
        model, losses.mse, line(), epochs=200, lr=0.1, precision="float32", weight_decay=0
    )
    torch.testing.assert_close(
        torch.stack([model.weight.squeeze(), model.bias.squeeze()]),
        torch.tensor([3.0, 1.0]),
        atol=1e-3,
        rtol=0,
    )
    assert history["train_loss"][-1] < 1e-5 < history["train_loss"][0]
    assert history["epoch"] == list(range(1, 201)) and history["seconds"] > 0


def test_one_fit_trains_a_classifier_too():
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    label = (x[:, 0] > 0).long()
    history = training.fit(
        nn.Linear(2, 2), losses.cross_entropy, (x, label), (x, label), epochs=20, lr=0.1
    )
    assert history["valid_accuracy"][-1] > 0.95


def test_same_seed_same_weights_other_seed_others():
    (a, history), (b, again), (c, _) = small(), small(), small(seed=1)
    assert weights(a) == weights(b) != weights(c)
    assert {**history, "seconds": 0} == {**again, "seconds": 0}


def test_validation_is_averaged_by_sample():
    """Batches of 4 and 1: a mean over batches would give the last sample too much weight."""
    x = torch.tensor([0.0, 0, 0, 0, 1]).reshape(5, 1)
    predicts_zero = nn.Linear(1, 1)
    nn.init.zeros_(predicts_zero.weight), nn.init.zeros_(predicts_zero.bias)
    for batch_size in (1, 2, 4, 5):
        assert training.evaluate(predicts_zero, losses.mse, x, batch_size)["loss"] == pytest.approx(
            0.2
        )


def test_evaluation_leaves_the_model_alone():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    before = weights(model)
    first, second = (
        training.evaluate(
            model, losses.mse, torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
        )
        for _ in range(2)
    )
    assert weights(model) == before and first == second and not model.training


def test_early_stopping_restores_the_best_weights():
    """Validation wants 0.5, training pulls on to 2: the best model lies on the way."""
    x = torch.ones(8, 1)
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    settings = {
        "epochs": 100,
        "lr": 0.1,
        "schedule": training.constant,
        "weight_decay": 0,
        "precision": "float32",
    }
    history = training.fit(model, losses.mse, (x, 2 * x), (x, 0.5 * x), patience=3, **settings)
    best = history["valid_loss"].index(min(history["valid_loss"]))
    assert len(history["epoch"]) == best + 1 + 3 < 100
    assert losses.mse(model, (x, 0.5 * x))["loss"].item() == pytest.approx(
        min(history["valid_loss"]), abs=1e-7
    )


def test_entries_every_few_epochs_and_at_the_end():
    _, history = small(epochs=5, validate_every=2)
    assert (
        history["epoch"] == [2, 4, 5]
        and len(history["valid_loss"]) == len(history["train_loss"]) == 3
    )


def test_schedules_by_hand():
    assert (
        training.cosine(0, 10) == 1
        and training.cosine(5, 10) == pytest.approx(0.5)
        and training.cosine(10, 10) == 0
    )
    rates = [training.one_cycle(step, 100, warmup=0.2) for step in range(101)]
    assert (
        rates[0] == 0.05
        and rates[19] == 1 == max(rates)
        and rates[60] == pytest.approx(0.5)
        and rates[100] == 0
    )
    assert (np.diff(rates[:20]) > 0).all() and (np.diff(rates[20:]) <= 0).all()
    assert training.constant(3, 10) == 1


def test_the_schedule_reaches_the_optimizer():
    model = nn.Linear(1, 1)
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.001}]
    optimizer = torch.optim.SGD(groups)
    history = training.fit(
        model,
        losses.mse,
        line(4),
        epochs=4,
        batch_size=4,
        schedule=training.cosine,
        optimizer=optimizer,
    )
    assert history["lr"] == pytest.approx([0.1 * training.cosine(step, 4) for step in range(4)])
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.001 * training.cosine(3, 4))


def test_gradients_are_clipped():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    training.fit(
        model,
        losses.mse,
        (torch.ones(1, 1), torch.full((1, 1), 1e6)),
        epochs=1,
        clip=0.5,
        optimizer=sgd,
        schedule=training.constant,
    )
    assert model.weight.item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops(value):
    with pytest.raises(
        ValueError,
        match=r"the loss is (nan|inf) at step 0, learning rate .*: expected a finite one; lower lr",
    ):
        training.fit(nn.Linear(1, 1), losses.mse, torch.full((4, 1), value), epochs=1)


def test_the_model_comes_back_ready_to_use():
    model, _ = small(epochs=1)
    assert not model.training
    assert all(
        w.is_contiguous() and w.dtype == torch.float32 and w.device.type == "cpu"
        for w in model.state_dict().values()
    )


@pytest.mark.parametrize(
    "options,message",
    [
        ({"epochs": 0}, "epochs=0, .*expected whole numbers from 1 up"),
        ({"lr": -1.0}, "lr=-1.0: expected .* lr above 0"),
        ({"patience": 2, "valid": None}, "patience=2: expected at least 1, and validation data"),
        ({"patience": 0}, "patience=0: expected at least 1"),
        ({"precision": "int4"}, "precision='int4': expected 'auto', 'float32' or 'bfloat16'"),
        ({"train": torch.rand(0, 1)}, r"train=\[\(0, 1\)\]: expected one tensor"),
        (
            {"train": (torch.rand(3, 1), torch.rand(4, 1))},
            r"train=\[\(3, 1\), \(4, 1\)\]: expected .* same N",
        ),
        ({"valid": [[1.0]]}, r"valid=\['list'\]: expected one tensor"),
    ],
)
def test_callers_errors(options, message):
    arguments = {"train": torch.rand(4, 1), "valid": torch.rand(4, 1), "epochs": 1} | options
    with pytest.raises(ValueError, match=message):
        training.fit(nn.Linear(1, 1), losses.mse, **arguments)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="this machine has a GPU, and the error is about having none"
)
def test_a_missing_gpu_is_named():
    with pytest.raises(
        ValueError, match="device='cuda': torch sees no GPU here; expected 'auto' or 'cpu'"
    ):
        training.pick_device("cuda")


def test_precision_follows_the_machine(monkeypatch):
    for capability, dtype in (
        ("avx512_bf16", torch.bfloat16),
        ("amx_bf16", torch.bfloat16),
        ("avx2", torch.float32),
    ):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda capability=capability: {capability: True}
        )
        assert training.pick_precision("auto", torch.device("cpu")) == dtype
    assert training.pick_precision("float32", torch.device("cpu")) == torch.float32


@contextmanager
def interrupted(monkeypatch, step: int, kind=torch.optim.AdamW):
    """Within, a KeyboardInterrupt comes in place of an optimiser's step of that number, from 1."""
    with counted_steps(monkeypatch, kind, step), pytest.raises(KeyboardInterrupt):
        yield


def same(a, b) -> bool:
    """Whether two nested states are equal, in every bit of every tensor."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def state_of(path: Path) -> dict:
    """What a checkpoint holds, but the time that it took."""
    content = torch.load(path, weights_only=True)
    content["run"]["history"]["seconds"] = 0.0
    return content


def test_the_checkpoint_of_a_finished_run_is_enough(tmp_path):
    model, history = small(checkpoint=tmp_path / "sub" / "run.pt")
    again, same_history = small(checkpoint=tmp_path / "sub" / "run.pt")
    assert weights(model) == weights(again) and history == same_history
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["run.pt"]


def test_interrupted_anywhere_and_resumed_is_the_same(tmp_path, monkeypatch):
    """In the middle of epochs, also between an improvement and the end of patience, and with all
    random numbers wrong afterwards."""
    options = {"epochs": 4, "patience": 3, "weights": torch.arange(18.0)}
    undisturbed, history = small(**options)
    for step in (1, 2, 3, 2, 4, 3):
        with interrupted(monkeypatch, step):
            small(**options, checkpoint=tmp_path / "c.pt", save_seconds=-1)
        random.random(), np.random.rand(), torch.rand(3)
    resumed, rest = small(**options, checkpoint=tmp_path / "c.pt", save_seconds=-1)
    assert weights(resumed) == weights(undisturbed)
    assert {**rest, "seconds": 0} == {**history, "seconds": 0}


class Gan(nn.Module):
    """A tiny generator and discriminator of points (N, 2), with BatchNorm and dropout in both."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)]
        self.generator = nn.Sequential(*layers)
        layers = [nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 1)]
        self.discriminator = nn.Sequential(*layers)


def discriminator_loss(model, points):
    fake = model.generator(torch.randn(len(points), 3))
    real = model.discriminator(points)
    return {"loss": softplus(-real).mean() + softplus(model.discriminator(fake)).mean()}


def generator_loss(model, points):
    judged = model.discriminator(model.generator(torch.randn(len(points), 3)))
    return {"loss": softplus(-judged).mean(), "fooled": (judged > 0).float().mean()}


def gan_of(seed: int = 0) -> tuple[Gan, dict]:
    training.seed_everything(seed)
    model = Gan()
    optimizers = {
        "d": torch.optim.Adam(model.discriminator.parameters(), 2e-2, betas=(0.5, 0.9)),
        "g": torch.optim.Adam(model.generator.parameters(), 1e-2, betas=(0.5, 0.9)),
    }
    return model, optimizers


GAN_LOSSES = {"d": discriminator_loss, "g": generator_loss}
POINTS = torch.linspace(-1, 1, 20).view(10, 2)


def train_gan(**options) -> tuple[Gan, dict]:
    model, optimizers = gan_of()
    options = {"epochs": 3, "batch_size": 4, "precision": "float32"} | options
    return model, training.fit(model, GAN_LOSSES, POINTS, optimizer=optimizers, **options)


def test_two_losses_take_turns_as_in_a_loop_by_hand():
    """Each changes its own network alone, and the second sees what the first has changed."""
    fitted, history = train_gan(epochs=1, batch_size=10, clip=0.5, schedule=training.constant)
    model, optimizers = gan_of()
    training.seed_everything(0)
    points = POINTS[torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    optimizers["d"].zero_grad()
    d = discriminator_loss(model, points)["loss"]
    d.backward()
    nn.utils.clip_grad_norm_(model.discriminator.parameters(), 0.5)
    optimizers["d"].step()
    optimizers["g"].zero_grad()
    g = generator_loss(model, points)["loss"]
    g.backward()
    nn.utils.clip_grad_norm_(model.generator.parameters(), 0.5)
    optimizers["g"].step()
    assert weights(fitted) == weights(model)
    assert history["train_d_loss"] == [d.item()] and history["train_g_loss"] == [g.item()]
    assert history["d_lr"] == [2e-2] and history["g_lr"] == [1e-2]


def test_a_loss_leaves_the_other_ones_parameters_alone():
    before, _ = gan_of()
    model, optimizers = gan_of()
    optimizers["g"] = torch.optim.SGD(model.generator.parameters(), 0.0)
    training.fit(model, GAN_LOSSES, POINTS, epochs=2, optimizer=optimizers)
    pairs = {
        part: zip(
            getattr(before, part).parameters(), getattr(model, part).parameters(), strict=True
        )
        for part in ("generator", "discriminator")
    }
    assert all(torch.equal(a, b) for a, b in pairs["generator"])
    assert not any(torch.equal(a, b) for a, b in pairs["discriminator"])


def test_a_gan_interrupted_anywhere_and_resumed_is_the_same(tmp_path, monkeypatch):
    """In every tensor: networks, optimisers, BatchNorm, random numbers; also between two turns."""
    options = {"save_seconds": -1, "valid": POINTS}
    whole, history = train_gan(**options, checkpoint=tmp_path / "whole.pt")
    for step in (1, 2, 3, 4, 6):
        with interrupted(monkeypatch, step, torch.optim.Adam):
            train_gan(**options, checkpoint=tmp_path / "cut.pt")
        random.random(), np.random.rand(), torch.rand(3)
    resumed, rest = train_gan(**options, checkpoint=tmp_path / "cut.pt")
    assert weights(resumed) == weights(whole)
    assert {**rest, "seconds": 0} == {**history, "seconds": 0}
    cut, uncut = state_of(tmp_path / "cut.pt"), state_of(tmp_path / "whole.pt")
    assert cut["optimizers"].keys() == {"d", "g"} and "cuda" in cut["processes"][0]["random"]
    assert same(cut, uncut)
    assert {len(v) for v in history.values() if isinstance(v, list)} == {3}
    assert "valid_g_fooled" in history


@pytest.mark.parametrize(
    "options,message",
    [
        ({"optimizer": None}, r"losses \['d', 'g'\], optimizers NoneType: expected two dicts"),
        ({"optimizer": "swapped"}, r"losses \['d', 'g'\], optimizers \['g', 'd'\]: expected"),
        ({"loss_fn": generator_loss}, r"losses function, optimizers \['d', 'g'\]: expected"),
        ({"loss_fn": {}, "optimizer": {}}, r"losses \[\], optimizers \[\]: expected"),
        (
            {"patience": 2, "valid": POINTS},
            r"patience=2 with losses \['d', 'g'\]: expected a single",
        ),
    ],
)
def test_losses_and_optimisers_go_together(options, message):
    model, optimizers = gan_of()
    arguments = {"loss_fn": GAN_LOSSES, "train": POINTS, "optimizer": optimizers, "epochs": 1}
    arguments |= options
    if arguments["optimizer"] == "swapped":
        arguments["optimizer"] = {name: optimizers[name] for name in ("g", "d")}
    with pytest.raises(ValueError, match=message):
        training.fit(model, **arguments)


def test_an_optimiser_of_another_model_is_refused():
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    parameters = [*model.parameters(), *other.parameters()]
    with pytest.raises(ValueError, match="2 of an optimizer's 4 parameters are not in the model"):
        training.fit(
            model, losses.mse, line(4), epochs=1, optimizer=torch.optim.SGD(parameters, 0.1)
        )


@pytest.mark.parametrize("options", [{"lr": 0.1}, {"weight_decay": 0.0}])
def test_a_learning_rate_beside_an_optimiser_is_refused(options):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="beside an optimizer: expected one or the other"):
        training.fit(model, losses.mse, line(4), epochs=1, optimizer=optimizer, **options)


def test_items_are_drawn_as_often_as_their_weights_say():
    drawn = []

    def noted(batch):
        drawn.extend(batch[0].flatten().int().tolist())
        return batch

    def items(seed):
        drawn.clear()
        items = torch.arange(4.0)[:, None].repeat(25, 1)
        weights = torch.tensor([0.0, 1.0, 2.0, 5.0]).repeat(25)
        pairs = items, items
        training.fit(
            nn.Linear(1, 1), losses.mse, pairs, epochs=40, batch_size=30, seed=seed,
            weights=weights, prepare_batch=noted,
        )  # fmt: skip
        return list(drawn)

    first = items(seed=0)
    counts = np.bincount(first, minlength=4)
    assert counts.sum() == 4000 and counts[0] == 0
    np.testing.assert_allclose(counts / 4000, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.03)
    assert sorted(first[:100]) != sorted(first[100:200])
    assert items(seed=0) == first != items(seed=1)


@pytest.mark.parametrize(
    "weights,message",
    [
        (torch.ones(5), r"weights=\(5,\): expected a tensor \(4,\)"),
        ([1, 2, 3, 4], "weights=list: expected a tensor"),
        (torch.tensor([1.0, -1, 1, 1]), "weights from -1 to 1: expected finite ones from 0 up"),
        (torch.zeros(4), "weights from 0 to 0: expected .* not all 0"),
        (torch.full((4,), math.nan), "weights from nan to nan"),
    ],
)
def test_weights_that_cannot_be_drawn_by(weights, message):
    with pytest.raises(ValueError, match=message):
        training.fit(nn.Linear(1, 1), losses.mse, line(4), epochs=1, weights=weights)


class Annealed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 1)
        self.inner.register_buffer("progress", torch.tensor(0.7))
        self.register_buffer("no_progress", torch.tensor(0.7))


def test_a_buffer_named_progress_goes_from_0_to_1(tmp_path, monkeypatch):
    seen = []

    def loss(model, batch):
        seen.append((model.training, model.inner.progress.item()))
        return {"loss": model.inner(batch[0]).square().mean()}

    def train(**options):
        model = Annealed()
        training.fit(
            model, loss, line(8), line(8), epochs=2, batch_size=4, save_seconds=-1, **options
        )
        return model

    model = train()
    assert [value for training_, value in seen if training_] == [0, 0.25, 0.5, 0.75]
    # Batches of 4 in a validation of 8, after 2 and 4 of 4 steps.
    assert [value for training_, value in seen if not training_] == [0.5, 0.5, 1, 1]
    assert model.inner.progress == 1 and model.no_progress == 0.7


def test_a_loss_without_a_loss_is_named():
    with pytest.raises(ValueError, match=r"returned \['mse'\]: expected 'loss' among them"):
        training.fit(nn.Linear(1, 1), lambda m, b: {"mse": m(b[0]).mean()}, line(4), epochs=1)


@pytest.fixture
def like_a_gpu(monkeypatch):
    """Numbers are expensive to read: a list of how many were read at a time."""
    monkeypatch.setattr(training.Machine, "asynchronous", True)
    read, real = [], torch.Tensor.tolist

    def tolist(tensor):
        read.append(len(tensor))
        return real(tensor)

    def item(tensor):  # an optimiser may ask for its own count of steps, which is on the CPU
        assert "autoencoders" not in sys._getframe(1).f_code.co_filename, "read on its own"
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    monkeypatch.setattr(torch.Tensor, "item", item)
    return read


def test_on_a_gpu_losses_are_read_once_an_epoch(like_a_gpu, monkeypatch):
    model, history = small(epochs=2)
    assert like_a_gpu == [3, 1] * 2  # 18 pictures in batches of 7, then 6 to validate
    monkeypatch.undo()
    other, others = small(epochs=2)
    assert weights(model) == weights(other)
    assert {**history, "seconds": 0} == {**others, "seconds": 0}


def test_on_a_gpu_a_bad_loss_is_found_before_a_checkpoint_is_written(tmp_path, like_a_gpu):
    x, y = line(16)
    y[3] = math.inf

    def train():
        model = nn.Linear(1, 1)
        options = {"epochs": 9, "batch_size": 4, "weights": weights, "save_seconds": -1}
        training.fit(model, losses.mse, (x, y), **options, checkpoint=tmp_path / "c.pt")

    weights = torch.ones(16)
    with pytest.raises(ValueError, match=r"the loss is inf at step \d, learning rate"):
        train()
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_the_progress_bar_is_off_under_ci(capfd, monkeypatch):
    small(epochs=1)
    assert capfd.readouterr() == ("", "")
    small(epochs=1, progress=True)
    assert "1/1" in capfd.readouterr().err
    monkeypatch.delenv("CI")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # nbval brings it
    small(epochs=1)  # not a terminal
    assert capfd.readouterr() == ("", "")


def test_history_has_no_holes():
    _, history = small()
    assert {len(v) for v in history.values() if isinstance(v, list)} == {3}
    assert all(
        math.isfinite(v) for values in history.values() if isinstance(values, list) for v in values
    )
