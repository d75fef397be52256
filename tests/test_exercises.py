"""The exercises in the notebooks: cells as nbgrader wants them, hidden tests that tell apart."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from autoencoders import codec, corrupt, data, metrics, models, recipes, svd

ROOT = Path(__file__).resolve().parents[1]


def load(path: str):
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(
        f"of_{Path(path).parent.name}_{name}", ROOT / path
    )
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


driver, hidden, run = load("grading/driver.py"), load("grading/hidden.py"), load("notebooks/run.py")
NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
CELLS = [
    (name, i, cell)
    for name, notebook in NOTEBOOKS.items()
    for i, cell in enumerate(notebook.cells)
    if "nbgrader" in cell.metadata
]
BY_ID = {cell.metadata.nbgrader.grade_id: (name, i, cell) for name, i, cell in CELLS}
GRADED = [(name, i, cell) for name, i, cell in CELLS if cell.metadata.nbgrader.grade]
TESTED = [(name, i, cell) for name, i, cell in GRADED if not cell.metadata.nbgrader.solution]


# ---- The cells ----


def test_ids_are_words_and_unique():
    ids = [cell.metadata.nbgrader.grade_id for _, _, cell in CELLS]
    assert len(set(ids)) == len(ids) and all(
        re.fullmatch("[a-z]+(_[a-z]+)*", grade_id) for grade_id in ids
    )


def test_each_autograded_test_has_a_solution_before_it_and_a_hidden_test():
    names = [cell.metadata.nbgrader.grade_id.removesuffix("_test") for _, _, cell in TESTED]
    assert set(names) == set(hidden.TESTS)
    for name, (book, i, cell) in zip(names, TESTED, strict=True):
        where, before, solution = BY_ID[name]
        assert cell.metadata.nbgrader.grade_id == f"{name}_test" and cell.metadata.nbgrader.locked
        assert (
            (where, before) == (book, i - 1)
            and solution.metadata.nbgrader.solution
            and not solution.metadata.nbgrader.grade
        )


def test_what_is_left_of_a_solution_is_its_signature_and_docstring():
    for _, _, cell in CELLS:
        if cell.metadata.nbgrader.solution and cell.cell_type == "code":
            left = re.sub(
                r"( *)### BEGIN SOLUTION.*?### END SOLUTION",
                r"\1raise NotImplementedError",
                cell.source,
                flags=re.DOTALL,
            )
            (function,) = __import__("ast").parse(left).body
            assert (
                left != cell.source
                and len(function.body) == 2
                and "raise Not" in left
                and '"""' in left
            )


def test_points_are_positive_and_those_of_the_task():
    for book, i, cell in GRADED:
        task = next(
            c.source
            for c in reversed(NOTEBOOKS[book].cells[:i])
            if c.cell_type == "markdown" and "**Exercise" in c.source
        )
        assert cell.metadata.nbgrader.points > 0
        assert int(re.search(r"\((\d+) points", task).group(1)) == cell.metadata.nbgrader.points


def test_tasks_are_numbered_and_have_a_hint():
    tasks = [
        c.source
        for notebook in NOTEBOOKS.values()
        for c in notebook.cells
        if "**Exercise" in c.source
    ]
    assert [int(n) for task in tasks for n in re.findall(r"\*\*Exercise (\d+)", task)] == list(
        range(1, len(GRADED) + 1)
    )
    assert all(
        len(re.search(r"\*Hint:\*(.*)", task, re.DOTALL).group(1).split()) > 10 for task in tasks
    )


def test_self_checks_say_what_is_missing():
    for _, _, cell in TESTED:
        # Also those within a loop over several cases.
        nodes = ast.walk(ast.parse(cell.source))
        asserts = [node for node in nodes if isinstance(node, ast.Assert)]
        assert len(asserts) >= 3, cell.source
        assert all(node.msg is not None for node in asserts) and "print" not in cell.source


def test_nbgrader_accepts_the_metadata():
    validator = pytest.importorskip(
        "nbgrader.nbgraderformat", reason="nbgrader is not installed"
    ).MetadataValidator()
    for notebook in NOTEBOOKS.values():
        validator.validate_nb(notebook)


