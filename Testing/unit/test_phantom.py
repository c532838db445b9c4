"""Simulated exams: repeatable, consistent with their ground truth, and shaped like their site."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.io import load_exam
from BreastTumorSegLib.phantom import grid as grid_module
from BreastTumorSegLib.phantom.grid import Field, Grid
from BreastTumorSegLib.phantom.lesions import draw_lesion
from BreastTumorSegLib.phantom.simulate import _Storage, simulate_exam, write_case
from BreastTumorSegLib.phantom.sites import SITES, draw_injection, draw_times
from BreastTumorSegLib.phantom.tissues import TISSUES

COARSE = 4.0


def test_the_same_seed_gives_the_same_exam_and_another_seed_another():
    first, again, other = (simulate_exam("ISPY2", seed, COARSE) for seed in (3, 3, 4))
    assert torch.equal(first.data, again.data)
    assert first.data.shape != other.data.shape or not torch.equal(first.data, other.data)


def test_a_field_is_the_same_on_a_part_of_the_grid():
    whole = Grid.box((-40, -40, -40), (40, 40, 40), (2.0, 2.0, 2.0), "cpu")
    where, part = whole.around((5.0, -3.0, 10.0), 12.0)
    values = [Field(np.random.default_rng(1), grid, 9.0).on(grid) for grid in (whole, part)]
    assert torch.allclose(values[0][where], values[1], atol=1e-5)


def test_a_field_has_unit_variance():
    grid = Grid.box((-150, -150, -150), (150, 150, 150), (4.0, 4.0, 4.0), "cpu")
    values = Field(np.random.default_rng(0), grid, 8.0).on(grid)
    assert float(values.std()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", SITES)
def test_a_site_has_its_plane_spacing_and_phases(name):
    site = SITES[name]
    exam = simulate_exam(name, 1)
    assert exam.geometry.plane == site.plane
    assert site.in_plane[0] <= exam.geometry.spacing[0] <= site.in_plane[1]
    assert site.slice[0] <= exam.geometry.spacing[2] <= site.slice[1]
    assert site.phases[0] <= len(exam.times) <= site.phases[1]
    assert exam.data.shape == (len(exam.times), *exam.geometry.shape)


@pytest.mark.parametrize(("name", "mean"), [("DUKE", 241), ("ISPY1", 390), ("ISPY2", 145), ("NACT", 442)])
def test_first_post_contrast_times_average_to_those_of_the_collection(name, mean):
    random = np.random.default_rng(0)
    first = [draw_times(SITES[name], random)[1] for _ in range(2000)]
    assert np.mean(first) == pytest.approx(mean, rel=0.03)


def test_the_first_phase_shows_contrast_of_half_an_interval_and_up_to_45_s_more():
    times, random = (0.0, 390.0, 690.0), np.random.default_rng(0)
    ages = [390 - draw_injection(SITES["ISPY1"], times, random) for _ in range(2000)]  # an interval of 300 s
    assert 150 <= min(ages) < 151 and 194 < max(ages) <= 195
    assert draw_injection(SITES["ISPY1"], (0.0, 100.0), random) == 0  # not before the pre-contrast phase
    assert draw_injection(SITES["ISPY1"], (0.0,), random) == 0


def test_what_is_seen_depends_on_the_age_of_the_contrast_not_on_the_wait_before_it():
    soon, late = (
        simulate_exam("ISPY2", 3, COARSE, phases=3, protocol=replace(SITES["ISPY2"], first_post=first))
        for first in (200, 400)
    )
    assert late.times[1] == pytest.approx(2 * soon.times[1], abs=0.1)
    assert late.contrast_seconds == pytest.approx(soon.contrast_seconds, abs=0.2)
    assert late.contrast_seconds[0] == 0 and 46 <= late.contrast_seconds[1] <= 91.1
    assert torch.allclose(soon.data, late.data, rtol=0.01, atol=1)


def test_a_fifth_of_the_exams_has_no_lesion_and_sizes_stay_in_range():
    random = np.random.default_rng(0)
    plans = [draw_lesion(random) for _ in range(3000)]
    assert np.mean([plan is None for plan in plans]) == pytest.approx(0.2, abs=0.03)
    diameters = [plan.diameter for plan in plans if plan]
    assert min(diameters) >= 3 and max(diameters) <= 80
    assert {plan.shape for plan in plans if plan} == {"round", "lobulated", "spiculated", "rim", "non-mass"}


def lesion_exam():
    """The first exam with a sizeable round lesion."""
    for seed in range(100):
        exam = simulate_exam("ISPY2", seed, 2.0, phases=2)
        if exam.lesion and exam.lesion.shape == "round" and exam.lesion.diameter > 12 and exam.lesion.foci == 1:
            return exam
    raise AssertionError("no such exam in a hundred seeds")


def test_ground_truth_fits_the_images():
    exam = lesion_exam()
    enhancement = exam.data[1] - exam.data[0]
    fat = exam.tissues == TISSUES["fat"].label
    assert enhancement[exam.tumor].mean() > 5 * enhancement[fat & (exam.breast > 0)].mean().abs()
    assert (exam.breast[exam.tumor] > 0).all()
    assert (exam.parameters["ktrans"][exam.tumor] > 0.02).float().mean() > 0.9
    # A sphere of this diameter, squeezed along up to two axes by up to 40 %.
    sphere = np.pi / 6 * exam.lesion.diameter**3 / 1000
    assert 0.25 * sphere < float(exam.tumor.sum()) * exam.geometry.voxel_ml < 1.4 * sphere


def test_right_breast_is_on_the_patients_right():
    exam = simulate_exam("DUKE", 2, COARSE)
    columns = torch.arange(exam.breast.shape[2])
    right, left = ((exam.breast == side).sum((0, 1)) for side in (1, 2))
    assert (columns * right).sum() / right.sum() < (columns * left).sum() / left.sum()  # LPS: x grows to the left


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_stored_voxels_stay_where_they_are_in_the_patient(plane):
    grid = Grid.box((-10, 20, -30), (2, 35, -9), (2.0, 1.5, 3.0), "cpu")
    stored = _Storage(plane, grid)
    assert stored.geometry.plane == plane
    z, y, x = (stored(axis.expand(grid.shape)).numpy() for axis in grid.coordinates)
    k, j, i = np.indices(stored.geometry.shape)
    points = np.stack([i, j, k, np.ones_like(i)], -1) @ stored.geometry.matrix.T
    for axis, coordinate in enumerate((x, y, z)):
        assert np.allclose(points[..., axis], coordinate, atol=1e-4)


def test_a_written_case_is_read_back_with_its_times(tmp_path):
    exam = simulate_exam("ISPY1", 8, COARSE)
    write_case(exam, tmp_path, "ISPY1_S000008")
    read = load_exam([tmp_path / "images" / "ISPY1_S000008"])
    assert read.times == exam.times
    assert {phase.source for phase in read.table.phases} == {TimeSource.MAMA_MIA}
    assert np.array_equal(read.data, exam.data.round().numpy())
    info = json.loads((tmp_path / "patient_info_files" / "ispy1_s000008.json").read_text())
    assert info["simulated"] is True
    truth = {path.name for path in (tmp_path / "ground_truth" / "ISPY1_S000008").iterdir()}
    assert truth == {f"{name}.nii.gz" for name in ("breast", "tissues", "t1", "ktrans", "ve", "vp")}


def test_an_unknown_site_is_refused():
    with pytest.raises(InputError, match="DUKE, ISPY1, ISPY2, NACT, TCGA"):
        simulate_exam("ELSEWHERE", 0)


@pytest.mark.parametrize(
    ("slices", "runs"), [(2, [(0, 2)]), (6, [(0, 4), (4, 6)]), (5, [(0, 5)]), (9, [(0, 4), (4, 9)])]
)
def test_no_slab_is_a_single_slice(slices, runs, monkeypatch):
    """A grid whose slices left one over could not be painted."""
    monkeypatch.setattr(grid_module, "SLAB_VOXELS", 4 * 3 * 3)
    grid = Grid(*(torch.arange(float(size)) for size in (slices, 3, 3)))
    assert [(slab.start, slab.stop) for slab in grid.slabs()] == runs
