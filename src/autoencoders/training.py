"""One training loop for every model of the course: `fit`.

It trains autoencoders, denoisers, classifiers, VAEs and GANs alike, because all that it knows of a
model is the loss, `loss_fn(model, batch)`, which never changes the model itself.

- The target is chosen with the batch: `prepare_batch(batch)` makes what the loss gets of the items
  drawn from the training data. It crops or adds noise, and may return `(input, target)`.
- Several losses, as of a GAN, are a dict, with an optimiser for each under the same name:
  `fit(gan, {"d": d_loss, "g": g_loss}, x, optimizer={"d": d_optimizer, "g": g_optimizer}, ...)`.
  In each step they take turns with the same batch; each loss changes only the parameters of its own
  optimiser. The history has "train_d_loss" and "train_g_loss".
- A model that anneals something registers a buffer `progress`; `fit` sets it to the share of all
  steps that are done, from 0 to 1.
- An interrupted run goes on from its checkpoint when the same call is made again on a model that is
  made anew. A call that differs in anything that counts, such as data, loss or start weights, is
  refused; so is one with more epochs, over which the learning rate would have run differently.
- Started by `torchrun`, several processes share each batch (see `distributed`).
"""

import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from autoencoders import checkpoint, distributed, models

# A tensor (N, ...), or a tuple of such with equal N: (input, target).
Data = torch.Tensor | tuple[torch.Tensor, ...]


def one_cycle(step: int, total: int, warmup: float = 0.15) -> float:
    """Share of the peak learning rate at `step` of `total`: a straight line up, half a cosine down.

    The way up takes the share `warmup` of all steps (Smith 2018, arXiv:1803.09820).
    """
    start = max(1, round(total * warmup))
    if step < start:
        return (step + 1) / start
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, total - start)))


