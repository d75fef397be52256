"""Labelled pictures by the name of their set, so that a notebook's parameter can choose the set.

The turntable is part of the course; the others are read from a folder, in the files that
torchvision uses. Nothing in such a file is executed, not even in the pickles of CIFAR-10.
"""

import io
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.io import loadmat, whosmat
from torch.nn import functional as F

from autoencoders import data
from autoencoders.course import real_data

# For each set the sizes of its pictures in pixels: as stored, then those that `read` can make.
SIZES = {
    "turntable": (64, 32, 16, 8),
    "FashionMNIST": (28, 32),
    "MNIST": (28, 32),
    "CIFAR10": (32, 16, 8),
    "SVHN": (32, 16, 8),
}
SETS = tuple(SIZES)
GARMENTS = "T-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
THINGS = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
CLASSES = {
    "FashionMNIST": GARMENTS.split(","),
    "MNIST": [*"0123456789"],
    "CIFAR10": THINGS.split(","),  # in the order of batches.meta, which is not read
    "SVHN": [*"0123456789"],
}
HOW_TO_GET = {
    "FashionMNIST": "run `python -m autoencoders download fashion-mnist --to {folder}`",
    "MNIST": "run `python -m autoencoders download mnist --to {folder}`",
    "CIFAR10": (
        "get https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz "
        "and unpack it in {folder}/CIFAR10"
    ),
    "SVHN": (
        "get train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers "
        "and put them in {folder}/SVHN"
    ),
}
# The files of a set, those of the test pictures last, and the folders where they may be.
FILES = {
    "CIFAR10": (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
    "SVHN": ("train_32x32.mat", "test_32x32.mat"),
}
PLACES = {
    "CIFAR10": ("CIFAR10/cifar-10-batches-py", "cifar-10-batches-py"),
    "SVHN": ("SVHN", "."),
}
# The largest files of the two sets have 31 and 182 million bytes. A batch that Python 3 wrote
# anew has half as many again.
MAX_BYTES = {"CIFAR10": 64_000_000, "SVHN": 400_000_000}
MAX_PICTURES = 200_000  # in a file of SVHN, whose largest has 73,257


class Labelled(NamedTuple):
    """Pictures with a class each."""

    pictures: torch.Tensor  # (N, C, size, size), float32 in [0, 1]
    labels: torch.Tensor  # (N,) number in classes
    train: torch.Tensor  # numbers of pictures, like the next two
    validation: torch.Tensor
    unseen: torch.Tensor
    classes: list[str]


def read(name: str, size: int | None = None, folder: str | Path | None = None) -> Labelled:
    """The pictures of one of `SETS` with their labels and splits.

    `size` is one of `SIZES`, in pixels; None is the size as stored. Smaller pictures are averages
    of blocks of pixels. For MNIST and Fashion-MNIST 32 puts two black pixels around the 28x28, for
    networks that halve the size four times.

    "turntable" has the body types as classes and always comes from the repository. The others come
    from `folder`, by default `$COURSE_DATA`: "FashionMNIST" and "MNIST" as `data.idx` reads them,
    "CIFAR10" (Krizhevsky 2009) from `CIFAR10/cifar-10-batches-py/` or `cifar-10-batches-py/`,
    "SVHN" (Netzer et al. 2011) from `SVHN/*.mat` or `*.mat`. Their own test pictures are unseen;
    the last sixth of the others is for validation, the rest for training.

    Raises ValueError for another name or size, for a set without a folder, and one that names all
    files that are missing, damaged or not what they should be.
    """
    if name not in SETS:
        raise ValueError(f"name={name!r}: expected one of {', '.join(SETS)}")
    stored, *others = SIZES[name]
    if size is None:
        size = stored
    if not (isinstance(size, int) and size in SIZES[name]):
        raise ValueError(
            f"size={size!r}: expected {stored} as {name} is stored, or "
            f"{' or '.join(map(str, others))}"
        )
    if name == "turntable":
        cars = data.turntable(size)
        splits = cars.train, cars.validation, cars.unseen
        return Labelled(cars.pictures, cars.body_type, *splits, cars.body_types)
    if folder is None:
        folder = real_data()
    if folder is None:
        raise ValueError(
            f"name={name!r}: this set is not part of the course, and no folder is given. "
            f"Expected one with its files: {HOW_TO_GET[name].format(folder='mydata')}, then set "
            "COURSE_DATA=mydata; or choose 'turntable', which is part of the course"
        )
    if name in FILES:
        pictures, labels, *splits = _from_files(name, Path(folder))
    else:
        pictures, labels, *splits = _from_idx(name, Path(folder))
    if size > stored:
        pictures = F.pad(pictures, 4 * [(size - stored) // 2])
    elif size < stored:
        pictures = F.avg_pool2d(pictures, stored // size)
    return Labelled(pictures, labels, *splits, list(CLASSES[name]))


def _from_idx(name: str, folder: Path) -> data.Digits:
    """`data.idx`, whose labels are checked as well."""
    digits = data.idx(name, folder)
    parts = torch.cat([digits.train, digits.validation]), digits.unseen
    for file, numbers in zip(data.IDX[1::2], parts, strict=True):
        try:
            check_labels(digits.labels[numbers].numpy())
        except ValueError as error:
            raise _unreadable(name, folder, [f"{name}/raw/{file} ({error})"]) from None
    return digits


def _from_files(name: str, folder: Path) -> data.Digits:
    """CIFAR-10 or SVHN, pictures `(N, 3, 32, 32)`."""

    def files_in(place):
        return sum((folder / place / file).is_file() for file in FILES[name])

    place = max(PLACES[name], key=files_in)  # the first one where there are none at all
    read_file = {"CIFAR10": read_batch, "SVHN": read_mat}[name]
    pictures, labels, faults = [], [], []
    for file in FILES[name]:
        path = folder / place / file
        try:
            _check_size(path, MAX_BYTES[name])
            some_pictures, some_labels = read_file(path)
        except (OSError, ValueError) as error:
            faults.append(f"{path.relative_to(folder).as_posix()} ({error})")
        else:
            pictures.append(some_pictures)
            labels.append(some_labels)
    if faults:
        raise _unreadable(name, folder, faults)
    total = sum(map(len, labels))
    count = total - len(labels[-1])  # without the test pictures
    # As in `data.idx`: the files are shuffled already, so the last of them are as good as any.
    splits = torch.tensor_split(torch.arange(total), (count - count // 6, count))
    # In place, because SVHN has 1.2 GB of float32.
    pictures = torch.from_numpy(np.concatenate(pictures)).float().div_(255)
    return data.Digits(pictures, torch.from_numpy(np.concatenate(labels)), *splits)


def _unreadable(name: str, folder: Path, faults: list[str]) -> ValueError:
    return ValueError(
        f"{name} in {str(folder)!r} cannot be read: {'; '.join(faults)}. Expected the set's own "
        f"files, whole; to replace them, {HOW_TO_GET[name].format(folder=folder)}"
    )


def _check_size(path: Path, most: int) -> None:
    """Before a file is read: it is there, and not so large that it would fill the memory."""
    if not path.is_file():
        raise ValueError("missing")
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{size:,} bytes, expected at most {most:,}")


def check_labels(labels: np.ndarray) -> None:
    """Raise ValueError unless there are labels, all from 0 to 9."""
    if not len(labels):
        raise ValueError("no pictures")
    wrong = labels[(labels < 0) | (labels > 9)]
    if len(wrong):
        raise ValueError(f"label {wrong[0]}, expected 0 to 9")


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A file of SVHN: pictures `(n, 3, 32, 32)`, uint8, and labels `(n,)` from 0 to 9.

    Raises ValueError that says what is wrong with it.
    """
    try:
        # Only the headers, so that a small file of zeros does not unpack to a huge array.
        variables = [entry for entry in whosmat(str(path)) if entry[0] in ("X", "y")]
        _check_variables(variables)
        content = loadmat(str(path), variable_names=("X", "y"))
    except Exception as error:  # SciPy raises whatever it likes on damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from None
    pictures, labels = content["X"], content["y"][:, 0]
    if pictures.dtype != np.uint8:  # MATLAB may store numbers in another type than it shows
        raise ValueError(f"X stored as {pictures.dtype}, expected uint8")
    wrong = labels[~np.isin(labels, range(1, 11))]
    if len(wrong):
        raise ValueError(f"label {wrong[0]}, expected 1 to 10")
    labels = labels.astype(np.int64) % 10  # the digit 0 is class 10 in SVHN
    check_labels(labels)
    # MATLAB's order (y, x, colour, n) becomes (n, 3, 32, 32).
    return pictures.transpose(3, 2, 0, 1), labels


def _check_variables(variables: list[tuple[str, tuple[int, ...], str]]) -> None:
    """Names, shapes and types from the headers of a file of SVHN. Raises ValueError."""
    described = {name: (shape, kind) for name, shape, kind in variables}
    if len(variables) != 2 or len(described) != 2:
        names = [name for name, _, _ in variables]
        raise ValueError(f"variables {names}, expected one X and one y")
    shape, kind = described["X"]
    if shape[:3] != (32, 32, 3) or len(shape) != 4 or kind != "uint8":
        raise ValueError(f"X {shape} {kind}, expected (32, 32, 3, n) uint8")
    count = shape[3]
    if count > MAX_PICTURES:
        raise ValueError(f"{count:,} pictures, expected at most {MAX_PICTURES:,}")
    shape, kind = described["y"]
    # MATLAB's own classes for numbers; structs, cells and objects are none.
    if shape != (count, 1) or not kind.startswith(("int", "uint", "single", "double")):
        raise ValueError(f"y {shape} {kind}, expected ({count}, 1) of numbers, a label a picture")


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A file of CIFAR-10: pictures `(n, 3, 32, 32)`, uint8, and labels `(n,)` from 0 to 9.

    Raises ValueError that says what is wrong with it.
    """
    try:
        # Written by Python 2, whose texts are bytes; one character a byte loses none.
        batch = ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not isinstance(batch, dict):
        raise ValueError("not a dict with data and labels")
    # Written anew by Python 3, keys may be bytes.
    batch = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()}
    pictures, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pictures, np.ndarray) or not isinstance(labels, list):
        raise ValueError("not a dict with an array data and a list labels")
    if pictures.ndim != 2 or pictures.shape[1] != 3072:
        raise ValueError(f"an array of shape {pictures.shape}, expected (n, 3072)")
    if any(type(label) is not int for label in labels):
        raise ValueError("labels that are no whole numbers")
    if len(labels) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures, {len(labels)} labels, expected one a picture")
    labels = np.array(labels, np.int64)
    check_labels(labels)
    # A row is 1,024 reds, then as many greens and blues.
    return pictures.reshape(-1, 3, 32, 32), labels


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, texts and arrays of uint8; whatever else is asked for, raises.

    A pickle may call any function of any module that it names. This one looks none up: the few
    names that an array needs stand for functions of our own.
    """

    def find_class(self, module: str, name: str):
        harmless = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,  # since NumPy 2
            ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct; no call of it is needed
            ("numpy", "dtype"): _dtype_of_bytes,
            ("_codecs", "encode"): _bytes,  # how protocol 2 writes the bytes of Python 3
        }
        if (module, name) not in harmless:
            raise pickle.UnpicklingError(
                f"asks for {module}.{name}, which no picture needs: it may be malicious"
            )
        return harmless[module, name]


def _empty_array(*_) -> np.ndarray:
    """What NumPy then fills by `__setstate__`, which compares shape and number of bytes."""
    return np.empty(0, np.uint8)


def _dtype_of_bytes(kind, *_) -> np.dtype:
    kind = kind.decode("latin1") if isinstance(kind, bytes) else kind
    # Above all not "O": an array of objects.
    if kind not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"an array of type {kind!r}, expected bytes (u1)")
    return np.dtype(np.uint8)


def _bytes(text: str, *_) -> bytes:
    return text.encode("latin1")
