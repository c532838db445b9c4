"""The Score panel: Good, Acceptable, Poor or Missed, by key or button."""

from __future__ import annotations

import time

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui.keys import Keys
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.reading import Reading
from BreastTumorSegLib.core.errors import BreastTumorSegError
from BreastTumorSegLib.review.records import GUIDELINES, Exclusion, Score

SUBTRACTION_KEY, CONTOUR_KEY, LESION_KEY = "D", "C", "L"
NEXT_KEY, PREVIOUS_KEY = "N", "P"
GLANCE_S = 0.3
"""A score that comes sooner is the second press of a double click."""


class ScorePanel:
    """Wires the panel's widgets to the reading.

    Args:
        widget: The loaded ScorePanel.ui.
        reading: What is reviewed.
    """

    def __init__(self, widget: qt.QWidget, reading: Reading) -> None:
        self.widget = widget
        self.ui = ui = slicer.util.childWidgetVariables(widget)
        self._reading = reading
        self._shown: object = None
        self._comments: dict[object, str] = {}
        self._entered = True
        buttons = (ui.goodButton, ui.acceptableButton, ui.poorButton, ui.missedButton)
        self._buttons = dict(zip(Score, buttons, strict=True))
        for exclusion in Exclusion:
            ui.exclusionSelector.addItem(_(exclusion.value), exclusion.value)
        ui.guidelinesLabel.text = "\n".join(f"{_(score.value)}: {_(text)}" for score, text in GUIDELINES.items())
        self._keys = Keys(
            {str(number): button.click for number, button in enumerate(buttons, start=1)}
            | {
                SUBTRACTION_KEY: ui.imageButton.click,
                CONTOUR_KEY: ui.contourButton.click,
                LESION_KEY: ui.lesionButton.click,
                NEXT_KEY: lambda: self._step(1),
                PREVIOUS_KEY: lambda: self._step(-1),
            }
        )
        reading.listeners.append(self.refresh)
        self._connect()
        self._tell("")
        self.refresh()

    @property
    def is_open(self) -> bool:
        """Whether the reader scores."""
        return not self.ui.scoreSection.collapsed

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self.refresh()

    def exit(self) -> None:
        """Another module is shown: its keys are its own."""
        self._entered = False
        self.refresh()

    def refresh(self) -> None:
        """Enable what can be done now, and say why what can't be."""
        ui, subject = self.ui, self._reading.subject
        reason = self._reading.reason_against_saving
        for score, button in self._buttons.items():
            button.enabled = not reason and subject is not None
            button.toolTip = reason or _(GUIDELINES[score])
        ui.excludeButton.enabled = not reason and self._is_seen
        for button, key in (
            (ui.imageButton, SUBTRACTION_KEY),
            (ui.contourButton, CONTOUR_KEY),
            (ui.lesionButton, LESION_KEY),
        ):
            button.enabled = subject is not None
            button.toolTip = _("Key {key}").format(key=key)
        if subject is not None:
            ui.lesionButton.enabled = subject.lesion_count > 1
        if self._shown != self._where:
            self._begin()
        self._keys.switch(self._entered and self.is_open and self._reading.session is not None)

    def _connect(self) -> None:
        ui = self.ui
        for score, button in self._buttons.items():
            button.connect("clicked()", lambda score=score: self._score(score))
        ui.excludeButton.connect("clicked()", lambda: self._score(Exclusion(ui.exclusionSelector.currentData)))
        ui.commentEdit.connect("returnPressed()", lambda: ui.commentEdit.clearFocus())
        ui.commentEdit.connect("textEdited(QString)", lambda _text: self._reading.acted())
        ui.imageButton.connect("clicked(bool)", self._reading.look_subtracted)
        ui.contourButton.connect("clicked(bool)", lambda shown: self._reading.subject.show_contour(shown))
        ui.lesionButton.connect("clicked()", lambda: self._reading.subject.look_at_next())
        ui.scoreSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.refresh())

    @property
    def _where(self) -> object:
        """What is shown, readable or not."""
        session = self._reading.session
        return (session.store.path, session.index) if session is not None else None

    @property
    def _is_seen(self) -> bool:
        """Whether the reader sees the case, or why it can't be shown."""
        return self._reading.subject is not None or bool(self._reading.problem)

    def _begin(self) -> None:
        """A new case: its own comment, saved or not."""
        self._comments[self._shown] = self.ui.commentEdit.text.strip()
        self._shown = self._where
        session = self._reading.session
        record = session.score_at(session.index) if session is not None else None
        saved = record.comment if record is not None else ""
        self.ui.commentEdit.text = self._comments.pop(self._shown, "") or saved
        self.ui.contourButton.checked = True
        self.ui.imageButton.checked = self._reading.subtracted

    def _score(self, verdict: Score | Exclusion) -> None:
        reading = self._reading
        number = reading.session.index + 1
        if time.monotonic() - reading.shown_at < GLANCE_S:
            self._tell(_("Case {number} has only just come; it is not scored.").format(number=number))
            return
        try:
            reading.score(verdict, self.ui.commentEdit.text.strip())
        except BreastTumorSegError as error:
            self._tell(_("Case {number} is not saved. {error}").format(number=number, error=error))
            return
        done = reading.session.next_open() is None
        self._tell(_("All cases are scored.") if done else _("Case {number} is saved.").format(number=number))

    def _step(self, by: int) -> None:
        self._reading.go(self._reading.session.index + by)

    def _tell(self, text: str) -> None:
        tell(self.ui.messageLabel, text)