def cosine(step: int, total: int) -> float:
    """Share of the peak learning rate at `step` of `total`: half a cosine from 1 to 0.

    Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    return 0.5 * (1 + math.cos(math.pi * step / total))


def constant(step: int, total: int) -> float:
    """The peak learning rate all the way."""
    return 1.0


def fit(
    model: nn.Module,
    loss_fn: Callable | dict[str, Callable],
    train: Data,
    valid: Data | None = None,
    *,
    epochs: int,
    batch_size: int = 16,
    prepare_batch: Callable | None = None,  # such as crop, add noise, choose targets
    weights: torch.Tensor | None = None,  # (N,): how often an item is drawn, with replacement
    optimizer: Optimizer | dict[str, Optimizer] | None = None,  # None: AdamW, betas 0.9, 0.95
    lr: float | None = None,  # of AdamW, at its peak: 1e-3
    weight_decay: float | None = None,  # of AdamW: 1e-4
    schedule: Callable[[int, int], float] = one_cycle,  # (step, total) -> share of the peak
    clip: float | None = 1.0,  # largest norm of an optimiser's gradients
    patience: int | None = None,  # validations without improvement
    validate_every: int = 1,  # epochs
    seed: int = 0,  # of Python, NumPy and torch
    device: str = "auto",  # "cpu", "cuda"; "auto": the GPU where there is one
    precision: str = "auto",  # "float32", "bfloat16"; "auto": bfloat16 where it is fast
    checkpoint: str | Path | None = None,
    save_seconds: float = 20.0,
    progress: bool | None = None,  # show a bar; None: in notebooks and terminals, not under CI
    report: Callable[[dict], None] | None = None,  # is told the numbers of each epoch
) -> dict:
    """Train `model` in place and return its history.

    `train` and `valid` are tensors `(N, ...)`, or tuples of such with equal N (input, target).
    `loss_fn(model, batch)` returns a dict of scalars averaged over the batch, "loss" among them.
    `prepare_batch(batch)` makes what the loss gets of the items that were drawn from `train`. With
    `patience`, training stops after so many validations without improvement, and the best weights
    come back. `checkpoint` names a file that is written every `save_seconds`; the same call goes on
    from it, to the same weights bit for bit. See also the module's text, for GANs and more.

    The history holds lists with an entry every `validate_every` epochs, "epoch", "lr",
    "train_<term>" (mean over the samples since the last entry) and "valid_<term>" (mean over all
    validation samples), and the number "seconds". Raises ValueError for arguments that do not fit
    together, a loss that is not finite and a checkpoint that is damaged or of another run; OSError
    where a checkpoint cannot be written; `distributed.Stopped` where it was asked to stop.
    """
    arguments = dict(locals())  # all of them, so that the checkpoint's fingerprint misses none
    _check(arguments)
    home = next(model.parameters()).device  # where the model goes back to at the end
    machine = Machine.choose(model, device, precision)
    model.to(machine.device, memory_format=machine.layout)
    turns = _turns(model, loss_fn, optimizer, lr, weight_decay)
    batches = _Batches(train, batch_size, weights, seed, prepare_batch, machine)
    run = _Run(model, turns, batches, schedule, clip, epochs, report)
    # Here, so that what a caller drew before does not matter; a checkpoint then sets its own state.
    seed_everything(seed + SEEDS_APART * run.team.rank)  # each process draws other noise
    saver = _Saver(checkpoint, save_seconds, run, arguments)
    with _bar(progress, epochs, run.epoch) as bar:
        while not run.state.done:
            wishes = run.step(saver.wishes())
            if run.at_end_of_epoch:
                run.end_epoch(valid, validate_every, patience)
                bar.update()
                bar.set_postfix_str(run.summary())
            saver.save_or_stop(*wishes)
    return run.finish(home)


@dataclass
class Training:
    """A training that is still to be run: what `fit` will be called with, and what comes of it.

    Recipes and the command line share these, so both train alike. `save(model, path)` writes what
    is wanted of the trained model, `judge(model)` says by numbers what it is worth.
    """

    model: nn.Module
    loss_fn: Callable | dict[str, Callable]
    train: Data
    valid: Data | None = None
    options: dict = field(default_factory=dict)  # of `fit`
    save: Callable[[nn.Module, Path], None] = models.save
    judge: Callable[[nn.Module], dict] | None = None

    def run(self, **more) -> dict:
        """Train; returns the history. Options of `fit` in `more` replace those of the training."""
        return fit(self.model, self.loss_fn, self.train, self.valid, **self.options | more)

    def write(self, out: Path) -> dict:
        """Train, and write what comes of it; returns the history.

        Interrupted, the same call goes on from a checkpoint beside `out`.
        """
        kept = out.with_name(f"{out.name}.checkpoint")
        history = self.run(checkpoint=kept)
        self.save(self.model, out)
        # The checkpoint has served once the weights are written.
        kept.unlink()
        return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss_fn: Callable | dict[str, Callable],
    data: Data,
    batch_size: int = 64,
    machine: "Machine | None" = None,
    team: distributed.Team | None = None,
) -> dict[str, float]:
    """Each term of `loss_fn` averaged over all samples of `data`, however they fall into batches.

    In `eval` mode and without gradients; on the CPU in float32 unless a `machine` is given. The
    processes of a `team` take the batches by turns, and all get the same averages.
    """
    data = _tensors("data", data)
    machine = machine or Machine(torch.device("cpu"), torch.float32, torch.contiguous_format)
    team = team or distributed.Team()  # of one
    tally = _Tally()
    model.eval()  # the next step of a training sets it back
    # Sums over samples, so that a short last batch does not count as much as a whole one.
    for chosen in torch.arange(len(data[0])).split(batch_size)[team.rank :: team.size]:
        batch = machine.take(data, chosen)
        for name, one in _named(loss_fn).items():
            with machine.autocast():
                terms = one(model, batch)
            tally.add(_prefix(name), terms, len(chosen))
    tally.read()
    return {name: value / len(data[0]) for name, value in team.total(tally.sums).items()}


def pick_device(device: str = "auto") -> torch.device:
    """The GPU where there is one, else the CPU; or the device that is named.

    Raises ValueError for a GPU that is missing.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: torch sees no GPU here; expected 'auto' or 'cpu'")
    return torch.device(device)


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the layers' arithmetic: "float32", "bfloat16" or "auto".

    "auto" is bfloat16 where the machine multiplies in it, else float32. Raises ValueError.
    """
    if precision in ("float32", "bfloat16"):
        return getattr(torch, precision)
    if precision != "auto":
        raise ValueError(f"{precision=}: expected 'auto', 'float32' or 'bfloat16'")
    if device.type == "cpu":
        # Without these instructions bfloat16 is emulated, and slower than float32.
        able = torch.cpu.get_capabilities()
        fast = able.get("avx512_bf16") or able.get("amx_bf16")
    else:
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


SEEDS_APART = 1_000_003  # above any number of epochs, or of seeds that anyone tries


def seed_everything(seed: int) -> None:
    """Set the random numbers of Python, NumPy and torch, as before each model that is made."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ------------------------------------------------------------------------- what `fit` consists of


