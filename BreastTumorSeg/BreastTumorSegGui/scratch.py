"""Folders for what workers are given and what they leave: images of patients, so they never stay."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import slicer

PREFIX = "BreastTumorSeg-"
LEFT_BEHIND_S = 24 * 3600
ATTEMPTS, WAIT_S = 20, 0.05


def new() -> Path:
    """A new empty folder on a local disk."""
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=slicer.app.temporaryPath))


def discard(folder: Path) -> None:
    """Remove a folder; Windows lets go of a dying process's files a moment later."""
    for _attempt in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(WAIT_S)


def sweep() -> None:
    """Remove what a Slicer that crashed left; a younger folder may be another one's that runs."""
    for folder in Path(slicer.app.temporaryPath).glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_mtime > LEFT_BEHIND_S:
            shutil.rmtree(folder, ignore_errors=True)
