"""Shipped or new models on simulated exams under difficult conditions: the tables of docs/weights.md.

    python Testing/benchmarks/stress.py MODEL... [--exams 10] [--first-seed 740000] [--csv stress.csv]

A MODEL is the name or the folder of a tumour model's bundle. Every exam goes through the whole pipeline, with the
breasts that it finds itself, at 2 mm. The same patients are in every cell of a site. Tables are Markdown.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held_out import say
from scipy import ndimage

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.metrics.calibration import CalibrationBins, calibration_bins
from BreastTumorSegLib.metrics.detection import match_lesions
from BreastTumorSegLib.metrics.evaluate import evaluate_case
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import Bundle, default_model, find_bundle, load_bundle
from BreastTumorSegLib.phantom.conditions import CONDITIONS, in_condition
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import LEFT_OUT, SITES
from BreastTumorSegLib.phantom.visibility import faint
from BreastTumorSegLib.segmentation.breast import BreastMask, segment_breast
from BreastTumorSegLib.segmentation.lesions import label_lesions
from BreastTumorSegLib.segmentation.noncontrast import load_clusters_model, segment_noncontrast
from BreastTumorSegLib.segmentation.refinement import load_refinement, outlined
from BreastTumorSegLib.segmentation.stopwatch import Stopwatch
from BreastTumorSegLib.segmentation.tumor import tumor_probability
from BreastTumorSegLib.training.calibrate import SPACING_MM

TEST_SEEDS = 740_000
SIZES = {"under 10 mm": (0, 10), "10 to 20 mm": (10, 20), "20 to 50 mm": (20, 50), "over 50 mm": (50, 1000)}

Row = dict[str, Any]


def main() -> None:
    """Measure every model in every cell, exam by exam on all cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--exams", type=int, default=10, help="patients a site")
    parser.add_argument("--first-seed", type=int, default=TEST_SEEDS)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.exams)
    cells = [(site, condition, seed) for site in SITES for condition in CONDITIONS for seed in seeds]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        measured = list(pool.map(partial(measure, models=options.models), cells))
    rows = [row for rows in measured for row in rows]
    if options.csv:
        write(rows, options.csv)
    breast = np.mean([row["breast_dice"] for row in rows])
    say(f"{len(seeds)} patients a site. Whole-breast Dice {breast:.3f} in the mean over all exams.\n")
    for name in dict.fromkeys(row["model"] for row in rows):
        report(name, [row for row in rows if row["model"] == name])


def measure(cell: tuple[str, str, int], models: Sequence[str]) -> list[Row]:
    """A row for each model, of one exam."""
    site, condition, seed = cell
    truth = simulate_exam(site, seed, SPACING_MM, change=partial(in_condition, condition=condition))
    exam, device, events = truth.exam, torch.device("cpu"), Events()
    breast = segment_breast(exam.pre, exam.geometry, load_bundle(default_model("breast"), "breast"), device, events)
    facts = {
        "site": site,
        "condition": condition,
        "seed": seed,
        "phases": len(truth.times),
        "diameter_mm": truth.lesion.diameter if truth.lesion else float("nan"),
        "breast_dice": dice(breast.labels > 0, truth.breast.numpy() > 0, empty=1.0),
    }
    return [facts | {"model": name} | found(truth, breast, find_bundle(name, "tumor")) for name in models]


def found(truth: SimulatedExam, breast: BreastMask, bundle: Bundle) -> Row:
    """What a model finds, and what is right of it."""
    exam, device, events = truth.exam, torch.device("cpu"), Events()
    if bundle.description.needs_contrast:
        probability = tumor_probability(exam, breast, bundle, device, events)
        return judged(truth, breast, probability, reported(probability, exam, breast, bundle))
    clusters, watch = load_clusters_model(bundle), Stopwatch(events)
    result = segment_noncontrast(exam, breast, clusters, bundle, device, None, events, watch)
    return judged(truth, breast, result.probability, np.where(result.tumor > 0, result.probability, 0))


def reported(probability: np.ndarray, exam: Exam, breast: BreastMask, bundle: Bundle) -> np.ndarray:
    """How likely what a model with contrast reports by its probability is a lesion, (Z, Y, X), 0 outside of lesions."""
    refinement, device = load_refinement(bundle), torch.device("cpu")
    return outlined(probability, exam, breast, bundle.description, refinement, device, Events())


def judged(truth: SimulatedExam, breast: BreastMask, probability: np.ndarray, likely: np.ndarray) -> Row:
    """What is right of the lesions that are reported; specks that are too small for one are not."""
    exam, tumor, inside = truth.exam, truth.tumor.numpy(), breast.labels > 0
    labels = label_lesions(likely > 0, exam.geometry)
    mask, numbers = labels > 0, np.arange(1, labels.max() + 1)
    confidence = np.array(ndimage.mean(likely, labels, numbers), float)
    # Splinters of a lesion are none, wherever they are.
    measures = evaluate_case(mask, label_lesions(tumor, exam.geometry), exam.geometry)
    kept = ("dice", "hd95_mm", "lesions_reference", "lesions_found", "lesions_predicted", "false_positives")
    bins = calibration_bins(probability, tumor, inside)
    unseen = faint(exam.first_post - exam.pre, tumor, truth.breast.numpy() > 0, SPACING_MM)
    seen = match_lesions(mask, label_lesions(tumor & ~unseen, exam.geometry) > 0)
    return {
        **{name: measures[name] for name in kept},
        "seen_reference": seen.reference,
        "seen_found": seen.found,
        "score": dice(mask, tumor, empty=1.0),
        "bins": bins,
        "lesion_bins": calibration_bins(confidence, np.isin(numbers, labels[tumor]), bins=10),
    }