@dataclass(frozen=True)
class Machine:
    """Where and how a model computes: the device, the layers' dtype, pictures' memory layout."""

    device: torch.device
    dtype: torch.dtype
    layout: torch.memory_format

    @staticmethod
    def choose(model: nn.Module, device: str = "auto", precision: str = "auto") -> "Machine":
        """The fastest way for a model on this machine; `device` and `precision` as for `fit`."""
        chosen = pick_device(device)
        # Channels last keeps the values of a pixel side by side, as fast convolutions want them.
        has_convolutions = any(p.dim() == 4 for p in model.parameters())
        layout = torch.channels_last if has_convolutions else torch.contiguous_format
        return Machine(chosen, pick_precision(precision, chosen), layout)

    @property
    def asynchronous(self) -> bool:
        """Whether Python goes on while the device computes, and has to wait to read a number."""
        return self.device.type != "cpu"

    def autocast(self) -> torch.autocast:
        """A context in which layers compute in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def take(self, data: tuple[torch.Tensor, ...], chosen: torch.Tensor, prepare_batch=None):
        """The chosen items of `data` as a batch: a tensor, or a tuple of them."""
        # The data stay where they are, and only the batch goes to the GPU.
        batch = tuple(tensor[chosen].to(self.device) for tensor in data)
        if prepare_batch is not None:
            prepared = prepare_batch(batch[0] if len(batch) == 1 else batch)
            batch = prepared if isinstance(prepared, tuple) else (prepared,)
        batch = tuple(self._laid_out(tensor) for tensor in batch)
        return batch[0] if len(batch) == 1 else batch

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() != 4:
            return tensor
        return tensor.contiguous(memory_format=self.layout)


@dataclass
class _Turn:
    """A loss and the optimiser that follows it. A GAN has two, which take turns in each step."""

    name: str  # "" for the only one
    loss_fn: Callable
    optimizer: Optimizer
    parameters: list[nn.Parameter]  # of this optimiser, in the model's order
    peaks: list[float]  # learning rates of the optimiser's groups, before any schedule


class _Batches:
    """The training batches. Seed and step alone decide which items are in one.

    So the step is all that a checkpoint has to keep of them.
    """

    def __init__(self, train, batch_size, weights, seed, prepare_batch, machine):
        self.tensors = _tensors("train", train)
        self.items = len(self.tensors[0])
        self.batch_size = batch_size
        self.weights = weights
        self.seed = seed
        self.prepare_batch = prepare_batch
        self.machine = machine
        self.team = distributed.Team.current()
        self.per_epoch = math.ceil(self.items / batch_size)
        self.epoch = None  # the one that `order` is of
        self.order = None

    def draw(self, step: int) -> tuple:
        """This process's share of the batch of a step, the number of items in it, and in all.

        A share without items is None.
        """
        epoch, position = divmod(step, self.per_epoch)
        # After a checkpoint it may begin in the middle: the order of the epoch is drawn again.
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = self._draw_order(epoch)
        start = position * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        own = self.team.share(chosen)
        # Not asked of the model: most losses are no number for a batch of nothing.
        batch = self.machine.take(self.tensors, own, self.prepare_batch) if len(own) else None
        return batch, len(own), len(chosen)

    def _draw_order(self, epoch: int) -> torch.Tensor:
        # So far apart that no epoch of another seed has the same order. A generator of its own:
        # what a model draws does not change which pictures come next.
        generator = torch.Generator().manual_seed(self.seed * SEEDS_APART + epoch)
        if self.weights is None:
            return torch.randperm(self.items, generator=generator)
        weights = self.weights.detach().cpu().double()
        return torch.multinomial(weights, self.items, replacement=True, generator=generator)


@dataclass
class _Tally:
    """Sums of named terms over samples. On a GPU terms are collected, then read all at once."""

    sums: dict[str, float] = field(default_factory=dict)
    unread: list[tuple[str, torch.Tensor, int, int]] = field(default_factory=list)

    def add(self, prefix: str, terms: dict, count: int, step: int = 0) -> None:
        """Note the terms of a batch of `count` samples, without reading them."""
        if "loss" not in terms:
            raise ValueError(f"a loss function returned {list(terms)}: expected 'loss' among them")
        for name, term in terms.items():
            # Detached, or the whole graph of the step would be kept until it is read.
            scalar = torch.as_tensor(term).detach().reshape(())
            self.unread.append((prefix + name, scalar, count, step))

    def read(self) -> list[tuple[str, float, int]]:
        """Read all that was noted at once and add it to the sums; returns (name, value, step)."""
        if not self.unread:
            return []
        # One transfer: on a GPU each `.item()` would wait for all that is under way.
        values = torch.stack([scalar for _, scalar, _, _ in self.unread]).tolist()
        rows = []
        for (name, _, count, step), value in zip(self.unread, values, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + value * count
            rows.append((name, value, step))
        self.unread.clear()
        return rows


@dataclass
class _State:
    """How far a run is: what a checkpoint keeps beside models, optimisers and random numbers."""

    step: int = 0  # steps done
    done: bool = False
    samples: int = 0  # since the last entry of the history
    history: dict = field(default_factory=lambda: {"epoch": [], "seconds": 0.0})
    best: dict | None = None  # weights of the best validation, with `patience`
    best_loss: float = math.inf
    waited: int = 0  # validations since then


class _Run:
    """A training under way."""

    def __init__(self, model, turns, batches, schedule, clip, epochs, report):
        self.model = model
        self.turns = turns
        self.batches = batches
        self.machine = batches.machine
        self.team = batches.team
        self.report = report
        self.schedule = schedule
        self.clip = clip
        self.total = epochs * batches.per_epoch
        self.losses = {f"{_prefix(turn.name)}loss" for turn in turns}
        self.parameters = list(model.parameters())
        buffers = dict(model.named_buffers())
        # Of parts of the model too, such as "encoder.progress".
        self.progress = [buffers[name] for name in buffers if name.split(".")[-1] == "progress"]
        # Of batch normalisation: what each process has seen of them is a share of the batch.
        running = ("running_mean", "running_var")
        self.statistics = [buffers[name] for name in buffers if name.split(".")[-1] in running]
        self.state = _State()
        self.tally = _Tally()
        self.began = time.monotonic()
        self._note_progress()
        self.model.train()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.state.step // self.batches.per_epoch

    @property
    def at_end_of_epoch(self) -> bool:
        return self.state.step % self.batches.per_epoch == 0

    def step(self, wishes: Sequence[bool] = ()) -> list[bool]:
        """Draw a batch, on which each loss in turn computes its gradients and makes a step.

        Returns for each of the `wishes` whether any process has it.
        """
        step = self.state.step
        batch, count, whole = self.batches.draw(step)
        rate = self.schedule(step, self.total)
        # After a validation. Not in each step: it visits every part of the model.
        if not self.model.training:
            self.model.train()
        for turn in self.turns:
            # Groups keep their proportions, such as a slower decoder.
            for group, peak in zip(turn.optimizer.param_groups, turn.peaks, strict=True):
                group["lr"] = peak * rate
            # All of the model's: the loss before has left gradients in this turn's parameters too.
            for parameter in self.parameters:
                parameter.grad = None
            if count:
                self._backward(turn, batch, count)
            # The wishes go along with the gradients: a message of their own would cost time.
            agreed = self.team.average(turn.parameters, count / whole, self.statistics, wishes)
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(turn.parameters, self.clip)
            turn.optimizer.step()
        self.state.samples += whole
        self.state.step += 1
        self._note_progress()
        self._note_time()
        return agreed

    def _backward(self, turn: _Turn, batch, count: int) -> None:
        """The gradients of a turn's loss, averaged over the `count` samples of `batch`."""
        with self.machine.autocast():
            terms = turn.loss_fn(self.model, batch)
        self.tally.add(_prefix(turn.name), terms, count, self.state.step)
        if not self.machine.asynchronous:
            self.read_losses()  # finds a loss that is not finite before it does harm
        terms["loss"].backward()

    def _note_progress(self) -> None:
        for buffer in self.progress:
            buffer.fill_(self.state.step / self.total)

    def _note_time(self) -> None:
        self.state.history["seconds"] = time.monotonic() - self.began

    def read_losses(self) -> None:
        """Add the terms of the last steps to the sums. Raises ValueError for a loss not finite."""
        for name, value, step in self.tally.read():
            if name in self.losses and not math.isfinite(value):
                lr = self.turns[0].peaks[0] * self.schedule(step, self.total)
                raise ValueError(
                    f"the {name} is {value} at step {step}, learning rate {lr:.3g}: "
                    "expected a finite one; lower lr, or mend the data"
                )

    def end_epoch(self, valid: Data | None, validate_every: int, patience: int | None) -> None:
        """Every `validate_every` epochs and at the end: validate, and add to the history."""
        self.read_losses()
        state = self.state
        state.done = state.step == self.total
        between = not state.done and self.epoch % validate_every
        if between and self.report is None:
            return
        entry = {"epoch": self.epoch}
        for turn in self.turns:
            entry[f"{_prefix(turn.name)}lr"] = turn.optimizer.param_groups[0]["lr"]
        for name, value in self.team.total(self.tally.sums).items():
            entry[f"train_{name}"] = value / state.samples
        if between:
            self.report(entry)
            return
        if valid is not None:
            loss_fn = {turn.name: turn.loss_fn for turn in self.turns}
            size = self.batches.batch_size
            means = evaluate(self.model, loss_fn, valid, size, self.machine, self.team)
            for name, value in means.items():
                entry[f"valid_{name}"] = value
        for name, value in entry.items():
            state.history.setdefault(name, []).append(value)
        self.tally.sums, state.samples = {}, 0  # the next entry averages what comes from here on
        if patience is not None:
            self._judge(entry["valid_loss"], patience)
        self._note_time()
        if self.report is not None:
            self.report(entry)

    def _judge(self, loss: float, patience: int) -> None:
        """Keep the best weights; without improvement for `patience` validations, end the run."""
        state = self.state
        if loss < state.best_loss:
            state.best_loss = loss
            state.waited = 0
            # A copy: `state_dict` points at tensors that the next step overwrites.
            weights = self.model.state_dict()
            state.best = {name: value.detach().cpu().clone() for name, value in weights.items()}
        else:
            state.waited += 1
            state.done = state.done or state.waited >= patience

    def summary(self) -> str:
        """The newest losses, for the progress bar."""
        history = self.state.history
        return " ".join(f"{k} {v[-1]:.4g}" for k, v in history.items() if k.endswith("loss"))

    def finish(self, home: torch.device) -> dict:
        """The model back where it came from, with its best weights; returns the history."""
        if self.state.best is not None:
            self.model.load_state_dict(self.state.best)
        self.model.to(home, memory_format=torch.contiguous_format).eval()
        return self.state.history

    def state_dict(self) -> dict:
        """All that `load_state_dict` needs to go on from here: the same for all processes, but
        what "processes" holds of each."""
        self.read_losses()  # raises before a model that a bad loss has spoilt is saved
        own = {"sums": self.tally.sums, "random": checkpoint.random_states()}
        return {
            "run": vars(self.state),
            "processes": self.team.gather(own),
            "model": self.model.state_dict(),
            "optimizers": {turn.name: turn.optimizer.state_dict() for turn in self.turns},
        }

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for turn in self.turns:
            turn.optimizer.load_state_dict(state["optimizers"][turn.name])
        self.state = _State(**state["run"])
        own = state["processes"][self.team.rank]
        self.tally = _Tally(own["sums"])
        checkpoint.set_random_states(own["random"])
        # As if it had begun so much earlier, so that the time of all parts is counted.
        self.began = time.monotonic() - self.state.history["seconds"]


