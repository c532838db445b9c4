"""What a user waits for around the networks: the start, and the end after a cancellation at any moment."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time

import pytest

from BreastTumorSegLib.core.events import PREFIX

COMMAND = [sys.executable, "-m", "BreastTumorSegLib"]
MOMENTS = [
    *(("started", 0.0), ("load", 0.0), ("load", 0.1), ("models", 0.0), ("models", 0.7), ("breast", 0.0)),
    *(("breast", 0.1), ("tumor", 0.0), ("kinetics", 0.0), ("clusters", 0.0), ("write", 0.0), ("report", 0.0)),
]
"""A word of an event, and seconds after it; every second one is cancelled by a signal, the others by the line."""


def seconds_of(*arguments):
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - begin


def test_help_comes_at_once():
    """0.3 s on an idle machine; on a busy one twice that, or 15 starts of an empty Python."""
    pairs = [(seconds_of("-m", "BreastTumorSegLib", "--help"), seconds_of("-c", "pass")) for _ in range(5)]
    taken, empty = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert taken < max(0.6, 15 * empty)


def start(case, out, temporary):
    return subprocess.Popen(
        [*COMMAND, "segment", str(case), str(out), "--progress", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "TMP": str(temporary), "TEMP": str(temporary)},
    )


def wait_for(job, word):
    for line in job.stdout:
        if f'"{word}"' in line and (word == "started" or '"progress"' in line):
            return
    raise AssertionError(f"the job ended before {word}")


def test_the_first_progress_comes_before_torch(case, tmp_path):
    """1.5 s on an idle machine; twice that is left to a busy one, or what an empty Python takes there in 50 starts."""
    empty = seconds_of("-c", "pass")
    begin = time.perf_counter()
    job = start(case, tmp_path / "out", tmp_path)
    wait_for(job, "load")
    taken = time.perf_counter() - begin
    job.kill()
    job.communicate()
    assert taken < max(3.0, 50 * empty)


@pytest.mark.parametrize("module", ["torch", "monai", "matplotlib", "sklearn"])
def test_nothing_heavy_is_imported_to_read_an_exam(module):
    code = f"import sys, BreastTumorSegLib.cli, BreastTumorSegLib.io; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("number", "word", "delay"), [(i, *moment) for i, moment in enumerate(MOMENTS)])
def test_a_job_can_be_cancelled_at_any_moment(case, tmp_path, number, word, delay):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    job = start(case, tmp_path / "out", temporary)
    wait_for(job, word)
    time.sleep(delay)
    begin = time.monotonic()
    if number % 2 or os.name == "nt":  # Windows has no SIGTERM to send
        job.stdin.write("cancel\n")
        job.stdin.flush()
    else:
        job.send_signal(signal.SIGTERM)
    code = job.wait(timeout=30)
    assert time.monotonic() - begin < 2.0  # a second, and room for a busy machine
    assert code == 5
    last = json.loads(job.stdout.read().splitlines()[-1][len(PREFIX) :])
    assert (last["event"], last["code"]) == ("failed", 5)
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert list(temporary.iterdir()) == []
