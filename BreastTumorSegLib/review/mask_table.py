"""Corrected masks of the same item, compared between readers. `analysis` says what the columns mean."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.metrics.surface import hausdorff95
from BreastTumorSegLib.review.checked import Mask, read_correction
from BreastTumorSegLib.review.counting import by_reader
from BreastTumorSegLib.review.records import CorrectionRecord, Item, Study

Row = dict[str, Any]


def mask_rows(study: Study) -> tuple[list[Row], list[str]]:
    """Rows of `dice_between_readers.csv`, and what is wrong with masks that could not be compared."""
    rows: list[Row] = []
    problems: list[str] = []
    readers = by_reader(study.corrections)
    for item in study.items.values():
        records = [records[item.id] for records in readers.values() if item.id in records]
        if len(records) > 1:
            _compare(study, item, records, rows, problems)
    return rows, problems


def _compare(study: Study, item: Item, records: list[CorrectionRecord], rows: list[Row], problems: list[str]) -> None:
    """Add the rows of an item that several readers corrected, or what is wrong."""
    masks: dict[str, Mask] = {}
    for record in records:
        try:
            masks[record.reader] = read_correction(study, record)
        except InputError as error:
            # Not the error itself: it names folders, which may name a patient.
            problems.append(f"Mask {record.file} of {record.reader}, case {item.case}, {error.message}.")
    for (a, (mask_a, grid)), (b, (mask_b, other)) in combinations(masks.items(), 2):
        difference = grid.difference(other)
        if difference:
            problems.append(f"Masks of {a} and {b}, case {item.case}, differ in geometry: {difference}.")
            continue
        rows.append(
            {"item": item.id, "case": item.case, "model": item.model, "reader_a": a, "reader_b": b}
            | {"dice": dice(mask_a, mask_b, empty=float("nan"))}
            | {"hd95_mm": hausdorff95(mask_a, mask_b, grid.spacing_zyx)}
        )