class _Saver:
    """Brings a run to where its checkpoint was written, and writes the next ones."""

    def __init__(self, path: str | Path | None, seconds: float, run: _Run, arguments: dict):
        self.path = None if path is None else Path(path)
        self.seconds = seconds
        self.saved = -math.inf  # the time of the last writing
        self.run = run
        self.team = run.team
        self.fingerprint = {}
        # Without a file it serves processes to find out whether all of them do the same.
        if self.path is None and self.team.size == 1:
            return
        self.fingerprint = checkpoint.fingerprint(_decisive(arguments, run))
        self._check_team()
        if self.path is None:
            return
        if self.path.exists():
            run.load_state_dict(checkpoint.load(self.path, self.fingerprint))
        if not run.state.done:
            self._save()  # at once: better to learn now that the folder is read-only

    def wishes(self) -> tuple[bool, bool]:
        """Whether this process wants to save, and to stop, after the next step."""
        # The clock of one process decides for all, since all take part in a saving.
        due = self.team.leads and time.monotonic() - self.saved > self.seconds
        return due, distributed.stop_asked()

    def save_or_stop(self, due: bool, stop: bool) -> None:
        """Save when it is time to; when a signal has come, save and raise `Stopped`."""
        done = self.run.state.done
        if self.path is not None and (due or stop or done):
            self._save()
        if stop and not done:
            step, total = self.run.state.step, self.run.total
            kept = "nothing was saved, since no checkpoint was named"
            if self.path is not None:
                kept = f"the same call goes on from {str(self.path)!r}"
            raise distributed.Stopped(f"stopped after {step} of {total} steps: {kept}")

    def _save(self) -> None:
        state = self.run.state_dict()
        if self.team.leads:
            checkpoint.save(self.path, self.fingerprint, state)
        self.saved = time.monotonic()

    def _check_team(self) -> None:
        """Raise ValueError unless all processes train the same, and see the same file."""
        there = self.path is not None and self.path.exists()
        for rank, (other, theirs) in enumerate(self.team.gather((self.fingerprint, there))):
            differing = checkpoint.differences(other, self.fingerprint)
            if differing:
                raise ValueError(
                    f"process {rank} trains something else ({'; '.join(differing[:5])}): expected "
                    "the same program, data and settings for all; install the same on all machines"
                )
            if theirs != there:
                raise ValueError(
                    f"process {rank} {'sees' if theirs else 'does not see'} {str(self.path)!r}, "
                    f"process {self.team.rank} {'does' if there else 'does not'}: expected a "
                    "folder that all machines share; name another one"
                )


