"""Which exams a cohort has, and what each is called."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.io.files import check_name, is_volume_file

IMAGES = "images"
"""Folder of the cases in MAMA-MIA's layout."""
_NOT_IN_NAMES = frozenset('/\\:*?"<>|')


@dataclass(frozen=True)
class Case:
    """An exam in a cohort.

    Attributes:
        name: Of its folder of results: a plain name, and each there once.
        exam: What `segment` takes: a folder or a 4D volume; absolute.
    """

    name: str
    exam: Path


def find_cases(listed: Path, out: Path) -> list[Case]:
    """The exams of a list or a folder, in its order.

    Args:
        listed: A CSV with the columns case and exam; a text file of one path a line; a folder with `images/CASE` or
            with CASE. Paths in a file are relative to it. That an exam is there is not looked at.
        out: Folder of results, which is no case where it is within `listed`.

    Raises:
        InputError: There is no such list, it holds no exam, or names that are no plain ones or there twice.
    """
    if listed.is_dir():
        cases = _in_folder(listed, out)
    elif listed.suffix.lower() == ".csv":
        cases = _in_table(listed)
    else:
        cases = [_case(listed, line.strip()) for line in _text(listed).splitlines() if line.strip()]
    if not cases:
        raise InputError(
            f"{listed} holds no exam.", "Give a folder of exams, a CSV with case,exam, or a list of paths."
        )
    _check_names(cases, listed)
    return cases


def _in_folder(folder: Path, out: Path) -> list[Case]:
    images = folder / IMAGES
    places = (images if images.is_dir() else folder).absolute().iterdir()
    found = (path for path in places if not path.name.startswith(".") and path.resolve() != out.resolve())
    return [Case(_name_of(path), path) for path in sorted(found) if path.is_dir() or is_volume_file(path)]


def _in_table(file: Path) -> list[Case]:
    rows = csv.DictReader(io.StringIO(_text(file)))
    if not {"case", "exam"} <= set(rows.fieldnames or ()):
        raise InputError(f"{file} has no columns case and exam.", "Name them in its first line: case,exam.")
    pairs = [((row["case"] or "").strip(), (row["exam"] or "").strip()) for row in rows]
    if ("", "") in pairs or any(not exam for _, exam in pairs):
        raise InputError(f"{file}: a row has no exam.", "Complete the row, or take it out.")
    return [_case(file, exam, case) for case, exam in pairs]


def _case(file: Path, exam: str, name: str | None = None) -> Case:
    path = (file.parent / exam).absolute()
    return Case(_name_of(path) if name is None else name, path)


def _name_of(path: Path) -> str:
    """`CASE` for `CASE/` and for `CASE.nii.gz`."""
    return path.name.partition(".")[0] if is_volume_file(path) and not path.is_dir() else path.name


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8.", "Save the list as UTF-8.") from error


def _check_names(cases: Sequence[Case], listed: Path) -> None:
    for case in cases:
        check_name(Path(case.name))
        if not case.name or case.name.startswith(".") or case.name.endswith(".") or _NOT_IN_NAMES & set(case.name):
            raise InputError(f"{listed}: {case.name!r} can't be a folder's name.", "Give the case a plain name.")
    # Some disks don't tell capitals apart.
    counts = Counter(case.name.casefold() for case in cases)
    twice = next((case.name for case in cases if counts[case.name.casefold()] > 1), None)
    if twice is not None:
        raise InputError(
            f"{listed} has the case {twice!r} more than once.", "Give each case a name of its own, in a CSV."
        )
