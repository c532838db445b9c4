"""Cancellation from outside the process: SIGTERM, or a line `cancel` on standard input."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from BreastTumorSegLib.core.errors import Cancelled
from BreastTumorSegLib.core.events import Events

GRACE_S = 0.8
"""A library call that runs longer than this after a cancellation is not waited for."""


def heed_signals() -> None:
    """Let SIGTERM raise `Cancelled` from now on: before `cancellable` there are imports that take a moment."""
    signal.signal(signal.SIGTERM, _raise_cancelled)


@contextmanager
def cancellable(events: Events, unfinished: Path | None = None, listen: bool = False) -> Iterator[None]:
    """Within, a cancellation raises `Cancelled` in the main thread, or ends the process within a second.

    Python calls signal handlers only between its own steps, which one call of a numerical library can hold up for
    seconds. So a thread hears of the signal too, through the wake-up socket, and ends the process after `GRACE_S`.
    After the block, cancellations are ignored: what follows is putting results in their place, or cleaning up.

    Args:
        events: Told of the cancellation.
        unfinished: A folder of half-written results, removed before the process ends.
        listen: Take the line `cancel` from standard input, which then belongs to this job.
    """
    heard, wake = socket.socketpair()
    wake.setblocking(False)
    timer = threading.Timer(GRACE_S, _end, args=(events, unfinished))
    timer.daemon = True
    signal.signal(signal.SIGTERM, lambda _number, frame: _stop(events, frame))
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_hear_signal, args=(heard, timer), daemon=True).start()
    if listen:
        threading.Thread(target=_hear_line, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        timer.cancel()
        signal.set_wakeup_fd(-1)
        wake.close()


def _stop(events: Events, frame: FrameType | None) -> None:
    """Raise, but not in the middle of an import: libraries' C++ aborts the process where Python raises under it.

    Then the next progress raises, or the timer ends the process.
    """
    if _imports(frame):
        events.cancel()
    else:
        _raise_cancelled(signal.SIGTERM, frame)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raise_cancelled(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not disturb the cleaning up
    raise Cancelled


def _hear_signal(heard: socket.socket, timer: threading.Timer) -> None:
    with heard:
        while received := heard.recv(1):
            if received[0] == signal.SIGTERM:
                timer.start()
                return


def _hear_line() -> None:
    """Read file descriptor 0 itself: a thread that waits in `sys.stdin` could not be left behind at exit."""
    line = b""
    while chunk := os.read(0, 64):
        *lines, line = (line + chunk).split(b"\n")
        if any(part.strip() == b"cancel" for part in lines):
            signal.raise_signal(signal.SIGTERM)
            return


def _end(events: Events, unfinished: Path | None) -> None:
    try:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
        events.failed(Cancelled())
    finally:  # whoever started the job may be gone, and its pipe with it
        os._exit(Cancelled.exit_code)
