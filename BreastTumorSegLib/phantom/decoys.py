"""What looks like a lesion and is none: cysts, scars, haematomas, foci under 5 mm, and lymph nodes in the breast.

The labelling rule: whatever enhances as a lesion of 5 mm and more is one, all foci of a lesion included. Smaller foci
(BI-RADS, 5th edition 2013, calls them that), nodes with a fatty hilum, and what does not enhance inside are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from BreastTumorSegLib.phantom.anatomy import Anatomy, paint_node, step
from BreastTumorSegLib.phantom.lesions import Shape, focus_depth, place
from BreastTumorSegLib.phantom.tissues import TISSUES, Tissue, draw

Kind = Literal["cyst", "scar", "haematoma", "focus", "node"]

_NONE = (0.0, 0.0)
_TISSUES = {
    "cyst": Tissue(15, (0.9, 1.05), (1.8, 3.0)),
    "scar": Tissue(2, (0.5, 0.85), (0.8, 1.2), (0.0, 0.02), (0.2, 0.4), (0.0, 0.02)),
    "haematoma": Tissue(15, (0.8, 1.0), (0.25, 0.7), _NONE, (0.3, 0.3), _NONE),
    "focus": TISSUES["malignant"],
}
_PAINTED_AS = {"cyst": "necrosis", "scar": "fibroglandular", "haematoma": "necrosis", "focus": "node"}
"""Whose label the ground truth's tissues get."""
_SHAPES: dict[str, Shape] = {"cyst": "round", "scar": "spiculated", "haematoma": "lobulated", "focus": "round"}
_RIM_MM = 1.5


@dataclass(frozen=True)
class Decoy:
    """What to paint, and its diameter in mm."""

    kind: Kind
    diameter: float


def draw_decoys(random: np.random.Generator) -> tuple[Decoy, ...]:
    """Random decoys of an exam: mostly few and small."""
    sizes: tuple[tuple[Kind, int, tuple[float, float]], ...] = (
        ("cyst", int(random.poisson(0.5)), (4, 25)),
        ("scar", int(random.random() < 0.08), (10, 40)),
        ("haematoma", int(random.random() < 0.06), (8, 30)),
        ("focus", int(random.poisson(1.0)), (2, 4.5)),
        ("node", int(random.random() < 0.25), (5, 12)),
    )
    return tuple(Decoy(kind, random.uniform(*span)) for kind, count, span in sizes for _ in range(count))


def paint_decoys(
    decoys: tuple[Decoy, ...], anatomy: Anatomy, random: np.random.Generator, sides: tuple[int, ...] = (1, 2)
) -> None:
    """Paint decoys somewhere in the breasts of these labels, where there is room; lesions are painted over them."""
    for decoy in decoys:
        centre = place(anatomy, random, sides, decoy.diameter / 2)
        if centre is None:
            continue
        if decoy.kind == "node":
            paint_node(anatomy.canvas, random, (centre[0], centre[1], centre[2]), decoy.diameter / 2, anatomy.depth)
        else:
            _paint(decoy, centre, anatomy, random)


def _paint(decoy: Decoy, centre: tuple[float, ...], anatomy: Anatomy, random: np.random.Generator) -> None:
    canvas = anatomy.canvas
    spot = canvas.grid.around(centre, 0.9 * decoy.diameter + 4.0)
    if spot is None:
        return
    where, local = spot
    depth = focus_depth(_SHAPES[decoy.kind], decoy.diameter, centre, local, anatomy.gland[where], random)
    inside = (anatomy.breast[where] > 0) * step(anatomy.depth[where] - 1.0, 1.0)
    voxel = min(local.spacing)
    if decoy.kind in ("cyst", "haematoma"):  # now and then with a wall that enhances a little
        uptake = torch.full_like(depth, random.uniform(0, 1.5))
        canvas.paint("skin", step(depth + _RIM_MM, voxel) * inside, where, uptake=uptake)
    values = draw(_TISSUES[decoy.kind], random)
    canvas.paint(_PAINTED_AS[decoy.kind], step(depth, voxel) * inside, where, values=values)
