import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from autoencoders import data, losses, models, training

RUN = Path(__file__).with_name("train_and_save.py")


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


def test_the_checkpoint_of_a_finished_run_is_enough(tmp_path):
    model, history = small(checkpoint=tmp_path / "sub" / "run.pt")
    again, same = small(checkpoint=tmp_path / "sub" / "run.pt")
    assert weights(model) == weights(again) and history == same
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["run.pt"]
    assert torch.load(tmp_path / "sub" / "run.pt", weights_only=True)["arguments"] == {
        "size": 32,
        "latent": 16,
        "width": 4,
    }


def test_interrupted_anywhere_and_resumed_is_the_same(tmp_path, monkeypatch):
    """Stopped in the middle of epochs, also between an improvement and the end of patience, all random states wrong afterwards."""
    undisturbed, history = small(epochs=4, patience=3)
    steps = []

    def stop_after(count):
        def loss(model, batch):
            steps.append(model.training)
            if sum(steps) > count:
                raise KeyboardInterrupt
            return losses.mse(model, batch)

        return loss

    real = training.fit
    for count in (1, 2, 1, 3, 2):
        steps.clear()
        monkeypatch.setattr(
            training, "fit", lambda m, _, *a, count=count, **k: real(m, stop_after(count), *a, **k)
        )
        with pytest.raises(KeyboardInterrupt):
            small(epochs=4, patience=3, checkpoint=tmp_path / "c.pt", save_seconds=-1)
        random.random(), np.random.rand(), torch.rand(3)
    monkeypatch.setattr(training, "fit", real)
    resumed, rest = small(epochs=4, patience=3, checkpoint=tmp_path / "c.pt", save_seconds=-1)
    assert weights(resumed) == weights(undisturbed)
    assert {**rest, "seconds": 0} == {**history, "seconds": 0}


def test_killed_and_resumed_is_the_same(tmp_path):
    """SIGKILL, which no process can see coming, at random moments of a process that does nothing but train."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def train(checkpoint: Path, result: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(RUN), str(checkpoint), str(result)], env=environment
        )

    assert train(tmp_path / "whole.pt", tmp_path / "whole.bin").wait() == 0
    rng, kills = random.Random(0), 0
    for _ in range(int(os.environ.get("COURSE_KILLS", 3))):
        process = train(tmp_path / "cut.pt", tmp_path / "cut.bin")
        before = (tmp_path / "cut.pt").stat().st_mtime_ns if kills else 0
        while process.poll() is None and not (
            (tmp_path / "cut.pt").exists() and (tmp_path / "cut.pt").stat().st_mtime_ns > before
        ):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    assert train(tmp_path / "cut.pt", tmp_path / "cut.bin").wait() == 0
    assert (tmp_path / "cut.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    small(epochs=1, checkpoint=tmp_path / "c.pt")
    with pytest.raises(
        ValueError, match=r"'c.pt' is of another run \(epochs 1, here 2\): delete it"
    ):
        small(epochs=2, checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None], ids=["empty", "text", "cut"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "c.pt"
    small(epochs=1, checkpoint=path)
    path.write_bytes(content if content is not None else path.read_bytes()[:-1000])
    with pytest.raises(
        ValueError, match=r"checkpoint 'c.pt' cannot be read .*delete it to start anew"
    ):
        small(epochs=1, checkpoint=path)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"settings": Evil()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        small(epochs=1, checkpoint=tmp_path / "c.pt")
    assert not (tmp_path / "owned").exists()


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
