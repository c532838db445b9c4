"""What is to be reviewed, and in which order each reader sees it.

A worklist is a JSON file: `{"format", "name", "seed", "repeats", "entries": [{"id", "case", "model", "site", "stratum",
"dice", "images", "mask", "breast", "probability"}]}`; its paths are relative to the file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import Item, Place

FORMAT = 1
ENDING = ".nii.gz"
REPEAT_GAP = 20
"""Cases at least between a case and its hidden repeat, in a worklist that is long enough."""
COLUMNS = ("case", "images", "mask", "breast", "probability", "model", "site", "dice", "stratum")
"""Of a CSV that lists masks; the first three are needed. Paths are relative to the file."""


@dataclass(frozen=True)
class Entry:
    """A mask to review, and where its files are.

    Attributes:
        item: What it is.
        images: The exam: a MAMA-MIA case folder, an exam folder, or a folder of volumes, one a phase.
        mask: The automatic mask.
        breast: Whole-breast mask, if there is one.
        probability: Tumour probability, if there is one.
    """

    item: Item
    images: Path
    mask: Path
    breast: Path | None = None
    probability: Path | None = None

    def blinded(self, text: str) -> str:
        """A message as its reader may see it: without the case, the model, their files, and any other path."""
        named: list[tuple[Path | None, str]] = [(self.mask, "the mask"), (self.images, "the images")]
        named += [(self.breast, "the breast mask"), (self.probability, "the probability")]
        for path, words in named:
            if path is not None:
                text = re.sub(re.escape(str(path)) + r"([/\\]\S*)?", words, text)
        text = re.sub(r"\S*[/\\]\S*", "…", text)
        secrets = {self.item.case, self.item.model, *(part for path, _words in named if path for part in _names(path))}
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
        return text


_USUAL = {"tumor", "breast", "tumor_probability", "images"}


def _names(path: Path) -> set[str]:
    """What a path may tell: of a case or a model, but for the names that all have."""
    stem = path.name.partition(".")[0]
    names = {path.parent.name} if stem in _USUAL else {path.name, stem}
    return names - _USUAL


@dataclass(frozen=True)
class Worklist:
    """Entries and how they are shuffled.

    Attributes:
        name: Of the study.
        seed: Of every reader's order.
        repeats: Share of the entries that a reader gets twice, 0 to 1.
        entries: In the order of their ids, which says nothing of cases and models.
    """

    name: str
    seed: int
    repeats: float
    entries: tuple[Entry, ...]

    def order(self, reader: str) -> tuple[Place, ...]:
        """The order of a reader: the same at every call, another for every reader.

        Repeats come at least `REPEAT_GAP` cases after the first time, or a quarter of a short worklist; so as many
        cases at the end are never repeated, and a share near 1 is not reached.
        """
        chance = random.Random(f"order/{self.seed}/{reader}")  # text as seed: the same in every version of Python
        items = [entry.item.id for entry in self.entries]
        chance.shuffle(items)
        gap = min(REPEAT_GAP, max(len(items) // 4, 1))
        early = items[: max(len(items) - gap, 0)]
        shown = [(item, False) for item in items]
        for item in chance.sample(early, min(round(self.repeats * len(items)), len(early))):
            first = shown.index((item, False))
            shown.insert(chance.randint(first + 1 + gap, len(shown)), (item, True))
        return tuple(Place(position, item, repeat) for position, (item, repeat) in enumerate(shown))


def item_id(case: str, model: str, mask_sha256: str) -> str:
    """The opaque id of a mask: the same wherever and whenever it is listed."""
    return hashlib.sha256("\n".join((case, model, mask_sha256)).encode()).hexdigest()[:12]


def write_worklist(worklist: Worklist, path: Path) -> None:
    """Write a worklist beside its place and rename it; one that is there is not replaced.

    Raises:
        InputError: The file is there: readers may have begun.
        OutputError: It can't be written.
    """
    if path.exists():
        raise InputError(f"{path} is already there, and readers may have begun.", "Choose another name.")
    content = {
        "format": FORMAT,
        "name": worklist.name,
        "seed": worklist.seed,
        "repeats": worklist.repeats,
        "entries": [_as_dict(entry, path.parent) for entry in worklist.entries],
    }
    partial = path.with_name(path.name + ".partial")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def read_worklist(path: Path) -> Worklist:
    """Read a worklist; whether its files are there is looked at when they are needed.

    Raises:
        InputError: It is missing, damaged, or of a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise InputError(f"{path} is of a newer version of BreastTumorSeg.", "Update BreastTumorSeg.")
        entries = tuple(_entry(fields, path.parent) for fields in content["entries"])
        return Worklist(str(content["name"]), int(content["seed"]), float(content["repeats"]), entries)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.", "Check the path.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no worklist ({error}).", "Make it again with review worklist.") from error


def from_results(folders: Sequence[Path], images: Path, dice: Path | None = None) -> list[Entry]:
    """Entries of results.

    Args:
        folders: Each holds results folders CASE/tumor.nii.gz, or masks CASE.nii.gz. The model is what result.json says,
            else the folder's name.
        images: Exams, CASE/; or a cohort in MAMA-MIA's layout, images/CASE/.
        dice: `evaluation.csv` of `evaluate`, for a stratified sample; of one results folder.

    Raises:
        InputError: With every problem there is.
    """
    exams = images / "images" if (images / "images").is_dir() else images
    known = _dice_of(dice) if dice else {}
    problems: list[str] = []
    entries = []
    for folder in folders:
        found = _masks_in(folder)
        if not found:
            problems.append(f"{folder} holds neither CASE/tumor{ENDING} nor CASE{ENDING}.")
        for case, mask in found.items():
            row = {"case": case, "images": exams / case, "mask": mask, "model": model_of(mask) or folder.name}
            row |= {"site": case.split("_")[0], "dice": known.get(case)}
            row |= {
                key: _beside(mask, name) for key, name in (("breast", "breast"), ("probability", "tumor_probability"))
            }
            entries.append(_checked(row, problems))
    return _all_or_error(entries, problems)


