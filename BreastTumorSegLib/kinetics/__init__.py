"""Enhancement maps, curve types and clusters of time-intensity curves. Imports no torch."""

from BreastTumorSegLib.kinetics.clusters import cluster_curves
from BreastTumorSegLib.kinetics.enhancement import percent_enhancement, signal_enhancement_ratio
from BreastTumorSegLib.kinetics.ftv import functional_tumor_volume
from BreastTumorSegLib.kinetics.maps import curve_types, kinetic_maps
from BreastTumorSegLib.kinetics.options import KineticOptions

__all__ = [
    "KineticOptions",
    "cluster_curves",
    "curve_types",
    "functional_tumor_volume",
    "kinetic_maps",
    "percent_enhancement",
    "signal_enhancement_ratio",
]