def test_executing_keeps_the_metadata():
    for notebook in NOTEBOOKS.values():
        copy = nbformat.from_dict(notebook)
        run.tidy(copy)
        kept, there = (
            [cell.metadata.get("nbgrader") for cell in book.cells] for book in (copy, notebook)
        )
        assert kept == there and any(there)


# ---- The hidden tests ----


@pytest.fixture(scope="module", autouse=True)
def packs():
    """`codec`, here and in the hidden tests, that packs the same weights only once.

    Each packing takes half a second.
    """
    packed = {}

    def pack(model, precision=64.0, decoder_only=False):
        key = getattr(model, "identity", id(model)), precision, decoder_only
        packed[key] = packed.get(key) or codec.pack(model, precision, decoder_only)
        return packed[key]

    hidden.codec = SimpleNamespace(**{**vars(codec), "pack": pack})
    return hidden.codec


@pytest.fixture(scope="module")
def names(packs) -> dict:
    """What the solved cells of the exercises define."""
    modules = {
        "np": np,
        "torch": torch,
        "nn": nn,
        "F": nn.functional,
        "svd": svd,
        "models": models,
        "metrics": metrics,
        "data": data,
        "codec": packs,
        "recipes": recipes,
    }
    names = modules | {"corrupt": corrupt}
    # What the notebook has defined by then, and the solution of its codec uses.
    (layers,) = (
        cell.source for cell in NOTEBOOKS["04_improvements"].cells if "def down(" in cell.source
    )
    exec(layers, names)
    for name in hidden.TESTS:
        exec(BY_ID[name][2].source, names)
    return names


def asker(names: dict):
    """`ask` without a sandbox: the same way there and back."""

    def ask(expression, **inputs):
        inputs = {
            name: driver.decode(json.loads(json.dumps(driver.encode(value))))
            for name, value in inputs.items()
        }
        try:
            return driver.decode(
                json.loads(json.dumps(driver.encode(eval(expression, names | inputs))))
            )
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}") from None

    return ask


@pytest.mark.parametrize("name", hidden.TESTS)
def test_accept_the_solution(names, name):
    hidden.TESTS[name](asker(names))


@pytest.mark.parametrize("name", hidden.TESTS)
def test_refuse_the_student_version(name):
    stub = re.sub(
        r"( *)### BEGIN SOLUTION.*?### END SOLUTION",
        r"\1raise NotImplementedError()",
        BY_ID[name][2].source,
        flags=re.DOTALL,
    )
    names = {}
    exec(stub, names)
    with pytest.raises(AssertionError, match="NotImplementedError"):
        hidden.TESTS[name](asker(names))


def wrong_loop(
    zero: bool = True,
    copied: bool = True,
    restored: bool = True,
    trained: str = "pictures",
    measured: str = "validation",
    patience: str = "patience",
) -> str:
    """A training loop as in notebook 02, with one thing wrong."""
    state = "model.state_dict().items()"
    best = f"{{k: v.clone() for k, v in {state}}}" if copied else f"dict({state})"
    return f"""
def train_until_best(model, loss_of, pictures, validation, epochs, lr, batch_size, patience):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    found, pictures = [], {trained}
    for _ in range(epochs):
        for batch in pictures[torch.randperm(len(pictures))].split(batch_size):
            loss = loss_of(model, batch)
            {"optimizer.zero_grad()" if zero else ""}
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found.append(loss_of(model, {measured}).item())
        since_best = len(found) - 1 - found.index(min(found))
        if since_best == 0:
            best = {best}
        if since_best >= {patience}:
            break
    {"model.load_state_dict(best)" if restored else ""}
    return found
"""


def wrong_denoising(
    zero: bool = True,
    noise_of: str = "spoil(batch)",
    target: str = "batch",
    loss: str = "F.binary_cross_entropy",
    order: str = "torch.randperm(len(pictures))",
    mean: str = "total / len(pictures)",
) -> str:
    """The loop of notebook 03's exercise, with one thing wrong."""
    return f"""
def train_denoiser(model, pictures, spoil, epochs, lr, batch_size):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    history, old = [], {{}}
    for _ in range(epochs):
        total, batches = 0.0, 0
        for batch in pictures[{order}].split(batch_size):
            noisy = {noise_of}
            loss = {loss}(model(noisy), {target})
            {"optimizer.zero_grad()" if zero else ""}
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
            batches += 1
        history.append({mean})
    return history
"""


