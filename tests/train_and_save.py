"""A process for test_training.py to kill: `train_and_save.py CHECKPOINT RESULT` trains, then writes the weights' bytes."""

import sys
import time
from pathlib import Path

import torch

from autoencoders import data, losses, models, training


def slowly(batch: torch.Tensor) -> torch.Tensor:
    time.sleep(0.005)
    return data.augment(32)(batch) + 0.01 * torch.rand(len(batch), 3, 32, 32)


if __name__ == "__main__":
    training.seed_everything(0)
    model = models.ConvAutoencoder(32, 16, width=4)
    x = torch.rand(24, 3, 40, 40)
    options = {
        "epochs": 20,
        "batch_size": 7,
        "prepare_batch": slowly,
        "patience": 50,
        "checkpoint": sys.argv[1],
        "save_seconds": -1,
    }
    training.fit(model, losses.mse, x[:18], x[18:, :, :32, :32], **options)
    Path(sys.argv[2]).write_bytes(
        b"".join(w.numpy().tobytes() for w in model.state_dict().values())
    )
