"""Real exams; skipped where the data are absent."""

import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import load_exam, read_phase_table
from BreastTumorSegLib.io.frames import read_frames


def test_phase_table_of_the_duke_exam(duke_exam: Path):
    started = time.process_time()
    table = read_phase_table([duke_exam])
    assert time.process_time() - started < 4.0
    assert [phase.name for phase in table.phases] == [
        "2: ax dyn pre",
        "4: ax dyn 1st pass",
        "7: ax dyn 2nd pass",
        "12: ax dyn 3rd pass",
        "17: ax dyn 4th pass",
    ]
    # 07:48:53.77, 08:11:44.90, 08:13:46.31, 08:15:48.97, 08:17:50.49
    assert table.times == pytest.approx((0, 1371.1, 1492.5, 1615.2, 1736.7), abs=0.1)
    assert {phase.source for phase in table.phases} == {TimeSource.ACQUISITION_TIME}
    assert {phase.geometry.shape for phase in table.phases} == {(160, 448, 448)}
    (problem,) = table.problems
    assert "22.9 minutes" in problem.message
    assert not problem.fatal


@pytest.mark.slow
def test_voxels_and_geometry_of_the_duke_exam_are_those_of_itk(duke_exam: Path):
    exam = load_exam([duke_exam])
    assert exam.data.shape == (5, 160, 448, 448)
    for phase, voxels in zip(exam.table.phases, exam.data, strict=True):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(phase.files[0].parent)))
        image = reader.Execute()
        np.testing.assert_array_equal(voxels, sitk.GetArrayViewFromImage(image))
        assert phase.geometry.difference(Geometry.of(image)) is None


def test_tcga_exam(shared_data: Path):
    exam = load_exam([shared_data / "tcga_a03m_right"])
    assert exam.data.shape == (6, 46, 256, 256)
    assert exam.geometry.plane == "sagittal"
    assert exam.geometry.spacing == pytest.approx((0.859375, 0.859375, 3.0), abs=1e-3)
    assert {phase.source for phase in exam.table.phases} == {TimeSource.ASSUMED}


@pytest.mark.parametrize(("name", "seconds"), [("BC10_000118", 608.1), ("BC15_12", 190.2)])
def test_view_sharing_header(shared_data: Path, name: str, seconds: float):
    source, frames = read_frames(shared_data / "dicom_headers" / f"QIN-Breast-DCE-MRI-{name}.dcm")
    assert frames[0].clocks[TimeSource.SERIES_DESCRIPTION] == seconds
    assert "BC1" not in source.label


def test_fractional_segmentation_is_no_phase(shared_data: Path):
    source, frames = read_frames(shared_data / "dicom_headers" / "ISPY1_1001_breast_tissue_SEG.dcm")
    assert not source.is_mr
    assert frames == []
