"""What all tests share: no real data, results in their own folder, a few synthetic pictures."""

import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from autoencoders import codec, data

UNDER_CI = bool(os.environ.get("CI"))
os.environ["CI"] = "true"  # no progress bars
os.environ.pop("COURSE_DATA", None)
mpl.use("Agg")


def car(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """A smooth coloured picture with an edge and a little noise, uint8 `(height, width, 3)`."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [
        0.5
        + 0.25
        * np.sin(x * random.uniform(2, 6) + random.uniform(0, 6))
        * np.cos(y * random.uniform(2, 6))
        for _ in range(3)
    ]
    picture = np.stack(waves, -1)
    picture[height // 2 :, width // 4 : width // 2] *= random.uniform(0.2, 0.8, 3)
    return ((picture + 0.02 * random.standard_normal(picture.shape)).clip(0, 1) * 255).astype(
        np.uint8
    )


@pytest.fixture
def pictures() -> np.ndarray:
    return np.stack([car(i) for i in range(8)])


@pytest.fixture(autouse=True)
def own_results(tmp_path, monkeypatch):
    """Nothing that a unit test records reaches slides/."""
    if "test_bands" not in os.environ.get("PYTEST_CURRENT_TEST", ""):
        monkeypatch.setenv("COURSE_OUT", str(tmp_path / "results"))


def small_codec(**arguments) -> codec.LearnedCodec:
    """A little codec in floating point in which every layer matters: from PCA, shaken."""
    arguments = {"groups": (3, 5, 8), "width": 8, "post": 8, "blocks": 1, "context": 8} | arguments
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = codec.LearnedCodec(**arguments).start_from_pca(
            data.to_float(np.stack([car(i) for i in range(8)]))
        )
        for name, parameter in model.named_parameters():
            parameter.data += (
                0.003 if name.startswith("synthesis_pca") else 0.03
            ) * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def coder() -> codec.LearnedCodec:
    """`small_codec` in fixed point, as the shipped one is."""
    return codec.unpack(codec.pack(small_codec()))


@contextmanager
def walks():
    """A list to which each `LearnedCodec.walk` of a tile adds what a decoder knows at its end."""
    original, seen = codec.LearnedCodec.walk, []

    def walk(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    codec.LearnedCodec.walk = walk
    try:
        yield seen
    finally:
        codec.LearnedCodec.walk = original


def idx_files(train: int = 30, unseen: int = 20) -> dict[str, bytes]:
    """The four files of a tiny MNIST: header (big-endian), then bytes.

    Each label occurs three times, twice among the unseen.
    """
    random, files = np.random.default_rng(0), {}
    for part, n in (("train", train), ("t10k", unseen)):
        header = np.array([0x803, n, 28, 28], ">i4").tobytes()
        files[f"{part}-images-idx3-ubyte"] = (
            header + random.integers(0, 256, n * 784, np.uint8).tobytes()
        )
        files[f"{part}-labels-idx1-ubyte"] = np.array([0x801, n], ">i4").tobytes() + bytes(
            i % 10 for i in range(n)
        )
    return files


# ---- Nothing is skipped in silence ----


def pytest_addoption(parser):
    parser.addoption("--not-tested", type=Path, help="a file to write what was skipped to")


def pytest_runtest_setup(item):
    """Tests marked `walls` need bubblewrap: without it they are skipped, but under CI they fail."""
    if item.get_closest_marker("walls") is None:
        return
    import sandbox  # not above: those who import this file need not have it

    if why := sandbox.missing():
        untestable(f"the sandbox, because {why} (mend: sudo apt install bubblewrap)")


def untestable(reason: str) -> None:
    """Skip a test that cannot be run on this machine; under CI, let it fail."""
    if UNDER_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter, config):
    """Say in one sentence what was skipped, for the last line of `make test`."""
    path = config.getoption("--not-tested")
    if path is None:
        return
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    parts = [f"{reason}, tests skipped: {count}" for reason, count in reasons.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"Not tested: {'; '.join(parts) or 'nothing'}.\n", "utf-8")


@contextmanager
def counted_steps(monkeypatch, kind: type, interrupt_at: int = 0):
    """A list that grows with each step of an optimiser of a kind.

    In place of the step number `interrupt_at`, from 1, comes a KeyboardInterrupt.
    """
    steps = []
    real = kind.step

    def stepping(*arguments, **options):
        steps.append(1)
        if len(steps) == interrupt_at:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    stepping.hooked = True  # `real` calls the optimiser's hooks; torch shall not do so again
    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", stepping)
        yield steps
