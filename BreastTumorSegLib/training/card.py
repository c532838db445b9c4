"""The card of a bundle that a run ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import nn

from BreastTumorSegLib.io.cohort import Case
from BreastTumorSegLib.networks.bundle import ModelDescription
from BreastTumorSegLib.training.config import OptimizerConfig, SampleConfig, SimulatedData, TrainingConfig


def trained_on(
    config: TrainingConfig, cases: Sequence[Case], starts: Sequence[ModelDescription], maps: ModelDescription | None
) -> str:
    """What the model learned from, in a phrase: the run's exams, and those of other bundles that had a part in it.

    Args:
        config: Of the run.
        cases: Its exams.
        starts: Bundles that it started from.
        maps: Of the model whose maps it took, if there was one.
    """
    if isinstance(config.data, SimulatedData):
        exams = "simulated exams only"
    else:
        counts = Counter(case.site for case in cases)
        made = sum(case.simulated for case in cases)
        kind = "exams" if not made else "simulated exams" if made == len(cases) else f"exams, {made} of them simulated"
        exams = f"{len(cases)} {kind}: " + ", ".join(f"{counts[site]} {site}" for site in sorted(counts))
    others = [f"with maps of {maps.name} ({maps.trained_on})"] if maps else []
    if config.model.maps and not maps:
        others = [f"with true clusters instead of maps of {config.model.maps}"]
    return "; ".join([exams, *others, *(f"started from {start.name} ({start.trained_on})" for start in starts)])


def card(config: TrainingConfig, network: nn.Module, learned_from: str, step: int, best: tuple[int, float]) -> str:
    """The text of CARD.md, in Markdown.

    Args:
        config: Of the run.
        network: That was trained.
        learned_from: See `trained_on`.
        step: Optimiser steps done.
        best: The step whose weights the bundle has, and their mean Dice over the validation cases; NaN without any.
    """
    model, phases = config.model, " and ".join(config.model.phase_names)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    maps = f" and maps of {model.maps}" if model.maps else ""
    if isinstance(config.data, SimulatedData) and config.data.coarse:
        maps = f" and the probability of a tumour model, in training {' or '.join(config.data.coarse)}"
    rows = {
        "Network": f"{model.network.name}, {millions:.2f} M parameters",
        "Input": f"{phases}{maps}, {model.spacing_mm:g} mm, {model.normalisation}, of {model.field_name}",
        "Trained on": learned_from,
        "Recipe": _recipe(config),
        "Steps": f"{step}; the weights are those of step {best[0]}" if best[0] else str(step),
        "Validation": f"mean Dice {best[1]:.3f} on the network's grid" if best[1] == best[1] else "none",
    }
    lines = [f"| {name} | {text} |" for name, text in rows.items()]
    return "\n".join(
        [
            f"# {model.name} {model.version}",
            "",
            "**For research use only. Not a medical device.**",
            "",
            "| | |",
            "|---|---|",
            *lines,
            "",
            "## Not for",
            "",
            "Anything clinical. Nothing is known of exams that differ from those above.",
            "",
        ]
    )


def _recipe(config: TrainingConfig) -> str:
    samples, patch = config.samples, config.samples.patch
    phases = f"{_phases(samples)}; " if config.model.phases == "all" else ""
    statistics = "; statistics of batch normalisations kept" if config.keep_statistics else ""
    size = " x ".join(map(str, patch)) if patch else "whole fields"
    return (
        f"{config.loss.name} loss; {_optimizer(config.optimizer)}; {samples.batch} samples a step, {size}, "
        f"{f'{samples.tumor_share:.0%} of them around a tumour; ' if patch else ''}{phases}{_augmentation(config)}; "
        f"{'averaged weights; ' if config.average else ''}{config.precision}{statistics}; seed {config.seed}"
    )


def _phases(samples: SampleConfig) -> str:
    return (
        f"at most {samples.most_phases} phases, dropped {samples.phase_dropout:g}, "
        f"times moved by {samples.time_jitter:g} s"
    )


def _augmentation(config: TrainingConfig) -> str:
    shares = config.samples.augmentation.model_dump(exclude={"flip_axes"})
    shares |= {"field of view": config.samples.field_of_view, "later phase": config.samples.later_phase}
    done = [f"{name.replace('_', ' ')} {share:g}" for name, share in shares.items() if share]
    return f"augmentation: {', '.join(done) or 'none'}"


def _optimizer(config: OptimizerConfig) -> str:
    fall = (
        f"falling polynomially with power {config.power:g}"
        if config.schedule == "polynomial"
        else f"times {config.factor:g} every {config.step_epochs} epochs"
    )
    return f"{config.name}, learning rate {config.learning_rate:g} {fall}"
