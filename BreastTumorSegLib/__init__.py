"""Breast tumour segmentation, kinetics and heterogeneity maps from breast DCE-MRI. Research use only."""

__version__ = "0.1.0"
