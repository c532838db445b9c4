"""Exams as DICOM, written slice by slice with known values."""

import re
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEG2000Lossless, generate_uid

import dicom_files
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import load_exam, read_phase_table
from dicom_files import write_enhanced, write_object, write_series

PRE = np.arange(24).reshape(3, 2, 4)
PHASES = np.stack([PRE, PRE + 100, PRE + 200])
GRID = Geometry((4, 2, 3), (0.5, 1.5, 2.0), (-3.0, 4.0, 10.0))
TIMES = ("100000", "100200.5", "100400")
SECRETS = ("Doe", "Jane", "P123456", "19600102", "20200304", "Roe", "20200305")


def series_a_phase(folder, **tags):
    """Siemens: three series with AcquisitionTime."""
    for i, voxels in enumerate(PHASES):
        write_series(folder / f"{i}", 4 + i, voxels, f"ax dyn {i}", AcquisitionTime=TIMES[i], **tags)
    return folder


def one_series(folder, phase_tags, **tags):
    """All phases in one series, by what `phase_tags(phase)` says of each."""
    uid = generate_uid()
    for i, voxels in enumerate(PHASES):
        write_series(folder / f"{i}", 7, voxels, "dyn", SeriesInstanceUID=uid, **{**tags, **phase_tags(i)})
    return folder


def messages(table):
    return " ".join(f"{problem.message} {problem.remedy}" for problem in table.problems)


def test_series_a_phase(tmp_path):
    exam = load_exam([series_a_phase(tmp_path)])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.data.dtype == np.float32
    assert exam.geometry == GRID
    assert exam.times == (0.0, 120.5, 240.0)
    assert [phase.name for phase in exam.table.phases] == ["4: ax dyn 0", "5: ax dyn 1", "6: ax dyn 2"]
    assert {phase.source for phase in exam.table.phases} == {TimeSource.ACQUISITION_TIME}
    assert [file.name for file in exam.table.phases[0].files] == ["s4_99", "s4_98", "s4_97"]
    assert exam.table.problems == ()


@pytest.mark.parametrize(
    ("phase_tags", "source", "times"),
    [
        (lambda i: {"TriggerTime": 90000 * i, "AcquisitionTime": "100000"}, "TRIGGER_TIME", (0, 90, 180)),
        (
            lambda i: {"TemporalPositionIdentifier": i + 1, "TemporalResolution": 61000},
            "TEMPORAL_POSITION",
            (0, 61, 122),
        ),
        (
            lambda i: {"TemporalPositionIdentifier": i + 1, "AcquisitionTime": TIMES[i]},
            "ACQUISITION_TIME",
            (0, 120.5, 240),
        ),
        (lambda i: {"AcquisitionDateTime": f"20200304{TIMES[i]}"}, "ACQUISITION_DATE_TIME", (0, 120.5, 240)),
        (lambda i: {"AcquisitionNumber": i + 1, "ContentTime": TIMES[i]}, "CONTENT_TIME", (0, 120.5, 240)),
        (lambda i: {"AcquisitionNumber": i + 1}, "ASSUMED", (0, 120, 240)),
        # Nothing but the numbering of the images tells the phases apart.
        (lambda i: {"slice_tags": lambda z: {"InstanceNumber": 3 * i + z + 1}}, "ASSUMED", (0, 120, 240)),
        (lambda i: {"slice_tags": lambda z: {"InstanceNumber": 3 * z + i + 1}}, "ASSUMED", (0, 120, 240)),
    ],
)
def test_one_series_with_all_phases(tmp_path, phase_tags, source, times):
    exam = load_exam([one_series(tmp_path, phase_tags)])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.times == pytest.approx(times)
    assert {phase.source for phase in exam.table.phases} == {TimeSource[source]}
    assert [phase.name for phase in exam.table.phases] == ["7: dyn [1]", "7: dyn [2]", "7: dyn [3]"]


