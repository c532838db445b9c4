"""A reader's work in Slicer: the case that is shown, the store it goes to, the time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import qt
import slicer
import vtk

from BreastTumorSegGui import layouts
from BreastTumorSegGui.load_ahead import LoadAhead
from BreastTumorSegGui.subject import Pictures, Subject, pictures
from BreastTumorSegGui.tasks import Work, stage
from BreastTumorSegLib.core.errors import BreastTumorSegError
from BreastTumorSegLib.review.case import read_case
from BreastTumorSegLib.review.records import CorrectionRecord, Exclusion, Place, Score
from BreastTumorSegLib.review.session import Session
from BreastTumorSegLib.review.stopwatch import Stopwatch
from BreastTumorSegLib.review.worklist import Entry

TICK_MS = 1000
KEEP_TIME_EVERY = 5
"""Ticks after which the time spent is kept, for the case of a crash."""


class Reading:
    """One session at a time; panels listen to it.

    Attributes:
        session: Order and store; None while nothing is reviewed.
        subject: What is shown; None while it is read, or where it can't be.
        shown_at: When the subject came into the views, seconds of `time.monotonic`.
        problem: Why nothing is shown, in words that tell the reader nothing of the case; "" while all is well.
        listeners: Called when something changed.
        leaving: Called before a subject goes.
        ticking: Called every second while the reader works.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.subject: Subject | None = None
        self.shown_at = 0.0
        self.problem = ""
        self.subtracted = False
        self._read_case: Callable[[Entry], Work] = from_files
        self.listeners: list[Callable[[], None]] = []
        self.leaving: list[Callable[[], None]] = []
        self.ticking: list[Callable[[], None]] = []
        self._ahead = LoadAhead(self._read)
        self._watch = Stopwatch()
        self._observed: list[tuple[vtk.vtkObject, int]] = []
        self._ticks = 0
        self._paused = False
        self._presented: Subject | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self._tick)

    @property
    def seconds(self) -> float:
        """Time spent on the case that is shown."""
        return self._watch.seconds

    @property
    def reason_against_saving(self) -> str:
        """Why nothing can be saved, in words; "" where it can."""
        if self.session is None:
            return "Open a worklist, or the result."
        return self.session.store.reason_against_writing

    def open(self, session: Session, read: Callable[[Entry], Work]) -> None:
        """Begin, or go on, where the reader stopped.

        Args:
            read: The work that reads an entry's `Case`.
        """
        self.close()
        self.session = session
        self._read_case = read
        layouts.show_reading()
        self._timer.start()
        self.go(session.index)

    def close(self) -> None:
        """End the session. What was edited is autosaved first."""
        if self.session is not None:
            try:
                self._leave()
            finally:
                self._ahead.forget()
                self._timer.stop()
                self.session.close()
                self.session = None
                self.problem = ""
                self._tell()

    def go(self, index: int) -> None:
        """Show another place."""
        session = self.session
        self._leave()
        self.problem = ""
        try:
            session.go(index)
        except BreastTumorSegError as error:  # a full disk: reading goes on
            self.problem = str(error)
        self._watch.stop(time.monotonic())
        self._watch.seconds = self._seconds_before()
        self._ahead.get(session.index, self._show)
        if self.subject is None:
            self._tell()

    def next(self) -> None:
        """Show the next place."""
        self.go(self.session.index + 1)

    def previous(self) -> None:
        """Show the place before."""
        self.go(self.session.index - 1)

    def score(self, verdict: Score | Exclusion, comment: str) -> None:
        """Save a score of the place, and go on to the next one that has none.

        Raises:
            OutputError: It is not saved.
        """
        session = self.session
        self.acted()
        session.heard(session.store.save_score(session.place, verdict, comment, self.seconds))
        following = session.next_open()
        if following is None:
            self._tell()
        else:
            self.go(following)

    def keep(self, save: Callable[[Place, float], CorrectionRecord]) -> CorrectionRecord:
        """Save a correction of the place with the time it took.

        Raises:
            OutputError: It is not saved.
        """
        self.acted()
        record = save(self.session.place, self.seconds)
        self.session.heard(record)
        self._tell()
        return record

    def look_subtracted(self, subtracted: bool) -> None:
        """Show the subtraction, or the image; it stays so for the cases to come."""
        self.subtracted = subtracted
        if self.subject is not None:
            self.subject.show(subtracted)
        self.acted()

    def acted(self, _caller: vtk.vtkObject | None = None, _event: str = "") -> None:
        """The reader did something."""
        self._watch.acted(time.monotonic())

    def pause(self) -> None:
        """The reader is elsewhere, in another module. Edits are kept on the way all the same."""
        self._keep_time()
        self._watch.stop(time.monotonic())
        self._paused = True

    def resume(self) -> None:
        """The reader is back."""
        self._paused = False
        if self.subject is not None:
            self._present()

    def _read(self, index: int) -> Work:
        case = yield from self._read_case(self.session.entry(index))
        return (yield from pictures(case))

    def _show(self, read: Pictures | Exception) -> None:
        session = self.session
        if isinstance(read, Pictures):
            self.subject = Subject(session.place, read)
            if not self._paused:  # else the views are another module's
                self._present()
        else:
            self.problem = session.entry(session.index).blinded(_words(read))
        self._tell()
        if session.index + 1 < len(session):
            self._ahead.prepare(session.index + 1)

    def _present(self) -> None:
        """Bring the subject into the views, at its lesion the first time, and count the time."""
        self.subject.show(self.subtracted)
        if self._presented is not self.subject:
            self._presented = self.subject
            self.subject.look()
            self.shown_at = time.monotonic()
        self._watch.start(time.monotonic(), self.seconds)
        self._observe()

    def _leave(self) -> None:
        """Let go of the subject, whatever those who work on it say."""
        if self.subject is None:
            return
        self._keep_time()
        try:
            for leaving in self.leaving:
                leaving()
        finally:
            self._stop_observing()
            self.subject.remove()
            self.subject = self._presented = None

    def _stop_observing(self) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []

    def _observe(self) -> None:
        """What the reader does in the views: moving the mouse over them, scrolling, zooming."""
        self._stop_observing()
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        events = [(crosshair, slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent)] if crosshair else []
        events += [(node, vtk.vtkCommand.ModifiedEvent) for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")]
        self._observed = [(node, node.AddObserver(event, self.acted)) for node, event in events]

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks % KEEP_TIME_EVERY == 0:
            self._keep_time()
        for ticking in self.ticking:
            ticking()

    def _keep_time(self) -> None:
        session = self.session
        if session is not None and self.subject is not None and not session.store.reason_against_writing:
            try:
                session.store.note(**{f"seconds-{session.place.position}": f"{self.seconds:.1f}"})
            except BreastTumorSegError as error:
                self.problem = str(error)
                self._tell()

    def _seconds_before(self) -> float:
        return float(self.session.store.meta(f"seconds-{self.session.place.position}", "0"))

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()


def from_files(entry: Entry) -> Work:
    """Read a worklist's entry."""
    return stage("load", read_case(entry))


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, BreastTumorSegError) else f"It can't be read ({type(error).__name__})."
