"""Labelled sets, written in miniature in the formats of their publishers and read back."""

import pickle
import struct

import numpy as np
import pytest
import torch
from conftest import idx_files
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets import cifar

from autoencoders import data, labelled

BATCHES = labelled.FILES["CIFAR10"]
BATCH = "CIFAR10/cifar-10-batches-py/data_batch_3"


# CIFAR-10.


def text(value):
    """A text of Python 2 in a pickle: an instruction, the length, the bytes."""
    value = value.encode("latin-1") if isinstance(value, str) else value
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def number(value):
    return b"J" + struct.pack("<i", value)


def array(pictures, shape=None, kind="u1"):
    """An array in a pickle as NumPy made it under Python 2: _reconstruct, then its state."""
    shape = pictures.shape if shape is None else shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01("
        + b"".join(map(number, shape))
        + b"tcnumpy\ndtype\n"
        + text(kind)
        + b"K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
        + text(pictures.tobytes())
        + b"tb"
    )


def python2(pictures, numbers, names=(), **changes):
    """A batch as published: protocol 2, by Python 2, which has no other texts than bytes."""
    parts = {
        b"batch_label": text("training batch 1 of 5"),
        b"labels": b"](" + b"".join(map(number, numbers)) + b"e",
        b"data": array(pictures),
        b"filenames": b"](" + b"".join(map(text, names)) + b"e",
    }
    for key, part in changes.items():
        parts[key.encode()] = part
    items = b"".join(text(key) + part for key, part in parts.items() if part is not None)
    return b"\x80\x02}q\x01(" + items + b"u."


def python3(protocol, keys, names):
    """A function that writes a batch anew with today's pickle, its keys bytes or texts."""

    def write(pictures, labels):
        batch = {"labels": labels, "data": pictures, "filenames": names}
        if keys is bytes:
            batch = {key.encode(): value for key, value in batch.items()}
        return pickle.dumps(batch, protocol)

    return write


WRITERS = {
    "Python 2": lambda pictures, labels: python2(pictures, labels, ["leptodactylus_s_000004.png"]),
    "bytes": python3(2, bytes, [b"a.png", b"b.png"]),
    "text": python3(2, str, ["a.png", "b.png"]),
    "protocol 3": python3(3, bytes, [b"a.png", b"b.png"]),
}


def rows(seed, n=12):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, 3072), np.uint8), [(seed + i) % 10 for i in range(n)]


def write_cifar(folder, place="CIFAR10/cifar-10-batches-py", writer=WRITERS["Python 2"]):
    """Six batches of 12 pictures; returns all pictures and labels."""
    target = folder / place
    target.mkdir(parents=True)
    batches = [rows(seed) for seed in range(6)]
    for file, batch in zip(BATCHES, batches, strict=True):
        (target / file).write_bytes(writer(*batch))
    (target / "batches.meta").write_bytes(pickle.dumps({"label_names": [*"abcdefghij"]}, 2))
    pictures = np.concatenate([pictures for pictures, _ in batches]).reshape(-1, 3, 32, 32)
    labels = [label for _, labels in batches for label in labels]
    return torch.from_numpy(pictures), labels


@pytest.mark.parametrize("writer", WRITERS)
def test_cifar_as_written(tmp_path, writer):
    pictures, labels = write_cifar(tmp_path, writer=WRITERS[writer])
    read = labelled.read("CIFAR10", folder=tmp_path)
    assert read.pictures.dtype == torch.float32 and read.labels.dtype == torch.long
    torch.testing.assert_close(read.pictures, pictures / 255, rtol=0, atol=0)
    assert read.labels.tolist() == labels
    assert read.train.tolist() == list(range(50))
    assert read.validation.tolist() == list(range(50, 60))
    assert read.unseen.tolist() == list(range(60, 72))
    assert len(read.classes) == 10 and read.classes[1] == "automobile"


def test_cifar_without_its_own_folder(tmp_path):
    _, labels = write_cifar(tmp_path, "cifar-10-batches-py")
    assert labelled.read("CIFAR10", folder=str(tmp_path)).labels.tolist() == labels


