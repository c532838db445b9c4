"""`breast-tumor-seg review`: what a reader study needs outside of Slicer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from BreastTumorSegLib.cli_progress import Progress, ProgressForm, events_of
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.job import reporting

if TYPE_CHECKING:
    from BreastTumorSegLib.review.records import Study
    from BreastTumorSegLib.review.worklist import Entry

review_app = typer.Typer(no_args_is_help=True, help="Reader studies: worklists, readers' stores, agreement.")

Sources = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of results, one a model: CASE/tumor.nii.gz or CASE.nii.gz; or one CSV. Then OUT.json."
    ),
]
Stores = Annotated[list[Path], typer.Argument(help="Readers' stores, NAME.sqlite; then OUT.")]


@review_app.command()
def worklist(
    sources: Sources,
    images: Annotated[
        Path | None, typer.Option(help="Exams, CASE/, or a cohort in MAMA-MIA's layout; not needed with a CSV.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the study: letters, digits, - and _.")] = "study",
    seed: Annotated[int, typer.Option(help="Of every reader's order.")] = 0,
    repeats: Annotated[float, typer.Option(help="Share of the masks that are shown twice.", min=0, max=1)] = 0.1,
    sample: Annotated[
        int | None, typer.Option(help="Take so many of each model and site, stratified by Dice.", min=4)
    ] = None,
    dice: Annotated[Path | None, typer.Option(help="evaluation.csv of `evaluate`, for --sample.")] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Empty masks to draw in, one an exam, in the folder OUT-empty.")
    ] = False,
) -> None:
    """List masks for review. Every reader gets an order of his own, with hidden repeats."""
    with reporting(Events()):
        *masks, out = _with_out(sources, "OUT.json")
        from BreastTumorSegLib.review.sampling import stratified_sample
        from BreastTumorSegLib.review.scratch import from_scratch as emptied
        from BreastTumorSegLib.review.session import check_study, store_path
        from BreastTumorSegLib.review.worklist import Worklist, write_worklist

        store_path(out.parent, name, "reader")  # refuses a name that no store could have
        check_study(name)
        entries = _entries(masks, images, dice)
        if sample is not None:
            chosen = {item.id: item for item in stratified_sample([entry.item for entry in entries], sample, seed)}
            if not chosen:
                raise InputError("No mask has a Dice.", "Give --dice, or a CSV with the column dice.")
            entries = [replace(e, item=chosen[e.item.id]) for e in entries if e.item.id in chosen]
        if from_scratch:
            entries = emptied(entries, out.with_name(f"{out.stem}-empty"))
        made = Worklist(name, seed, repeats, tuple(entries))
        write_worklist(made, out)
    again = len(made.order("")) - len(entries)
    print(f"{out}: {len(entries)} masks, {again} of them shown twice")
    for stratum, count in sorted(Counter(e.item.stratum for e in entries if e.item.stratum).items()):
        print(f"  {stratum}: {count}")


@review_app.command()
def merge(stores: Stores) -> None:
    """Merge readers' stores, with their masks, into OUT.sqlite. Doing so again changes nothing."""
    with reporting(Events()):
        *sources, out = _with_out(stores, "OUT.sqlite")
        from BreastTumorSegLib.review.merge import merge as run
        from BreastTumorSegLib.review.store import read_study

        problems = run(out, sources)
        study = read_study(out)
    for problem in problems:
        print(f"warning: {problem}")
    print(f"{out}: {len(study.scores)} scores, {len(study.corrections)} corrections")


@review_app.command()
def analyse(stores: Stores) -> None:
    """Agreement, times and corrections of readers: tables and a report in the folder OUT."""
    with reporting(Events()):
        *sources, out = _with_out(stores, "the folder OUT")
        from BreastTumorSegLib.report.review import write_review

        with _merged(sources) as (study, problems):
            problems += write_review(study, out)
    for problem in problems:
        print(f"warning: {problem}")
    print(out / "report.html")


@review_app.command()
def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Readers' stores, NAME.sqlite; then the agreed masks as in `evaluate`; then OUT."),
    ],
    worklists: Annotated[
        list[Path], typer.Option("--worklist", help="That lists the automatic masks; may be given several times.")
    ],
    progress: Progress = ProgressForm.text,
) -> None:
    """Automatic, hand-drawn and corrected masks against agreed ones, with times: tables and a page in OUT."""
    events = events_of(progress)
    with reporting(events):
        if len(sources) < 3:
            raise InputError(
                f"Only {len(sources)} paths are given.", "Name stores, the folder of agreed masks, and OUT."
            )
        *stores, references, out = sources
        from BreastTumorSegLib.report.comparison import write_comparison
        from BreastTumorSegLib.review.worklist import read_worklist

        entries = [entry for path in worklists for entry in read_worklist(path).entries]
        with _merged(stores) as (study, problems):
            problems += write_comparison(study, entries, references, out, events)
        for problem in problems:
            events.warning(problem)
        events.finished(out=str(out))
    if progress is ProgressForm.text:
        print(out / "comparison.html")


@contextmanager
def _merged(stores: list[Path]) -> Iterator[tuple[Study, list[str]]]:
    """The study of several stores, and what is wrong with their masks, while the block lasts."""
    from BreastTumorSegLib.review.merge import merge as run
    from BreastTumorSegLib.review.store import read_study

    with TemporaryDirectory() as folder:
        merged = Path(folder) / "merged.sqlite"
        problems = run(merged, stores)
        yield read_study(merged), problems


def _with_out(paths: list[Path], what: str) -> list[Path]:
    if len(paths) < 2:
        raise InputError(f"Only {paths[0]} is given.", f"Name what to read, and then {what}.")
    return paths


def _entries(masks: list[Path], images: Path | None, dice: Path | None) -> list[Entry]:
    from BreastTumorSegLib.review.worklist import from_csv, from_results

    if masks[0].suffix.lower() == ".csv":
        if len(masks) > 1 or images or dice:
            raise InputError(f"{masks[0]} is a table, and more is given.", "Let the table say all.")
        return from_csv(masks[0])
    if images is None:
        raise InputError("The exams' images are not given.", "Give --images, the folder that holds them by case.")
    if dice is not None and len(masks) > 1:
        raise InputError("--dice is of one model, and there are several.", "Use a CSV with the column dice.")
    return from_results(masks, images, dice)
