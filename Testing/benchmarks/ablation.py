"""Which ingredients of varied exams matter: small networks, each trained without one of them (docs/weights.md).

    python Testing/benchmarks/ablation.py OUT [--patients 12] [--places 3] [--data ../shared/data]

OUT keeps the runs; the same command goes on. Each variant is trained twice, with other patients and other first
weights, which tells how much is chance; networks of the same repeat see the same patients in the same order. They are
judged at the site that no training has, and where the two real exams are there, on these and on lesions painted into
them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from held_out import JUDGED_IN, say
from inserted import cases, finds
from real_exams import DATA, Seen, overlap, real_exams
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
REPEATS = (6, 7)
"""Seeds of the trainings."""
PEAKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.91, 0.93, 0.95, 0.97)
MOST_FALSE = 0.5
"""False lesions an exam: networks are compared where each has at most so many, since some are surer than others."""

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "everything": {},
    **{f"without {name}": {"without": name} for name in INGREDIENTS},
    "nothing varied": {"varied": False, "spread": 0.0},
}
CONFIG = Path(__file__).parents[2] / "docs" / "configs" / "ablation.yaml"
DIGITS = {
    "Dice": 2,
    "visible lesions found": 2,
    "false lesions an exam": 2,
    "painted lesions found": 2,
    "Duke 153: box of the known lesion": 2,
    "others": 1,
    "TCGA-AO-A03M right: lesions": 1,
}
"""Columns, and how exactly they are told; all but the first three need the real exams."""

Figures = dict[str, float]


class Settings(NamedTuple):
    """What networks are judged by."""

    patients: int
    places: int
    data: Path


def main() -> None:
    """Train what is not trained, judge all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=12, help=f"of {LEFT_OUT}, each in {len(JUDGED_IN)} conditions")
    parser.add_argument("--places", type=int, default=3, help="of a painted lesion of each diameter in each real exam")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    wanted = [(variant, repeat) for repeat in REPEATS for variant in VARIANTS]
    cores = min(os.cpu_count() or 1, len(wanted))
    with ProcessPoolExecutor(cores, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        folders = list(pool.map(partial(_trained, options.out), wanted))
        work = partial(_judged, Settings(options.patients, options.places, options.data))
        shares = [list(zip(wanted, folders, strict=True))[core::cores] for core in range(cores)]
        told = [figures for figures in pool.map(work, shares) for figures in figures]
    _report(told)


def _trained(out: Path, wanted: tuple[str, int]) -> Path:
    """The folder of a network's bundle."""
    variant, repeat = wanted
    fields = read_config(CONFIG, TrainingConfig).model_dump()
    own = {"out": (out / f"{variant.replace(' ', '-')}-{repeat}").resolve(), "seed": repeat}
    fields |= own | {"data": fields["data"] | VARIANTS[variant]}
    return train(TrainingConfig.model_validate(fields), torch.device("cpu"), Events()) / "ablation"


def _judged(
    settings: Settings, trained: Sequence[tuple[tuple[str, int], Path]]
) -> list[tuple[tuple[str, int], Figures]]:
    """The figures of some networks."""
    exams = [_exam(condition, TEST_SEEDS + number) for number in range(settings.patients) for condition in JUDGED_IN]
    at_best = [_at_its_best(find_bundle(str(folder), "tumor"), exams) for _, folder in trained]
    figures = [_of_simulated(rows) for _, rows in at_best]
    if settings.data.is_dir():
        real, bundles = real_exams(settings.data), [bundle for bundle, _ in at_best]
        painted = _painted_found(bundles, settings)
        for each, bundle, share in zip(figures, bundles, painted, strict=True):
            each |= {"painted lesions found": share} | _of_real(bundle, *real)
    return [(wanted, each) for (wanted, _), each in zip(trained, figures, strict=True)]


def _exam(condition: str, seed: int) -> tuple[SimulatedExam, BreastMask]:
    truth = simulate_exam(LEFT_OUT, seed, SPACING_MM, change=partial(in_condition, condition=condition))
    exam, bundle = truth.exam, load_bundle(default_model("breast"), "breast")
    return truth, segment_breast(exam.pre, exam.geometry, bundle, torch.device("cpu"), Events())


def _at_its_best(bundle: Bundle, exams: Sequence[tuple[SimulatedExam, BreastMask]]) -> tuple[Bundle, list[Row]]:
    """With the lowest peak that has few enough false lesions, or the highest; and what is found with it."""
    said = [tumor_probability(truth.exam, breast, bundle, torch.device("cpu"), Events()) for truth, breast in exams]
    for peak in PEAKS:
        at_peak = replace(bundle, description=bundle.description.model_copy(update={"peak": peak}))
        rows = [
            judged(truth, breast, each, reported(each, truth.exam, breast, at_peak))
            for (truth, breast), each in zip(exams, said, strict=True)
        ]
        if _mean(rows, "false_positives") <= MOST_FALSE:
            break
    return at_peak, rows


def _of_simulated(rows: Sequence[Row]) -> Figures:
    with_lesion = [row for row in rows if row["lesions_reference"]]
    found = sum(row["seen_found"] for row in rows) / sum(row["seen_reference"] for row in rows)
    figures = (_mean(with_lesion, "dice"), found, _mean(rows, "false_positives"))
    return dict(zip(DIGITS, figures, strict=False))


def _painted_found(bundles: Sequence[Bundle], settings: Settings) -> list[float]:
    """The share of painted lesions that each network finds."""
    hits = [
        [finds(Seen(case.exam, case.seen.breast).lesions(bundle), case.lesion)[0] for bundle in bundles]
        for case in cases(settings.data, settings.places)
    ]
    return [float(share) for share in np.mean(hits, axis=0)]


def _of_real(bundle: Bundle, duke: Seen, tcga: Seen) -> Figures:
    labels = duke.lesions(bundle)
    best = overlap(labels)
    return dict(zip(list(DIGITS)[4:], (best, labels.max() - (best > 0), tcga.lesions(bundle).max()), strict=True))


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.nanmean([row[name] for row in rows]))


def _report(told: Sequence[tuple[tuple[str, int], Figures]]) -> None:
    """Means over the repeats, and how far one repeat lies from another: the standard deviation within variants."""
    names = [name for name in DIGITS if name in told[0][1]]
    say(f"| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    of_variant = {
        variant: np.array([[figures[name] for name in names] for (other, _), figures in told if other == variant])
        for variant in VARIANTS
    }
    for variant, values in of_variant.items():
        say(f"| {variant} | {' | '.join(_cells(names, values.mean(axis=0)))} |")
    within = np.sqrt(np.mean([values.var(axis=0, ddof=1) for values in of_variant.values()], axis=0))
    say(f"| standard deviation of one network | {' | '.join(_cells(names, within))} |")


def _cells(names: Sequence[str], values: np.ndarray) -> Iterator[str]:
    return (f"{value:.{DIGITS[name]}f}" for name, value in zip(names, values, strict=True))


if __name__ == "__main__":
    main()
