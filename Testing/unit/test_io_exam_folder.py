"""The exam folder and the process that makes one."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import PREFIX, Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, Problem, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import load_exam, read_phase_table, write_volume
from BreastTumorSegLib.io.dicom import file_clocks
from BreastTumorSegLib.io.exam_folder import write_exam, write_phases_json
from BreastTumorSegLib.io.results import unfinished_folders
from BreastTumorSegLib.io.times import choose
from Testing.dicom_files import write_series

GRID = Geometry((4, 3, 2), (0.7, 0.8, 1.1), (-10.5, 20.25, 3.0), (0.6, 0.8, 0.0, -0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
PRE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
NAMES = ("3: ax dyn pre", "7: ax dyn [2]", "phase è 3")
TIMES = (0.0, 95.25, 700.0)
SOURCES = (TimeSource.ACQUISITION_TIME, TimeSource.USER, TimeSource.USER)


def exam_of(data, problems=()):
    phases = [
        Phase(name, (), time, source, GRID) for name, time, source, _ in zip(NAMES, TIMES, SOURCES, data, strict=True)
    ]
    return Exam(PhaseTable(tuple(phases), problems), np.stack(data))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    """An exam folder of three phases."""
    place = tmp_path / "exam"
    place.mkdir()
    write_exam(exam_of((PRE, PRE + 100, PRE + 200)), place)
    return place


def change(folder, edit):
    path = folder / "phases.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_an_exam_comes_back_as_written(folder):
    assert names_in(folder) == ["phase_0.nrrd", "phase_1.nrrd", "phase_2.nrrd", "phases.json"]
    exam = load_exam([folder])
    np.testing.assert_array_equal(exam.data, (PRE, PRE + 100, PRE + 200))
    assert exam.data.dtype == np.float32
    assert exam.geometry.difference(GRID) is None
    assert tuple(phase.name for phase in exam.table.phases) == NAMES
    assert exam.times == TIMES
    assert tuple(phase.source for phase in exam.table.phases) == SOURCES


def test_the_json_is_what_is_documented(folder):
    content = json.loads((folder / "phases.json").read_text(encoding="utf-8"))
    assert content["phases"][1] == {
        "file": "phase_1.nrrd",
        "name": "7: ax dyn [2]",
        "time_s": 95.25,
        "source": "given by the user",
    }
    assert content["problems"] == []


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (PRE, np.int16),
        (PRE - 32768, np.int16),
        (PRE + (32767 - 23), np.int16),
        (PRE + (32768 - 23), np.uint16),
        (PRE + (65535 - 23), np.uint16),
        (PRE + (65536 - 23), np.float32),
        (PRE - 32769, np.float32),
        (PRE + 0.5, np.float32),
    ],
)
def test_whole_numbers_are_stored_small(tmp_path, values, dtype):
    write_exam(exam_of((PRE, values, PRE)), tmp_path)
    for index, expected in enumerate((PRE, values, PRE)):
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"phase_{index}.nrrd")))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_times_stay_in_the_order_that_was_confirmed(folder):
    """Files in the reverse order of their names."""
    change(folder, lambda content: [e.update(file=f"phase_{2 - i}.nrrd") for i, e in enumerate(content["phases"])])
    exam = load_exam([folder])
    np.testing.assert_array_equal(exam.data, (PRE + 200, PRE + 100, PRE))
    assert exam.times == TIMES


def test_times_given_on_the_command_line_win(folder):
    table = read_phase_table([folder], times=[0, 60, 120])
    assert table.times == (0.0, 60.0, 120.0)
    assert {phase.source for phase in table.phases} == {TimeSource.USER}


def test_problems_are_carried_once(tmp_path):
    odd = Problem("It is odd.", "Look at it.")
    write_exam(exam_of((PRE, PRE + 1, PRE + 2), (odd,)), tmp_path)
    assert read_phase_table([tmp_path]).problems == (odd,)
    late = "The pre-contrast phase '3: ax dyn pre' is 650 s (10.8 minutes) before the first post-contrast phase '7: ax"
    change(tmp_path, lambda content: content["phases"][1].update(time_s=650))
    table = read_phase_table([tmp_path])
    assert [problem.message.startswith(late) for problem in table.problems] == [False, True]
    again = [vars(problem) for problem in table.problems]
    change(tmp_path, lambda content: content.update(problems=again))
    assert len(read_phase_table([tmp_path]).problems) == 2


def test_a_fatal_problem_stays_fatal(folder):
    change(folder, lambda content: content.update(problems=[{"message": "Two patients.", "remedy": "", "fatal": True}]))
    assert [problem.fatal for problem in read_phase_table([folder]).problems] == [True]
    with pytest.raises(InputError, match="Two patients"):
        load_exam([folder])


def test_geometries_are_compared(folder):
    write_volume(PRE, Geometry(GRID.size, (0.7, 0.8, 1.2)), folder / "phase_1.nrrd")
    with pytest.raises(InputError, match=r"'7: ax dyn \[2\]' \(phase_1\.nrrd\) has another geometry"):
        load_exam([folder])


def entry(**fields):
    return lambda content: content["phases"][1].update(fields)


def without(field):
    return lambda content: content["phases"][1].pop(field)


BAD = {
    "first not 0": (lambda content: content["phases"][0].update(time_s=1), "do not start at 0 and rise"),
    "falling": (entry(time_s=701), "do not start at 0 and rise"),
    "equal": (entry(time_s=0), "do not start at 0 and rise"),
    "not finite": (entry(time_s=float("nan")), "do not start at 0 and rise"),
    "infinite": (lambda content: content["phases"][2].update(time_s=float("inf")), "do not start at 0 and rise"),
    "time as text": (entry(time_s="95"), "'95' is no number"),
    "time too large": (entry(time_s=10**400), "wrong kind"),
    "no time": (without("time_s"), "'time_s'"),
    "unknown source": (entry(source="guessed"), "'guessed' is not a valid TimeSource"),
    "no source": (without("source"), "'source'"),
    "parent folder": (entry(file="../phase_1.nrrd"), "no plain name"),
    "absolute": (entry(file="/phase_1.nrrd"), "no plain name"),
    "below": (entry(file="sub/phase_1.nrrd"), "no plain name"),
    "Windows": (entry(file="..\\phase_1.nrrd"), "no plain name"),
    "drive": (entry(file="C:phase_1.nrrd"), "no plain name"),
    "empty name": (entry(file=""), "no plain name"),
    "dots": (entry(file=".."), "no plain name"),
    "no volume": (entry(file="phases.json"), "no plain name"),
    "file is no text": (entry(file=["phase_1.nrrd"]), "is no text"),
    "name is no text": (entry(name=None), "is no text"),
    "name is no Unicode": (entry(name="\ud800"), "wrong kind"),
    "missing file": (entry(file="phase_9.nrrd"), r"phase_9\.nrrd does not exist"),
    "one file twice": (entry(file="phase_0.nrrd"), "there twice"),
    "no phases": (lambda content: content.update(phases=[]), "lists no phases"),
    "phases missing": (lambda content: content.pop("phases"), "'phases'"),
    "phases no list": (lambda content: content.update(phases={"a": 1}), "wrong kind"),
    "problems no list": (lambda content: content.update(problems=["odd"]), "wrong kind"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_json_that_can_not_be_used(folder, case):
    edit, words = BAD[case]
    change(folder, edit)
    with pytest.raises(InputError, match=words) as caught:
        load_exam([folder])
    assert str(folder) in caught.value.message and caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_json(folder, content):
    (folder / "phases.json").write_bytes(content)
    with pytest.raises(InputError, match=r"phases\.json is damaged"):
        load_exam([folder])


def test_a_damaged_volume(folder):
    path = folder / "phase_1.nrrd"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"phase_1\.nrrd"):
        load_exam([folder])


def test_a_file_of_several_volumes(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([PRE] * 2), isVector=False), str(folder / "phase_1.nrrd"))
    with pytest.raises(InputError, match=r"phase_1\.nrrd holds 2 volumes"):
        load_exam([folder])


def test_an_exam_folder_is_given_alone(folder):
    with pytest.raises(InputError, match="Give the exam folder alone"):
        load_exam([folder, folder])


def test_only_the_json_is_written(tmp_path):
    entries = [
        {"file": f"v{i}.nrrd", "name": f"{i}", "time_s": 90.0 * i, "source": "given by the user"} for i in range(2)
    ]
    write_phases_json(tmp_path, entries, [{"message": "Odd.", "remedy": "Look.", "fatal": False}])
    assert names_in(tmp_path) == ["phases.json"]
    for index in range(2):
        write_volume(PRE + index, GRID, tmp_path / f"v{index}.nrrd")
    table = read_phase_table([tmp_path])
    assert (table.times, table.problems) == ((0.0, 90.0), (Problem("Odd.", "Look."),))
    with pytest.raises(InputError, match="rise"):
        write_phases_json(tmp_path, entries[::-1])
    assert read_phase_table([tmp_path]).times == (0.0, 90.0)


def test_progress_of_writing(tmp_path):
    told = []
    events = Events()
    events.show = lambda event: told.append((event["stage"], event["done"], event["total"]))
    write_exam(exam_of((PRE, PRE, PRE)), tmp_path, events)
    assert told == [("write", 0, 3), ("write", 1, 3), ("write", 2, 3), ("write", 3, 3)]


# The process.

ABSENT = ("torch", "monai", "typer", "pydantic", "sklearn", "psutil", "matplotlib", "jinja2", "safetensors")


@pytest.fixture
def bare(tmp_path):
    """The environment of a process in which what Slicer lacks can't be imported."""
    place = tmp_path / "bare"
    place.mkdir()
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in ABSENT)]
    (place / "sitecustomize.py").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": str(place)}


