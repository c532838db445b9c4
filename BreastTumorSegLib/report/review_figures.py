"""The figures of a reader study's report, each as the source of an HTML image."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from BreastTumorSegLib.core.colors import SCORES, cluster_color
from BreastTumorSegLib.report.pictures import source
from BreastTumorSegLib.review.comparison import MANUAL
from BreastTumorSegLib.review.record_tables import finite
from BreastTumorSegLib.review.records import Change, Score

WIDTH_IN = 10.5
LONGEST_NAME = 22
CROWDED = 6  # readers from which on their names are turned
GREY, PALE, ADDED, REMOVED = "#5b6675", "#aab4c2", "#4aa564", "#e58bb5"  # added and removed as in the paper's figure 6
KAPPAS = {
    "cohen_kappa_4": ("four classes", "#c2352b", "o"),
    "cohen_kappa_4_quadratic": ("four classes, quadratic weights", "#f0b429", "D"),
    "cohen_kappa_2": ("two classes", "#3b7dbd", "s"),
}
FLEISS = {"fleiss_kappa_4": "cohen_kappa_4", "fleiss_kappa_2": "cohen_kappa_2"}  # drawn like these
FROM_SCRATCH, MODELS = "o", "sD^vP*X"  # markers
OFFSET = 0.22  # between the markers of one comparison


def dice_and_distance(changes: Mapping[Score, Sequence[Change]]) -> str:
    """Dice and 95th percentile of the Hausdorff distance by score, as in figure 7 of MAMA-MIA's paper."""
    figure = Figure(figsize=(WIDTH_IN, 3.9), dpi=130, layout="constrained")
    measures = (("dice", "Dice, automatic against corrected"), ("hd95_mm", "HD95, mm, automatic against corrected"))
    for axes, (name, title) in zip(figure.subplots(1, 2), measures, strict=True):
        values = [finite([getattr(change, name) for change in changes[score]]) for score in Score]
        _boxes(axes, values, np.arange(len(values)), SCORES)
        axes.set_xticks(range(len(values)), _numbered([score.value for score in Score], values))
        axes.set_ylabel(title)
        axes.set_ylim(-0.02, 1.02) if name == "dice" else axes.set_ylim(bottom=0)
    return _source(figure)


def seconds(readers: Mapping[str, Sequence[float]]) -> str:
    """Seconds a mask, by reader."""
    figure, axes = _wide(3.6)
    values = [finite(values) for values in readers.values()]
    _boxes(axes, values, np.arange(len(values)), [PALE] * len(values))
    _reader_ticks(axes, list(readers), values)
    axes.set_ylabel("Seconds a mask")
    axes.set_ylim(bottom=0)
    return _source(figure)


