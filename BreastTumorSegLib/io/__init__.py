"""Reads exams from DICOM, NIfTI, NRRD and MAMA-MIA folders, and writes results. Imports no torch."""

from BreastTumorSegLib.io.exam import load_exam, read_phase_table
from BreastTumorSegLib.io.files import read_volume, write_volume
from BreastTumorSegLib.io.result_files import write_noncontrast_result, write_result
from BreastTumorSegLib.io.results import refuse_over_input, results_folder

__all__ = [
    "load_exam",
    "read_phase_table",
    "read_volume",
    "refuse_over_input",
    "results_folder",
    "write_noncontrast_result",
    "write_result",
    "write_volume",
]
