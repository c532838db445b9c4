"""The result in the scene as a case to review: images of the exam, masks of the results folder."""

from __future__ import annotations

import numpy as np
import slicer

from BreastTumorSegGui import results, scene
from BreastTumorSegGui.exam import Exam
from BreastTumorSegGui.settings import Settings
from BreastTumorSegGui.tasks import Work, stage
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.io.pieces import read_in_pieces
from BreastTumorSegLib.review.case import Case, labels_of
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import Item
from BreastTumorSegLib.review.worklist import Entry, item_id, model_of

FILES = ("tumor", "breast", "tumor_probability")


def entry_of(result: slicer.vtkMRMLSegmentationNode | None, settings: Settings) -> Entry:
    """A result's entry; the automatic mask is the file, whatever was done to the segmentation in the scene.

    Raises:
        InputError: No result is shown, or its folder is not there.
    """
    name = result.GetAttribute(results.RESULT) if result is not None else None
    if not name:
        raise InputError("No result is shown.", "Segment the exam, or choose a result in the Result panel.")
    folder = settings.results_folder / name
    mask, breast, probability = (folder / f"{file}.nii.gz" for file in FILES)
    if not mask.is_file():
        raise InputError(f"There is no {mask}.", "Choose the folder that holds the results in the Segment panel.")
    model = model_of(mask)
    item = Item(item_id(name, model, sha256_of(mask)), name, model)
    return Entry(item, folder, mask, breast, probability)


def read(entry: Entry, exam: Exam) -> Work:
    """The result's `Case`.

    Raises:
        InputError: The exam is no longer in the scene, or the masks are not on its grid.
    """
    pre, post = exam.pre, exam.first_post
    if pre is None or post is None:
        raise InputError("The exam of this result is not in the scene.", "Load it, and confirm its phases.")
    geometry = scene.geometry_of(post)
    arrays: list[np.ndarray] = []
    for index, file in enumerate((entry.mask, entry.breast, entry.probability)):
        array, grid = yield from stage("load", read_in_pieces(file), index, len(FILES))
        difference = geometry.difference(grid)
        if difference:
            raise InputError(f"{file} is on another grid than the exam: {difference}.", "Load the exam it belongs to.")
        arrays.append(array)
    tumor, breast, probability = arrays
    images = scene.voxels(pre), scene.voxels(post)
    return Case(*images, labels_of(tumor, entry.mask), sha256_of(entry.mask), breast, probability, geometry)
