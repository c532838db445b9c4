"""The main job as a user starts it, in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.events import PREFIX
from BreastTumorSegLib.io.exam import load_exam
from BreastTumorSegLib.networks.bundle import load_bundle
from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case
from BreastTumorSegLib.segmentation.tumor import grown_candidates
from Testing.dicom_files import write_series

FILES = {
    "breast.nii.gz",
    "tumor.nii.gz",
    "tumor_probability.nii.gz",
    "kinetics/pe.nii.gz",
    "kinetics/pe_late.nii.gz",
    "kinetics/ser.nii.gz",
    "kinetics/curve_type.nii.gz",
    "kinetics/time_to_peak.nii.gz",
    "kinetics/washout_slope.nii.gz",
    "kinetics/ftv.nii.gz",
    "heterogeneity.nii.gz",
    "curves.csv",
    "lesions.csv",
    "result.json",
    "report.html",
}
COMMAND = [sys.executable, "-m", "BreastTumorSegLib"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=600, **options)


@pytest.fixture(scope="module")
def done(case, tmp_path_factory):
    """The finished job: its output folder and what it printed."""
    out = tmp_path_factory.mktemp("done") / "result"
    finished = run("segment", case, out, "--progress", "json")
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_results_folder_is_complete(done):
    assert files_of(done[0]) == FILES
    assert [path.name for path in done[0].parent.iterdir()] == ["result"]


def test_masks_have_the_geometry_of_the_input_to_the_voxel(done, case):
    exam = sitk.ReadImage(str(case / "DUKE_S000100_0000.nii.gz"))
    for name in FILES:
        if name.endswith(".nii.gz"):
            volume = sitk.ReadImage(str(done[0] / name))
            assert volume.GetSize() == exam.GetSize()
            for of in ("GetSpacing", "GetOrigin", "GetDirection"):
                assert getattr(volume, of)() == pytest.approx(getattr(exam, of)(), abs=1e-6), (name, of)


def test_events_are_lines_of_ascii_json_in_order(done):
    lines = done[1].splitlines()
    assert all(line.startswith(PREFIX) and line.isascii() for line in lines)
    events = [json.loads(line[len(PREFIX) :]) for line in lines]
    assert events[0]["event"] == "started" and events[-1]["event"] == "finished"
    stages = list(dict.fromkeys(event["stage"] for event in events if event["event"] == "progress"))
    expected = ["load", "breast", "tumor", "kinetics", "clusters", "lesions", "write", "report"]
    assert [stage for stage in stages if stage in expected] == expected
    assert all(0 <= event["done"] <= event["total"] for event in events if event["event"] == "progress")


def test_the_manifest_says_how_the_result_came_about(done):
    manifest = json.loads((done[0] / "result.json").read_text())
    used = [(model["task"], model["name"]) for model in manifest["models"]]
    assert used == [("breast", "breast-unet"), ("tumor", "tumor-multi-phase"), ("tumor", "tumor-resunet")]
    assert all(re.fullmatch("[0-9a-f]{64}", model["sha256"]) for model in manifest["models"])
    assert all(re.fullmatch("[0-9a-f]{64}", model["description_sha256"]) for model in manifest["models"])
    assert manifest["phases"][0]["time_s"] == 0
    assert {phase["source"] for phase in manifest["phases"]} == {"MAMA-MIA json"}
    kinetics = manifest["kinetics"]
    assert kinetics["early"]["wanted_s"] == 150 and kinetics["late"]["wanted_s"] == 450
    assert kinetics["early"]["used_s"] < kinetics["late"]["used_s"] <= manifest["phases"][-1]["time_s"]
    assert set(kinetics["ftv_ml"]) <= {"right", "left"} and all(ml >= 0 for ml in kinetics["ftv_ml"].values())
    assert set(manifest["timings"]) == {"breast", "tumor", "kinetics", "clusters", "lesions"}
    assert len(manifest["lesions"]) == len((done[0] / "lesions.csv").read_text().splitlines()) - 1


def test_confidence_is_what_is_compared_with_the_models_peak(done, case):
    """Of the written probability, in steps of a thousandth, and so not to the last digit."""
    described = load_bundle("tumor-multi-phase", "tumor").description
    exam, lesions = load_exam([case]), json.loads((done[0] / "result.json").read_text())["lesions"]
    probability, breast = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(done[0] / f"{name}.nii.gz")))
        for name in ("tumor_probability", "breast")
    )
    bars = described.threshold, described.peak, described.lesion_weights
    candidates = grown_candidates(probability, exam.first_post - exam.pre, breast > 0, exam.geometry, *bars)
    assert lesions and len(candidates) == len(lesions)
    told = sorted(lesion["confidence"] for lesion in lesions)
    assert told == pytest.approx(sorted(each.likely for each in candidates), abs=0.01)
    means = [probability[each.box][each.mask].mean() for each in candidates]
    assert told != pytest.approx(sorted(means), abs=0.01)


def test_labels_are_consistent(done):
    read = {
        name: sitk.GetArrayFromImage(sitk.ReadImage(str(done[0] / f"{name}.nii.gz"))) for name in ("breast", "tumor")
    }
    assert set(np.unique(read["breast"])) <= {0, 1, 2} and read["breast"].any()
    assert not (read["tumor"] > 0)[read["breast"] == 0].any()
    lesions = json.loads((done[0] / "result.json").read_text())["lesions"]
    assert sorted(np.unique(read["tumor"])) == list(range(len(lesions) + 1))


def test_existing_results_are_refused_and_stay_as_they_are(done, case):
    before = (done[0] / "result.json").read_bytes()
    again = run("segment", case, done[0])
    assert again.returncode == 2
    assert "already there" in again.stderr
    assert (done[0] / "result.json").read_bytes() == before


def test_overwriting_keeps_the_old_results(case, tmp_path):
    out = tmp_path / "result"
    out.mkdir()
    (out / "tumor.nii.gz").write_text("a reader's work")
    assert run("segment", case, out, "--overwrite").returncode == 0
    (kept,) = tmp_path.glob("result-previous-*")
    assert (kept / "tumor.nii.gz").read_text() == "a reader's work"
    assert files_of(out) == FILES


def start(case, out):
    return subprocess.Popen(
        [*COMMAND, "segment", str(case), str(out), "--progress", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(job, stage):
    for line in job.stdout:
        if f'"stage": "{stage}"' in line:
            return
    raise AssertionError(f"the job ended before {stage}")


@pytest.mark.parametrize("stage", ["load", "tumor", "write"])
@pytest.mark.parametrize("way", ["line", "signal"])
def test_a_cancelled_job_ends_within_a_second_and_leaves_nothing(case, tmp_path, stage, way):
    if way == "signal" and os.name == "nt":
        pytest.skip("Windows has no SIGTERM to send")
    job = start(case, tmp_path / "result")
    wait_for(job, stage)
    begin = time.monotonic()
    if way == "line":
        job.stdin.write("cancel\n")
        job.stdin.flush()
    else:
        job.send_signal(signal.SIGTERM)
    code = job.wait(timeout=30)
    assert time.monotonic() - begin < 3  # a second, and room for a busy machine
    assert code == 5
    assert list(tmp_path.iterdir()) == []
    last = json.loads(job.stdout.read().splitlines()[-1][len(PREFIX) :])
    assert (last["event"], last["code"]) == ("failed", 5)


def empty(folder):
    return folder


def one_phase(folder):
    write_case(simulate_exam("ISPY2", 3, 8.0, phases=1), folder, "ISPY2_S000003")
    return folder / "images" / "ISPY2_S000003"


def text_file(folder):
    for index in range(2):
        (folder / f"p{index}.nii.gz").write_text("not an image")
    return folder


def different_geometry(folder):
    for index, size in enumerate((8, 9)):
        sitk.WriteImage(sitk.Image(size, 8, 8, sitk.sitkInt16) + index, str(folder / f"p{index}.nii.gz"))
    return folder


def not_a_number(folder):
    for index in range(2):
        voxels = np.random.default_rng(index).random((8, 8, 8)).astype(np.float32)
        voxels[4, 4, 4] = np.nan
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"p{index}.nii.gz"))
    return folder


def two_patients(folder):
    voxels = np.arange(4 * 6 * 6).reshape(4, 6, 6)
    for number, name in ((1, "Doe^Jane"), (2, "Roe^Mary")):
        write_series(
            folder / str(number), number, voxels, PatientName=name, PatientID=name, AcquisitionTime=f"1{number}0000"
        )
    return folder


def missing_slices(folder):
    voxels = np.arange(6 * 6 * 6).reshape(6, 6, 6)
    write_series(folder / "1", 1, voxels, AcquisitionTime="100000")
    write_series(folder / "2", 2, voxels + 1, AcquisitionTime="100200", skip=(3,))
    return folder


@pytest.mark.parametrize(
    "make", [empty, one_phase, text_file, different_geometry, not_a_number, two_patients, missing_slices]
)
def test_bad_input_ends_with_code_2_a_remedy_and_no_result(tmp_path, make):
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    finished = run("segment", source, tmp_path / "out", "--progress", "json")
    assert finished.returncode == 2, finished.stderr
    failed = json.loads(finished.stdout.splitlines()[-1][len(PREFIX) :])
    assert failed["event"] == "failed" and failed["message"] and failed["remedy"]
    assert "Traceback" not in finished.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    assert not re.search("Doe|Roe|Jane|Mary", finished.stdout + finished.stderr)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits on the size of files")
def test_a_full_disk_is_told_and_leaves_nothing(case, tmp_path):
    def little_space():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    finished = run("segment", case, tmp_path / "out", preexec_fn=little_space)
    assert finished.returncode == 2, finished.stderr
    assert "full" in finished.stderr and "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder_is_told(case, tmp_path):
    tmp_path.chmod(0o500)
    finished = run("segment", case, tmp_path / "out")
    tmp_path.chmod(0o700)
    assert finished.returncode == 2 and "can't be written" in finished.stderr


def test_an_output_below_a_file_is_told(case, tmp_path):
    (tmp_path / "file").write_text("")
    finished = run("segment", case, tmp_path / "file" / "out")
    assert finished.returncode == 2 and "can't be written" in finished.stderr


def test_an_unknown_model_ends_with_code_3(case, tmp_path):
    finished = run("segment", case, tmp_path / "out", "--model", "none-such")
    assert finished.returncode == 3 and "none-such" in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dicom_exam_leaves_no_name_and_no_date_in_the_results(tmp_path):
    exam = simulate_exam("ISPY2", 21, 4.0, phases=3)
    for phase, voxels in enumerate(exam.data.round().numpy()):
        write_series(
            tmp_path / "Doe Jane" / str(phase),
            phase + 1,
            voxels,
            description=f"dyn {phase} Jane Doe",
            step=4.0,
            PixelSpacing=[4.0, 4.0],
            AcquisitionDate="20200304",
            AcquisitionTime=f"1{phase}0000",
        )
    finished = run("segment", tmp_path / "Doe Jane", tmp_path / "out", "--progress", "json")
    assert finished.returncode == 0, finished.stderr
    for name in ("result.json", "report.html", "curves.csv", "lesions.csv"):
        text = re.sub('base64,[^"]*', "", (tmp_path / "out" / name).read_text())  # pictures hold any letters
        assert not re.search("Doe|Jane|P123456|20200304|2020-03-04|19600102", text), name


@pytest.fixture(scope="module")
def real(duke_exam, tmp_path_factory):
    """The real exam's results, what the job said, and its seconds."""
    out = tmp_path_factory.mktemp("real") / "out"
    begin = time.monotonic()
    finished = run("segment", duke_exam, out)
    assert finished.returncode == 0, finished.stderr
    return out, finished.stderr, time.monotonic() - begin


@pytest.mark.xdist_group("real")
def test_the_real_exam_is_segmented_in_time_and_memory(real):
    """120 s and 8 GB on two cores; geometry to the voxel."""
    import resource

    out, said, seconds = real
    assert seconds < 120
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 8e6
    tumor = sitk.ReadImage(str(out / "tumor.nii.gz"))
    assert tumor.GetSize() == (448, 448, 160)
    assert tumor.GetOrigin() == pytest.approx((-173.87410, -154.50364, -116.50569), abs=1e-4)
    assert "1371" in said  # the pre-contrast phase is 23 minutes early


@pytest.mark.xdist_group("real")
def test_the_known_lesion_of_the_real_exam_is_found(real):
    """The collection's box: rows 47-82, columns 90-124, counted from 1; z 60-77, from 0."""
    lesions = json.loads((real[0] / "result.json").read_text())["lesions"]
    tumor = sitk.ReadImage(str(real[0] / "tumor.nii.gz"))
    indices = [tumor.TransformPhysicalPointToIndex(lesion["centre"]) for lesion in lesions]
    hits = [89 <= x <= 123 and 46 <= y <= 81 and 60 <= z <= 77 for x, y, z in indices]
    assert sum(hits) == 1
    assert len(hits) <= 4
