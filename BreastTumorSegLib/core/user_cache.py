"""Where the library keeps what it can make again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "BreastTumorSeg"


def cache_folder() -> Path:
    """`BREAST_TUMOR_SEG_CACHE` if set, else this library's folder among the user's caches. It may not be there yet."""
    if named := os.environ.get("BREAST_TUMOR_SEG_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / NAME / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / NAME
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / NAME
