"""A small training for `torchrun`, of which `test_distributed.py` and the cluster's tests ask.

`python tests/distributed_run.py OUT` with the options below writes the history, and the weights
that each process has at the end.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from autoencoders import distributed, losses, training


def noisy(batch):
    """Pictures with noise, and without."""
    return batch + 0.1 * torch.randn_like(batch), batch


def main() -> int:
    """Train as the arguments say; 75 where it was stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--norm", action="store_true")
    parser.add_argument("--fault", default="")
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with distributed.started() as team, distributed.stopping_on():
        torch.manual_seed(team.rank if arguments.fault == "weights" else 0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 3, 3, padding=1)]
        if arguments.norm:
            layers.insert(1, nn.BatchNorm2d(8))
        model = nn.Sequential(*layers)
        # 21 pictures in batches of 10: the last batch has one, and a second process none of it.
        pictures = torch.rand(21, 3, 8, 8, generator=torch.Generator().manual_seed(1))

        def report(entry):
            if team.leads:
                print(entry, flush=True)
            # Once only: the second time the file is there.
            mark = arguments.out.with_suffix(".mark")
            killed = arguments.fault == f"kill{team.rank}"
            if killed and entry["epoch"] == 2 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if arguments.fault == "term" and entry["epoch"] == 2 and team.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        try:
            history = training.fit(
                model,
                losses.mse,
                pictures,
                pictures[:7],
                epochs=arguments.epochs,
                batch_size=10,
                precision="float32",
                prepare_batch=noisy if arguments.noise else None,
                checkpoint=arguments.checkpoint,
                save_seconds=0.0,
                progress=False,
                report=report,
            )
        except distributed.Stopped as stopped:
            print(stopped, flush=True)
            return distributed.EXIT_STOPPED
        del history["seconds"]
        states = team.gather({name: t.clone() for name, t in model.state_dict().items()})
        if team.leads:
            torch.save({"history": history, "states": states}, arguments.out)
    # A thread of Gloo that outlives its group aborts the process now and then, as Python ends.
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    left = sorted(name for name in names if "gloo" in name)
    if left:
        print(f"threads are left: {left}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
