"""Predicted masks against references: one case, and whole folders.

Columns of `evaluation.csv`, in both conventions: `case`, `site`, `convention`, `dice`; then

clinical: `precision`, `recall`, `hd95_mm`, `assd_mm`, `volume_ml_predicted`, `volume_ml_reference`, `volume_ml_error`
(predicted minus reference), `volume_error_relative` (its size over the reference), `lesions_reference`,
`lesions_found`, `lesions_predicted`, `false_positives`, `sensitivity` (of lesions), `diameter_mm_predicted`,
`diameter_mm_reference` (longest 3D diameter of the largest lesion), `size_category_predicted`,
`size_category_reference`, `size_category_right` (1 where they are the same, else 0), `breast_dice` (both breasts as
one). Dice is NaN where both masks are empty, a distance where both are, a precision where nothing is predicted, a
recall, a sensitivity, a relative error and whether a category is right where nothing was to be found; a distance is
infinite where one mask is empty. An empty mask has no diameter (NaN) and no size category ("").

challenge: `norm_hd`, `performance`. Dice is 0 where both masks are empty.

Columns of `summary.csv`: see `metrics.summary`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_volume, refuse_over_input, results_folder
from BreastTumorSegLib.metrics.challenge import normalised_hd95, performance
from BreastTumorSegLib.metrics.detection import match_lesions
from BreastTumorSegLib.metrics.diameter import size_agreement
from BreastTumorSegLib.metrics.fairness import Groups, read_groups
from BreastTumorSegLib.metrics.overlap import dice, precision, recall
from BreastTumorSegLib.metrics.summary import Row, summarise, summarise_fairness
from BreastTumorSegLib.metrics.surface import surface_distances

Convention = Literal["clinical", "challenge"]

ENDING = ".nii.gz"


def evaluate_case(
    prediction: np.ndarray, reference: np.ndarray, geometry: Geometry, convention: Convention = "clinical"
) -> Row:
    """Measures of one predicted tumour mask, by column.

    Args:
        prediction: Tumour mask or lesion labels, (Z, Y, X); over 0 is tumour.
        reference: The same of the reference.
        geometry: The grid of both.
        convention: "clinical" or "challenge".
    """
    predicted, actual = prediction > 0, reference > 0
    return _challenge(predicted, actual) if convention == "challenge" else _clinical(predicted, actual, geometry)


def evaluate_folders(
    predictions: Path,
    references: Path,
    out: Path,
    convention: Convention = "clinical",
    groups: Path | None = None,
    overwrite: bool = False,
) -> list[Row]:
    """Evaluate every predicted case and write `evaluation.csv` and `summary.csv` into `out`.

    References without a prediction don't count. The site is the case's name up to its first "_".

    Args:
        predictions: Results folders CASE/tumor.nii.gz with breast.nii.gz if there is one, or masks CASE.nii.gz.
        references: A cohort with segmentations/expert/CASE.nii.gz and, if known, ground_truth/CASE/breast.nii.gz; or
            masks CASE.nii.gz.
        out: Folder for the tables; made here, whole or not at all.
        convention: "clinical" or "challenge".
        groups: CSV of the patients' groups, see `fairness.read_groups`; the summary then has the fairness over them.
            Only in the challenge's convention.
        overwrite: Whether a folder that is already there is replaced, and kept beside.

    Returns:
        The rows of `evaluation.csv`.

    Raises:
        InputError: There is nothing to evaluate, a reference is missing, two grids differ, or the groups can't be used.
        OutputError: `out` already holds something, is or holds an input, or can't be written.
    """
    refuse_over_input([predictions, references, *([groups] if groups else [])], out)
    masks = _predicted(predictions)
    known = None if groups is None else _groups_of(masks, groups, convention)
    with results_folder(out, overwrite) as folder:
        rows = [_row(case, mask, references, convention) for case, mask in masks.items()]
        _write(folder / "evaluation.csv", rows)
        _write(folder / "summary.csv", summarise(rows) + (summarise_fairness(rows, known) if known else []))
    return rows


def reference_of(references: Path, case: str) -> Path:
    """Where a case's reference is in a cohort, or in a folder of masks; it may be missing."""
    expert = references / "segmentations" / "expert"
    return (expert if expert.is_dir() else references) / f"{case}{ENDING}"


