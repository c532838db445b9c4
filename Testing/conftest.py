"""Fixtures that find real data; tests that use them skip where it is absent."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Models that OpenVINO has converted are kept for the next run of the tests, and not in the user's own cache."""
    os.environ.setdefault("BREAST_TUMOR_SEG_CACHE", str(config.cache.mkdir("models")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the project")
    return folder


@pytest.fixture(scope="session")
def duke_exam(shared_data: Path) -> Path:
    """One whole real exam as DICOM, 800 files; unpacked once, and kept for the next run of the tests."""
    archive = shared_data / "duke_153" / "dicom.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in ../shared/data/duke_153")
    place = Path(tempfile.gettempdir()) / f"breast-tumor-seg-duke-{archive.stat().st_size}"
    if not place.is_dir():
        _unpack(archive, place)
    return place


def _unpack(archive: Path, place: Path) -> None:
    """Unpack beside the place and rename: of parallel test processes, the first one to finish wins."""
    staging = place.with_name(f"{place.name}-{os.getpid()}")
    with tarfile.open(archive) as tar:
        tar.extractall(staging, filter="data")
    try:
        staging.rename(place)
    except OSError:
        shutil.rmtree(staging)
