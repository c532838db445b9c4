"""What the pipeline finds in one exam; the report, the results folder and Slicer show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from BreastTumorSegLib.core.exam import Exam

RIGHT, LEFT = 1, 2
"""Labels of the whole-breast mask."""

CURVE_TYPES = ("not enhancing", "persistent", "plateau", "washout")
"""Names of the curve-type labels 0 to 3; a higher label is more suspicious."""

SIZE_CATEGORIES = ("<= 20 mm", "> 20 to <= 50 mm", "> 50 mm")
"""Size categories by the longest 3D diameter. Not a T-stage: T4 can't be read off a size."""

NONCONTRAST_NOTICE = (
    "No contrast is used: the networks see the pre-contrast phase alone. The heterogeneity map is their prediction, "
    "not a measurement. The uncertainty map shows where they are unsure. Lesions are missed, and marked where there "
    "are none, far more often than with contrast."
)
"""What everybody must know who looks at a `NonContrastResult`; the report and Slicer's panels say it in these words."""


def size_category(diameter_mm: float) -> str:
    """Size category of a longest 3D diameter in millimetres; exactly 20.0 mm is in the first, 50.0 mm in the second."""
    return SIZE_CATEGORIES[0 if diameter_mm <= 20.0 else 1 if diameter_mm <= 50.0 else 2]


@dataclass(frozen=True)
class FoundLesion:
    """What is measured of a lesion whether contrast was used or not.

    Attributes:
        label: Its label in the tumour mask, from 1, largest first.
        side: "right", "left", or "" where the breast mask does not say.
        centre: LPS position of its centroid, millimetres.
        volume_ml: Volume in millilitres.
        diameter_mm: Longest 3D diameter in millimetres.
        confidence: How likely it is a lesion, 0 to 1, by the model that found it: what it compares with its peak, in
            the mean over voxels where candidates grew together; of a model that draws lesions without growing (an
            nnU-Net, a refined one, one without contrast) the mean tumour probability inside.
    """

    label: int
    side: str
    centre: tuple[float, float, float]
    volume_ml: float
    diameter_mm: float
    confidence: float

    @property
    def size_category(self) -> str:
        """Size category by the longest 3D diameter."""
        return size_category(self.diameter_mm)


@dataclass(frozen=True)
class Lesion(FoundLesion):
    """Measurements of one lesion that was seen with contrast.

    Attributes:
        peak_pe: 95th percentile of the early percent enhancement (`KineticMaps.early`), in percent.
        ser: Median signal enhancement ratio; NaN with one post-contrast phase.
        curve_shares: Share of its voxels in each of `CURVE_TYPES`; sums to 1, or all NaN with one post-contrast phase.
        worst_curve: Most suspicious of `CURVE_TYPES` that any connected group of its voxels has; "" with one
            post-contrast phase.
        ftv_ml: Functional tumour volume of its voxels in millilitres; NaN with one post-contrast phase.
    """

    peak_pe: float
    ser: float
    curve_shares: tuple[float, float, float, float]
    worst_curve: str
    ftv_ml: float = float("nan")


@dataclass(frozen=True)
class NonContrastLesion(FoundLesion):
    """One lesion that a network found without contrast. Nothing of its enhancement is known.

    Attributes:
        cluster_shares: Share of its voxels that the network predicts not to enhance, then of those in each cluster
            from persistent to washout; sums to 1.
    """

    cluster_shares: tuple[float, ...]


@dataclass(frozen=True)
class Reading:
    """Where a kinetic map reads the signal: of one phase, or between two.

    Attributes:
        wanted_s: Seconds after injection that were asked for.
        used_s: Seconds after injection that the signal stands for.
        before: Index of the phase, or of the earlier one of two.
        after: Index of the later one, or `before` again.
        weight: Share of the later one, 0 to 1.
        phases_s: Seconds after injection of the one phase, or of the two.
    """

    wanted_s: float
    used_s: float
    before: int
    after: int
    weight: float
    phases_s: tuple[float, ...]


@dataclass(frozen=True)
class KineticMaps:
    """Maps of one exam, each (Z, Y, X). With one post-contrast phase all but `pe` are 0.

    Attributes:
        pe: float32, early percent enhancement, in percent; 0 in background.
        pe_late: float32, the same of the late reading.
        ser: float32, signal enhancement ratio; 0 where nothing enhances or it is not defined.
        curve_type: uint8, index into `CURVE_TYPES`.
        time_to_peak: float32, seconds after injection of the highest signal; 0 where nothing enhances.
        washout_slope: float32, percent of the peak enhancement per minute after the early phase, negative where it
            washes out; 0 where nothing enhances.
        early: Where early enhancement was read.
        late: Where late enhancement was read; None with one post-contrast phase.
    """

    pe: np.ndarray
    pe_late: np.ndarray
    ser: np.ndarray
    curve_type: np.ndarray
    time_to_peak: np.ndarray
    washout_slope: np.ndarray
    early: Reading
    late: Reading | None


@dataclass(frozen=True)
class Clusters:
    """Clusters of time-intensity curves, numbered from persistent to washout.

    Attributes:
        labels: (Z, Y, X) uint8; 0 where nothing enhances, else 1 to K.
        curves: (K, T) mean percent enhancement of each cluster at the exam's times.
        spread: (K, T) standard deviation of the same.
        voxels: (K,) how many voxels each cluster has.
    """

    labels: np.ndarray
    curves: np.ndarray
    spread: np.ndarray
    voxels: np.ndarray


@dataclass(frozen=True)
class FoundInExam:
    """What `segment` found in one exam, whether contrast was used or not. Arrays are (Z, Y, X) on the exam's grid.

    Attributes:
        breast: uint8, 0 background, 1 right breast, 2 left breast.
        tumor: uint8, 0 background, 1 to N lesions.
        probability: float32, tumour probability, 0 to 1.
        manifest: What `result.json` holds: versions, device, models, timings; no patient data.
    """

    exam: Exam
    breast: np.ndarray
    tumor: np.ndarray
    probability: np.ndarray
    warnings: tuple[str, ...] = field(default=(), kw_only=True)
    manifest: dict[str, Any] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class ExamResult(FoundInExam):
    """All that `segment` found in one exam with contrast.

    Attributes:
        maps: Kinetic maps, and where they were read.
        ftv: uint8, functional tumour volume of the breasts, 1 right, 2 left.
        ftv_ml: The same in millilitres, by "right" and "left"; NaN with one post-contrast phase.
        lesions: One a label of `tumor`, in order.
    """

    maps: KineticMaps
    ftv: np.ndarray
    ftv_ml: dict[str, float]
    clusters: Clusters
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class NonContrastResult(FoundInExam):
    """All that `segment` found in the pre-contrast phase alone. The clusters are a prediction, not a measurement.

    Attributes:
        predicted: uint8, predicted cluster of time-intensity curves from persistent to washout, 1 to K; 0 where none is
            predicted to enhance, and outside the breasts.
        clusters: K, whether all of them were predicted anywhere or not.
        uncertainty: float32, how unsure the networks are, 0 to 1; 0 outside the breasts.
        lesions: One a label of `tumor`, in order.
    """

    predicted: np.ndarray
    clusters: int
    uncertainty: np.ndarray
    lesions: tuple[NonContrastLesion, ...]
