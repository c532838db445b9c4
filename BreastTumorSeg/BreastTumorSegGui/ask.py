"""Questions to the user."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

VOLUME_FILES = "*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd"


def for_folder(title: str) -> Path | None:
    """A folder that the user chose; None where there is none."""
    chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
    return Path(chosen) if chosen else None


def for_volume_files(title: str) -> list[Path]:
    """Volume files that the user chose, in the order of the dialog."""
    chosen = qt.QFileDialog.getOpenFileNames(slicer.util.mainWindow(), title, "", f"Volumes ({VOLUME_FILES})")
    return [Path(file) for file in chosen]


def for_file(title: str, kind: str, pattern: str) -> Path | None:
    """A file that the user chose; None where there is none."""
    chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", f"{kind} ({pattern})")
    return Path(chosen) if chosen else None


def whether(question: str, title: str) -> bool:
    """True where the user agreed."""
    return slicer.util.confirmOkCancelDisplay(question, title)
