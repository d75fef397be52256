"""One training loop for every model of the course, with early stopping, checkpoints, and the machine's fast number format."""

import math
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm


def one_cycle(step: int, total: int, warmup: float = 0.15) -> float:
    """Share of the peak learning rate at `step` of `total`: straight up during `warmup`, then half a cosine to 0 (Smith 2018)."""
    start = max(1, round(total * warmup))
    return (
        (step + 1) / start
        if step < start
        else 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, total - start)))
    )


def cosine(step: int, total: int) -> float:
    """Share of the peak learning rate at `step` of `total`: half a cosine from 1 to 0 (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def constant(step: int, total: int) -> float:
    """The peak learning rate all the way."""
    return 1.0


def fit(
    model: torch.nn.Module, loss_fn: Callable, train, valid=None, *, epochs: int, batch_size: int = 16,
    lr: float = 1e-3, schedule: Callable[[int, int], float] = one_cycle, weight_decay: float = 1e-4, clip: float | None = 1.0,
    optimizer: torch.optim.Optimizer | None = None, augment: Callable | None = None, patience: int | None = None, validate_every: int = 1,
    seed: int = 0, device: str = "auto", precision: str = "auto", checkpoint: str | Path | None = None, save_seconds: float = 20.0,
    progress: bool | None = None,
) -> dict:  # fmt: skip
    """Train `model` in place and return its history.

    `train` and `valid` are tensors `(N, ...)`, or tuples of such with equal N (input, target). `loss_fn(model, batch)` returns
    a dict of scalars averaged over the batch, with "loss" among them. The history holds "epoch" and "lr", "train_<name>" (mean
    over the samples of each epoch since the last entry's), "valid_<name>" (mean over all validation samples) as lists with an
    entry every `validate_every` epochs, and "seconds". AdamW (betas 0.9 and 0.95) unless an `optimizer` is given; its learning
    rate is the peak that `schedule(step, total)` scales. With `patience`, training stops after as many validations without
    improvement, and the best weights come back. `augment(batch)` changes training batches only. `checkpoint` names a file that is written
    every `save_seconds`; calling again with the same arguments goes on from it, to the same weights bit for bit.
    `seed` (also of Python, NumPy and torch) makes the run repeatable. Raises ValueError.
    """
    train, valid = _tensors("train", train), _tensors("valid", valid) if valid is not None else None
    if min(epochs, batch_size, validate_every) < 1 or lr <= 0:
        raise ValueError(
            f"{epochs=}, {batch_size=}, {validate_every=}, {lr=}: expected whole numbers from 1 up, and lr above 0"
        )
    if patience is not None and (valid is None or patience < 1):
        raise ValueError(
            f"{patience=}: expected at least 1, and validation data to judge by; pass valid=..."
        )
    home, device = next(model.parameters()).device, pick_device(device)
    dtype = pick_precision(precision, device)
    layout = (
        torch.channels_last
        if any(p.dim() == 4 for p in model.parameters())
        else torch.contiguous_format
    )
    model.to(device, memory_format=layout)
    optimizer = optimizer or torch.optim.AdamW(
        model.parameters(), lr, betas=(0.9, 0.95), weight_decay=weight_decay
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    per_epoch = math.ceil(len(train[0]) / batch_size)
    seed_everything(seed)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "peaks": peaks,
        "seed": seed,
        "clip": clip,
        "patience": patience,
    }
    settings |= {
        "schedule": getattr(schedule, "__name__", "?"),
        "validate_every": validate_every,
        "dtype": str(dtype),
    }
    settings |= {
        "samples": len(train[0]),
        "weights": str([list(p.shape) for p in model.parameters()]),
    }
    run = {"step": 0, "sums": {}, "samples": 0, "history": {"epoch": [], "lr": [], "seconds": 0.0}}
    run |= {"best": None, "best_loss": math.inf, "waited": 0, "done": False}
    if checkpoint is not None and Path(checkpoint).exists():
        run = _resume(Path(checkpoint), settings, model, optimizer)
    history, autocast = (
        run["history"],
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
    )
    show = (
        progress
        if progress is not None
        else not os.environ.get("CI") and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    )
    bar = tqdm(total=epochs, initial=run["step"] // per_epoch, unit="epoch", disable=not show)
    started = saved = time.monotonic()
    earlier = history["seconds"]
    while not run["done"]:
        epoch, position = divmod(run["step"], per_epoch)
        # The order is a function of seed and epoch alone, so that the step is all there is to know about the sampler.
        order = torch.randperm(
            len(train[0]), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        )
        chosen = order[position * batch_size : (position + 1) * batch_size]
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(run["step"], epochs * per_epoch)
        model.train()
        with autocast:
            terms = loss_fn(model, _batch(train, chosen, device, layout, augment))
        if not math.isfinite(terms["loss"].item()):
            where = f"step {run['step']}, learning rate {optimizer.param_groups[0]['lr']:.3g}"
            raise ValueError(
                f"the loss is {terms['loss'].item()} at {where}: expected a finite one; lower lr, or mend the data"
            )
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        run["step"] += 1
        run["samples"] += len(chosen)
        for name, term in terms.items():
            run["sums"][name] = run["sums"].get(name, 0.0) + term.item() * len(chosen)
        if position + 1 == per_epoch:
            bar.update()
            run["done"] = epoch + 1 == epochs
            if run["done"] or (epoch + 1) % validate_every == 0:
                means = (
                    evaluate(model, loss_fn, valid, batch_size, device, autocast, layout)
                    if valid
                    else {}
                )
                _enter(
                    run,
                    {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]},
                    means,
                    model,
                    patience,
                )
                bar.set_postfix_str(
                    " ".join(f"{k} {v[-1]:.4g}" for k, v in history.items() if k.endswith("_loss"))
                )
        history["seconds"] = earlier + time.monotonic() - started
        if checkpoint is not None and (run["done"] or time.monotonic() - saved > save_seconds):
            _save(Path(checkpoint), settings, model, optimizer, run)
            saved = time.monotonic()
    bar.close()
    if run["best"] is not None:
        model.load_state_dict(run["best"])
    model.to(home, memory_format=torch.contiguous_format).eval()
    return history


def _enter(
    run: dict, entry: dict, means: dict, model: torch.nn.Module, patience: int | None
) -> None:
    """Add the means since the last entry to the history; with `patience`, keep the best weights, or end the run without them."""
    entry |= {f"train_{name}": value / run["samples"] for name, value in run["sums"].items()}
    entry |= {f"valid_{name}": value for name, value in means.items()}
    for name, value in entry.items():
        run["history"].setdefault(name, []).append(value)
    run["sums"], run["samples"] = {}, 0
    if patience is not None and means["loss"] < run["best_loss"]:
        run["best_loss"], run["waited"] = means["loss"], 0
        run["best"] = {
            name: value.detach().cpu().clone() for name, value in model.state_dict().items()
        }
    elif patience is not None:
        run["waited"] += 1
        run["done"] |= run["waited"] >= patience


@torch.no_grad()
def evaluate(
    model,
    loss_fn,
    data,
    batch_size: int = 64,
    device="cpu",
    autocast=None,
    layout=torch.contiguous_format,
) -> dict[str, float]:
    """Each term of `loss_fn` averaged over all samples of `data`, however they fall into batches; gradients off, `eval` mode."""
    data, sums = _tensors("data", data), {}
    model.eval()
    for chosen in torch.arange(len(data[0])).split(batch_size):
        with autocast or torch.autocast("cpu", enabled=False):
            for name, term in loss_fn(
                model, _batch(data, chosen, torch.device(device), layout)
            ).items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(chosen)
    return {name: value / len(data[0]) for name, value in sums.items()}


def pick_device(device: str = "auto") -> torch.device:
    """The GPU where there is one, else the CPU; or the one that is named. Raises ValueError for one that is missing."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: torch sees no GPU here; expected 'auto' or 'cpu'")
    return torch.device(device)


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the layers' arithmetic: "float32", "bfloat16", or "auto" for bfloat16 where the machine multiplies in it."""
    if precision == "auto":
        able = (
            torch.cpu.get_capabilities()
            if device.type == "cpu"
            else {"gpu": torch.cuda.is_bf16_supported(False)}
        )
        return (
            torch.bfloat16
            if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "gpu"))
            else torch.float32
        )
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"{precision=}: expected 'auto', 'float32' or 'bfloat16'")
    return getattr(torch, precision)


