"""Standard codes and colours of what is segmented: SNOMED CT, by the DICOM lists that Slicer ships."""

from __future__ import annotations

import slicer

SEGMENT_CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"
ANATOMY = ("123037004", "SCT", "Anatomical Structure")
ALTERED = ("49755003", "SCT", "Morphologically Altered Structure")
BREAST = ("76752008", "SCT", "Breast")
MASS = ("4147007", "SCT", "Mass")
SIDES = {"right": ("24028007", "SCT", "Right"), "left": ("7771000", "SCT", "Left"), "": ("", "", "")}
NONE = ("", "", "")

MASS_COLOR = (144 / 255, 238 / 255, 144 / 255)
"""The colour that the DICOM list recommends for a mass."""


def breast(side: str) -> str:
    """Terminology entry of a whole breast, "right" or "left"."""
    return _entry(ANATOMY, BREAST, SIDES[side], "", NONE, NONE)


def lesion(side: str) -> str:
    """Terminology entry of a mass in a breast; "" where the side is not known."""
    return _entry(ALTERED, MASS, NONE, REGION_CONTEXT, BREAST, SIDES[side])


def _entry(
    category: tuple[str, str, str],
    kind: tuple[str, str, str],
    modifier: tuple[str, str, str],
    region_context: str,
    region: tuple[str, str, str],
    region_modifier: tuple[str, str, str],
) -> str:
    return slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(
        SEGMENT_CONTEXT, *category, *kind, *modifier, region_context, *region, *region_modifier
    )
