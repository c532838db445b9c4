"""The clinical table of MAMA-MIA, as released (.xlsx, sheet `dataset_info`) or exported as CSV."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from BreastTumorSegLib.core.errors import InputError

NAME = "clinical_and_imaging_info"
SHEET = "dataset_info"
GROUPS = {
    "age": ("age",),
    "menopausal_status": ("menopausal_status", "menopause"),
    "breast_density": ("breast_density",),
}
"""Groups of a case, and what the table and the json call them."""


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV by its first line, as text; names of columns in lower case.

    Raises:
        InputError: There is no such file, or it is no text in UTF-8.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist.", "Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no CSV in UTF-8.", "Save the table as CSV in UTF-8.") from error
    return _rows(rows)


def clinical_rows(folder: Path) -> tuple[dict[str, dict[str, str]], str | None]:
    """Rows of the clinical table of a MAMA-MIA folder by case in upper case, and a note where it can't be used.

    A CSV is preferred, because it needs no package; the `.xlsx` needs openpyxl.

    Raises:
        InputError: The table is damaged.
    """
    exported, released = folder / f"{NAME}.csv", folder / f"{NAME}.xlsx"
    if exported.is_file():
        rows = read_table(exported)
    elif released.is_file() and find_spec("openpyxl") is None:
        note = f"{released} is not read, as openpyxl is not installed; install it, or export the table as {NAME}.csv."
        return {}, note
    elif released.is_file():
        rows = _read_workbook(released)
    else:
        return {}, None
    return {row["patient_id"].upper(): row for row in rows if row.get("patient_id")}, None


def groups_of(row: Mapping[str, object]) -> dict[str, str]:
    """Age, menopausal status and breast density, as far as a row or a json's `clinical_data` knows them.

    A number is the same text from either; a status keeps its first word: the table has "pre (<6 months since ...)".
    """
    found = {
        group: next((_text(row[key]) for key in keys if _text(row.get(key))), "") for group, keys in GROUPS.items()
    }
    return {group: text for group, text in found.items() if text}


def _text(value: object) -> str:
    text = "" if value is None else str(value).partition("(")[0].strip()
    if text.lower() in ("nan", "none"):
        return ""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _read_workbook(file: Path) -> list[dict[str, str]]:
    from openpyxl import load_workbook

    try:
        book = load_workbook(file, read_only=True, data_only=True)
        sheet = book[SHEET] if SHEET in book.sheetnames else book.worksheets[0]
        cells = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        book.close()
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} can't be read as a table.", f"Export it as {NAME}.csv.") from error
    return _rows(cells)


def _rows(cells: list[list[str]]) -> list[dict[str, str]]:
    """Rows as dictionaries; blank lines are left out, and short ones are filled up."""
    if not cells:
        return []
    head = [name.strip().lower() for name in cells[0]]
    filled = (row + [""] * (len(head) - len(row)) for row in cells[1:] if any(cell.strip() for cell in row))
    return [{name: cell.strip() for name, cell in zip(head, row, strict=False)} for row in filled]