def seed_everything(seed: int) -> None:
    """Set the random numbers of Python, NumPy and torch; a notebook does so before each model that it makes."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _tensors(name: str, data) -> tuple[torch.Tensor, ...]:
    tensors = tuple(data) if isinstance(data, tuple | list) else (data,)
    if (
        not all(isinstance(t, torch.Tensor) and t.dim() and len(t) for t in tensors)
        or len({len(t) for t in tensors}) != 1
    ):
        shapes = [tuple(getattr(t, "shape", ())) or type(t).__name__ for t in tensors]
        raise ValueError(
            f"{name}={shapes}: expected one tensor (N, ...) or a tuple of them with the same N of at least 1"
        )
    return tensors


def _batch(data, chosen, device, layout, augment=None):
    batch = tuple(t[chosen].to(device) for t in data)
    batch = augment(batch[0] if len(batch) == 1 else batch) if augment else batch
    batch = batch if isinstance(batch, tuple) else (batch,)
    batch = tuple(t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in batch)
    return batch[0] if len(batch) == 1 else batch


def _save(path: Path, settings: dict, model, optimizer, run: dict) -> None:
    """One dict, written beside the old one and renamed over it, so that a kill at any moment leaves a whole file."""
    numpy_kind, numpy_keys, *numpy_rest = np.random.get_state()
    state = {"settings": settings, "arguments": getattr(model, "arguments", {}), "run": run}
    state |= {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
    }
    state |= {"python": random.getstate(), "numpy": (numpy_kind, numpy_keys.tolist(), *numpy_rest)}
    state |= {"cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def _resume(path: Path, settings: dict, model, optimizer) -> dict:
    """Bring model, optimiser and random numbers back to where `_save` left them; return the run's position."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = state["settings"]
    except (
        Exception
    ) as error:  # torch, zip and pickle each have errors of their own for a damaged file
        reason = f"cannot be read ({type(error).__name__}): expected one of fit's"
        raise ValueError(f"checkpoint {path.name!r} {reason}; delete it to start anew") from None
    if differing := "; ".join(
        f"{name} {theirs.get(name)}, here {here}"
        for name, here in settings.items()
        if theirs.get(name) != here
    ):
        raise ValueError(
            f"checkpoint {path.name!r} is of another run ({differing}): delete it to start anew, or name another file"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return state["run"]
