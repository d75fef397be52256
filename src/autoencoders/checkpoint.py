"""Checkpoints: the state of a run in one file, and a fingerprint by which the file knows its run.

A fingerprint holds what decides the result of a run, as a flat dict of short texts, for example
`{"training data": "(70, 3, 128, 128) float32 8f3a61c0d2b94e75", "loss.beta": "0.5", ...}`. Two
calls of `training.fit` with equal fingerprints end, on one machine, with equal weights.
"""

import contextlib
import dis
import enum
import functools
import hashlib
import io
import os
import platform
import random
import sys
import sysconfig
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import nn

FORMAT = 3  # of the file; 1 had no fingerprint, 2 one process
SHOWN = 5  # differences that an error lists


def save(path: Path, fingerprint: dict[str, str], state: dict) -> None:
    """Write a run's `state`.

    The new file is complete on disk before it replaces the old one, so a kill, a power failure or a
    full disk leaves the last good file. Raises OSError where nothing can be written.
    """
    content = {"format": FORMAT, "fingerprint": fingerprint, **state}
    # To memory first: a file on a full disk would end in one of torch's own errors.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # else the new name may reach the disk before the content
        os.replace(part, path)  # at once or not at all
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        kept = "the one that is there is untouched" if path.is_file() else "there is none yet"
        raise OSError(
            f"checkpoint {path.name!r} cannot be written to {str(path.parent)!r} "
            f"({error.strerror or error}); {kept}: expected a folder with write permission and "
            "free space; make room, or name a file in another folder"
        ) from error


def load(path: Path, fingerprint: dict[str, str]) -> dict:
    """Read the state that `save` wrote.

    Raises ValueError for a file that is damaged, that another program or version wrote, or that
    belongs to another run.
    """
    content = _read(path)
    differing = differences(content["fingerprint"], fingerprint)
    if differing:
        shown = "; ".join(differing[:SHOWN])
        if len(differing) > SHOWN:
            shown += f"; and {len(differing) - SHOWN} more"
        raise ValueError(
            f"checkpoint {path.name!r} is of another run ({shown}): delete it to start anew, "
            "or name another file, or make the model anew and call fit as before to go on"
        )
    return content