def volumes(readers: Mapping[str, Sequence[Change]]) -> str:
    """Millilitres that corrections added and removed, by reader; the axis is linear below 1 ml, then logarithmic."""
    figure, axes = _wide(3.9)
    for offset, name, color in ((-0.2, "added_ml", ADDED), (0.2, "removed_ml", REMOVED)):
        values = [finite([getattr(change, name) for change in changes]) for changes in readers.values()]
        _boxes(axes, values, np.arange(len(values)) + offset, [color] * len(values), width=0.34)
        axes.bar(0, 0, color=color, label=name.removesuffix("_ml"))
    _reader_ticks(axes, list(readers), list(readers.values()))
    axes.set_yscale("symlog", linthresh=1)
    ticks = [tick for tick in (0, 0.5, 1, 10, 100, 1000) if tick <= 2 * axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Millilitres")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    return _source(figure)


def kappas(comparisons: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Kappas with their 95 % intervals.

    Args:
        comparisons: What is compared, with `axis_name`s, and its rows of `agreement.csv` by statistic, from the top.
    """
    figure, axes = _wide(1.3 + 0.62 * len(comparisons))
    for place, (_, rows) in enumerate(comparisons):
        for statistic, row in rows.items():
            _interval(axes, place, FLEISS.get(statistic, statistic), row)
    for label, color, marker in KAPPAS.values():
        axes.plot([], [], marker, color=color, label=label)
    axes.set_yticks(range(len(comparisons)), [label for label, _ in comparisons])
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.set_xlim(right=1.02)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("Kappa; 0 is chance, 1 is full agreement")
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    axes.grid(axis="y", visible=False)
    return _source(figure)


def dice_and_minutes(groups: Sequence[Mapping[str, Any]]) -> str:
    """Mean Dice against median minutes of groups of masks, with their 95 % intervals.

    The colour says who drew, grey that nobody did; the marker says from what.

    Args:
        groups: Each with `label`, `reader`, `kind`, `model`, and its rows of `comparison.csv` by measure.
    """
    figure, axes = _wide(4.6)
    readers = sorted({group["reader"] for group in groups} - {""})
    models = sorted({group["model"] for group in groups if group["kind"] != MANUAL})
    for group in groups:
        dice, minutes = group["dice"], group["minutes"]
        axes.errorbar(
            minutes["median"],
            dice["mean"],
            xerr=_reach(minutes, "median", "median_low", "median_high"),
            yerr=_reach(dice, "mean", "low", "high"),
            fmt=FROM_SCRATCH if group["kind"] == MANUAL else MODELS[models.index(group["model"]) % len(MODELS)],
            markersize=8,
            elinewidth=1.2,
            color=cluster_color(1 + readers.index(group["reader"])) if group["reader"] else GREY,
            label=group["label"].replace("$", r"\$"),
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("Minutes a case, median")
    axes.set_ylabel("Dice against the agreed mask, mean")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return _source(figure)


def axis_name(text: str) -> str:
    """A reader's name short enough for an axis; a dollar sign would start a formula."""
    short = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return short.replace("$", r"\$")


def _reach(row: Mapping[str, Any], middle: str, low: str, high: str) -> list[list[float]]:
    """How far an interval reaches to either side, as matplotlib wants it."""
    return [[abs(row[middle] - row[low])], [abs(row[high] - row[middle])]]


def _interval(axes: Axes, place: int, statistic: str, row: Mapping[str, Any]) -> None:
    if statistic in KAPPAS and np.isfinite(row["value"]):
        _, color, marker = KAPPAS[statistic]
        y = place + OFFSET * (list(KAPPAS).index(statistic) - 1)
        axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.6)
        axes.plot(row["value"], y, marker, color=color, markersize=6)


def _boxes(
    axes: Axes, values: Sequence[np.ndarray], places: np.ndarray, colors: Sequence[str], width: float = 0.5
) -> None:
    """Boxes of quartiles with whiskers of 1.5 times their distance, and dots beyond; nothing where nothing is."""
    drawn = axes.boxplot(
        list(values),
        positions=list(places),
        widths=width,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": "#1c2430", "linewidth": 1.6},
        flierprops={"marker": ".", "markersize": 4, "markerfacecolor": GREY, "markeredgecolor": "none"},
        whiskerprops={"color": GREY},
        capprops={"visible": False},
    )
    for box, color in zip(drawn["boxes"], colors, strict=True):
        box.set(facecolor=color, edgecolor=GREY, linewidth=0.8)
    _plain(axes)


def _reader_ticks(axes: Axes, names: Sequence[str], values: Sequence[Sequence[Any] | np.ndarray]) -> None:
    crowded = len(names) > CROWDED
    labels = _numbered([axis_name(name) for name in names], values, "{} ({})" if crowded else "{}\n{}")
    axes.set_xticks(range(len(names)), labels)
    axes.tick_params(axis="x", labelrotation=90 if crowded else 0)
    axes.set_xlim(-0.6, max(len(names), 3) - 0.4)


def _numbered(names: Sequence[str], values: Sequence[Sequence[Any] | np.ndarray], form: str = "{}\n{}") -> list[str]:
    return [form.format(name, len(found)) for name, found in zip(names, values, strict=True)]


def _wide(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.grid(color="#e6e8ec")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor="#4b5563")


def _source(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return source("png", buffer.getvalue())
