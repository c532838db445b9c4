"""Fixed colours, the same in every report and in Slicer; colour-blind readers can tell them apart."""

LESION = "#ff3b30"
"""Outline and number of a lesion. The other lesions on its slices get `OTHER_LESION`."""
OTHER_LESION = "#a65a55"
BREAST = "#39c2d7"

CURVE_TYPES = ("#c3c9d1", "#3b7dbd", "#f0b429", "#c2352b")
"""One a curve type: not enhancing, persistent, plateau, washout."""

SCORES = ("#2c7bb6", "#abd9e9", "#fdae61", "#d7191c")
"""One a score, from Good to Missed; ColorBrewer's RdYlBu."""

UNCERTAINTY = ((0.25, "#fee391"), (0.5, "#fe9929"), (0.75, "#cc4c02"))
"""From which uncertainty on a voxel has which colour; ColorBrewer's YlOrBr."""

# Krzywinski's twelve colours for colour blindness (mk.bcgsc.ca/colorblind), cool to warm first.
CLUSTERS = (
    "#008df9",
    "#009f81",
    "#ffc33b",
    "#ff6e3a",
    "#e20134",
    "#ff5aaf",
    "#8400cd",
    "#00c2f9",
    "#00fccf",
    "#ffb2fd",
    "#9f0162",
    "#a40122",
)
"""One a cluster label from 1; a thirteenth starts over."""


def cluster_color(label: int) -> str:
    """Colour of a cluster label (from 1) as "#rrggbb"."""
    return CLUSTERS[(label - 1) % len(CLUSTERS)]


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of "#rrggbb"."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
