"""Cohorts to train and test on, from MAMA-MIA's folder or a CSV, in one form and checked at once. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from BreastTumorSegLib.core.errors import BreastTumorSegError, InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import mama_mia
from BreastTumorSegLib.io.clinical_table import clinical_rows, groups_of, read_table
from BreastTumorSegLib.io.files import is_volume_file, natural_key, read_geometry

IMAGES = "images"
SEGMENTATIONS = "segmentations"
GROUND_TRUTH = "ground_truth"
SPLITS = "train_test_splits.csv"
COLUMNS = ("case", "site", "phases", "times", "tumor", "breast", "split")
"""Columns of a cohort's CSV; every further column is a group. Only case, phases, times and tumor are needed."""
_NEEDED = ("case", "phases", "times", "tumor")
_SPLIT_NAMES = ("train", "test", "")
_THREADS = 8
_SHOWN = 20


@dataclass(frozen=True)
class Case:
    """An exam to train or test on. Nothing says yet that its files are there: see `check_cohort`.

    Attributes:
        name: Such as DUKE_001; each there once.
        site: Where it was acquired.
        phases: One volume file a phase, the pre-contrast phase first.
        times: Seconds after the pre-contrast phase, one a phase; empty where not known.
        tumors: One mask, or one of each annotator; every voxel above 0 is tumour, and there may be none.
        breast: Mask of the breasts, any label above 0.
        split: "train", "test", or "" where there is no official split.
        groups: What subgroups are made of: age, menopausal_status, breast_density, where known.
        simulated: Whether its json says that no patient is behind it.
    """

    name: str
    site: str
    phases: tuple[Path, ...]
    times: tuple[float, ...]
    tumors: tuple[Path, ...]
    breast: Path | None = None
    split: str = ""
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    simulated: bool = False


@dataclass(frozen=True)
class Cohort:
    """Cases in order of their names.

    Attributes:
        cases: In order of name.
        problems: What could not be read of them; `check_cohort` tells it with the rest.
        notes: What was left out, and does no harm.
    """

    cases: tuple[Case, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(sorted(self.cases, key=lambda case: case.name)))

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site once, sorted."""
        return tuple(sorted({case.site for case in self.cases}))

    def of_site(self, *sites: str) -> Cohort:
        """The cases of these sites."""
        return Cohort(tuple(case for case in self.cases if case.site in sites))

    def of_split(self, split: str) -> Cohort:
        """The cases of the official "train" or "test" split, or those that have none, ""."""
        return Cohort(tuple(case for case in self.cases if case.split == split))

    def without(self, names: Iterable[str]) -> Cohort:
        """All cases but these."""
        left_out = set(names)
        return Cohort(tuple(case for case in self.cases if case.name not in left_out))


def site_of(name: str) -> str:
    """DUKE of DUKE_001, as MAMA-MIA names its cases."""
    return name.partition("_")[0]


def read_cohort(source: Path, labels: Literal["expert", "automatic"] = "expert") -> Cohort:
    """A cohort from a MAMA-MIA folder or from a CSV; raises as `read_mama_mia` and `read_cohort_csv`."""
    return read_mama_mia(source, labels) if source.is_dir() else read_cohort_csv(source)


def read_mama_mia(folder: Path, labels: Literal["expert", "automatic"] = "expert") -> Cohort:
    """The cohort of a folder in MAMA-MIA's layout, also of one from `simulate`.

    `images/CASE/CASE_000k.nii.gz`, `segmentations/{expert,automatic}/CASE.nii.gz`; where they are there,
    `patient_info_files/case.json` (times, groups), `clinical_and_imaging_info.csv` or `.xlsx` (what the json lacks),
    `train_test_splits.csv` (columns train_split and test_split of cases), `ground_truth/CASE/breast.nii.gz`. Names of
    files may be in lower case. Source: Garrucho et al., Sci Data 2025, and the tables as released.

    Raises:
        InputError: The folder has no case, or a table of it is damaged.
    """
    folder = Path(folder).absolute()
    images = folder / IMAGES
    names = sorted(place.name for place in images.iterdir() if _is_case(place)) if images.is_dir() else []
    if not names:
        raise InputError(f"{folder} has no case in {IMAGES}/CASE.", "Give the folder that MAMA-MIA was unpacked to.")
    splits, problems = _read_splits(folder / SPLITS)
    table, note = clinical_rows(folder)
    cases = []
    for name in names:
        info, wrong = _info_of(folder, name, table.get(name.upper(), {}))
        problems += wrong
        breast = folder / GROUND_TRUTH / name / "breast.nii.gz"
        cases.append(
            Case(
                name,
                site_of(name),
                _phases_in(images / name),
                info.times,
                (_mask_of(folder / SEGMENTATIONS / labels, name),),
                breast if breast.is_file() else None,
                splits.get(name.upper(), ""),
                info.groups,
                info.simulated,
            )
        )
    return Cohort(tuple(cases), tuple(problems), (note,) if note else ())


def _is_case(place: Path) -> bool:
    return place.is_dir() and not place.name.startswith(".")


def _phases_in(folder: Path) -> tuple[Path, ...]:
    """Volume files by number; where any is named like a phase, CASE_000k, only those."""
    files = sorted((file for file in folder.iterdir() if is_volume_file(file)), key=natural_key)
    named = [file for file in files if mama_mia.case_of(file)]
    return tuple(named or files)


def _mask_of(folder: Path, name: str) -> Path:
    """The case's mask; where neither spelling is there, the path it should have, for the check to miss it."""
    places = [folder / f"{spelt}.nii.gz" for spelt in (name, name.lower())]
    return next((place for place in places if place.is_file()), places[0])


