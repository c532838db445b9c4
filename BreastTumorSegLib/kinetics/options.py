"""Thresholds and times of the kinetic maps and of the functional tumour volume, with the usual defaults."""

from __future__ import annotations

from dataclasses import dataclass

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.kinetics.enhancement import EARLY_S, ENHANCING_PE, LATE_S


@dataclass(frozen=True)
class KineticOptions:
    """What somebody may choose; see `enhancement` and `ftv` for where the defaults come from.

    Attributes:
        early_s: Seconds after injection at which early enhancement is read.
        late_s: The same of late enhancement.
        least_pe: Peak percent enhancement from which a voxel has a curve type.
        curve_change: Percent of the early signal by which the late one must differ to be no plateau (BI-RADS).
        ftv_background: Percent of the box's 95th percentile below which pre-contrast signal is background.
        ftv_pe: Least early percent enhancement of the functional tumour volume.
        ftv_neighbors: Of a voxel's 26 neighbours, how many must pass those two thresholds as well.
        ftv_ser: Least signal enhancement ratio of the functional tumour volume.

    Raises:
        InputError: Something is negative, or late is not after early.
    """

    early_s: float = EARLY_S
    late_s: float = LATE_S
    least_pe: float = ENHANCING_PE
    curve_change: float = 10.0
    ftv_background: float = 60.0
    ftv_pe: float = 70.0
    ftv_neighbors: int = 4
    ftv_ser: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} is {value}.", "Give a number that is not negative.")
        if self.late_s <= self.early_s:
            raise InputError(f"late_s {self.late_s:g} is not after early_s {self.early_s:g}.", "Give a later one.")


USUAL = KineticOptions()
