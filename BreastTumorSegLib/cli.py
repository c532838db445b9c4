"""The command line. Heavy modules are imported where they are needed, so that help comes at once."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from BreastTumorSegLib.cli_cohort import segment_cohort
from BreastTumorSegLib.cli_models import models_app
from BreastTumorSegLib.cli_nnunet import nnunet_app
from BreastTumorSegLib.cli_progress import Progress, ProgressForm, events_of
from BreastTumorSegLib.cli_review import review_app
from BreastTumorSegLib.cli_train import leave_one_out, train
from BreastTumorSegLib.core.cancel import cancellable
from BreastTumorSegLib.core.errors import InputError, require_packages
from BreastTumorSegLib.core.events import NONCONTRAST_STAGES, SEGMENT_STAGES, Events, JsonEvents
from BreastTumorSegLib.core.job import reporting, run_and_leave
from BreastTumorSegLib.core.models import maps_of

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Breast tumour segmentation from DCE-MRI. Research use only; not a medical device.",
)
app.add_typer(models_app, name="models")
app.add_typer(review_app, name="review")
app.add_typer(nnunet_app, name="nnunet")
app.command()(segment_cohort)
app.command()(train)
app.command()(leave_one_out)


class Convention(str, Enum):
    """How measures treat empty masks and distances; see `metrics.evaluate`."""

    clinical = "clinical"
    challenge = "challenge"


Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="A DICOM folder, a folder or list of 3D volumes, a 4D volume, a MAMA-MIA case, or an exam folder."
    ),
]
Times = Annotated[
    str | None, typer.Option(help="Seconds after the pre-contrast phase, one a phase: 0,120,240.", metavar="LIST")
]
Interval = Annotated[float, typer.Option(help="Seconds assumed between phases where no time is known.", min=1.0)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results; the old ones are kept beside them.")]


@app.command()
def inspect(
    inputs: Inputs,
    times: Times = None,
    interval: Interval = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show an exam's phases, where each time was read, and every problem. Reads headers only."""
    from BreastTumorSegLib.io import read_phase_table

    with reporting(Events()):
        table = read_phase_table(inputs, _numbers(times), interval)
        if as_json:
            print(json.dumps(table.as_dict(), indent=2))
        else:
            _print_table(table)
    if any(problem.fatal for problem in table.problems):
        raise typer.Exit(InputError.exit_code)


