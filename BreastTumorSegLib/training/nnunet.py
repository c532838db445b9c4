"""Cohorts as data sets of nnU-Net v2, which trains on them with its own commands."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import first_post_index
from BreastTumorSegLib.io import read_volume, results_folder, write_volume
from BreastTumorSegLib.io.cohort import Case, Cohort, require_sound
from BreastTumorSegLib.io.results import remove_unfinished
from BreastTumorSegLib.networks.nnunet import NOTE, Channel, channel_images, joint_statistics

ENDING = ".nii.gz"
IDS = range(1, 1000)
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Form:
    """How a case is written.

    Attributes:
        channels: In order.
        joint_z_score: Phases minus the mean of all, over the standard deviation of all, as MAMA-MIA's baseline has
            them; nnU-Net is told to leave them so. Without it, it normalises each channel by itself.
    """

    channels: tuple[Channel, ...] = ("pre", "first_post")
    joint_z_score: bool = False


def export_nnunet(
    cohort: Cohort,
    out: Path,
    dataset_id: int,
    name: str,
    form: Form | None = None,
    events: Events | None = None,
) -> Path:
    """Write a cohort as `out/DatasetIII_NAME`, for nnU-Net's raw folder; returns that folder.

    The official test cases go into imagesTs and labelsTs, all others into imagesTr and labelsTr. With cases of two
    sites or more there is `splits_final.json` with a fold for each, which leaves out that site; nnU-Net looks for it in
    its folder of preprocessed data. All channels of a case have the grid of its first phase. Of several annotators,
    what at least half of them marked is tumour. The folder is whole, or not there.

    Raises:
        InputError: The cohort has problems or no case to train on, or there is no such id or name.
        OutputError: The folder is there, or can't be written.
        Cancelled: On request.
    """
    form, events = form or Form(), events or Events()
    _refuse_naming(dataset_id, name)
    require_sound(cohort, events)
    if not any(case.split != "test" for case in cohort):
        raise InputError("The cohort has test cases only.", "nnU-Net needs cases to train on.")
    folder = out / f"Dataset{dataset_id:03d}_{name}"
    remove_unfinished(folder)
    with results_folder(folder, overwrite=False) as staging:
        for part in ("Tr", "Ts") if cohort.of_split("test").cases else ("Tr",):
            (staging / f"images{part}").mkdir()
            (staging / f"labels{part}").mkdir()
        _write_cases(cohort, staging, form, events)
        _write_json(staging / "dataset.json", dataset_json(cohort, name, form))
        folds = leave_one_site_out(cohort)
        if folds:
            _write_json(staging / "splits_final.json", folds)
    return folder


def dataset_json(cohort: Cohort, name: str, form: Form) -> dict[str, Any]:
    """What nnU-Net v2 needs to know of a data set, and a note of what its channels are for `nnunet add`."""
    names = ["noNorm"] * len(form.channels) if form.joint_z_score else form.channels
    return {
        "channel_names": {str(index): channel for index, channel in enumerate(names)},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": sum(case.split != "test" for case in cohort),
        "file_ending": ENDING,
        "name": name,
        NOTE: {"channels": list(form.channels), "joint_z_score": form.joint_z_score},
    }


def leave_one_site_out(cohort: Cohort) -> list[dict[str, list[str]]]:
    """A fold for each site of the training cases, in their order; none where there is one site only."""
    cases = [case for case in cohort if case.split != "test"]
    sites = sorted({case.site for case in cases})
    if len(sites) < 2:
        return []
    return [
        {
            "train": [case.name for case in cases if case.site != site],
            "val": [case.name for case in cases if case.site == site],
        }
        for site in sites
    ]


def _refuse_naming(dataset_id: int, name: str) -> None:
    if dataset_id not in IDS:
        raise InputError(f"{dataset_id} is no id of a data set.", f"Choose one from {IDS[0]} to {IDS[-1]}.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise InputError(f"{name!r} is no name of a data set.", "Use letters, digits and dashes.")


def _write_cases(cohort: Cohort, folder: Path, form: Form, events: Events) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            written = pool.map(lambda case: _write_case(case, folder, form), cohort.cases)
            for done, _ in enumerate(written, start=1):
                events.progress("export", done, len(cohort))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write_case(case: Case, folder: Path, form: Form) -> None:
    part = "Ts" if case.split == "test" else "Tr"
    pre, grid = read_volume(case.phases[0])
    first_post, _ = read_volume(case.phases[first_post_index(case.times)])
    scale = joint_statistics(read_volume(file)[0] for file in case.phases) if form.joint_z_score else None
    for index, image in enumerate(channel_images(pre, first_post, form.channels, scale)):
        write_volume(image, grid, folder / f"images{part}" / f"{case.name}_{index:04d}{ENDING}")
    write_volume(_consensus(case.tumors), grid, folder / f"labels{part}" / f"{case.name}{ENDING}")


def _consensus(masks: Sequence[Path]) -> np.ndarray:
    """uint8 (Z, Y, X): 1 where at least half of the masks are above 0."""
    marked = np.sum([read_volume(mask)[0] > 0 for mask in masks], axis=0)
    return (2 * marked >= len(masks)).astype(np.uint8)


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
