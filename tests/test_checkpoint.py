import functools
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from autoencoders import checkpoint, data, losses, training

RUN = Path(__file__).with_name("train_and_save.py")
shift_by = 0.1


def line(slope: float = 3.0, n: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 1, n)[:, None]
    return x, slope * x


def absolute(model, batch):
    return {"loss": (model(batch[0]) - batch[1]).abs().mean()}


def scaled(model, batch, factor):
    return {"loss": factor * losses.mse(model, batch)["loss"]}


def shifted(by):
    return lambda batch: (batch[0] + by, batch[1])


def shifted_by_a_global(batch):
    return batch[0] + shift_by, batch[1]


def half(step, total):
    return 0.5


class Slope(nn.Module):
    """y = slope * x; `power` is an argument that no weight shows."""

    def __init__(self, slope: float = 0.0, power: int = 1):
        super().__init__()
        self.power = power
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x):
        return self.slope * x**self.power


def adamw(model, **options):
    return torch.optim.AdamW(model.parameters(), **{"lr": 0.1, "weight_decay": 0.0} | options)


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


def run(path: Path, loss=losses.mse, model=Slope, optimizer=adamw, **changed) -> float:
    """Fit a line, by default of slope 3, and return the slope that was found."""
    arguments = {"train": line(), "valid": line(), "epochs": 8, "batch_size": 4}
    arguments |= {"prepare_batch": shifted(0.1), "schedule": training.cosine}
    arguments |= {"precision": "float32"}
    fitted = model()
    training.fit(fitted, loss, **arguments | changed, optimizer=optimizer(fitted), checkpoint=path)
    return fitted.slope.item()


@pytest.fixture
def finished(tmp_path) -> Path:
    """The checkpoint of a run that found the slope 3, or nearly so."""
    path = tmp_path / "run.pt"
    assert 1 < run(path) < 4
    return path


