"""Networks on held-out simulated exams: accuracy, false positives by tissue, the number of phases, and speed.

    python Testing/benchmarks/multi_phase.py accuracy MODEL... [--exams 10] [--csv cases.csv] [--matched]
    python Testing/benchmarks/multi_phase.py phases MODEL... [--exams 10] [--csv cases.csv]
    python Testing/benchmarks/multi_phase.py speed MODEL... [--device cpu]

A MODEL is a bundle's folder. Exams have 2 mm voxels and seeds that no training uses; breast masks are the true ones, so
that networks are compared and nothing else. Each network has the threshold that gives it the best mean Dice on other
exams. Tables are Markdown; a mean has its 95 % bootstrap interval over exams.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held_out import (
    PHASE_SEEDS,
    SPACING_MM,
    TEST_SEEDS,
    THRESHOLD_EXAMS,
    THRESHOLD_SEEDS,
    THRESHOLDS,
    Exam,
    exams,
    say,
    table,
    told,
)

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.evaluate import evaluate_case
from BreastTumorSegLib.metrics.overlap import dice, recall
from BreastTumorSegLib.networks.bundle import Bundle, read_bundle
from BreastTumorSegLib.phantom.sites import TRAINING_SITES
from BreastTumorSegLib.phantom.tissues import TISSUES
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.training.prediction import by_engine, predict_probability
from BreastTumorSegLib.training.volumes import TrainingVolume

PHASE_COUNTS = (2, 3, 4, 5, 6, 8)
MARKED_ENHANCEMENT = 0.5
"""Background enhancement counts as marked from this mean early percent enhancement of the gland on."""

MEASURES = ("dice", "recall", "hd95_mm", "sensitivity", "false_positives")
TISSUE_MEASURES = ("vessel_ml", "heart_ml", "gland_ml", "marked_gland_ml")


class Model:
    """A bundle, and its threshold for the comparison."""

    def __init__(self, folder: Path) -> None:
        self.bundle: Bundle = read_bundle(folder)
        self.name = self.bundle.description.name
        self.threshold = self.bundle.description.threshold
        self._predict = by_engine(self.bundle, torch.device("cpu"), Events())

    def probability(self, volume: TrainingVolume) -> np.ndarray:
        """(Z, Y, X) over the whole grid."""
        return predict_probability(volume, self.bundle.description, self._predict).numpy()


def choose_thresholds(models: Sequence[Model], matched: bool) -> None:
    """On exams that are the same for every model: the threshold with the best mean Dice within the breasts.

    With `matched` that is so for the first model, and the others have the one where they find the same share of the
    tumours' voxels, so that their false ones can be compared.
    """
    scores: dict[str, list[list[tuple[float, float]]]] = {model.name: [] for model in models}
    for exam in exams(TRAINING_SITES, THRESHOLD_EXAMS, THRESHOLD_SEEDS):
        tumor, breast = exam.truth.tumor.numpy(), exam.volume.breast.numpy()
        for model in models:
            inside = np.where(breast, model.probability(exam.volume), 0)
            masks = [inside >= value for value in THRESHOLDS]
            scores[model.name].append([(dice(mask, tumor, empty=np.nan), recall(mask, tumor)) for mask in masks])
    means = {name: np.nanmean(values, axis=0) for name, values in scores.items()}
    wanted = means[models[0].name][means[models[0].name][:, 0].argmax(), 1]
    for model in models:
        dices, recalls = means[model.name].T
        best = int(np.abs(recalls - wanted).argmin() if matched else dices.argmax())
        model.threshold = THRESHOLDS[best]
        found = f"Dice {dices[best]:.3f} and recall {recalls[best]:.3f} on {THRESHOLD_EXAMS} exams a site"
        say(f"{model.name}: threshold {model.threshold:.4f}, {found}")


def measured(model: Model, exam: Exam, volume: TrainingVolume, maskings: Sequence[bool]) -> list[dict[str, Any]]:
    """One prediction's rows, counted everywhere or inside the breasts."""
    everywhere = model.probability(volume) >= model.threshold
    rows = []
    for masked in maskings:
        found = everywhere & volume.breast.numpy() if masked else everywhere
        row = evaluate_case(found, exam.truth.tumor.numpy(), exam.truth.geometry)
        about = {"model": model.name, "phases": len(volume.phases), "masked": int(masked)}
        rows.append(about | {name: row[name] for name in MEASURES} | _by_tissue(found, exam))
    return rows


