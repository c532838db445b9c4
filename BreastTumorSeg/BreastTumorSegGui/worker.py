"""The library's commands, each as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from BreastTumorSegLib.core.errors import BreastTumorSegError
from BreastTumorSegLib.core.events import PREFIX

Event = dict[str, Any]


class WorkerError(BreastTumorSegError):
    """A worker ended without its result.

    Attributes:
        log: What it wrote, kept for whoever looks for the cause.
        code: Its exit code, or the library's code for the kind of failure.
    """

    def __init__(self, message: str, remedy: str, log: Path, code: int | None) -> None:
        super().__init__(message, remedy)
        self.log = log
        self.code = code


@dataclass(frozen=True)
class Launcher:
    """How to start the library.

    Attributes:
        python: PythonSlicer, or any Python.
        folder: Folder that holds BreastTumorSegLib; the process starts there.
    """

    python: str
    folder: Path

    def run(self, module: str, arguments: Sequence[str], log: Path) -> Generator[Event | None, None, None]:
        """Start `python -m module` and yield its events, None while it has nothing to say.

        Output goes to a file, not through a pipe: nothing can fill up, and a crash leaves the log. Closing the iterator
        ends the whole process tree, since PythonSlicer starts the Python that works and waits for it.

        Raises:
            WorkerError: It ended without the event `finished`.
        """
        process = self._start([self.python, "-m", module, *arguments], log)
        last: Event = {}
        try:
            with log.open("rb") as output:
                for event in _events(process, output):
                    last = event or last
                    yield event
        finally:
            end_tree(process)
        if last.get("event") == "failed":
            raise WorkerError(last["message"], last["remedy"], log, last["code"])
        if last.get("event") != "finished":
            raise _unexpected_end(process.returncode, log)

    def _start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )


def _events(process: subprocess.Popen[bytes], output: IO[bytes]) -> Iterator[Event | None]:
    rest = b""
    while True:
        ended = process.poll() is not None  # asked before reading, so that the last lines are read
        *lines, rest = (rest + output.read()).split(b"\n")
        for line in lines:
            event = _event(line)
            if event is not None:
                yield event
        if ended:
            return
        yield None


def _event(line: bytes) -> Event | None:
    """The event of a line; None for a line of log."""
    text = line.decode("utf-8", errors="replace").strip()
    if not text.startswith(PREFIX):
        return None
    try:
        return json.loads(text.removeprefix(PREFIX))
    except ValueError:
        return None


def _unexpected_end(code: int | None, log: Path) -> WorkerError:
    killed = code is not None and (code < 0 or code in (137, 143))
    how = f"was ended from outside (exit code {code})" if killed else f"ended unexpectedly (exit code {code})"
    remedy = (
        "Most often the memory ran out: close other programs, or choose the CPU."
        if killed
        else "See the log; the Set-up panel shows whether something is missing."
    )
    return WorkerError(f"The work in the background {how}.", remedy, log, code)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, at once. Nothing happens where all of them are gone."""
    if os.name == "nt":
        if process.poll() is None:  # taskkill finds the others by the first one
            command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
    else:
        with suppress(ProcessLookupError, PermissionError):  # the group is gone, or only waits to be reaped
            os.killpg(process.pid, signal.SIGKILL)
    process.poll()
