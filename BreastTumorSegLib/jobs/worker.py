"""What runs in the worker processes of a cohort."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT
from distributed import Worker, WorkerPlugin

from BreastTumorSegLib.core.errors import BreastTumorSegError, Cancelled, ModelError, OutputError, typed_errors
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.results import remove_unfinished, results_folder
from BreastTumorSegLib.jobs.cases import Case
from BreastTumorSegLib.jobs.exam import segment_into
from BreastTumorSegLib.jobs.tables import Outcome, failure, read_manifest, succeeded

_stopped: set[str] = set()
_threads = CPU_COUNT


class ExamEvents(Events):
    """Lets a cancelled run end its exams at their next step."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run

    def show(self, event: dict[str, Any]) -> None:
        """Show nothing.

        Raises:
            Cancelled: `stop` was called for the run.
        """
        if self._run in _stopped:
            raise Cancelled


def stop(run: str) -> None:
    """End the exams of a run in this process."""
    _stopped.add(run)


class Share(WorkerPlugin):
    """Gives each worker its share of a machine: of the cores, and a GPU where there are some.

    Args:
        workers: How many work on one machine.
        gpus: How many GPUs are dealt out by the worker's name, a number; 0 leaves that as it is.
    """

    name = "breast-tumor-seg-share"

    def __init__(self, workers: int, gpus: int) -> None:
        self._workers = workers
        self._gpus = gpus

    def setup(self, worker: Worker) -> None:
        """Called by Dask in each worker process before its first exam."""
        if self._gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(int(worker.name) % self._gpus)
        global _threads
        _threads = max(1, CPU_COUNT // self._workers)


def limit_threads(count: int) -> None:
    """Let PyTorch, SimpleITK and the libraries below numpy use `count` threads each, when called from this thread."""
    import SimpleITK as sitk
    import sklearn.cluster  # noqa: F401 - so that the OpenMP it brings is there to be limited
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    threadpool_limits(count)


def models_used(model: str | None) -> set[str]:
    """What tells the models that `segment` would use here: for breasts, for tumours, and what that one needs.

    Each by the sha256 of its weights and of its description, which holds threshold, peak and what tells lesions.

    Raises:
        ModelError: A model is missing or damaged.
    """
    from BreastTumorSegLib.core.models import description_sha256, maps_of, partner_of, refinement_of
    from BreastTumorSegLib.networks.bundle import default_model, verify_bundle

    tumor = model or default_model("tumor")
    needed = (default_model("breast"), tumor, maps_of(tumor), partner_of(tumor), refinement_of(tumor))
    return {f"{verify_bundle(name)} {description_sha256(name)}" for name in needed if name}


def is_done(manifest: Mapping[str, Any] | None, wanted: set[str]) -> bool:
    """Whether a result is there and made by these models; results of before descriptions were noted are not."""
    if manifest is None:
        return False
    return {f"{model['sha256']} {model.get('description_sha256')}" for model in manifest["models"]} == wanted


def segment_case(case: Case, out: Path, model: str | None, device: str, wanted: set[str], run: str) -> Outcome:
    """Segment a case into `out`/CASE; whatever is wrong with it becomes an outcome.

    Args:
        wanted: `models_used` of the machine that gave the order.
        run: Which `stop` ends it.

    Raises:
        Cancelled: The run was stopped.
    """
    start = time.monotonic()
    try:
        with typed_errors():
            limit_threads(_threads)  # here, as OpenMP keeps its limit by thread
            manifest = _segment(case, out / case.name, model, device, wanted, run)
        return succeeded(case.name, manifest, round(time.monotonic() - start, 1))
    except Cancelled:
        raise
    except BreastTumorSegError as error:
        return failure(case.name, case.exam, error, round(time.monotonic() - start, 1))
    except Exception as error:
        logging.getLogger(__name__).exception("case %s", case.name)
        bug = BreastTumorSegError(f"{type(error).__name__}: {error}", "This is a bug: report it.")
        return failure(case.name, case.exam, bug, round(time.monotonic() - start, 1))


def _segment(case: Case, out: Path, model: str | None, device: str, wanted: set[str], run: str) -> dict[str, Any]:
    if models_used(model) != wanted:
        raise ModelError("This machine's models are not those of the command.", "Install the same ones on all.")
    events = ExamEvents(run)
    remove_unfinished(out)  # of a worker that was killed
    try:
        with results_folder(out, overwrite=False) as folder:
            return segment_into(folder, [case.exam], model, device, events)
    except OutputError:
        # Dask gives a case to another worker when the first one can't be reached, and that one may finish yet.
        manifest = read_manifest(out)
        if manifest is None or not is_done(manifest, wanted):
            raise
        return manifest
