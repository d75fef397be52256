"""One training by several processes: `torchrun --nproc-per-node 2 -m autoencoders train NAME ...`.

Each process has the whole model and takes its share of each batch. Before a step they average their
gradients, so all of them make the same step and stay equal (data parallelism). What is drawn at
random, such as noise, differs between processes, and is the same again in a second run.

`torchrun` starts the processes and restarts them all when one dies; Slurm starts `torchrun` on each
machine (see `launch/`). Here is only what `training.fit` does differently then. In a notebook there
is one process, and nothing here does anything.

Layers that average over the batch, such as batch normalisation, see their process's share alone;
all other models get the gradient of the whole batch, to floating-point rounding.
"""

import importlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn

# Of what ended before its end and goes on when it is started again (EX_TEMPFAIL of sysexits.h).
EXIT_STOPPED = 75
# How long a message may take: above any validation or writing, which the others wait for.
PATIENCE = timedelta(minutes=5)


class Stopped(Exception):
    """A training that ended because it was asked to; the same call goes on from its checkpoint."""


# ---- Processes ----


@dataclass(frozen=True)
class Team:
    """The processes that train one model together, and which of them this one is."""

    rank: int = 0  # this one's number
    size: int = 1

    @staticmethod
    def current() -> "Team":
        """The team that `started` has made; one process alone where there is none."""
        if not distributed.is_available() or not distributed.is_initialized():
            return Team()
        return Team(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def share(self, items: torch.Tensor) -> torch.Tensor:
        """This process's share of the items of a batch: none, where there are too few for all."""
        return items.tensor_split(self.size)[self.rank]

    def gather(self, thing) -> list:
        """What each process passed, in the order of their ranks."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size
        distributed.all_gather_object(things, thing)
        return things

    def total(self, sums: dict[str, float]) -> dict[str, float]:
        """Sums over all processes by name; a process may lack a name."""
        totals = {}
        # Always in the order of ranks: sums of floats depend on it.
        for part in self.gather(sums):
            for name, value in part.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    def average(
        self,
        parameters: list[nn.Parameter],
        share: float,
        statistics: list[torch.Tensor],
        wishes: Sequence[bool] = (),
    ) -> list[bool]:
        """Replace gradients by their mean over the whole batch, and `statistics` likewise.

        `share` is this process's part of the batch, 0 to 1: its mean counts by as much. Returns for
        each of the `wishes` whether any process has it, so that all do the same after this step.
        Raises ValueError for sparse gradients, which do not fit into one message.
        """
        if self.size == 1:
            return [*wishes]
        for parameter in parameters:
            if parameter.grad is not None and parameter.grad.is_sparse:
                raise ValueError(
                    f"a sparse gradient of {tuple(parameter.shape)} in {self.size} processes: "
                    "expected dense ones; train this model in one process"
                )
        # One message for all, since each takes its time however short it is.
        flags = [*wishes, *(parameter.grad is not None for parameter in parameters)]
        parts = [torch.tensor(flags, dtype=torch.float32, device=_device())]
        parts += [
            torch.zeros_like(p) if p.grad is None else share * p.grad.detach() for p in parameters
        ]
        parts += [share * tensor for tensor in statistics]
        message = torch.cat([part.reshape(-1) for part in parts])
        distributed.all_reduce(message)
        counts, *means = message.split([part.numel() for part in parts])
        flags = (counts > 0).tolist()
        for parameter, used, mean in zip(parameters, flags[len(wishes) :], means, strict=False):
            # What no process has used keeps no gradient, as in a training by one process.
            if used:
                parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(mean.view_as(parameter))
        for tensor, mean in zip(statistics, means[len(parameters) :], strict=True):
            tensor.copy_(mean.view_as(tensor))
        return flags[: len(wishes)]


@contextmanager
def started() -> Iterator[Team]:
    """Join the other processes that `torchrun` has started; alone, do nothing.

    On GPUs they talk through NCCL, and each takes one of its machine's; on CPUs through Gloo.
    """
    # torchrun says how many there are; a team of one needs no messages.
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Team()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    store, rank, size = next(distributed.rendezvous("env://"))
    # After a restart the store still has the addresses of processes that are gone. On one machine
    # torchrun's count of restarts tells them apart; on several, each counts its own, and the
    # launcher asks for a new store (TORCH_DISABLE_SHARE_RDZV_TCP_STORE in launch/train.sbatch).
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = distributed.PrefixStore(f"attempt {attempt}", store)
    # This module keeps the group there is when it is imported, as torch's optimisers do later. The
    # group's threads would then outlive it, and may abort the process as Python ends.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group(
        backend, timeout=PATIENCE, store=store, rank=rank, world_size=size
    )
    try:
        yield Team.current()
        # Nobody hangs up while another still talks.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _device() -> torch.device:
    """Where messages lie: NCCL takes those on a GPU alone."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ---- Being asked to stop ----


class _Asked:
    """Whether a signal has come. A signal's handler may do no more than set it."""

    stop = False


def _note(*_) -> None:
    _Asked.stop = True


@contextmanager
def stopping_on(*signals: int) -> Iterator[None]:
    """Let `training.fit` save and stop after the step in which one of the `signals` comes.

    By default those by which schedulers announce the end: SIGTERM, and SIGUSR1, which Slurm sends
    some time before (`--signal`).
    """
    before = {}
    _Asked.stop = False
    try:
        for number in signals or (signal.SIGTERM, signal.SIGUSR1):
            # Somebody else's handler, such as submitit's, stays: it knows what to do.
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, _note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Asked.stop = False


PARENT = os.getppid()


def stop_asked() -> bool:
    """Whether this process should stop: a signal has come, or the `torchrun` above it is gone.

    A worker that outlives its torchrun would go on beside the one that takes its place.
    """
    orphaned = "TORCHELASTIC_RUN_ID" in os.environ and os.getppid() != PARENT
    return _Asked.stop or orphaned
