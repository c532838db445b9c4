"""The Heterogeneity panel: clusters of time-intensity curves in a chosen region, with their curves."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import heterogeneity, layouts
from BreastTumorSegGui.clicks import Clicks
from BreastTumorSegGui.exam import Exam
from BreastTumorSegGui.heterogeneity import BREASTS, CHART, LESIONS, Heterogeneity, Order
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.settings import Settings
from BreastTumorSegGui.tasks import Progress, Task
from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.kinetics.clusters import DEFAULT_K
from BreastTumorSegLib.kinetics.codebooks import METHODS, shipped_sizes


class HeterogeneityPanel:
    """Wires the panel's widgets to the clustering.

    Args:
        widget: The loaded HeterogeneityPanel.ui.
        exam: The exam in the scene.
        logic: Runs orders.
        settings: Of this computer.
        overlay: Lays a result's map over the exam, by its title.
    """

    def __init__(
        self,
        widget: qt.QWidget,
        exam: Exam,
        logic: Heterogeneity,
        settings: Settings,
        overlay: Callable[[str], None],
    ) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._exam = exam
        self._logic = logic
        self._settings = settings
        self._overlay = overlay
        self._task: Task | None = None
        self._map: slicer.vtkMRMLScalarVolumeNode | None = None
        self._clicks = Clicks(self.show_curve_at)
        for method, words in zip(METHODS, (_("k-means"), _("VQ-VAE")), strict=True):
            self.ui.methodSelector.addItem(words, method)
        for region, words in ((LESIONS, _("Lesions")), (BREASTS, _("Breasts"))):
            self.ui.regionSelector.addItem(words, region)
        self._tell("")
        self._offer_sizes()
        self._connect()
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._task is not None

    def abandon(self) -> None:
        """End a run and the probing, with nobody to tell."""
        if self._task is not None:
            self._task.abandon()
            self._task = None
        self._map = None
        self.stop_probing()

    def stop_probing(self) -> None:
        """Let the views' clicks be."""
        self._clicks.switch(False)
        self.ui.probeButton.checked = False

    def refresh(self) -> None:
        """Enable what can be done now, and say why what can't be."""
        ui = self.ui
        reason = self._exam.reason_against_curves or self._reason_against_result()
        ui.runButton.enabled = not reason and not self.running
        ui.runButton.toolTip = reason or _("Cluster the curves in the background.")
        ui.cancelButton.enabled = self.running
        ui.progressBar.visible = self.running
        ui.rimSpinBox.enabled = ui.regionSelector.currentData == LESIONS
        ui.probeButton.enabled = self._map is not None

    def _reason_against_result(self) -> str:
        parameters = self._exam.parameters
        return "" if parameters and parameters.result else _("Segment the exam, or choose a result.")

    def _connect(self) -> None:
        ui = self.ui
        ui.methodSelector.connect("currentIndexChanged(int)", lambda _index: self._offer_sizes())
        ui.regionSelector.connect("currentIndexChanged(int)", lambda _index: self.refresh())
        ui.runButton.connect("clicked()", self._on_run)
        ui.cancelButton.connect("clicked()", lambda: self._task and self._task.cancel())
        ui.probeButton.connect("clicked(bool)", self._on_probe)

    def _offer_sizes(self) -> None:
        """The numbers of clusters that a codebook is shipped for."""
        self.ui.sizeSelector.clear()
        try:
            sizes = shipped_sizes(self.ui.methodSelector.currentData)
        except ModelError as error:  # the Set-up panel tells the rest
            self._tell(str(error))
            return
        for size in sizes:
            self.ui.sizeSelector.addItem(str(size), size)
        self.ui.sizeSelector.setCurrentIndex(sizes.index(DEFAULT_K) if DEFAULT_K in sizes else 0)

    def _on_run(self) -> None:
        ui = self.ui
        rim = ui.rimSpinBox.value if ui.regionSelector.currentData == LESIONS else 0.0
        order = Order(
            self._exam.rows,
            self._exam.notes,
            self._exam.parameters.result,
            ui.regionSelector.currentData,
            rim,
            ui.methodSelector.currentData,
            ui.sizeSelector.currentData,
            self._settings.results_folder,
        )
        self._tell("")
        self._task = Task(self._logic.run(order), self._on_done, self._on_failed, self._show_progress)
        self.refresh()

    def _on_done(self, cluster_map: slicer.vtkMRMLScalarVolumeNode) -> None:
        self._task = None
        self._map = cluster_map
        self._tell(_("Done: {name}. Switch on Curves and click into an image.").format(name=cluster_map.GetName()))
        self.refresh()
        if self.widget.visible:  # the views belong to whichever module the user is in
            layouts.show_chart(cluster_map.GetNodeReference(CHART))
            self._overlay("Clusters")

    def _on_failed(self, error: Exception) -> None:
        self._task = None
        self._tell(str(error))
        self.refresh()

    def _show_progress(self, said: Progress) -> None:
        self.ui.progressBar.setValue(round(100 * said.fraction))

    def _on_probe(self, wanted: bool) -> None:
        self._clicks.switch(wanted)

    def show_curve_at(self, position_ras: list[float]) -> None:
        """Draw the curve of the voxel at a position over the clusters' means."""
        curve = heterogeneity.voxel_curve(self._exam.rows, position_ras) if self._map is not None else None
        if curve is not None:
            heterogeneity.show_voxel(self._map, curve)

    def _tell(self, text: str) -> None:
        tell(self.ui.messageLabel, text)
