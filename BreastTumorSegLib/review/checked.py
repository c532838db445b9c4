"""Masks of a study, read only where they are what they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import CorrectionRecord, Study
from BreastTumorSegLib.review.worklist import Entry, item_id

Mask = tuple[np.ndarray, Geometry]
"""(Z, Y, X) bool, and its grid."""


def read_correction(study: Study, record: CorrectionRecord) -> Mask:
    """A corrected mask; raises as `read_mask` does."""
    return read_mask(study.masks / record.file, lambda digest: digest == record.sha256)


def read_automatic(entry: Entry) -> Mask:
    """The automatic mask of a worklist's entry; raises as `read_mask` does."""
    item = entry.item
    return read_mask(entry.mask, lambda digest: item_id(item.case, item.model, digest) == item.id)


def read_mask(path: Path, is_right: Callable[[str], bool] = lambda digest: True) -> Mask:
    """A mask and its grid.

    Args:
        path: Its file.
        is_right: Whether a sha256 is the one that the file must have.

    Raises:
        InputError: The file is missing, not what it was, or damaged; the message is the end of a sentence, and names
            no folder: folders may name a patient.
    """
    try:
        if not is_right(sha256_of(path)):
            raise InputError("is not what its checksum says")
    except FileNotFoundError:
        raise InputError("is missing") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}") from error
    try:
        voxels, grid = read_volume(path)
    except InputError as error:
        raise InputError("is damaged") from error
    return voxels > 0, grid
