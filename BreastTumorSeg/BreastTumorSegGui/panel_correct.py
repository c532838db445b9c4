"""The Correct panel: the Segment Editor with what this job needs at hand, versions, and edits that survive a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui.correction import Correction
from BreastTumorSegGui.drafts import Drafts
from BreastTumorSegGui.keys import Keys
from BreastTumorSegGui.lesion_tools import Edit, LesionTools
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.reading import Reading
from BreastTumorSegLib.core.errors import BreastTumorSegError, InputError
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.review.changes import compare
from BreastTumorSegLib.review.records import CORRECTION_GUIDELINES, Change, CorrectionRecord, Place

AUTOSAVE_S = 5.0
CHANGES_MS = 300
"""How long after the last stroke what was changed is shown: a stroke should not wait for it."""
EDITOR_TAG = "BreastTumorSegEditor"
EFFECTS = ["Paint", "Erase", "Draw", "Scissors", "Threshold", "Islands", "Margin", "Smoothing"]
PAINT_KEY, ERASE_KEY, NO_EFFECT_KEY = "A", "E", "Escape"


class CorrectPanel:
    """Wires the panel's widgets to the reading.

    Args:
        widget: The loaded CorrectPanel.ui.
        reading: What is reviewed.
    """

    def __init__(self, widget: qt.QWidget, reading: Reading) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._reading = reading
        self._correction: Correction | None = None
        self._observed: list[tuple[Any, int]] = []
        self._drafts = Drafts(reading)
        self._unkept = False
        self._kept_at = 0.0
        self._entered = True
        self._tools = LesionTools(self.ui, reading, self)
        self._changes_timer = qt.QTimer()
        self._changes_timer.setSingleShot(True)
        self._changes_timer.setInterval(CHANGES_MS)
        self._changes_timer.connect("timeout()", self._show_changes)
        self.ui.guidelinesLabel.text = "\n".join(
            f"{index}. {_(text)}" for index, text in enumerate(CORRECTION_GUIDELINES, 1)
        )
        self._keys = Keys(self._actions(), repeated=True)
        reading.listeners.append(self.refresh)
        reading.leaving.append(self._leave)
        reading.ticking.append(self._on_tick)
        self._connect()
        self.tell("")
        self.refresh()

    @property
    def is_open(self) -> bool:
        """Whether the reader corrects."""
        return not self.ui.correctSection.collapsed

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self.refresh()

    def exit(self) -> None:
        """Another module is shown: views and keys are its own, and what was edited is kept."""
        self._entered = False
        self._autosave()
        self._let_go()
        self.refresh()

    def tear_down(self) -> None:
        """The module goes."""
        self._leave()
        self.exit()
        self.ui.editor.setMRMLSegmentEditorNode(None)

    def refresh(self) -> None:
        """Begin where a case is shown and this section is open; enable what can be done now."""
        subject = self._reading.subject
        if subject is not None and self.is_open and self._correction is None:
            self._begin()
        ui, works = self.ui, self._correction is not None
        reason = self._reading.reason_against_saving
        for button in (ui.editor, ui.toolsSection, ui.restartButton):
            button.enabled = works
        ui.saveButton.enabled = works and not reason
        ui.saveButton.toolTip = reason or _("Save the corrected mask as a new version.")
        ui.changeLabel.visible = works
        ui.probabilityButton.enabled = ui.probabilitySlider.enabled = (
            works and subject is not None and subject.case.probability is not None
        )
        self._keys.switch(self._entered and self.is_open and works)

    # Beginning and ending

    def _begin(self) -> None:
        """Start from the edits that were not saved, else the newest version, else the automatic mask."""
        subject = self._reading.subject
        labels, said = self._saved_labels()
        self._correction = Correction(subject, labels)
        subject.show_contour(False)
        self._use_editor()
        self._observe()
        said = self._restore(subject.place) or said
        self._show_changes()
        self._suggest_threshold()
        self.tell(said)

    def _saved_labels(self) -> tuple[np.ndarray, str]:
        """The mask to begin with, and what there is to say of it."""
        session, case = self._reading.session, self._reading.subject.case
        record = session.correction_at(session.index)
        if record is None:
            return case.automatic, ""
        try:
            labels, grid = read_volume(session.store.masks / record.file)
            difference = case.geometry.difference(grid)
            if difference:
                raise InputError(f"{record.file} is on another grid: {difference}.", "It stays as it is.")
        except BreastTumorSegError as error:
            return case.automatic, _("The saved version can't be read, so this is the automatic mask. {error}").format(
                error=error
            )
        return labels.astype(np.uint8), _("This is your saved version.")

    def _restore(self, place: Place) -> str:
        """Bring back edits that were not saved, and say so; "" where there are none."""
        self._unkept = False
        try:
            labels = self._drafts.restore(place, self._reading.subject.case.automatic.shape)
        except BreastTumorSegError as error:
            return str(error)
        if labels is None:
            return ""
        self._write(labels, self._label)
        return _("Edits that were not saved are back. Undo shows the mask without them.")

    def _use_editor(self) -> None:
        """An editor node of our own: two editors on one node would both paint."""
        editor = self.ui.editor
        node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node.SetSaveWithScene(False)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("BrushSphere", "1")  # strokes are balls, not discs in one slice
        editor.setEffectNameOrder(EFFECTS)
        editor.unorderedEffectsVisible = False
        editor.autoShowSourceVolumeNode = False  # the views show what the reader chose
        editor.setMRMLSegmentEditorNode(node)
        editor.setSegmentationNode(self._correction.segmentation)
        editor.setSourceVolumeNode(self._reading.subject.post)
        self._select("")

    def _leave(self) -> None:
        """The case goes: edits that were not saved are kept."""
        if self._correction is None:
            return
        try:
            self._autosave()
        finally:
            self._changes_timer.stop()
            self._let_go()
            for node, tag in self._observed:
                node.RemoveObserver(tag)
            self._observed = []
            self._unkept = False
            self.ui.editor.setSegmentationNode(None)
            self._correction.remove()
            self._correction = None

    def _let_go(self) -> None:
        """Neither effects nor clicks of ours stay in the views."""
        self._tools.stop()
        if self._correction is not None:
            self.ui.editor.setActiveEffect(None)
            self.ui.editor.removeViewObservations()

    def _suggest_threshold(self) -> None:
        with suppress(InputError):
            self._tools.suggest_threshold(self._correction.labels, self._label)

    # Edits

    def _observe(self) -> None:
        """Strokes modify a representation, undo a segment; neither fires the other's event."""
        segmentation = self._correction.segmentation
        kind = slicer.vtkSegmentation
        events = (kind.SourceRepresentationModified, kind.SegmentModified, kind.SegmentAdded, kind.SegmentRemoved)
        self._observed = [(segmentation, segmentation.AddObserver(event, self._on_edited)) for event in events]

    def _on_edited(self, _caller: Any, _event: str) -> None:
        self._unkept = True
        self._reading.acted()
        self._changes_timer.start()

    def _show_changes(self) -> None:
        if self._correction is None:
            return
        try:
            self.ui.changeLabel.text = change_words(self._correction.show_changes())
        except BreastTumorSegError as error:
            self.ui.changeLabel.text = str(error)

    def _on_tick(self) -> None:
        if self._unkept and time.monotonic() - self._kept_at > AUTOSAVE_S:
            self._autosave()
        elif time.monotonic() - self._kept_at > AUTOSAVE_S:
            self._kept_at = time.monotonic()
            self._drafts.retry()

    def _autosave(self) -> None:
        """Keep the edits; where that is not possible the reader is told, and goes on."""
        if not self._unkept or self._correction is None:
            return
        self._kept_at = time.monotonic()
        try:
            self._drafts.keep(self._reading.subject.place, self._correction.labels)
            self._unkept = False
        except BreastTumorSegError as error:
            self.tell(_("These edits are only in memory yet. {error}").format(error=error))

    def edit(self, edit: Edit, needs_lesion: bool = True) -> None:
        """Do something to the mask that can be undone; what can't be done changes nothing."""
        try:
            labels, label = self._correction.labels, self._label
            if needs_lesion and not np.any(labels == label):
                raise InputError("No lesion is chosen, or it is empty.", "Choose one in the list of segments.")
            edited = edit(labels, label)
        except BreastTumorSegError as error:
            self.tell(str(error))
            return
        self._write(edited, label)
        self.tell("")

    @property
    def _label(self) -> int:
        """The chosen segment's label."""
        return self._correction.label_of(self.ui.editor.currentSegmentID())

    def _write(self, labels: np.ndarray, label: int) -> None:
        """Let the mask be another one, with the same lesion chosen."""
        self.ui.editor.saveStateForUndo()
        self._correction.write(labels)
        self._select(self._correction.segment_of(label))
        self._unkept = True

    def _select(self, segment_id: str) -> None:
        """Choose a segment; the first where it is gone."""
        ids = self._correction.segmentation.GetSegmentation().GetSegmentIDs()
        if ids:
            self.ui.editor.setCurrentSegmentID(segment_id if segment_id in ids else ids[0])

    def _connect(self) -> None:
        ui = self.ui
        ui.correctSection.connect("contentsCollapsed(bool)", lambda _collapsed: self._on_section())
        ui.saveButton.connect("clicked()", self._on_save)
        ui.editor.connect("currentSegmentIDChanged(QString)", self._on_segment)

    def _actions(self) -> dict[str, Callable[[], None]]:
        editor = self.ui.editor
        effects = {PAINT_KEY: "Paint", ERASE_KEY: "Erase", NO_EFFECT_KEY: ""}
        undo = {"Z": editor.undo, "Ctrl+Z": editor.undo, "Y": editor.redo, "Ctrl+Y": editor.redo}
        return undo | {key: lambda name=name: self._use_effect(name) for key, name in effects.items()}

    def _on_section(self) -> None:
        if not self.is_open:
            self._leave()
            if self._reading.subject is not None:
                self._reading.subject.show_contour(True)
        self.refresh()

    def _on_segment(self, _segment_id: str) -> None:
        if self._correction is not None:
            self._suggest_threshold()

    def _use_effect(self, name: str) -> None:
        self._tools.stop()
        self.ui.editor.setActiveEffectByName(name)

    # Saving

    def _on_save(self) -> None:
        case, store = self._reading.subject.case, self._reading.session.store

        def save(place: Place, seconds: float) -> CorrectionRecord:
            labels = self._correction.labels
            change = compare(case.automatic, labels, case.geometry)
            return store.save_correction(place, labels, case.geometry, case.automatic_sha256, change, seconds)

        try:
            self._reading.keep(save)
        except BreastTumorSegError as error:
            self.tell(_("Not saved; your edits are still here. {error}").format(error=error))
            return
        self._unkept = False
        session = self._reading.session
        self._drafts.forget(session.place)
        self.tell(_("Saved as version {number}.").format(number=session.versions(session.index)))

    def tell(self, text: str) -> None:
        """Say something."""
        tell(self.ui.messageLabel, text)


def change_words(change: Change) -> str:
    """What was changed, in a line or two."""
    words = _("{corrected:.2f} ml, was {automatic:.2f} ml: {added:.2f} added, {removed:.2f} removed. {agreement}")
    if np.isnan(change.dice):
        agreement = _("Both masks are empty.")
    elif np.isinf(change.hd95_mm):
        agreement = _("Dice {dice:.2f}; one mask is empty.").format(dice=change.dice)
    else:
        agreement = _("Dice {dice:.2f}, HD95 {hd95:.1f} mm.").format(dice=change.dice, hd95=change.hd95_mm)
    return words.format(
        corrected=change.corrected_ml,
        automatic=change.automatic_ml,
        added=change.added_ml,
        removed=change.removed_ml,
        agreement=agreement,
    )
