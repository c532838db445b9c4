"""Volume files (NIfTI, NRRD, MHA): reads and writes them, and finds the phases in a list of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from BreastTumorSegLib.core.errors import InputError, OutputError, typed_errors
from BreastTumorSegLib.core.exam import Problem, TimeSource
from BreastTumorSegLib.core.geometry import TOLERANCE_COSINE, Geometry
from BreastTumorSegLib.io import mama_mia, nifti, nrrd
from BreastTumorSegLib.io.nifti_writer import write_nifti
from BreastTumorSegLib.io.volume import Found, Volume

# No volume of a breast has voxels outside of these; such numbers come from damaged headers and other units.
SPACING_MM = (0.01, 100.0)
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def is_volume_file(path: Path) -> bool:
    """True where the name says NIfTI, NRRD or MHA."""
    return path.name.lower().endswith(SUFFIXES)


@typed_errors()
def read_volume(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read one 3D volume, such as a mask or a map.

    Returns:
        Voxels (Z, Y, X) in the file's own number type, and their grid.

    Raises:
        InputError: Missing, damaged, not a 3D volume, or with unusable spacing.
    """
    path = Path(path)
    grid = read_geometry(path)
    return _read_all(path)[0], grid


@typed_errors()
def read_geometry(path: Path) -> Geometry:
    """The grid of one 3D volume, by its header alone. Raises as `read_volume`, as far as the header shows it."""
    reader = _open(path)
    grid = _geometry(reader, path)
    if _count(reader) != 1:
        raise InputError(f"{path} holds {_count(reader)} volumes; one is wanted.", "Give a 3D volume.")
    return grid


def write_volume(array: np.ndarray, geometry: Geometry, path: Path, step: float | None = None) -> None:
    """Write one 3D volume, compressed, in the format that the name's suffix says.

    Args:
        array: Voxels (Z, Y, X); bool is stored as uint8.
        geometry: Its grid.
        path: File to write, `.nii.gz` or `.nrrd`.
        step: For `.nii.gz`, keep the nearest multiples of this: noise in the last bits would triple the file.

    Raises:
        OutputError: The folder is not writable or the disk is full.
        ValueError: The array's shape is not the grid's.
    """
    voxels = array.astype(np.uint8) if array.dtype == bool else array
    try:
        if path.name.lower().endswith(".nii.gz"):
            write_nifti(voxels, geometry, path, step)
            return
        with _quiet():
            sitk.WriteImage(geometry.image(voxels), str(path), useCompression=True)
        # ITK tells nothing when the disk is full in the middle of a NIfTI file.
        if nifti.is_nifti(path):
            nifti.read_voxels(path)
    except (OSError, RuntimeError, InputError) as error:
        raise OutputError(f"{path} can't be written.", "Check that its disk has space and is writable.") from error


def find_volumes(files: Sequence[Path]) -> Found:
    """The candidate phases of volume files, in the order of the files.

    Raises:
        InputError: A file is no volume, is 2D or has unusable spacing, or the files are of two cases.
    """
    files, problems = _phases_only(files)
    volumes = [volume for file in files for volume in volumes_of(file)]
    clocks, more = _mama_mia_clocks(files, len(volumes))
    named = [
        Volume(f"phase {i + 1}", v.files, v.geometry, v.read, {**v.clocks, **clock}, v.index)
        for i, (v, clock) in enumerate(zip(volumes, clocks, strict=True))
    ]
    return Found(tuple(named), (*problems, *more))


def refuse_repeated(files: Sequence[Path]) -> None:
    """Refuse a list that has one file twice.

    Raises:
        InputError: It has, by name or by a link.
    """
    places = [file.resolve() for file in files]
    repeated = next((file for file, place in zip(files, places, strict=True) if places.count(place) > 1), None)
    if repeated:
        raise InputError(f"{repeated} is there twice, by name or by a link.", "Give the file of each phase once.")


