"""One simulated exam with every ground truth, and its files in MAMA-MIA's layout."""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource, first_post_index
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import write_volume
from BreastTumorSegLib.phantom.anatomy import Body, paint_anatomy
from BreastTumorSegLib.phantom.decoys import paint_decoys
from BreastTumorSegLib.phantom.draft import Draft, draw_draft
from BreastTumorSegLib.phantom.grid import Grid
from BreastTumorSegLib.phantom.lesions import LesionPlan, paint_lesion
from BreastTumorSegLib.phantom.scanner import acquire, displaced
from BreastTumorSegLib.phantom.sites import SITES, Site

PARAMETERS = ("t1", "ktrans", "ve", "vp")

Change = Callable[[Draft, np.random.Generator], Draft]


@dataclass(frozen=True)
class SimulatedExam:
    """An exam and its ground truth, all on `geometry`'s grid.

    Attributes:
        data: (T, Z, Y, X) float32, arbitrary units.
        times: Seconds after the pre-contrast phase.
        injection: Of the contrast agent, in the same seconds.
        tumor: bool (Z, Y, X), where it is in the first post-contrast phase.
        breast: uint8 (Z, Y, X), 1 right, 2 left.
        tissues: uint8 (Z, Y, X), labels of `phantom.tissues.TISSUES`.
        parameters: "t1" in seconds, "ktrans" in 1/min, "ve" and "vp"; each (Z, Y, X) float32.
        lesion: What was painted; None in a lesion-free exam.
    """

    data: Tensor
    times: tuple[float, ...]
    injection: float
    geometry: Geometry
    tumor: Tensor
    breast: Tensor
    tissues: Tensor
    parameters: dict[str, Tensor]
    lesion: LesionPlan | None

    @property
    def contrast_seconds(self) -> tuple[float, ...]:
        """How long the contrast agent has been in the body at each phase: 0 for the pre-contrast phase."""
        return tuple(max(time - self.injection, 0.0) for time in self.times)

    @property
    def exam(self) -> Exam:
        """What a scanner would have given, as `segment_exam` takes it."""
        phases = [
            Phase(f"phase {number}", (), time, TimeSource.MAMA_MIA, self.geometry)
            for number, time in enumerate(self.times, start=1)
        ]
        return Exam(PhaseTable(tuple(phases)), self.data.cpu().numpy())


def simulate_exam(
    site_name: str,
    seed: int,
    spacing: float | None = None,
    device: str = "cpu",
    phases: int | None = None,
    spread: float = 0.0,
    protocol: Site | None = None,
    change: Change | None = None,
) -> SimulatedExam:
    """Simulate one exam. The same arguments give the same exam.

    Args:
        site_name: Key of `SITES`.
        seed: Not negative; another seed is another patient.
        spacing: Isotropic grid in mm instead of the site's own, for training.
        device: Where to compute, as torch names it.
        phases: Only the first so many phases.
        spread: Extra variation of the tissues beyond physics, for training; see `tissues.draw`.
        protocol: How to acquire instead of as the site does, for example with other phases of the same patient.
        change: What is done to the exam before it is painted, see `conditions.in_condition` and `variation.varied`; its
            random numbers are its own.

    Raises:
        InputError: There is no such site.
    """
    if site_name not in SITES:
        raise InputError(f"There is no site {site_name!r}.", f"Choose one of {', '.join(SITES)}.")
    site, seeds = protocol or SITES[site_name], [seed, zlib.crc32(site_name.encode())]
    random = np.random.default_rng(seeds)
    draft = draw_draft(site, random, spread)
    if change:
        draft = change(draft, np.random.default_rng([*seeds, 1]))
    times = draft.times[:phases]
    grid = _grid(site, draft.body, draft.side, random, spacing, device)

    anatomy = paint_anatomy(draft.body, grid, random, draft.spread)
    shown = (1, 2) if draft.side == 0 else (1,) if draft.side < 0 else (2,)
    paint_decoys(draft.decoys, anatomy, random, shown)
    tumor = torch.zeros(grid.shape, dtype=torch.bool, device=device)
    if draft.lesion:
        tumor = paint_lesion(draft.lesion, anatomy, random, shown)
    shifts = draft.scanner.shifts(len(times), random)
    if len(times) > 1:  # the outline is drawn where the lesion is first seen
        tumor = displaced(tumor, grid, shifts[first_post_index(times)])
    since_injection = tuple(time - draft.injection for time in times)
    data = acquire(draft.scanner, draft.sequence, anatomy, draft.body, since_injection, shifts, random)
    stored = _Storage(site.plane if spacing is None else "axial", grid)
    canvas = anatomy.canvas
    return SimulatedExam(
        data=torch.stack([stored(phase) for phase in data]) if stored.sagittal else data,
        times=times,
        injection=draft.injection,
        geometry=stored.geometry,
        tumor=stored(tumor),
        breast=stored(anatomy.breast),
        tissues=stored(canvas.label),
        parameters={name: stored(getattr(canvas, name)) for name in PARAMETERS},
        lesion=draft.lesion,
    )


