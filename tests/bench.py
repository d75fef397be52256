"""What the fast paths gain, as ratios measured in one run: `make bench`.

Each side is measured by turns, the best of several counts.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch

from autoencoders import codec, data, losses, models, svd, training

os.environ["CI"] = "true"


def fastest(*ways: Callable[[], object], rounds: int = 5) -> list[float]:
    """Seconds of the fastest of some rounds for each way.

    By turns, so that a busy machine is busy for all.
    """
    best = [float("inf")] * len(ways)
    for _ in range(rounds):
        for i, way in enumerate(ways):
            start = time.perf_counter()
            way()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def plain_loop(pictures: torch.Tensor, epochs: int, batch_size: int) -> None:
    """What one would write first: float32, the usual memory layout."""
    model = models.ConvAutoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in pictures[torch.randperm(len(pictures))].split(batch_size):
            optimizer.zero_grad()
            loss = losses.mse(model, batch)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def bench_training(pictures: torch.Tensor, epochs: int = 4) -> None:
    """bfloat16 against float32.

    Small batches live in the processor's cache, where it gains what its arithmetic gains; large
    ones wait for memory.
    """
    rate, dtype = len(pictures) * epochs, training.pick_precision("auto", training.pick_device())
    print(f"training, {tuple(pictures.shape[1:])}, images per second:")
    for size in (16, len(pictures)):

        def fit(size=size):
            return training.fit(
                models.ConvAutoencoder(), losses.mse, pictures, epochs=epochs, batch_size=size
            )

        plain, fast = fastest(lambda size=size: plain_loop(pictures, epochs, size), fit)
        times = f"fit ({dtype}) {rate / fast:.0f}: {plain / fast:.1f} times as fast"
        print(f"  batches of {size}: plain float32 loop {rate / plain:.0f}, {times}")
    print("  (wanted: 2.5 with all training pictures in a batch, where the CPU has bfloat16)")


def loop_by_hand(model, pictures: torch.Tensor, epochs: int, batch_size: int) -> list[float]:
    """All that `fit` does to the weights, and the mean loss of each epoch, written out."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.95), weight_decay=1e-4)
    dtype = training.pick_precision("auto", torch.device("cpu"))
    total = epochs * -(-len(pictures) // batch_size)
    step, means = 0, []
    torch.manual_seed(0)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        sum_of_losses = 0.0
        for chosen in torch.randperm(len(pictures), generator=generator).split(batch_size):
            optimizer.param_groups[0]["lr"] = 1e-3 * training.one_cycle(step, total)
            model.train()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = losses.mse(model, pictures[chosen])["loss"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            sum_of_losses += loss.item() * len(chosen)
            step += 1
        means.append(sum_of_losses / len(pictures))
    return means


def bench_overhead(epochs: int = 25, batch_size: int = 16) -> None:
    """A tiny dense model, so that what is not its arithmetic shows."""

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        layers = [torch.nn.Linear(64, 16), torch.nn.GELU(), torch.nn.Linear(16, 64)]
        return torch.nn.Sequential(*layers)

    x = torch.rand(256, 64)
    ways = (
        lambda: loop_by_hand(model(), x, epochs, batch_size),
        lambda: training.fit(
            model(), losses.mse, x, epochs=epochs, batch_size=batch_size, device="cpu"
        ),
    )
    assert ways[0]() == ways[1]()["train_loss"], "fit and the loop by hand differ"
    by_hand, fit = fastest(*ways, rounds=20)
    steps = epochs * len(x) // batch_size
    print(f"a tiny dense model: {1e6 * by_hand / steps:.0f} us a step in a loop by hand")
    print(f"  fit {1e6 * fit / steps:.0f} us: {100 * (fit / by_hand - 1):.0f} % more (wanted: 20)")


def bench_svd(pictures: torch.Tensor) -> None:
    matrices = svd.to_matrix(data.to_bytes(pictures)).astype(np.float64)
    one_by_one, batch = fastest(
        lambda: [scipy.linalg.svd(m, full_matrices=False) for m in matrices],
        lambda: svd.decompose_all(matrices),
    )
    ours = svd.decompose_all(matrices).truncate(16).matrix()
    reference = np.stack([svd.decompose(m).truncate(16).matrix() for m in matrices])
    error = [10 * np.log10(((x - matrices) ** 2).mean((1, 2))) for x in (ours, reference)]
    print(
        f"SVD of {len(matrices)} pictures: "
        f"SciPy one by one {one_by_one:.3f} s, decompose_all {batch:.3f} s"
    )
    print(f"  decompose_all is {one_by_one / batch:.1f} times as fast (wanted: 8)")
    print(
        f"  PSNR at rank 16 differs by at most {np.abs(error[0] - error[1]).max():.6f} dB (wanted: "
        "0.01)"
    )


def bench_codec(pictures: torch.Tensor) -> None:
    teacher, student = (
        codec.shipped(),
        codec.unpack((data.ROOT / "notebooks" / "student.aew").read_bytes()),
    )
    picture, level = data.to_bytes(pictures[:1])[0], torch.tensor([4])
    with torch.inference_mode():
        latents, file = teacher.decoded(pictures[:1], level), codec.encode(picture)
        large, small = fastest(
            lambda: teacher.synthesis(latents, level),
            lambda: student.synthesis(latents, level),
            rounds=20,
        )
        encode, decode = fastest(
            lambda: codec.encode(picture), lambda: codec.decode(file), rounds=20
        )
    print(
        "codec, a picture of 128 x 128: "
        f"encode {1000 * encode:.0f} ms, decode {1000 * decode:.0f} ms"
    )
    print(
        f"  drawing it: teacher {1000 * large:.1f} ms, student {1000 * small:.1f} ms, "
        f"{large / small:.1f} times as fast"
    )


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads, data: {data.source()}")
    try:
        cars, _ = data.cars()
    except ValueError as error:  # the speed hardly depends on what the pictures show
        print(f"random pictures instead: {error}")
        cars = torch.rand(100, 3, 128, 128)
    bench_training(cars[:80])
    bench_overhead()
    bench_svd(cars)
    bench_codec(cars)
