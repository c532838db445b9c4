"""A cohort as a user starts it: local processes that are killed, a cluster, resuming, cancelling."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch
from distributed import LocalCluster
from distributed.core import Status
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.events import PREFIX, Events
from BreastTumorSegLib.core.models import models_folder
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.jobs import cohort
from BreastTumorSegLib.jobs.cases import find_cases
from BreastTumorSegLib.jobs.cohort import Plan, segment_cohort
from BreastTumorSegLib.jobs.exam import segment_into
from BreastTumorSegLib.networks.bundle import ModelDescription, save_bundle
from BreastTumorSegLib.networks.resunet import ResUNetConfig, resunet
from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case

pytestmark = [
    pytest.mark.xdist_group("cohort"),
    pytest.mark.skipif(os.name == "nt", reason="sends signals of POSIX"),
]
CASES = ("C0", "C1", "C2", "C3")
DAMAGED = "C2"
STARTED_S = 0.2
"""Dask does not replace a worker that is killed before its nanny has noted that it runs, some milliseconds."""
PATIENCE_S = 240


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """Four exams of 8 mm, one of them damaged."""
    folder = tmp_path_factory.mktemp("exams")
    for seed, name in enumerate(CASES):
        write_case(simulate_exam("DUKE", seed, 8.0, phases=3), folder, name)
    (folder / "images" / DAMAGED / f"{DAMAGED}_0001.nii.gz").write_bytes(b"no volume")
    return folder


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory):
    """Networks of random weights that take no time, in this process and in those it starts."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(models_folder() / "tic-codebooks", folder / "tic-codebooks")
    torch.manual_seed(1)
    for task, phases in (("breast", ("pre",)), ("tumor", ("pre", "first_post"))):
        size = ResUNetConfig(in_channels=len(phases), out_channels=1, channels=(4, 8), strides=(2,))
        facts = {"name": task, "task": task, "version": "1", "network": size, "phases": phases, "spacing_mm": 6.0}
        save_bundle(resunet(size), ModelDescription(**facts), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BREASTTUMORSEG_MODELS", str(folder))
        yield


def start(exams, out, *options):
    command = [sys.executable, "-m", "BreastTumorSegLib", "segment-cohort", str(exams), str(out), "--progress", "json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *options], **pipes)


def events_of(lines):
    return [json.loads(line.removeprefix(PREFIX)) for line in lines]


def wait_for(job, words):
    """The events up to the first line with these words."""
    lines = []
    for line in job.stdout:
        lines.append(line)
        if words in line:
            return events_of(lines)
    raise AssertionError(job.stderr.read())


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def kill_worker_of(out, case, times, job):
    """Kill the process that works on a case, so many times; its number is in the name of the unfinished folder."""
    killed = set()
    end = time.monotonic() + PATIENCE_S
    while len(killed) < times:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < end, f"{case} is not worked on"
        for path in out.glob(f".{case}.partial-*"):
            number = re.fullmatch(r".*\.partial-(\d+)", path.name)
            if number and int(number[1]) not in killed and psutil.pid_exists(int(number[1])):
                time.sleep(STARTED_S)
                os.kill(int(number[1]), signal.SIGKILL)
                killed.add(int(number[1]))
        time.sleep(0.002)


def test_killed_workers_and_a_killed_command_go_on_where_they_were(exams, tmp_path):
    out = tmp_path / "out"
    job = start(exams, out, "--workers", "1")
    kill_worker_of(out, "C0", 2, job)
    kill_worker_of(out, "C1", 1, job)
    end = time.monotonic() + PATIENCE_S
    while not (out / "C1" / "result.json").is_file():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < end, "C1 was not done again"
        time.sleep(0.05)
    workers = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    told = events_of(job.communicate()[0].splitlines())
    # The damaged exam is told of, too, where it had its turn while the first one after it was given out again.
    warnings = [event["message"] for event in told if event["event"] == "warning" and DAMAGED not in event["message"]]
    assert len(warnings) == 1, warnings
    assert warnings[0].startswith("C0 failed: The process that worked on it was ended twice")
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    assert out / "C1" / "result.json" in before and out / "C0" / "result.json" not in before

    again = CliRunner().invoke(app, ["segment-cohort", str(exams), str(out), "--workers", "1"])
    assert again.exit_code == 2
    assert f"{3 - len(before)} done, {len(before)} were done before, 1 failed; " in again.output
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())
    assert names_in(out) == {*CASES, "cohort.csv", "failed.csv"} - {DAMAGED}
    assert {case: row["status"] for case, row in rows(out / "cohort.csv").items()} == {
        case: "failed" if case == DAMAGED else "done" for case in CASES
    }
    (failed,) = rows(out / "failed.csv").values()
    assert failed["code"] == "2" and failed["message"].startswith(f"{DAMAGED}/{DAMAGED}_0001.nii.gz")
    assert str(exams) not in (out / "failed.csv").read_text()


def test_a_process_whose_successor_is_given_up_is_replaced(exams, tmp_path, monkeypatch):
    monkeypatch.setitem(cohort._LOCAL, "distributed.deploy.lost-worker-timeout", "10ms")  # no process starts so fast
    out = tmp_path / "out"
    with ThreadPoolExecutor() as beside, alarm(PATIENCE_S):
        killed = beside.submit(kill_worker_of, out, "C0", 1, StillRunning())
        tally = segment_cohort(find_cases(exams, tmp_path), Plan(out, workers=1), Events())
        killed.result(timeout=5)
    assert {outcome.case for outcome in tally.outcomes} == set(CASES)
    # Dask ends the successor that it gives up, and blames that on the exam that this one had taken.
    told = {outcome.message for outcome in tally.failed if outcome.case != DAMAGED}
    assert all("ended twice" in message for message in told)
    assert any(outcome.code == 0 for outcome in tally.outcomes)


def test_a_process_that_did_not_start_is_replaced(tmp_path):
    with alarm(60), cohort._Crew(Plan(tmp_path / "out", workers=1), 1, set()) as crew:
        crew.start()
        before = crew._client.submit(os.getpid).result(timeout=10)
        workers = crew._cluster.workers
        while not workers:  # Dask enters a process some milliseconds after its first answer
            time.sleep(0.01)
        place, process = workers.copy().popitem()

        async def refused():
            await process.close()
            process.status = Status.failed
            workers[place] = process  # as Dask leaves one that was refused because of its name

        crew._cluster.sync(refused)
        assert crew._client.submit(os.getpid, pure=False).result(timeout=30) != before
        while workers.get(place) in (None, process):
            time.sleep(0.01)


@contextmanager
def alarm(seconds):
    """Fail instead of waiting for ever."""

    def ring(*_):
        raise AssertionError(f"nothing goes on after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class StillRunning:
    """In the place of a process, where the cohort runs in this one."""

    def poll(self):
        return None


def test_a_cancelled_cohort_ends_within_seconds_and_keeps_what_is_done(exams, tmp_path):
    out = tmp_path / "out"
    job = start(exams, out, "--workers", "1")
    wait_for(job, "per_hour")
    workers = psutil.Process(job.pid).children(recursive=True)
    begin = time.monotonic()
    told, errors = job.communicate("cancel\n", timeout=30)
    assert time.monotonic() - begin < 8
    assert (job.returncode, errors) == (5, "")
    assert events_of(told.splitlines())[-1]["code"] == 5
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    done = {case for case in CASES if (out / case / "report.html").is_file()}
    assert done and names_in(out) == {*done, "cohort.csv", "failed.csv"}
    assert {case for case, row in rows(out / "cohort.csv").items() if row["status"] == "done"} <= done


def test_a_cluster_gives_the_masks_of_one_exam_alone(exams, tmp_path):
    cases = find_cases(exams, tmp_path)
    with LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        plan = Plan(tmp_path / "out", scheduler=cluster.scheduler_address)
        tally = segment_cohort(cases, plan, Events())
    assert [outcome.case for outcome in tally.failed] == [DAMAGED]
    for case in cases:
        if case.name != DAMAGED:
            folder = tmp_path / case.name
            folder.mkdir()
            segment_into(folder, [case.exam], None, "auto", Events())
            same_volumes(folder, plan.out / case.name)
            assert (folder / "lesions.csv").read_text() == (plan.out / case.name / "lesions.csv").read_text()


def same_volumes(one, other):
    names = {str(path.relative_to(one)) for path in one.rglob("*.nii.gz")}
    assert names == {str(path.relative_to(other)) for path in other.rglob("*.nii.gz")} and "tumor.nii.gz" in names
    for name in names:
        (ours, grid), (theirs, other_grid) = read_volume(one / name), read_volume(other / name)
        assert grid == other_grid and np.array_equal(ours, theirs), name
    assert read_volume(one / "tumor_probability.nii.gz")[0].any()
