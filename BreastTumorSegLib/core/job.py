"""What every process of the library does at its start and at its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from BreastTumorSegLib.core.errors import BreastTumorSegError, Cancelled, typed_errors
from BreastTumorSegLib.core.events import Events, JsonEvents


@contextmanager
def reporting(events: Events) -> Iterator[None]:
    """Turn typed errors into an event, a line on standard error unless events are JSON, and their exit code.

    Raises:
        SystemExit: In place of every typed error and of an interruption from the keyboard.
    """
    try:
        with typed_errors():
            yield
    except (BreastTumorSegError, KeyboardInterrupt) as error:
        known = error if isinstance(error, BreastTumorSegError) else Cancelled()
        events.failed(known)
        if not isinstance(events, JsonEvents):
            sys.stderr.write(f"error: {known}\n")
        raise SystemExit(known.exit_code) from error


def run_and_leave(work: Callable[[], None]) -> NoReturn:
    """Run a process's main function, and leave at once: taking PyTorch down in order would take seconds."""
    code = 0
    _repair_streams()
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it may be gone
            stream.flush()
    os._exit(code)


def _repair_streams() -> None:
    """The number of a closed standard stream would go to the next file that is opened, and with it what is printed.

    A name that the terminal's encoding lacks must not end the job.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")