def test_the_earliest_slice_gives_the_time_of_a_phase(tmp_path):
    """Interleaved slices: the second one is measured first, at :05, :15 and :25."""
    for i, voxels in enumerate(PHASES):
        seconds = [10 * i + offset for offset in (7, 5, 9)]
        write_series(
            tmp_path / f"{i}", i, voxels, slice_tags=lambda z, s=seconds: {"AcquisitionTime": f"1000{s[z]:02d}"}
        )
    table = read_phase_table([tmp_path])
    assert table.times == (0.0, 10.0, 20.0)


def test_trigger_time_starts_anew_with_each_series(tmp_path):
    for i, voxels in enumerate(PHASES):
        write_series(tmp_path / f"{i}", i, voxels, TriggerTime=10.0 * (i + 1), SeriesTime=TIMES[i])
    assert read_phase_table([tmp_path]).phases[0].source is TimeSource.SERIES_TIME


def test_view_sharing_series_by_tt(tmp_path):
    for i, seconds in enumerate(("17.9", "190.2", "608.1")):
        write_series(tmp_path / f"{i}", i, PHASES[i], f"twist (h20 ex B17)_TT={seconds}s", AcquisitionTime=TIMES[2 - i])
    table = read_phase_table([tmp_path])
    assert table.times == (0.0, 172.3, 590.2)
    assert {phase.source for phase in table.phases} == {TimeSource.SERIES_DESCRIPTION}


def test_phases_are_put_in_order_of_time(tmp_path):
    for i in (0, 1, 2):
        write_series(tmp_path / f"{i}", 10 - i, PHASES[i], f"dyn {i}", AcquisitionTime=TIMES[i])
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert "times fall" in messages(exam.table)


@pytest.mark.parametrize(
    "frame_tags",
    [
        lambda i: {"TemporalPositionIndex": i + 1, "TemporalPositionTimeOffset": (0.0, 120.5, 240.0)[i]},
        lambda i: {"FrameAcquisitionDateTime": f"20200304{TIMES[i]}"},
    ],
)
def test_enhanced_object_with_all_phases(tmp_path, frame_tags):
    write_enhanced(tmp_path / "dyn", 9, PHASES, frame_tags)
    exam = load_exam([tmp_path])
    # Each phase has a rescale slope of its own: 1, 2, 3.
    np.testing.assert_array_equal(exam.data, PHASES * np.array([1, 2, 3]).reshape(3, 1, 1, 1))
    assert exam.geometry == GRID
    assert exam.times == (0.0, 120.5, 240.0)
    assert [(phase.index, len(phase.files)) for phase in exam.table.phases] == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("same_series", [True, False])
def test_enhanced_object_a_phase(tmp_path, same_series):
    uid = generate_uid()
    for i in range(3):
        write_enhanced(
            tmp_path / f"{i}",
            9 + (0 if same_series else i),
            PHASES[i : i + 1],
            lambda phase: {},
            AcquisitionDateTime=f"20200304{TIMES[i]}",
            **({"SeriesInstanceUID": uid} if same_series else {}),
        )
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.times == (0.0, 120.5, 240.0)
    assert [phase.index for phase in exam.table.phases] == [0, 0, 0]


def test_enhanced_object_a_slice(tmp_path):
    for i, uid in enumerate(("1.2.3", "1.2.4", "1.2.5")):
        for z in range(3):
            tags = {"SeriesInstanceUID": uid, "AcquisitionDateTime": f"20200304{TIMES[i]}"}
            write_enhanced(tmp_path / f"{i}{z}", 9 + i, PHASES[i : i + 1, z : z + 1], lambda phase: {}, first=z, **tags)
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.geometry == GRID
    assert [(phase.index, len(phase.files)) for phase in exam.table.phases] == [(None, 3)] * 3


