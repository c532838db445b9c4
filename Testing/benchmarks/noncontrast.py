"""The non-contrast networks on held-out simulated exams: predicted cluster maps, and segmentation with them.

    python Testing/benchmarks/noncontrast.py maps MAPS... [--exams 10] [--csv cases.csv]
    python Testing/benchmarks/noncontrast.py tumor MODEL... --maps MAPS [--exams 10] [--csv cases.csv]

MAPS and MODEL are bundles' folders. Exams have 2 mm voxels and seeds that no training uses; breast masks are true.
A model that takes maps gets those of --maps, or the true ones where its name ends in "-ceiling". Each network has the
threshold that gives it the best mean Dice on other exams. Means have their 95 % bootstrap interval over exams.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held_out import TEST_SEEDS, THRESHOLD_EXAMS, THRESHOLD_SEEDS, THRESHOLDS, Exam, exams, say, table, told
from scipy.special import entr

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.classes import confusion, mean_accuracy, mean_iou
from BreastTumorSegLib.metrics.evaluate import evaluate_case
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import Bundle, read_bundle
from BreastTumorSegLib.phantom.sites import TRAINING_SITES
from BreastTumorSegLib.segmentation.clusters import class_maps, true_classes
from BreastTumorSegLib.training.prediction import by_engine, predict_probability
from BreastTumorSegLib.training.volumes import TrainingVolume

CPU = torch.device("cpu")
MAP_MEASURES = ("mean_accuracy", "mean_iou", "enhancing_dice", "lesion_accuracy")
UNSURE = (0.0, 0.25, 0.5, 0.75, 1.01)
"""Steps of uncertainty, as the report colours it."""
TUMOR_MEASURES = ("dice", "precision", "recall", "assd_mm", "sensitivity", "false_positives")


def map_rows(bundles: Sequence[Bundle], count: int) -> list[dict[str, Any]]:
    """Accuracy and intersection over union inside the breasts; Dice of what enhances; accuracy inside the lesion.

    And how often the class is wrong, by how unsure the network is.
    """
    rows = []
    for site in TRAINING_SITES:
        for number, exam in enumerate(exams([site], count, TEST_SEEDS)):
            for bundle in bundles:
                found = class_maps(bundle, exam.volume.phases[:1].float(), exam.volume.breast, CPU, Events()).numpy()
                about = {"exam": number, "site": site, "model": bundle.description.name}
                rows.append(about | _map_measures(found, exam))
    return rows


def _map_measures(probabilities: np.ndarray, exam: Exam) -> dict[str, float]:
    breast, tumor = exam.volume.breast.numpy(), exam.truth.tumor.numpy()
    classes, found = len(probabilities), probabilities.argmax(0)
    truth = true_classes(exam.truth.data.numpy(), exam.truth.times, breast, classes)
    unsure = entr(probabilities).sum(0)[breast] / np.log(classes)
    wrong = (found != truth)[breast]
    steps = {low: wrong[(unsure >= low) & (unsure < high)] for low, high in pairwise(UNSURE)}
    inside = confusion(found[breast], truth[breast], classes)
    lesion = confusion(found[tumor], truth[tumor], classes)
    return {
        "mean_accuracy": mean_accuracy(inside),
        "mean_iou": mean_iou(inside),
        "enhancing_dice": dice(found[breast] > 1, truth[breast] > 1, empty=np.nan),
        "lesion_accuracy": float(lesion.trace() / lesion.sum()) if lesion.sum() else np.nan,
        **{f"wrong_from_{low}": float(inside.mean()) if len(inside) else np.nan for low, inside in steps.items()},
    }


class Model:
    """A bundle for tumours, with the maps that it takes, and its threshold for the comparison."""

    def __init__(self, folder: Path, maps: Bundle | None) -> None:
        self.bundle = read_bundle(folder)
        self.name = self.bundle.description.name
        self.threshold = self.bundle.description.threshold
        self._maps = maps if self.bundle.description.maps else None
        self._true_maps = bool(self.bundle.description.maps) and self.name.endswith("-ceiling")
        self._predict = by_engine(self.bundle, CPU, Events())

    def inside(self, exam: Exam) -> np.ndarray:
        """Probability (Z, Y, X), 0 outside the breasts."""
        volume = self._with_maps(exam)
        found = predict_probability(volume, self.bundle.description, self._predict)
        return np.where(volume.breast, found, 0)

    def _with_maps(self, exam: Exam) -> TrainingVolume:
        if self._true_maps:
            count = self.bundle.description.network.in_channels - 1
            breast = exam.volume.breast.numpy()
            classes = true_classes(exam.truth.data.numpy(), exam.truth.times, breast, count)
            maps = 255 * torch.from_numpy(classes == np.arange(count)[:, None, None, None])
            return replace(exam.volume, maps=maps)
        if self._maps is None:
            return exam.volume
        phases = exam.volume.phases[:1].float()
        return replace(exam.volume, maps=255 * class_maps(self._maps, phases, exam.volume.breast, CPU, Events()))


def choose_thresholds(models: Sequence[Model]) -> None:
    """The one with the best mean Dice within the breasts, for every model on the same exams."""
    scores: dict[str, list[list[float]]] = {model.name: [] for model in models}
    for exam in exams(TRAINING_SITES, THRESHOLD_EXAMS, THRESHOLD_SEEDS):
        tumor = exam.truth.tumor.numpy()
        for model in models:
            inside = model.inside(exam)
            scores[model.name].append([dice(inside >= value, tumor, empty=np.nan) for value in THRESHOLDS])
    for model in models:
        model.threshold = THRESHOLDS[int(np.nanmean(scores[model.name], axis=0).argmax())]
        say(f"{model.name}: threshold {model.threshold}")


def tumor_rows(models: Sequence[Model], count: int) -> list[dict[str, Any]]:
    """The form of the paper's Table 1."""
    rows = []
    for site in TRAINING_SITES:
        for number, exam in enumerate(exams([site], count, TEST_SEEDS)):
            for model in models:
                found = model.inside(exam) >= model.threshold
                measures = evaluate_case(found, exam.truth.tumor.numpy(), exam.truth.geometry)
                about = {"exam": number, "site": site, "model": model.name}
                rows.append(about | {name: measures[name] for name in TUMOR_MEASURES})
    return rows


def differences(rows: Sequence[dict[str, Any]]) -> None:
    """Of every model's Dice against the first one's, by pairs of exams."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["model"], []).append(row["dice"])
    first, *others = scores
    for other in others:
        pairs = np.array(scores[other]) - np.array(scores[first])
        say(f"Dice of {other} minus {first}, exam by exam: {told(pairs)}")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("maps", "tumor"))
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--maps", type=Path)
    parser.add_argument("--exams", type=int, default=10)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    if given.what == "maps":
        rows = map_rows([read_bundle(folder) for folder in given.models], given.exams)
        columns = (*MAP_MEASURES, *(f"wrong_from_{low}" for low in UNSURE[:-1]))
    else:
        models = [Model(folder, read_bundle(given.maps) if given.maps else None) for folder in given.models]
        choose_thresholds(models)
        rows, columns = tumor_rows(models, given.exams), TUMOR_MEASURES
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    table(rows, ("model",), columns)
    if given.what == "tumor":
        differences(rows)


if __name__ == "__main__":
    main()