# Arguments of `fit` that do not change its result, or that stand in the fingerprint by what follows
# from them: the optimiser with its options, the device, the dtype.
NOT_DECISIVE = (
    "checkpoint", "save_seconds", "progress", "report", "lr", "weight_decay", "device", "precision",
)  # fmt: skip


def _decisive(arguments: dict, run: _Run) -> dict:
    """What decides the result of a run, by name: for its fingerprint."""
    values = {name: value for name, value in arguments.items() if name not in NOT_DECISIVE}
    if arguments["optimizer"] is None:
        values["optimizer"] = run.turns[0].optimizer
    # A schedule is known by its values, which may depend on more than its name says.
    shares = [run.schedule(step, run.total) for step in range(run.total)]
    values["schedule"] = torch.tensor(shares, dtype=torch.float64)
    values["device"] = run.machine.device.type
    if run.machine.device.type == "cuda":
        values["device"] = torch.cuda.get_device_name(run.machine.device)
    values["precision"] = run.machine.dtype
    values["processes"] = run.team.size
    return values


def _turns(model, loss_fn, optimizer, lr, weight_decay) -> list[_Turn]:
    """Each loss with its optimiser, which is AdamW where none is given."""
    if optimizer is None:
        lr = 1e-3 if lr is None else lr
        weight_decay = 1e-4 if weight_decay is None else weight_decay
        # 0.95, not 0.999: a second moment that forgets within tens of steps suits short runs.
        optimizer = torch.optim.AdamW(
            model.parameters(), lr, betas=(0.9, 0.95), weight_decay=weight_decay
        )
    optimizers = _named(optimizer)
    turns = []
    for name, one in _named(loss_fn).items():
        groups = optimizers[name].param_groups
        # By identity: tensors have no useful equality, and tied ones stand in the model only once.
        own = {id(parameter) for group in groups for parameter in group["params"]}
        parameters = [parameter for parameter in model.parameters() if id(parameter) in own]
        if len(parameters) < len(own):
            raise ValueError(
                f"{len(own) - len(parameters)} of an optimizer's {len(own)} parameters are not in "
                "the model: expected all there, where a checkpoint keeps them; make them part of it"
            )
        peaks = [group["lr"] for group in groups]
        turns.append(_Turn(name, one, optimizers[name], parameters, peaks))
    return turns


