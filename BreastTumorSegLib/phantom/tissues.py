"""Tissues of the simulated body: labels, magnetisation, T1 and Tofts parameters, and the canvas they are painted on."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.phantom.grid import Grid


@dataclass(frozen=True)
class Tissue:
    """Ranges that an exam draws from, each (low, high).

    Ranges start from the DRO-BreastDCEMRI digital reference object, with T1 of 1.5 T. They deviate where its values
    would not do for training: gland goes down to no enhancement at all, malignant tissue starts at a Ktrans of 0.1
    instead of 0.04 and benign at 0.07, so that a lesion can be seen, and blood keeps its native T1. `m0` is relative
    to water.
    """

    label: int
    m0: tuple[float, float]
    t1: tuple[float, float]
    ktrans: tuple[float, float] = (0.0, 0.0)
    ve: tuple[float, float] = (0.3, 0.3)
    vp: tuple[float, float] = (0.0, 0.0)


TISSUES = {
    "air": Tissue(0, (0.0, 0.0), (1.0, 1.0)),
    "fat": Tissue(1, (0.85, 1.0), (0.26, 0.36), (0.0, 0.001), (0.1, 0.2), (0.0, 0.005)),
    "fibroglandular": Tissue(2, (0.75, 1.0), (1.0, 1.4), (0.001, 0.035), (0.3, 0.5), (0.005, 0.05)),
    "skin": Tissue(3, (0.5, 0.8), (0.7, 1.0), (0.009, 0.03), (0.2, 0.4), (0.04, 0.13)),
    "nipple": Tissue(4, (0.6, 0.9), (0.9, 1.2), (0.03, 0.09), (0.25, 0.4), (0.04, 0.12)),
    "muscle": Tissue(5, (0.6, 0.85), (0.9, 1.4), (0.011, 0.05), (0.12, 0.25), (0.01, 0.06)),
    "bone": Tissue(6, (0.15, 0.45), (0.4, 0.9), (0.0, 0.02), (0.1, 0.2), (0.0, 0.03)),
    "lung": Tissue(7, (0.03, 0.12), (1.0, 1.3), (0.01, 0.05), (0.2, 0.3), (0.05, 0.15)),
    "heart": Tissue(8, (0.7, 1.0), (1.1, 1.6), (0.37, 0.81), (0.15, 0.3), (0.21, 0.37)),
    "liver": Tissue(9, (0.7, 1.0), (0.5, 0.85), (0.4, 0.98), (0.1, 0.4), (0.1, 0.4)),
    "vessel": Tissue(10, (0.7, 1.0), (1.2, 1.8), (0.0, 0.0), (0.3, 0.3), (0.3, 0.6)),
    "node": Tissue(11, (0.75, 1.0), (1.1, 1.5), (0.06, 0.2), (0.2, 0.35), (0.03, 0.15)),
    "implant": Tissue(12, (0.02, 0.15), (1.5, 2.5)),
    "malignant": Tissue(13, (0.8, 1.05), (1.1, 1.6), (0.1, 0.385), (0.12, 0.35), (0.05, 0.2)),
    "benign": Tissue(14, (0.8, 1.05), (1.1, 1.5), (0.07, 0.145), (0.3, 0.5), (0.01, 0.08)),
    "necrosis": Tissue(15, (0.8, 1.0), (1.5, 2.2), (0.0, 0.012), (0.3, 0.4), (0.0, 0.01)),
}
"""Every tissue by name; the labels are those of the ground truth's `tissues` volume."""


class Canvas:
    """Maps of what the scanner will see, painted tissue by tissue from the back to the front.

    Attributes:
        label: uint8 (Z, Y, X), label of the tissue with more than half of a voxel.
        m0, t1, ktrans, ve, vp: float32 (Z, Y, X); relative, seconds, 1/min, fraction, fraction.
        fat: Share of fat in a voxel, which fat suppression acts on.
    """

    maps = ("m0", "t1", "ktrans", "ve", "vp", "fat")

    def __init__(self, grid: Grid, random: np.random.Generator, spread: float = 0.0) -> None:
        device = grid.x.device
        self.grid = grid
        self.label = torch.zeros(grid.shape, dtype=torch.uint8, device=device)
        self.m0, self.ktrans, self.vp, self.fat = (torch.zeros(grid.shape, device=device) for _ in range(4))
        self.t1 = torch.ones(grid.shape, device=device)
        self.ve = torch.full(grid.shape, 0.3, device=device)
        self._values = {name: draw(tissue, random, spread) for name, tissue in TISSUES.items()}

    def slab(self, z: slice) -> Canvas:
        """A view of the slices `z`."""
        part = copy.copy(self)
        part.grid = self.grid.slab(z)
        for name in ("label", *self.maps):
            setattr(part, name, getattr(self, name)[z])
        return part

    def paint(
        self,
        name: str,
        share: Tensor,
        where: tuple[slice, slice, slice] = (slice(None), slice(None), slice(None)),
        uptake: Tensor | float = 1.0,
        values: dict[str, float] | None = None,
    ) -> None:
        """Cover a `share` (0 to 1) of each voxel with a tissue.

        Args:
            name: Key of `TISSUES`.
            share: Of each voxel, shape of `where`.
            where: Part of the canvas.
            uptake: Factor on Ktrans and vp, for patterns inside a tissue.
            values: The tissue's values, if not those drawn for the exam.
        """
        drawn = values or self._values[name]
        for key in self.maps:
            target = getattr(self, key)[where]
            value: Tensor | float = float(name == "fat") if key == "fat" else drawn[key]
            if key in ("ktrans", "vp"):
                value = value * uptake
            target += share * (value - target)
        self.label[where][share > 0.5] = TISSUES[name].label


def draw(tissue: Tissue, random: np.random.Generator, spread: float = 0.0) -> dict[str, float]:
    """Values of a tissue for one exam or one lesion, drawn evenly from its ranges.

    A `spread` gives magnetisation and uptake log-normal factors of that standard deviation: more variation than physics
    has, for training.
    """
    keys = ("m0", "t1", "ktrans", "ve", "vp")
    values = {key: float(random.uniform(*getattr(tissue, key))) for key in keys}
    for key in ("m0", "ktrans", "vp"):
        values[key] *= random.lognormal(0, spread)
    return values
