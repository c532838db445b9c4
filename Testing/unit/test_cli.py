"""The command line at its edges: exit codes, messages and what stays on the disk; no network runs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core import models
from BreastTumorSegLib.core.errors import DependencyError, InputError, typed_errors
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


# Packages that are not installed.


def without(tmp_path, *names):
    """The environment of a process in which some packages can't be imported."""
    (tmp_path / "absent").mkdir()
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in names)]
    (tmp_path / "absent" / "sitecustomize.py").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": str(tmp_path / "absent")}


def segment_without(case, tmp_path, names, *options):
    return subprocess.run(
        [sys.executable, "-m", "BreastTumorSegLib", "segment", case, tmp_path / "out", *options],
        capture_output=True,
        text=True,
        check=False,
        env=without(tmp_path, *names),
    )


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["torch"], "torch is"),
        (["typer"], "typer is"),
        (["pydantic"], "pydantic is"),
        (["matplotlib", "sklearn"], "scikit-learn, matplotlib are"),
    ],
)
@pytest.mark.parametrize("option", [["--progress", "json"], ["--progress=json"]])
def test_packages_that_are_missing_are_told_to_programs(case, tmp_path, names, named, option):
    done = segment_without(case, tmp_path, names, *option)
    assert (done.returncode, done.stderr) == (3, "")
    failed = json.loads(done.stdout.splitlines()[-1].removeprefix(PREFIX))
    assert (failed["event"], failed["code"]) == ("failed", 3)
    assert failed["message"] == f"{named} not installed."
    assert failed["remedy"].endswith("in the module's Set-up panel, or with pip.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["absent", "case"]


@pytest.mark.parametrize("name", ["torch", "typer"])
def test_packages_that_are_missing_are_told_to_people(case, tmp_path, name):
    done = segment_without(case, tmp_path, [name])
    remedy = "Install it in the module's Set-up panel, or with pip."
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: {name} is not installed. {remedy}\n"


def raise_within_typed_errors(error):
    with typed_errors():
        raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), "scikit-learn is not installed"),
        (ModuleNotFoundError("No module named 'torch._C'", name="torch._C"), "torch is installed, but can't be loaded"),
        (ImportError("cannot import name 'x'", name="monai.data"), "monai is installed, but can't be loaded: cannot"),
        (ImportError("DLL load failed"), "A package is installed, but can't be loaded: DLL load failed"),
    ],
)
def test_imports_that_fail_are_typed(error, words):
    with pytest.raises(DependencyError, match=words) as caught:
        raise_within_typed_errors(error)
    assert caught.value.remedy.startswith("Install it")


def test_an_import_that_fails_within_the_library_is_a_bug():
    with pytest.raises(ModuleNotFoundError):
        raise_within_typed_errors(ModuleNotFoundError("x", name="BreastTumorSegLib.gone"))


@pytest.mark.parametrize(("number", "kind"), [(126, DependencyError), (1114, DependencyError), (5, InputError)])
def test_libraries_that_windows_can_not_load(number, kind):
    """PyTorch raises OSError where the Visual C++ runtime is missing."""
    error = OSError("[WinError] Error loading c10.dll")
    error.winerror = number
    with pytest.raises(kind):
        raise_within_typed_errors(error)


def test_the_stages_are_told_at_the_start(case, tmp_path):
    finished = run("segment", case, tmp_path / "out", "--progress", "json", "--device", "abacus")
    started = json.loads(finished.output.splitlines()[0].removeprefix(PREFIX))
    assert started["stages"] == [
        *("headers", "load", "models", "breast", "tumor", "kinetics", "clusters", "lesions", "write", "report")
    ]


def test_inspect_shows_an_exam_folder(case):
    names = ["p0.nrrd", "p1.nrrd", "p2.nrrd"]
    times = [0, 90.5, 180]
    phases = [
        {"file": name, "name": f"phase at {time}", "time_s": time, "source": "AcquisitionTime"}
        for name, time in zip(names, times, strict=True)
    ]
    (case / "phases.json").write_text(json.dumps({"phases": phases}))
    table = json.loads(run("inspect", case, "--json").stdout)
    assert [phase["time_s"] for phase in table["phases"]] == times
    assert table["phases"][1] == {
        "name": "phase at 90.5",
        "time_s": 90.5,
        "source": "AcquisitionTime",
        "files": 1,
        "size": [4, 3, 2],
        "spacing": [1.0, 1.0, 1.0],
        "origin": [0.0, 0.0, 0.0],
        "direction": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    }
    assert table["problems"] == []


def test_where_the_models_are(tmp_path, monkeypatch):
    """Beside the package in the source tree; inside it where the extension is installed; or where it is said."""
    monkeypatch.delenv("BREASTTUMORSEG_MODELS", raising=False)
    package = tmp_path / "lib" / "BreastTumorSegLib"
    (package / "models").mkdir(parents=True)
    monkeypatch.setattr(models, "__file__", str(package / "core" / "models.py"))
    assert models.models_folder() == tmp_path / "lib" / "models"
    (package / "models" / "registry.json").write_text("{}")
    assert models.models_folder() == package / "models"
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(tmp_path))
    assert models.models_folder() == tmp_path