def _grid(site: Site, body: Body, side: int, random: np.random.Generator, spacing: float | None, device: str) -> Grid:
    """The field of view and its voxels."""
    front = -max(breast.projection for breast in body.breasts) - random.uniform(8, 35)
    middle, height = random.uniform(-12, 12), random.uniform(150, 190)
    if side == 0:
        width = 2 * body.half_width + random.uniform(-25, 25)
        low, high = (middle - height / 2, front, -width / 2), (middle + height / 2, front + width, width / 2)
    else:
        inner, outer = random.uniform(-35, 5), body.half_width * random.uniform(0.8, 1.0)
        x_range = (inner, outer) if side > 0 else (-outer, -inner)
        back = random.uniform(30, 110) if site.plane == "axial" else front + height
        low, high = (middle - height / 2, front, x_range[0]), (middle + height / 2, back, x_range[1])
    pixel, slice_ = random.uniform(*site.in_plane), random.uniform(*site.slice)
    steps = (slice_, pixel, pixel) if site.plane == "axial" else (pixel, pixel, slice_)
    return Grid.box(low, high, (spacing,) * 3 if spacing else steps, device)


class _Storage:
    """How a site stores its volumes: axial from feet to head, or sagittal from left to right with the head on top."""

    def __init__(self, plane: str, grid: Grid) -> None:
        self.sagittal = plane == "sagittal"
        dz, dy, dx = grid.spacing
        nz, ny, nx = grid.shape
        x, y, z = float(grid.x[0]), float(grid.y[0]), float(grid.z[0])
        if self.sagittal:
            origin = (float(grid.x[-1]), y, float(grid.z[-1]))
            self.geometry = Geometry((ny, nz, nx), (dy, dz, dx), origin, (0, 0, -1, 1, 0, 0, 0, -1, 0))
        else:
            self.geometry = Geometry((nx, ny, nz), (dx, dy, dz), (x, y, z))

    def __call__(self, volume: Tensor) -> Tensor:
        return volume.permute(2, 0, 1).flip(0, 1).contiguous() if self.sagittal else volume


def write_case(exam: SimulatedExam, out: Path, case: str) -> None:
    """Write an exam in MAMA-MIA's layout below `out`, and every ground truth in `out/ground_truth/CASE`.

    Raises:
        OutputError: The case is already there, or can't be written.
    """
    _refuse_existing(out, case)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{case}.partial-", dir=out) as staging:
        _write_files(exam, Path(staging), case)
        for part in _parts(case):
            (out / part).parent.mkdir(parents=True, exist_ok=True)
            (Path(staging) / part).rename(out / part)


def _parts(case: str) -> tuple[Path, ...]:
    """Files and folders of a case; its images come last, so that a case with images is whole."""
    return (
        Path("patient_info_files") / f"{case.lower()}.json",
        Path("ground_truth") / case,
        Path("segmentations") / "expert" / f"{case}.nii.gz",
        Path("images") / case,
    )


def _refuse_existing(out: Path, case: str) -> None:
    there = next((out / part for part in _parts(case) if (out / part).exists()), None)
    if there:
        raise OutputError(f"{there} is already there.", "Choose another folder or seed.")


def _write_files(exam: SimulatedExam, out: Path, case: str) -> None:
    for index, phase in enumerate(exam.data):
        _write(phase.round().to(torch.int16), exam.geometry, out / "images" / case / f"{case}_{index:04d}.nii.gz")
    _write(exam.tumor.to(torch.uint8), exam.geometry, out / "segmentations" / "expert" / f"{case}.nii.gz")
    truth = out / "ground_truth" / case
    _write(exam.breast, exam.geometry, truth / "breast.nii.gz")
    _write(exam.tissues, exam.geometry, truth / "tissues.nii.gz")
    for name, values in exam.parameters.items():
        # Four decimals are more than a fit could tell, and compress to a tenth.
        _write((values * 1e4).round() / 1e4, exam.geometry, truth / f"{name}.nii.gz")
    _write_info(exam, out / "patient_info_files" / f"{case.lower()}.json", case)


def _write(volume: Tensor, geometry: Geometry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(volume.cpu().numpy(), geometry, path)


def _write_info(exam: SimulatedExam, path: Path, case: str) -> None:
    lesion = exam.lesion
    info = {
        "patient_id": case,
        "simulated": True,
        "imaging_data": {
            "acquisition_times": list(exam.times),
            "injection_time": exam.injection,
            "num_phases": len(exam.times),
            "pixel_spacing": list(exam.geometry.spacing[:2]),
            "slice_thickness": exam.geometry.spacing[2],
        },
        "primary_lesion": None
        if lesion is None
        else {"shape": lesion.shape, "diameter_mm": lesion.diameter, "tissue": lesion.tissue, "foci": lesion.foci},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(info, indent=2) + "\n", encoding="ascii")


def simulate_cohort(
    out: Path,
    site: str,
    cases: int,
    seed: int,
    device: str = "cpu",
    events: Events | None = None,
    spacing: float | None = None,
) -> list[str]:
    """Write `cases` exams of a site with seeds `seed`, `seed + 1`, ...; returns their names.

    With a `spacing` in mm voxels are isotropic, along LPS, and of that size, else the site's own.

    Raises:
        InputError: There is no such site, or `cases` is not positive.
        OutputError: One of the cases is already there, or can't be written; earlier ones stay.
    """
    if cases < 1:
        raise InputError(f"{cases} cases were asked for.", "Ask for at least one.")
    events = events or Events()
    names = [f"{site}_S{seed + index:06d}" for index in range(cases)]
    for name in names:
        _refuse_existing(out, name)
    for index, name in enumerate(names):
        events.progress("simulate", index, cases)
        write_case(simulate_exam(site, seed + index, spacing, device), out, name)
    events.progress("simulate", cases, cases)
    return names
