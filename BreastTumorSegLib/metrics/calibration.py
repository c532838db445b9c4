"""Whether predicted probabilities are what they say: of voxels with 0.8, four in five should be tumour.

The form is that of a binary classifier: the probability of tumour against the observed frequency of tumour (Naeini
2015, doi:10.1609/aaai.v29i1.9602), not the confidence in the more likely class against accuracy (Guo 2017,
arXiv:1706.04599). Bins have equal widths and hold their upper edge, the first one 0 too.

The error depends on where it is measured. Most voxels of an exam are certainly no tumour, and over the whole volume
they make the error tiny for any model: measure within the breasts, and say so beside the number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class CalibrationBins:
    """Sums over voxels by bin of probability. Those of several cases are pooled by `+`: every voxel weighs the same.

    Attributes:
        counts: Voxels in each bin, (bins,).
        probabilities: Sum of their probabilities, (bins,).
        positives: How many of them are tumour, (bins,).
    """

    counts: np.ndarray
    probabilities: np.ndarray
    positives: np.ndarray

    def __add__(self, other: CalibrationBins) -> CalibrationBins:
        return CalibrationBins(
            self.counts + other.counts,
            self.probabilities + other.probabilities,
            self.positives + other.positives,
        )

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1: mean over voxels of their bin's |probability - frequency|.

        NaN where there are no voxels.
        """
        total = self.counts.sum()
        return float(np.abs(self.probabilities - self.positives).sum() / total) if total else float("nan")

    def table(self) -> list[dict[str, float]]:
        """The reliability diagram: a bin's edges, its voxels, their mean probability and observed frequency.

        Bins without voxels are left out.
        """
        edges = np.linspace(0, 1, len(self.counts) + 1)
        return [
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "voxels": int(self.counts[i]),
                "probability": float(self.probabilities[i] / self.counts[i]),
                "frequency": float(self.positives[i] / self.counts[i]),
            }
            for i in np.flatnonzero(self.counts)
        ]


def calibration_bins(
    probability: np.ndarray, reference: np.ndarray, within: np.ndarray | None = None, bins: int = 15
) -> CalibrationBins:
    """Sort a case's voxels into bins by their probability.

    Args:
        probability: Of tumour, 0 to 1, (Z, Y, X).
        reference: Tumour mask or lesion labels of the same shape; over 0 is tumour.
        within: Mask of the voxels that count, of the same shape, such as the breasts; the whole volume without it.
        bins: How many bins of equal width.
    """
    where = np.ones(probability.shape, bool) if within is None else within > 0
    chosen, tumor = probability[where].astype(np.float32), reference[where] > 0
    # Edges as exact as the probabilities: 0.2 in single precision is over 0.2 in double.
    place = np.searchsorted(np.linspace(0, 1, bins + 1, dtype=np.float32)[1:-1], chosen)
    return CalibrationBins(
        np.bincount(place, minlength=bins),
        np.bincount(place, chosen, bins),
        np.bincount(place[tumor], minlength=bins),
    )
