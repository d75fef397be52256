"""A file with its decoder in it: wavelets, what predicts their coefficients, and its training."""

import random

import numpy as np
import pytest
import torch
from conftest import car

from autoencoders import codec, data, training
from autoencoders.codec import archive, container, files, range_coder
from autoencoders.codec import training as recipes
from autoencoders.codec.container import CorruptFileError
from codec.conftest import TINY, overfitted, psnr

PICTURES = np.stack([car(i, 64, 96) for i in range(3)])


@pytest.fixture(scope="module")
def fitted() -> recipes.Overfitted:
    return overfitted(PICTURES, epochs=30)


@pytest.fixture(scope="module")
def written(fitted) -> bytes:
    named = dict(zip("abc", PICTURES, strict=True))
    coefficients = fitted.as_groups(fitted.values.round())
    return codec.encode_archive(named, fitted.decoder, coefficients, 10.0)


def decoded(file: bytes) -> np.ndarray:
    return np.stack([picture for _, picture in codec.decode_all(file)])


# ---- Wavelets ----


@pytest.mark.parametrize("length", [2, 4, 8, 64])
def test_a_constant_has_no_details(length):
    """And each level multiplies it by the root of 2, since the transform is nearly orthonormal."""
    low, details = archive.part(torch.ones(1, 1, length, length, dtype=torch.float64))
    torch.testing.assert_close(low, torch.full_like(low, 2.0), rtol=0.03, atol=0)
    assert details.abs().max() < 0.002  # the filters have 12 bits


def test_a_straight_line_has_no_details_within():
    line = torch.arange(32.0, dtype=torch.float64).expand(1, 1, 32, 32)
    _, details = archive.part(line)
    assert details[..., 4:-4, 4:-4].abs().max() < 0.02


def test_join_inverts_part():
    x = torch.randn(2, 1, 24, 40, dtype=torch.float64)
    torch.testing.assert_close(archive.join(*archive.part(x)), x)


def test_coefficients_draw_their_pictures():
    """But for colour in the finest details, which is left out."""
    grey = torch.rand(2, 1, 64, 96).expand(-1, 3, -1, -1)
    model = codec.ArchiveModel(**TINY)
    drawn = model.walk(model.analysis(grey))
    torch.testing.assert_close(drawn, grey, rtol=0, atol=1e-4)
    x = data.to_float(PICTURES)
    assert psnr(data.to_bytes(model.walk(model.analysis(x)))[0], PICTURES[0]) > 30


def test_shapes_are_those_of_the_analysis():
    model = codec.ArchiveModel(**TINY)
    found = [tuple(x.shape[1:]) for x in model.analysis(torch.rand(2, 3, 64, 96))]
    assert found == model.shapes(64, 96)


# ---- What predicts ----


def test_diagonals_visit_each_place_after_its_neighbours():
    known = set()
    for rows, columns in archive.diagonals(5, 7):
        places = [*zip(rows.tolist(), columns.tolist(), strict=True)]
        for row, column in places:
            for down, right in archive.BEFORE:
                place = row + down, column + right
                inside = 0 <= place[0] < 5 and 0 <= place[1] < 7
                assert not inside or place in known
        assert not known & {*places}
        known |= {*places}
    assert len(known) == 35


def test_bits_depend_on_what_is_decoded_before_alone(fitted):
    """Of the last band, a coefficient in the middle changes only those decoded after it."""
    coefficients = [x.clone() for x in fitted.as_groups(fitted.values.round())]
    model = fitted.decoder

    def means():
        weights = model.own_weights(len(coefficients) - 1)
        low = torch.zeros(3, 1, 32, 48)
        view = model.view_for(len(coefficients) - 1, low)
        x = model.around(len(coefficients) - 1, coefficients, view)
        before = archive._before(coefficients[-1])
        return model.predict(x + archive._mix(weights, before), model.scale[-1])[0][0, 2]

    with torch.no_grad():
        a = means()
        coefficients[-1][0, 2, 16, 24] += 5
        b = means()
    changed = (a != b).nonzero()[:, 0]
    assert changed.tolist() and changed.min() > 16 * 48 + 24


def test_what_is_written_is_read(fitted, written):
    """In about the bits that were estimated, and with the pictures that the training saw."""
    with torch.no_grad():
        fitted.eval()
        drawn, bits = fitted(torch.arange(3))
    about = codec.info(written)
    assert about["bytes"]["latents"] == pytest.approx(bits.sum().item() / 8, rel=0.05, abs=16)
    difference = np.abs(decoded(written).astype(int) - data.to_bytes(drawn))
    assert difference.max() <= 1 and difference.mean() < 0.1


def test_every_setting_of_the_machine_decodes_the_same(written):
    threads = torch.get_num_threads()
    pictures = decoded(written)
    try:
        for change in (1, 2, "medium", "bfloat16"):
            torch.set_num_threads(change if isinstance(change, int) else 1)
            torch.set_float32_matmul_precision("medium" if change == "medium" else "highest")
            with torch.autocast("cpu", torch.bfloat16, enabled=change == "bfloat16"):
                np.testing.assert_array_equal(decoded(written), pictures)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")


