"""Reads the voxels of DICOM slices."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.io.frames import DAMAGE, UNREACHABLE, Frame

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


class PixelReader:
    """Reads stacks of slices; keeps the last object, as a multi-frame one may hold the next slices and phases too."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._images = np.empty(0)

    def read(self, frames: Sequence[Frame]) -> np.ndarray:
        """Voxels (Z, Y, X) of slices in order, float32, rescale slope and intercept applied.

        Raises:
            InputError: A file is damaged, or compressed in a way that can't be decoded.
        """
        voxels = np.empty((len(frames), *frames[0].shape), np.float32)
        for values, frame in zip(voxels, frames, strict=True):
            values[:] = self._image(frame)
            values *= frame.slope
            values += frame.intercept
        return voxels

    def _image(self, frame: Frame) -> np.ndarray:
        """Stored values of one slice, (Y, X)."""
        file = frame.source.file
        if file != self._file:
            self._file, self._images = file, _stored(file)
        image = self._images if self._images.ndim == 2 else self._images[frame.index]
        if image.shape != frame.shape:
            raise InputError(f"{file} holds an image of {image.shape}, not {frame.shape}.", "Export it again.")
        return image


def _stored(file: Path) -> np.ndarray:
    """Stored values of one object, before rescaling: (Y, X), or (frame, Y, X) for a multi-frame object."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = _syntax_without_preamble(file)
            try:
                return dataset.pixel_array
            except (RuntimeError, NotImplementedError):
                return _decompressed(dataset)
    except UNREACHABLE:
        raise
    except DAMAGE as error:
        raise InputError(
            f"{file}: its image is damaged, or compressed in a way that can't be decoded here.",
            "Export the exam again, uncompressed.",
        ) from error


def _syntax_without_preamble(file: Path) -> str:
    """Explicit where two letters for the value's type follow the first tag."""
    with file.open("rb") as stream:
        explicit = stream.read(6)[4:].isalpha()
    return pydicom.uid.ExplicitVRLittleEndian if explicit else pydicom.uid.ImplicitVRLittleEndian


def _decompressed(dataset: pydicom.Dataset) -> np.ndarray:
    """Stored values by GDCM, which knows the compressions that pydicom needs plug-ins for.

    GDCM would rescale, with one slope for all frames, so it is given the image alone.
    """
    bare = pydicom.Dataset()
    bare.update({element.tag: element for element in dataset.group_dataset(0x0028) if "Rescale" not in element.keyword})
    bare.PixelData = dataset.PixelData
    bare["PixelData"].is_undefined_length = True
    bare.SOPClassUID, bare.SOPInstanceUID = _SECONDARY_CAPTURE, pydicom.uid.generate_uid()
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.preamble = bytes(128)
    # For pydicom 2; later ones go by the transfer syntax.
    bare.is_little_endian, bare.is_implicit_VR = True, False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.dcm"
        bare.save_as(file)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(file))).squeeze()