def _groups_of(cases: Iterable[str], path: Path, convention: Convention) -> Groups:
    if convention != "challenge":
        raise InputError(
            f"Groups ({path}) are for fairness, which the challenge's convention alone defines.",
            "Choose the convention challenge, or leave the groups out.",
        )
    groups = read_groups(path)
    lacking = [case for case in cases if case not in groups]
    if lacking:
        raise InputError(f"{path} lacks {', '.join(lacking)}.", "Add a row for each; its other fields may be empty.")
    return groups


def _clinical(predicted: np.ndarray, actual: np.ndarray, geometry: Geometry) -> Row:
    distances = surface_distances(predicted, actual, geometry.spacing_zyx)
    lesions = match_lesions(predicted, actual)
    volume, truth = (float(np.count_nonzero(mask) * geometry.voxel_ml) for mask in (predicted, actual))
    return {
        "dice": dice(predicted, actual, empty=float("nan")),
        "precision": precision(predicted, actual),
        "recall": recall(predicted, actual),
        "hd95_mm": distances.hd95,
        "assd_mm": distances.assd,
        "volume_ml_predicted": volume,
        "volume_ml_reference": truth,
        "volume_ml_error": volume - truth,
        "volume_error_relative": abs(volume - truth) / truth if truth else float("nan"),
        "lesions_reference": lesions.reference,
        "lesions_found": lesions.found,
        "lesions_predicted": lesions.predicted,
        "false_positives": lesions.false_positives,
        "sensitivity": lesions.sensitivity,
    }


def _challenge(predicted: np.ndarray, actual: np.ndarray) -> Row:
    overlap, distance = dice(predicted, actual, empty=0.0), normalised_hd95(predicted, actual)
    return {"dice": overlap, "norm_hd": distance, "performance": performance(overlap, distance)}


def _row(case: str, mask: Path, references: Path, convention: Convention) -> Row:
    prediction, actual, geometry = _read_pair(mask, reference_of(references, case))
    row: Row = {"case": case, "site": case.split("_")[0], "convention": convention}
    row |= evaluate_case(prediction, actual, geometry, convention)
    if convention == "clinical":
        row |= size_agreement(prediction > 0, actual > 0, geometry)
        row["breast_dice"] = _breast_dice(mask, references / "ground_truth" / case / f"breast{ENDING}")
    return row


def _breast_dice(tumor: Path, reference: Path) -> float:
    """Dice of the whole-breast mask beside a predicted tumour mask; NaN where one of the two files is missing."""
    prediction = tumor.with_name(f"breast{ENDING}")
    if tumor.name != f"tumor{ENDING}" or not prediction.is_file() or not reference.is_file():
        return float("nan")
    predicted, actual, _ = _read_pair(prediction, reference)
    return dice(predicted > 0, actual > 0, empty=float("nan"))


def _predicted(folder: Path) -> Mapping[str, Path]:
    """The predicted tumour mask of each case, in order of the cases' names."""
    # Names with a leading dot are results that somebody is writing.
    found = {path.parent.name: path for path in folder.glob(f"[!.]*/tumor{ENDING}")}
    found = found or {path.name.removesuffix(ENDING): path for path in folder.glob(f"[!.]*{ENDING}")}
    if not found:
        raise InputError(
            f"No predictions in {folder}.", f"It must hold results folders CASE/tumor{ENDING} or masks CASE{ENDING}."
        )
    return dict(sorted(found.items()))


def _read_pair(prediction: Path, reference: Path) -> tuple[np.ndarray, np.ndarray, Geometry]:
    if not reference.is_file():
        raise InputError(f"No reference {reference} for {prediction}.", "Add it, or remove the prediction.")
    (predicted, grid), (actual, other) = read_volume(prediction), read_volume(reference)
    difference = grid.difference(other)
    if difference:
        raise InputError(
            f"{prediction} and {reference} differ in geometry: {difference}.",
            "Masks must have the geometry of the exam; resample the prediction to it.",
        )
    return predicted, actual, other


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