OTHERS = {
    "T2": ({"description": "ax T2 stir", "RepetitionTime": 4000.0, "EchoTime": 90.0}, "T2"),
    "T2 without a name": ({"description": "ax", "RepetitionTime": 4000.0, "EchoTime": 90.0}, "another sequence"),
    "localiser": ({"description": "3-plane", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localisers"),
    "scout": ({"description": "scout"}, "localisers"),
    "subtraction": ({"description": "SUB dyn 2-1"}, "subtractions"),
    "subtraction by type": ({"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}, "subtractions"),
    "derived": ({"ImageType": ["DERIVED", "PRIMARY", "OTHER"]}, "another sequence, plane or kind"),
    "mip": ({"description": "MIP_ax"}, "projections"),
    "dwi": ({"description": "ep2d", "DiffusionBValue": 800.0}, "diffusion"),
    "adc": ({"description": "resolve_ADC"}, "diffusion"),
    "sagittal": ({"description": "sag dyn", "ImageOrientationPatient": list(dicom_files.SAGITTAL)}, "plane"),
    "no fat suppression": ({"description": "ax t1", "ScanOptions": "PFP"}, "another sequence"),
    "fat image": ({"description": "ax fat", "ImageType": ["ORIGINAL", "PRIMARY", "DIXON", "FAT"]}, "(fat)"),
    "segmentation": ({"description": "tumour", "SOPClassUID": dicom_files.SEGMENTATION}, "not MR images"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("number", [1, 99])
def test_series_that_are_no_phase_are_left_out_and_told(tmp_path, other, number):
    tags, reason = OTHERS[other]
    series_a_phase(tmp_path / "dyn")
    write_series(
        tmp_path / "other", number, PRE + 7, **{"description": "ax dyn 4", "AcquisitionTime": "095500", **tags}
    )
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    (problem,) = exam.table.problems
    assert reason in problem.message
    assert f"{number}: " in problem.message
    assert not problem.fatal


def test_water_is_taken_of_dixon_images_in_one_series(tmp_path):
    for part, add in (("FAT", 50), ("WATER", 0), ("IN_PHASE", 70)):
        for i, voxels in enumerate(PHASES):
            write_series(
                tmp_path / f"{part}{i}",
                7,
                voxels + add,
                "dixon dyn",
                SeriesInstanceUID=f"1.2.{7 + i}",
                ImageType=["DERIVED", "PRIMARY", "DIXON", part],
                AcquisitionTime=TIMES[i],
            )
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert "(fat)" in messages(exam.table)


def test_the_last_digits_of_a_protocol_may_differ(tmp_path):
    for i, repetition in enumerate((4.149, 4.151, 4.12)):
        write_series(tmp_path / f"{i}", i, PHASES[i], AcquisitionTime=TIMES[i], RepetitionTime=repetition)
    np.testing.assert_array_equal(load_exam([tmp_path]).data, PHASES)


def test_phases_kept_twice_are_taken_once(tmp_path):
    """Siemens keeps each phase with and without distortion correction, at the same time."""
    for i, voxels in enumerate(PHASES):
        tags = {"AcquisitionTime": TIMES[i], "description": "ax dyn"}
        write_series(tmp_path / f"{i}", 2 * i, voxels, ImageType=["ORIGINAL", "PRIMARY", "M", "DIS2D"], **tags)
        write_series(tmp_path / f"nd{i}", 2 * i + 1, voxels + 5, ImageType=["ORIGINAL", "PRIMARY", "M", "ND"], **tags)
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert "1: ax dyn; 3: ax dyn; 5: ax dyn" in messages(exam.table)


def test_derived_phases_are_taken_where_there_are_no_original_ones(tmp_path):
    series_a_phase(tmp_path, ImageType=["DERIVED", "SECONDARY", "OTHER"])
    np.testing.assert_array_equal(load_exam([tmp_path]).data, PHASES)


def test_files_that_are_no_dicom_are_skipped(tmp_path):
    series_a_phase(tmp_path)
    (tmp_path / "LICENSE").write_text("text")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "0" / "empty").write_bytes(b"")
    assert read_phase_table([tmp_path]).problems == ()


@pytest.mark.parametrize("implicit", [True, False])
def test_dicom_without_preamble(tmp_path, implicit):
    for file in [file for file in series_a_phase(tmp_path).rglob("*") if file.is_file()]:
        dataset = pydicom.dcmread(file)
        bare = pydicom.Dataset(dataset)
        bare.save_as(file, implicit_vr=implicit, little_endian=True)
        assert file.read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(load_exam([tmp_path]).data, PHASES)


@pytest.mark.parametrize("slope", [2, 0.5])
def test_rescaling(tmp_path, slope):
    exam = load_exam([series_a_phase(tmp_path, RescaleSlope=slope, RescaleIntercept=-5)])
    np.testing.assert_array_equal(exam.data, PHASES * slope - 5)


@pytest.mark.parametrize(
    "orientation",
    [dicom_files.AXIAL, dicom_files.SAGITTAL, (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), (0.6, 0.8, 0, -0.8, 0.6, 0)],
)
def test_geometry_is_that_of_itk(tmp_path, orientation):
    normal = np.cross(orientation[:3], orientation[3:])
    for i in range(2):
        write_series(
            tmp_path / f"{i}",
            i,
            PHASES[i],
            ImageOrientationPatient=list(orientation),
            AcquisitionTime=TIMES[i],
            slice_tags=lambda z: {"ImagePositionPatient": [float(v) for v in np.array([5, 6, 7]) - 2.5 * z * normal]},
        )
    exam = load_exam([tmp_path])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "1")))
    image = reader.Execute()
    np.testing.assert_array_equal(exam.data[1], sitk.GetArrayFromImage(image))
    assert exam.geometry.difference(Geometry.of(image)) is None


@pytest.mark.parametrize("name", ["JPEG", "JPEG2000"])
def test_compressed_images(tmp_path, name):
    """Lossless JPEG needs GDCM; pydicom knows it with plug-ins only."""
    rng = np.random.default_rng(1)
    phases = rng.integers(0, 4000, (2, 3, 32, 32))
    for i in range(2):
        for file in write_series(tmp_path / f"{i}", i, phases[i], AcquisitionTime=TIMES[i], RescaleSlope=2):
            compress(file, name)
    np.testing.assert_array_equal(load_exam([tmp_path]).data, phases * 2)


def compress(file, name):
    """Replace the pixel data by what GDCM compresses; the rest of the file stays."""
    dataset = pydicom.dcmread(file)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(file.with_suffix(".dcm")))
    writer.UseCompressionOn()
    writer.SetCompressor(name)
    writer.Execute(sitk.GetImageFromArray(dataset.pixel_array[np.newaxis]))
    made = pydicom.dcmread(file.with_suffix(".dcm"))
    file.with_suffix(".dcm").unlink()
    dataset.PixelData = made.PixelData
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = made.file_meta.TransferSyntaxUID
    dataset.save_as(file)


# Refused


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PatientID": "X1"}, "2 patients"),
        ({"PatientName": "Roe^Richard"}, "2 patients"),
        ({"PatientBirthDate": "19700101"}, "2 patients"),
        ({"StudyInstanceUID": "1.2.3"}, "2 studies"),
        ({"StudyDate": "20200305"}, "2 study dates"),
    ],
)
def test_two_exams_in_one_folder(tmp_path, tags, words):
    series_a_phase(tmp_path / "a")
    write_series(tmp_path / "b", 20, PRE, **tags)
    (problem,) = read_phase_table([tmp_path]).problems
    assert problem.fatal
    assert words in problem.message
    assert "a/0/s4_97" in problem.message.replace("\\", "/")
    assert "b/s20_97" in problem.message.replace("\\", "/")
    assert not any(secret in problem.message + problem.remedy for secret in SECRETS)
    with pytest.raises(InputError, match=words):
        load_exam([tmp_path])


