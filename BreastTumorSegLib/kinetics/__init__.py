"""Enhancement maps, curve types and clusters of time-intensity curves. Imports no torch."""

from BreastTumorSegLib.kinetics.clusters import cluster_curves
from BreastTumorSegLib.kinetics.enhancement import (
    KineticMaps,
    curve_types,
    kinetic_maps,
    percent_enhancement,
    signal_enhancement_ratio,
)

__all__ = [
    "KineticMaps",
    "cluster_curves",
    "curve_types",
    "kinetic_maps",
    "percent_enhancement",
    "signal_enhancement_ratio",
]
