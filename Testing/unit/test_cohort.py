"""Lists of exams, tables, estimates and refusals of a cohort; no worker starts."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.events import PREFIX
from BreastTumorSegLib.io.results import remove_unfinished, results_folder
from BreastTumorSegLib.jobs import cohort
from BreastTumorSegLib.jobs.cases import find_cases
from BreastTumorSegLib.jobs.tables import Outcome, failure, read_manifest, succeeded, write_tables

OUT = Path("/nowhere/out")


def named(cases):
    return {case.name: case.exam for case in cases}


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(*arguments):
    return CliRunner().invoke(app, ["segment-cohort", *map(str, arguments)])


# Lists.


@pytest.mark.parametrize("below", ["images", "."])
def test_folders_of_exams(tmp_path, below):
    for name in ("B", "A", ".hidden", "out"):
        (tmp_path / below / name).mkdir(parents=True)
    (tmp_path / below / "C.nii.gz").touch()
    (tmp_path / below / "notes.txt").touch()
    found = named(find_cases(tmp_path, tmp_path / below / "out"))
    place = tmp_path / "images" if below == "images" else tmp_path
    assert list(found.items()) == [("A", place / "A"), ("B", place / "B"), ("C", place / "C.nii.gz")]


def test_a_table_of_cases(tmp_path):
    (tmp_path / "list.csv").write_text(f"\ufeffsite,case,exam\nDUKE, one ,a/b\nNACT,two,{tmp_path / 'c'}\n", "utf-8")
    assert named(find_cases(tmp_path / "list.csv", OUT)) == {"one": tmp_path / "a" / "b", "two": tmp_path / "c"}


def test_a_list_of_paths(tmp_path):
    (tmp_path / "list.txt").write_text("a/one\n\n b/two.nii.gz \n")
    assert named(find_cases(tmp_path / "list.txt", OUT)) == {
        "one": tmp_path / "a/one",
        "two": tmp_path / "b/two.nii.gz",
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.csv", b"name,path\nA,a\n", "no columns case and exam"),
        ("list.csv", b"case,exam\nA,\n", "a row has no exam"),
        ("list.csv", b"case,exam\n../A,a\n", "can't be a folder's name"),
        ("list.csv", b"case,exam\n,a\n", "can't be a folder's name"),
        ("list.csv", b"case,exam\nA,a\na,b\n", "more than once"),
        ("list.csv", b"case,exam\n", "holds no exam"),
        ("list.txt", b"", "holds no exam"),
        ("list.txt", b"x/A\ny/A\n", "more than once"),
        ("list.txt", b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_lists_that_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        find_cases(tmp_path / name, OUT)


def test_a_list_that_is_not_there(tmp_path):
    finished = run(tmp_path / "none.csv", tmp_path / "out")
    assert finished.exit_code == 2 and "none.csv can't be used" in finished.output
    assert not (tmp_path / "out").exists()


# Tables.


def manifest(*volumes):
    return {"lesions": [{"volume_ml": volume} for volume in volumes], "warnings": ["a", "b"]}


def test_tables_say_what_came_of_every_case(tmp_path):
    error = InputError(f"{tmp_path}/patients/X/p0.nii is\nno NIfTI-1 file.", "Export it again.")
    bad = failure("X", tmp_path / "patients" / "X", error, 0.5)
    write_tables(tmp_path, [succeeded("A", manifest(1.5, 0.25), 12.3), bad])
    done, failed = rows(tmp_path / "cohort.csv")
    assert done == {
        **{"case": "A", "status": "done", "seconds": "12.3", "lesions": "2", "tumor_ml": "1.75", "warnings": "2"}
    }
    assert (failed["case"], failed["status"], failed["lesions"]) == ("X", "failed", "")
    assert rows(tmp_path / "failed.csv") == [
        {"case": "X", "code": "2", "message": "X/p0.nii is no NIfTI-1 file.", "remedy": "Export it again."}
    ]


def test_tables_keep_rows_of_others_and_seconds_of_earlier_runs(tmp_path):
    write_tables(tmp_path, [succeeded("A", manifest(), 5.0), Outcome("B", 1.0, code=4, message="m")])
    write_tables(tmp_path, [succeeded("A", manifest()), succeeded("B", manifest(2.0)), succeeded("C", manifest(), 2.0)])
    assert [(row["case"], row["status"], row["seconds"]) for row in rows(tmp_path / "cohort.csv")] == [
        ("A", "done", "5.0"),
        ("B", "done", ""),
        ("C", "done", "2.0"),
    ]
    assert rows(tmp_path / "failed.csv") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort.csv", "failed.csv"]


def test_what_is_no_result(tmp_path):
    assert read_manifest(tmp_path) is None
    for content in (b"{", b"[]", b"\xff"):
        (tmp_path / "result.json").write_bytes(content)
        assert read_manifest(tmp_path) is None


# Estimates and how many processes.


def test_the_estimate_counts_what_an_exam_took_and_how_many_work():
    tally = cohort.Tally(total=10, skipped=2)
    assert tally.seconds_left(2) is None
    tally.outcomes += [Outcome("A", 30.0), Outcome("B", 50.0, code=2)]
    assert (tally.done, len(tally.failed)) == (4, 1)
    assert tally.seconds_left(2) == pytest.approx(40 * 6 / 2)


@pytest.mark.parametrize(("cores", "gigabytes", "count"), [(1, 64, 1), (2, 24, 1), (8, 64, 4), (16, 20, 3), (64, 4, 1)])
def test_local_processes_by_cores_and_memory(monkeypatch, cores, gigabytes, count):
    monkeypatch.setattr(cohort, "CPU_COUNT", cores)
    monkeypatch.setattr(cohort, "MEMORY_LIMIT", gigabytes << 30)
    assert cohort.default_workers() == count


# Refusals.


@pytest.fixture
def exams(tmp_path):
    (tmp_path / "exams" / "A").mkdir(parents=True)
    return tmp_path / "exams"


def test_results_of_another_model_are_not_mixed_in(exams, tmp_path):
    (tmp_path / "out" / "A").mkdir(parents=True)
    (tmp_path / "out" / "A" / "result.json").write_text(json.dumps({"models": [{"sha256": "0"}]}))
    finished = run(exams, tmp_path / "out")
    assert finished.exit_code == OutputError.exit_code and "result of another model" in finished.output


def test_misuse_is_told(exams, tmp_path):
    assert "is the input or holds it" in run(exams, exams).output
    assert "Give one of them" in run(exams, tmp_path / "o", "--workers", 2, "--scheduler", "tcp://127.0.0.1:1").output
    assert "no device 'abacus'" in run(exams, tmp_path / "o", "--device", "abacus").output
    assert run(exams, tmp_path / "o", "--model", "none").exit_code == 3


def test_a_cluster_that_does_not_answer(exams, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "ANSWER_S", 0.2)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        finished = run(exams, tmp_path / "out", "--scheduler", address)
        assert finished.exit_code == 2 and f"answers at {address}" in finished.output


def test_without_dask_the_remedy_is_told(exams, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['distributed'] = None")
    command = [sys.executable, "-m", "BreastTumorSegLib", "segment-cohort", exams, tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([*command, "--progress", "json"], capture_output=True, text=True, env=environment)
    failed = json.loads(done.stdout.splitlines()[-1].removeprefix(PREFIX))
    assert (done.returncode, failed["code"]) == (3, 3)
    assert "distributed not installed" in failed["message"] and "pip install" in failed["remedy"]


def test_what_killed_jobs_left_is_removed_and_they_can_not_finish(tmp_path):
    with pytest.raises(FileNotFoundError), results_folder(tmp_path / "A", overwrite=False) as folder:
        (folder / "tumor.nii.gz").touch()
        remove_unfinished(tmp_path / "A")
        (folder / "result.json").touch()
    assert list(tmp_path.iterdir()) == []
