"""The leave-one-centre-out experiment: for each site, train on the others and test on it.

After Abdikenov and Suvorov, "Challenges in generalizing breast MRI tumor segmentation across multiple datasets". The
folder holds VARIANT/SITE, a run's folder each with `cases/CASE` in it; `cases.csv` and `cases_challenge.csv` with the
measures of every case in the two conventions; `table1.csv`, see `training.table`; `review.csv`, cases to look at.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.cohort import Case, Cohort
from BreastTumorSegLib.io.files import is_volume_file
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.networks.bundle import Bundle, load_bundle
from BreastTumorSegLib.review.records import Item
from BreastTumorSegLib.review.sampling import stratified_sample
from BreastTumorSegLib.training.case_results import CaseMeasures, measure_case
from BreastTumorSegLib.training.config import LeaveOneOutConfig, TrainingConfig, write_config
from BreastTumorSegLib.training.prediction import Predictor, by_engine, sliding_windows
from BreastTumorSegLib.training.processes import barrier, joined_processes, own_device, process_count, rank
from BreastTumorSegLib.training.run import check_run, split_cases, train_on
from BreastTumorSegLib.training.run_folder import Split
from BreastTumorSegLib.training.table import table_rows
from BreastTumorSegLib.training.volumes import PreparedCohort, open_cohort

VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Measured:
    """A case, measured by the model of one run.

    Attributes:
        variant: How it was trained.
        held_out: The site that it has not seen.
        set: "validation" or "test".
        measures: Of the case, with one masking.
    """

    variant: str
    held_out: str
    set: str
    measures: CaseMeasures


@dataclass(frozen=True)
class _Run:
    variant: str
    held_out: str
    config: TrainingConfig
    prepared: PreparedCohort
    split: Split


def leave_one_out(config: LeaveOneOutConfig, device: torch.device, events: Events) -> list[dict[str, Any]]:
    """Run the experiment, or go on with it; returns the rows of `table1.csv`.

    Raises:
        InputError: The cohort has problems, or too few sites.
        OutputError: There is too little space on the disk.
        Cancelled: On request; the same call goes on.
    """
    with joined_processes(device):
        device = own_device(device)
        cohort = open_cohort(config.data, events)
        runs = list(_runs(config, cohort, device))
        for run in runs:  # what would end the last run, ends the experiment before the first
            check_run(run.config, run.split)
        measured: list[Measured] = []
        for number, run in enumerate(runs):
            events.progress("runs", number, len(runs))
            measured += _train_and_measure(run, device, events)
        events.progress("runs", len(runs), len(runs))
        return _write(config, cohort, measured) if rank() == 0 else []


def _runs(config: LeaveOneOutConfig, cohort: Cohort, device: torch.device) -> Iterator[_Run]:
    sites = config.held_out or cohort.sites
    unknown = sorted(set(sites) - set(cohort.sites))
    if unknown or len(cohort.sites) < 2:
        raise InputError(
            f"{config.data.path} has the sites {', '.join(cohort.sites)}{f', not {unknown[0]}' if unknown else ''}.",
            "Two sites at least are needed; name those to hold out in held_out, or leave it away for all.",
        )
    for variant in config.variants:
        for site in sites:
            run = config.run(variant, site)
            split = split_cases([case for case in cohort if case.site != site], run)
            yield _Run(variant, site, run, PreparedCohort(cohort, config.data, run.model, str(device)), split)


def _train_and_measure(run: _Run, device: torch.device, events: Events) -> list[Measured]:
    models = train_on(run.prepared, run.split, run.config, device, events)
    barrier()
    bundle = load_bundle(run.config.model.name, run.config.model.task, models)
    predict = _predictor(run.config, bundle, device, events)
    sets = {VALIDATION: run.split.validation, TEST: run.prepared.cohort.of_site(run.held_out).cases}
    wanted = [(name, case) for name, members in sets.items() for case in members]
    for number, (_, case) in enumerate(wanted[rank() :: process_count()]):
        events.progress("measure", number * process_count(), len(wanted))
        measure_case(case, run.prepared, bundle, predict, _folder(run.config, case))
    barrier()
    return [
        Measured(run.variant, run.held_out, name, measures)
        for name, case in wanted
        for measures in measure_case(case, run.prepared, bundle, predict, _folder(run.config, case))
    ]


def _predictor(config: TrainingConfig, bundle: Bundle, device: torch.device, events: Events) -> Predictor:
    if config.validation.windows == "patch" and config.samples.patch:
        return sliding_windows(bundle.network.to(device), config.model.network, config.samples.patch, device)
    return by_engine(bundle, device, events)


def _folder(config: TrainingConfig, case: Case) -> Path:
    return config.out / "cases" / case.name


def _write(config: LeaveOneOutConfig, cohort: Cohort, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    rows = table_rows(measured, config.false_positives)
    with output_errors(config.out):
        write_config(config, config.out / "config.yaml")
        _write_csv(config.out / "table1.csv", rows)
        for name, convention in (("cases.csv", "clinical"), ("cases_challenge.csv", "challenge")):
            _write_csv(config.out / name, [_case_row(each, convention) for each in measured])
        _write_csv(config.out / "review.csv", _review_rows(config, cohort, measured))
    return rows


def _case_row(each: Measured, convention: str) -> dict[str, Any]:
    measures = each.measures
    about = {"variant": each.variant, "held_out": each.held_out, "set": each.set, "breast_masking": measures.masking}
    return about | {
        "case": measures.case,
        "site": measures.site,
        "convention": convention,
        **getattr(measures, convention),
    }


def _images(case: Case, out: Path) -> Path | None:
    """The folder that holds the case's phases and no others, as a reader needs it; relative to `out` if that goes."""
    folder = case.phases[0].parent
    if {file for file in folder.iterdir() if is_volume_file(file)} != set(case.phases):
        return None
    return Path(os.path.relpath(folder, out)) if folder.drive == out.drive else folder


def _review_rows(config: LeaveOneOutConfig, cohort: Cohort, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The paper's stratified sample of each model's validation and test set, with the columns of a worklist's CSV."""
    images = {case.name: folder for case in cohort if (folder := _images(case, config.out))}
    rows = []
    for (variant, held_out, name), members in _grouped(measured).items():
        run = config.run(variant, held_out)
        masking = "none" if run.model.field == "exam" else "breast"
        model = f"{variant}-without-{held_out}"
        items = [
            Item(each.measures.case, each.measures.case, model, name, "", each.measures.clinical["dice"])
            for each in members
            if each.measures.masking == masking
            and np.isfinite(each.measures.clinical["dice"])
            and each.measures.case in images
        ]
        sites = {each.measures.case: each.measures.site for each in members}
        for item in stratified_sample(items, config.review, run.seed):
            folder = run.out / "cases" / item.case
            files = {"mask": "tumor", "breast": "breast", "probability": "tumor_probability"}
            paths = {column: (folder / f"{file}.nii.gz").relative_to(config.out) for column, file in files.items()}
            rows.append({"case": item.case, "images": images[item.case], **paths, "model": model})
            rows[-1] |= {"site": sites[item.case], "dice": item.dice, "set": name, "stratum": item.stratum}
    return rows


def _grouped(measured: Sequence[Measured]) -> dict[tuple[str, str, str], list[Measured]]:
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for each in measured:
        groups.setdefault((each.variant, each.held_out, each.set), []).append(each)
    return groups


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
