"""Overlap, surface distances and lesion-wise detection. Imports no torch."""
