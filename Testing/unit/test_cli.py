"""The command line at its edges: exit codes, messages and what stays on the disk; no network runs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.events import PREFIX
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import write_volume
from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case

GRID = Geometry((4, 3, 2), (1.0, 1.0, 1.0))
PRE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def files_of(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def case(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    for index in range(3):
        write_volume(PRE + index, GRID, folder / f"p{index}.nrrd")
    return folder


def refused(finished, *words, code=2):
    assert finished.exit_code == code, finished.output
    assert isinstance(finished.exception, SystemExit)
    assert all(word in finished.output for word in words), finished.output


@pytest.mark.parametrize("times", ["0,100", "0,200,100", "1,2,3", "0,nan,2", "a,b,c", ""])
def test_times_that_do_not_fit(case, times):
    refused(run("inspect", case, "--times", times), "Give")


def test_times_that_are_no_numbers_are_told_to_programs_too(case, tmp_path):
    finished = run("segment", case, tmp_path / "out", "--times", "a", "--progress", "json")
    refused(finished)
    event = json.loads(finished.output.splitlines()[-1][len(PREFIX) :])
    assert event["event"] == "failed" and event["remedy"]


@pytest.mark.parametrize("out", ["case", "."])
def test_the_input_is_never_overwritten(case, tmp_path, out):
    before = files_of(tmp_path)
    refused(run("segment", case, tmp_path / out, "--overwrite"), "is the input or holds it")
    assert files_of(tmp_path) == before


def test_models_that_are_not_there(tmp_path):
    refused(run("models", "list", env={"BREASTTUMORSEG_MODELS": str(tmp_path)}), "registry.json", code=3)


@pytest.mark.parametrize(
    "arguments", [("--cases", "0"), ("--site", "Duke"), ("--device", "abacus")], ids=lambda pair: pair[0]
)
def test_simulate_misused(tmp_path, arguments):
    refused(run("simulate", tmp_path / "out", "--site", "DUKE", *arguments), "error:")
    assert list(tmp_path.iterdir()) == []


def test_simulate_leaves_what_is_there(tmp_path):
    mask = tmp_path / "segmentations" / "expert" / "DUKE_S000001.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.write_text("a reader's work")
    refused(run("simulate", tmp_path, "--site", "DUKE", "--cases", "2"), "already there")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mask]
    assert mask.read_text() == "a reader's work"


def test_a_case_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    exam = simulate_exam("ISPY2", 3, 16.0, phases=2)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("BreastTumorSegLib.phantom.simulate._write_info", fail)
    with pytest.raises(OSError, match="No space"):
        write_case(exam, tmp_path, "C")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"null", b"{}"])
def test_train_with_a_broken_configuration(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    finished = run("train", tmp_path / "config.json")
    refused(finished, "config.json", "Correct the file.")
    assert "pydantic" not in finished.output


def test_train_without_a_configuration(tmp_path):
    refused(run("train", tmp_path / "none.json"), "none.json can't be used")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(case, closed):
    command = f'exec "$0" -m BreastTumorSegLib inspect "$1" {closed}'
    finished = subprocess.run(["sh", "-c", command, sys.executable, case], capture_output=True, text=True, check=False)
    assert finished.returncode == 0 and "Traceback" not in finished.stderr


def test_names_that_the_terminal_can_not_show(case):
    place = case.rename(case.with_name("患者"))
    finished = subprocess.run(
        [sys.executable, "-m", "BreastTumorSegLib", "inspect", place / "none.nii"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert finished.returncode == 2 and "does not exist" in finished.stderr and "Traceback" not in finished.stderr