def test_one_name_in_two_spellings_is_one_patient(tmp_path):
    series_a_phase(tmp_path / "a")
    write_series(tmp_path / "b", 20, PRE, PatientName="DOE^JANE^^", PatientBirthDate="", AcquisitionTime="101000")
    assert read_phase_table([tmp_path]).problems == ()


def test_missing_slice(tmp_path):
    phases = np.concatenate([PHASES, PHASES], axis=1)
    for i in range(3):
        write_series(tmp_path / f"{i}", i, phases[i], f"dyn {i}", AcquisitionTime=TIMES[i], skip=(2,) if i == 1 else ())
    with pytest.raises(InputError, match=r"'1: dyn 1': 1 slice is missing, the first between s1_98 and s1_96"):
        load_exam([tmp_path])


def test_missing_slice_in_one_series(tmp_path):
    uid = generate_uid()
    phases = np.concatenate([PHASES, PHASES], axis=1)
    for i in range(3):
        write_series(
            tmp_path / f"{i}", 7, phases[i], SeriesInstanceUID=uid, TriggerTime=9e4 * i, skip=(2, 3) if i == 1 else ()
        )
    with pytest.raises(InputError, match="2 slices are missing"):
        load_exam([tmp_path])


def test_missing_last_slice(tmp_path):
    for i in range(3):
        write_series(tmp_path / f"{i}", i, PHASES[i], f"dyn {i}", AcquisitionTime=TIMES[i], skip=(2,) if i == 1 else ())
    with pytest.raises(InputError, match=r"'1: dyn 1'.*another geometry.*size"):
        load_exam([tmp_path])


