"""Cancellation in the middle of an import."""

import os
import signal
import subprocess
import sys
import time

import pytest

JOB = """
import sys
from BreastTumorSegLib.core.cancel import cancellable
from BreastTumorSegLib.core.events import JsonEvents
from BreastTumorSegLib.core.job import reporting, run_and_leave

def job():
    events = JsonEvents(sys.stdout)
    with reporting(events), cancellable(events):
        import touchy
        events.progress("after", 0, 1)

run_and_leave(job)
"""

# As C++ code of a library does that calls Python while it is imported.
TOUCHY = """
import os, time
print("importing", flush=True)
try:
    time.sleep({seconds})
except BaseException:
    os.abort()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("seconds", [0.4, 30])  # the import ends on its own, or the process has to be ended
def test_a_cancelled_import_ends_the_job_and_does_not_abort_it(tmp_path, seconds):
    (tmp_path / "touchy.py").write_text(TOUCHY.format(seconds=seconds))
    job = subprocess.Popen(
        [sys.executable, "-c", JOB],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert job.stdout.readline() == "importing\n"
    begin = time.monotonic()
    job.send_signal(signal.SIGTERM)
    rest, _ = job.communicate(timeout=30)
    assert time.monotonic() - begin < 2.0
    assert job.returncode == 5 and '"failed"' in rest.splitlines()[-1]
