"""`breast-tumor-seg models`: the model bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from BreastTumorSegLib.cli_progress import Progress, ProgressForm, events_of
from BreastTumorSegLib.core.cancel import cancellable
from BreastTumorSegLib.core.events import Events, JsonEvents
from BreastTumorSegLib.core.job import reporting

if TYPE_CHECKING:
    from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
    from BreastTumorSegLib.segmentation.nnunet_models import NnunetBundle

models_app = typer.Typer(no_args_is_help=True, help="The model bundles.")


@models_app.command("list")
def list_models() -> None:
    """The bundles, their tasks, which is the default, and which work without contrast."""
    from BreastTumorSegLib.core.models import maps_of
    from BreastTumorSegLib.networks.bundle import registry

    with reporting(Events()):
        for name, entry in registry().items():
            maps = maps_of(name)
            noncontrast = f"without contrast, with maps of {maps}" if maps else ""
            print(f"{name:<24}{entry.task:<12}{'default' if entry.default else noncontrast}")


@models_app.command()
def info(name: str) -> None:
    """What a model is, what it was trained on, and its card."""
    from BreastTumorSegLib.core.models import models_folder
    from BreastTumorSegLib.networks.bundle import CARD, load_bundle, registry, verify_bundle
    from BreastTumorSegLib.segmentation.nnunet_models import NnunetBundle, load_tumor_model

    with reporting(Events()):
        verify_bundle(name)
        entry = registry()[name]
        bundle = load_tumor_model(name) if entry.task == "tumor" else load_bundle(name, entry.task)
        task = entry.task + (", its default" if entry.default else "")
        facts = {"name": f"{bundle.description.name} {bundle.description.version}", "task": task}
        facts |= _nnunet_facts(bundle) if isinstance(bundle, NnunetBundle) else _facts(bundle)
        file = models_folder() / name / CARD
        card = file.read_text(encoding="utf-8") if file.is_file() else "It has no card.\n"
    for what, said in facts.items():
        print(f"{what:<12}{said}")
    print(f"\n{card}", end="")


def _facts(bundle: Bundle) -> dict[str, str]:
    described = bundle.description
    config = described.network
    sizes = config.model_dump(exclude={"name", "in_channels", "out_channels"}, exclude_defaults=True)
    millions = sum(parameter.numel() for parameter in bundle.network.parameters()) / 1e6
    return {
        "network": f"{config.name}, {millions:.2f} million parameters",
        "size": ", ".join(f"{field} {_shown(value)}" for field, value in sizes.items()),
        "phases": ", ".join(described.phase_names),
        "spacing": f"{described.spacing_mm:g} mm",
        "input": f"{described.normalisation}, of {described.field_name}",
        **({"maps": f"of {described.maps}"} if described.maps else {}),
        **({"average": _average(described)} if described.averaged_with else {}),
        **({"refined by": described.refined_by} if described.refined_by else {}),
        **_answer(described),
        "trained on": described.trained_on,
        "sha256": bundle.sha256,
    }


def _average(described: ModelDescription) -> str:
    return f"{described.share:.0%} of it, {1 - described.share:.0%} of {described.averaged_with}"


def _answer(described: ModelDescription) -> dict[str, str]:
    """What of its answer counts."""
    from BreastTumorSegLib.segmentation.candidates import FEATURES

    if described.task == "clusters":
        return {"clusters": str(described.network.out_channels - 2)}
    facts = {"threshold": f"{described.threshold:g}"}
    if described.task == "tumor" and described.needs_contrast:
        facts["peak"] = f"{described.peak:g}"
        facts |= {"lesions": f"told by {', '.join(FEATURES)}"} if described.lesion_weights else {}
    return facts | ({"temperature": f"{described.temperature:g}"} if described.temperature != 1 else {})


def _nnunet_facts(bundle: NnunetBundle) -> dict[str, str]:
    described = bundle.description
    return {
        "network": f"nnU-Net v2, {described.configuration}, {', '.join(described.folds)}",
        "channels": ", ".join(described.channels),
        "threshold": f"{described.threshold:g}",
        "sha256": bundle.sha256,
    }


def _shown(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


@models_app.command()
def verify() -> None:
    """Check every bundle's weights against the registry."""
    from BreastTumorSegLib.networks.bundle import registry, verify_bundle

    with reporting(Events()):
        for name in registry():
            print(f"{name:<24}{verify_bundle(name)}")


@models_app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="A bundle: model.json, weights.safetensors and CARD.md.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model of that name; the old one is kept beside it.")
    ] = False,
    default: Annotated[bool, typer.Option("--default", help="Use it where no model is named.")] = False,
) -> None:
    """Add a bundle, such as a training run ends with, to the models."""
    from BreastTumorSegLib.networks.adding import add_bundle

    with reporting(Events()):
        bundle = add_bundle(folder, overwrite=overwrite, default=default)
    print(f"{bundle.description.name:<24}{bundle.sha256}")


@models_app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="A bundle of a tumour model with contrast.")],
    patients: Annotated[
        int,
        typer.Option(min=1, help="Patients a site in every condition; with as many varied exams."),
    ] = 2,
    progress: Progress = ProgressForm.text,
) -> None:
    """Choose a tumour model's temperature, threshold and peak on simulated exams, and write them into model.json.

    With the weights by which it tells lesions among what it draws.
    """
    import torch

    from BreastTumorSegLib.networks.bundle import default_model, load_bundle, read_bundle, write_description
    from BreastTumorSegLib.training.calibrate import calibrate as choose

    events = events_of(progress)
    with reporting(events), cancellable(events, listen=isinstance(events, JsonEvents)):
        bundle, breast = read_bundle(folder), load_bundle(default_model("breast"), "breast")
        chosen = choose(bundle, breast, torch.device("cpu"), events, patients)
        write_description(chosen.of(bundle), folder)
        weights = chosen.lesion_weights.model_dump() if chosen.lesion_weights else None
        events.finished(**vars(chosen) | {"lesion_weights": weights})
    if progress is ProgressForm.json:
        return
    print(f"temperature {chosen.temperature:g}, threshold {chosen.threshold:g}, peak {chosen.peak:g}")
    told = "weights of their features" if weights else "how sure the network is: too few candidates, or a refined model"
    print(f"lesions are told by {told}")
    print(f"on these exams a mean score of {chosen.score:.3f}, {chosen.false_positives:.2f} false lesions an exam,")
    print(f"none in {chosen.empty:.0%} of those without lesion")
