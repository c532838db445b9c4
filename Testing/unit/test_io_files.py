"""Exams and masks as volume files; the answers are written out."""

import gzip
import json
import re
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.errors import Cancelled, InputError, OutOfMemoryError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import load_exam, read_phase_table, read_volume, write_volume

OBLIQUE = Geometry((4, 3, 2), (0.7, 0.8, 1.1), (-10.5, 20.25, 3.0), (0.6, 0.8, 0.0, -0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
PRE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
PHASES = (PRE, PRE + 100, PRE + 200)


def write_phases(folder, names, geometry=OBLIQUE):
    folder.mkdir(parents=True, exist_ok=True)
    for name, voxels in zip(names, PHASES, strict=True):
        write_volume(voxels, geometry, folder / name)
    return folder


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_volumes_come_back_as_written(tmp_path, suffix, dtype):
    path = tmp_path / f"mask{suffix}"
    write_volume(PRE.astype(dtype), OBLIQUE, path)
    array, geometry = read_volume(path)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, PRE)
    assert geometry.difference(OBLIQUE) is None


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 3.0), (1.0, 0.0), (0.5, -2.0)])
def test_nifti_voxels_are_those_of_itk(tmp_path, order, slope, intercept):
    """Both byte orders, scaled or not; ITK is the oracle, but for a slope of 0, where it adds the intercept."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "4h", header, 40, 3, 4, 3, 2)
    struct.pack_into(order + "2h", header, 70, 4, 16)
    struct.pack_into(order + "4f", header, 76, 1, 0.7, 0.8, 1.1)
    struct.pack_into(order + "3f", header, 108, 352, slope, intercept)
    header[344:347] = b"n+1"
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(header) + (PRE - 9).astype(order + "i2").tobytes())
    array, geometry = read_volume(path)
    if slope:
        np.testing.assert_array_equal(array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    np.testing.assert_array_equal(array, (PRE - 9) * (slope or 1) + (intercept if slope else 0))
    assert geometry.spacing == pytest.approx((0.7, 0.8, 1.1))


TURNED = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "sagittal": (0, 0, -1, 1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "left-handed": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "oblique": OBLIQUE.direction,
    "oblique and left-handed": (0.6, 0.8, 0, -0.8, 0.6, 0, 0, 0, -1),
}


@pytest.mark.parametrize("direction", TURNED.values(), ids=TURNED)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_the_header_of_nifti_files_is_the_one_that_itk_writes(tmp_path, direction, dtype):
    geometry = Geometry((4, 3, 2), (0.7, 0.8, 1.1), (-10.5, 20.25, 3.0), tuple(map(float, direction)))
    write_volume(PRE.astype(dtype), geometry, tmp_path / "ours.nii.gz")
    sitk.WriteImage(geometry.image(PRE.astype(dtype)), str(tmp_path / "itk.nii.gz"), True)
    ours, itk = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("ours.nii.gz", "itk.nii.gz"))
    place = slice(256, 328)  # quaternion, offset and matrix, whose last digits may differ
    assert np.frombuffer(ours[place], "<f4") == pytest.approx(np.frombuffer(itk[place], "<f4"), abs=1e-6)
    assert ours[:256] + ours[328:] == itk[:256] + itk[328:]


@pytest.mark.parametrize(("low", "high", "stored"), [(-100.0, 1000.0, 4), (0.0, 4000.0, 8)])
def test_maps_keep_multiples_of_a_step(tmp_path, low, high, stored):
    """As int16 (4) or, where these are too small, as int32 (8), with a slope; ITK is the oracle for what is read."""
    values = np.linspace(low, high, 24, dtype=np.float32).reshape(PRE.shape)
    path = tmp_path / "map.nii.gz"
    write_volume(values, OBLIQUE, path, step=0.1)
    assert struct.unpack_from("<h", gzip.decompress(path.read_bytes()), 70) == (stored,)
    read = read_volume(path)[0]
    assert read.dtype == np.float32
    assert np.abs(read - values).max() <= 0.0502
    itk = sitk.ReadImage(str(path))
    assert itk.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk), read)
    np.testing.assert_array_equal(read, np.round(values / np.float32(0.1)) * np.float32(0.1))


def test_a_volume_of_many_pieces_is_one_gzip_stream(tmp_path):
    """Some readers take the first of several streams for the whole."""
    values = np.random.default_rng(0).integers(0, 999, (9, 300, 400)).astype(np.int16)
    geometry = Geometry((400, 300, 9), (1.0, 1.0, 1.0))
    for name, array in (("a", values), ("b", np.asfortranarray(values))):
        path = tmp_path / f"{name}.nii.gz"
        write_volume(array, geometry, path)
        inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        assert inflater.decompress(path.read_bytes())[352:] == values.tobytes()
        assert inflater.eof and not inflater.unused_data
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), values)


def test_types_that_nifti_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="complex"):
        write_volume(PRE.astype(np.complex64), OBLIQUE, tmp_path / "a.nii.gz")


def test_bool_masks_are_written_as_numbers(tmp_path):
    write_volume(PRE > 5, OBLIQUE, tmp_path / "mask.nii.gz")
    array, _ = read_volume(tmp_path / "mask.nii.gz")
    assert array.dtype == np.uint8
    assert array.sum() == 18


@pytest.mark.parametrize(
    "names",
    [
        ("p1.nii.gz", "p2.nii.gz", "p10.nii.gz"),
        ("p1.nrrd", "p2.nrrd", "p10.nrrd"),
        ("p1.mha", "p2.mha", "p10.mha"),
        ("p1.nii", "p2.nrrd", "p3.mha"),
    ],
)
def test_folder_of_volumes(tmp_path, names):
    exam = load_exam([write_phases(tmp_path, names)])
    assert exam.data.dtype == np.float32
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.geometry.difference(OBLIQUE) is None
    assert [phase.name for phase in exam.table.phases] == ["phase 1", "phase 2", "phase 3"]
    assert [phase.files for phase in exam.table.phases] == [(tmp_path / name,) for name in names]


def test_list_of_volumes_keeps_its_order(tmp_path):
    write_phases(tmp_path, ("b.nrrd", "a.nrrd", "c.nrrd"))
    exam = load_exam([tmp_path / "b.nrrd", tmp_path / "a.nrrd", tmp_path / "c.nrrd"])
    np.testing.assert_array_equal(exam.data, PHASES)


def test_unknown_times_are_assumed_and_told(tmp_path):
    events = Events()
    table = read_phase_table([write_phases(tmp_path, ("1.nrrd", "2.nrrd", "3.nrrd"))], interval=60.0, events=events)
    assert table.times == (0.0, 60.0, 120.0)
    assert {phase.source for phase in table.phases} == {TimeSource.ASSUMED}
    assert ["unknown" in problem.message for problem in table.problems] == [True]
    assert len(events.warnings) == 1


def test_times_of_the_user(tmp_path):
    table = read_phase_table([write_phases(tmp_path, ("1.nrrd", "2.nrrd", "3.nrrd"))], times=[0, 700, 800])
    assert table.times == (0.0, 700.0, 800.0)
    assert {phase.source for phase in table.phases} == {TimeSource.USER}
    assert ["700 s" in problem.message for problem in table.problems] == [True]


def test_times_of_the_user_that_do_not_fit(tmp_path):
    folder = write_phases(tmp_path, ("1.nrrd", "2.nrrd", "3.nrrd"))
    with pytest.raises(InputError, match="2 times"):
        read_phase_table([folder], times=[0, 60])


CASE = ("duke_001_0000.nii.gz", "duke_001_0001.nii.gz", "duke_001_0002.nii.gz")


@pytest.mark.parametrize(
    "place", ["patient_info_files/duke_001.json", "images/duke_001.json", "images/DUKE_001/duke_001.json"]
)
@pytest.mark.parametrize("listed", [[0, 165, 288], "[0, 165, 288]", [10, 175, 298]])
def test_mama_mia_case(tmp_path, place, listed):
    folder = write_phases(tmp_path / "images" / "DUKE_001", CASE)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(json.dumps({"imaging_data": {"acquisition_times": listed}}))
    write_volume(PRE, OBLIQUE, folder / "mask.nii.gz")
    exam = load_exam([folder])
    assert exam.times == (0.0, 165.0, 288.0)
    assert exam.table.phases[0].source is TimeSource.MAMA_MIA
    assert exam.data.shape == (3, 2, 3, 4)
    assert ["mask.nii.gz" in problem.message for problem in exam.table.problems] == [True]


def test_mama_mia_json_that_does_not_fit(tmp_path):
    folder = write_phases(tmp_path, CASE)
    (tmp_path / "duke_001.json").write_text(json.dumps({"imaging_data": {"acquisition_times": [0, 60]}}))
    table = read_phase_table([folder])
    assert table.phases[0].source is TimeSource.ASSUMED
    assert "2 times" in table.problems[0].message


def test_mama_mia_json_that_is_damaged(tmp_path):
    folder = write_phases(tmp_path, CASE)
    (tmp_path / "duke_001.json").write_text("{")
    with pytest.raises(InputError, match=r"duke_001\.json"):
        read_phase_table([folder])


def test_two_cases_in_one_folder(tmp_path):
    write_phases(tmp_path, ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"))
    with pytest.raises(InputError, match="2 cases: a, b"):
        read_phase_table([tmp_path])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_4d_volume(tmp_path, suffix):
    image = sitk.GetImageFromArray(np.stack(PHASES), isVector=False)
    image.SetSpacing((0.7, 0.8, 1.1, 2.5))
    image.SetOrigin((-10.5, 20.25, 3.0, 0.0))
    rotation = np.eye(4)
    rotation[:3, :3] = np.reshape(OBLIQUE.direction, (3, 3))
    image.SetDirection(rotation.ravel().tolist())
    path = tmp_path / f"dyn{suffix}"
    sitk.WriteImage(image, str(path))
    exam = load_exam([path])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.geometry.difference(OBLIQUE) is None
    assert [phase.index for phase in exam.table.phases] == [0, 1, 2]
    # The fourth spacing is a repetition time or nothing at all: never a phase's time.
    assert exam.table.phases[0].source is TimeSource.ASSUMED


SEQUENCE = 'labels: "time" "" "" ""\nunits: "s" "" "" ""\naxis 0 index type:=numeric\naxis 0 index values:=0 120.5 240'
MULTIVOLUME = (
    "MultiVolume.FrameLabels:=0,120500,240000\nMultiVolume.FrameIdentifyingDICOMTagName:=TriggerTime\n"
    "MultiVolume.FrameIdentifyingDICOMTagUnits:=ms"
)


@pytest.mark.parametrize("fields", [SEQUENCE, MULTIVOLUME])
def test_slicer_sequence_and_multivolume(tmp_path, fields):
    header = (
        "NRRD0005\ntype: float\ndimension: 4\nspace: left-posterior-superior\nsizes: 3 4 3 2\nendian: little\n"
        "space directions: none (0.7,0,0) (0,0.8,0) (0,0,1.1)\nkinds: list domain domain domain\nencoding: gzip\n"
        f"space origin: (1,2,3)\n{fields}\n\n"
    )
    data = np.stack(PHASES, axis=-1).astype("<f4").tobytes()
    (tmp_path / "dyn.seq.nrrd").write_bytes(header.encode() + gzip.compress(data))
    exam = load_exam([tmp_path / "dyn.seq.nrrd"])
    np.testing.assert_array_equal(exam.data, PHASES)
    assert exam.geometry == Geometry((4, 3, 2), (0.7, 0.8, 1.1), (1.0, 2.0, 3.0))
    assert exam.times == (0.0, 120.5, 240.0)
    assert exam.table.phases[0].source is TimeSource.NRRD


def test_progress_and_cancelling(tmp_path):
    class Told(Events):
        def __init__(self):
            super().__init__()
            self.told = []

        def show(self, event):
            if event["event"] == "progress":
                self.told.append((event["stage"], event["done"], event["total"]))

    folder = write_phases(tmp_path, ("1.nrrd", "2.nrrd", "3.nrrd"))
    events = Told()
    load_exam([folder], events=events)
    assert events.told == [("load", 0, 3), ("load", 1, 3), ("load", 2, 3), ("load", 3, 3)]
    events.cancel()
    with pytest.raises(Cancelled):
        load_exam([folder], events=events)


# What bad input gets: a typed error that names the file and says what to do.


def break_header(path, offset, form, value):
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, offset, value)
    path.write_bytes(raw)


def voxels(path, values):
    write_volume(values, OBLIQUE, path)


def with_nan(path):
    voxels(path, np.where(PRE == 7, np.nan, PRE))


def with_infinity(path):
    voxels(path, np.where(PRE == 7, np.inf, PRE))


def constant(path):
    voxels(path, np.full_like(PRE, 5))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-8])


def truncated_inside(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-8]))


def corrupt(path):
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF  # in the checksum
    path.write_bytes(raw)


def text(path):
    path.write_text("no image")


def empty(path):
    path.write_bytes(b"")


def zero_spacing(path):
    break_header(path, 84, "<f", 0.0)


def negative_spacing(path):
    break_header(path, 84, "<f", -0.8)


def nan_spacing(path):
    break_header(path, 84, "<f", float("nan"))


def flat(path):
    sitk.WriteImage(sitk.GetImageFromArray(PRE[0]), str(path))


def one_slice(path):
    sitk.WriteImage(sitk.GetImageFromArray(PRE[:1]), str(path))


def zero_spacing_mha(path):
    path.write_bytes(re.sub(rb"ElementSpacing = \S+", b"ElementSpacing = 0", path.read_bytes()))


def other_size(path):
    write_volume(np.zeros((2, 3, 5), np.float32), Geometry((5, 3, 2), OBLIQUE.spacing), path)


def other_place(path):
    moved = Geometry(OBLIQUE.size, OBLIQUE.spacing, (0.0, 20.25, 3.0), OBLIQUE.direction)
    write_volume(PRE, moved, path)


def header_sizes(path):
    break_header(path, 44, "<h", 0)


def nan_offset(path):
    break_header(path, 108, "<f", float("nan"))


def nan_place(path):
    break_header(path, 292, "<f", float("nan"))


def huge_spacing(path):
    break_header(path, 84, "<f", 1e20)


def colours(path):
    sitk.WriteImage(sitk.Compose([sitk.GetImageFromArray(PRE.astype(np.uint8))] * 3), str(path))


def complex_numbers(path):
    sitk.WriteImage(sitk.GetImageFromArray(PRE.astype(np.complex64)), str(path))


def many_dimensions(path):
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", b"NDims = 9999999999"))


def sheared(path):
    directions = b"space directions: (0.7,0.4,0) (0,0.8,0) (0,0,1.1)"
    path.write_bytes(re.sub(rb"space directions: [^\n]*", directions, path.read_bytes()))


BAD = [
    (".nii", header_sizes, "damaged: its header has the sizes"),
    (".nii", nan_offset, "damaged: its header has numbers"),
    (".nii", nan_place, "damaged: its header has numbers"),
    (".nii", huge_spacing, "spacing is 0.7 x 1e"),
    (".nii.gz", colours, "colours or vectors"),
    (".nrrd", colours, "colours or vectors"),
    (".nrrd", complex_numbers, "complex numbers"),
    (".mha", many_dimensions, "no usable NDims"),
    (".nrrd", sheared, "not at right angles"),
    (".nii.gz", with_nan, "not finite"),
    (".nii.gz", with_infinity, "not finite"),
    (".nii.gz", constant, "constant: every voxel is 5"),
    (".nii.gz", truncated, "damaged"),
    (".nii.gz", truncated_inside, "damaged: it holds"),
    (".nii.gz", corrupt, "damaged"),
    (".nii", truncated, "damaged: it holds"),
    (".nrrd", truncated, "can't be read"),
    (".nii.gz", text, "no NIfTI"),
    (".nii.gz", empty, "no NIfTI"),
    (".nrrd", text, "can't be read"),
    (".nii", zero_spacing, "spacing along y is 0 mm"),
    (".nii", negative_spacing, "spacing along y is -0.8 mm"),
    (".nii", nan_spacing, "spacing along y is nan mm"),
    (".mha", zero_spacing_mha, "spacing is 0 x 0.8 x 1.1 mm"),
    (".nii.gz", flat, "2D image"),
    (".nii.gz", one_slice, "2D image"),
    (".nii.gz", other_size, "another geometry than 'phase 1': size"),
    (".nii.gz", other_place, "another geometry than 'phase 1': origin"),
]


@pytest.mark.parametrize(("suffix", "break_it", "words"), BAD, ids=lambda value: getattr(value, "__name__", value))
def test_bad_volume(tmp_path, suffix, break_it, words, capfd):
    names = [f"p{i}{suffix}" for i in range(3)]
    folder = write_phases(tmp_path, names)
    break_it(folder / names[1])
    with pytest.raises(InputError, match=words) as caught:
        load_exam([folder])
    assert names[1] in caught.value.message
    assert caught.value.remedy
    assert caught.value.exit_code == 2
    assert "WARNING" not in capfd.readouterr().err


def test_every_fatal_problem_is_in_the_table(tmp_path):
    folder = write_phases(tmp_path, ("1.nrrd", "2.nrrd", "3.nrrd"))
    other_size(folder / "2.nrrd")
    other_size(folder / "3.nrrd")
    assert [problem.fatal for problem in read_phase_table([folder]).problems] == [True, True, False]
    with pytest.raises(InputError, match="1 more fatal"):
        load_exam([folder])


def test_one_phase_only(tmp_path):
    voxels(tmp_path / "a.nii.gz", PRE)
    (problem,) = load_exam([tmp_path]).table.problems
    assert not problem.fatal and "without contrast" in problem.remedy
    assert problem.message == "There is one phase only."  # a result keeps it; the name may be the patient's


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no DICOM files and no volumes") as caught:
        read_phase_table([tmp_path])
    assert str(tmp_path) in caught.value.message


def test_missing_path(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_phase_table([tmp_path / "gone"])


def test_mixed_list(tmp_path):
    voxels(tmp_path / "a.nii.gz", PRE)
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(InputError, match=r"b\.txt is no NIfTI"):
        read_phase_table([tmp_path / "a.nii.gz", tmp_path / "b.txt"])


def test_4d_file_is_no_mask(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.stack(PHASES), isVector=False), str(tmp_path / "dyn.nii.gz"))
    with pytest.raises(InputError, match="3 volumes"):
        read_volume(tmp_path / "dyn.nii.gz")


def test_one_file_twice(tmp_path):
    folder = write_phases(tmp_path, ("1.nrrd", "2.nrrd", "3.nrrd"))
    with pytest.raises(InputError, match=r"1\.nrrd is there twice"):
        read_phase_table([folder, folder / "1.nrrd"])


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """It is not called damaged."""

    def refuse(path, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    folder = write_phases(tmp_path, ("1.nii", "2.nii", "3.nii"))
    monkeypatch.setattr("pathlib.Path.open", refuse)
    for read in (read_volume, lambda path: load_exam([folder])):
        with pytest.raises(InputError, match=r"1\.nii can't be used: Permission denied") as caught:
            read(folder / "1.nii")
        assert caught.value.remedy


def test_a_header_that_promises_more_than_the_memory(tmp_path):
    for name in ("1.nii", "2.nii"):
        write_volume(PRE, OBLIQUE, tmp_path / name)
        for axis in range(3):
            break_header(tmp_path / name, 42 + 2 * axis, "<h", 32767)
    with pytest.raises((OutOfMemoryError, InputError)):
        load_exam([tmp_path])


def test_a_name_that_is_no_unicode(tmp_path):
    with pytest.raises(InputError, match="not valid Unicode"):
        read_phase_table([tmp_path / "\udcff.nii"])


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(InputError):
        read_phase_table([tmp_path / ("x" * 300)])
