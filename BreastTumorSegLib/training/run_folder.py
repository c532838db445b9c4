"""A run's folder: what the run is, that it is still the same one, and whether it has ended.

`config.yaml`; `run.json`, an entry for each start (versions, seed, state of the source tree, processes); `split.csv`
(case, site, set); what `engine` and `curves` write; at the end `models/` with the bundle.
"""

from __future__ import annotations

import csv
import json
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from BreastTumorSegLib import __version__
from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.io.cohort import Case
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.networks.bundle import CARD
from BreastTumorSegLib.training.config import TrainingConfig, read_config, write_config
from BreastTumorSegLib.training.processes import process_count

CONFIG, RUN, SPLIT, MODELS = "config.yaml", "run.json", "split.csv", "models"
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "SimpleITK")

FREE_BYTES_A_PARAMETER = 40
"""Checkpoints beside each other: weights, two of the optimiser's, an average, the best ones, twice, and some more."""


@dataclass(frozen=True)
class Split:
    """Which cases train and which validate."""

    training: tuple[Case, ...]
    validation: tuple[Case, ...]

    def rows(self) -> list[list[str]]:
        """Rows of `split.csv`."""
        sets = (("training", self.training), ("validation", self.validation))
        return [["case", "site", "set"], *([case.name, case.site, name] for name, cases in sets for case in cases)]


def finished(config: TrainingConfig) -> bool:
    """Whether the run's folder has its bundle; the card is written last."""
    return (config.out / MODELS / config.model.name / CARD).is_file()


def require_same(config: TrainingConfig, split: Split | None) -> None:
    """Refuse a folder in which another run lies.

    Raises:
        InputError: Its configuration differs, or its cases: then some that trained could validate.
    """
    file = config.out / CONFIG
    if not file.is_file():
        return
    there, here = (_compared(each) for each in (read_config(file, TrainingConfig), config))
    differing = [key for key in here if here[key] != there[key]]
    if differing:
        raise InputError(
            f"{config.out} holds a run with another {', '.join(differing)}.", "Choose another folder (out)."
        )
    if split and (config.out / SPLIT).is_file() and _read_csv(config.out / SPLIT) != split.rows():
        raise InputError(
            f"{config.out} holds a run with other cases than the cohort has now: {SPLIT} differs.",
            "Choose another folder (out), or give it the cohort that it began with.",
        )


def _compared(config: TrainingConfig) -> dict[str, Any]:
    """What makes a run what it is; not where its folder and its data lie, since both may be moved."""
    fields = config.model_dump(mode="json", exclude={"out"})
    return fields | {"data": {key: value for key, value in fields["data"].items() if key not in ("path", "cache")}}


def open_folder(config: TrainingConfig, parameters: int, split: Split | None) -> None:
    """Write what the run is, before anything is computed.

    Raises:
        OutputError: The folder can't be written, or the disk has no space for a network of so many parameters.
    """
    with output_errors(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
        needed, free = FREE_BYTES_A_PARAMETER * parameters, shutil.disk_usage(config.out).free
        if free < needed:
            raise OutputError(
                f"{config.out}: {free >> 20} MB are free on this disk, checkpoints need {needed >> 20} MB.",
                "Free space, or use another disk.",
            )
        write_config(config, config.out / CONFIG)
        starts = json.loads((config.out / RUN).read_text(encoding="utf-8")) if (config.out / RUN).is_file() else []
        (config.out / RUN).write_text(json.dumps([*starts, _about(config)], indent=2) + "\n", encoding="utf-8")
        if split:
            _write_csv(config.out / SPLIT, split.rows())


def _about(config: TrainingConfig) -> dict[str, Any]:
    return {
        "versions": {"BreastTumorSeg": __version__, "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "seed": config.seed,
        "git": _git_state(),
        "processes": process_count(),
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the library's source tree, and whether its files were changed; None where there is no tree."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else it is another tree that holds an installed copy
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _read_csv(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def _write_csv(file: Path, rows: Sequence[Sequence[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