def _read(path: Path) -> dict:
    mend = "delete it to start anew, or name another file"
    try:
        # torch.load takes flipped bits for weights; the archive's checksums find them.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch have errors of their own for a damaged file
        raise ValueError(
            f"checkpoint {path.name!r} cannot be read ({type(error).__name__}): "
            f"expected a whole one of fit's; {mend}"
        ) from None
    written = content.get("format") if isinstance(content, dict) else None
    if written != FORMAT:
        raise ValueError(
            f"checkpoint {path.name!r} has format {written}: expected {FORMAT}, the one that this "
            f"version of fit writes; {mend}, or use the version that wrote it"
        )
    return content


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What differs between two fingerprints, each as "name before, here now"."""
    differing = []
    for name in now | before:  # in the order of `now`: the parts of a run that matter most first
        old = before.get(name, "absent")
        new = now.get(name, "absent")
        if old != new:
            differing.append(f"{name} {old}, here {new}")
    return differing


def random_states() -> dict:
    """The states of all random number generators, as types that a safe `torch.load` accepts."""
    # NumPy's is an array, which is not among the types that are safe to load.
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict) -> None:
    """Set the random number generators to what `random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


# ------------------------------------------------------------------------------------ fingerprint


class Text(str):
    """A string that stands in a fingerprint as it is."""


def fingerprint(values: dict) -> dict[str, str]:
    """The fingerprint of named values, and of the machine's settings that change the result.

    Numbers and short texts stand for themselves, tensors and arrays for a hash of their bytes;
    models, optimisers, functions and containers are taken apart (see `describe`).
    """
    entries = {}
    for name, value in values.items():
        entries |= describe(name, value)
    # More threads add up in another order, and sums of floats depend on it.
    entries["threads"] = str(torch.get_num_threads())
    entries["torch"] = str(torch.__version__)  # its own class is nothing for a safe torch.load
    entries["Python"] = ".".join(platform.python_version_tuple()[:2])  # bytecode depends on it
    return entries


def describe(name: str, value, seen: dict[int, object] | None = None) -> dict[str, str]:
    """A text for `value`, under its `name`, and one for each value in it, under `name.part`.

    Of a function that is its qualified name, the default, closure and global values that it uses,
    and, unless it belongs to an installed library, its bytecode; of a `functools.partial` what it
    binds; of a model its classes, attributes and weights; of an optimiser its options and state.
    """
    seen = {} if seen is None else seen
    text, parts = _parts(value)
    entries = {name: text}
    if id(value) in seen:  # such as a function that calls itself
        return entries
    seen[id(value)] = value  # kept, so that no other object gets its id
    for part, inner in parts.items():
        entries |= describe(f"{name}.{part}", inner, seen)
    return entries


@functools.singledispatch
def _parts(value) -> tuple[str, dict]:
    """A text for a value, and the named values that it consists of."""
    if hasattr(value, "__qualname__"):  # a class, or a function that is not written in Python
        return _name(value), {}
    kind = type(value)
    if _installed(kind):
        return _name(kind), {}
    # An object of the course or of a notebook: what it holds, and what calling it does.
    parts = dict(getattr(value, "__dict__", {}))
    if callable(value) and isinstance(kind.__call__, types.FunctionType):
        parts["__call__"] = kind.__call__
    return _name(kind), parts


PLAIN = (
    type(None), bool, int, float, complex, str, bytes, range, slice, PurePath, enum.Enum,
    np.generic, torch.dtype, torch.device,
)  # fmt: skip


def _plain(value) -> tuple[str, dict]:
    return _shortened(repr(value)), {}


for _kind in PLAIN:
    _parts.register(_kind, _plain)


@_parts.register
def _(value: Text):
    return str(value), {}


@_parts.register
def _(value: torch.Tensor):
    kind = str(value.dtype).removeprefix("torch.")
    # A weight of a loss, say, tells the reader of an error more than its hash does.
    if value.numel() <= 4:
        return f"{value.tolist()} {kind}", {}
    return f"{tuple(value.shape)} {kind} {_content([value])}", {}


@_parts.register
def _(value: np.ndarray):
    text = f"{value.shape} {value.dtype}"
    # The bytes of objects are their addresses, others in each process.
    if value.dtype.hasobject:
        return text, {"values": value.tolist()}
    return f"{text} {_digest(np.ascontiguousarray(value).tobytes())}", {}


@_parts.register
def _(value: torch.Generator):
    return f"generator {_content([value.get_state()])}", {}


@_parts.register(list)
@_parts.register(tuple)
def _(value):
    parts = dict(enumerate(value))
    if all(isinstance(part, PLAIN) for part in value):
        return _plain(value)
    return f"{type(value).__name__} of {len(value)}", parts


@_parts.register(set)
@_parts.register(frozenset)
def _(value):
    # Sorted: the order of a set of strings is another one in each process.
    return _shortened(", ".join(sorted(map(repr, value)))), {}


@_parts.register
def _(value: dict):
    return f"dict of {len(value)}", {str(key): part for key, part in value.items()}


@_parts.register
def _(value: functools.partial):
    parts = {"function": value.func, **dict(enumerate(value.args)), **value.keywords}
    return "partial", parts


@_parts.register
def _(value: types.MethodType):
    return _name(value), {"function": value.__func__, "self": value.__self__}


@_parts.register
def _(value: types.FunctionType):
    parts = {}
    defaults = value.__defaults__ or ()
    arguments = value.__code__.co_varnames[: value.__code__.co_argcount]
    # Defaults belong to the last arguments.
    parts |= zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True)
    parts |= value.__kwdefaults__ or {}
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # of a cell that is empty yet
            parts[name] = cell.cell_contents
    if _installed(value):
        return _name(value), parts
    # What it finds by name outside itself decides the result as much as its own lines.
    for name in sorted(set(_global_names(value.__code__))):
        used = value.__globals__.get(name)
        if used is not None and not isinstance(used, types.ModuleType):
            parts[name] = used
    return f"{_name(value)} {_digest(_bytecode(value.__code__).encode())}", parts


@_parts.register
def _(value: torch.optim.Optimizer):
    parts = {}
    for i, group in enumerate(value.param_groups):
        options = {key: option for key, option in group.items() if key != "params"}
        # The parameters themselves are the model's, which is described by itself.
        options["shapes"] = str([tuple(parameter.shape) for parameter in group["params"]])
        # One group is the rule: its options need no number before their names.
        inside = options if len(value.param_groups) == 1 else {f"group {i}": options}
        parts |= inside
    if value.state:  # one that has made steps before
        state = describe("state", value.state_dict()["state"])
        parts["state"] = Text(_digest(repr(state).encode()))
    return _name(type(value)), parts


@_parts.register
def _(value: nn.Module):
    parts = {}
    # Each module has these of torch: hooks, and the tables of its parameters and parts.
    inherited = vars(nn.Module()).keys()
    for path, module in value.named_modules():
        start = f"{path}." if path else ""
        parts[f"{start}class"] = Text(_name(type(module)))
        for name, attribute in vars(module).items():
            if name not in inherited:
                parts[f"{start}{name}"] = attribute
        if not _installed(type(module)):
            parts[f"{start}forward"] = type(module).forward
    tensors = [*value.parameters(), *value.buffers()]
    count = sum(tensor.numel() for tensor in tensors)
    parts["weights"] = Text(f"{len(tensors)} tensors, {count} values, {_content(tensors)}")
    return _name(type(value)), parts


def _content(tensors: list[torch.Tensor]) -> str:
    """A hash of the tensors' values, whatever their device and memory layout."""
    total = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        # As bytes: NumPy has no bfloat16.
        plain = tensor.detach().cpu().to_dense().contiguous().reshape(-1)
        total.update(plain.view(torch.uint8).numpy())
    return total.hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _shortened(text: str, length: int = 70) -> str:
    """The text, or where it is long its start and a hash of it."""
    if len(text) <= length:
        return text
    return f"{text[: length - 20]}... {_digest(text.encode())}"


def _name(value) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _installed(value) -> bool:
    """Whether a function or class is Python's or an installed library's: its name says enough."""
    return _is_library(value.__module__ or "__main__")


@functools.cache
def _is_library(module: str) -> bool:
    # A notebook or a script: its lines change while its names stay.
    if module == "__main__" or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return True  # built into Python
    folders = [sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")]
    return any(Path(file).is_relative_to(folder) for folder in folders)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Names of the globals that a function uses, those of functions within it included."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _bytecode(code: types.CodeType) -> str:
    """What a function does, without its lines, comments, docstring and the names of its variables.

    Not `co_code` itself: its numbers are places in lists in which a docstring may stand as well.
    """
    steps = []
    for instruction in dis.get_instructions(code):
        value = instruction.argval
        if instruction.opcode in dis.haslocal:
            value = instruction.arg
        elif isinstance(value, types.CodeType):  # of a function within
            value = _bytecode(value)
        elif isinstance(value, frozenset):  # of strings: in another order in another process
            value = sorted(map(repr, value))
        steps.append(f"{instruction.opname} {value!r}")
    return "\n".join(steps)