def report(name: str, rows: Sequence[Row]) -> None:
    """Every table of a model."""
    say(f"### {name}\n")
    sites = [site for site in SITES if any(row["site"] == site for row in rows)]
    heads = [f"{site} (left out)" if site == LEFT_OUT else site for site in sites]
    say(f"Dice / lesions found / false lesions an exam:\n\n| | {' | '.join(heads)} |\n|{'---|' * (len(sites) + 1)}")
    for condition in CONDITIONS:
        cells = [[row for row in rows if (row["site"], row["condition"]) == (site, condition)] for site in sites]
        say(f"| {condition} | {' | '.join(map(told, cells))} |")
    say(f"| score | {' | '.join(mean([row for row in rows if row['site'] == site], 'score') for site in sites)} |")
    known, new = ([row for row in rows if (row["site"] == LEFT_OUT) == out] for out in (False, True))
    for what, some in (("sites of the training", known), ("the site left out", new)):
        totals(what, some)
    say("\n| condition | exams | Dice | HD95, mm (median) | found |\n|---|---|---|---|---|")
    for condition in CONDITIONS:
        line(condition, [row for row in rows if row["condition"] == condition])
    say("\n| lesion's diameter | exams | Dice | HD95, mm (median) | found |\n|---|---|---|---|---|")
    for size, (low, high) in SIZES.items():
        line(size, [row for row in rows if low <= row["diameter_mm"] < high])
    say("\n| phases | exams | Dice | HD95, mm (median) | found |\n|---|---|---|---|---|")
    for count in sorted({row["phases"] for row in rows}):
        line(str(count), [row for row in rows if row["phases"] == count])
    say("\n| confidence in what is reported | reported | mean confidence | are lesions |\n|---|---|---|---|")
    for each in pooled(rows, "lesion_bins").table():
        edges = f"{each['low']:.1f} to {each['high']:.1f}"
        say(f"| {edges} | {each['voxels']} | {each['probability']:.2f} | {each['frequency']:.2f} |")
    say(f"\nExpected calibration error within the breasts found: {pooled(rows, 'bins').error:.4f}.\n")


def pooled(rows: Sequence[Row], name: str) -> CalibrationBins:
    """The bins of all rows."""
    return sum((row[name] for row in rows[1:]), start=rows[0][name])


def told(rows: Sequence[Row]) -> str:
    """One cell."""
    return f"{mean(rows, 'dice')} / {share_found(rows)} / {np.mean([row['false_positives'] for row in rows]):.1f}"


def totals(what: str, rows: Sequence[Row]) -> None:
    """The figures that were aimed at."""
    if not rows:
        return
    clean = [row for row in rows if row["condition"] == "clean"]
    free = [row["lesions_predicted"] == 0 for row in rows if row["condition"] == "no lesion"]
    false = np.mean([row["false_positives"] for row in rows])
    found = f"{share_found(rows)}, of those that can be seen {share_found(rows, 'seen')}"
    say(
        f"\n{what}: Dice of clean exams {mean(clean, 'dice')}; lesions found {found}, at {false:.2f} false an exam;"
        f" nothing reported in {np.mean(free):.2f} of the exams without lesion;"
        f" whole-breast Dice {mean(rows, 'breast_dice')}; score {mean(rows, 'score')}."
    )


def line(what: str, rows: Sequence[Row]) -> None:
    """A row of a table by something else than site and condition."""
    some = [row for row in rows if row["lesions_reference"]]
    if some:
        distance = np.median([row["hd95_mm"] for row in some])
        say(f"| {what} | {len(some)} | {mean(some, 'dice')} | {distance:.1f} | {share_found(some)} |")


def mean(rows: Sequence[Row], name: str) -> str:
    """Over the rows where it is defined. An exam without lesion has no Dice, or 0 where something is found."""
    values = [row[name] for row in rows if np.isfinite(row[name]) and (name != "dice" or row["lesions_reference"])]
    return f"{np.mean(values):.2f}" if values else "–"


def share_found(rows: Sequence[Row], which: str = "lesions") -> str:
    """Of all lesions, or of those that can be "seen"."""
    there = sum(row[f"{which}_reference"] for row in rows)
    return f"{sum(row[f'{which}_found'] for row in rows) / there:.2f}" if there else "–"


def write(rows: Sequence[Row], path: Path) -> None:
    """A line for each exam and model."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [name for name in rows[0] if not name.endswith("bins")], extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
