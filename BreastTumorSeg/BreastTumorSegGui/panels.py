"""The module's panels, built and handed what they work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
import slicer

from BreastTumorSegGui.panel_correct import CorrectPanel
from BreastTumorSegGui.panel_exam import ExamPanel
from BreastTumorSegGui.panel_heterogeneity import HeterogeneityPanel
from BreastTumorSegGui.panel_result import ResultPanel
from BreastTumorSegGui.panel_review import ReviewPanel
from BreastTumorSegGui.panel_score import ScorePanel
from BreastTumorSegGui.panel_segment import SegmentPanel
from BreastTumorSegGui.panel_setup import SetupPanel

if TYPE_CHECKING:
    from BreastTumorSeg import BreastTumorSegLogic


class Panels:
    """All panels, in their order.

    Args:
        logic: What they work with.
        load: Loads a .ui file by its name.
        finished: Called with the segmentation node of a run that is done.
    """

    def __init__(
        self,
        logic: BreastTumorSegLogic,
        load: Callable[[str], qt.QWidget],
        finished: Callable[[slicer.vtkMRMLSegmentationNode], None],
    ) -> None:
        exam, settings, reading = logic.exam, logic.settings, logic.reading
        self.exam = ExamPanel(load("ExamPanel"), exam, logic.sources)
        self.result = ResultPanel(load("ResultPanel"), exam, settings)
        self.segment = SegmentPanel(load("SegmentPanel"), exam, logic.segmentation, settings, finished)
        overlay = self.result.overlay
        self.heterogeneity = HeterogeneityPanel(
            load("HeterogeneityPanel"), exam, logic.heterogeneity, settings, overlay
        )
        self.review = ReviewPanel(load("ReviewPanel"), reading, exam, settings)
        self.score = ScorePanel(load("ScorePanel"), reading)
        self.correct = CorrectPanel(load("CorrectPanel"), reading)
        self.setup = SetupPanel(load("SetupPanel"), logic.setup, settings, self.segment.offer)
        self._reading = reading
        self._one_at_a_time(self.score.ui.scoreSection, self.correct.ui.correctSection)
        self.of_the_exam = (self.exam, self.segment, self.result, self.heterogeneity)
        """Those that show the parameter node."""
        self.all: tuple[Any, ...] = (*self.of_the_exam, self.review, self.score, self.correct, self.setup)

    def _one_at_a_time(self, *sections: qt.QWidget) -> None:
        """Who scores does not correct, and their keys differ."""

        def opened(section: qt.QWidget, collapsed: bool) -> None:
            for other in sections:
                if not collapsed and other is not section:
                    other.collapsed = True

        for section in sections:
            section.connect("contentsCollapsed(bool)", lambda collapsed, s=section: opened(s, collapsed))

    def refresh(self) -> None:
        """Show the parameter node as it is."""
        for panel in self.of_the_exam:
            panel.refresh()

    def enter(self) -> None:
        """The user opened the module."""
        self._reading.resume()
        self.score.enter()
        self.correct.enter()

    def exit(self) -> None:
        """The user opened another module; what runs goes on."""
        self.heterogeneity.stop_probing()
        self._reading.pause()
        self.score.exit()
        self.correct.exit()

    def abandon(self) -> None:
        """End what works on the scene; edits are autosaved first."""
        self._reading.close()
        for panel in (self.exam, self.segment, self.heterogeneity):
            panel.abandon()

    def tear_down(self) -> None:
        """The module goes."""
        self.abandon()
        self.setup.abandon()
        self.score.exit()
        self.correct.tear_down()
