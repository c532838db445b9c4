"""What a reader study keeps. Names and values here stand in stores and tables, and stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Score(str, Enum):
    """Quality of a mask, as readers of MAMA-MIA scored it (Garrucho et al. 2025), from best to worst."""

    GOOD = "Good"
    ACCEPTABLE = "Acceptable"
    POOR = "Poor"
    MISSED = "Missed"


GUIDELINES = {
    Score.GOOD: "Precise; no major correction is needed.",
    Score.ACCEPTABLE: "The tumour is captured; a few voxels are wrong and should be improved.",
    Score.POOR: "Imprecise; many voxels outside of the tumour, or much of the tumour left out.",
    Score.MISSED: "The mask is in a part of the breast that has nothing to do with the tumour, or there is none.",
}
"""What each score means, after the same paper."""


CORRECTION_GUIDELINES = (
    "Correct on the first phase after contrast; the subtraction or a later phase may help.",
    "Of several tumours segment the primary one, and others only where they lie in the same volume of interest.",
    "Where enhancement is no mass, leave out healthy tissue as far as possible.",
    "Leave out tissue markers (clips).",
    "Necrosis is part of the tumour.",
    "Leave out lymph nodes within the breast.",
    "Check that the mask is right in all three views, not only in the sharpest one.",
)
"""What readers who correct are told, after the same paper."""


FROM_SCRATCH = "from scratch"
"""Name, in the place of a model's, of what makes the empty masks that readers draw in."""


class Exclusion(str, Enum):
    """Why a case is left out; the first two are the paper's."""

    NO_ENHANCEMENT = "Insufficient contrast enhancement"
    ARTEFACTS = "Artefacts"
    WRONG_IMAGES = "Wrong or incomplete images"
    OTHER = "Other"


@dataclass(frozen=True)
class Item:
    """A mask to review. What a reader must not know stands here, too; the panels don't show it.

    Attributes:
        id: Opaque, the same in every worklist and for every reader.
        case: Name of the case.
        model: Name of what made the mask; "" where unknown.
        site: Where the exam is from; "" where unknown.
        stratum: Part of a stratified sample: "lowest", "highest", "rest", or "".
        dice: Dice of the mask against a reference, where the worklist was made with one.
    """

    id: str
    case: str
    model: str = ""
    site: str = ""
    stratum: str = ""
    dice: float | None = None


@dataclass(frozen=True)
class Place:
    """A place in a reader's order.

    Attributes:
        position: From 0.
        item: Id of the item that is shown there.
        repeat: Whether the reader saw the item before; never shown.
    """

    position: int
    item: str
    repeat: bool = False


@dataclass(frozen=True)
class ScoreRecord:
    """One saved score. Of several of one reader, position and item, the last counts.

    Attributes:
        id: Unique, everywhere.
        reader: Who scored.
        item: What was scored.
        position: Where in the reader's order.
        repeat: Whether that was a hidden repeat.
        score: None where the case was excluded.
        exclusion: None where it was scored.
        comment: The reader's own words.
        seconds: Time the reader was active on it, in all.
        saved_at: When, as ISO 8601 in UTC.
    """

    id: str
    reader: str
    item: str
    position: int
    repeat: bool
    score: Score | None
    exclusion: Exclusion | None
    comment: str
    seconds: float
    saved_at: str


@dataclass(frozen=True)
class Change:
    """What a correction changed.

    Attributes:
        voxels_added: Voxels of the corrected mask that the automatic one lacks.
        voxels_removed: Voxels of the automatic mask that the corrected one lacks.
        added_ml: The same in millilitres.
        removed_ml: The same in millilitres.
        automatic_ml: Volume of the automatic mask in millilitres.
        corrected_ml: Volume of the corrected mask in millilitres.
        dice: Dice between the two; NaN where both are empty.
        hd95_mm: 95th percentile of the Hausdorff distance in mm; NaN where both are empty, infinite where one is.
    """

    voxels_added: int
    voxels_removed: int
    added_ml: float
    removed_ml: float
    automatic_ml: float
    corrected_ml: float
    dice: float
    hd95_mm: float


@dataclass(frozen=True)
class CorrectionRecord:
    """One saved version of a corrected mask. All are kept; of one reader, position and item, the last counts.

    Attributes:
        id: Unique, everywhere.
        reader: Its author.
        item: Whose automatic mask was corrected.
        position: Where in the reader's order.
        repeat: Whether that was a hidden repeat.
        file: Name of the mask in the store's folder of masks.
        sha256: Of the mask's file.
        automatic_sha256: Of the automatic mask's file.
        change: What it changed.
        seconds: Time the reader was active on it, in all.
        saved_at: When, as ISO 8601 in UTC.
    """

    id: str
    reader: str
    item: str
    position: int
    repeat: bool
    file: str
    sha256: str
    automatic_sha256: str
    change: Change
    seconds: float
    saved_at: str


@dataclass(frozen=True)
class Study:
    """All that one store holds, of one reader or, once merged, of several.

    Attributes:
        items: By id.
        scores: In the order in which they were saved.
        corrections: Likewise.
        masks: Folder of the corrections' files.
    """

    items: dict[str, Item]
    scores: tuple[ScoreRecord, ...]
    corrections: tuple[CorrectionRecord, ...]
    masks: Path
