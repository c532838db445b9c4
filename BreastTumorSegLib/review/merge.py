"""Readers' stores into one, for the analysis."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.review.database import masks_of
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import CorrectionRecord
from BreastTumorSegLib.review.store import MERGED, Store, read_study


def merge(out: Path, stores: Sequence[Path]) -> list[str]:
    """Add stores to a merged store, which is made where there is none. Doing so again changes nothing.

    Returns:
        What is wrong with masks of theirs, in words; the records are merged all the same.

    Raises:
        StoreError: A store is missing, damaged or of a newer version, or `out` is a reader's.
        OutputError: `out` can't be written.
    """
    studies = [read_study(path) for path in stores]
    problems = []
    merged = Store(out, MERGED)
    try:
        for study in studies:
            # Masks first: a record in the merged store has its file.
            problems += [_copy(record, study.masks, masks_of(out)) for record in study.corrections]
            merged.take_in(study)
    finally:
        merged.close()
    return [problem for problem in problems if problem]


def _copy(record: CorrectionRecord, source: Path, target: Path) -> str:
    """Copy a mask where it is not there; what is wrong with it in words."""
    place = target / record.file
    if place.is_file() and sha256_of(place) == record.sha256:
        return ""
    origin = source / record.file
    if not origin.is_file():
        return f"The mask {origin} is missing."
    if sha256_of(origin) != record.sha256:
        return f"The mask {origin} is not what was saved: its checksum differs."
    with output_errors(place):
        target.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".partial-{place.name}")
        shutil.copyfile(origin, partial)
        partial.replace(place)
    return ""
