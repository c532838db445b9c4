"""The tables of a cohort: what came of every case, and which failed and why."""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from BreastTumorSegLib.core.errors import BreastTumorSegError
from BreastTumorSegLib.io.results import output_errors

COHORT = "cohort.csv"
COLUMNS = ("case", "status", "seconds", "lesions", "tumor_ml", "warnings")
FAILED = "failed.csv"
FAILED_COLUMNS = ("case", "code", "message", "remedy")


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: Its name.
        seconds: From its first file read to its folder in place; None where an earlier run did it.
        lesions: How many; None where it failed.
        tumor_ml: Volume of all lesions in millilitres; None where it failed.
        warnings: How many; None where it failed.
        code: Exit code that `segment` would have had; 0 where all went well.
        message: What was wrong.
        remedy: What can be done.
    """

    case: str
    seconds: float | None = None
    lesions: int | None = None
    tumor_ml: float | None = None
    warnings: int | None = None
    code: int = 0
    message: str = ""
    remedy: str = ""

    @property
    def status(self) -> str:
        """`done` or `failed`."""
        return "failed" if self.code else "done"


def succeeded(case: str, manifest: Mapping[str, Any], seconds: float | None = None) -> Outcome:
    """The outcome of a case with the contents of its `result.json`."""
    volume = round(sum(lesion["volume_ml"] for lesion in manifest["lesions"]), 3)
    return Outcome(case, seconds, len(manifest["lesions"]), volume, len(manifest["warnings"]))


def failure(case: str, exam: Path, error: BreastTumorSegError, seconds: float | None = None) -> Outcome:
    """The outcome of a case that failed; folders above the exam may tell whose it is, and are left out."""
    message, remedy = (text.replace(str(exam), case) for text in (error.message, error.remedy))
    return Outcome(case, seconds, code=error.exit_code, message=message, remedy=remedy)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The contents of a folder's `result.json`; None where there is none that can be read."""
    try:
        manifest = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def write_tables(out: Path, outcomes: Iterable[Outcome]) -> None:
    """Bring `cohort.csv` and `failed.csv` up to date; rows of other cases stay, as commands may share `out`.

    Raises:
        OutputError: A table can't be written.
    """
    known = _rows(out / COHORT)
    failed = _rows(out / FAILED)
    for outcome in outcomes:
        if outcome.seconds is None and not outcome.code and known.get(outcome.case, {}).get("status") == "done":
            continue  # the row of the run that did it has its seconds
        known[outcome.case] = {column: _shown(getattr(outcome, column)) for column in COLUMNS}
        failed.pop(outcome.case, None)
        if outcome.code:
            failed[outcome.case] = {column: _shown(getattr(outcome, column)) for column in FAILED_COLUMNS}
    _write(out / COHORT, COLUMNS, known)
    _write(out / FAILED, FAILED_COLUMNS, failed)


def _shown(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows by case; what is no such table is no row."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["case"]: row for row in csv.DictReader(file) if row.get("case")}
    except FileNotFoundError:
        return {}


def _write(path: Path, columns: tuple[str, ...], rows: Mapping[str, Mapping[str, str]]) -> None:
    partial = path.with_name(f".{path.name}.partial-{socket.gethostname()}-{os.getpid()}")
    with output_errors(path):
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows[case] for case in sorted(rows))
        partial.replace(path)
