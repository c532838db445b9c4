"""Seconds of the whole job by stage, memory, start-up, and growth with voxels and phases; prints Markdown tables.

`python Testing/benchmarks/whole_job.py [--runs 5] [--source FOLDER] [--growth]`. The exams are a simulated one of
448 x 448 x 160 x 5 and the real one of ../shared/data where the tests have unpacked it. With `--source`, the package in
another folder is timed in turn with this one, a run each, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

from BreastTumorSegLib.core.events import PREFIX, SEGMENT_STAGES

HERE = Path(__file__).parents[2]
SAMPLE_S = 0.02
SHAPE, PHASES = (160, 448, 448), 5
GROWTH_SPACING, GROWTH_PHASES = 3.0, (2, 4, 6, 8, 12)


@dataclass(frozen=True)
class Run:
    """One job: seconds to the first event, of each stage and in all, and the process's greatest memory in MB."""

    first: float
    stages: dict[str, float]
    total: float
    peak_mb: float


def job(source: Path, exam: Path, events: Path | None = None) -> Run:
    """Run the command line on an exam; keep its events with their seconds where they are asked for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "BreastTumorSegLib", "segment", str(exam), f"{folder}/out"]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--progress", "json"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=source,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        peak = [0]
        watcher = threading.Thread(target=watch, args=(process, peak))
        watcher.start()
        told = [(time.perf_counter() - begin, json.loads(line[len(PREFIX) :])) for line in process.stdout]
        watcher.join()
        total = time.perf_counter() - begin
    assert process.returncode == 0, told[-1]
    if events:
        events.write_text(json.dumps([(round(t, 2), e) for t, e in told if e["event"] == "progress"]))
    entered: dict[str, float] = {}
    for second, event in told:
        if event["event"] == "progress":
            entered.setdefault(event["stage"], second)
    ends = [*list(entered.values())[1:], total]
    stages = {name: end - start for (name, start), end in zip(entered.items(), ends, strict=True)}
    return Run(min(entered.values()), stages, total, peak[0] / 1e6)


def watch(process: subprocess.Popen, peak: list[int]) -> None:
    """Keep the greatest resident memory of a process until it ends."""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak[0] = max(peak[0], watched.memory_info().rss)
        except psutil.Error:
            return
        time.sleep(SAMPLE_S)


def simulated(folder: Path) -> Path:
    """An exam of DUKE's kind, cut to 448 x 448 x 160 x 5."""
    from BreastTumorSegLib.phantom.simulate import simulate_exam
    from BreastTumorSegLib.phantom.sites import SITES

    site = replace(SITES["DUKE"], in_plane=(0.76, 0.76), slice=(1.1, 1.1), phases=(PHASES, PHASES))
    exam = simulate_exam("DUKE", 100, protocol=site)
    start = [(there - wanted) // 2 for there, wanted in zip(exam.geometry.shape, SHAPE, strict=True)]
    start[1] = 0  # the breasts are in front
    inside = tuple(slice(max(s, 0), max(s, 0) + wanted) for s, wanted in zip(start, SHAPE, strict=True))
    return write(folder, exam.data.numpy()[(slice(None), *inside)], exam.times, exam.geometry.spacing)


def write(folder: Path, data: np.ndarray, times: tuple[float, ...], spacing: tuple[float, ...]) -> Path:
    """An exam folder of MAMA-MIA's layout, so that times are known."""
    place = folder / "images" / "DUKE_1"
    place.mkdir(parents=True)
    for index, phase in enumerate(data):
        image = sitk.GetImageFromArray(phase.round().astype(np.int16))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(place / f"DUKE_1_{index:04d}.nii.gz"), True)
    (folder / "patient_info_files").mkdir()
    info = {"imaging_data": {"acquisition_times": list(times)}}
    (folder / "patient_info_files" / "duke_1.json").write_text(json.dumps(info))
    return place


