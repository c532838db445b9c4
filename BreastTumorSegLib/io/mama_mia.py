"""The folder layout of the MAMA-MIA data set: `images/CASE/CASE_0000.nii.gz` and `patient_info_files/case.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
        return listed_times(read_info(file))
    except ValueError as error:
        raise InputError(
            f"{file}: imaging_data.acquisition_times can't be read.", "Correct the file or take it away."
        ) from error


def read_info(file: Path) -> dict[str, Any]:
    """The json of one case: patient_id, clinical_data, primary_lesion, imaging_data.

    Raises:
        ValueError: It can't be read, or is no such json.
    """
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(info, dict):
        raise ValueError("it is no object")
    return info


def listed_times(info: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Seconds of each phase, wherever a case's json or a row of the clinical table has `acquisition_times`.

    The table has them in a column; the json is expected to have them in `imaging_data`, and needn't have them: the
    challenge's own has none.

    Raises:
        ValueError: They are no list of numbers.
    """
    sections = [info.get("imaging_data"), info, *info.values()]
    found = (section["acquisition_times"] for section in sections if _has_times(section))
    listed = next(found, None)
    # The data set's own table keeps the list as text.
    listed = json.loads(listed) if isinstance(listed, str) else listed
    try:
        return tuple(float(time) for time in listed) if listed else None
    except TypeError as error:
        raise ValueError(f"{listed!r} is no list of numbers") from error


def _has_times(section: Any) -> bool:
    listed = section.get("acquisition_times") if isinstance(section, Mapping) else None
    # A table's empty cell is NaN where pandas has exported it.
    return bool(listed) and listed == listed and str(listed).lower() != "nan"
