"""The Result panel: lesions, maps over the exam, another cut of the probability."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import results, scene
from BreastTumorSegGui.exam import Exam
from BreastTumorSegGui.parameters import Parameters
from BreastTumorSegGui.settings import Settings
from BreastTumorSegLib.core.result import NONCONTRAST_NOTICE

CURVE = 3
"""Column of the most suspicious curve."""


class ResultPanel:
    """Wires the panel's widgets to the results in the scene.

    Args:
        widget: The loaded ResultPanel.ui.
        exam: The exam in the scene.
        settings: Of this computer; it knows where results lie.
    """

    def __init__(self, widget: qt.QWidget, exam: Exam, settings: Settings) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._exam = exam
        self._settings = settings
        self._shown: slicer.vtkMRMLSegmentationNode | None = None
        self._overlaid = False
        self.ui.resultSelector.addAttribute("vtkMRMLSegmentationNode", results.RESULT)
        for column, width in ((0, 64), (1, 70), (2, 104)):
            self.ui.lesionTable.horizontalHeader().resizeSection(column, width)
        self._offer_maps()
        self._connect()
        self.refresh()

    def overlay(self, title: str) -> None:
        """Lay a map over the exam, by its title; it may be new."""
        self._offer_maps()
        self.ui.overlaySelector.setCurrentIndex(self.ui.overlaySelector.findData(title))
        self._show_overlay()

    def show_newest(self) -> None:
        """Show a result that has just been made, at its largest lesion."""
        self.refresh()
        if self.ui.lesionTable.rowCount:
            self.ui.lesionTable.selectRow(0)
            self._jump(0)

    def refresh(self) -> None:
        """Show the chosen result as it is."""
        segmentation = self._exam.parameters.result if self._exam.parameters else None
        if segmentation is not self._shown:
            self._shown = segmentation
            self._show_only(segmentation)
            self._fill()
            self._offer_maps()
            self.ui.show3DButton.setSegmentationNode(segmentation)
            self._enable_report()
        self._show_overlay()

    def _connect(self) -> None:
        ui = self.ui
        ui.lesionTable.connect("cellClicked(int,int)", lambda row, _column: self._jump(row))
        ui.overlaySelector.connect("currentIndexChanged(int)", lambda _index: self._show_overlay())
        ui.reportButton.connect("clicked()", self._on_report)

    def _offer_maps(self) -> None:
        """The maps that the result has; the one that is shown stays chosen if it has one of its kind."""
        selector, shown = self.ui.overlaySelector, self.ui.overlaySelector.currentData
        titles = [title for title in results.TITLES if results.map_of(self._shown, title) is not None]
        selector.blockSignals(True)
        selector.clear()
        selector.addItem(_("None"), "")
        for title in titles:
            selector.addItem(_(title), title)
        selector.setCurrentIndex(1 + titles.index(shown) if shown in titles else 0)
        selector.blockSignals(False)

    def _fill(self) -> None:
        lesions = results.lesions_of(self._shown)
        self.ui.lesionTable.setRowCount(len(lesions))
        self.ui.lesionTable.setColumnHidden(CURVE, results.is_noncontrast(self._shown))
        for index, lesion in enumerate(lesions):
            side = f" {lesion['side']}" if lesion["side"] else ""
            volume, diameter = f"{float(lesion['volume_ml']):.2f} ml", f"{float(lesion['diameter_mm']):.0f} mm"
            texts = (lesion["label"] + side, volume, f"{diameter} ({_short(lesion)})", lesion["worst_curve"])
            for column, text in enumerate(texts):
                self.ui.lesionTable.setItem(index, column, qt.QTableWidgetItem(text))
        self.ui.summaryLabel.text = self._summary(len(lesions))

    def _summary(self, count: int) -> str:
        if self._shown is None:
            return _("No result yet.")
        found = (
            _("No lesion was found.") if count == 0 else _("{count} found; click one to see it.").format(count=count)
        )
        return f"{found}\n{NONCONTRAST_NOTICE}" if results.is_noncontrast(self._shown) else found

    def _jump(self, row: int) -> None:
        lesion = results.lesions_of(self._shown)[row]
        scene.jump_to([float(lesion[axis]) for axis in ("R_mm", "A_mm", "S_mm")])

    def _show_only(self, shown: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Of several results, two at a time can't be told apart."""
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if node.GetAttribute(results.RESULT) and shown is not None:
                node.GetDisplayNode().SetVisibility(node is shown)

    def _show_overlay(self) -> None:
        parameters: Parameters | None = self._exam.parameters
        if parameters is None or self._shown is None:
            return
        title = self.ui.overlaySelector.currentData
        is_probability = title == results.PROBABILITY
        self.ui.thresholdSlider.enabled = is_probability
        self.ui.opacitySlider.enabled = bool(title)
        if is_probability:
            results.preview_threshold(self._shown, parameters.threshold)
        overlay = results.map_of(self._shown, title)
        if overlay is not None or self._overlaid:  # what the user laid over the exam otherwise stays
            scene.set_overlay(overlay, parameters.opacity)
        self._overlaid = overlay is not None

    def _report(self) -> str:
        name = self._shown.GetAttribute(results.RESULT) if self._shown is not None else None
        file = self._settings.results_folder / name / "report.html" if name else None
        return str(file) if file and file.is_file() else ""

    def _enable_report(self) -> None:
        self.ui.reportButton.enabled = bool(self._report())
        self.ui.reportButton.toolTip = (
            _("Open the report of this result in the browser.")
            if self.ui.reportButton.enabled
            else _("The results folder of this computer holds no report of this result.")
        )

    def _on_report(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self._report()))


def _short(lesion: dict[str, str]) -> str:
    """The upper end of a lesion's size category, for which the table has room; the last one has none."""
    return lesion["size_category"].split(" to ")[-1].removesuffix(" mm").replace("<=", "\N{LESS-THAN OR EQUAL TO}")
