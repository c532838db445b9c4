"""Reads DICOM headers: one `Frame` for each slice, whether it is a file of its own or part of a multi-frame object."""

from __future__ import annotations

import re
import struct
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.io.clocks import frame_clocks
from BreastTumorSegLib.io.privacy import without_identity

_MR = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
_DICOMDIR = "1.2.840.10008.1.3.10"
# fmt: off
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "ImageType", "FrameType", "PatientName", "PatientID", "PatientBirthDate",
    "StudyInstanceUID", "StudyDate", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber",
    "AcquisitionNumber", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "SliceThickness",
    "ImagePositionPatient", "ImageOrientationPatient", "RepetitionTime", "EchoTime", "FlipAngle", "ScanOptions",
    "DiffusionBValue", "RescaleSlope", "RescaleIntercept", "AcquisitionDateTime", "AcquisitionDate",
    "AcquisitionTime", "TriggerTime", "TemporalPositionIdentifier", "TemporalResolution", "ContentDate",
    "ContentTime", "SeriesDate", "SeriesTime", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]
# fmt: on
# What reading or converting a damaged header raises in pydicom.
DAMAGE = (
    *(AttributeError, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError),
    *(struct.error, BytesLengthException),
)
# These are no damage of the file.
UNREACHABLE = (FileNotFoundError, PermissionError)
RIGHT_ANGLE = 0.01
_LONGEST_DESCRIPTION = 64


@dataclass(frozen=True)
class DicomObject:
    """What one DICOM file says of itself.

    Attributes:
        file: Its path.
        uid: SOPInstanceUID.
        is_mr: True for MR images, single-frame or enhanced.
        patient: PatientID, PatientName and birth date, for comparison only: never shown.
        study: StudyInstanceUID and study date, for comparison only.
        series: SeriesInstanceUID.
        number: SeriesNumber.
        description: SeriesDescription with everything of the patient removed.
    """

    file: Path
    uid: str
    is_mr: bool
    patient: tuple[str, str, str]
    study: tuple[str, str]
    series: str
    number: int
    description: str

    @property
    def label(self) -> str:
        """How the series is shown to the user."""
        return f"{self.number}: {self.description}" if self.description else f"{self.number}"


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes:
        source: The object that holds it.
        index: Its place in a multi-frame object, from 0; otherwise None.
        shape: Rows and columns.
        spacing: Millimetres between rows, and between columns.
        position: LPS position of the first voxel, millimetres.
        orientation: Direction cosines of a row, then of a column.
        image_type: ImageType or FrameType, upper case.
        protocol: What phases of one exam share: repetition time, echo time, flip angle, fat suppression.
        diffusion: True for a diffusion-weighted image.
        moments: What may tell the phase within its series, the most telling first; None where not recorded.
        clocks: What each source says of its time, in seconds.
        instance: InstanceNumber.
        slope: Rescale slope.
        intercept: Rescale intercept.
    """

    source: DicomObject
    index: int | None
    shape: tuple[int, int]
    spacing: tuple[float, float]
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    image_type: tuple[str, ...]
    protocol: tuple[float | None, ...]
    diffusion: bool
    moments: tuple[Any, ...]
    clocks: Mapping[TimeSource, float]
    instance: int
    slope: float
    intercept: float


def read_frames(file: Path) -> tuple[DicomObject, list[Frame]] | None:
    """Read the header of one file.

    Returns:
        The object and its slices (none, where it is no MR image in space); None where the file is not DICOM.

    Raises:
        InputError: It is DICOM and damaged.
    """
    try:
        with warnings.catch_warnings():
            # Vendors break rules of spelling that do not matter here.
            warnings.simplefilter("ignore")
            header = _header(file)
            if header is None:
                return None
            source = _object(header, file)
            return source, list(_frames(header, source)) if source.is_mr else []
    except UNREACHABLE:
        raise
    except DAMAGE as error:
        raise InputError(f"{file} is a damaged DICOM file.", "Copy or export it again, or take it away.") from error


def _header(file: Path) -> pydicom.Dataset | None:
    """The header's values that are needed here; None where the file is no DICOM image or object."""
    with file.open("rb") as stream:
        start = stream.read(132)
    # Old exports lack the preamble and start with group 0008 at once.
    bare = start[:2] == b"\x08\x00"
    if start[128:] != b"DICM" and not bare:
        return None
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=bare)
    if "SOPClassUID" in header:
        return header
    if bare or header.file_meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
        return None
    raise ValueError("no SOPClassUID")


