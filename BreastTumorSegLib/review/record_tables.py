"""Tables of what readers saved, and summaries of it. `analysis` says what the columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from BreastTumorSegLib.review.counting import by_reader, counting, models, of_model
from BreastTumorSegLib.review.records import Change, CorrectionRecord, Score, ScoreRecord, Study

Row = dict[str, Any]


def score_rows(study: Study) -> list[Row]:
    """Rows of `scores.csv`."""
    last = {record.id for record in counting(study.scores)}
    return [_score_row(study, record) | {"counts": int(record.id in last)} for record in study.scores]


def correction_rows(study: Study) -> list[Row]:
    """Rows of `corrections.csv`."""
    last = {record.id for record in counting(study.corrections)}
    return [_correction_row(study, record) | {"counts": int(record.id in last)} for record in study.corrections]


def reader_rows(study: Study) -> list[Row]:
    """Rows of `readers.csv`."""
    scores, repeats, corrections = (
        by_reader(study.scores),
        by_reader(study.scores, repeat=True),
        by_reader(study.corrections),
    )
    return [
        {"reader": reader, "model": model}
        | _scored(list(of_model(study, scores.get(reader, {}), model)))
        | {"repeats": len(list(of_model(study, repeats.get(reader, {}), model)))}
        | _corrected(list(of_model(study, corrections.get(reader, {}), model)))
        for reader in sorted(scores.keys() | corrections.keys())
        for model in models(study)
    ]


def changes_by_score(study: Study) -> dict[str, dict[Score, list[Change]]]:
    """What each reader changed, by the score that the same reader gave; without a score it is left out."""
    corrections = by_reader(study.corrections)
    found: dict[str, dict[Score, list[Change]]] = {}
    for reader, scores in by_reader(study.scores).items():
        for item, record in scores.items():
            correction = corrections.get(reader, {}).get(item)
            if record.score and correction:
                changes = found.setdefault(reader, {score: [] for score in Score})
                changes[record.score].append(correction.change)
    return found


def change_rows(study: Study) -> list[Row]:
    """Rows of `change_by_score.csv`."""
    return [
        {"reader": reader, "score": score.value, "n": len(changes)} | _quartiles(changes)
        for reader, groups in changes_by_score(study).items()
        for score, changes in groups.items()
    ]


def finite(values: Iterator[float] | Sequence[float]) -> np.ndarray:
    """The finite ones of some numbers, (N,)."""
    numbers = np.array(list(values), float)
    return numbers[np.isfinite(numbers)]


def median(values: Iterator[float] | Sequence[float]) -> float:
    """Median of the finite ones; NaN where there are none."""
    numbers = finite(values)
    return float(np.median(numbers)) if len(numbers) else float("nan")


def _score_row(study: Study, record: ScoreRecord) -> Row:
    return _place(study, record) | {
        "score": record.score.value if record.score else "",
        "exclusion": record.exclusion.value if record.exclusion else "",
        "comment": record.comment,
        "seconds": record.seconds,
        "saved_at": record.saved_at,
    }


def _correction_row(study: Study, record: CorrectionRecord) -> Row:
    files = {"file": record.file, "sha256": record.sha256, "automatic_sha256": record.automatic_sha256}
    when = {"seconds": record.seconds, "saved_at": record.saved_at}
    return _place(study, record) | asdict(record.change) | files | when


def _place(study: Study, record: ScoreRecord | CorrectionRecord) -> Row:
    item = study.items[record.item]
    return {
        "reader": record.reader,
        "item": item.id,
        "case": item.case,
        "model": item.model,
        "site": item.site,
        "stratum": item.stratum,
        "position": record.position,
        "repeat": int(record.repeat),
    }


def _scored(records: Sequence[ScoreRecord]) -> Row:
    given = [record.score for record in records if record.score]
    counts = {score.value.lower(): given.count(score) for score in Score}
    shares = {f"{name}_share": number / len(given) if given else np.nan for name, number in counts.items()}
    seconds = [record.seconds for record in records]
    times = {
        "seconds_median": median(seconds),
        "seconds_mean": float(np.mean(seconds)) if seconds else np.nan,
        "seconds_total": float(sum(seconds)),
    }
    return {"scored": len(given), "excluded": len(records) - len(given)} | counts | shares | times


def _corrected(records: Sequence[CorrectionRecord]) -> Row:
    return {
        "corrections": len(records),
        "correction_seconds_median": median([record.seconds for record in records]),
        "added_ml_median": median([record.change.added_ml for record in records]),
        "removed_ml_median": median([record.change.removed_ml for record in records]),
    }


def _quartiles(changes: Sequence[Change]) -> Row:
    row: Row = {}
    for name in ("dice", "hd95_mm", "added_ml", "removed_ml"):
        values = finite([getattr(change, name) for change in changes])
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist() if len(values) else [np.nan] * 3
        row |= {f"{name}_n_finite": len(values), f"{name}_q1": low, f"{name}_median": middle, f"{name}_q3": high}
    return row
