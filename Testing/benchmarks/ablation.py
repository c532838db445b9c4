"""Which ingredients of varied exams matter: small networks, each trained without one of them (docs/weights.md).

    python Testing/benchmarks/ablation.py OUT [--exams 6] [--data ../shared/data]

OUT keeps the runs; the same command goes on. All networks see the same patients in the same order, but for
"everything, again", with other patients and other first weights, which tells how much is chance. They are judged at the
site that no training has, and on the two real exams where these are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from held_out import JUDGED_IN, say
from real_exams import DATA, real_exams, told
from stress import Row, judged, reported

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import Bundle, default_model, find_bundle, load_bundle
from BreastTumorSegLib.phantom.conditions import in_condition
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import LEFT_OUT
from BreastTumorSegLib.phantom.variation import INGREDIENTS
from BreastTumorSegLib.segmentation.breast import BreastMask, segment_breast
from BreastTumorSegLib.segmentation.tumor import tumor_probability
from BreastTumorSegLib.training.calibrate import SPACING_MM
from BreastTumorSegLib.training.config import TrainingConfig, read_config
from BreastTumorSegLib.training.run import train

TEST_SEEDS = 745_000
PEAKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.91, 0.93, 0.95, 0.97)
MOST_FALSE = 0.5
"""False lesions an exam: networks are compared where each has at most so many, since some are surer than others."""

CONFIG = Path(__file__).parents[2] / "docs" / "configs" / "ablation.yaml"


def main() -> None:
    """Train what is not trained, judge all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--exams", type=int, default=6, help="patients to judge by, each under every condition")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    variants: list[tuple[str, dict[str, object], int]] = [("everything", {}, 6), ("everything, again", {}, 7)]
    variants += [(f"without {name}", {"without": name}, 6) for name in INGREDIENTS]
    variants += [("nothing varied", {"varied": False, "spread": 0.0}, 6)]
    networks = {}
    for name, data, seed in variants:
        say(f"training {name}")
        networks[name] = _trained(options.out / name.replace(" ", "-").replace(",", ""), data, seed)
    judge(networks, options.exams, options.data)


def _trained(out: Path, data: dict[str, object], seed: int) -> Bundle:
    fields = read_config(CONFIG, TrainingConfig).model_dump()
    fields |= {"out": out.resolve(), "data": fields["data"] | data, "seed": seed}
    folder = train(TrainingConfig.model_validate(fields), torch.device("cpu"), Events())
    return find_bundle(str(folder / "ablation"), "tumor")


def judge(networks: dict[str, Bundle], patients: int, data: Path) -> None:
    """The table."""
    exams = [_exam(condition, TEST_SEEDS + number) for number in range(patients) for condition in JUDGED_IN]
    real = real_exams(data) if data.is_dir() else None
    heads = " Duke 153: box of the known lesion | others | TCGA-AO-A03M right: lesions |" if real else ""
    say(f"{patients} patients of {LEFT_OUT}, each {', '.join(JUDGED_IN)}.\n")
    say(f"| | Dice | lesions found | false lesions an exam |{heads}\n|{'---|' * (7 if real else 4)}")
    for name, bundle in networks.items():
        peak, rows = _at_its_best(bundle, exams)
        with_lesion = [row for row in rows if row["lesions_reference"]]
        cells = f"{_mean(with_lesion, 'dice'):.2f} | {_found(rows):.2f} | {_mean(rows, 'false_positives'):.2f}"
        if real:
            cells += f" | {told(*(seen.lesions(bundle, peak) for seen in real))}"
        say(f"| {name} | {cells} |")


def _exam(condition: str, seed: int) -> tuple[SimulatedExam, BreastMask]:
    truth = simulate_exam(LEFT_OUT, seed, SPACING_MM, change=partial(in_condition, condition=condition))
    exam, bundle = truth.exam, load_bundle(default_model("breast"), "breast")
    return truth, segment_breast(exam.pre, exam.geometry, bundle, torch.device("cpu"), Events())


def _at_its_best(bundle: Bundle, exams: Sequence[tuple[SimulatedExam, BreastMask]]) -> tuple[float, list[Row]]:
    """The lowest peak with few enough false lesions, or the highest; and what is found with it."""
    said = [tumor_probability(truth.exam, breast, bundle, torch.device("cpu"), Events()) for truth, breast in exams]
    for peak in PEAKS:
        at_peak = replace(bundle, description=bundle.description.model_copy(update={"peak": peak}))
        rows = [
            judged(truth, breast, each, reported(each, truth.exam, breast, at_peak))
            for (truth, breast), each in zip(exams, said, strict=True)
        ]
        if _mean(rows, "false_positives") <= MOST_FALSE:
            break
    return peak, rows


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.nanmean([row[name] for row in rows]))


def _found(rows: Sequence[Row]) -> float:
    return sum(row["lesions_found"] for row in rows) / sum(row["lesions_reference"] for row in rows)


if __name__ == "__main__":
    main()