def _object(header: pydicom.Dataset, file: Path) -> DicomObject:
    patient = (_text(header, "PatientID"), _text(header, "PatientName"), _text(header, "PatientBirthDate"))
    return DicomObject(
        file=file,
        uid=_text(header, "SOPInstanceUID"),
        is_mr=str(header.SOPClassUID) in _MR,
        patient=patient,
        study=(_text(header, "StudyInstanceUID"), _text(header, "StudyDate")),
        series=_text(header, "SeriesInstanceUID"),
        number=int(header.get("SeriesNumber") or 0),
        description=without_identity(_description(header), patient),
    )


def _frames(header: pydicom.Dataset, source: DicomObject) -> Iterator[Frame]:
    whole = _flat(header)
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        yield from filter(None, [_frame(whole, source, None)])
        return
    shared = _flat(*header.get("SharedFunctionalGroupsSequence", []))
    for index, groups in enumerate(per_frame):
        yield from filter(None, [_frame(ChainMap(_flat(groups), shared, whole), source, index)])


def _flat(*groups: pydicom.Dataset) -> dict[str, Any]:
    """All values of functional groups by keyword, as if they stood in the header of a single-frame object."""
    values: dict[str, Any] = {}
    for group in groups:
        for element in group:
            if element.VR != "SQ":
                values[element.keyword] = element.value
            elif element.value and not element.keyword.endswith("FunctionalGroupsSequence"):
                values.update(_flat(element.value[0]))
    return values


def _frame(values: Mapping[str, Any], source: DicomObject, index: int | None) -> Frame | None:
    """One slice from its values; None where it has no place in space."""
    position, orientation = _numbers(values, "ImagePositionPatient"), _numbers(values, "ImageOrientationPatient")
    spacing = _numbers(values, "PixelSpacing")
    if len(position) != 3 or not _are_axes(orientation) or len(spacing) != 2:
        return None
    image_type = values.get("FrameType") or values.get("ImageType") or ()
    slope = values.get("RescaleSlope")
    clocks = frame_clocks(values)
    return Frame(
        source=source,
        index=index,
        shape=(int(values["Rows"]), int(values["Columns"])),
        spacing=(spacing[0], spacing[1]),
        position=(position[0], position[1], position[2]),
        orientation=tuple(orientation),
        image_type=tuple(str(part).upper() for part in _listed(image_type)),
        protocol=_protocol(values),
        diffusion=bool(values.get("DiffusionBValue")),
        moments=_moments(values, clocks, source),
        clocks=clocks,
        instance=int(values.get("InstanceNumber") or 0),
        slope=1.0 if slope is None else float(slope),
        intercept=float(values.get("RescaleIntercept") or 0.0),
    )


def _are_axes(orientation: list[float]) -> bool:
    """True for two unit vectors at a right angle."""
    if len(orientation) != 6:
        return False
    axes = np.reshape(orientation, (2, 3))
    return np.allclose(axes @ axes.T, np.eye(2), atol=RIGHT_ANGLE)


def _protocol(values: Mapping[str, Any]) -> tuple[float | None, ...]:
    echo = values.get("EchoTime") or values.get("EffectiveEchoTime")
    numbers = [values.get("RepetitionTime"), echo, values.get("FlipAngle")]
    fat_suppressed = any("FS" in str(option).upper() for option in _listed(values.get("ScanOptions") or ()))
    return (*(None if n is None or n == "" else float(n) for n in numbers), fat_suppressed)


def _moments(values: Mapping[str, Any], clocks: Mapping[TimeSource, float], source: DicomObject) -> tuple[Any, ...]:
    return (
        values.get("TemporalPositionIdentifier") or values.get("TemporalPositionIndex"),
        clocks.get(TimeSource.TRIGGER_TIME),
        clocks.get(TimeSource.TEMPORAL_OFFSET),
        clocks.get(TimeSource.ACQUISITION_DATE_TIME),
        clocks.get(TimeSource.ACQUISITION_TIME),
        values.get("AcquisitionNumber"),
        source.uid,
        clocks.get(TimeSource.CONTENT_TIME),
    )


def _text(header: Mapping[str, Any], keyword: str) -> str:
    return re.sub(r"\s+", " ", str(header.get(keyword) or "")).strip()


def _description(header: Mapping[str, Any]) -> str:
    """SeriesDescription up to its first control character, and no longer than DICOM lets it be.

    With a damaged length it runs on into the elements behind it, and the patient's name is among them.
    """
    text = "\\".join(map(str, _listed(header.get("SeriesDescription") or "")))
    return re.split(r"[\x00-\x1f\x7f]", text)[0][:_LONGEST_DESCRIPTION].strip()


def _listed(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str) else value


def _numbers(values: Mapping[str, Any], keyword: str) -> list[float]:
    value = values.get(keyword)
    return [] if value is None or value == "" else [float(number) for number in value]
