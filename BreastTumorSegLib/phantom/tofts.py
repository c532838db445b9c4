"""The extended Tofts model with Parker's arterial input function, and the spoiled-gradient-echo signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import trapezoid
from torch import Tensor

HEMATOCRIT = 0.42
RELAXIVITY = 4.5
"""Longitudinal relaxivity of gadolinium chelates at 1.5 T, 1 / (mM s)."""


def parker_aif(seconds: np.ndarray) -> np.ndarray:
    """Plasma concentration of contrast agent in mM, `seconds` after the injection.

    Population average of Parker et al., Magn. Reson. Med. 56:993 (2006), equation 1 and table 1, which is of whole
    blood; divided by 1 - haematocrit for plasma. 0 before the injection.
    """
    minutes = np.maximum(np.asarray(seconds, dtype=float) / 60.0, 0.0)
    gaussians = sum(
        area / (width * np.sqrt(2 * np.pi)) * np.exp(-((minutes - peak) ** 2) / (2 * width**2))
        for area, peak, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132))
    )
    washout = 1.050 * np.exp(-0.1685 * minutes) / (1 + np.exp(-38.078 * (minutes - 0.483)))
    return np.where(np.asarray(seconds) > 0, gaussians + washout, 0.0) / (1 - HEMATOCRIT)


def tofts_concentration(ktrans: Tensor, kep: Tensor, vp: Tensor, seconds: float) -> Tensor:
    """Tissue concentration in mM, `seconds` after the injection, by the extended Tofts model.

    C = vp Cp(t) + Ktrans * integral of Cp(s) exp(-kep (t - s)) ds. The integral depends on kep alone, so it is
    tabulated over kep and looked up.

    Args:
        ktrans: Transfer constant, 1/min, any shape.
        kep: Ktrans / ve, 1/min, same shape; 0 to 20.
        vp: Plasma volume fraction, same shape.
        seconds: Time after the injection.
    """
    if seconds <= 0:
        return torch.zeros_like(ktrans)
    table = torch.from_numpy(_uptake_table(seconds)).to(ktrans)
    # The grid is finer at small kep, where most tissues lie: index = sqrt(kep).
    position = (kep.clamp(0, KEP_MAX) / KEP_MAX).sqrt() * (len(table) - 1)
    index = position.long().clamp_max(len(table) - 2)
    fraction = position - index
    uptake = torch.lerp(table[index], table[index + 1], fraction)
    return vp * float(parker_aif(np.array(seconds))) + ktrans * uptake


KEP_MAX = 20.0


def _uptake_table(seconds: float, size: int = 512) -> np.ndarray:
    """Integral of Cp(s) exp(-kep (t - s)) ds in mM min, at `size` values of kep with even square roots."""
    kep = KEP_MAX * np.linspace(0, 1, size) ** 2
    steps = max(int(seconds / 0.25), 400)
    time = np.linspace(0, seconds, steps + 1)
    plasma = parker_aif(time)
    decay = np.exp(-kep[:, None] * (seconds - time)[None] / 60.0)
    return trapezoid(plasma * decay, time / 60.0, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Sequence:
    """A spoiled gradient echo: repetition time in seconds and flip angle in degrees."""

    tr: float = 0.005
    flip: float = 12.0

    def signal(self, m0: Tensor, t1: Tensor, concentration: Tensor | float = 0.0) -> Tensor:
        """Signal in arbitrary units: M0 sin(a) (1 - E1) / (1 - cos(a) E1), E1 = exp(-TR / T1), no T2* decay.

        Args:
            m0: Equilibrium magnetisation, any shape.
            t1: Native T1 in seconds, same shape.
            concentration: Contrast agent in mM, which adds RELAXIVITY x concentration to 1 / T1.
        """
        angle = np.deg2rad(self.flip)
        e1 = torch.exp(-self.tr * (1 / t1 + RELAXIVITY * concentration))
        return m0 * float(np.sin(angle)) * (1 - e1) / (1 - float(np.cos(angle)) * e1)
