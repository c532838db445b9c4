"""Cohorts from MAMA-MIA's folder and from a CSV: the same cases from both, and every problem of a cohort at once."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.errors import Cancelled, InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import write_volume
from BreastTumorSegLib.io.cohort import (
    Case,
    Cohort,
    check_cohort,
    read_cohort,
    read_cohort_csv,
    read_mama_mia,
    require_sound,
)

ORIGIN = (5.0, 6.0, 7.0)
GRID = Geometry((4, 3, 2), (0.7, 0.7, 2.0), ORIGIN)


def volume(path, grid=GRID):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(np.zeros(grid.shape, np.uint8), grid, path)
    return path


def mama_mia_case(folder, name, times, spelt=str, clinical=None):
    """A case with as many phases as times."""
    for index in range(len(times)):
        volume(folder / "images" / name / f"{spelt(name)}_{index:04d}.nii.gz")
    volume(folder / "segmentations" / "expert" / f"{spelt(name)}.nii.gz")
    info = folder / "patient_info_files" / f"{name.lower()}.json"
    info.parent.mkdir(exist_ok=True)
    content = {"patient_id": name, "imaging_data": {"acquisition_times": times}, "clinical_data": clinical or {}}
    info.write_text(json.dumps(content))


@pytest.fixture
def released(tmp_path):
    """Two cases: one as released, with file names in lower case, one with the ground truth of simulated exams."""
    clinical = {"age": 41, "menopausal_status": "pre", "breast_density": "c"}
    mama_mia_case(tmp_path, "NACT_07", [0, 130.5, 260], str.lower, clinical)
    mama_mia_case(tmp_path, "DUKE_001", [0, 90])
    volume(tmp_path / "ground_truth" / "DUKE_001" / "breast.nii.gz")
    (tmp_path / "train_test_splits.csv").write_text("train_split,test_split\nDUKE_001,NACT_07\nDUKE_002,\n")
    return tmp_path


def test_a_folder_as_released(released):
    cohort = read_mama_mia(released)
    assert list(cohort) == [
        Case(
            "DUKE_001",
            "DUKE",
            (
                released / "images/DUKE_001/DUKE_001_0000.nii.gz",
                released / "images/DUKE_001/DUKE_001_0001.nii.gz",
            ),
            (0.0, 90.0),
            (released / "segmentations/expert/DUKE_001.nii.gz",),
            released / "ground_truth/DUKE_001/breast.nii.gz",
            "train",
        ),
        Case(
            "NACT_07",
            "NACT",
            (
                released / "images/NACT_07/nact_07_0000.nii.gz",
                released / "images/NACT_07/nact_07_0001.nii.gz",
                released / "images/NACT_07/nact_07_0002.nii.gz",
            ),
            (0.0, 130.5, 260.0),
            (released / "segmentations/expert/nact_07.nii.gz",),
            None,
            "test",
            {"age": "41", "menopausal_status": "pre", "breast_density": "c"},
        ),
    ]
    assert check_cohort(cohort) == []
    assert cohort.sites == ("DUKE", "NACT")
    assert [case.name for case in cohort.of_site("NACT")] == ["NACT_07"]
    assert [case.name for case in cohort.of_split("train")] == ["DUKE_001"]
    assert [case.name for case in cohort.without(["DUKE_001"])] == ["NACT_07"]


def test_a_csv_gives_the_same_cases(released):
    (released / "cohort.csv").write_text(
        "case,site,phases,times,tumor,breast,split,age,menopausal_status,breast_density\n"
        "NACT_07,NACT,images/NACT_07,0;130.5;260,segmentations/expert/nact_07.nii.gz,,test,41,pre,c\n"
        "DUKE_001,,images/DUKE_001/DUKE_001_0000.nii.gz; images/DUKE_001/DUKE_001_0001.nii.gz,0;90,"
        "segmentations/expert/DUKE_001.nii.gz,ground_truth/DUKE_001/breast.nii.gz,train,,,\n",
        "utf-8-sig",
    )
    assert read_cohort(released / "cohort.csv") == read_cohort(released)


def test_masks_of_several_annotators(tmp_path):
    (tmp_path / "c.csv").write_text("case,phases,times,tumor\nA_1,a;b,0;9,one.nii.gz;two.nii.gz\n")
    (case,) = read_cohort_csv(tmp_path / "c.csv")
    assert (case.site, case.tumors) == ("A", (tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"))


def test_the_clinical_table_gives_what_the_json_lacks(tmp_path):
    mama_mia_case(tmp_path, "DUKE_001", [0, 90], clinical={"age": 50})
    mama_mia_case(tmp_path, "ISPY2_2", [0, 90])
    (tmp_path / "patient_info_files/ispy2_2.json").write_text('{"imaging_data": {"bilateral": true}}')
    (tmp_path / "clinical_and_imaging_info.csv").write_text(
        "patient_id,age,menopause,breast_density,acquisition_times\n"
        'DUKE_001,49.0,post,nan,"[0, 5]"\n'
        'ISPY2_2,38.0,pre (<6 months since LMP AND no prior),,"[0, 165]"\n'
    )
    duke, ispy = read_mama_mia(tmp_path)
    assert (duke.times, duke.groups) == ((0, 90), {"age": "50", "menopausal_status": "post"})
    assert (ispy.times, ispy.groups) == ((0, 165), {"age": "38", "menopausal_status": "pre"})


def test_the_clinical_table_as_released(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="reads .xlsx")
    mama_mia_case(tmp_path, "DUKE_001", [0, 90])
    book = openpyxl.Workbook()
    book.create_sheet("dataset_info").append(["patient_id", "age", "menopause"])
    book["dataset_info"].append(["DUKE_001", 41.0, None])
    book.save(tmp_path / "clinical_and_imaging_info.xlsx")
    (case,) = read_mama_mia(tmp_path)
    assert case.groups == {"age": "41"}


@pytest.mark.skipif(find_spec("openpyxl") is not None, reason="openpyxl is there and reads it")
def test_without_openpyxl_the_table_is_left_out_with_a_note(tmp_path):
    mama_mia_case(tmp_path, "DUKE_001", [0, 90])
    (tmp_path / "clinical_and_imaging_info.xlsx").touch()
    events = Events()
    assert check_cohort(read_mama_mia(tmp_path), events) == []
    assert "openpyxl is not installed" in events.warnings[0]


# Problems.


@pytest.fixture
def sound(tmp_path):
    phases = tuple(volume(tmp_path / f"{index}.nii.gz") for index in range(2))
    return Case("A_1", "A", phases, (0.0, 90.0), (volume(tmp_path / "mask.nii.gz"),))


def problems(sound, **changes):
    return check_cohort(Cohort((replace(sound, **changes),)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"times": ()}, "A_1: no times."),
        ({"times": (0.0, 90.0, 180.0)}, "A_1: 3 times (0, 90, 180) and 2 phases."),
        ({"times": (5.0, 90.0)}, "A_1: the times 5, 90 do not start at 0."),
        ({"times": (0.0, 0.0)}, "A_1: the times 0, 0 do not increase."),
        ({"times": (0.0, float("nan"))}, "A_1: the times 0, nan are not all numbers."),
        ({"tumors": ()}, "A_1: no tumour mask."),
        ({"tumors": (Path("/no/mask.nii.gz"),)}, "A_1: /no/mask.nii.gz does not exist."),
        ({"breast": Path("/no/breast.nii.gz")}, "A_1: /no/breast.nii.gz does not exist."),
        ({"split": "validation"}, "A_1: the split 'validation' is neither train nor test."),
        ({"name": "a/b"}, "a/b: 'a/b' can't be a file's name."),
        ({"name": ".."}, "..: '..' can't be a file's name."),
        ({"site": "../other"}, "A_1: '../other' can't be a file's name."),
        ({"name": ""}, "(no name): '' can't be a file's name."),
    ],
)
def test_each_problem(sound, changes, problem):
    assert problems(sound, **changes) == [problem]


def test_a_sound_case_has_none(sound):
    assert problems(sound) == []


def test_one_phase_is_too_few(sound):
    assert problems(sound, phases=sound.phases[:1], times=(0.0,)) == ["A_1: only 1 phase; at least 2 are needed."]


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (Geometry((4, 3, 3), (0.7, 0.7, 2.0), ORIGIN), "size 4 x 3 x 3 against 4 x 3 x 2"),
        (Geometry((4, 3, 2), (0.7, 0.7, 2.5), ORIGIN), "spacing 0.7 x 0.7 x 2.5 mm against 0.7 x 0.7 x 2 mm"),
        (Geometry((4, 3, 2), (0.7, 0.7, 2.0), (1.0, 6.0, 7.0)), "origin 1 x 6 x 7 mm against 5 x 6 x 7 mm"),
    ],
)
def test_a_mask_on_another_grid(sound, grid, words):
    volume(sound.tumors[0], grid)
    assert problems(sound) == [f"A_1: mask.nii.gz is not on the grid of 0.nii.gz: {words}."]


def test_a_damaged_phase(sound):
    sound.phases[0].write_bytes(b"no volume")
    assert problems(sound) == [f"A_1: {sound.phases[0]} is no NIfTI-1 file."]


def test_names_that_are_there_twice(sound):
    twice = Cohort((sound, replace(sound, name="a_1")))
    assert check_cohort(twice) == ["A_1: there are 2 cases of this name."]


def test_problems_of_the_files_around_the_images(tmp_path):
    mama_mia_case(tmp_path, "DUKE_001", [0, 90])
    (tmp_path / "patient_info_files/duke_001.json").write_text("{")
    (tmp_path / "segmentations/expert/DUKE_001.nii.gz").unlink()
    (tmp_path / "train_test_splits.csv").write_text("train_split,test_split\nX_1,X_1\n")
    split, info, times, mask = check_cohort(read_mama_mia(tmp_path))
    assert split.endswith("has X_1 in both splits.")
    assert info.startswith(f"DUKE_001: {tmp_path / 'patient_info_files/duke_001.json'} can't be read: ")
    assert times == "DUKE_001: no times."
    assert mask == f"DUKE_001: {tmp_path / 'segmentations/expert/DUKE_001.nii.gz'} does not exist."


def test_times_in_a_csv_that_are_no_numbers(tmp_path):
    (tmp_path / "c.csv").write_text("case,phases,times,tumor\nA_1,a;b,0;soon,m\n")
    assert check_cohort(read_cohort_csv(tmp_path / "c.csv"))[0] == (
        "A_1: the times '0;soon' are no numbers with ; between them."
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"case,phases\nA,a\n", "no column times, tumor"),
        (b"case,phases,times,tumor\n", "has no case"),
        (b"", "has no case"),
        (b"\xff\xfe", "no CSV in UTF-8"),
    ],
)
def test_tables_that_are_refused(tmp_path, content, words):
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_cohort_csv(tmp_path / "c.csv")


def test_folders_that_are_no_cohort(tmp_path):
    with pytest.raises(InputError, match="has no case in images/CASE"):
        read_mama_mia(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_cohort_csv(tmp_path / "none.csv")


def test_all_problems_come_at_once(sound):
    require_sound(Cohort((sound,)))
    with pytest.raises(InputError, match="The cohort has no case"):
        require_sound(Cohort(()))
    many = Cohort(tuple(replace(sound, name=f"A_{index:02d}", times=()) for index in range(23)))
    with pytest.raises(InputError) as caught:
        require_sound(many)
    lines = caught.value.message.splitlines()
    assert lines[0] == "The cohort has 23 problems:"
    assert lines[1] == "- A_00: no times."
    assert lines[20] == "- A_19: no times."
    assert lines[21] == "... and 3 more."


def test_progress_and_cancelling(sound):
    shown = []

    class Shown(Events):
        def show(self, event):
            shown.append((event["stage"], event["done"], event["total"]))

    cohort = Cohort((sound, replace(sound, name="B_1")))
    check_cohort(cohort, Shown())
    assert shown == [("check", 0, 2), ("check", 1, 2), ("check", 2, 2)]
    cancelled = Events()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        check_cohort(cohort, cancelled)