CHANGES = {
    "other targets": ({"train": line(-5.0)}, r"train\.1 \(16, 1\) float32 \w+, here \(16, 1\)"),
    "other validation": ({"valid": line(1.0)}, r"valid\.1 \(16, 1\) float32"),
    "no validation": ({"valid": None}, r"valid tuple of 2, here None"),
    "another loss": (
        {"loss": absolute},
        r"loss_fn autoencoders\.losses\.mse .*, here .*\.absolute",
    ),
    "a bound argument": (
        {"loss": functools.partial(losses.mse)},
        r"loss_fn autoencoders\.losses\.mse \w+, here partial",
    ),
    "other start weights": (
        {"model": functools.partial(Slope, 1.0)},
        r"\(model\.weights 1 tensors, 1 values, \w+, here 1 tensors, 1 values, \w+\)",
    ),
    "an argument of the model": (
        {"model": functools.partial(Slope, power=3)},
        r"\(model\.power 1, here 3\)",
    ),
    "SGD": ({"optimizer": sgd}, r"optimizer torch\.optim\.adamw\.AdamW, here torch\.optim\.sgd"),
    "an option of the optimiser": (
        {"optimizer": functools.partial(adamw, betas=(0.5, 0.9))},
        r"\(optimizer\.betas \(0\.9, 0\.999\), here \(0\.5, 0\.9\)\)",
    ),
    "learning rate": (
        {"optimizer": functools.partial(adamw, lr=0.2)},
        r"\(optimizer\.lr 0\.1, here 0\.2\)",
    ),
    "schedule": ({"schedule": half}, r"\(schedule \(32,\) float64 \w+, here \(32,\) float64"),
    "no batch function": ({"prepare_batch": None}, r"prepare_batch .*shifted.*, here None"),
    "another batch function": (
        {"prepare_batch": shifted_by_a_global},
        r"prepare_batch .*shifted.*, here .*shifted_by_a_global",
    ),
    "what a closure holds": (
        {"prepare_batch": shifted(-0.1)},
        r"\(prepare_batch\.by 0\.1, here -0\.1\)",
    ),
    "weights": ({"weights": torch.ones(16)}, r"\(weights None, here \(16,\) float32"),
    "epochs": ({"epochs": 9}, r"\(epochs 8, here 9; schedule"),
    "batch size": ({"batch_size": 8}, r"\(batch_size 4, here 8; schedule"),
    "clipping": ({"clip": None}, r"\(clip 1\.0, here None\)"),
    "seed": ({"seed": 1}, r"\(seed 0, here 1\)"),
    "patience": ({"patience": 3}, r"\(patience None, here 3\)"),
    "precision": ({"precision": "bfloat16"}, r"\(precision torch\.float32, here torch\.bfloat16\)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_call_is_refused_and_the_same_call_goes_on(finished, change):
    """Before, another run's slope of 3 came back whatever the new call asked for."""
    changed, what = CHANGES[change]
    before = finished.read_bytes()
    with pytest.raises(ValueError, match=rf"'run\.pt' is of another run .*{what}") as error:
        run(finished, **changed)
    assert "delete it to start anew, or name another file" in str(error.value)
    assert finished.read_bytes() == before and os.listdir(finished.parent) == ["run.pt"]
    assert run(finished) == run(finished.with_name("other.pt"))


def test_threads_and_versions_count_too(finished, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(ValueError, match=rf"\(threads {threads}, here {threads + 1}\)"):
            run(finished)
    finally:
        torch.set_num_threads(threads)
    real = torch.__version__
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(ValueError, match=rf"\(torch {real.replace('+', '.')}, here 1\.0\)"):
        run(finished)


def test_a_global_that_the_batch_function_uses_counts(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    run(path, prepare_batch=shifted_by_a_global)
    monkeypatch.setitem(globals(), "shift_by", 0.3)
    with pytest.raises(ValueError, match=r"\(prepare_batch\.shift_by 0\.1, here 0\.3\)"):
        run(path, prepare_batch=shifted_by_a_global)


def test_what_a_partial_binds_counts_also_in_a_tensor(tmp_path):
    path = tmp_path / "run.pt"
    run(path, loss=functools.partial(scaled, factor=torch.tensor(1.0)))
    with pytest.raises(ValueError, match=r"\(loss_fn\.factor 1\.0 float32, here 2\.0 float32\)"):
        run(path, loss=functools.partial(scaled, factor=torch.tensor(2.0)))


def test_an_error_lists_the_first_differences(finished):
    with pytest.raises(ValueError, match=r"valid tuple.*; and \d more\): delete it"):
        run(finished, loss=absolute, train=line(1.0), valid=None, epochs=9, clip=None, seed=4)


@pytest.mark.parametrize("form", ["same", "channels last", "a copy", "a view"])
def test_equal_tensors_have_equal_fingerprints(form):
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    others = {
        "same": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "a copy": nn.Parameter(x.clone()),
        "a view": torch.stack([x, x], -1)[..., 0],
    }
    assert checkpoint.describe("x", others[form]) == checkpoint.describe("x", x)


def test_different_tensors_have_different_fingerprints():
    x = torch.zeros(2, 6)
    others = [x.view(3, 4), x.double(), x.bfloat16(), x.index_put((torch.tensor(0),), x[0] + 1)]
    texts = [checkpoint.describe("x", other)["x"] for other in [x, *others]]
    assert len(set(texts)) == 5


def test_functions_are_told_apart_by_what_they_do():
    def text(source: str) -> str:
        names = {"__name__": "__main__"}
        exec(source, names)
        return checkpoint.describe("f", names["f"])["f"]

    plain = text("def f(x): return 2 * x")
    assert text('\n\ndef f(y):\n    """Documented."""\n    return 2 * y  # and commented') == plain
    assert text("def f(x): return 3 * x") != plain
    assert text("def f(x): return x.sin()") != text("def f(x): return x.cos()")
    assert text("def f(x): return [2 * i for i in x]") != text(
        "def f(x): return [3 * i for i in x]"
    )


def test_using_a_function_does_not_change_its_fingerprint():
    """Python adapts bytecode to the types that it meets."""
    f = shifted(0.5)
    before = checkpoint.describe("f", f)
    for _ in range(1000):
        f((1.0, 2.0))
    assert checkpoint.describe("f", f) == before


def test_what_is_inside_is_found():
    class Crop:
        def __init__(self, size):
            self.size = size

        def __call__(self, batch):
            return batch[: self.size]

    def recursive(n):
        return recursive(n - 1) if n else crop

    crop = Crop(4)
    found = checkpoint.describe("f", recursive)
    assert found["f.crop.size"] == "4" and "f.crop.__call__" in found
    found = checkpoint.describe("f", data.augment(48))
    assert "48" in found["f.transform.transforms.0.size"]
    assert checkpoint.describe("f", crop.__call__)["f.self.size"] == "4"
    frozen = checkpoint.describe("f", functools.partial(absolute, nn.Linear(2, 3)))
    assert frozen["f.0.out_features"] == "3" and frozen["f.0.weights"].startswith("2 tensors, 9")


def test_libraries_are_not_taken_apart():
    def loss(model, batch):
        return nn.functional.mse_loss(model(batch), batch)

    assert list(checkpoint.describe("f", loss)) == ["f"]
    relu = {"f": "torch.nn.functional.relu", "f.inplace": "False"}
    assert checkpoint.describe("f", nn.functional.relu) == relu
    assert checkpoint.describe("f", torch.add)["f"].endswith("add")


def test_an_optimiser_that_has_made_steps_is_another():
    model = Slope()
    optimizer = adamw(model)
    before = checkpoint.describe("o", optimizer)
    model(torch.ones(1)).backward()
    optimizer.step()
    assert checkpoint.describe("o", optimizer).keys() - before.keys() == {"o.state"}


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    slope = torch.load(path, weights_only=True)["model"]["slope"].numpy().tobytes()
    flipped = bytearray(content)
    flipped[content.index(slope)] ^= 1
    spoilt = {
        "empty": b"",
        "text": b"no checkpoint",
        "cut in half": content[: len(content) // 2],
        "a bit flipped": bytes(flipped),
    }
    path.write_bytes(spoilt[kind])


@pytest.mark.parametrize("kind", ["empty", "text", "cut in half", "a bit flipped"])
def test_a_damaged_file_is_named_and_left_alone(finished, kind):
    damage(finished, kind)
    before = finished.read_bytes()
    with pytest.raises(ValueError, match=r"'run\.pt' cannot be read \(\w+\): .*delete it to start"):
        run(finished)
    assert finished.read_bytes() == before


@pytest.mark.parametrize(
    "content,written",
    [
        ({"format": checkpoint.FORMAT + 1, "fingerprint": {}}, checkpoint.FORMAT + 1),
        ({"settings": {}, "run": {}, "model": {}}, None),
        ({"slope": torch.ones(1)}, None),
        (torch.ones(3), None),
    ],
    ids=["newer", "older", "weights alone", "a tensor"],
)
def test_a_file_of_another_version_or_program_is_left_alone(tmp_path, content, written):
    path = tmp_path / "run.pt"
    torch.save(content, path)
    before = path.read_bytes()
    message = rf"'run\.pt' has format {written}: expected {checkpoint.FORMAT}, .*name another file"
    with pytest.raises(ValueError, match=message):
        run(path)
    assert path.read_bytes() == before


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"format": checkpoint.FORMAT, "fingerprint": Evil()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        run(tmp_path / "c.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("fault", ["full disk", "no permission"])
def test_what_cannot_be_written_leaves_the_last_good_file(tmp_path, monkeypatch, fault):
    """At the third writing of five. The run then goes on from the second."""
    path, calls = tmp_path / "run.pt", []
    name, error, reason = {
        "full disk": ("fsync", OSError(28, "No space left on device"), "No space left"),
        "no permission": ("replace", PermissionError(13, "Permission denied"), "Permission denied"),
    }[fault]
    real = getattr(os, name)

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error
        real(*arguments)

    monkeypatch.setattr(checkpoint.os, name, failing)
    message = rf"'run\.pt' cannot be written to .*\({reason}.*there is untouched: expected a folder"
    with pytest.raises(OSError, match=message):
        run(path, save_seconds=-1)
    assert os.listdir(tmp_path) == ["run.pt"]
    assert torch.load(path, weights_only=True)["run"]["step"] == 1
    assert run(path) == run(tmp_path / "whole.pt")


def test_a_folder_that_cannot_be_written_stops_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("no folder")
    steps = []
    message = r"'run\.pt' cannot be written to '.*file' \(.*there is none yet"
    with pytest.raises(OSError, match=message):
        run(tmp_path / "file" / "run.pt", loss=lambda *given: steps.append(1))
    assert not steps


def test_random_numbers_go_on_where_they_were(tmp_path):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    checkpoint.save(tmp_path / "c.pt", {}, {"random": checkpoint.random_states()})
    expected = draw()
    draw()
    checkpoint.set_random_states(checkpoint.load(tmp_path / "c.pt", {})["random"])
    assert draw() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed by fork and SIGKILL")
def test_killed_fifty_times_and_resumed_in_another_process_is_the_same(tmp_path):
    """SIGKILL, which no process can see coming, at random moments, also within a writing."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(*arguments) -> str:
        command = [sys.executable, RUN, tmp_path / "cut.pt", *arguments]
        return subprocess.run(
            [*map(str, command)], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    assert start(tmp_path / "whole.bin", 50) == "50\n"
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["run"]["step"] > 0
    start(tmp_path / "cut.bin")
    assert (tmp_path / "cut.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
