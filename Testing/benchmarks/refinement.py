"""A second network around candidates against region growing: the table of docs/weights-history.md.

    python Testing/benchmarks/refinement.py COARSE REFINEMENT [--exams 2] [--spacing 1.0] [--first-seed 746000]

COARSE and REFINEMENT are names or folders of bundles. Every exam goes through both with the same breasts and the same
probability of the first network.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from held_out import JUDGED_IN, say
from scipy import ndimage

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.evaluate import evaluate_case
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import default_model, find_bundle, load_bundle
from BreastTumorSegLib.phantom.conditions import in_condition
from BreastTumorSegLib.phantom.simulate import simulate_exam
from BreastTumorSegLib.phantom.sites import SITES
from BreastTumorSegLib.segmentation.breast import segment_breast
from BreastTumorSegLib.segmentation.lesions import label_lesions
from BreastTumorSegLib.segmentation.refinement import refined
from BreastTumorSegLib.segmentation.tumor import grow, tumor_probability

SEEDS = 746_000
CPU = torch.device("cpu")
GROWING = "growing"
THRESHOLDS = {"": None, ", candidates from 0.5 on": 0.5, ", candidates from 0.2 on": 0.2}
"""Of candidates that need no peak; None is the first network's own threshold and peak."""

Row = dict[str, float | str]


def main() -> None:
    """Measure all exams on all cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coarse")
    parser.add_argument("refinement")
    parser.add_argument("--exams", type=int, default=2, help="patients a site, each under four conditions")
    parser.add_argument("--spacing", type=float, default=1.0, help="of the exams, mm")
    parser.add_argument("--first-seed", type=int, default=SEEDS)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.exams)
    cells = [(site, condition, seed) for seed in seeds for site in SITES for condition in JUDGED_IN]
    work = partial(measure, coarse=options.coarse, refinement=options.refinement, spacing=options.spacing)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        rows = [row for rows in pool.map(work, cells) for row in rows]
    say("| | score | Dice where found | lesions found | false lesions an exam |\n|---|---|---|---|---|")
    for method in dict.fromkeys(row["method"] for row in rows):
        report(str(method), [row for row in rows if row["method"] == method])


def measure(cell: tuple[str, str, int], coarse: str, refinement: str, spacing: float) -> list[Row]:
    """A row for each way to a mask, of one exam."""
    site, condition, seed = cell
    truth = simulate_exam(site, seed, spacing, change=partial(in_condition, condition=condition))
    exam, first, second = truth.exam, find_bundle(coarse, "tumor"), find_bundle(refinement, "refinement")
    breast = segment_breast(exam.pre, exam.geometry, load_bundle(default_model("breast"), "breast"), CPU, Events())
    inside, tumor, described = breast.labels > 0, truth.tumor.numpy(), first.description
    probability = tumor_probability(exam, breast, first, CPU, Events())
    gain = exam.first_post - exam.pre
    masks = {}
    for name, threshold in THRESHOLDS.items():
        bars = (threshold, 0.0) if threshold else (described.threshold, described.peak)
        weights = None if threshold else described.lesion_weights
        grown = grow(probability, gain, inside, exam.geometry, *bars, weights) > 0
        close = refined(probability, exam, breast, second, *bars, CPU, Events()) >= second.description.threshold
        masks |= {f"{GROWING}{name}": grown, f"second network{name}": close}
        masks[f"{GROWING} what the second network confirms{name}"] = confirmed(grown, close)
    rows: list[Row] = []
    for method, mask in masks.items():
        kept = label_lesions(mask, exam.geometry) > 0
        found = evaluate_case(kept, label_lesions(tumor, exam.geometry), exam.geometry)
        facts = {name: found[name] for name in ("dice", "lesions_reference", "lesions_found", "false_positives")}
        rows.append({"method": method, "score": dice(kept, tumor, empty=1.0), **facts})
    return rows


def confirmed(grown: np.ndarray, close: np.ndarray) -> np.ndarray:
    """The parts of a mask that touch another one."""
    labels, _ = ndimage.label(grown, np.ones((3, 3, 3)))
    return np.isin(labels, np.unique(labels[close & grown])) & grown


def report(method: str, rows: list[Row]) -> None:
    """A line of the table."""
    values = {name: np.array([row[name] for row in rows], float) for name in rows[0] if name != "method"}
    share = values["lesions_found"].sum() / values["lesions_reference"].sum()
    where = values["dice"][values["lesions_found"] > 0].mean()
    false = values["false_positives"].mean()
    say(f"| {method} | {values['score'].mean():.3f} | {where:.3f} | {share:.2f} | {false:.2f} |")


if __name__ == "__main__":
    main()