def convert(*arguments, **options):
    command = [sys.executable, "-m", "BreastTumorSegLib.io.convert", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options)
    return done, [json.loads(line.removeprefix(PREFIX)) for line in done.stdout.splitlines()]


def phases(place, count=3):
    place.mkdir()
    for index in range(count):
        write_volume(PRE + 10 * index, GRID, place / f"p{index}.nii.gz")
    return place


def test_conversion_needs_nothing_that_slicer_lacks(tmp_path, bare):
    for series in range(3):
        voxels = np.arange(4 * 6 * 5).reshape(4, 6, 5) + 10 * series
        write_series(tmp_path / "dicom" / str(series), series + 1, voxels, AcquisitionTime=f"1{series}0000")
    done, events = convert(tmp_path / "dicom", tmp_path / "out", env=bare)
    assert (done.returncode, done.stderr) == (0, "")
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1], kinds.count("table")) == ("started", "finished", 1)
    assert events[0]["stages"] == ["headers", "load", "write"]
    stages = list(dict.fromkeys(event["stage"] for event in events if event["event"] == "progress"))
    assert stages == ["headers", "load", "write"]
    first_load = next(i for i, event in enumerate(events) if event.get("stage") == "load")
    assert kinds.index("table") < first_load
    exam = load_exam([tmp_path / "out"])
    assert exam.times == (0.0, 3600.0, 7200.0)
    assert {phase.source for phase in exam.table.phases} == {TimeSource.ACQUISITION_TIME}
    np.testing.assert_array_equal(exam.data[2], np.arange(4 * 6 * 5).reshape(4, 6, 5) + 20)


