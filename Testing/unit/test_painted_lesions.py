"""Real exams with painted lesions, by which tumour models are compared."""

from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.segmentation.breast import BreastMask

GRID = Geometry((7, 1, 1), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
BREAST = np.array([[[0, 0, 0, 1, 0, 0, 0]]], np.uint8)


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import inserted

    return inserted


def test_surroundings_are_what_lies_further_than_two_voxels_from_the_breasts(benchmark):
    phases = tuple(Phase(f"phase {number}", (), 90.0 * number, TimeSource.USER, GRID) for number in range(2))
    data = np.arange(1, 15, dtype=np.float32).reshape(2, 1, 1, 7)
    seen = benchmark.Seen(Exam(PhaseTable(phases), data), BreastMask(BREAST, BREAST > 0, GRID))
    changed = benchmark.with_surroundings(benchmark.Case("", seen, seen.exam, BREAST > 0, 8), 2.0)
    assert changed.exam.data.tolist() == [[[[2, 2, 3, 4, 5, 6, 14]]], [[[16, 9, 10, 11, 12, 13, 28]]]]
    assert changed.exam.data.dtype == np.float32