@app.command()
def segment(
    inputs: Annotated[list[Path], typer.Argument(help="INPUT (see `inspect`), then the folder for the results.")],
    model: Annotated[str | None, typer.Option(help="Tumour model; see `models list`.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    times: Times = None,
    interval: Interval = 120.0,
    overwrite: Overwrite = False,
    progress: Progress = ProgressForm.text,
) -> None:
    """Segment one exam: masks, kinetics, clusters and report, written to OUT."""
    if len(inputs) < 2:
        raise typer.BadParameter("Name the input and the folder for the results.")
    events = events_of(progress)
    *sources, out = inputs
    with reporting(events):
        report = _segment(sources, out, model, device, _numbers(times), interval, overwrite, events)
        events.finished(out=str(out))
    if progress is ProgressForm.text:
        print(report)


def _segment(
    sources: list[Path],
    out: Path,
    model: str | None,
    device: str,
    times: list[float] | None,
    interval: float,
    overwrite: bool,
    events: Events,
) -> Path:
    noncontrast = model is not None and maps_of(model) is not None
    events.started(command="segment", stages=NONCONTRAST_STAGES if noncontrast else SEGMENT_STAGES)
    require_packages()
    from BreastTumorSegLib.io import refuse_over_input, results_folder
    from BreastTumorSegLib.jobs.exam import segment_into

    refuse_over_input(sources, out)
    with results_folder(out, overwrite) as folder, cancellable(events, folder, isinstance(events, JsonEvents)):
        segment_into(folder, sources, model, device, events, times, interval)
    return out / "report.html"


class ClusterMethod(str, Enum):
    """How curves are clustered."""

    kmeans = "kmeans"
    vqvae = "vqvae"


@app.command()
def clusters(
    inputs: Annotated[list[Path], typer.Argument(help="INPUT (see `inspect`), then the folder for the results.")],
    method: Annotated[ClusterMethod, typer.Option(help="vqvae takes many minutes.")] = ClusterMethod.kmeans,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    times: Times = None,
    interval: Interval = 120.0,
    overwrite: Overwrite = False,
    progress: Progress = ProgressForm.text,
) -> None:
    """Quality and stability of the clusters of an exam's curves over K, as a table and a plot, written to OUT."""
    if len(inputs) < 2:
        raise typer.BadParameter("Name the input and the folder for the results.")
    events = events_of(progress)
    *sources, out = inputs
    with reporting(events):
        _clusters(sources, out, method.value, device, _numbers(times), interval, overwrite, events)
        events.finished(out=str(out))
    if progress is ProgressForm.text:
        print((out / "quality.csv").read_text(encoding="utf-8"), end="")


@app.command()
def heterogeneity(
    inputs: Annotated[list[Path], typer.Argument(help="INPUT (see `inspect`), then the folder for the results.")],
    mask: Annotated[Path, typer.Option(help="Lesions or breasts on the exam's grid, such as tumor.nii.gz.")],
    rim: Annotated[float, typer.Option(help="Millimetres around the mask that belong to it.")] = 0.0,
    method: Annotated[ClusterMethod, typer.Option(help="With the shipped codebooks.")] = ClusterMethod.kmeans,
    k: Annotated[int, typer.Option(help="Number of clusters.")] = 4,
    times: Times = None,
    interval: Interval = 120.0,
    overwrite: Overwrite = False,
    progress: Progress = ProgressForm.text,
) -> None:
    """Clusters of time-intensity curves in a region: label map, mean curves, composition of every label of the mask."""
    if len(inputs) < 2:
        raise typer.BadParameter("Name the input and the folder for the results.")
    events = events_of(progress)
    *sources, out = inputs
    with reporting(events):
        _heterogeneity(sources, out, mask, rim, method.value, k, _numbers(times), interval, overwrite, events)
        events.finished(out=str(out))
    if progress is ProgressForm.text:
        print((out / "composition.csv").read_text(encoding="utf-8"), end="")


def _heterogeneity(
    sources: list[Path],
    out: Path,
    mask: Path,
    rim: float,
    method: str,
    k: int,
    times: list[float] | None,
    interval: float,
    overwrite: bool,
    events: Events,
) -> None:
    events.started(command="heterogeneity", stages=["headers", "load", "clusters", "write"])
    from BreastTumorSegLib.core.exam import require_contrast
    from BreastTumorSegLib.io import load_exam, read_volume, refuse_over_input, results_folder
    from BreastTumorSegLib.segmentation.heterogeneity import map_heterogeneity, write_heterogeneity

    refuse_over_input([*sources, mask], out)
    with results_folder(out, overwrite) as folder, cancellable(events, folder, isinstance(events, JsonEvents)):
        exam = load_exam(sources, times, interval, events)
        require_contrast(exam)
        labels, grid = read_volume(mask)
        events.progress("clusters", 0, 1)
        found = map_heterogeneity(exam, labels, grid, rim, method, k)
        events.progress("write", 0, 1)
        write_heterogeneity(found, exam, folder, method=method, k=k, rim_mm=rim)


def _clusters(
    sources: list[Path],
    out: Path,
    method: str,
    device: str,
    times: list[float] | None,
    interval: float,
    overwrite: bool,
    events: Events,
) -> None:
    events.started(command="clusters", stages=["headers", "load", "models", "breast", "clusters"])
    require_packages()
    from BreastTumorSegLib.core.exam import require_contrast
    from BreastTumorSegLib.io import load_exam, refuse_over_input, results_folder

    refuse_over_input(sources, out)
    with results_folder(out, overwrite) as folder, cancellable(events, folder, isinstance(events, JsonEvents)):
        exam = load_exam(sources, times, interval, events)
        require_contrast(exam)
        events.progress("models", 0, 1)  # importing PyTorch takes seconds
        from BreastTumorSegLib.report.cluster_quality import exam_quality, write_quality

        write_quality(exam_quality(exam, method, device, events), folder)


@app.command()
def simulate(
    out: Path,
    site: Annotated[str, typer.Option(help="DUKE, ISPY1, ISPY2, NACT or TCGA.")],
    cases: Annotated[int, typer.Option(help="How many exams.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first exam; the others count up.", min=0)] = 0,
    spacing: Annotated[
        float | None, typer.Option(help="Isotropic voxels of so many mm; the site's own without it.", min=0.5)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    progress: Progress = ProgressForm.text,
) -> None:
    """Write simulated exams in MAMA-MIA's layout, with every ground truth."""
    events = events_of(progress)
    with reporting(events), cancellable(events, listen=isinstance(events, JsonEvents)):
        from BreastTumorSegLib.phantom.simulate import simulate_cohort
        from BreastTumorSegLib.segmentation.inference import choose_device

        events.started(command="simulate")
        names = simulate_cohort(out, site, cases, seed, str(choose_device(device)), events, spacing)
        events.finished(cases=names)
    if progress is ProgressForm.text:
        for name in names:
            print(out / "images" / name)


@app.command()
def evaluate(
    predictions: Path,
    references: Path,
    out: Path,
    convention: Annotated[Convention, typer.Option(help="How empty masks and distances count.")] = Convention.clinical,
    groups: Annotated[
        Path | None,
        typer.Option(help="CSV with case, age, menopausal_status, breast_density: adds the challenge's fairness."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare masks with references: a table a case and a summary."""
    from BreastTumorSegLib.metrics.evaluate import evaluate_folders

    with reporting(Events()):
        evaluate_folders(predictions, references, out, convention.value, groups, overwrite)
    print((out / "summary.csv").read_text(encoding="utf-8"), end="")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    results: Annotated[Path | None, typer.Option(help="Folder whose disk is looked at, too.")] = None,
) -> None:
    """Show what is installed, device, memory, disk and models, and what keeps them from working."""
    from BreastTumorSegLib.doctor import examine, shown

    report = examine(results)
    print(shown(report, as_json))
    raise typer.Exit(report.exit_code)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--times {text!r} is no list of numbers.", "Give numbers such as 0,120,240.") from error


def _print_table(table: Any) -> None:
    print(f"{'time':>10}  {'read from':<28}{'voxels':<18}{'spacing, mm':<22}phase")
    for phase in table.phases:
        size = " x ".join(map(str, phase.geometry.size))
        spacing = " x ".join(f"{step:.3g}" for step in phase.geometry.spacing)
        print(f"{phase.time:>8.1f} s  {phase.source.value:<28}{size:<18}{spacing:<22}{phase.name}")
    for problem in table.problems:
        print(f"{'error' if problem.fatal else 'warning'}: {problem}")


def main() -> None:
    """Run the command line."""
    run_and_leave(app)
