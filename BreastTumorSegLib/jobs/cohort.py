"""Many exams on Dask: local processes, or a cluster that runs."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed, wait
from distributed.core import CommClosedError, Status
from distributed.system import MEMORY_LIMIT
from tornado.ioloop import PeriodicCallback

from BreastTumorSegLib.core.cancel import cancellable
from BreastTumorSegLib.core.errors import BreastTumorSegError, InputError, OutOfMemoryError, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.results import output_errors, refuse_over_input, remove_unfinished
from BreastTumorSegLib.jobs.cases import Case
from BreastTumorSegLib.jobs.tables import Outcome, failure, read_manifest, succeeded, write_tables
from BreastTumorSegLib.jobs.worker import Share, is_done, models_used, segment_case, stop

CORES_EACH = 2
MEMORY_EACH = 6 << 30
"""Cores and bytes that a process of its own is worth: `segment` needs the exam and 2.5 GB, and Dask stops at 95 %."""
TABLES_EVERY_S = 30.0
"""A table of 100,000 rows takes half a second to write."""
ANSWER_S = 60.0
"""How long a cluster may take to answer, and to have a first worker."""
GRACE_S = 1.0
"""How long running exams may take to reach their next step after a cancellation."""
CLOSE_S = 15.0
"""How long local processes may take to end."""
REPLACE_EVERY_S = 1.0
"""Dask gives up a local process that has no successor some time after it was lost, and starts none by itself then."""
_LOCAL = {
    # A worker that was killed, by the system or for its memory, may not have been the fault of its exam: try once more.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.comm.timeouts.connect": "30s",
    # Its successor takes some seconds to start, and one that is given up as it comes is blamed on its exam.
    "distributed.deploy.lost-worker-timeout": "60s",
}


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        out: Folder of results; each case gets a folder in it.
        model: Name of the tumour model; the default without one.
        device: "auto", "cpu" or "cuda".
        workers: Local processes; None for as many as cores, memory and GPUs allow.
        scheduler: Address of a cluster's scheduler instead of local processes.
    """

    out: Path
    model: str | None = None
    device: str = "auto"
    workers: int | None = None
    scheduler: str | None = None


