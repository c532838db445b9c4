"""`breast-tumor-seg review`: what a reader study needs outside of Slicer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.job import reporting

if TYPE_CHECKING:
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
) -> None:
    """List masks for review. Every reader gets an order of his own, with hidden repeats."""
    with reporting(Events()):
        *masks, out = _with_out(sources, "OUT.json")
        from BreastTumorSegLib.review.sampling import stratified_sample
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
        from BreastTumorSegLib.review.merge import merge as run
        from BreastTumorSegLib.review.store import read_study

        with TemporaryDirectory() as folder:
            merged = Path(folder) / "merged.sqlite"
            problems = run(merged, sources)
            problems += write_review(read_study(merged), out)
    for problem in problems:
        print(f"warning: {problem}")
    print(out / "report.html")


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
