"""The curves of a run: tables, and the same for TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

STEPS = "steps.csv"
VALIDATIONS = "validations.csv"


class Curves:
    """Writes `steps.csv` (step, epoch, loss, learning_rate), `validations.csv` (step, set, dice) and TensorBoard's.

    Args:
        folder: Of the run.
        on: Whether this process writes TensorBoard's files.
    """

    def __init__(self, folder: Path, on: bool) -> None:
        self._folder = folder
        self._rows: dict[str, list[dict[str, Any]]] = {STEPS: [], VALIDATIONS: []}
        self._on = on
        self._board: Any = None

    def step(self, step: int, epoch: int, loss: float, learning_rate: float) -> None:
        """Note a step."""
        self._rows[STEPS].append({"step": step, "epoch": epoch, "loss": loss, "learning_rate": learning_rate})
        self._tell("loss", loss, step)
        self._tell("learning rate", learning_rate, step)

    def validation(self, step: int, scores: dict[str, float]) -> None:
        """Note mean Dice by set of cases."""
        for name, dice in scores.items():
            self._rows[VALIDATIONS].append({"step": step, "set": name, "dice": dice})
            self._tell(f"Dice/{name}", dice, step)

    def flush(self) -> None:
        """Append what is noted to the files. Only the process that writes checkpoints calls it."""
        for name, rows in self._rows.items():
            if rows:
                path = self._folder / name
                new = not path.is_file()
                with path.open("a", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, list(rows[0]))
                    if new:
                        writer.writeheader()
                    writer.writerows(rows)
                rows.clear()
        if self._board:
            self._board.flush()

    def back_to(self, step: int, validated: bool) -> None:
        """Forget what came after the checkpoint that the run goes on from; its validation, too, if that is yet to come.

        Only the process that writes checkpoints calls it.
        """
        for name, last in ((STEPS, step), (VALIDATIONS, step if validated else step - 1)):
            path = self._folder / name
            if path.is_file():
                head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
                kept = [line for line in lines if int(line.partition(",")[0]) <= last]
                path.write_text("\n".join([head, *kept, ""]), encoding="utf-8") if kept else path.unlink()
        self._start_board(step + 1)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board:
            self._board.close()

    def _tell(self, name: str, value: float, step: int) -> None:
        if self._on and self._board is None:
            self._start_board(step)
        if self._board:
            self._board.add_scalar(name, value, step)

    def _start_board(self, step: int) -> None:
        if self._on:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds

            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)