@dataclass(frozen=True)
class _Info:
    times: tuple[float, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False


def _info_of(folder: Path, name: str, row: Mapping[str, str]) -> tuple[_Info, list[str]]:
    """Times and groups of a case by its json, and by its row of the table where the json lacks them."""
    places = [folder / mama_mia.INFO_FOLDER / f"{spelt}.json" for spelt in (name.lower(), name)]
    file = next((place for place in places if place.is_file()), None)
    try:
        info = mama_mia.read_info(file) if file else {}
        times = mama_mia.listed_times(info) or mama_mia.listed_times(row) or ()
    except ValueError as error:
        return _Info(), [f"{name}: {file or 'its acquisition_times in the clinical table'} can't be read: {error}."]
    clinical = info.get("clinical_data")
    groups = groups_of(row) | groups_of(clinical if isinstance(clinical, Mapping) else info)
    return _Info(times, groups, info.get("simulated") is True), []


def _read_splits(file: Path) -> tuple[dict[str, str], list[str]]:
    if not file.is_file():
        return {}, []
    rows = read_table(file)
    if not rows or not {"train_split", "test_split"} <= set(rows[0]):
        return {}, [f"{file} has no columns train_split and test_split."]
    splits = {split: {row[f"{split}_split"].upper() for row in rows} - {""} for split in ("train", "test")}
    both = sorted(splits["train"] & splits["test"])
    problems = [f"{file} has {', '.join(both)} in both splits."] if both else []
    return {name: split for split, names in splits.items() for name in names}, problems


def read_cohort_csv(file: Path) -> Cohort:
    """The cohort of a CSV with a row a case; paths are relative to the file.

    Columns: `case`; `phases`, paths with ";" between them, or a folder of volumes; `times`, seconds with ";" between
    them; `tumor`, a path, or one of each annotator with ";" between them; and where wanted `site` (else the name up to
    its first "_"), `breast`, `split` (train or test). Every further column is a group, such as `age`.

    Raises:
        InputError: There is no such file, it has no case, or lacks a column.
    """
    file = Path(file).absolute()
    rows = read_table(file)
    if not rows:
        raise InputError(f"{file} has no case.", f"Give it a first line such as {','.join(COLUMNS)}, and a row a case.")
    missing = [column for column in _NEEDED if column not in rows[0]]
    if missing:
        raise InputError(f"{file} has no column {', '.join(missing)}.", f"Its columns are {', '.join(COLUMNS)}.")
    read = [_case_of(row, file.parent) for row in rows]
    return Cohort(tuple(case for case, _ in read), tuple(wrong for _, wrong in read if wrong))


def _case_of(row: Mapping[str, str], folder: Path) -> tuple[Case, str]:
    """A case, and what is wrong with its numbers."""
    phases = _paths(row["phases"], folder)
    if len(phases) == 1 and phases[0].is_dir():
        phases = _phases_in(phases[0])
    name, wrong = row["case"], ""
    try:
        times = tuple(float(time) for time in row["times"].split(";") if time.strip())
    except ValueError:
        times, wrong = (), f"{name}: the times {row['times']!r} are no numbers with ; between them."
    breast = _paths(row.get("breast", ""), folder)
    groups = {column: row[column] for column in row if column and column not in COLUMNS and row[column]}
    site, split = row.get("site") or site_of(name), row.get("split", "").lower()
    tumors = _paths(row["tumor"], folder)
    return Case(name, site, phases, times, tumors, breast[0] if breast else None, split, groups), wrong


def _paths(text: str, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / part.strip() for part in text.split(";") if part.strip())


def check_cohort(cohort: Cohort, events: Events | None = None) -> list[str]:
    """Every problem of every case, in the cases' order; empty where there is none.

    Looks at names, times and splits, and at the headers of all phases and masks: that they are there, can be read and
    have one geometry. Voxels are not read: a mask may be empty, and whatever is above 0 in it counts.

    Raises:
        Cancelled: Asked for through `events`.
    """
    events = events or Events()
    for note in cohort.notes:
        events.warning(note)
    found = [*cohort.problems, *_doubled(cohort)]
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for done, problems in enumerate(pool.map(_problems_of, cohort.cases)):
                events.progress("check", done, len(cohort))
                found += problems
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    events.progress("check", len(cohort), len(cohort))
    return found


def require_sound(cohort: Cohort, events: Events | None = None) -> None:
    """Refuse a cohort that has problems, or no case.

    Raises:
        InputError: It lists the first 20 problems, and how many more there are.
    """
    found = check_cohort(cohort, events)
    if not cohort.cases:
        raise InputError("The cohort has no case.", "Give one with cases, or look at how they were chosen.")
    if not found:
        return
    more = f"\n... and {len(found) - _SHOWN} more." if len(found) > _SHOWN else ""
    count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
    listed = "\n".join(f"- {problem}" for problem in found[:_SHOWN])
    raise InputError(f"The cohort has {count}:\n{listed}{more}\n", "Correct them, or take the cases out.")


def _doubled(cohort: Cohort) -> list[str]:
    """Names that a file system may take for one."""
    counts = Counter(case.name.lower() for case in cohort.cases)
    return [f"{name.upper()}: there are {count} cases of this name." for name, count in counts.items() if count > 1]


def _problems_of(case: Case) -> list[str]:
    found = [*_name_problems(case), *_time_problems(case), *_file_problems(case)]
    return [f"{case.name or '(no name)'}: {problem}" for problem in found]


def _name_problems(case: Case) -> list[str]:
    # An experiment has a folder of each site, and one of each case.
    found = [f"{name!r} can't be a file's name." for name in (case.name, case.site) if not _is_plain(name)]
    if case.split not in _SPLIT_NAMES:
        found.append(f"the split {case.split!r} is neither train nor test.")
    return found


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')


def _time_problems(case: Case) -> list[str]:
    times, count = case.times, len(case.phases)
    found = [f"only {count} phase{'s' * (count != 1)}; at least 2 are needed."] if count < 2 else []
    if not times:
        return [*found, "no times."]
    shown = ", ".join(f"{time:g}" for time in times)
    if len(times) != count:
        found.append(f"{len(times)} times ({shown}) and {count} phases.")
    if not all(math.isfinite(time) for time in times):
        return [*found, f"the times {shown} are not all numbers."]
    if times[0] != 0:
        found.append(f"the times {shown} do not start at 0.")
    if any(later <= earlier for earlier, later in pairwise(times)):
        found.append(f"the times {shown} do not increase.")
    return found


def _file_problems(case: Case) -> list[str]:
    """What the headers tell; all files are held against the first one that can be read."""
    found = [] if case.tumors else ["no tumour mask."]
    breast = [case.breast] if case.breast else []
    first: tuple[Path, Geometry] | None = None
    for file in (*case.phases, *case.tumors, *breast):
        try:
            grid = read_geometry(file)
        except BreastTumorSegError as error:
            found.append(error.message)
            continue
        first = first or (file, grid)
        difference = grid.difference(first[1])
        if difference:
            found.append(f"{file.name} is not on the grid of {first[0].name}: {difference}.")
    return found
