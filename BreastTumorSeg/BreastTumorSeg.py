"""The 3D Slicer module: declares itself, builds the panels and hands them what they work with."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from BreastTumorSegGui.library import library_parent, make_importable, python

make_importable()

GUI = "BreastTumorSegGui"


class BreastTumorSeg(ScriptedLoadableModule):
    """What Slicer shows of the module."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Breast Tumor Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["BreastTumorSeg contributors"]
        parent.helpText = _(
            "Finds and measures tumours in breast DCE-MRI: load the phases of an exam, check and confirm their times, "
            "segment in the background, see lesions, kinetic maps and clusters of time-intensity curves. "
            "For research use only; not a medical device."
        )
        parent.acknowledgementText = _("It follows published systems; the README names them.")
        slicer.app.connect("startupCompleted()", register_sample_data)


class BreastTumorSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panels."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._gui_tags = []
        self._has_news = False
        self.panels = None

    def setup(self) -> None:
        """Build the panels."""
        from BreastTumorSegGui.panels import Panels

        ScriptedLoadableModuleWidget.setup(self)
        self.logic = logic = BreastTumorSegLogic()
        self.panels = Panels(logic, self._load, self._on_finished)
        for panel in self.panels.all:
            self.layout.addWidget(panel.widget)
        self.layout.addStretch(1)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._on_scene_start_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._on_scene_changed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self._on_scene_start_import)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self._on_scene_changed)
        self._use_parameters(logic.getParameterNode())
        self.panels.setup.examine()

    def cleanup(self) -> None:
        """The module is reloaded or Slicer quits: nothing is left running."""
        if self.panels:  # not after a failed setup
            self._has_news = False
            self.panels.tear_down()
            self._use_parameters(None)
        self.removeObservers()

    def enter(self) -> None:
        """The user opened the module."""
        if self.panels:
            self._use_parameters(self.logic.getParameterNode())
            self.panels.enter()
            self._show_news()

    def exit(self) -> None:
        """The user opened another module. A run goes on, and shows its result when the user is back."""
        if self.panels:
            self.panels.exit()
        self._stop_observing()

    def onReload(self) -> None:
        """Reload the panels too, not this file alone."""
        for name in [name for name in sys.modules if name.split(".")[0] == GUI]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _load(self, name: str):
        widget = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    def _on_finished(self, segmentation) -> None:
        self.logic.exam.parameters.result = segmentation
        self._has_news = True
        if self.parent.isEntered:  # else the views are another module's now
            self._show_news()

    def _show_news(self) -> None:
        if self._has_news:
            self._has_news = False
            self.panels.result.show_newest()

    def _on_scene_start_close(self, _caller, _event) -> None:
        self._has_news = False
        self.panels.abandon()
        self._use_parameters(None)

    def _on_scene_start_import(self, _caller, _event) -> None:
        self._stop_observing()  # node selectors lose their nodes for a moment, which is no choice of the user

    def _on_scene_changed(self, _caller, _event) -> None:
        if self.parent.isEntered:
            self._use_parameters(self.logic.getParameterNode())

    def _use_parameters(self, parameters) -> None:
        """Show and observe a parameter node; None to let go of it."""
        self._stop_observing()
        self.logic.exam.parameters = parameters
        if parameters is not None:
            self._parameters = parameters
            self._gui_tags = [parameters.connectGui(panel.ui) for panel in self.panels.of_the_exam]
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._on_parameters)
        self._on_parameters()

    def _stop_observing(self) -> None:
        if self._parameters is not None:
            for tag in self._gui_tags:
                self._parameters.disconnectGui(tag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._on_parameters)
            self._parameters = None

    def _on_parameters(self, _caller=None, _event=None) -> None:
        self.panels.refresh()


class BreastTumorSegLogic(ScriptedLoadableModuleLogic):
    """What the panels work with."""

    def __init__(self) -> None:
        from BreastTumorSegGui import scratch
        from BreastTumorSegGui.exam import Exam
        from BreastTumorSegGui.exam_sources import ExamSources
        from BreastTumorSegGui.heterogeneity import Heterogeneity
        from BreastTumorSegGui.reading import Reading
        from BreastTumorSegGui.samples import Simulation
        from BreastTumorSegGui.segmentation import Segmentation
        from BreastTumorSegGui.settings import Settings
        from BreastTumorSegGui.setup import Setup
        from BreastTumorSegGui.worker import Launcher

        ScriptedLoadableModuleLogic.__init__(self)
        self._wrapper = None
        scratch.sweep()
        launcher = Launcher(python(), library_parent())
        requirements = Path(__file__).parent / "Resources" / "requirements.txt"
        self.exam = Exam()
        self.settings = Settings()
        self.sources = ExamSources(launcher)
        self.segmentation = Segmentation(launcher)
        self.heterogeneity = Heterogeneity(launcher)
        self.simulation = Simulation(launcher, self.sources)
        self.setup = Setup(launcher, requirements)
        self.reading = Reading()

    def getParameterNode(self):
        """The module's parameters in the scene."""
        from BreastTumorSegGui.parameters import Parameters

        node = super().getParameterNode()
        # Before Slicer 5.12 a wrapper's observers outlive it: one a node is enough.
        if self._wrapper is None or self._wrapper.parameterNode is not node:
            self._wrapper = Parameters(node)
        return self._wrapper


class BreastTumorSegTest(ScriptedLoadableModuleTest):
    """The whole flow inside a real Slicer: simulate, load, confirm, run, look at what came."""

    TIMEOUT_S = 900

    def runTest(self, msec: int = 100, **_kwargs) -> None:
        """Run it; it needs the packages of the Set-up panel."""
        from BreastTumorSegLib.core.requirements import missing

        if missing():
            self.skipTest(f"Not installed: {', '.join(missing())}; see the Set-up panel.")
        slicer.mrmlScene.Clear(0)
        slicer.util.selectModule("BreastTumorSeg")
        widget = slicer.modules.BreastTumorSegWidget
        self.delayDisplay("Simulating an exam", msec)
        widget.panels.exam.load(widget.logic.simulation.work())
        self._wait_while(lambda: widget.panels.exam.busy)
        self.assertGreaterEqual(len(widget.logic.exam.rows), 2)
        self.assertFalse(widget.panels.segment.ui.runButton.enabled)
        widget.panels.exam.ui.confirmButton.click()
        self.delayDisplay("Segmenting", msec)
        widget.panels.segment.ui.runButton.click()
        self._wait_while(lambda: widget.panels.segment.running)
        result = widget.logic.exam.parameters.result
        self.assertIsNotNone(result, widget.panels.segment.ui.messageLabel.text)
        names = [result.GetSegmentation().GetNthSegment(i).GetName() for i in range(2)]
        self.assertEqual(names, ["Right breast", "Left breast"])
        self.delayDisplay("Test passed", msec)

    def _wait_while(self, busy) -> None:
        end = time.monotonic() + self.TIMEOUT_S
        while busy():
            self.assertLess(time.monotonic(), end, "It takes too long.")
            slicer.app.processEvents()
            time.sleep(0.01)


def register_sample_data() -> None:
    """Offer a simulated exam in the Sample Data module."""
    from BreastTumorSegGui import samples

    thumbnail = Path(__file__).parent / "Resources" / "Icons" / f"{samples.NAME}.png"
    samples.register(thumbnail, lambda source: BreastTumorSegLogic().simulation.download(source))
