"""`python -m BreastTumorSegLib` is the command line. It tells of packages that are not installed in its usual way."""

import sys

from BreastTumorSegLib.core.events import Events, JsonEvents
from BreastTumorSegLib.core.job import reporting, run_and_leave


def main() -> None:
    """Run the command line, where the packages for it are there."""
    arguments = " ".join(sys.argv[1:]).replace("=", " ")
    events = JsonEvents(sys.stdout) if "--progress json" in arguments else Events()
    with reporting(events):
        from BreastTumorSegLib.cli import app

        app()  # typer imports pydantic as late as here


if __name__ == "__main__":
    run_and_leave(main)