@pytest.mark.parametrize("new_uid", [True, False])
def test_doubled_slice(tmp_path, new_uid):
    series_a_phase(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "1" / "s5_98")
    if new_uid:
        dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(tmp_path / "1" / "copy")
    with pytest.raises(InputError, match=r"'5: ax dyn 1': 1 slice is doubled: (copy and s5_98|s5_98 and copy)"):
        load_exam([tmp_path])


def test_whole_series_copied(tmp_path):
    """The same files twice are no two phases."""
    series_a_phase(tmp_path / "a")
    shutil.copytree(tmp_path / "a" / "0", tmp_path / "b")
    with pytest.raises(InputError, match="3 slices are doubled"):
        load_exam([tmp_path])


def test_uneven_slices(tmp_path):
    for i in range(2):
        write_series(
            tmp_path / f"{i}",
            i,
            np.concatenate([PHASES[i]] * 2),
            AcquisitionTime=TIMES[i],
            slice_tags=lambda z: {"ImagePositionPatient": [0.0, 0.0, 2.0 * z + (0.6 if z == 3 else 0.0)]},
        )
    with pytest.raises(InputError, match="not evenly spaced"):
        load_exam([tmp_path])


def test_other_geometry(tmp_path):
    series_a_phase(tmp_path)
    write_series(tmp_path / "9", 9, PRE, "ax dyn 3", PixelSpacing=[1.5, 0.6], AcquisitionTime="101000")
    with pytest.raises(InputError, match=r"'9: ax dyn 3'.*another geometry.*spacing"):
        load_exam([tmp_path])


@pytest.mark.parametrize("spacing", [[0.0, 0.5], [-1.5, 0.5]])
def test_bad_spacing(tmp_path, spacing):
    with pytest.raises(InputError, match=re.escape(f"pixel spacing is {spacing[0]:g} x 0.5 mm")):
        load_exam([series_a_phase(tmp_path, PixelSpacing=spacing)])


def test_2d_series(tmp_path):
    for i in range(2):
        write_series(tmp_path / f"{i}", i, PRE[:1], AcquisitionTime=TIMES[i])
    with pytest.raises(InputError, match="2D image"):
        load_exam([tmp_path])


def test_one_phase_only(tmp_path):
    write_series(tmp_path, 4, PRE, "ax dyn")
    (problem,) = load_exam([tmp_path]).table.problems
    assert problem.message == "There is one phase only."


def test_no_phase_at_all(tmp_path):
    write_series(tmp_path, 4, PRE, "ax T2")
    with pytest.raises(InputError, match="left out: 4: ax T2"):
        load_exam([tmp_path])


def test_constant_image(tmp_path):
    series_a_phase(tmp_path)
    write_series(tmp_path / "9", 9, np.full_like(PRE, 3), "ax dyn 3", AcquisitionTime="101000")
    with pytest.raises(InputError, match="constant"):
        load_exam([tmp_path])


def truncate(file):
    file.write_bytes(file.read_bytes()[:-6])


