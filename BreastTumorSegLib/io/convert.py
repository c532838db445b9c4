"""`python -m BreastTumorSegLib.io.convert INPUT... OUT` turns any exam into an exam folder, in a process of its own.

Prints events as JSON lines: `started`, `progress`, `warning`, `table` before any voxel is read, `finished` or `failed`.
Exit codes are those of the command line. It needs no package that Slicer's own Python lacks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from BreastTumorSegLib.core.cancel import cancellable, heed_signals
from BreastTumorSegLib.core.events import CONVERT_STAGES, JsonEvents
from BreastTumorSegLib.core.job import reporting, run_and_leave
from BreastTumorSegLib.io.exam import load_exam
from BreastTumorSegLib.io.exam_folder import write_exam
from BreastTumorSegLib.io.results import results_folder


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one exam; `argv` is the process's without it.

    Raises:
        SystemExit: It failed, with the exit code.
    """
    parser = argparse.ArgumentParser("python -m BreastTumorSegLib.io.convert", description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="see `inspect`")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; new or empty")
    arguments = parser.parse_args(argv)
    events = JsonEvents(sys.stdout)
    heed_signals()
    with reporting(events):
        events.started(command="convert", stages=CONVERT_STAGES)
        with results_folder(arguments.out, overwrite=False) as folder, cancellable(events, folder, listen=True):
            write_exam(load_exam(arguments.inputs, events=events), folder, events)
        events.finished(out=str(arguments.out))


if __name__ == "__main__":
    run_and_leave(main)
