"""The figures in the READMEs of this folder:  python datasets/measure.py  writes them there.

Each README has them between two marks. They come from the committed files alone.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from autoencoders import data

HERE = Path(__file__).resolve().parent
START, END = "<!--figures-->\n", "<!--end of figures-->"


def nearest_pair(pictures, groups=None):
    """Root mean square difference, in grey levels of 255, of the two pictures that are most alike.

    `groups` (N,): only pairs from two different groups count. Returns it with the numbers of both.
    """
    flat = pictures.flatten(1).double() * 255
    square = (flat**2).mean(1)
    distance = square[:, None] + square[None] - 2 * flat @ flat.T / flat.shape[1]
    same = torch.eye(len(flat), dtype=torch.bool)
    if groups is not None:
        same = groups[:, None] == groups[None]
    distance[same] = torch.inf
    first, second = divmod(distance.argmin().item(), len(flat))
    return distance[first, second].clamp(0).sqrt().item(), first, second


def interval(statistic, n, draws=1000):
    """95 % bootstrap interval of a statistic of drawn numbers below n."""
    random = np.random.default_rng(0)
    values = [statistic(random.integers(0, n, n)) for _ in range(draws)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"[{low:.2f}, {high:.2f}]"


def part_of(a_set, names):
    """The number of the split of each picture."""
    part = torch.zeros(len(a_set.pictures), dtype=torch.long)
    for number, name in enumerate(names):
        part[getattr(a_set, name)] = number
    return part


def turntable():
    cars = data.turntable(32)
    lines = []
    for name in ("train", "validation", "unseen"):
        chosen = getattr(cars, name)
        seeds = cars.car[chosen].unique()
        lines.append(f"| {name}: pictures, cars | {len(chosen):,}, {len(seeds)} |")
    distance, first, second = nearest_pair(
        cars.pictures, part_of(cars, ("train", "validation", "unseen"))
    )
    pair = f"{cars.car[first]} and {cars.car[second]}"
    lines.append(
        f"| nearest pair across two splits, RMS at 32×32 | {distance:.1f} of 255 (cars {pair}) |"
    )
    per_type = torch.bincount(cars.body_type) // 6
    per_paint = torch.bincount(cars.paint) // 6
    lines.append(f"| cars of a body type, least to most | {per_type.min()} to {per_type.max()} |")
    lines.append(f"| cars of a paint, least to most | {per_paint.min()} to {per_paint.max()} |")
    for name in ("azimuth", "elevation"):
        values = getattr(cars, name)
        spread = f"{values.mean():.1f}° ± {values.std():.1f}°"
        lines.append(f"| {name}: mean ± standard deviation | {spread} |")
    level = 255 * cars.pictures.mean((1, 2, 3))
    lines.append(f"| mean grey level | {level.mean():.1f} ± {level.std():.1f} of 255 |")
    return ["| figure | value |", "|---|---|", *lines]


def pixel_scores(parts):
    """How far each unseen picture lies from per-pixel means of good ones, where it is farthest.

    In standard deviations of that pixel.
    """
    pictures = F.interpolate(parts.pictures, size=64, mode="area")
    good, unseen = pictures[parts.train], pictures[parts.unseen]
    z = (unseen - good.mean(0)) / (good.std(0) + 0.03)
    error = z.pow(2).mean(1).sqrt()
    large = F.interpolate(error[:, None], size=(256, 256), mode="bilinear")[:, 0].numpy()
    return np.array([ndimage.gaussian_filter(one, 4).max() for one in large])


def wheels():
    parts = data.wheels()
    scores = pixel_scores(parts)
    defect = parts.defect[parts.unseen].numpy()
    area = 100 * parts.masks[parts.unseen].mean((1, 2, 3)).numpy()
    kinds = {name: defect == number for number, name in enumerate(parts.defects) if number}
    kinds["all"] = defect > 0
    lines = ["| defect | pictures | area, % of the picture | AUROC | 95 % interval |"]
    lines.append("|---|---|---|---|---|")
    for name, chosen in kinds.items():
        both = chosen | (defect == 0)
        value, bounds = auroc_with_interval(chosen[both], scores[both])
        areas = f"{area[chosen].min():.2f} to {area[chosen].max():.2f}"
        lines.append(f"| {name} | {chosen.sum()} | {areas} | {value:.2f} | {bounds} |")
    names = ("train", "validation", "unseen")
    distance, first, second = nearest_pair(parts.pictures, part_of(parts, names))
    pair = f"{parts.files[first]} and {parts.files[second]}"
    lines.append("")
    lines.append(f"Nearest pair across two splits: RMS {distance:.1f} of 255 at 128×128 ({pair}).")
    level = 255 * parts.pictures.mean((1, 2, 3))
    lines.append(f"Mean grey level of a picture: {level.mean():.1f} ± {level.std():.1f} of 255.")
    return lines


def auroc_with_interval(truth, score):
    def auroc(drawn):
        if truth[drawn].all() or not truth[drawn].any():
            return np.nan
        return roc_auc_score(truth[drawn], score[drawn])

    return auroc(np.arange(len(truth))), interval(auroc, len(truth))


def bodies():
    cars = data.bodies()
    small = F.avg_pool2d(cars.pictures, 4).flatten(1).numpy()
    label = cars.label.numpy()
    train, unseen = cars.train.numpy(), cars.unseen.numpy()
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.001, class_weight="balanced", max_iter=2000)
    )
    guess = classifier.fit(small[train], label[train]).predict(small[unseen])

    def balanced(drawn):
        return balanced_accuracy_score(label[unseen][drawn], guess[drawn])

    lines = [
        "| body type | training | test | recall of the logistic regression |",
        "|---|---|---|---|",
    ]
    for number, name in enumerate(cars.classes):
        counts = (label[train] == number).sum(), (label[unseen] == number).sum()
        recall = (guess == number)[label[unseen] == number].mean()
        lines.append(f"| {name} | {counts[0]} | {counts[1]} | {recall:.2f} |")
    value, bounds = balanced(np.arange(len(unseen))), interval(balanced, len(unseen))
    lines.append("")
    lines.append(
        f"Logistic regression on 32×32 pixels: balanced accuracy {value:.2f} {bounds}, "
        f"where guessing gives {1 / len(cars.classes):.2f}."
    )
    distance, first, second = nearest_pair(cars.pictures, part_of(cars, ("train", "unseen")))
    pair = f"{cars.files[first]} and {cars.files[second]}"
    lines.append(f"Nearest pair across the splits: RMS {distance:.1f} of 255 at 128×128 ({pair}).")
    distance, first, second = nearest_pair(cars.pictures)
    pair = f"{cars.files[first]} and {cars.files[second]}"
    lines.append(f"Nearest pair of all: RMS {distance:.1f} ({pair}).")
    level = 255 * cars.pictures.mean((1, 2, 3))
    lines.append(f"Mean grey level of a picture: {level.mean():.1f} ± {level.std():.1f} of 255.")
    return lines


SETS = {"turntable": turntable, "wheels": wheels, "bodies": bodies}


def filled(name):
    """The README of a set with its figures as they are now."""
    text = (HERE / name / "README.md").read_text("utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return before + START + "\n".join(SETS[name]()) + "\n" + END + after


if __name__ == "__main__":
    for name in sys.argv[1:] or SETS:
        (HERE / name / "README.md").write_text(filled(name), "utf-8")
        print(f"datasets/{name}/README.md has its figures.")
