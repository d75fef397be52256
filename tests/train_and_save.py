"""Processes for test_checkpoint.py to kill.

`train_and_save.py CHECKPOINT RESULT` trains and writes the bytes of all weights to RESULT.
`train_and_save.py CHECKPOINT RESULT KILLS` does so without a checkpoint; then it starts the same
training KILLS times with one, each in a process of its own, and kills each at a random moment.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from autoencoders import losses, training

STEPS = 300
# Against a power failure, not a kill; on a busy disk each of some hundred would take a second.
os.fsync = lambda file: None


def noisy(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Random numbers of torch and of Python; a set, whose order differs between processes."""
    assert batch.device.type in {"cpu", "cuda", "mps"}
    return batch + 0.01 * torch.rand_like(batch) + 0.01 * random.random(), batch


def train(checkpoint: Path | None, result: Path) -> None:
    training.seed_everything(0)
    layers = [nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 8)]
    model = nn.Sequential(*layers)
    x = torch.rand(24, 8)
    training.fit(
        model, losses.mse, x[:18], (x[18:], x[18:]), epochs=STEPS // 3, batch_size=7,
        prepare_batch=noisy, weights=torch.arange(18.0), patience=STEPS,
        checkpoint=checkpoint, save_seconds=-1,
    )  # fmt: skip
    result.write_bytes(b"".join(w.numpy().tobytes() for w in model.state_dict().values()))


def writings(checkpoint: Path) -> int:
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def start_and_kill(checkpoint: Path, result: Path) -> bool:
    """Kill a training up to four writings of its checkpoint after its start, often within one."""
    child = os.fork()
    if child == 0:
        train(checkpoint, result)
        os._exit(0)
    patience = time.monotonic() + 20  # a fork may hang at its birth; then it dies there
    for _ in range(random.randrange(5)):
        before = writings(checkpoint)
        while writings(checkpoint) == before and time.monotonic() < patience:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.0005)
    time.sleep(random.uniform(0, 0.008))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    checkpoint, result = map(Path, sys.argv[1:3])
    if len(sys.argv) == 3:
        train(checkpoint, result)
    else:
        train(None, result)
        unfinished = result.with_suffix(".unfinished")
        print(sum(start_and_kill(checkpoint, unfinished) for _ in range(int(sys.argv[3]))))
