"""Adding a bundle, such as a training run ends with, to the models."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.models import REGISTRY, models_folder, partner_of
from BreastTumorSegLib.io.results import output_errors, results_folder
from BreastTumorSegLib.networks.bundle import (
    CARD,
    DESCRIPTION,
    WEIGHTS,
    Bundle,
    read_bundle,
    registry,
    registry_with,
)
from BreastTumorSegLib.networks.catalogue import at_times, takes_times


def add_bundle(source: Path, folder: Path | None = None, overwrite: bool = False, default: bool = False) -> Bundle:
    """Copy a bundle's folder into the models under the name in its model.json, and enter it in the registry.

    Args:
        source: Holds model.json, weights.safetensors and CARD.md; other files stay behind.
        folder: The models; those in use without it.
        overwrite: Replace a model of the same name and task, which is kept as `NAME-previous-YYYYmmdd-HHMMSS`.
        default: Take it for its task where no model is named.

    Raises:
        ModelError: A file is missing, the weights don't fit, the answer is not finite, or the name is another's; or
            a tumour model without contrast is to be the default; or another is averaged with the one to be replaced.
        OutputError: There is such a model, or the models may not be written.
    """
    folder = folder or models_folder()
    absent = [name for name in (DESCRIPTION, WEIGHTS, CARD) if not (source / name).is_file()]
    if absent:
        raise ModelError(f"{source}: {', '.join(absent)} is missing.", "Name the folder of a whole bundle.")
    bundle = read_bundle(source, folder)
    _check_answer(source, bundle)
    _check_name(folder, bundle)
    _check_partners(folder, bundle)
    partial = folder / f"{REGISTRY}.partial"
    with results_folder(folder / bundle.description.name, overwrite) as staging:
        for file in (DESCRIPTION, WEIGHTS, CARD):
            shutil.copyfile(source / file, staging / file)
        with output_errors(partial):  # complete before the folder takes its place
            partial.write_bytes(registry_with(folder, bundle.description, bundle.sha256, default))
    with output_errors(partial):
        partial.replace(folder / REGISTRY)
    return bundle


@torch.inference_mode()
def _check_answer(source: Path, bundle: Bundle) -> None:
    """Of noise, by the smallest volume that the network takes."""
    config, times = bundle.description.network, torch.tensor([0.0, 90.0])
    channels = len(times) if takes_times(config) else config.in_channels
    network = at_times(bundle.network, config, times)
    logits = network(torch.randn(1, channels, *[2 * config.multiple] * 3))
    if not torch.isfinite(logits).all():
        raise ModelError(f"{source}: the network's answer is not finite.", "Train it again.")


def _check_partners(folder: Path, bundle: Bundle) -> None:
    """What others are averaged with stays: with other weights their peak would mean something else."""
    name = bundle.description.name
    entries = registry(folder) if (folder / REGISTRY).is_file() else {}
    others = [other for other in entries if partner_of(other, folder) == name]
    if others and entries[name].sha256 != bundle.sha256:
        raise ModelError(
            f"{others[0]!r} is averaged with {name!r}, and was calibrated with its weights.",
            "Give the new one another name, in its model.json.",
        )


def _check_name(folder: Path, bundle: Bundle) -> None:
    """Nothing but an older model for the same task is ever replaced."""
    name, task = bundle.description.name, bundle.description.task
    known = registry(folder).get(name) if (folder / REGISTRY).is_file() else None
    if known.task != task if known else (folder / name).exists():
        other = f"a model for {known.task}" if known else "in the models' folder, but no model"
        raise ModelError(f"{name!r} is already {other}.", "Give the new one another name, in its model.json.")