def undecodable(file):
    dataset = pydicom.dcmread(file)
    dataset.PixelData = pydicom.encaps.encapsulate([b"no jpeg, whatever the header says"])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(file)


def no_pixels(file):
    dataset = pydicom.dcmread(file)
    del dataset.PixelData
    dataset.save_as(file)


@pytest.mark.parametrize("break_it", [truncate, undecodable, no_pixels])
def test_damaged_image(tmp_path, break_it):
    break_it(series_a_phase(tmp_path) / "1" / "s5_98")
    with pytest.raises(InputError, match=r"s5_98: its image is damaged") as caught:
        load_exam([tmp_path])
    assert caught.value.remedy


@pytest.mark.parametrize("content", [b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 300])
def test_damaged_header(tmp_path, content):
    (series_a_phase(tmp_path) / "broken").write_bytes(content)
    with pytest.raises(InputError, match="broken is a damaged DICOM file"):
        read_phase_table([tmp_path])


def test_nothing_of_the_patient_is_shown(tmp_path):
    for i, voxels in enumerate(PHASES):
        write_series(tmp_path / f"{i}", i, voxels, f"Jane DOE dyn {i} 20200304", SeriesDate="20200304")
    write_series(tmp_path / "9", 9, PRE, "T2 P123456")
    table = read_phase_table([tmp_path])
    shown = messages(table) + " ".join(phase.name for phase in table.phases)
    assert [phase.name for phase in table.phases] == ["0: dyn 0", "1: dyn 1", "2: dyn 2"]
    assert not any(secret in shown for secret in SECRETS)


def test_secondary_capture_beside_the_exam(tmp_path):
    series_a_phase(tmp_path)
    values = {**dicom_files.EXAM, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SeriesNumber": 50}
    write_object(tmp_path / "capture", PRE[0], {**values, "SeriesDescription": "report"})
    assert "50: report" in messages(read_phase_table([tmp_path]))


@pytest.mark.parametrize("axes", [(0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0), (1, 0, 0, 0.5, 0.8, 0)])
def test_slices_without_axes_are_left_out(tmp_path, axes):
    series_a_phase(tmp_path)
    write_series(tmp_path / "odd", 9, PRE, "odd", ImageOrientationPatient=list(map(float, axes)))
    exam = load_exam([tmp_path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert "Series left out, not MR images with a place in space: 9: odd" in messages(exam.table)


def test_an_enhanced_object_cut_anywhere_is_told(tmp_path):
    file = write_enhanced(tmp_path / "e.dcm", 1, PHASES, lambda phase: {"TemporalPositionIndex": phase + 1})
    whole = file.read_bytes()
    for length in range(200, len(whole) - 1, 61):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            load_exam([tmp_path])
        assert caught.value.remedy


def test_a_slice_that_vanishes_while_the_exam_is_read(tmp_path):
    class Vanishing(Events):
        def show(self, event):
            if event.get("stage") == "load" and event["done"] == 1:
                shutil.rmtree(tmp_path / "1")

    with pytest.raises(InputError, match="can't be used: No such file"):
        load_exam([series_a_phase(tmp_path)], events=Vanishing())


@pytest.mark.parametrize("damage", [(-2, 198), (-1, 32), (-4, 0)])
def test_a_damaged_length_shows_nothing_of_the_patient(tmp_path, damage):
    """The bytes before a description are its type and its length; with either wrong it runs on into the name."""
    voxels = np.arange(48).reshape(3, 4, 4)
    files = write_series(tmp_path / "1", 1, voxels, AcquisitionTime="100000")
    write_series(tmp_path / "2", 2, voxels + 1, AcquisitionTime="100200")
    content = bytearray(files[1].read_bytes())
    offset, value = damage
    content[content.index(b"ax dyn") + offset] = value
    files[1].write_bytes(content)
    try:
        table = read_phase_table([tmp_path])
        said = " ".join([*(phase.name for phase in table.phases), *map(str, table.problems)])
    except InputError as error:
        said = str(error)
    assert not re.search("Doe|Jane|P123456|19600102", said)
