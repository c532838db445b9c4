"""What a DICOM header says of the time of a slice, in seconds, by source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from BreastTumorSegLib.core.exam import TimeSource

DAY_S = 86400
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2}(?:\.\d*)?)?")
_SERIES_TIME_TEXT = re.compile(r"TT\s*=\s*(\d+(?:\.\d+)?)\s*s", re.IGNORECASE)


def frame_clocks(values: Mapping[str, Any]) -> dict[TimeSource, float]:
    """Seconds of one slice by every source that it has.

    Times of day count from an arbitrary day where the date is recorded, else from midnight.
    """
    clocks = {
        TimeSource.SERIES_DESCRIPTION: _seconds_in_text(values.get("SeriesDescription")),
        TimeSource.ACQUISITION_DATE_TIME: _date_time(
            values.get("FrameAcquisitionDateTime") or values.get("AcquisitionDateTime")
        ),
        TimeSource.ACQUISITION_TIME: _clock(values.get("AcquisitionDate"), values.get("AcquisitionTime")),
        TimeSource.TRIGGER_TIME: _scaled(values.get("TriggerTime", values.get("NominalCardiacTriggerDelayTime")), 1e-3),
        TimeSource.TEMPORAL_OFFSET: _scaled(values.get("TemporalPositionTimeOffset"), 1.0),
        TimeSource.TEMPORAL_POSITION: _temporal_position(values),
        TimeSource.CONTENT_TIME: _clock(values.get("ContentDate"), values.get("ContentTime")),
        TimeSource.SERIES_TIME: _clock(values.get("SeriesDate"), values.get("SeriesTime")),
    }
    return {source: seconds for source, seconds in clocks.items() if seconds is not None}


def _seconds_in_text(description: Any) -> float | None:
    """Siemens writes the time of a view-sharing phase into its description: `..._TT=190.2s`."""
    match = _SERIES_TIME_TEXT.search(str(description or ""))
    return float(match[1]) if match else None


def _date_time(value: Any) -> float | None:
    """Seconds of a DICOM DT value; the offset from UTC is the same for all phases and is dropped."""
    text = re.split(r"[+-]", str(value or ""))[0].strip()
    return _clock(text[:8], text[8:]) if len(text) > 8 else None


def _clock(day: Any, time: Any) -> float | None:
    match = _TIME.match(str(time or "").strip())
    if not match:
        return None
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return _days(str(day or "")) * DAY_S + hours * 3600 + minutes * 60 + seconds


def _days(text: str) -> int:
    digits = re.sub(r"\D", "", text)
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).toordinal()
    except ValueError:
        return 0


def _temporal_position(values: Mapping[str, Any]) -> float | None:
    position, resolution = values.get("TemporalPositionIdentifier"), values.get("TemporalResolution")
    return float(position) * float(resolution) / 1000.0 if position and resolution else None


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None or value == "" else float(value) * scale
