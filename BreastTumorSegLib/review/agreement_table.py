"""Agreement of readers' scores, between readers and within them. `analysis` says what the columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from BreastTumorSegLib.metrics.agreement import (
    Statistic,
    cohen_kappa,
    estimate,
    fleiss_kappa_of_sums,
    fleiss_parts,
    observed_agreement,
)
from BreastTumorSegLib.review.counting import ALL, models, scores_by_reader
from BreastTumorSegLib.review.records import Score, Study

Row = dict[str, Any]
Given = Mapping[str, Score]  # by item

PLACE = {score: place for place, score in enumerate(Score)}
# Good against Corrections needed, the paper's binary scheme.
TWO_CLASSES = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])


def agreement_rows(study: Study) -> list[Row]:
    """Rows of `agreement.csv`."""
    return [row for model in models(study) for row in _rows_of_model(study, model)]


def confusion_tables(study: Study) -> dict[tuple[str, str], np.ndarray]:
    """Scores of each two readers who share an item, counted: (4, 4), rows the first reader's, columns the second's."""
    readers = scores_by_reader(study)
    tables = {
        (a, b): _pair_parts(readers[a], readers[b], _shared([readers[a], readers[b]])).sum(0).astype(int)
        for a, b in combinations(readers, 2)
    }
    return {pair: table for pair, table in tables.items() if table.any()}


def _rows_of_model(study: Study, model: str) -> Iterator[Row]:
    """Rows of one model; a comparison without a shared item has none."""
    first, again = (_of_model(study, scores_by_reader(study, repeat), model) for repeat in (False, True))
    pairs = [("between", a, b, first[a], first[b]) for a, b in combinations(first, 2)]
    pairs += [("within", reader, reader, first[reader], again.get(reader, {})) for reader in first]
    for kind, reader_a, reader_b, a, b in pairs:
        shared = _shared([a, b])
        cases = [study.items[item].case for item in shared]
        names = {"kind": kind, "reader_a": reader_a, "reader_b": reader_b, "model": model}
        yield from _rows(names, _pair_parts(a, b, shared), cases, PAIR_STATISTICS)
    if len(first) > 2:
        shared = _shared(list(first.values()))
        cases = [study.items[item].case for item in shared]
        counts = sum((_one_hot(given, shared) for given in first.values()), np.zeros((len(shared), len(Score))))
        names = {"kind": ALL, "reader_a": "", "reader_b": "", "model": model}
        for name, classes in (("fleiss_kappa_4", counts), ("fleiss_kappa_2", counts @ TWO_CLASSES)):
            yield from _rows(names, fleiss_parts(classes), cases, {name: fleiss_kappa_of_sums})


def _rows(names: Row, parts: np.ndarray, cases: Sequence[str], statistics: Mapping[str, Statistic]) -> Iterator[Row]:
    if not cases:
        return
    for name, statistic in statistics.items():
        yield names | {"n": len(cases), "statistic": name} | estimate(parts, cases, statistic)._asdict()


def _of_model(study: Study, readers: Mapping[str, Given], model: str) -> dict[str, Given]:
    """Each reader's scores of a model's masks."""
    return {
        reader: {item: score for item, score in given.items() if model in (ALL, study.items[item].model)}
        for reader, given in readers.items()
    }


def _shared(given: Sequence[Given]) -> list[str]:
    return sorted(set.intersection(*map(set, given)))


def _pair_parts(a: Given, b: Given, items: Sequence[str]) -> np.ndarray:
    """A table with a single 1 for each item, (N, 4, 4)."""
    return _one_hot(a, items)[:, :, None] * _one_hot(b, items)[:, None, :]


def _one_hot(given: Given, items: Sequence[str]) -> np.ndarray:
    """(N, 4), 1 at the score."""
    return np.eye(len(Score))[[PLACE[given[item]] for item in items]].reshape(len(items), len(Score))


def _on_two_classes(statistic: Statistic, table: np.ndarray) -> np.ndarray:
    return statistic(TWO_CLASSES.T @ table @ TWO_CLASSES)


PAIR_STATISTICS: dict[str, Statistic] = {
    "cohen_kappa_4": cohen_kappa,
    "cohen_kappa_4_quadratic": partial(cohen_kappa, quadratic=True),
    "cohen_kappa_2": partial(_on_two_classes, cohen_kappa),
    "agreement_4": observed_agreement,
    "agreement_2": partial(_on_two_classes, observed_agreement),
}
"""Statistics of two readers, from their table of four by four."""