def test_batches_of_an_archive_change_no_picture(written, fitted, monkeypatch):
    monkeypatch.setattr(files, "AT_ONCE", 2 * 64 * 96)
    named = dict(zip("abc", PICTURES, strict=True))
    coefficients = fitted.as_groups(fitted.values.round())
    seen = []
    file = codec.encode_archive(
        named, fitted.decoder, coefficients, 10.0, lambda parts: seen.extend(parts) or parts
    )
    assert seen == [slice(0, 2), slice(2, 3)] and file != written
    pictures = decoded(file)
    monkeypatch.undo()
    np.testing.assert_array_equal(pictures, decoded(written))


# ---- Training ----


def test_sensitive_layers_are_rounded_more_finely():
    precisions = archive.precisions(codec.ArchiveModel().state_dict(), 7.0)
    assert {name for name, value in precisions.items() if value > 7} == {*archive.SENSITIVE}
    # What has few weights is in no list, and stays fine.
    assert "last" not in precisions and "own" in precisions


def test_soft_rounding_rounds():
    x = torch.tensor([-1.2, -0.5, 0.0, 0.4, 0.5, 1.0, 2.6])
    torch.testing.assert_close(
        recipes.soft_round(x, 1e-3)[[0, 2, 3, 5, 6]], x[[0, 2, 3, 5, 6]].round()
    )
    torch.testing.assert_close(recipes.soft_round(x, 10.0), x, rtol=0, atol=2e-3)


def untrained(epochs: int = 100) -> tuple[recipes.Overfitted, torch.Tensor]:
    x = data.to_float(PICTURES)
    training.seed_everything(0)
    options = {"psnr": 28.0, "precision": 10.0, "epochs": epochs}
    return recipes.Overfitted(codec.ArchiveModel(**TINY), x, **options), x


def test_only_a_batch_is_moved():
    model, x = untrained()
    before = model.values.clone()
    which = torch.tensor([2, 0])
    recipes.overfitting(model, (which, x[which]))["loss"].backward()
    model.after_step()
    moved = (model.values - before).abs().amax(1)
    # The first step of Adam is as long as its rate.
    torch.testing.assert_close(moved, torch.tensor([0.15, 0.0, 0.15]))
    assert model.visits.flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize(("excess", "sign"), [(2.0, 1), (-2.0, -1)])
def test_bits_get_dearer_while_the_psnr_is_above(excess, sign):
    model, x = untrained()
    which = torch.arange(3)
    recipes.overfitting(model, (which, x))["loss"].backward()
    model.told.grad.fill_(28 + excess)
    before = model.log_price.item()
    model.after_step()
    at_once, steady = 0.2 * 2, 2 * 2 / 100
    assert model.log_price.item() - before == pytest.approx(sign * (at_once + steady), rel=1e-4)
    for _ in range(100):
        model.after_step()
    # Its steady part stays in its bounds.
    assert model.steady.item() - model.start == pytest.approx(0.6 if sign > 0 else -1)


