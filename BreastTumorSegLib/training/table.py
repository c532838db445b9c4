"""The table of a leave-one-centre-out experiment: the paper's Table 1, and more columns.

A row is a model, by its variant and the site held out; a set, "validation", "validation SITE" or "test"; and a masking.
Columns:

`cases`; `dice`, `precision`, `recall`, `true_volume_mm3`, `predicted_volume_mm3` as in the paper, means over cases;
`hd95_mm`, `assd_mm`, means over the cases in which both masks have voxels, `measured` many; `sensitivity` of lesions
and `false_positives` a case at the model's threshold; `sensitivity_at_X` with X false positives a case;
`volume_error_ml` (predicted minus true), `volume_error_relative`, the median of its size over the true volume;
`calibration_error` of the voxels within the breasts; `convention`, "clinical" for all of these. Then in the
challenge's convention `challenge_dice`, `challenge_norm_hd`, `challenge_performance`. `dice`, `precision`, `recall` and
`hd95_mm` have `_low` and `_high`, the 95 % bootstrap interval over cases.

Dice is undefined where both masks are empty, precision where nothing is predicted, recall where nothing is to be found:
means are over the others. Distances of a missed lesion are infinite, so they are left out, and show in Dice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np

from BreastTumorSegLib.metrics.bootstrap import bootstrap_interval
from BreastTumorSegLib.metrics.froc import sensitivity_at
from BreastTumorSegLib.training.case_results import MASKINGS, CaseMeasures

MM3_A_ML = 1000.0
WITH_INTERVAL = ("dice", "precision", "recall", "hd95_mm")
CHALLENGE = ("dice", "norm_hd", "performance")


class Measured(Protocol):
    """A case that a model of the experiment was tried on; see `leave_one_out.Measured`."""

    @property
    def variant(self) -> str:
        """How the model was trained."""

    @property
    def held_out(self) -> str:
        """The site that it has not seen."""

    @property
    def set(self) -> str:
        """ "validation" or "test"."""

    @property
    def measures(self) -> CaseMeasures:
        """Of the case."""


def table_rows(measured: Sequence[Measured], false_positives: Sequence[float]) -> list[dict[str, Any]]:
    """The table, in the order of the paper: by model, validation first, the test last; once for each masking."""
    models = dict.fromkeys((each.variant, each.held_out) for each in measured)
    rows = []
    for variant, held_out in models:
        for masking in MASKINGS:
            of_model = [
                each
                for each in measured
                if (each.variant, each.held_out, each.measures.masking) == (variant, held_out, masking)
            ]
            about = {"variant": variant, "held_out": held_out, "breast_masking": masking}
            rows += [about | {"set": name} | _row(cases, false_positives) for name, cases in _sets(of_model)]
    return rows


def _sets(measured: Sequence[Measured]) -> Iterator[tuple[str, list[CaseMeasures]]]:
    validation = [each.measures for each in measured if each.set == "validation"]
    if validation:
        yield "validation", validation
        for site in sorted({measures.site for measures in validation}):
            yield f"validation {site}", [measures for measures in validation if measures.site == site]
    test = [each.measures for each in measured if each.set == "test"]
    if test:
        yield "test", test


def _row(cases: Sequence[CaseMeasures], false_positives: Sequence[float]) -> dict[str, Any]:
    clinical = {name: np.array([case.clinical[name] for case in cases], float) for name in cases[0].clinical}
    row: dict[str, Any] = {"cases": len(cases)}
    for name in WITH_INTERVAL:
        row[name] = _mean(clinical[name])
        row[f"{name}_low"], row[f"{name}_high"] = bootstrap_interval(clinical[name])
    row["assd_mm"], row["measured"] = _mean(clinical["assd_mm"]), int(np.isfinite(clinical["hd95_mm"]).sum())
    row["true_volume_mm3"] = MM3_A_ML * _mean(clinical["volume_ml_reference"])
    row["predicted_volume_mm3"] = MM3_A_ML * _mean(clinical["volume_ml_predicted"])
    row["volume_error_ml"] = _mean(clinical["volume_ml_error"])
    row["volume_error_relative"] = _of_finite(np.median, clinical["volume_error_relative"])
    lesions = clinical["lesions_reference"].sum()
    row["sensitivity"] = float(clinical["lesions_found"].sum() / lesions) if lesions else np.nan
    row["false_positives"] = _mean(clinical["false_positives"])
    reached = sensitivity_at([case.candidates for case in cases], false_positives)
    row |= {f"sensitivity_at_{rate:g}": share for rate, share in zip(false_positives, reached, strict=True)}
    row["calibration_error"] = reduce(add, [case.bins for case in cases]).error
    row["convention"] = "clinical"
    challenge = {name: _mean(np.array([case.challenge[name] for case in cases], float)) for name in CHALLENGE}
    return row | {f"challenge_{name}": value for name, value in challenge.items()}


def _mean(values: np.ndarray) -> float:
    return _of_finite(np.mean, values)


def _of_finite(statistic: Callable[[np.ndarray], Any], values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if len(finite) else float("nan")