def test_a_table_with_fatal_problems_is_shown_all_the_same(tmp_path):
    place = phases(tmp_path / "in")
    write_volume(PRE, Geometry(GRID.size, (0.7, 0.8, 1.2)), place / "p1.nii.gz")
    done, events = convert(place, tmp_path / "out")
    assert done.returncode == 2
    (table,) = [event for event in events if event["event"] == "table"]
    assert [phase["time_s"] for phase in table["phases"]] == [0, 120, 240]
    assert table["phases"][1]["spacing"] == pytest.approx([0.7, 0.8, 1.2])
    assert [problem["fatal"] for problem in table["problems"]] == [True, False]
    failed = events[-1]
    assert (failed["event"], failed["code"]) == ("failed", 2) and "another geometry" in failed["message"]
    assert names_in(tmp_path) == ["in"]


def test_an_input_that_is_none(tmp_path):
    done, events = convert(tmp_path / "gone", tmp_path / "out")
    assert (done.returncode, events[-1]["event"], events[-1]["code"]) == (2, "failed", 2)
    assert events[-1]["remedy"] and names_in(tmp_path) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    place = phases(tmp_path / "in")
    done, events = convert(place, place)
    assert done.returncode == 2 and "already there" in events[-1]["message"]
    assert names_in(place) == ["p0.nii.gz", "p1.nii.gz", "p2.nii.gz"]


def test_conversion_that_is_cancelled_leaves_nothing(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    for index in range(40):  # enough to be in the middle of it
        voxels = np.random.default_rng(index).integers(0, 999, (60, 100, 100)).astype(np.int16)
        write_volume(voxels, Geometry((100, 100, 60), (1.0, 1.0, 1.0)), place / f"p{index}.nii.gz")
    command = [sys.executable, "-m", "BreastTumorSegLib.io.convert", str(place), str(tmp_path / "out")]
    job = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    next(line for line in job.stdout if '"stage": "load"' in line)
    assert len(unfinished_folders(tmp_path / "out")) == 1
    start = time.monotonic()
    job.stdin.write("cancel\n")
    job.stdin.flush()
    last = job.stdout.read().splitlines()[-1]
    assert job.wait(timeout=30) == 5 and time.monotonic() - start < 3
    assert re.search(r'"event": "failed", "code": 5', last)
    assert names_in(tmp_path) == ["in"]


# Volumes that Slicer has loaded itself.


def test_clocks_of_volumes_that_are_loaded_already(tmp_path):
    files = [
        write_series(tmp_path / str(i), i + 1, np.zeros((5, 2, 2), int), AcquisitionTime=f"1000{20 * i:02}")
        for i in range(2)
    ]
    # The first and the last slice are enough.
    clocks = file_clocks([[listed[0], listed[-1]] for listed in files])
    assert [clock[TimeSource.ACQUISITION_TIME] % 86400 for clock in clocks] == [36000, 36020]
    (tmp_path / "text.dcm").write_text("no image")
    assert file_clocks([[tmp_path / "gone.dcm"], [tmp_path / "text.dcm"], []]) == [{}, {}, {}]


def test_times_of_sequences_and_multivolumes_are_used():
    for source in (TimeSource.SEQUENCE, TimeSource.MULTIVOLUME):
        timing = choose(["a", "b", "c"], [{source: value} for value in (10.0, 200.0, 100.0)], 120.0)
        assert (timing.order, timing.times, timing.sources) == ((0, 2, 1), (0.0, 90.0, 190.0), (source,) * 3)
