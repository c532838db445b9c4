"""`breast-tumor-seg nnunet`: cohorts for nnU-Net v2, and its trained models as models for `segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from BreastTumorSegLib.cli_progress import Progress, ProgressForm, events_of
from BreastTumorSegLib.core.cancel import cancellable
from BreastTumorSegLib.core.errors import require_packages
from BreastTumorSegLib.core.events import Events, JsonEvents
from BreastTumorSegLib.core.job import reporting

nnunet_app = typer.Typer(no_args_is_help=True, help="To and from nnU-Net v2.")

_CHANNELS = "Of pre, first_post and subtraction, with commas between them."


@nnunet_app.command("export")
def export(
    cohort: Annotated[Path, typer.Argument(help="A folder in MAMA-MIA's layout, or a CSV; see docs/nnunet.md.")],
    out: Annotated[Path, typer.Argument(help="nnU-Net's raw folder; the data set gets its own in it.")],
    dataset_id: Annotated[int, typer.Option("--id", help="Of the data set, 1 to 999.")],
    name: Annotated[str, typer.Option(help="Of the data set.")],
    channels: Annotated[str, typer.Option(help=_CHANNELS)] = "pre,first_post",
    joint_z_score: Annotated[
        bool, typer.Option("--joint-z-score", help="Normalise phases by the mean and deviation of all of them.")
    ] = False,
    progress: Progress = ProgressForm.text,
) -> None:
    """Write a cohort as a data set that nnU-Net v2 trains on."""
    events = events_of(progress)
    with reporting(events), cancellable(events, listen=isinstance(events, JsonEvents)):
        events.started(command="nnunet export", stages=["check", "export"])
        require_packages()
        from BreastTumorSegLib.io.cohort import read_cohort
        from BreastTumorSegLib.networks.nnunet import parse_channels
        from BreastTumorSegLib.training.nnunet import Form, export_nnunet

        form = Form(parse_channels(_list(channels)), joint_z_score)
        folder = export_nnunet(read_cohort(cohort), out, dataset_id, name, form, events)
        events.finished(out=str(folder))
    if progress is ProgressForm.text:
        print(folder)


@nnunet_app.command("add")
def add(
    trained: Annotated[Path, typer.Argument(help="Such as nnUNetTrainer__nnUNetPlans__3d_fullres.")],
    name: Annotated[str, typer.Option(help="Of the model, for `segment --model`.")],
    channels: Annotated[str | None, typer.Option(help=f"{_CHANNELS} By dataset.json where it knows.")] = None,
    joint_z_score: Annotated[
        bool | None, typer.Option(help="How phases are normalised beforehand; by dataset.json where it knows.")
    ] = None,
    folds: Annotated[str | None, typer.Option(help="Such as 0,1; all that are there without it.")] = None,
) -> None:
    """Make a trained nnU-Net v2 a model for `segment`. Its checkpoints are read as weights; nothing in them is run."""
    with reporting(Events()):
        require_packages()
        from BreastTumorSegLib.segmentation.nnunet_models import add_nnunet

        made = add_nnunet(trained, name, _list(channels), joint_z_score, _list(folds))
        normalised = ", normalised together" if made.joint_z_score else ""
        print(f"{made.name}: {made.configuration}, {', '.join(made.folds)}; {', '.join(made.channels)}{normalised}")


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
