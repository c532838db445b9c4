"""Finds BreastTumorSegLib: beside the module where the extension is installed, beside its folder in the source tree."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[1]


def library_parent() -> Path:
    """The folder that holds BreastTumorSegLib; workers start in it, since PythonSlicer drops Slicer's search path.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    for parent in (MODULE_FOLDER, MODULE_FOLDER.parent):
        if (parent / "BreastTumorSegLib" / "__init__.py").is_file():
            return parent
    raise FileNotFoundError(f"BreastTumorSegLib is not beside {MODULE_FOLDER}. Install the extension again.")


def python() -> str:
    """Slicer's Python for processes of their own; it is on the path of a running Slicer."""
    return shutil.which("PythonSlicer") or "PythonSlicer"


def make_importable() -> None:
    """Let Slicer's own Python import the library; last in the search path, so that it hides nothing."""
    parent = str(library_parent())
    if parent not in sys.path:
        sys.path.append(parent)
