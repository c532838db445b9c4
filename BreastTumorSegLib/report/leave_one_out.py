"""A leave-one-centre-out experiment for people: its table as Markdown, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from BreastTumorSegLib.io.results import output_errors

Row = dict[str, Any]

TABLE, FIGURE = "table1.md", "table1.png"
MASKING = {"none": "everywhere", "breast": "inside the breasts"}
COLORS = {"none": "#aab4c2", "breast": "#3b7dbd"}
PAPER = {
    "dice": ("Dice (95 %)", ".3f"),
    "precision": ("Precision", ".3f"),
    "recall": ("Recall", ".3f"),
    "true_volume_mm3": ("True volume, mm³", ",.0f"),
    "predicted_volume_mm3": ("Predicted volume, mm³", ",.0f"),
}
OURS = {
    "hd95_mm": ("HD95, mm", ".1f"),
    "assd_mm": ("Surface distance, mm", ".1f"),
    "sensitivity": ("Lesions found", ".2f"),
    "false_positives": ("False positives a case", ".2f"),
    "volume_error_ml": ("Volume error, ml", "+.1f"),
    "calibration_error": ("Calibration error", ".4f"),
    "challenge_dice": ("Challenge: Dice", ".3f"),
    "challenge_norm_hd": ("Challenge: NormHD", ".3f"),
}
AT = "sensitivity_at_"


def write_tables(rows: Sequence[Row], folder: Path) -> None:
    """Write `table1.md` and `table1.png` into an experiment's folder; rows are those of `training.table`.

    Raises:
        OutputError: The disk is full.
    """
    parts = [f"![Dice of validation and test]({FIGURE})", ""]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        for masking, words in MASKING.items():
            chosen = [row for row in rows if (row["variant"], row["breast_masking"]) == (variant, masking)]
            parts += [f"### {variant}, tumour counts {words}", "", *_markdown(chosen), ""]
    with output_errors(folder):
        (folder / TABLE).write_text("\n".join(parts), encoding="utf-8")
        draw(rows).savefig(folder / FIGURE, dpi=130)


def _markdown(rows: Sequence[Row]) -> list[str]:
    """A table in the paper's form; measures in the clinical convention, but for those that name the challenge's."""
    found = {f"{AT}{rate}": (f"Lesions found at {rate} false positives", ".2f") for rate in _rates(rows)}
    columns = PAPER | OURS | found
    lines = [
        "| Held out | Set | Cases | " + " | ".join(title for title, _ in columns.values()) + " |",
        "|---|---|" + "---:|" * (len(columns) + 1),
    ]
    for row in rows:
        cells = [_cell(row, name, form) for name, (_, form) in columns.items()]
        lines.append(f"| {row['held_out']} | {row['set']} | {row['cases']} | {' | '.join(cells)} |")
    return lines


def _rates(rows: Sequence[Row]) -> list[str]:
    return [name.removeprefix(AT) for name in (rows[0] if rows else {}) if name.startswith(AT)]


def _cell(row: Row, name: str, form: str) -> str:
    text = _number(row[name], form)
    if name == "dice":
        return f"{text} ({_number(row['dice_low'], '.2f')} to {_number(row['dice_high'], '.2f')})"
    # Over how many cases says how much a distance is worth: missed lesions have none.
    return f"{text} (of {row['measured']})" if name in ("hd95_mm", "assd_mm") else text


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)


def draw(rows: Sequence[Row]) -> Figure:
    """Dice with intervals: a panel a variant; for each site held out, validation and test, with both maskings."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    figure = Figure(figsize=(5.2 * len(variants) + 0.6, 4.0), layout="constrained")
    panels = figure.subplots(1, len(variants), sharey=True, squeeze=False)[0]
    for panel, variant in zip(panels, variants, strict=True):
        _panel(panel, [row for row in rows if row["variant"] == variant])
        panel.set_title(variant, fontsize=10, loc="left")
    panels[0].set_ylabel("Mean Dice, with its 95 % interval")
    panels[-1].legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def _panel(panel: Axes, rows: Sequence[Row]) -> None:
    held_out = list(dict.fromkeys(row["held_out"] for row in rows))
    bars = [(name, masking) for name in ("validation", "test") for masking in MASKING]
    for number, (name, masking) in enumerate(bars):
        chosen = [row for row in rows if (row["set"], row["breast_masking"]) == (name, masking)]
        x = np.array([held_out.index(row["held_out"]) for row in chosen]) + 0.2 * number - 0.3
        means = np.array([row["dice"] for row in chosen], float)
        ends = np.array([[row["dice_low"], row["dice_high"]] for row in chosen], float).reshape(-1, 2).T
        panel.bar(
            x,
            means,
            0.18,
            color=COLORS[masking],
            alpha=1.0 if name == "test" else 0.45,
            label=f"{name}, {MASKING[masking]}",
        )
        panel.errorbar(x, means, np.abs(ends - means), fmt="none", ecolor="#374151", elinewidth=1, capsize=2)
    panel.set_xticks(range(len(held_out)), [f"without {site}" for site in held_out])
    panel.set_ylim(0, 1)
    panel.grid(axis="y", color="#e6e8ec")
    panel.set_axisbelow(True)
    panel.spines[:].set_visible(False)
