"""Writes tiny DICOM series for tests: single-frame and enhanced multi-frame MR."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
STUDY = generate_uid(entropy_srcs=["study"])

EXAM = {
    "PatientName": "Doe^Jane",
    "PatientID": "P123456",
    "PatientBirthDate": "19600102",
    "StudyInstanceUID": STUDY,
    "StudyDate": "20200304",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "RepetitionTime": 4.1,
    "EchoTime": 1.4,
    "FlipAngle": 12.0,
    "ScanOptions": "FS",
}


def write_series(folder, number, voxels, description="ax dyn", step=2.0, skip=(), slice_tags=None, **tags):
    """One single-frame series: a file a slice, slices 2 mm apart from z = 10 mm, pixels 1.5 (rows) x 0.5 mm.

    Args:
        voxels: (Z, Y, X) integers, stored as they are.
        skip: Indices of slices that are not written.
        slice_tags: Gives more values for the slice of an index.
        tags: DICOM keywords and values of every slice, over those of `EXAM`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    files = []
    for index, image in enumerate(np.asarray(voxels)):
        if index in skip:
            continue
        values = {
            **EXAM,
            "SOPClassUID": MR,
            "SeriesInstanceUID": series,
            "SeriesNumber": number,
            "SeriesDescription": description,
            "InstanceNumber": index + 1,
            "ImagePositionPatient": [-3.0, 4.0, 10.0 + step * index],
            "ImageOrientationPatient": list(AXIAL),
            "PixelSpacing": [1.5, 0.5],
            **tags,
            **(slice_tags(index) if slice_tags else {}),
        }
        # Names run against the order of the slices.
        files.append(write_object(folder / f"s{number}_{99 - index}", image, values))
    return files


def write_object(file, pixels, values):
    """One DICOM file with 16-bit pixels, (Y, X) or (frame, Y, X)."""
    dataset = Dataset()
    for keyword, value in {"SOPInstanceUID": generate_uid(), **values}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    pixels = np.asarray(pixels, np.uint16)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(file, enforce_file_format=True)
    return file


def write_enhanced(file, number, phases, frame_tags, step=2.0, description="ax dyn", first=0, **tags):
    """One enhanced object with the frames of some phases, phase by phase, each from its top slice downwards.

    Args:
        phases: (T, Z, Y, X) integers.
        frame_tags: Gives the FrameContentSequence item's values for the phase of an index.
        first: Index of the first slice, for an object that holds a part of a volume.
        tags: DICOM keywords and values of the object, over those of `EXAM`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    phases = np.asarray(phases)
    values = {
        **EXAM,
        "SOPClassUID": ENHANCED_MR,
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": number,
        "SeriesDescription": description,
        "NumberOfFrames": phases.shape[0] * phases.shape[1],
        **tags,
    }
    for moved in ("RepetitionTime", "EchoTime", "FlipAngle", "ScanOptions"):
        values.pop(moved)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[1.5, 0.5], SliceThickness=step)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(AXIAL))]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=4.1, FlipAngle=12.0)]
    shared.MREchoSequence = [_item(EffectiveEchoTime=1.4)]
    values["SharedFunctionalGroupsSequence"] = [shared]
    downwards = [(phase, index) for phase in range(len(phases)) for index in reversed(range(phases.shape[1]))]
    values["PerFrameFunctionalGroupsSequence"] = [
        _frame(first + index, step, frame_tags(phase), slope=phase + 1) for phase, index in downwards
    ]
    return write_object(file, [phases[phase, index] for phase, index in downwards], values)


def _frame(index, step, content, slope):
    groups = Dataset()
    offset = content.pop("TemporalPositionTimeOffset", None)
    groups.FrameContentSequence = [_item(**content)]
    if offset is not None:
        groups.TemporalPositionSequence = [_item(TemporalPositionTimeOffset=offset)]
    groups.PlanePositionSequence = [_item(ImagePositionPatient=[-3.0, 4.0, 10.0 + step * index])]
    groups.PixelValueTransformationSequence = [_item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")]
    return groups


def _item(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
