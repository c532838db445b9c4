"""The folder layout of the MAMA-MIA data set: `images/CASE/CASE_0000.nii.gz` and `patient_info_files/case.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from BreastTumorSegLib.core.errors import InputError

_PHASE_FILE = re.compile(r"(?P<case>.+)_(?P<phase>\d{4})\.(nii|nii\.gz|nrrd|mha)", re.IGNORECASE)
INFO_FOLDER = "patient_info_files"


def case_of(file: Path) -> str | None:
    """The case that a file named `CASE_0000.nii.gz` belongs to; None for any other name."""
    match = _PHASE_FILE.fullmatch(file.name)
    return match["case"] if match else None


def acquisition_times(files: Sequence[Path]) -> tuple[float, ...] | None:
    """Seconds of each phase from the json of the case that the files belong to, None where there is none.

    The json is looked for beside the volumes, in their parent folder, and in `../../patient_info_files`.

    Raises:
        InputError: The json can't be read.
    """
    case = case_of(files[0])
    file = _info_file(files[0].absolute().parent, case) if case else None
    return _times(file) if file else None


def _info_file(folder: Path, case: str) -> Path | None:
    for place in (folder, folder.parent, folder.parent.parent / INFO_FOLDER):
        for name in dict.fromkeys((case.lower(), case)):
            if (place / f"{name}.json").is_file():
                return place / f"{name}.json"
    return None


def _times(file: Path) -> tuple[float, ...] | None:
    try:
        listed = json.loads(file.read_text(encoding="utf-8")).get("imaging_data", {}).get("acquisition_times")
        # The data set's own tables keep the list as text.
        listed = json.loads(listed) if isinstance(listed, str) else listed
        return tuple(float(time) for time in listed) if listed else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file}: imaging_data.acquisition_times can't be read.", "Correct the file or take it away."
        ) from error
