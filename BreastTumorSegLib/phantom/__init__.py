"""Simulated breast DCE-MRI exams with every ground truth."""
