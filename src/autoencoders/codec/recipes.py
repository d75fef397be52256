"""Long trainings behind notebook 04: `python -m autoencoders recipe NAME`."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from autoencoders import codec, course, data, metrics, training
from autoencoders.codec.training import STUDENT, STUDENT_QUALITY
from autoencoders.recipes import SEEDS, runs_so_far, write_runs

# Two ideas of a learned codec, each there or not: networks beside the PCA, and an entropy model
# that looks at what is decoded already. All four are trained equally long.
STEPS = {
    "PCA, one scale a channel": {"networks": False, "neighbours": False},
    "PCA, neighbours": {"networks": False, "neighbours": True},
    "networks, one scale a channel": {"networks": True, "neighbours": False},
    "networks, neighbours": {"networks": True, "neighbours": True},
}
STEP_QUALITIES = (1, 3, 5, 7)
STUDENT_SEEDS = (0, 1, 2, 3, 4)


def small_learned_codec() -> codec.LearnedCodec:
    """The untrained codec that notebook 04 trains, a tenth of the shipped one."""
    return codec.LearnedCodec(groups=(3, 9, 20), width=16, post=16, blocks=1, context=16)


def codec_steps(out: Path, epochs: int = 80) -> None:
    """Train the small codec with and without its two ideas; write real files' bytes and quality.

    A list of runs with "idea", "seed", and for each quality of `STEP_QUALITIES` the "bytes" and the
    "psnr" of each unseen car. What is there already is kept. 20 minutes on one core.
    """
    cars, _ = data.cars(128, course.ROOT / "cars_sample")
    runs = runs_so_far(out)
    done = {(run["idea"], run["seed"]) for run in runs}
    # Seed by seed: interrupted, the file compares all ideas by the seeds that are done.
    wanted = [(idea, seed) for seed in SEEDS for idea in STEPS]
    for idea, seed in tqdm([key for key in wanted if key not in done]):
        model = train_step(idea, seed, cars, epochs)
        runs.append({"idea": idea, "seed": seed} | _files_of(model, cars))
        write_runs(runs, out)


def train_step(idea: str, seed: int, cars: torch.Tensor, epochs: int) -> codec.LearnedCodec:
    """Train the small codec with those of its parts that an idea of `STEPS` has."""
    train = data.split(len(cars)).train
    training.seed_everything(seed)
    model = small_learned_codec().start_from_pca(cars[train])
    # A network whose last layer stays at zero is not there.
    layers = []
    if not STEPS[idea]["networks"]:
        layers += [model.analysis_net[-1], model.post[-2]]
    for layer in layers:
        layer.requires_grad_(False)
    if not STEPS[idea]["neighbours"]:
        for part in model.context:
            # What is left are the biases: a mean and a scale for each channel.
            for layer in part.last:
                layer.weight.requires_grad_(False)
    crops = data.augment(64, area=(0.25, 1))
    codec.fit_codec(model, cars[train], epochs=epochs, lr=2e-3, prepare_batch=crops, seed=seed)
    # Rounded weights in fixed point: only such a model writes files.
    return codec.unpack(codec.pack(model))


def _files_of(model: codec.LearnedCodec, cars: torch.Tensor) -> dict:
    pictures = data.to_bytes(cars[data.split(len(cars)).unseen])

    def code(picture, quality):
        file = codec.encode(picture, quality, model)
        return file, codec.decode(file, model)

    curve = metrics.sweep(code, pictures, STEP_QUALITIES)
    # Lists of lists, (qualities, cars).
    return {"bytes": curve.sizes.astype(int).tolist(), "psnr": curve.quality.round(3).tolist()}


def distillation(out: Path, epochs: int = 40) -> None:
    """Train students of the shipped codec with a teacher and without, from five seeds each.

    A list of runs with "taught", "seed" and the mean "psnr" of the unseen cars in dB. Ten minutes
    on one core.
    """
    cars, _ = data.cars(128, course.ROOT / "cars_sample")
    runs = runs_so_far(out)
    done = {(run["taught"], run["seed"]) for run in runs}
    wanted = [(taught, seed) for seed in STUDENT_SEEDS for taught in (True, False)]
    for taught, seed in tqdm([key for key in wanted if key not in done]):
        quality = train_small_student(taught, seed, cars, epochs)
        runs.append({"taught": taught, "seed": seed, "psnr": round(quality, 4)})
        write_runs(runs, out)


def train_small_student(taught: bool, seed: int, cars: torch.Tensor, epochs: int) -> float:
    """Train a student on crops of the training cars; its PSNR on unseen ones, in dB."""
    train, _, unseen = data.split(len(cars))
    teacher = codec.shipped()
    training.seed_everything(seed)
    student = codec.LearnedCodec(teacher.groups, **STUDENT)
    # The walk through the latents of a crop takes long, so there is a fixed set of crops.
    crop = data.augment(64, area=(0.2, 1), colours=True)
    crops = torch.cat([crop(cars[train]) for _ in range(8)])
    options = {"epochs": epochs, "lr": 3e-3, "batch_size": 8, "seed": seed}
    codec.fit_student(student, teacher, crops, STUDENT_QUALITY, taught, **options)
    level = torch.full((len(unseen),), STUDENT_QUALITY - 1)  # levels count from 0
    with torch.no_grad():
        # The latents are the teacher's in both conditions; only the decoder is the student's.
        drawn = student.synthesis(teacher.decoded(cars[unseen], level), level)
    return metrics.psnr(cars[unseen], drawn.clamp(0, 1)).mean().item()


SHEET = "AVIF tuned"


def contact_sheet(out: Path, quality: int = 15) -> None:
    """Write the hundred cars as one AVIF file, as small as it is when as good as our archive.

    AVIF at its best, tuned for the PSNR; ten by ten cars of 128x128; from `quality` on the first
    one that reaches the mean PSNR of `notebooks/hundred_cars.aez`. The one before it, which does
    not, is written beside it as "..._coarser". Five minutes. Raises ValueError.
    """
    archive = (course.ROOT / "notebooks" / "hundred_cars.aez").read_bytes()
    cars = data.to_bytes(data.cars(128, course.ROOT / "cars_sample")[0])
    decoded = np.stack([picture for _, picture in codec.decode_all(archive)])
    wanted = metrics.psnr(cars, decoded).mean()
    coarser = None
    # It ends: AVIF at its best is far above the 28 dB of the archive.
    while True:
        file, cut = metrics.sheet(cars, SHEET, quality)
        if metrics.psnr(cars, cut).mean() >= wanted:
            break
        coarser = file
        quality += 1
    if coarser is None:
        raise ValueError(f"{quality=}: expected a lower one, where AVIF is below {wanted:.2f} dB")
    beside = out.with_name(f"{out.stem}_coarser{out.suffix}")
    for path, content in ((out, file), (beside, coarser)):
        with course.replacing(path) as part:
            part.write_bytes(content)


def cut_sheet(file: bytes) -> np.ndarray:
    """The hundred pictures of a file of `contact_sheet`, uint8 `(100, 128, 128, 3)`."""
    large = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    # (1280, 1280, 3) -> (row, y, column, x, 3) -> (row, column, y, x, 3) -> (100, 128, 128, 3)
    return large.reshape(10, 128, 10, 128, 3).swapaxes(1, 2).reshape(100, 128, 128, 3)


# Minutes on one core of 2024: 10, 5, 12.
RECIPES = {
    "codec-steps": codec_steps,
    "contact-sheet": contact_sheet,
    "distillation": distillation,
}