def _by_tissue(found: np.ndarray, exam: Exam) -> dict[str, float]:
    """Millilitres of false tumour in vessels, in the heart, and in gland; gland again where it enhances markedly."""
    wrong = found & ~exam.truth.tumor.numpy()
    tissues = exam.truth.tissues.numpy()
    voxel_ml = SPACING_MM**3 / 1000
    names = {"vessel_ml": "vessel", "heart_ml": "heart", "gland_ml": "fibroglandular"}
    volumes = {key: float((wrong & (tissues == TISSUES[name].label)).sum() * voxel_ml) for key, name in names.items()}
    gland = (exam.truth.tissues == TISSUES["fibroglandular"].label) & ~exam.truth.tumor
    enhancement = float(exam.truth.data[1][gland].mean() / exam.truth.data[0][gland].mean()) - 1
    return volumes | {"marked_gland_ml": volumes["gland_ml"] if enhancement >= MARKED_ENHANCEMENT else np.nan}


def accuracy(models: Sequence[Model], count: int) -> list[dict[str, Any]]:
    """Every site's exams as they are, counted everywhere and inside the breasts."""
    return [
        {"exam": number, "site": site} | row
        for site in TRAINING_SITES
        for number, exam in enumerate(exams([site], count, TEST_SEEDS))
        for model in models
        for row in measured(model, exam, exam.volume, (False, True))
    ]


def phases(models: Sequence[Model], count: int) -> list[dict[str, Any]]:
    """Exams of eight phases, of which the first ones are used. Networks for two phases have the same answer always."""
    rows = []
    for site in ("DUKE", "ISPY2"):
        for number, exam in enumerate(exams([site], count, PHASE_SEEDS, max(PHASE_COUNTS))):
            for model in models:
                counts = PHASE_COUNTS if model.bundle.description.phases == "all" else PHASE_COUNTS[:1]
                rows += [
                    {"exam": number, "site": site} | row
                    for some in counts
                    for row in measured(model, exam, exam.with_phases(some), (True,))
                ]
    return rows


def differences(rows: Sequence[dict[str, Any]]) -> None:
    """Of every model's masked Dice against the first one's, by pairs of exams."""
    scores: dict[tuple[str, int], dict[tuple[str, int], float]] = {}
    for row in rows:
        if row["masked"]:
            scores.setdefault((row["model"], row["phases"]), {})[row["site"], row["exam"]] = row["dice"]
    by_model: dict[str, dict[tuple[str, int], float]] = {}
    for (model, _), values in scores.items():
        by_model.setdefault(model, {}).update(values)
    first, *others = by_model
    for other in others:
        pairs = np.array([by_model[other][key] - by_model[first][key] for key in by_model[first]])
        say(f"Dice of {other} minus {first}, exam by exam: {told(pairs)}")


def speed(models: Sequence[Model], device: torch.device) -> None:
    """Seconds a pass over the box of both breasts, the median of three; networks for two phases take the first two."""
    shape = (96, 88, 168)
    say(f"Passes over {shape} voxels on {device}\n\n| model | phases | s | ratio |\n|---|---|---|---|")
    base = None
    for model in models:
        all_phases = model.bundle.description.phases == "all"
        for count in (*PHASE_COUNTS, 12) if all_phases else PHASE_COUNTS[:1]:
            job = Engine(model.bundle, device, Events())
            image, times = torch.randn(count, *shape), 90.0 * torch.arange(count)
            seconds = [_timed(job, image, times) for _ in range(4)][1:]
            median = statistics.median(seconds)
            base = base or median
            say(f"| {model.name} | {count} | {median:.2f} | {median / base:.2f} |")


def _timed(job: Engine, image: torch.Tensor, times: torch.Tensor) -> float:
    start = time.perf_counter()
    job.predict(image, torch.ones(image.shape[1:], dtype=torch.bool), times)
    return time.perf_counter() - start


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "phases", "speed"))
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--exams", type=int, default=10)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--matched", action="store_true", help="Thresholds at which all find as much as the first one.")
    given = parser.parse_args()
    models = [Model(folder) for folder in given.models]
    if len({model.name for model in models}) < len(models):
        parser.error("two models have the same name")
    if given.what == "speed":
        speed(models, torch.device(given.device))
        return
    choose_thresholds(models, given.matched)
    rows = (accuracy if given.what == "accuracy" else phases)(models, given.exams)
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    table(rows, ("model", "masked" if given.what == "accuracy" else "phases"), (*MEASURES, *TISSUE_MEASURES))
    if given.what == "accuracy":
        differences(rows)


if __name__ == "__main__":
    main()
