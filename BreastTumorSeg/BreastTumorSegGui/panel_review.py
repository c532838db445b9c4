"""The Review panel: who reads, which masks, and where one is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import ask, result_case
from BreastTumorSegGui.exam import Exam
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.reading import Reading, from_files
from BreastTumorSegGui.settings import Settings
from BreastTumorSegGui.tasks import Work
from BreastTumorSegLib.core.errors import BreastTumorSegError
from BreastTumorSegLib.review.database import Damaged
from BreastTumorSegLib.review.recover import recover
from BreastTumorSegLib.review.session import RESULTS, Session, on_result, on_worklist, store_path
from BreastTumorSegLib.review.store import Store
from BreastTumorSegLib.review.worklist import Entry, read_worklist

Begun = tuple[Session, Callable[[Entry], Work]]
"""A session, and what reads its entries."""


class ReviewPanel:
    """Wires the panel's widgets to the reading.

    Args:
        widget: The loaded ReviewPanel.ui.
        reading: What is reviewed.
        exam: The exam in the scene.
        settings: Of this computer.
    """

    def __init__(self, widget: qt.QWidget, reading: Reading, exam: Exam, settings: Settings) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._reading = reading
        self._exam = exam
        self._settings = settings
        self._found: tuple[int, ...] = ()
        self.ui.readerEdit.text = settings.reader
        self.ui.storeFolderEdit.setCurrentPath(str(settings.reviews_folder))
        reading.listeners.append(self.refresh)
        reading.ticking.append(self._show_time)
        self._connect()
        self._tell("")
        self.refresh()

    def open_worklist(self, path: Path) -> None:
        """Review a worklist, as after the dialog."""

        def begin(reader: str, folder: Path) -> Begun:
            store = Store(store_path(folder, read_worklist(path).name, reader), reader)
            return _closing_on_error(store, lambda: on_worklist(path, store)), from_files

        self._open(begin)

    def refresh(self) -> None:
        """Show where the reader is."""
        session = self._reading.session
        busy = session is not None
        self.ui.caseArea.visible = busy
        for widget in (self.ui.readerEdit, self.ui.storeFolderEdit, self.ui.worklistButton, self.ui.resultButton):
            widget.enabled = not busy
        if session is None:
            return
        self.ui.caseLabel.text = self._where(session)
        self.ui.progressBar.setMaximum(len(session))
        self.ui.progressBar.setValue(session.scored)
        self.ui.previousButton.enabled = session.index > 0
        self.ui.nextButton.enabled = session.index + 1 < len(session)
        self._show_time()
        self._tell(self._reading.problem or session.store.reason_against_writing or self._notice(session))

    def _connect(self) -> None:
        ui = self.ui
        ui.worklistButton.connect("clicked()", self._on_worklist)
        ui.resultButton.connect("clicked()", self._on_result)
        ui.previousButton.connect("clicked()", self._reading.previous)
        ui.nextButton.connect("clicked()", self._reading.next)
        ui.closeButton.connect("clicked()", self._reading.close)

    def _on_worklist(self) -> None:
        path = ask.for_file(_("Open a worklist"), _("Worklists"), "*.json")
        if path is not None:
            self.open_worklist(path)

    def _on_result(self) -> None:
        parameters = self._exam.parameters

        def begin(reader: str, folder: Path) -> Begun:
            entry = result_case.entry_of(parameters.result if parameters else None, self._settings)
            store = Store(store_path(folder, RESULTS, reader), reader)
            session = _closing_on_error(store, lambda: on_result(entry, store))
            return session, lambda entry: result_case.read(entry, self._exam)

        self._open(begin)

    def _open(self, begin: Callable[[str, Path], Begun]) -> None:
        """Open a session, or say why it can't be."""
        folder = Path(self.ui.storeFolderEdit.currentPath.strip() or self._settings.reviews_folder).expanduser()
        reader = self.ui.readerEdit.text.strip()
        try:
            session, read = self._begin(begin, reader, folder.absolute())
        except BreastTumorSegError as error:
            self._tell(str(error))
            return
        self._settings.reader = reader
        self._settings.reviews_folder = folder
        self._found = session.unsaved
        self._reading.open(session, read)

    def _begin(self, begin: Callable[[str, Path], Begun], reader: str, folder: Path) -> Begun:
        """Begin a session; a damaged store is recovered where the user agrees."""
        try:
            return begin(reader, folder)
        except Damaged as error:
            question = _("{error} It is kept beside the new one. Go on?").format(error=error)
            if not ask.whether(question, _("A damaged store")):
                raise
            recover(error.path, reader)
            return begin(reader, folder)

    def _notice(self, session: Session) -> str:
        """Edits that were there when the session began, as after a crash, and that are not saved yet."""
        left = [str(index + 1) for index in self._found if index in session.unsaved]
        if not left:
            return ""
        words = _("Case {numbers}: edits that were not saved are kept; they come back where Correct is opened.")
        return words.format(numbers=", ".join(left))

    def _where(self, session: Session) -> str:
        words = _("Case {number} of {count}; {scored} scored, {corrected} corrected.")
        if self._reading.subject is None and not self._reading.problem:
            words += " " + _("Reading its images…")
        return words.format(
            number=session.index + 1, count=len(session), scored=session.scored, corrected=session.corrected
        )

    def _show_time(self) -> None:
        minutes, seconds = divmod(int(self._reading.seconds), 60)
        self.ui.timeLabel.text = _("Time on this case: {time}").format(time=f"{minutes}:{seconds:02}")

    def _tell(self, text: str) -> None:
        tell(self.ui.messageLabel, text)


def _closing_on_error(store: Store, make: Callable[[], Session]) -> Session:
    try:
        return make()
    except BaseException:
        store.close()
        raise