def natural_key(path: Path) -> tuple[tuple[int, str], ...]:
    """Sorts `phase_2` before `phase_10`."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower()))


def _phases_only(files: Sequence[Path]) -> tuple[list[Path], list[Problem]]:
    """Keep the phases of a MAMA-MIA case where there are any; a mask beside them is no phase."""
    cases = Counter(filter(None, map(mama_mia.case_of, files)))
    if len(cases) > 1:
        raise InputError(
            f"{files[0].parent} holds {len(cases)} cases: {', '.join(sorted(cases))}.", "Give one case at a time."
        )
    phases = [file for file in files if mama_mia.case_of(file)]
    others = [file.name for file in files if file not in phases]
    if len(phases) < 2 or not others:
        return list(files), []
    message = f"Left out, as not named like a phase of {next(iter(cases))}: {', '.join(others)}."
    return phases, [Problem(message, "Give the files as a list to choose the phases yourself.")]


def _mama_mia_clocks(files: Sequence[Path], count: int) -> tuple[list[dict[TimeSource, float]], list[Problem]]:
    times = mama_mia.acquisition_times(files)
    if times is None:
        return [{}] * count, []
    if len(times) != count:
        message = f"The MAMA-MIA json lists {len(times)} times and there are {count} phases; it is not used."
        return [{}] * count, [Problem(message, "Check that no phase is missing, or give the times yourself.")]
    return [{TimeSource.MAMA_MIA: time} for time in times], []


def volumes_of(path: Path) -> list[Volume]:
    """The volumes of one file, by its header alone, without names.

    Raises:
        InputError: It is no volume, is 2D or has unusable spacing.
    """
    reader = _open(path)
    geometry = _geometry(reader, path)
    count = _count(reader)
    if count == 1:
        return [Volume("", (path,), geometry, lambda: _read_all(path)[0])]
    whole = cache(partial(_read_all, path))
    clocks = nrrd.frame_clocks({key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}, count)
    return [
        Volume("", (path,), geometry, partial(lambda index: whole()[index], index), clocks[index], index)
        for index in range(count)
    ]


def _open(path: Path) -> sitk.ImageFileReader:
    """A reader that has read the header."""
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Check the path.")
    check_name(path)
    if nifti.is_nifti(path):
        nifti.check_header(path)
    elif path.suffix.lower() in (".mha", ".mhd"):
        _check_meta_image(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    _check_voxel_type(reader, path)
    return reader


def check_name(path: Path) -> None:
    """Refuse a name that is no Unicode text: ITK ends the process when it is given one.

    Raises:
        InputError: It is such a name.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="replace").decode()
        raise InputError(f"{shown}: the name is not valid Unicode.", "Rename the file or folder.") from error


def _check_meta_image(path: Path) -> None:
    """Refuse a count of dimensions that crashes ITK, and the process with it."""
    with path.open("rb") as stream:
        found = re.search(rb"^NDims *= *(\S*)", stream.read(4096), re.MULTILINE)
    if found and found[1] not in (b"1", b"2", b"3", b"4", b"5"):
        raise InputError(f"{path} is damaged: its header has no usable NDims.", "Copy or export the file again.")


def _check_voxel_type(reader: sitk.ImageFileReader, path: Path) -> None:
    """Refuse complex numbers, and components that are no phases: only NRRD tells a list from colours or vectors."""
    remedy = "Export phases of real numbers, such as int16."
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise InputError(f"{path} has voxels of complex numbers.", remedy)
    kind = "NRRD_kinds[pixel]"
    listed = kind in reader.GetMetaDataKeys() and reader.GetMetaData(kind) == "list"
    if reader.GetNumberOfComponents() > 1 and not listed:
        raise InputError(f"{path} has colours or vectors as voxels.", remedy)


def _read_all(path: Path) -> np.ndarray:
    """All voxels of a file, (T, Z, Y, X)."""
    if nifti.is_nifti(path):
        voxels = nifti.read_voxels(path)
        return voxels.reshape(-1, *voxels.shape[-3:])
    try:
        with _quiet():
            image = _open(path).Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        return np.moveaxis(array, -1, 0)
    return array.reshape(-1, *array.shape[-3:])


def _count(reader: sitk.ImageFileReader) -> int:
    """Volumes in a file: Slicer's sequences are 3D images with a component a phase, the others have a fourth axis."""
    return reader.GetNumberOfComponents() * math.prod(reader.GetSize()[3:])


def _geometry(reader: sitk.ImageFileReader, path: Path) -> Geometry:
    size, dimension = reader.GetSize(), reader.GetDimension()
    if dimension < 3 or min(size[:3]) < 2:
        raise InputError(f"{path} is a 2D image, {' x '.join(map(str, size))} voxels.", "Give 3D volumes.")
    if dimension > 4:
        raise InputError(f"{path} has {dimension} dimensions.", "Give 3D volumes, or one 4D volume.")
    spacing = reader.GetSpacing()[:3]
    if not all(SPACING_MM[0] <= value <= SPACING_MM[1] for value in spacing):
        raise InputError(
            f"{path}: the spacing is {' x '.join(f'{value:g}' for value in spacing)} mm.",
            "Export the volume again, or correct the spacing in its header.",
        )
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    if not np.allclose(direction @ direction.T, np.eye(3), atol=TOLERANCE_COSINE):
        raise _not_orthogonal(path)
    if not np.isfinite(reader.GetOrigin()).all():
        raise InputError(f"{path}: its origin is no finite number.", "Export the volume again.")
    return Geometry(size[:3], spacing, reader.GetOrigin()[:3], tuple(direction.ravel().tolist()))


def _unreadable(path: Path, error: RuntimeError) -> InputError:
    if "orthonormal" in str(error):
        return _not_orthogonal(path)
    return InputError(f"{path} can't be read; it is damaged or no volume.", "Copy or export the file again.")


def _not_orthogonal(path: Path) -> InputError:
    return InputError(f"{path}: its axes are not at right angles.", "Resample it to a grid with orthogonal axes.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off standard error; what matters of them is raised as an error."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
