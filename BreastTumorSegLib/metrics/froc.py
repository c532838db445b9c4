"""Lesion-wise detection at operating points: the free-response receiver operating characteristic (FROC).

A candidate is a 26-connected part of where the probability reaches a low threshold, and its score is its highest
probability. At an operating point those candidates count whose score is over a limit, whole as they are. A candidate
finds every lesion of the reference that it overlaps, by a voxel at least, and is a false positive if it overlaps none,
just as in `detection.match_lesions`. So a threshold that is too low joins candidates, and flatters: use the same one
for all models, and name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from BreastTumorSegLib.metrics.detection import lesion_parts


class Candidates(NamedTuple):
    """What was found in one case.

    Attributes:
        lesions: Of each lesion of the reference, the highest score of the candidates that overlap it; else -inf.
        false: Scores of the candidates that overlap no lesion.
    """

    lesions: np.ndarray
    false: np.ndarray


def find_candidates(probability: np.ndarray, reference: np.ndarray, threshold: float) -> Candidates:
    """Candidates of one case, matched with its reference.

    Args:
        probability: Of tumour, (Z, Y, X).
        reference: Tumour mask or lesion labels of the same shape; over 0 is tumour.
        threshold: Least probability of a candidate's voxels.
    """
    parts, count = lesion_parts(probability >= threshold)
    actual, lesions = lesion_parts(reference > 0)
    scores, best = np.full(count + 1, -np.inf), np.full(lesions + 1, -np.inf)
    np.maximum.at(scores, parts[parts > 0], probability[parts > 0])
    overlap = (parts > 0) & (actual > 0)
    np.maximum.at(best, actual[overlap], scores[parts[overlap]])
    return Candidates(best[1:], np.delete(scores, [0, *np.unique(parts[overlap])]))


def sensitivity_at(cases: Sequence[Candidates], false_positives: Sequence[float]) -> list[float]:
    """Share of all lesions found, at most so many false positives a case being allowed on average.

    It is what a limit, the same for all cases, really reaches, not interpolated between two limits as in LUNA16 and
    CAMELYON16. Cases without a lesion count too, for their false positives. NaN where no case has a lesion.

    Args:
        cases: `find_candidates` of each.
        false_positives: Allowed false positives a case, such as (0.125, 0.25, 0.5, 1, 2, 4).
    """
    lesions = np.concatenate([case.lesions for case in cases]) if cases else np.empty(0)
    if not len(lesions):
        return [float("nan")] * len(false_positives)
    # Behind all false positives every candidate counts, and a lesion that none overlaps is not found still.
    false = np.append(np.sort(np.concatenate([case.false for case in cases]))[::-1], -np.inf)
    allowed = (int(rate * len(cases) + 1e-9) for rate in false_positives)
    return [float(np.mean(lesions > false[min(number, len(false) - 1)])) for number in allowed]