@dataclass
class Tally:
    """What came of the cases.

    Attributes:
        total: Cases in all.
        skipped: Cases that an earlier run did.
        outcomes: Of this run.
    """

    total: int
    skipped: int
    outcomes: list[Outcome] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Cases that nothing more is done for, failed ones too."""
        return self.skipped + len(self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """Of this run."""
        return [outcome for outcome in self.outcomes if outcome.code]

    @property
    def per_hour(self) -> float:
        """Exams per hour of this run so far, by the clock on the wall."""
        return round(3600 * len(self.outcomes) / max(time.monotonic() - self._start, 1e-3), 1)

    def seconds_left(self, workers: int) -> float | None:
        """Estimate for so many workers, from what an exam took; None before the first."""
        taken = [outcome.seconds for outcome in self.outcomes if outcome.seconds is not None]
        return round(sum(taken) / len(taken) * (self.total - self.done) / workers, 1) if taken else None


def segment_cohort(cases: Sequence[Case], plan: Plan, events: Events, listen: bool = False) -> Tally:
    """Segment every case that has no result yet; one that fails does not keep the others from going on.

    Args:
        listen: Take the line `cancel` from standard input.

    Raises:
        InputError: The device is not there, or no cluster or no worker answers at the scheduler's address.
        ModelError: A model is missing or damaged.
        OutputError: `plan.out` can't be written, holds an exam, or holds results of another model or calibration.
        Cancelled: On request; finished cases stay, and nothing half-written.
    """
    refuse_over_input([case.exam for case in cases], plan.out)
    wanted = models_used(plan.model)
    old = _finished(cases, plan.out, wanted)
    todo = [case for case in cases if case.name not in old]
    with output_errors(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    write_tables(plan.out, old.values())
    tally = Tally(len(cases), len(old))
    events.progress("cohort", tally.done, tally.total)
    if todo:
        with _Crew(plan, len(todo), wanted) as crew, cancellable(events, listen=listen):
            crew.start()
            _work_off(crew, todo, tally, events)
    return tally


def _finished(cases: Sequence[Case], out: Path, wanted: set[str]) -> dict[str, Outcome]:
    """Outcomes of the cases with a result, by name."""
    found = {case.name: manifest for case in cases if (manifest := read_manifest(out / case.name)) is not None}
    other = next((name for name, manifest in found.items() if not is_done(manifest, wanted)), None)
    if other is not None:
        raise OutputError(
            f"{out / other} is the result of another model or calibration.", "Choose another folder for the results."
        )
    return {name: succeeded(name, manifest) for name, manifest in found.items()}


def _work_off(crew: _Crew, todo: Sequence[Case], tally: Tally, events: Events) -> None:
    written = time.monotonic()
    try:
        for outcome in crew.outcomes(todo):
            tally.outcomes.append(outcome)
            if outcome.code:
                events.warning(f"{outcome.case} failed: {outcome.message} {outcome.remedy}".strip())
            facts = {"failed": len(tally.failed), "per_hour": tally.per_hour}
            left = tally.seconds_left(crew.size)
            events.progress("cohort", tally.done, tally.total, **facts, seconds_left=left)
            if time.monotonic() - written > TABLES_EVERY_S:
                write_tables(crew.plan.out, tally.outcomes)
                written = time.monotonic()
    finally:
        write_tables(crew.plan.out, tally.outcomes)


class _Crew:
    """The workers of a run: started by `start`, and ended with the block, whatever happened in it."""

    def __init__(self, plan: Plan, most: int, wanted: set[str]) -> None:
        self.plan = plan
        self.size = 1
        self._most = most
        self._wanted = wanted
        self._run = uuid.uuid4().hex
        self._running: dict[Future, Case] = {}
        self._open = ExitStack()
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        with self._open:
            self._close()

    def _close(self) -> None:
        if self._client is not None:
            if self._running and self._client.status == "running":  # without its scheduler it would wait for ever
                self._stop(self._client)
            self._client.close(timeout=1)
        if self._cluster is not None:
            with suppress(TimeoutError):  # Dask ends what does not end by itself after four seconds
                self._cluster.close(timeout=CLOSE_S)
            for case in self._running.values():
                remove_unfinished(self.plan.out / case.name)

    def start(self) -> None:
        """Start local processes, or join a cluster.

        Raises:
            InputError: The device is not there, or the cluster or its workers don't answer.
        """
        for name in ("distributed", "distributed.client"):  # workers and schedulers that end are told as failures
            logging.getLogger(name).setLevel(logging.CRITICAL)
        gpus = 0 if self.plan.scheduler else _gpus(self.plan.device)
        self._client = self._join(self.plan.scheduler) if self.plan.scheduler else self._launch(gpus)
        with _answering(str(self.plan.scheduler)):
            self._client.wait_for_workers(1, timeout=ANSWER_S)
        hosts = [worker["host"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()]
        self._client.register_plugin(Share(max(map(hosts.count, hosts)), gpus))

    def _join(self, address: str) -> Client:
        with _answering(address):
            return Client(address, timeout=ANSWER_S, set_as_default=False)

    def _launch(self, gpus: int) -> Client:
        count = min(self.plan.workers or gpus or default_workers(), self._most)
        self._open.enter_context(dask.config.set(_LOCAL))  # read when a worker is lost, too
        cluster = self._cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT // count,
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )
        replace = PeriodicCallback(lambda: _replace_lost(cluster, count), 1000 * REPLACE_EVERY_S)
        cluster.periodic_callbacks["replace-lost"] = replace  # the cluster stops it when it closes
        cluster.loop.add_callback(replace.start)
        return Client(cluster, set_as_default=False)

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Outcome]:
        """Outcomes as they come.

        No more cases are given out than there are threads: when a worker is killed, Dask blames all it has been given.

        Raises:
            InputError: The cluster is lost.
        """
        assert self._client is not None
        waiting = iter(cases)
        finished = as_completed(loop=self._client.loop)
        try:
            self._give_out(waiting, finished)
            for future in finished:
                yield self._outcome(future, self._running[future])
                del self._running[future]
                self._give_out(waiting, finished)
        except CommClosedError as error:
            raise _lost() from error

    def _give_out(self, waiting: Iterator[Case], finished: as_completed) -> None:
        assert self._client is not None
        # Workers may join a cluster and leave it.
        self.size = max(1, sum(self._client.nthreads().values()))
        for _ in range(self.size - len(self._running)):
            case = next(waiting, None)
            if case is None:
                return
            future = self._client.submit(
                segment_case,
                case,
                self.plan.out.absolute(),
                self.plan.model,
                self.plan.device,
                self._wanted,
                self._run,
                key=f"exam-{self._run}-{case.name}",
            )
            self._running[future] = case
            finished.add(future)

    def _outcome(self, future: Future, case: Case) -> Outcome:
        assert self._client is not None
        if future.status == "finished":
            return future.result()
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                remove_unfinished(self.plan.out / case.name)
                return failure(case.name, case.exam, _killed())
            return failure(case.name, case.exam, BreastTumorSegError(f"{type(error).__name__}: {error}"))
        raise _lost()

    def _stop(self, client: Client) -> None:
        """Let running exams end at their next step; those of local processes are ended with them if they don't."""
        with suppress(Exception):  # there may be no worker any more, or no scheduler
            client.run(stop, self._run, on_error="ignore")
            wait(list(self._running), timeout=GRACE_S)


def _replace_lost(cluster: LocalCluster, count: int) -> None:
    """Start what is missing of so many processes.

    One that failed to start stays in Dask's list, so that none takes its place. It fails where the process that it
    replaces still has its name.
    """
    for name, process in list(cluster.workers.items()):
        if process.status in (Status.failed, Status.closed):
            del cluster.workers[name]
    cluster.scale(count)


def default_workers() -> int:
    """As many processes as cores and memory allow without GPUs."""
    return max(1, min(CPU_COUNT // CORES_EACH, MEMORY_LIMIT // MEMORY_EACH))


def _gpus(device: str) -> int:
    import torch

    from BreastTumorSegLib.segmentation.inference import choose_device

    return torch.cuda.device_count() if choose_device(device).type == "cuda" else 0


def _lost() -> InputError:
    return InputError("The cluster's scheduler was lost.", "Start it and this command again; what is done is kept.")


def _killed() -> BreastTumorSegError:
    return OutOfMemoryError(
        "The process that worked on it was ended twice, as happens when memory runs out.",
        "Run again with fewer --workers, or on a computer with more memory.",
    )


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Type what Dask says of a cluster that does not answer.

    Raises:
        InputError: It does not.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise InputError(
            f"No Dask cluster with a worker answers at {address}.",
            "Start its scheduler and workers, and check the address.",
        ) from error
