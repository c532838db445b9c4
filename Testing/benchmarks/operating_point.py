"""Threshold and peak of tumour models, by simulated exams and by lesions painted into real ones (docs/weights.md).

    python Testing/benchmarks/operating_point.py FOLDER... [--patients 3] [--places 3] [--data DATA] [--write]

`models calibrate` goes by simulated exams alone, whose lesions are surer than real ones. Here threshold and peak have
the highest mean of four numbers: the score on its exams, the share found of their lesions that can be seen, the share
of those without lesion that stay empty, and the share found of the lesions that `inserted.py` paints; with at most as
many false lesions as it allows. With `--write` they are written into the FOLDER's model.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from held_out import say
from inserted import cases, finds
from real_exams import DATA

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.detection import match_lesions
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


@dataclass(frozen=True)
class Choice:
    """A calibration, and the shares found of simulated lesions that can be seen, and of painted ones."""

    calibration: Calibration
    visible: float
    painted: float

    @property
    def worth(self) -> float:
        """The mean of the four numbers."""
        return float(np.mean([self.calibration.score, self.calibration.empty, self.visible, self.painted]))


def choose(simulated: Sequence[Seen], painted: Sequence[Seen]) -> Choice:
    """The best choice."""
    offered = choices(simulated, fitting_temperature(simulated), Events())
    visible, found = (
        shares(exams, offered[0].temperature, seen) for exams, seen in ((simulated, _seen), (painted, _hit))
    )
    points = [Choice(each, visible[point(each)], found[point(each)]) for each in offered]
    careful = [each for each in points if each.calibration.false_positives <= MOST_FALSE]
    return max(careful or points, key=lambda each: each.worth)


def point(choice: Calibration) -> tuple[float, float]:
    """What is chosen beside the temperature."""
    return choice.threshold, choice.peak


def shares(
    exams: Sequence[Seen], temperature: float, count: Callable[[np.ndarray, Seen], tuple[int, int]]
) -> dict[tuple[float, float], float]:
    """Share of the lesions found, by threshold and peak; `count` tells of an exam how many are found, and are there."""
    counts: dict[tuple[float, float], list[tuple[int, int]]] = {}
    for each in exams:
        for threshold in THRESHOLDS:
            for peak, found in measured(each, temperature, threshold, count):
                counts.setdefault((threshold, peak), []).append(found)
    sums = {chosen: np.sum(found, axis=0) for chosen, found in counts.items()}
    return {chosen: float(found / there) for chosen, (found, there) in sums.items()}


def _seen(reported: np.ndarray, seen: Seen) -> tuple[int, int]:
    found = match_lesions(reported, seen.visible)
    return found.found, found.reference


def _hit(reported: np.ndarray, seen: Seen) -> tuple[int, int]:
    return int(finds(label_lesions(reported, seen.geometry), seen.tumor)[0]), 1


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
    heads = "temperature | threshold | peak | score | false an exam | empty without lesion"
    say(f"| | {heads} | visible lesions found | painted lesions found |\n|{'---|' * 9}")
    for folder in options.models:
        bundle = read_bundle(folder)
        simulated = look_at_exams(bundle, breast, CPU, Events(), options.patients)
        painted = [
            look(case.exam, case.seen.breast, case.lesion, case.lesion, bundle, CPU)
            for case in cases(options.data, options.places)
        ]
        best = choose(simulated, painted)
        told = " | ".join(f"{value:g}" for value in vars(best.calibration).values())
        say(f"| {folder.name} | {told} | {best.visible:.2f} | {best.painted:.2f} |")
        if options.write:
            write_description(best.calibration.of(bundle), folder)


if __name__ == "__main__":
    main()