def test_cifar_in_fortrans_order(tmp_path):
    pictures, labels = rows(0)
    content = pickle.dumps({"data": np.asfortranarray(pictures), "labels": labels}, 2)
    (tmp_path / "batch").write_bytes(content)
    read = labelled.read_batch(tmp_path / "batch")[0]
    np.testing.assert_array_equal(read.reshape(-1, 3072), pictures)


@pytest.mark.parametrize("writer", ["Python 2", "text"])
def test_cifar_as_torchvision_reads_it(tmp_path, monkeypatch, writer):
    write_cifar(tmp_path, writer=WRITERS[writer])
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)  # ours are not the originals
    read = labelled.read("CIFAR10", folder=tmp_path)
    for train, numbers in ((True, torch.arange(60)), (False, read.unseen)):
        theirs = datasets.CIFAR10(tmp_path / "CIFAR10", train)
        np.testing.assert_array_equal(data.to_bytes(read.pictures[numbers]), theirs.data)
        assert read.labels[numbers].tolist() == theirs.targets


def test_classes_are_those_of_torchvision():
    theirs = datasets.FashionMNIST.classes
    ours = labelled.CLASSES["FashionMNIST"]
    assert [name.split("/")[0].lower() for name in theirs] == [name.lower() for name in ours]
    assert [name[0] for name in datasets.MNIST.classes] == labelled.CLASSES["MNIST"]


