"""The longest 3D diameter of lesions, from which their size category is read."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from BreastTumorSegLib.core.boxes import bounding_box
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import size_category

TOUCHING = np.ones((3, 3, 3), bool)
"""26-connectivity: voxels that share a face, an edge or a corner."""


def longest_diameter(mask: np.ndarray, geometry: Geometry) -> float:
    """Longest 3D diameter of a mask in millimetres, between voxel centres.

    Between centres, because a smooth lesion's mask comes out 0.1 to 0.5 mm short that way, but 1.2 to 1.9 mm long
    between voxel corners, which would move lesions over a size category's border. One voxel measures 0.

    Args:
        mask: (Z, Y, X) bool, not empty; only the spacing and direction of `geometry` are used, so it may be a crop.
        geometry: The grid.
    """
    indices = np.argwhere(mask ^ ndimage.binary_erosion(mask))
    # The two ends are corners of the convex hull. A flat or tiny lesion has no hull, and few points.
    with suppress(QhullError):
        indices = indices[ConvexHull(indices).vertices]
    points = indices[:, ::-1] @ geometry.matrix[:3, :3].T
    return float(pdist(points).max(initial=0.0))


def largest_diameter(mask: np.ndarray, geometry: Geometry) -> float:
    """Longest 3D diameter of a mask's largest lesion in millimetres; NaN where the mask is empty.

    Lesions are its 26-connected parts; the largest is the one with the longest diameter.

    Args:
        mask: Tumour, (Z, Y, X) bool.
        geometry: Its grid.
    """
    lesions, count = ndimage.label(mask[bounding_box(mask)], TOUCHING)
    if count == 0:
        return float("nan")
    boxes = enumerate(ndimage.find_objects(lesions), start=1)
    return max(longest_diameter(lesions[box] == label, geometry) for label, box in boxes)


def size_agreement(predicted: np.ndarray, actual: np.ndarray, geometry: Geometry) -> dict[str, Any]:
    """Diameter and size category of the largest lesion of two masks, and whether the categories agree.

    Args:
        predicted: Mask, (Z, Y, X) bool.
        actual: The reference.
        geometry: The grid of both.

    Returns:
        `diameter_mm_predicted`, `diameter_mm_reference`, `size_category_predicted`, `size_category_reference`, ""
        where a mask is empty, and `size_category_right`: 1 or 0, NaN where the reference is empty.
    """
    found, true = (largest_diameter(mask, geometry) for mask in (predicted, actual))
    category, right = ("" if math.isnan(diameter) else size_category(diameter) for diameter in (found, true))
    return {
        "diameter_mm_predicted": found,
        "diameter_mm_reference": true,
        "size_category_predicted": category,
        "size_category_reference": right,
        "size_category_right": float(category == right) if right else float("nan"),
    }
