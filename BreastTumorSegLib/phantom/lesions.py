"""Simulated lesions: shapes, kinetics, and where they grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.phantom.anatomy import Anatomy, step
from BreastTumorSegLib.phantom.grid import Field, Grid
from BreastTumorSegLib.phantom.tissues import TISSUES, draw

Shape = Literal["round", "lobulated", "spiculated", "rim", "non-mass", "irregular"]
SHAPES: tuple[Shape, ...] = ("round", "lobulated", "spiculated", "rim", "non-mass")
"""Of the sites' exams. Varied exams have irregular lesions, too."""
IRREGULAR_SCALE = 0.62
"""Without it irregular lesions are 1.6 times as long as planned."""
LESION_FREE_SHARE = 0.2
IRREGULARITY = ((0.9, 0.45), (0.4, 0.4), (0.18, 0.2))
"""Wavelength and height of the bumps on irregular lesions, in radii: with them a lesion fills as little of its convex
hull as ten real ones do."""


@dataclass(frozen=True)
class LesionPlan:
    """What to paint: shape, longest diameter in mm, tissue, and how many foci."""

    shape: Shape
    diameter: float
    tissue: Literal["malignant", "benign"]
    foci: int = 1


def draw_lesion(random: np.random.Generator) -> LesionPlan | None:
    """A random lesion, or None for a lesion-free exam (a fifth of them).

    Diameters follow a log-normal with a median of 20 mm, from 3 to 80 mm; non-mass lesions are larger.
    """
    if random.random() < LESION_FREE_SHARE:
        return None
    shape = SHAPES[int(random.choice(len(SHAPES), p=(0.2, 0.28, 0.22, 0.15, 0.15)))]
    diameter = random.lognormal(np.log(32 if shape == "non-mass" else 20), 0.5)
    benign = shape in ("round", "lobulated") and random.random() < 0.25
    foci = int(random.integers(2, 5)) if random.random() < 0.12 else 1
    return LesionPlan(shape, float(np.clip(diameter, 3, 80)), "benign" if benign else "malignant", foci)


def paint_lesion(
    plan: LesionPlan, anatomy: Anatomy, random: np.random.Generator, sides: tuple[int, ...] = (1, 2)
) -> Tensor:
    """Paint a lesion and return its mask, bool (Z, Y, X), which may be empty when the breast is too small for it.

    Args:
        sides: Breast labels where it may grow.
    """
    mask = torch.zeros(anatomy.breast.shape, dtype=torch.bool, device=anatomy.breast.device)
    values = draw(TISSUES[plan.tissue], random)
    centre = place(anatomy, random, sides, plan.diameter / 2)
    for focus in range(plan.foci if centre else 0):
        assert centre is not None
        shift = random.normal(0, 0.9 * plan.diameter, 3) if focus else np.zeros(3)
        size = plan.diameter if focus == 0 else plan.diameter * random.uniform(0.25, 0.6)
        where = tuple(float(c + s) for c, s in zip(centre, shift, strict=True))
        _paint_focus(plan.shape, size, plan.tissue, values, where, anatomy, random, mask)
    return mask


