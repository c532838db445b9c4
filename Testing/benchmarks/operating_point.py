"""Threshold and peak of tumour models, by simulated exams and by lesions painted into real ones (docs/weights.md).

    python Testing/benchmarks/operating_point.py FOLDER... [--patients 3] [--places 3] [--data DATA] [--write]

`models calibrate` goes by simulated exams alone, whose lesions are surer than real ones. Here threshold and peak have
the highest mean of three numbers: the score on its exams, the share of those without lesion that stay empty, and the
share found of the lesions that `inserted.py` paints; with at most as many false lesions as it allows. With `--write`
they are written into the FOLDER's model.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from held_out import say
from inserted import cases, finds
from real_exams import DATA

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import default_model, load_bundle, read_bundle, write_description
from BreastTumorSegLib.segmentation.lesions import label_lesions
from BreastTumorSegLib.training.calibrate import (
    MOST_FALSE,
    THRESHOLDS,
    Calibration,
    Seen,
    choices,
    fitting_temperature,
    look,
    look_at_exams,
    measured,
)

CPU = torch.device("cpu")


def choose(simulated: Sequence[Seen], painted: Sequence[Seen]) -> tuple[Calibration, float]:
    """The best choice, and the share of the painted lesions that it finds."""
    offered = choices(simulated, fitting_temperature(simulated), Events())
    found = shares_found(painted, offered[0].temperature)
    careful = [choice for choice in offered if choice.false_positives <= MOST_FALSE]
    best = max(careful or offered, key=lambda choice: choice.score + choice.empty + found[point(choice)])
    return best, found[point(best)]


def point(choice: Calibration) -> tuple[float, float]:
    """What is chosen beside the temperature."""
    return choice.threshold, choice.peak


def shares_found(painted: Sequence[Seen], temperature: float) -> dict[tuple[float, float], float]:
    """Share of the painted lesions found, by threshold and peak."""
    found: dict[tuple[float, float], list[bool]] = {}
    for each in painted:
        for threshold in THRESHOLDS:
            for peak, hit in measured(each, temperature, threshold, _hit):
                found.setdefault((threshold, peak), []).append(hit)
    return {chosen: float(np.mean(hits)) for chosen, hits in found.items()}


def _hit(reported: np.ndarray, seen: Seen) -> bool:
    return finds(label_lesions(reported, seen.geometry), seen.tumor)[0]


def main() -> None:
    """A line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--patients", type=int, default=3, help="as of `models calibrate`")
    parser.add_argument("--places", type=int, default=3, help="as of inserted.py")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--write", action="store_true", help="write what was chosen into model.json")
    options = parser.parse_args()
    breast = load_bundle(default_model("breast"), "breast")
    heads = "temperature | threshold | peak | score | false an exam | empty without lesion | painted lesions found"
    say(f"| | {heads} |\n|{'---|' * 8}")
    for folder in options.models:
        bundle = read_bundle(folder)
        simulated = look_at_exams(bundle, breast, CPU, Events(), options.patients)
        painted = [
            look(case.exam, case.seen.breast, case.lesion, bundle, CPU) for case in cases(options.data, options.places)
        ]
        chosen, share = choose(simulated, painted)
        say(f"| {folder.name} | {' | '.join(f'{value:g}' for value in vars(chosen).values())} | {share:.2f} |")
        if options.write:
            write_description(chosen.of(bundle), folder)


if __name__ == "__main__":
    main()
