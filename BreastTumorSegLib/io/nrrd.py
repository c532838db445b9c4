"""Times in the header of 4D NRRD files that Slicer writes: sequences and multivolumes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from BreastTumorSegLib.core.exam import TimeSource

_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "milliseconds": 1e-3, "min": 60.0}


def frame_clocks(header: Mapping[str, str], count: int) -> list[dict[TimeSource, float]]:
    """Time of each volume, in seconds, as far as the header has numbers with a unit of time.

    Args:
        header: Key-value pairs of the file, as SimpleITK names them.
        count: Volumes in the file.
    """
    if "MultiVolume.FrameLabels" in header:
        unit = header.get("MultiVolume.FrameIdentifyingDICOMTagUnits", "")
        listed = header["MultiVolume.FrameLabels"].split(",")
    else:
        unit = header.get("NRRD_units[pixel]", "")
        listed = next((v.split() for k, v in header.items() if re.fullmatch(r"axis [03] index values", k)), [])
    scale = _SECONDS.get(unit.strip().strip('"').lower())
    values = _numbers(listed)
    if scale is None or len(values) != count:
        return [{} for _ in range(count)]
    return [{TimeSource.NRRD: value * scale} for value in values]


def _numbers(listed: list[str]) -> list[float]:
    try:
        return [float(text) for text in listed]
    except ValueError:
        return []