def cut_bits(least: str) -> str:
    """The bits of a value by two tails, never those of less than this probability."""
    return f"""
def value_bits(y, scale):
    far, near = (y.abs() + 0.5) / scale, (y.abs() - 0.5) / scale
    inside = 1 - 0.5 * torch.exp(-far) - 0.5 * torch.exp(near.clamp(max=0))
    outside = 0.5 * torch.exp(-near.clamp(min=0)) - 0.5 * torch.exp(-far)
    return -torch.where(near < 0, inside, outside).clamp(min={least}).log2()
"""


KEPT_NOISE = "old[n] if (n := len(batch)) in old else old.setdefault(n, spoil(batch))"
# Each a wrong answer and a part of what the hidden test says to it.
WRONG = {
    "write_svd": [
        (
            "picture_svd = lambda p: np.linalg.svd(svd.to_matrix(p).astype(float))",
            "shape",
        ),  # the full one
        (
            "picture_svd = lambda p: np.linalg.svd(p.reshape(len(p), -1), full_matrices=False)",
            "side by side",
        ),  # pixel by pixel
        (
            "picture_svd = lambda p: [x[..., ::-1] if x.ndim < 3 else x for x in "
            "np.linalg.svd(svd.to_matrix(p), full_matrices=False)]",
            "largest",
        ),
        (
            "old = picture_svd\ndef picture_svd(p):\n    u, s, vt = old(p)\n    return u, s**2, vt",
            "multiplied",
        ),
        (
            "old = picture_svd\ndef picture_svd(p):\n    u, s, vt = old(p)\n    return u * s, s / "
            "s, vt",
            "finite|largest|orthonormal",
        ),
        (
            "old = picture_svd\ndef picture_svd(p):\n    u, s, vt = old(p)\n    return -u, -s, vt",
            "below 0",
        ),
        (
            "picture_svd = lambda p: "
            "(np.eye(len(p)), np.ones(len(p)), svd.to_matrix(p).astype(float))",
            "shape|orthonormal",
        ),
        (
            "one = picture_svd(np.zeros((16, 24, 3), np.uint8))\npicture_svd = lambda p: one",
            "multiplied",
        ),  # always the same
    ],
    "write_mk": [
        ("first_parts = lambda U, s, Vt, k: U * s @ Vt", "expected"),  # all of them
        (
            "first_parts = lambda U, s, Vt, k: U[:, :k] @ Vt[:k]",
            "expected",
        ),  # without the singular values
        (
            "first_parts = lambda U, s, Vt, k: U[:, -k:] * s[-k:] @ Vt[-k:]",
            "expected",
        ),  # the last ones
        ("first_parts = lambda U, s, Vt, k: U[:, : k + 1] * s[: k + 1] @ Vt[: k + 1]", "expected"),
        (
            "first_parts = lambda U, s, Vt, k: s[k - 1] * np.outer(U[:, k - 1], Vt[k - 1])",
            "expected",
        ),  # only the k-th
        ("first_parts = lambda U, s, Vt, k: U[:, :k] * s[:k]", "shape"),
    ],
    "storage": [
        (
            "storage = lambda h, w, k, n: "
            "(3 * h * w, n * k * (h + 3 * w), n * k * (h + 3 * w) < 3 * h * w)",
            "U, s and Vt",
        ),
        (
            "storage = lambda h, w, k, n: "
            "(3 * h * w, n * k * (h + w + 1), n * k * (h + w + 1) < 3 * h * w)",
            "all channels",
        ),
        ("storage = lambda h, w, k, n: (49152, 32832 * n, n < 2)", "bytes raw"),
        (
            "old = storage\nstorage = lambda h, w, k, n: (*old(h, w, k, n)[:2], k < min(h, w))",
            "compression",
        ),
        ("storage = lambda h, w, k, n: 3 * h * w", "three answers"),
    ],
    "break_even": [
        (
            "break_even = lambda h, w, n: 3 * h * w // (n * (h + 3 * w + 1))",
            "expected 0",
        ),  # equal is not smaller
        ("break_even = lambda h, w, n: {4: 23, 2: 47, 1: 95}.get(n, 11)", "expected"),
        ("old = break_even\nbreak_even = lambda h, w, n: max(1, old(h, w, n))", "expected 0"),
        ("break_even = lambda h, w, n: 3 * h * w / (n * (h + 3 * w + 1))", "expected"),
        ("break_even = lambda h, w, n: None", "a number"),
    ],
    "train_until_best": [
        (wrong_loop(zero=False), "gradient"),
        (wrong_loop(copied=False), "best epoch"),
        (wrong_loop(restored=False), "best epoch"),
        (wrong_loop(trained="torch.cat([pictures, validation])"), "validation loss"),
        (wrong_loop(trained="pictures[: len(pictures) // 2]"), "validation loss"),
        (wrong_loop(measured="pictures"), "validation loss"),
        (wrong_loop(patience="epochs"), "until the patience"),
        (wrong_loop(patience="patience + 1"), "until the patience"),
        ("train_until_best = lambda *rest: []", "0 validation losses"),
    ],
    "small_autoencoder": [
        ("old = small_autoencoder\nsmall_autoencoder = lambda n: old(2 * n)", "of at most"),
        # It fits the first test's number alone.
        ("old = small_autoencoder\nsmall_autoencoder = lambda n: old(64)", "dB on other cars"),
        ("small_autoencoder = lambda n: models.DenseAutoencoder(64, n, 64)", "dB on other cars"),
        (
            "class Shrink(nn.Module):\n    def forward(self, x):\n"
            "        return nn.functional.interpolate(x, 6, mode='area')\n"
            "class Enlarge(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n"
            "        self.gain = nn.Parameter(torch.ones(1))\n"
            "    def forward(self, x):\n"
            "        return self.gain * nn.functional.interpolate(x, 64, mode='bicubic')\n"
            "class Thumbnails(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n"
            "        self.encoder, self.decoder = Shrink(), Enlarge()\n"
            "    def forward(self, x):\n        return self.decoder(self.encoder(x))\n"
            "small_autoencoder = lambda n: Thumbnails()",
            "dB on other cars",
        ),
        (
            "old = small_autoencoder\nclass Keep(nn.Module):\n"
            "    def __init__(self, e):\n        super().__init__()\n        self.e = e\n"
            "    def forward(self, x):\n        Keep.x = x\n        return self.e(x)[:, :1]\n"
            "class Give(nn.Module):\n"
            "    def forward(self, x):\n        return Keep.x + 0 * x.mean()\n"
            "def small_autoencoder(n):\n    m = nn.Sequential()\n"
            "    m.add_module('encoder', Keep(old(n).encoder))\n"
            "    m.add_module('decoder', Give())\n    return m",
            "dB on other cars",
        ),
        (
            "small_autoencoder = lambda n: models.DenseAutoencoder(64, n, 512)",
            "parameters to train",
        ),
    ],
    "byte_budget": [
        ("old = design\ndesign = lambda p, n: old(p, 2 * n)", "take"),  # too large
        ("old = design\ndesign = lambda p, n: old(p, n // 3)", "dB on other cars"),  # too small
        (
            "class Shrink(nn.Module):\n    def forward(self, x):\n        return "
            "nn.functional.interpolate(x, 14, mode='area')\n"
            "class Enlarge(nn.Module):\n    def forward(self, x):\n        return "
            "nn.functional.interpolate(x, 128, mode='bicubic')\n"
            "design = lambda p, n: (Shrink(), Enlarge())",
            "dB on other cars",
        ),
        (
            "old = design\nclass Secret(nn.Module):\n    def __init__(self, d):\n        "
            "super().__init__()\n        self.d = [d]\n"
            "    def forward(self, x):\n        return self.d[0](x)\ndef design(p, n):\n    e, d = "
            "old(p, n)\n    return e, Secret(d)",
            "to be counted",
        ),
        (
            "class Keep(nn.Module):\n    def forward(self, x):\n        Keep.x = x\n        return "
            "torch.ones(len(x), 1)\n"
            "class Give(nn.Module):\n    def forward(self, x):\n        return Keep.x\ndesign = "
            "lambda p, n: (Keep(), Give())",
            "dB on other cars",
        ),
    ],
    "train_denoiser": [
        (wrong_denoising(zero=False), "gradient"),
        # Drawn once, and kept.
        (wrong_denoising(noise_of=KEPT_NOISE), "noise was drawn"),
        (wrong_denoising(noise_of="batch"), "noise was drawn"),
        (wrong_denoising(target="noisy"), "target clean"),
        (wrong_denoising(loss="F.mse_loss"), "loss"),
        (wrong_denoising(order="torch.arange(len(pictures))"), "same order"),
        (wrong_denoising(order="torch.randint(len(pictures), (len(pictures),))"), "every picture"),
        (wrong_denoising(mean="total / batches"), "mean over all"),
        (wrong_denoising(mean="loss.item()"), "mean over all"),
        ("train_denoiser = lambda *rest: []", "noise was drawn"),
    ],
    "small_denoiser": [
        ("small_denoiser = lambda: models.DenseDenoiser()", "expected 1 to 20,000"),
        ("small_denoiser = lambda: models.DenseDenoiser(hidden=12)", "dB on other digits"),
        (
            "small_denoiser = lambda: nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.Sigmoid())",
            "dB on other digits",
        ),
        (
            "from scipy.ndimage import median_filter\nclass Median(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n"
            "        self.gain = nn.Parameter(torch.ones(1))\n"
            "    def forward(self, x):\n"
            "        y = median_filter(x.detach().float().numpy(), (1, 1, 3, 3))\n"
            "        return (self.gain * torch.from_numpy(y)).clamp(0, 1)\n"
            "small_denoiser = Median",
            "dB on other digits",
        ),
        (
            "small_denoiser = lambda: nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Sigmoid())",
            "expected equal",
        ),
    ],
    "beat_denoiser": [
        ("my_denoiser = lambda x: x", "2 dB more"),
        (
            "from skimage.filters import median\nmy_denoiser = lambda x: "
            "np.stack([median(p, np.ones((5, 5, 1))) for p in x])",
            "2 dB more",
        ),
        (
            "from scipy.ndimage import gaussian_filter\nmy_denoiser = lambda x: "
            "gaussian_filter(x, (0, 1.4, 1.4, 0))",
            "2 dB more",
        ),
        ("my_denoiser = lambda x: x[:1]", "shape"),
        ("my_denoiser = lambda x: x * np.nan", "finite"),
        (  # the clean picture on board that is most like it
            "cars = data.cars(64)[0].movedim(1, -1).numpy()[:, :, :56]\n"
            "my_denoiser = lambda x: "
            "np.stack([cars[((cars - p) ** 2).mean((1, 2, 3)).argmin()] for p in x])",
            "2 dB more",
        ),
    ],
    "rate_term": [
        # The density, not the area under it.
        ("value_bits = lambda y, s: (y.abs() / s + torch.log(2 * s)) / np.log(2)", "bits for"),
        ("old = value_bits\nvalue_bits = lambda y, s: old(y, s) * np.log(2)", "bits for"),  # nats
        ("old = value_bits\nvalue_bits = lambda y, s: old(y, 2**s)", "bits for"),
        ("old = value_bits\nvalue_bits = lambda y, s: old(y.round(), s)", "bits for"),
        ("old = value_bits\nvalue_bits = lambda y, s: old(y, s).sum()", "expected an array"),
        (cut_bits("0.3"), "far from zero|bits for"),  # too soon at its least probability
        (cut_bits("0"), "finite"),
        ("old = value_bits\nvalue_bits = lambda y, s: old(y, s.detach() + 0 * s)", "slope"),
    ],
    "beat_jpeg": [
        (  # An encoder that sends nothing.
            "old = codec_of_my_own\n"
            "def codec_of_my_own():\n"
            "    model = old()\n"
            "    model.latent = lambda x: 0 * old_latent(x)\n"
            "    old_latent = type(model).latent.__get__(model)\n"
            "    return model",
            "dB on other cars",
        ),
        (  # Values in a unit in which rounding is far too fine.
            "old = codec_of_my_own\n"
            "def codec_of_my_own():\n"
            "    model = old()\n"
            "    kept = type(model).latent.__get__(model), type(model).restore.__get__(model)\n"
            "    model.latent = lambda x: 30 * kept[0](x)\n"
            "    model.restore = lambda y: kept[1](y / 30)\n"
            "    model.forward = lambda x: (model.restore(model.latent(x)), torch.zeros(len(x)))\n"
            "    return model",
            "fewer than JPEG|JPEG reaches",
        ),
        ("codec_of_my_own = lambda: nn.Linear(2000, 2000)", "parameters"),
    ],
    "fit_decoder": [
        ("fit_decoder = lambda m, n: codec.pack(m, 128, decoder_only=True)", "the file has"),
        ("fit_decoder = lambda m, n: codec.pack(m, 1, decoder_only=True)", "too coarsely"),
        ("fit_decoder = lambda m, n: bytes(n)", "refuses"),
        ("fit_decoder = lambda m, n: codec.pack(m, 64, decoder_only=True)[:n]", "refuses"),
        (
            "fit_decoder = lambda m, n: "
            "codec.pack(codec.unpack(codec.pack(codec.LearnedCodec((12,), 8, 8, 0, 2))), 1)",
            "the file has|coarsely",
        ),
        (
            "fit_decoder = lambda m, n: "
            "codec.pack(codec.LearnedCodec((1,), 1, 1, 0, 2), 1, decoder_only=True)",
            "identity|expected that of the model",
        ),
        ("fit_decoder = lambda m, n: 'a file'", "expected bytes"),
    ],
    "reparameterised": [
        ("reparameterised = lambda m, v, e: m + v.exp() * e", "log-variance"),
        ("reparameterised = lambda m, v, e: m + (v / 2).exp() * torch.randn_like(e)", "expected"),
        ("old = reparameterised\nreparameterised = lambda m, v, e: old(m, v.detach(), e)", "reach"),
        ("old = reparameterised\nreparameterised = lambda m, v, e: old(m.detach(), v, e)", "reach"),
        ("reparameterised = lambda m, v, e: m[0]", "expected an array"),
    ],
    "divergence": [
        ("old = divergence\ndivergence = lambda m, v, s=1.0: old(m, v)", "expected"),
        ("old = divergence\ndivergence = lambda m, v, s=1.0: old(m, v, s**0.5)", "expected"),
        ("old = divergence\ndivergence = lambda m, v, s=1.0: old(m, v, s).mean()", "array"),
        ("old = divergence\ndivergence = lambda m, v, s=1.0: old(m, 2 * v, s)", "expected"),
        ("old = divergence\ndivergence = lambda m, v, s=1.0: old(m, v, s) / 3", "expected"),
    ],
    "kernel_distance": [
        (  # With a picture and itself as a pair.
            "def kernel_distance(a, b):\n"
            "    k = lambda x, y: ((x @ y.T / x.shape[1] + 1) ** 3).mean()\n"
            "    return k(a, a) + k(b, b) - 2 * k(a, b)",
            "expected",
        ),
        ("old = kernel_distance\nkernel_distance = lambda a, b: -old(a, b)", "expected"),
        ("old = kernel_distance\nkernel_distance = lambda a, b: old(a[:30], b[:30])", "expected"),
        ("kernel_distance = lambda a, b: 'small'", "expected"),
    ],
    "hiding_masks": [
        ("old = hiding_masks\nhiding_masks = lambda o, s, p, n: 1 - old(o, s, p, n)", "wrong"),
        ("old = hiding_masks\nhiding_masks = lambda o, s, p, n: old(o.flip(0), s, p, n)", "wrong"),
        (
            "old = hiding_masks\nhiding_masks = lambda o, s, p, n: old(o.argsort(), s, p, n)",
            "wrong",
        ),
        ("old = hiding_masks\nhiding_masks = lambda o, s, p, n: old(o, s, p, n)[:, 0]", "array"),
    ],
    "region_overlap": [
        (  # All pixels alike: large regions count more.
            "region_overlap = lambda k, m, t: float((m[k > 0] > t).mean())",
            "expected",
        ),
        ("old = region_overlap\nregion_overlap = lambda k, m, t: old(k, m, t - 0.05)", "expected"),
        (  # Pixels that touch at a corner are apart.
            "def region_overlap(k, m, t):\n"
            "    from scipy import ndimage\n"
            "    found = [ndimage.label(mask) for mask in k]\n"
            "    return float(np.mean([(one[labels == i] > t).mean()\n"
            "        for (labels, n), one in zip(found, m) for i in range(1, n + 1)]))",
            "expected",
        ),
        ("region_overlap = lambda k, m, t: None", "expected a number"),
    ],
    "alarm_threshold": [
        ("alarm_threshold = lambda s, r: float(np.quantile(s, 1 - r))", "expected"),
        ("alarm_threshold = lambda s, r: float(np.sort(s)[::-1][int(r * len(s)) - 1])", "expected"),
        ("alarm_threshold = lambda s, r: float(np.sort(s)[::-1][int(r * len(s))])", "expected"),
        ("alarm_threshold = lambda s, r: s", "expected a number"),
        (
            "alarm_threshold = lambda s, r: float(np.sort(s)[::-1][int(r * len(s) + 1e-9)])",
            "expected a ValueError",
        ),
        (
            "alarm_threshold = lambda s, r: float(np.quantile(s, 1 - r, method='lower'))",
            "expected",
        ),
    ],
    "grouped_folds": [
        (  # Groups are torn apart.
            "grouped_folds = lambda y, g, n, seed=0: "
            "np.random.default_rng(seed).permutation(len(y)) % n",
            "expected one fold",
        ),
        (  # Groups stay whole; nobody counts classes.
            "def grouped_folds(y, g, n, seed=0):\n"
            "    names, inverse = np.unique(g, return_inverse=True)\n"
            "    return np.random.default_rng(seed).integers(n, size=len(names))[inverse]",
            "at most",
        ),
        (
            "old = grouped_folds\ngrouped_folds = lambda y, g, n, seed=0: old(y, g, n)",
            "another seed",
        ),
        (
            "old = grouped_folds\n"
            "grouped_folds = lambda y, g, n, seed=0: old(y, g, n, np.random.randint(10**9))",
            "the same seed",
        ),
        (
            "old = grouped_folds\ngrouped_folds = lambda y, g, n, seed=0: old(y, g, n, seed) + 1",
            "0 to",
        ),
    ],
    "wilson_interval": [
        (  # The normal approximation
            "def wilson_interval(k, n, z=1.96):\n"
            "    p = k / n if n else 0.5\n"
            "    half = z * (p * (1 - p) / n) ** 0.5 if n else 0.5\n"
            "    return max(0, p - half), min(1, p + half)",
            "expected",
        ),
        ("old = wilson_interval\nwilson_interval = lambda k, n, z=1.96: old(k, n)", "expected"),
        ("old = wilson_interval\nwilson_interval = lambda k, n, z=1.96: old(k, n, z)[::-1]", "to"),
        (
            "old = wilson_interval\nwilson_interval = lambda k, n, z=1.96: old(k, max(1, n), z)",
            r"wilson_interval\(0, 0",
        ),
    ],
    "adjust_logits": [
        ("old = adjust_logits\nadjust_logits = lambda x, c, t: old(x, c, -t)", "expected"),
        ("old = adjust_logits\nadjust_logits = lambda x, c, t: old(x, c, 1.0)", "expected"),
        ("adjust_logits = lambda x, c, t: x - t * np.asarray(c) / np.sum(c)", "expected"),
        (
            "adjust_logits = lambda x, c, t: x - t * np.log(np.maximum(c, 1) / np.sum(c))",
            "-inf for the class",
        ),
        (
            "def adjust_logits(x, c, t):\n"
            "    c = np.asarray(c, float)\n"
            "    x -= t * np.log(np.where(c > 0, c, 1) / c.sum())\n"
            "    x[:, c == 0] = -np.inf\n"
            "    return x",
            "were changed|expected",
        ),
    ],
}


@pytest.mark.parametrize(
    "name, source, message", [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_refuse_wrong_answers(names, name, source, message):
    names = dict(names)
    exec(source, names)
    with pytest.raises(AssertionError, match=message):
        hidden.TESTS[name](asker(names))