def from_csv(path: Path) -> list[Entry]:
    """Entries of a table with the columns of `COLUMNS`.

    Raises:
        InputError: With every problem there is.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read: {error}.", "Give a CSV in UTF-8.") from error
    lacking = [name for name in COLUMNS[:3] if not rows or name not in rows[0]]
    if lacking:
        raise InputError(f"{path} has no column {', '.join(lacking)}, or no rows.", f"Columns: {', '.join(COLUMNS)}.")
    problems: list[str] = []
    entries = []
    for line, row in enumerate(rows, start=2):
        fields: dict[str, Any] = {name: (row.get(name) or "").strip() for name in COLUMNS}
        fields["dice"] = _number(fields["dice"], f"line {line}", problems)
        for name in COLUMNS[1:5]:
            fields[name] = path.parent / fields[name] if fields[name] else None
        entries.append(_checked(fields, problems, f"line {line}: "))
    return _all_or_error(entries, problems)


def _checked(row: dict[str, Any], problems: list[str], where: str = "") -> Entry | None:
    """The entry of a row; None where a file is missing, with the reason among the problems."""
    needed, optional = ("mask", "images"), ("breast", "probability")
    lacking = [f"{where}{row['case']}: no {name} is given." for name in needed if row[name] is None]
    named = [name for name in (*needed, *optional) if row.get(name) is not None]
    lacking += [f"{where}{row['case']}: {row[name]} is missing." for name in named if not row[name].exists()]
    problems += lacking
    if lacking:
        return None
    identity = item_id(row["case"], row["model"], sha256_of(row["mask"]))
    item = Item(identity, row["case"], row["model"], row["site"], row.get("stratum", ""), row["dice"])
    return Entry(item, row["images"], row["mask"], row.get("breast"), row.get("probability"))


def _all_or_error(entries: Iterable[Entry | None], problems: list[str]) -> list[Entry]:
    whole = [entry for entry in entries if entry is not None]
    listed = Counter(entry.item.id for entry in whole)
    problems += [f"{entry.item.case}: {entry.mask} is listed twice." for entry in whole if listed[entry.item.id] > 1]
    if problems:
        raise InputError("\n".join([f"{len(problems)} problems:", *problems]), "Nothing was written.")
    return sorted(whole, key=lambda entry: entry.item.id)


def _masks_in(folder: Path) -> dict[str, Path]:
    found = {path.parent.name: path for path in folder.glob(f"[!.]*/tumor{ENDING}")}
    return dict(sorted(found.items())) or {
        path.name.removesuffix(ENDING): path for path in sorted(folder.glob(f"[!.]*{ENDING}"))
    }


def model_of(mask: Path) -> str:
    """The tumour model that the result.json beside a mask names; "" where there is none."""
    try:
        models = _manifest_beside(mask)["models"]
        return str(next(model["name"] for model in models if model["task"] == "tumor"))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""


def job_seconds(mask: Path) -> float:
    """Seconds of the stages that the result.json beside a mask timed; NaN where there are none."""
    try:
        return float(sum(_manifest_beside(mask)["timings"].values())) or float("nan")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return float("nan")


def _manifest_beside(mask: Path) -> Any:
    return json.loads(mask.with_name("result.json").read_text(encoding="utf-8"))


def _beside(mask: Path, name: str) -> Path | None:
    """A file of the same results folder; masks that are alone have none."""
    path = mask.with_name(f"{name}{ENDING}")
    return path if mask.name == f"tumor{ENDING}" and path.is_file() else None


def _dice_of(path: Path) -> dict[str, float]:
    problems: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = {row["case"]: _number(row["dice"], row["case"], problems) for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table of evaluate ({error}).", "It needs the columns case and dice.") from error
    if problems:
        raise InputError("\n".join([f"{path}:", *problems]), "Correct the table.")
    return {case: value for case, value in found.items() if value is not None}


def _number(text: str, where: str, problems: list[str]) -> float | None:
    """A number; None where there is none, or nan."""
    if text.lower() in ("", "nan"):
        return None
    try:
        if 0 <= (number := float(text)) <= 1:
            return number
    except ValueError:
        pass
    problems.append(f"{where}: the Dice {text!r} is no number from 0 to 1.")
    return None


def _as_dict(entry: Entry, folder: Path) -> dict[str, Any]:
    paths = {name: getattr(entry, name) for name in COLUMNS[1:5]}
    return asdict(entry.item) | {name: _relative(path, folder) if path else None for name, path in paths.items()}


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _entry(fields: dict[str, Any], folder: Path) -> Entry:
    paths = [folder / fields[name] if fields[name] else None for name in COLUMNS[1:5]]
    images, mask, breast, probability = (Path(os.path.normpath(path)) if path else None for path in paths)
    if images is None or mask is None:
        raise ValueError(f"images or mask of {fields['id']} is missing")
    names = ("id", "case", "model", "site", "stratum", "dice")
    return Entry(Item(*(fields[name] for name in names)), images, mask, breast, probability)