def _named(one_or_dict) -> dict:
    """Losses or optimisers by their names; the name of a single one is empty."""
    return one_or_dict if isinstance(one_or_dict, dict) else {"": one_or_dict}


def _prefix(name: str) -> str:
    """What stands before the names of a loss's terms."""
    return f"{name}_" if name else ""


def _bar(progress: bool | None, epochs: int, done: int) -> tqdm:
    if progress is None:
        watched = sys.stderr.isatty() or "ipykernel" in sys.modules
        progress = watched and not os.environ.get("CI")
    return tqdm(total=epochs, initial=done, unit="epoch", disable=not progress)


def _check(arguments: dict) -> None:
    """Raise ValueError unless the arguments of `fit` make sense, alone and together."""
    a = arguments
    tensors = _tensors("train", a["train"])
    if a["valid"] is not None:
        _tensors("valid", a["valid"])
    # What can be found now is an error now, not after an hour.
    counts = {name: a[name] for name in ("epochs", "batch_size", "validate_every")}
    lr = 1e-3 if a["lr"] is None else a["lr"]
    if min(counts.values()) < 1 or lr <= 0:
        given = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise ValueError(f"{given}, lr={a['lr']}: expected whole numbers from 1 up, and lr above 0")
    if a["patience"] is not None and (a["valid"] is None or a["patience"] < 1):
        raise ValueError(
            f"patience={a['patience']}: expected at least 1, and validation data to judge by; "
            "pass valid=..."
        )
    if a["weights"] is not None:
        _check_weights(a["weights"], len(tensors[0]))
    _check_optimizers(a["loss_fn"], a["optimizer"], a["lr"], a["weight_decay"])
    if isinstance(a["loss_fn"], dict) and a["patience"] is not None:
        raise ValueError(
            f"patience={a['patience']} with losses {[*a['loss_fn']]}: expected a single loss, "
            "by which one validation is better than another; leave it out"
        )


