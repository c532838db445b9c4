"""What a model makes of one case: masks for review, and every measure, kept so that it is done once.

A case's folder holds `tumor.nii.gz`, `tumor_probability.nii.gz` and `breast.nii.gz` on the exam's grid, and
`measures.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_volume, results_folder, write_volume
from BreastTumorSegLib.io.cohort import Case
from BreastTumorSegLib.io.results import remove_unfinished
from BreastTumorSegLib.metrics.calibration import CalibrationBins, calibration_bins
from BreastTumorSegLib.metrics.evaluate import evaluate_case
from BreastTumorSegLib.metrics.froc import Candidates, find_candidates
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.segmentation.resample import resample
from BreastTumorSegLib.training.prediction import Predictor, predict_probability
from BreastTumorSegLib.training.volumes import PreparedCohort

MEASURES = "measures.json"

CANDIDATE_PROBABILITY = 0.1
"""Least probability of a lesion candidate, at every operating point."""

PROBABILITY_STEP = 1e-3
"""Maps are rounded to it: what is finer is noise, and triples the files."""

MASKINGS = ("none", "breast")
"""Predictions count everywhere, or inside the whole-breast mask only."""


@dataclass(frozen=True)
class CaseMeasures:
    """Measures of one prediction.

    Attributes:
        case, site: Of the exam.
        masking: One of `MASKINGS`.
        clinical: Columns of `metrics.evaluate` in the clinical convention.
        challenge: The same in the challenge's.
        bins: Of the probability, within the breasts.
        candidates: Lesion candidates over `CANDIDATE_PROBABILITY`.
    """

    case: str
    site: str
    masking: str
    clinical: dict[str, Any]
    challenge: dict[str, Any]
    bins: CalibrationBins
    candidates: Candidates


def measure_case(
    case: Case, prepared: PreparedCohort, bundle: Bundle, predict: Predictor, folder: Path
) -> list[CaseMeasures]:
    """Predict a case, write its folder and measure it, once for each masking; or read what was measured before.

    It is measured anew where weights, images or masks are others than before; the old folder is kept beside then.

    Raises:
        OutputError: The disk is full.
    """
    made_of = {"weights": bundle.sha256, "exam": prepared.folder(case).name}
    rows = _measured_before(folder / MEASURES, made_of)
    if rows is None:
        remove_unfinished(folder)
        with results_folder(folder, overwrite=True) as partial:
            rows = _measure(case, prepared, bundle.description, predict, partial)
            written = json.dumps({"made_of": made_of, "measures": rows})
            (partial / MEASURES).write_text(written, encoding="utf-8")
    return [_read(row, case) for row in rows]


def _measured_before(file: Path, made_of: dict[str, str]) -> list[dict[str, Any]] | None:
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return content["measures"] if content["made_of"] == made_of else None


def _measure(
    case: Case, prepared: PreparedCohort, description: ModelDescription, predict: Predictor, folder: Path
) -> list[dict[str, Any]]:
    masks = [read_volume(file) for file in case.tumors]
    geometry = masks[0][1]
    reference = np.mean([mask > 0 for mask, _ in masks], axis=0) >= 0.5
    volume, grid = prepared.volume_of(case), prepared.grid_of(case)
    probability = resample(predict_probability(volume, description, predict).numpy(), grid, geometry)
    breast = resample(volume.breast.numpy(), grid, geometry) >= 0.5
    inside = np.where(breast, probability, 0)
    shown = probability if description.field == "exam" else inside
    for name, array in {"tumor": shown >= description.threshold, "breast": breast}.items():
        write_volume(array.astype(np.uint8), geometry, folder / f"{name}.nii.gz")
    write_volume(shown.astype(np.float32), geometry, folder / "tumor_probability.nii.gz", PROBABILITY_STEP)
    counted = zip(MASKINGS, (probability, inside), strict=True)
    return [
        {"masking": masking} | _measures(kept, reference, breast, geometry, description.threshold)
        for masking, kept in counted
    ]


def _measures(
    probability: np.ndarray, reference: np.ndarray, breast: np.ndarray, geometry: Geometry, threshold: float
) -> dict[str, Any]:
    found = probability >= threshold
    bins = calibration_bins(probability, reference, breast)
    candidates = find_candidates(probability, reference, CANDIDATE_PROBABILITY)
    return {
        "clinical": evaluate_case(found, reference, geometry, "clinical"),
        "challenge": evaluate_case(found, reference, geometry, "challenge"),
        "bins": {name: values.tolist() for name, values in vars(bins).items()},
        "candidates": {name: values.tolist() for name, values in candidates._asdict().items()},
    }


def _read(row: dict[str, Any], case: Case) -> CaseMeasures:
    bins = CalibrationBins(**{name: np.array(values) for name, values in row["bins"].items()})
    candidates = Candidates(**{name: np.array(values, float) for name, values in row["candidates"].items()})
    return CaseMeasures(case.name, case.site, row["masking"], row["clinical"], row["challenge"], bins, candidates)