def test_smaller_pictures_are_averages_of_blocks(tmp_path):
    pictures, _ = write_cifar(tmp_path)
    for size in (16, 8):
        small = labelled.read("CIFAR10", size, tmp_path).pictures
        blocks = pictures.reshape(-1, 3, size, 32 // size, size, 32 // size) / 255
        torch.testing.assert_close(small, blocks.mean((3, 5)))


def change(folder, content, file=BATCH):
    (folder / file).write_bytes(content)


def error_of(name, folder):
    """The message of the one error; it says which set, where, and how to get it anew."""
    with pytest.raises(ValueError, match=f"{name} in .* cannot be read: ") as error:
        labelled.read(name, folder=folder)
    message = str(error.value)
    assert repr(str(folder)) in message and str(folder) in message.split("to replace")[1]
    assert error.value.__cause__ is None and error.value.__suppress_context__ in (True, False)
    return message


PICTURES, LABELS = rows(2)
WHOLE = python2(PICTURES, LABELS)
OBJECTS = np.array([None] * 3072, object)[None]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (WHOLE[: len(WHOLE) // 2], "UnpicklingError"),
        (WHOLE[:-20], "UnpicklingError"),
        (b"", "EOFError"),
        (b"<html>", "UnpicklingError"),
        (pickle.dumps([1, 2], 2), "not a dict"),
        (python2(PICTURES, LABELS, data=None), "not a dict with an array"),
        (python2(PICTURES, LABELS, data=text("pixels")), "not a dict with an array"),
        (python2(PICTURES, LABELS, labels=text("1")), "a list labels"),
        (python2(PICTURES, LABELS, labels=b"](N\x88e"), "labels that are no whole numbers"),
        (python2(PICTURES, LABELS[1:]), "12 pictures, 11 labels"),
        (python2(PICTURES, [*LABELS[1:], 10]), "label 10, expected 0 to 9"),
        (python2(PICTURES, [*LABELS[1:], -1]), "label -1, expected 0 to 9"),
        (python2(PICTURES[:0], []), "no pictures"),
        (python2(PICTURES.reshape(24, 1536), LABELS), "shape (24, 1536), expected (n, 3072)"),
        (python2(PICTURES.ravel(), LABELS), "shape (36864,), expected (n, 3072)"),
        (
            python2(PICTURES, LABELS, data=array(PICTURES, (-12, 3072))),
            "Error",
        ),
        (
            python2(PICTURES, LABELS, data=array(PICTURES, (2**31 - 1, 3072))),
            "Error",
        ),
        (python2(PICTURES, LABELS, data=array(PICTURES, kind="O8")), "type 'O8', expected bytes"),
        (pickle.dumps({"data": PICTURES / 255, "labels": LABELS}, 2), "type 'f8', expected bytes"),
        (pickle.dumps({"data": OBJECTS, "labels": [0]}, 2), "type 'O8', expected bytes"),
        (pickle.dumps({"data": PICTURES, "labels": [0.5] * 12}, 2), "labels that are no whole"),
    ],
)
def test_wrong_batch(tmp_path, content, expected):
    write_cifar(tmp_path)
    change(tmp_path, content)
    message = error_of("CIFAR10", tmp_path)
    assert f"{BATCH} (" in message and expected in message


def test_batches_missing(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / BATCH).unlink()
    change(tmp_path, b"", "CIFAR10/cifar-10-batches-py/test_batch")
    message = error_of("CIFAR10", tmp_path)
    assert f"{BATCH} (missing); CIFAR10/cifar-10-batches-py/test_batch (" in message
    assert "data_batch_1" not in message and "unpack it in" in message


def test_nothing_there(tmp_path):
    message = error_of("CIFAR10", tmp_path)
    assert message.count("(missing)") == 6 and f"{BATCH} (missing)" in message


def test_a_file_is_not_read_where_it_is_too_large(tmp_path, monkeypatch):
    write_cifar(tmp_path)
    with (tmp_path / BATCH).open("r+b") as file:
        file.truncate(64_000_001)  # a sparse file: nothing of it is on the disk
    assert f"{BATCH} (64,000,001 bytes, expected at most 64,000,000)" in error_of(
        "CIFAR10", tmp_path
    )


# Pickles that would do harm.


class Harmful:
    """Pickles as a call that makes a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def harmful_pickles(marker):
    import os

    command = f"touch {marker}"
    batch = {"data": Harmful(os.system, command), "labels": [1]}
    pickles = {f"protocol {i}": pickle.dumps(batch, i) for i in range(6)}
    pickles["as a key"] = pickle.dumps({Harmful(os.system, command): 1}, 2)
    pickles["eval"] = pickle.dumps(Harmful(eval, f"open({str(marker)!r}, 'w')"), 2)
    pickles["open"] = pickle.dumps(Harmful(open, str(marker), "w"), 2)
    pickles["an instance"] = b"(S'" + command.encode() + b"'\nios\nsystem\n."
    pickles["an object"] = b"\x80\x02(cos\nsystem\nS'" + command.encode() + b"'\no."
    pickles["a submodule"] = b"\x80\x02cnumpy\nf2py.os.system\n" + text(command) + b"\x85R."
    return pickles


@pytest.mark.parametrize("kind", harmful_pickles("marker"))
def test_a_harmful_pickle_does_not_run(tmp_path, kind):
    marker = tmp_path / "marker"
    write_cifar(tmp_path)
    content = harmful_pickles(marker)[kind]
    change(tmp_path, content)
    message = error_of("CIFAR10", tmp_path)
    assert f"{BATCH} (" in message
    assert "it may be malicious" in message
    assert not marker.exists()


def test_the_marker_would_have_been_there(tmp_path):
    """So that the test before this one can fail."""
    for kind, content in harmful_pickles(tmp_path / "marker").items():
        if kind not in ("a submodule", "as a key"):
            pickle.loads(content)
            assert (tmp_path / "marker").exists()
            (tmp_path / "marker").unlink()


# SVHN.


def write_svhn(folder, place="SVHN", **options):
    """30 pictures and 12 unseen ones with labels from 1 to 10; returns all and their digits."""
    (folder / place).mkdir(exist_ok=True)
    pictures, digits = [], []
    for seed, (part, n) in enumerate((("train", 30), ("test", 12))):
        some, labels = svhn(seed, n)
        content = {"X": some, "y": labels}
        savemat(folder / place / f"{part}_32x32.mat", content, **options)
        pictures.append(some.transpose(3, 2, 0, 1))
        digits += [0 if label == 10 else label for label in labels[:, 0].tolist()]
    return torch.from_numpy(np.concatenate(pictures)), digits


def svhn(seed, n):
    pictures = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, n), np.uint8)
    return pictures, (1 + np.arange(n, dtype=np.uint8)[:, None] % 10)


@pytest.mark.parametrize(("place", "compressed"), [("SVHN", True), (".", False)])
def test_svhn_as_written_and_as_torchvision_reads_it(tmp_path, monkeypatch, place, compressed):
    pictures, digits = write_svhn(tmp_path, place, do_compression=compressed)
    read = labelled.read("SVHN", folder=tmp_path)
    assert read.pictures.dtype == torch.float32 and read.labels.dtype == torch.long
    torch.testing.assert_close(read.pictures, pictures / 255, rtol=0, atol=0)
    assert read.labels.tolist() == digits and digits[9] == 0
    assert read.classes == [*"0123456789"]
    assert read.train.tolist() == list(range(25))
    assert read.validation.tolist() == list(range(25, 30))
    assert read.unseen.tolist() == list(range(30, 42))
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda _: True)
    for split, numbers in (("train", torch.arange(30)), ("test", read.unseen)):
        theirs = datasets.SVHN(tmp_path / place, split)
        torch.testing.assert_close(
            read.pictures[numbers], torch.from_numpy(theirs.data) / 255, rtol=0, atol=0
        )
        assert read.labels[numbers].tolist() == theirs.labels.tolist()


X, Y = svhn(0, 30)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"X": X}, "variables ['X'], expected one X and one y"),
        ({"X": X[..., :0], "y": Y[:0]}, "no pictures"),
        ({"X": X.transpose(3, 0, 1, 2), "y": Y}, "X (30, 32, 32, 3) uint8, expected (32, 32, 3"),
        ({"X": X / 255, "y": Y}, "X (32, 32, 3, 30) double, expected (32, 32, 3, n) uint8"),
        ({"X": X, "y": Y.T}, "y (1, 30) uint8, expected (30, 1) of numbers"),
        ({"X": X, "y": Y[1:]}, "y (29, 1) uint8, expected (30, 1) of numbers"),
        ({"X": X, "y": Y.astype(object)}, "y (30, 1) cell, expected (30, 1) of numbers"),
        ({"X": X, "y": Y + 1}, "label 11, expected 1 to 10"),
        ({"X": X, "y": Y - 1}, "label 0, expected 1 to 10"),
        ({"X": X, "y": Y + 0.5}, "label 1.5, expected 1 to 10"),
        ({"X": X, "y": Y * np.nan}, "label nan, expected 1 to 10"),
    ],
)
def test_wrong_mat(tmp_path, content, expected):
    write_svhn(tmp_path)
    savemat(tmp_path / "SVHN" / "test_32x32.mat", content)
    message = error_of("SVHN", tmp_path)
    assert "SVHN/test_32x32.mat (" in message and expected in message
    assert "train_32x32.mat (" not in message and "housenumbers" in message


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_mat(tmp_path, compressed):
    write_svhn(tmp_path, do_compression=compressed)
    train, test = (tmp_path / "SVHN" / file for file in labelled.FILES["SVHN"])
    train.write_bytes(train.read_bytes()[: train.stat().st_size // 2])
    test.write_text("<html>not found</html>" * 20)
    message = error_of("SVHN", tmp_path)
    assert "SVHN/train_32x32.mat (" in message and "SVHN/test_32x32.mat (" in message
    train.unlink()
    assert "SVHN/train_32x32.mat (missing)" in error_of("SVHN", tmp_path)


def test_pictures_of_svhn_in_another_type_than_shown(tmp_path):
    """MATLAB's class says uint8, the numbers are stored as int8."""
    write_svhn(tmp_path, do_compression=False)
    path = tmp_path / "SVHN" / "test_32x32.mat"
    head = struct.pack("<II", 2, 32 * 32 * 3 * 12)  # miUINT8, then the number of bytes
    content = path.read_bytes()
    assert content.count(head) == 1
    path.write_bytes(content.replace(head, struct.pack("<II", 1, 32 * 32 * 3 * 12)))
    assert "X stored as int8, expected uint8" in error_of("SVHN", tmp_path)


def test_a_mat_is_not_unpacked_where_it_has_too_many_pictures(tmp_path, monkeypatch):
    write_svhn(tmp_path)
    monkeypatch.setattr(labelled, "MAX_PICTURES", 29)
    monkeypatch.setattr(labelled, "loadmat", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match="30 pictures, expected at most 29"):
        labelled.read_mat(tmp_path / "SVHN" / "train_32x32.mat")


# MNIST and Fashion-MNIST.


def write_idx(folder, name="FashionMNIST", **changes):
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for file, content in (idx_files() | changes).items():
        (raw / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", ["FashionMNIST", "MNIST"])
def test_idx_as_torchvision_reads_it(tmp_path, name):
    write_idx(tmp_path, name)
    read = labelled.read(name, folder=tmp_path)
    assert read.pictures.shape == (50, 1, 28, 28) and read.pictures.dtype == torch.float32
    assert read.labels.dtype == torch.long and len(read.classes) == 10
    assert (len(read.train), len(read.validation), len(read.unseen)) == (25, 5, 20)
    for train, numbers in (
        (True, torch.cat([read.train, read.validation])),
        (False, read.unseen),
    ):
        theirs = getattr(datasets, name)(tmp_path, train)
        expected = theirs.data[:, None] / 255
        torch.testing.assert_close(read.pictures[numbers], expected, rtol=0, atol=0)
        torch.testing.assert_close(read.labels[numbers], theirs.targets)


def test_32_pixels_are_28_with_a_black_border(tmp_path):
    write_idx(tmp_path)
    stored = labelled.read("FashionMNIST", 28, tmp_path).pictures
    padded = labelled.read("FashionMNIST", 32, tmp_path).pictures
    assert padded.shape == (50, 1, 32, 32)
    torch.testing.assert_close(padded[:, :, 2:-2, 2:-2], stored, rtol=0, atol=0)
    padded[:, :, 2:-2, 2:-2] = 0
    assert not padded.any()


def test_idx_with_a_label_out_of_range(tmp_path):
    file = "t10k-labels-idx1-ubyte"
    write_idx(tmp_path, **{file: idx_files()[file][:-1] + b"\x0a"})
    message = error_of("FashionMNIST", tmp_path)
    assert f"FashionMNIST/raw/{file} (label 10, expected 0 to 9)" in message


def test_idx_cut_in_half(tmp_path):
    file = "train-images-idx3-ubyte"
    write_idx(tmp_path, **{file: idx_files()[file][:12000]})
    with pytest.raises(ValueError, match=rf"{file} \(12,000 bytes, expected 23,536\).*download"):
        labelled.read("FashionMNIST", folder=tmp_path)


# Names, sizes, folders.


def test_the_turntable_is_the_repositorys(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    read, cars = labelled.read("turntable", 8), data.turntable(8)
    torch.testing.assert_close(read.pictures, cars.pictures)
    torch.testing.assert_close(read.labels, cars.body_type)
    for ours, theirs in zip(read[2:5], cars[7:10], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert read.classes == cars.body_types and "sedan" in read.classes


def test_course_data_is_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    for name in labelled.SETS[1:]:
        with pytest.raises(ValueError, match=rf"name='{name}': .*not part of.*COURSE_DATA=mydata"):
            labelled.read(name)
    monkeypatch.setenv("COURSE_DATA", str(write_idx(tmp_path, "MNIST")))
    assert len(labelled.read("MNIST").pictures) == 50


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("cifar", None, "name='cifar': expected one of turntable, FashionMNIST"),
        ("turntable", 48, "size=48: expected 64 as turntable is stored, or 32 or 16 or 8"),
        ("MNIST", 64, "size=64: expected 28 as MNIST is stored, or 32$"),
        ("CIFAR10", 32.0, "size=32.0: expected 32 as CIFAR10 is stored, or 16 or 8"),
        ("SVHN", 0, "size=0: expected 32"),
    ],
)
def test_unknown_names_and_sizes(tmp_path, name, size, expected):
    with pytest.raises(ValueError, match=expected):
        labelled.read(name, size, tmp_path)