def real() -> Path | None:
    """Where the tests have unpacked the real exam."""
    found = sorted(Path(tempfile.gettempdir()).glob("breast-tumor-seg-duke-*[0-9]"))
    return found[0] if found else None


def growth(folder: Path, runs: int) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Seconds without the start and the models, over 1, 2, 4 and 8 times the voxels and over phases."""
    from BreastTumorSegLib.phantom.simulate import simulate_exam
    from BreastTumorSegLib.phantom.sites import SITES

    @cache
    def seconds(spacing: float, phases: int) -> float:
        site = replace(SITES["DUKE"], phases=(phases, phases), interval=60)
        exam = simulate_exam("DUKE", 100, spacing, protocol=site)
        place = write(folder / f"{spacing:.2f}-{phases}", exam.data.numpy(), exam.times, exam.geometry.spacing)
        found = [job(HERE, place) for _ in range(runs)]
        return statistics.median(run.total - run.first - run.stages["models"] for run in found)

    yield "voxels", [(times, seconds(GROWTH_SPACING / times ** (1 / 3), 4)) for times in (1, 2, 4, 8)]
    yield "phases", [(phases, seconds(GROWTH_SPACING / 2, phases)) for phases in GROWTH_PHASES]


def start_up(source: Path, runs: int) -> tuple[float, float]:
    """Median seconds of `--help` and of an empty Python, each once before, for the cache."""

    def seconds(*arguments: str) -> float:
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            check=True,
            cwd=source,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        return time.perf_counter() - begin

    pairs = [(seconds("-m", "BreastTumorSegLib", "--help"), seconds("-c", "pass")) for _ in range(runs + 1)][1:]
    taken, empty = (statistics.median(times) for times in zip(*pairs, strict=True))
    return taken, empty


def table(header: list[str], rows: list[list[str]]) -> None:
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)  # noqa: T201
    print()  # noqa: T201


def stage_table(name: str, exam: Path, sources: dict[str, Path], runs: int, events: Path | None) -> None:
    found: dict[str, list[Run]] = {label: [] for label in sources}
    for _ in range(runs):
        for label, source in sources.items():
            found[label].append(job(source, exam, events if source == HERE else None))
    lines: dict[str, Callable[[Run], float]] = {"first progress": lambda run: run.first}
    lines |= {stage: lambda run, stage=stage: run.stages.get(stage, 0.0) for stage in SEGMENT_STAGES}
    lines |= {"whole job": lambda run: run.total, "peak memory, MB": lambda run: run.peak_mb}
    medians = {what: [statistics.median(map(line, found[label])) for label in sources] for what, line in lines.items()}
    rows = [[what, *(f"{value:.2f}" if value < 500 else f"{value:.0f}" for value in v)] for what, v in medians.items()]
    table([f"{name}, seconds", *sources], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--source", type=Path, help="Another version's folder, timed in turn with this one.")
    parser.add_argument("--growth", action="store_true", help="Growth with voxels and phases, too.")
    parser.add_argument("--events", type=Path, help="File for the events of the last real run, with their seconds.")
    options = parser.parse_args()
    sources = ({"before": options.source} if options.source else {}) | {"now": HERE}
    for label, source in sources.items():
        print("{}: --help {:.3f} s, empty Python {:.3f} s\n".format(label, *start_up(source, 10)))  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        if exam := real():
            stage_table("real exam, DICOM", exam, sources, options.runs, options.events)
        stage_table("simulated exam", simulated(Path(folder) / "simulated"), sources, options.runs, None)
        if options.growth:
            for name, points in growth(Path(folder) / "growth", options.runs):
                exponent = np.polyfit(*np.log(np.array(points)).T, 1)[0]
                table([name, *(f"{size:g}" for size, _ in points), "exponent"],
                      [["seconds", *(f"{second:.2f}" for _, second in points), f"{exponent:.2f}"]])  # fmt: skip


if __name__ == "__main__":
    main()