def _check_weights(weights: torch.Tensor, items: int) -> None:
    if not isinstance(weights, torch.Tensor) or weights.shape != (items,):
        given = tuple(getattr(weights, "shape", ())) or type(weights).__name__
        raise ValueError(
            f"weights={given}: expected a tensor ({items},), a weight for each training item"
        )
    if not (weights.isfinite().all() and weights.min() >= 0 and weights.sum() > 0):
        low, high = weights.min().item(), weights.max().item()
        raise ValueError(
            f"weights from {low:.3g} to {high:.3g}: expected finite ones from 0 up, not all 0"
        )


def _check_optimizers(loss_fn, optimizer, lr, weight_decay) -> None:
    if optimizer is not None and (lr is not None or weight_decay is not None):
        raise ValueError(
            f"lr={lr}, weight_decay={weight_decay} beside an optimizer: expected one or the "
            "other; give them to the optimizer itself"
        )
    if not isinstance(loss_fn, dict) and not isinstance(optimizer, dict):
        return
    names = [*loss_fn] if isinstance(loss_fn, dict) else type(loss_fn).__name__
    others = [*optimizer] if isinstance(optimizer, dict) else type(optimizer).__name__
    if names != others or not names:
        raise ValueError(
            f"losses {names}, optimizers {others}: expected two dicts with the same names in the "
            'same order, such as {"d": d_loss, "g": g_loss} and {"d": d_opt, "g": g_opt}'
        )


def _tensors(name: str, data: Data) -> tuple[torch.Tensor, ...]:
    """The data as a tuple of tensors.

    Raises ValueError unless they have the same N of at least 1.
    """
    tensors = tuple(data) if isinstance(data, tuple | list) else (data,)
    good = all(isinstance(t, torch.Tensor) and t.dim() and len(t) for t in tensors)
    if not good or len({len(t) for t in tensors}) != 1:
        shapes = [tuple(getattr(t, "shape", ())) or type(t).__name__ for t in tensors]
        raise ValueError(
            f"{name}={shapes}: expected one tensor (N, ...) or a tuple of them with the same N "
            "of at least 1"
        )
    return tensors
