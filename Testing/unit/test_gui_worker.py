"""Workers as processes: what they tell, how they end, and that nothing is left of them."""

import os
import sys
import textwrap
import time

import psutil
import pytest

from BreastTumorSegGui.worker import Launcher, WorkerError


@pytest.fixture
def module(tmp_path):
    """Writes a module that a worker can run."""

    def write(text):
        (tmp_path / "job.py").write_text(textwrap.dedent(text))
        return Launcher(sys.executable, tmp_path)

    return write


def heard(launcher, log, arguments=()):
    return [event for event in _paced(launcher.run("job", arguments, log)) if event is not None]


def _paced(events):
    for event in events:
        yield event
        if event is None:
            time.sleep(0.02)


def test_events_are_told_in_order_and_the_rest_is_log(module, tmp_path):
    launcher = module("""
        import sys
        print('@bts {"event": "started"}')
        print("some library says something")
        print("@bts {damaged")
        print("on standard error", file=sys.stderr)
        print('@bts {"event": "finished", "arguments": %d}' % len(sys.argv))
    """)
    events = heard(launcher, tmp_path / "logs" / "a.log", ["x", "y z"])
    assert events == [{"event": "started"}, {"event": "finished", "arguments": 3}]
    log = (tmp_path / "logs" / "a.log").read_text()
    assert "some library says something" in log
    assert "on standard error" in log


def test_a_failure_has_the_workers_words(module, tmp_path):
    launcher = module("""
        print('@bts {"event": "failed", "code": 4, "message": "No memory.", "remedy": "Buy some."}')
        raise SystemExit(4)
    """)
    with pytest.raises(WorkerError, match=r"No memory\. Buy some\.") as caught:
        heard(launcher, tmp_path / "a.log")
    assert caught.value.code == 4
    assert caught.value.log == tmp_path / "a.log"


def test_a_crash_is_told_and_its_log_stays(module, tmp_path):
    launcher = module("raise ZeroDivisionError")
    with pytest.raises(WorkerError, match=r"ended unexpectedly \(exit code 1\)"):
        heard(launcher, tmp_path / "a.log")
    assert "ZeroDivisionError" in (tmp_path / "a.log").read_text()


def test_an_end_without_the_last_word_is_no_success(module, tmp_path):
    with pytest.raises(WorkerError, match="exit code 0"):
        heard(module("""print('@bts {"event": "started"}')"""), tmp_path / "a.log")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_that_is_killed_from_outside_hints_at_memory(module, tmp_path):
    launcher = module("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkerError, match="ended from outside"):
        heard(launcher, tmp_path / "a.log")


def test_closing_ends_the_whole_tree_within_two_seconds(module, tmp_path):
    """The worker starts one of its own, as PythonSlicer does, and both refuse to end."""
    launcher = module("""
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print('@bts {"event": "progress", "child": %d}' % child.pid, flush=True)
        time.sleep(60)
    """)
    run = launcher.run("job", [], tmp_path / "a.log")
    child = psutil.Process(next(event["child"] for event in _paced(run) if event))
    start = time.monotonic()
    run.close()
    assert time.monotonic() - start < 0.1  # the one who closes is the GUI
    psutil.wait_procs([child, *psutil.Process().children()], timeout=2)
    assert not _alive(child)
    assert not [p for p in psutil.Process().children(recursive=True) if "job" in p.cmdline() and _alive(p)]


def _alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_killed_launcher_leaves_no_orphan(module, tmp_path):
    launcher = module("""
        import os, signal, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print('@bts {"event": "progress", "child": %d}' % child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    children = []
    with pytest.raises(WorkerError):
        for event in _paced(launcher.run("job", [], tmp_path / "a.log")):
            children += [psutil.Process(event["child"])] if event else []
    psutil.wait_procs(children, timeout=2)
    assert not _alive(children[0])