def test_the_loss_changes_no_model_and_tells_what_was_reached():
    model, x = untrained()
    which = torch.tensor([2, 0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    terms = recipes.overfitting(model, (which, x[which]))
    terms["loss"].backward()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    model.after_step()
    assert model.reached[which].mean().item() == pytest.approx(terms["psnr"].item())
    assert model.reached[1].item() == before["reached"][1].item()


def test_the_loss_by_hand():
    model, x = untrained()
    model.eval()
    terms = recipes.overfitting(model, (torch.tensor([1]), x[1:2]))
    drawn, bits = model(torch.tensor([1]))
    error = (drawn - x[1:2]).square().mean()
    expected = 2 * (error / 10**-2.8).sqrt() + model.log_price.exp() * bits / (64 * 96)
    torch.testing.assert_close(terms["loss"], expected[0], rtol=1e-4, atol=0)


def test_late_in_training_weights_are_rounded_and_coefficients_are_still_not():
    model, _ = untrained()
    for progress, is_rounded in ((0.84, False), (0.86, True)):
        model.progress.fill_(progress)
        used = model.parameters_as_used()["middle.weight"]
        assert torch.equal(used, model.decoder.middle.weight) != is_rounded
        values = model.quantise(model.values)
        assert not torch.equal(values, values.round())
    assert torch.equal(model.eval().quantise(model.values), model.values.round())


def test_towards_the_end_weights_are_those_of_the_file(fitted):
    fitted.eval()
    used = fitted.parameters_as_used()
    receiver = archive.unpack(archive.pack(fitted.decoder, 10.0))
    for name, value in receiver.state_dict().items():
        torch.testing.assert_close(used[name].detach().double(), value, rtol=0, atol=0)


def test_training_makes_files_smaller_and_repeats(fitted):
    """At about the same quality; the same seed gives the same file."""
    start, _ = untrained()
    with torch.no_grad():
        _, bits = start.eval()(torch.arange(3))
        _, fewer = fitted.eval()(torch.arange(3))
    assert fewer.sum() < 0.6 * bits.sum()
    a, b = (overfitted(PICTURES, epochs=2) for _ in range(2))
    torch.testing.assert_close(a.values, b.values, rtol=0, atol=0)


def test_pictures_of_any_one_size():
    named = {"a.png": car(1, 40, 50), "b.png": car(2, 40, 50)}
    file = codec.train_archive(named, epochs=2)
    opened = dict(codec.decode_all(file))
    assert {name: picture.shape for name, picture in opened.items()} == {
        "a.png": (40, 50, 3),
        "b.png": (40, 50, 3),
    }
    assert psnr(opened["a.png"], named["a.png"]) > 20


def test_what_an_archive_cannot_hold():
    model = codec.ArchiveModel(**TINY)
    coefficients = model.analysis(torch.rand(2, 3, 32, 32))
    pictures = {"a.png": car(1, 32, 32)}
    with pytest.raises(ValueError, match=r"coefficients of shapes \[\(2, 1, 1, 1\)"):
        codec.encode_archive(pictures, model, coefficients, 10.0)
    two = {"a.png": car(1, 32, 32), "b.png": car(2, 32, 64)}
    with pytest.raises(ValueError, match="pictures of 32x32, 64x32 pixels: an archive"):
        codec.encode_archive(two, model, coefficients, 10.0)
    two["b.png"] = car(2, 32, 32)
    coefficients[0][0] = torch.nan
    with pytest.raises(ValueError, match="expected .* all finite"):
        codec.encode_archive(two, model, coefficients, 10.0)
    with pytest.raises(ValueError, match="pictures of no pixels: .* expects all of one size"):
        codec.train_archive({})
    with pytest.raises(ValueError, match="psnr=nan: expected decibels, such as 28"):
        codec.train_archive(two, psnr=float("nan"))
    with pytest.raises(ValueError, match="pictures of 40x24, 40x32 pixels: an archive"):
        codec.train_archive({"a": car(0, 24, 40), "b": car(0, 32, 40)})
    with pytest.raises(ValueError, match="pictures of 1000x600 pixels: .* at most 524,288"):
        codec.train_archive({"a": np.zeros((600, 1000, 3), np.uint8)})
    with pytest.raises(ValueError, match="width=0: expected a whole number from 1 to 64"):
        codec.ArchiveModel(width=0)


# ---- Damage ----


def forged(written: bytes, rng: random.Random) -> bytes:
    """A right checksum around a body with some bytes changed, cut or added."""
    body = bytearray(written[7:])
    for _ in range(rng.randrange(1, 6)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    if rng.random() < 0.3:
        body = body[: rng.randrange(len(body))]
    return container.seal(container.ARCHIVE, 0, bytes(body))


def test_damaged_archives_decode_or_are_refused(archive):
    rng = random.Random(0)
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(150):
        try:
            for _, picture in codec.decode_all(forged(archive, rng)):
                assert picture.shape == (32, 32, 3)
            outcomes["decoded"] += 1
        except CorruptFileError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5


def test_archives_of_version_1_are_named(written):
    old = bytearray(written)
    old[2] = 1 << 5 | container.ARCHIVE << 3
    with pytest.raises(CorruptFileError, match="version 1 of the format, archive: expected 2"):
        [*codec.decode_all(bytes(old))]


# ---- Tables with a middle between integers ----


def test_split_means():
    mean = np.array([0.0, 0.06, 0.07, 0.44, -0.44, 0.5, -0.5, 2.3, -2.9])
    whole, more = range_coder.split_mean(mean)
    assert whole.tolist() == [0, 0, 0, 1, 0, 1, 0, 2, -3]
    eighth = more // range_coder.TABLES - 1
    middle = whole + np.where(eighth < 4, eighth, eighth - 8) / 8
    assert np.abs(middle - mean).max() <= 1 / 16


@pytest.mark.parametrize("eighth", range(8))
def test_tables_around_eighths(eighth):
    """They cost what the formula says."""
    middle = (eighth if eighth < 4 else eighth - 8) / 8
    for i in (4, 16, 30):
        number = np.full(3000, i + range_coder.TABLES * (1 + eighth))
        scale = 2 ** ((i - 16) / 4)
        values = np.random.default_rng(i).laplace(middle, scale, 3000)
        symbols = np.rint(values).astype(int)
        # However wrong the scale is, nothing that occurs is cut off.
        symbols[-1] = 1000
        writer = range_coder.Writer()
        writer.code(number, symbols)
        file = writer.finish()
        residual = torch.tensor(symbols - middle)
        expected = codec.laplace_bits(residual, torch.tensor((i - 16) / 4)).sum().item()
        assert 8 * len(file) == pytest.approx(expected, rel=0.01, abs=64)
        np.testing.assert_array_equal(range_coder.Reader(file).code(number), symbols)
