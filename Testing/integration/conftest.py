"""Fixtures that open the module on the stand-in for Slicer's desktop."""

import sys
from pathlib import Path

import pytest

from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case

MODULE = Path(__file__).parents[2] / "BreastTumorSeg" / "BreastTumorSeg.py"


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    """A simulated exam of four phases at 3 mm, with one round lesion, in MAMA-MIA's layout."""
    folder = tmp_path_factory.mktemp("cohort")
    write_case(simulate_exam("DUKE", 100, 3.0, phases=4), folder, "DUKE_S000100")
    return folder / "images" / "DUKE_S000100"


@pytest.fixture
def desktop(monkeypatch, tmp_path):
    """A fresh Slicer with PythonSlicer on its path; it is taken down, and what slots raised is raised, at the end."""
    from desktop import Desktop, write_launcher

    tools = tmp_path / "slicer-bin"
    tools.mkdir()
    write_launcher(tools)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    slicer_desktop = Desktop()
    slicer_desktop.reset()
    yield slicer_desktop
    slicer_desktop.close()
    slicer_desktop.check()


@pytest.fixture
def doctor(desktop, monkeypatch):
    """The real look at what is installed, which takes seconds; the module's first one is spared."""
    sys.path.insert(0, str(MODULE.parent))
    from BreastTumorSegGui.setup import Setup

    examine = Setup.examine
    monkeypatch.setattr(Setup, "examine", _nothing)
    return examine


@pytest.fixture
def module(desktop, doctor, tmp_path, monkeypatch):
    """The open module, with a results folder of its own."""
    widget = desktop.open_module(MODULE)
    from BreastTumorSegGui import panel_score

    monkeypatch.setattr(panel_score, "GLANCE_S", 0.0)  # tests press keys faster than people
    widget.panels.segment.ui.resultsFolderEdit.setCurrentPath(str(tmp_path / "results"))
    widget.logic.settings.results_folder = tmp_path / "results"
    desktop.wait_until(lambda: widget.panels.setup.idle)
    return widget


def _nothing(_setup, _results):
    """An examination that finds nothing at once."""
    return {}
    yield
