"""Reads exams from DICOM, NIfTI, NRRD and MAMA-MIA folders, and writes results. Imports no torch."""
