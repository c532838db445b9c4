"""Whole jobs, as commands run them: one exam from its files to its report, and many exams on Dask."""
