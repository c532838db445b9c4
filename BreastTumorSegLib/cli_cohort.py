"""`breast-tumor-seg segment-cohort`: many exams on Dask."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from BreastTumorSegLib.cli_progress import Progress, ProgressForm, TextEvents, duration
from BreastTumorSegLib.core.errors import DependencyError, InputError, require_packages
from BreastTumorSegLib.core.events import Events, JsonEvents
from BreastTumorSegLib.core.job import reporting

if TYPE_CHECKING:
    from BreastTumorSegLib.jobs.cohort import Tally

SOME_FAILED = InputError.exit_code
"""Exit code where all was tried, and some exams failed."""


class CohortText(TextEvents):
    """One line for every exam that ended."""

    def show(self, event: dict[str, Any]) -> None:
        """Print a warning, or how far it is."""
        if event["event"] != "progress":
            super().show(event)
        elif "per_hour" in event:
            left = "" if event["seconds_left"] is None else f", {duration(event['seconds_left'])} left"
            rate = f"{event['per_hour']:.0f} exams an hour{left}"
            print(f"{event['done']}/{event['total']}: {rate}", file=sys.stderr, flush=True)


def segment_cohort(
    exams: Annotated[
        Path,
        typer.Argument(help="A folder of exams, a CSV with case,exam, or a text file of one path a line."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the results; each case gets its own in it.")],
    model: Annotated[str | None, typer.Option(help="Tumour model; see `models list`.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Local processes; as many as cores, memory and GPUs allow without it.", min=1)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler that runs, tcp://HOST:8786.")
    ] = None,
    progress: Progress = ProgressForm.text,
) -> None:
    """Segment many exams. Started again, it goes on where it was; exams that fail are listed, and the rest goes on."""
    events: Events = JsonEvents(sys.stdout) if progress is ProgressForm.json else CohortText()
    with reporting(events):
        events.started(command="segment-cohort", stages=["cohort"])
        _require_dask()
        from BreastTumorSegLib.jobs.cases import find_cases

        if workers and scheduler:
            raise InputError("--workers is of local processes, and --scheduler names a cluster.", "Give one of them.")
        cases = find_cases(exams, out)
        events.progress("cohort", 0, len(cases))  # importing PyTorch takes seconds
        from BreastTumorSegLib.jobs.cohort import Plan
        from BreastTumorSegLib.jobs.cohort import segment_cohort as run

        tally = run(cases, Plan(out, model, device, workers, scheduler), events, isinstance(events, JsonEvents))
        failed = [outcome.case for outcome in tally.failed]
        done = len(tally.outcomes) - len(failed)
        events.finished(out=str(out), done=done, skipped=tally.skipped, failed=failed, per_hour=tally.per_hour)
    if progress is ProgressForm.text:
        _print_summary(tally, out)
    raise typer.Exit(SOME_FAILED if failed else 0)


def _require_dask() -> None:
    require_packages()
    absent = [name for name in ("dask", "distributed", "psutil") if find_spec(name) is None]
    if absent:
        raise DependencyError(
            f"{', '.join(absent)} not installed, which segment-cohort needs.",
            'Install it: pip install "dask[distributed]".',
        )


def _print_summary(tally: Tally, out: Path) -> None:
    for outcome in tally.failed:
        print(f"failed: {outcome.case}: {outcome.message} {outcome.remedy}".rstrip())
    done = len(tally.outcomes) - len(tally.failed)
    counts = f"{done} done, {tally.skipped} were done before, {len(tally.failed)} failed"
    print(f"{counts}; {tally.per_hour:.0f} exams an hour")
    print(out / "cohort.csv")