def place(
    anatomy: Anatomy, random: np.random.Generator, sides: tuple[int, ...], radius: float
) -> tuple[float, ...] | None:
    """A random voxel (z, y, x) in mm, deep enough, rather in gland than in fat; None if there is no room."""
    allowed = sum((anatomy.breast == side for side in sides), torch.zeros_like(anatomy.breast, dtype=torch.bool))
    allowed = allowed & (anatomy.canvas.label != TISSUES["implant"].label)
    weight = allowed * (anatomy.depth > min(radius, 12.0) + 3.0) * (0.15 + anatomy.gland)
    coarse = weight[::2, ::2, ::2].flatten().double().cpu().numpy()
    if coarse.sum() <= 0:
        return None
    flat = int(np.searchsorted(np.cumsum(coarse), random.random() * coarse.sum()))
    index = np.unravel_index(flat, tuple((n + 1) // 2 for n in weight.shape))
    grid = anatomy.canvas.grid
    return tuple(float(axis[2 * int(i)]) for axis, i in zip((grid.z, grid.y, grid.x), index, strict=True))


def _paint_focus(
    shape: Shape,
    diameter: float,
    tissue: str,
    values: dict[str, float],
    centre: tuple[float, ...],
    anatomy: Anatomy,
    random: np.random.Generator,
    mask: Tensor,
) -> None:
    canvas = anatomy.canvas
    spot = canvas.grid.around(centre, 0.9 * diameter + 4.0)
    if spot is None:
        return
    where, local = spot
    depth = focus_depth(shape, diameter, centre, local, anatomy.gland[where], random)
    share = step(depth, min(local.spacing)) * (anatomy.breast[where] > 0) * step(anatomy.depth[where] - 1.0, 1.0)
    unevenness = random.uniform(0.15, 0.45) if shape == "irregular" else 0.2
    texture = (1 + unevenness * Field(random, local, max(diameter / 5, 2.0)).on(local)).clamp(0.4, 1.6)
    if shape == "rim":
        texture = texture * (1.25 - 0.5 * step(depth - 0.18 * diameter, 2.0))
    canvas.paint(tissue, share, where, uptake=texture, values=values)
    if shape == "rim" or (diameter > 30 and random.random() < 0.4):
        core = step(depth - random.uniform(0.2, 0.3) * diameter, max(min(local.spacing), 1.0))
        canvas.paint("necrosis", core * (share > 0), where)
    mask[where] |= share > 0.5


def focus_depth(
    shape: Shape, diameter: float, centre: tuple[float, ...], local: Grid, gland: Tensor, random: np.random.Generator
) -> Tensor:
    """Depth below the lesion's surface, roughly in mm."""
    radius = diameter / 2
    squeeze = random.uniform(0.6, 1.0, 3)
    squeeze[int(random.integers(3))] = 1.0
    offsets = [axis - c for axis, c in zip(local.coordinates, centre, strict=True)]
    terms = [(o / s) ** 2 for o, s in zip(offsets, squeeze, strict=True)]
    distance = (terms[0] + terms[1] + terms[2] + 1e-6).sqrt()
    depth = radius - distance
    if shape == "irregular":
        return _irregular(radius, distance, local, random)
    if shape == "spiculated":
        return _spiculate(depth, offsets, radius, random)
    if shape == "non-mass":
        clumps = Field(random, local, 7.0).on(local) + 0.5 * Field(random, local, 3.5).on(local)
        return torch.minimum(depth, 5.0 * (clumps + 2.0 * gland - 0.3))
    roughness = {"round": 0.05, "lobulated": 0.22, "rim": 0.12}[shape]
    bumps = Field(random, local, max(0.7 * radius, 1.5)).on(local)
    return depth + roughness * radius * bumps


def _irregular(radius: float, distance: Tensor, local: Grid, random: np.random.Generator) -> Tensor:
    """Bumps upon bumps, with arms, holes and islands, which reach about as far as `radius`."""
    radius = IRREGULAR_SCALE * radius
    depth, height = 0.72 * radius - distance, random.uniform(0.6, 1.3)
    for wavelength, share in IRREGULARITY:
        depth = depth + height * share * radius * Field(random, local, max(wavelength * radius, 2.0)).on(local)
    return depth


def _spiculate(depth: Tensor, offsets: list[Tensor], radius: float, random: np.random.Generator) -> Tensor:
    """A smaller core with straight spikes in random directions."""
    spikes = depth - 0.35 * radius
    along_grid = torch.broadcast_tensors(*offsets)
    for _ in range(int(random.integers(8, 22))):
        direction = random.normal(size=3)
        direction /= np.linalg.norm(direction)
        along = sum(float(d) * o for d, o in zip(direction, along_grid, strict=True))
        assert isinstance(along, Tensor)
        off_axis = (sum(o**2 for o in along_grid) - along**2).clamp_min(0).sqrt()
        length = radius * random.uniform(0.8, 1.0)
        spike = 0.16 * radius * (1 - along / length) - off_axis + 0.4
        spikes = torch.maximum(spikes, torch.where(along > 0, spike, torch.full_like(spike, -9.0)))
    return spikes
