"""A tiny cohort on disk, and tiny runs on it."""

import torch
import yaml

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case
from BreastTumorSegLib.training.config import TrainingConfig

SPACING_MM = 8.0


MULTI_PHASE = {
    "name": "spatial_temporal",
    "channels": [4, 8],
    "width": 8,
    "layers": 1,
    "heads": 2,
    "hidden": 16,
    "block": [2, 2, 2],
}


def write_cohort(folder, cases):
    """Simulated exams with voxels of 8 mm; `cases` are pairs of site and seed."""
    for site, seed in cases:
        write_case(simulate_exam(site, seed, SPACING_MM), folder, f"{site}_S{seed:06d}")
    return folder


def model(**changes):
    network = {"name": "resunet", "in_channels": 2, "out_channels": 1, "channels": [4, 8], "strides": [2], "head": 2}
    fields = {"name": "tiny", "task": "tumor", "version": "0", "network": network, "phases": ["pre", "first_post"]}
    return {**fields, "spacing_mm": SPACING_MM, "field": "exam", **changes}


def fields(cohort, **changes):
    """Fields of a configuration that trains in seconds; `out` and `data` are next to the cohort."""
    data = {"kind": "cohort", "path": str(cohort), "breast": "reference", "cache": str(cohort.parent / "cache")}
    given = {
        "out": str(cohort.parent / "run"),
        "model": model(),
        "data": data,
        "samples": {"patch": [8, 8, 8], "batch": 2, "augmentation": {"flip": 0.5, "noise": 0.5}},
        "validation": {"share": 0.25},
        "optimizer": {"learning_rate": 0.01},
        "epochs": 3,
        "steps_per_epoch": 4,
        "checkpoint_steps": 3,
        "tensorboard": False,
    }
    return {**given, **changes}


def config(cohort, **changes):
    return TrainingConfig.model_validate(fields(cohort, **changes))


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def run(settings, events=None):
    from BreastTumorSegLib.training.run import train

    return train(settings, torch.device("cpu"), events or Events())


class CancelAt(Events):
    """Asks to stop at a step of the training."""

    def __init__(self, step):
        super().__init__()
        self._step = step

    def show(self, event):
        if event.get("stage") == "train" and event["done"] == self._step:
            self.cancel()
