"""Small made-up results: two half-ellipsoids for breasts, a bright heart, round lesions."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import (
    Clusters,
    ExamResult,
    KineticMaps,
    Lesion,
    NonContrastLesion,
    NonContrastResult,
)
from BreastTumorSegLib.kinetics.readings import early_and_late

GEOMETRIES = {
    "axial": Geometry((100, 60, 30), (3.0, 3.0, 5.0), (-150.0, -110.0, -75.0)),
    # Columns of the direction: posterior, inferior, right.
    "sagittal": Geometry((60, 50, 60), (3.0, 3.0, 5.0), (150.0, -110.0, 75.0), (0, 0, -1, 1, 0, 0, 0, -1, 0)),
    "coronal": Geometry((100, 50, 36), (3.0, 3.0, 5.0), (-150.0, -110.0, 75.0), (1, 0, 0, 0, 0, 1, 0, -1, 0)),
}
SIGNAL = {"fat": 60.0, "heart": 400.0, "lesion": 80.0}
ENHANCEMENT = {"fat": (0, 4, 6, 8, 10), "heart": (0, 200, 150, 130, 120), "lesion": (0, 220, 200, 180, 170)}  # percent
SIDES = ("right", "left")


def simulated_result(lesions: int = 2, phases: int = 4, plane: str = "axial") -> ExamResult:
    """An exam of 2 to 5 phases with up to 12 lesions, in any acquisition plane. The lesions' numbers are made up."""
    geometry = GEOMETRIES[plane]
    breast, heart, tumor = _anatomy(geometry, lesions)
    data = np.zeros((phases, *geometry.shape), np.float32)
    for mask, what in ((breast > 0, "fat"), (heart, "heart"), (tumor > 0, "lesion")):
        for phase in range(phases):
            data[phase, mask] = SIGNAL[what] * (1 + ENHANCEMENT[what][phase] / 100)
    data += np.random.default_rng(0).normal(4, 1.5, data.shape).astype(np.float32)
    times = tuple(phase.time for phase in _phases(geometry, phases))
    curve_type = np.where(tumor > 0, 3, 0).astype(np.uint8)
    pe = 100 * (data[1] / np.maximum(data[0], 1) - 1)
    return ExamResult(
        Exam(PhaseTable(_phases(geometry, phases)), data),
        breast,
        tumor,
        (tumor > 0).astype(np.float32),
        _maps(pe, curve_type, times),
        np.where(tumor > 0, breast, 0).astype(np.uint8),
        {"right": 8.1, "left": 2.3},
        _clusters(tumor, phases),
        tuple(_lesion(label) for label in range(1, lesions + 1)),
        manifest={
            "versions": {"BreastTumorSeg": "0.1.0", "torch": "2.13.0"},
            "device": "cpu, 2 threads",
            "models": [{"name": "breast-unet", "version": "1", "sha256": "0123456789abcdef" * 4}],
            "timings": {"breast": 9.84, "tumor": 41.0},
        },
    )


def noncontrast_result(lesions: int = 2, phases: int = 1, plane: str = "axial") -> NonContrastResult:
    """The same without contrast. Lesions are clusters 1 to 3 by their numbers, and unsure at their edge."""
    seen = simulated_result(lesions, phases=max(phases, 2), plane=plane)
    table = PhaseTable(seen.exam.table.phases[:phases])
    clusters = seen.clusters.labels
    inner = np.sum([ndimage.binary_erosion(seen.tumor == label) for label in range(1, lesions + 1)], axis=0) > 0
    uncertainty = np.where((seen.tumor > 0) & ~inner, 0.8, np.where(seen.breast > 0, 0.1, 0)).astype(np.float32)
    return NonContrastResult(
        Exam(table, seen.exam.data[:phases]),
        seen.breast,
        seen.tumor,
        seen.probability,
        clusters,
        4,
        uncertainty,
        tuple(_noncontrast_lesion(lesion) for lesion in seen.lesions),
        manifest=seen.manifest,
    )


def _noncontrast_lesion(lesion: Lesion) -> NonContrastLesion:
    found = (lesion.label, lesion.side, lesion.centre, lesion.volume_ml, lesion.diameter_mm, lesion.confidence)
    return NonContrastLesion(*found, cluster_shares=(0.1, 0.2, 0.3, 0.4, 0.0))


def _anatomy(geometry: Geometry, lesions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Breast mask, heart and tumour mask, drawn in patient space so that the plane does not matter."""
    z, y, x = np.indices(geometry.shape)
    index = np.stack([x, y, z, np.ones_like(x)], axis=-1)
    left, posterior, superior = np.moveaxis((index @ geometry.matrix.T)[..., :3], -1, 0)
    breast = np.zeros(geometry.shape, np.uint8)
    tumor = np.zeros(geometry.shape, np.uint8)
    for label, centre in ((1, -70), (2, 70)):
        half = ((left - centre) / 60) ** 2 + (posterior / 90) ** 2 + (superior / 60) ** 2 < 1
        breast[half & (posterior < 0)] = label
    heart = (left - 20) ** 2 + (posterior - 40) ** 2 + superior**2 < 30**2
    for label in range(1, lesions + 1):
        row = (label - 1) // 2
        at = (-70 if label % 2 else 70, -15 - 20 * (row % 3), 20 if row < 3 else -20)
        distance = (left - at[0]) ** 2 + (posterior - at[1]) ** 2 + (superior - at[2]) ** 2
        tumor[distance < (12 if label == 1 else 8) ** 2] = label
    return breast, heart, tumor


def _phases(geometry: Geometry, phases: int) -> tuple[Phase, ...]:
    file = Path("/exams/Doe_Jane/19700101/exam.nii.gz")
    return tuple(
        Phase(f"phase {i}", (file,), 120.5 * i, TimeSource.ACQUISITION_TIME, geometry, i) for i in range(phases)
    )


def _lesion(label: int) -> Lesion:
    return Lesion(
        label=label,
        side=SIDES[(label + 1) % 2],
        centre=(0.0, 0.0, 0.0),
        volume_ml=7.24 / label,
        diameter_mm=24.6 / label,
        peak_pe=218.0,
        ser=1.26,
        curve_shares=(0.05, 0.15, 0.2, 0.6),
        worst_curve="washout",
        confidence=0.91,
        ftv_ml=6.13 / label,
    )


def _maps(pe: np.ndarray, curve_type: np.ndarray, times: tuple[float, ...]) -> KineticMaps:
    nothing = np.zeros_like(pe)
    return KineticMaps(pe, pe, nothing, curve_type, nothing, nothing, *early_and_late(times))


def _clusters(tumor: np.ndarray, phases: int) -> Clusters:
    """Three clusters by lesion number, or none where there is no lesion."""
    labels = np.where(tumor > 0, (tumor - 1) % 3 + 1, 0).astype(np.uint8)
    count = int(labels.max())
    curves = np.array([[0, 90, 140, 170, 190], [0, 160, 170, 165, 170], [0, 220, 190, 170, 150]], float)[
        :count, :phases
    ]
    voxels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return Clusters(labels, curves, np.full_like(curves, 15.0), voxels)
