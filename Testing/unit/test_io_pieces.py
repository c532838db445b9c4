"""Volumes written and read in pieces; SimpleITK is the oracle, in both directions."""

import errno
import gzip
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.pieces import read_in_pieces, write_in_pieces
from BreastTumorSegLib.io.raw import run_through

# Two turns, by 3-4-5 triangles, so that no axis is along the patient's.
TURNED = (0.6, -0.64, 0.48, 0.8, 0.48, -0.36, 0.0, 0.6, 0.8)
OBLIQUE = Geometry((5, 4, 3), (0.7, 0.8, 1.1), (-10.5, 20.25, 3.0), TURNED)
TYPES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def numbers(dtype, shape=OBLIQUE.shape):
    """Different values everywhere, with the lowest and the highest of the type."""
    limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    values = np.arange(np.prod(shape)).astype(dtype)
    values[:2] = limits.min, limits.max
    return values.reshape(shape)


def write(array, path, geometry=OBLIQUE, **options):
    return list(write_in_pieces(array, geometry, path, **options))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def read(path):
    return run_through(read_in_pieces(path))


def same_place(image, geometry):
    assert image.GetSize() == geometry.size
    assert image.GetSpacing() == pytest.approx(geometry.spacing, abs=1e-9)
    assert image.GetOrigin() == pytest.approx(geometry.origin, abs=1e-9)
    assert image.GetDirection() == pytest.approx(geometry.direction, abs=1e-9)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", "<>")
def test_simpleitk_reads_what_is_written(tmp_path, dtype, order):
    array = numbers(dtype)
    write(array.astype(array.dtype.newbyteorder(order)), tmp_path / "a.nrrd")
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    found = sitk.GetArrayFromImage(image)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)
    same_place(image, OBLIQUE)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz"])
def test_what_simpleitk_writes_is_read(tmp_path, dtype, suffix):
    image = sitk.GetImageFromArray(numbers(dtype))
    image.SetSpacing(OBLIQUE.spacing)
    image.SetOrigin(OBLIQUE.origin)
    image.SetDirection(TURNED)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=False)
    found, geometry = read(tmp_path / f"a{suffix}")
    assert found.dtype == dtype and found.flags.writeable
    np.testing.assert_array_equal(found, numbers(dtype))
    assert geometry.difference(OBLIQUE) is None


def test_bool_is_stored_as_numbers(tmp_path):
    write(numbers("uint8") > 6, tmp_path / "a.nrrd")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nrrd")))
    assert found.dtype == np.uint8 and found.sum() == 54  # of 60, but for the first and 2 to 6


LAYOUTS = {
    "transposed": lambda a: np.asfortranarray(a),
    "flipped": lambda a: a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "a component of several": lambda a: np.stack([a, a + 1], axis=-1)[..., 0],
    "read only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece_bytes", [1, 25, 1000])
def test_any_layout_in_memory_and_any_size_of_pieces(tmp_path, layout, piece_bytes):
    array = numbers("int16")
    told = write(LAYOUTS[layout](array), tmp_path / "a.nrrd", piece_bytes=piece_bytes)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nrrd"))), array)
    # Rows have 10 bytes, and slices 4 of them: one row, two rows, or a whole slice in a piece.
    assert len(told) == {1: 12, 25: 6, 1000: 3}[piece_bytes]
    assert told == sorted(told) and told[-1] == 1.0 and names_in(tmp_path) == ["a.nrrd"]


def test_the_file_is_little_endian_and_uncompressed(tmp_path):
    write(np.array([[[1, 256]]], np.int16), tmp_path / "a.nrrd", Geometry((2, 1, 1), (1.0, 1.0, 1.0)))
    header, _, voxels = (tmp_path / "a.nrrd").read_bytes().partition(b"\n\n")
    assert voxels == b"\x01\x00\x00\x01"
    assert {b"space: left-posterior-superior", b"encoding: raw", b"type: short"} <= set(header.splitlines())


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_closing_early_leaves_what_was_there(tmp_path, steps):
    (tmp_path / "a.nrrd").write_text("old")
    pieces = write_in_pieces(numbers("int16"), OBLIQUE, tmp_path / "a.nrrd", piece_bytes=1)
    for _ in range(steps):
        next(pieces)
    assert (tmp_path / "a.nrrd").read_text() == "old"
    pieces.close()
    assert names_in(tmp_path) == ["a.nrrd"] and (tmp_path / "a.nrrd").read_text() == "old"


@pytest.mark.parametrize("array", [np.zeros((3, 4, 6), np.int16), np.zeros((3, 4, 5), np.float16)])
def test_arrays_that_can_not_be_written(tmp_path, array):
    with pytest.raises(ValueError, match=r"does not fit|no voxels of type"):
        write(array, tmp_path / "a.nrrd")
    assert names_in(tmp_path) == []


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(OutputError, match=r"a\.nrrd can't be written"):
        write(numbers("int16"), tmp_path / "gone" / "a.nrrd")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full device")
def test_a_full_disk(tmp_path):
    """The partial file is a link to a device that is always full."""
    (tmp_path / "a.nrrd.partial").symlink_to("/dev/full")
    geometry = Geometry((200, 200, 2), (1.0, 1.0, 1.0))
    with pytest.raises(OutputError, match="disk is full") as caught:
        write(np.zeros(geometry.shape, np.int16), tmp_path / "a.nrrd", geometry)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert names_in(tmp_path) == []


def nifti(stored, slope=1.0, intercept=0.0, order="<", extension=b""):
    """A NIfTI file, written out by hand."""
    header = bytearray(348)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "4h", header, 40, 3, *stored.shape[::-1])
    struct.pack_into(order + "2h", header, 70, 4, 16)
    struct.pack_into(order + "4f", header, 76, 1, 0.7, 0.8, 1.1)
    struct.pack_into(order + "3f", header, 108, 352 + len(extension), slope, intercept)
    header[344:347] = b"n+1"
    return (
        bytes(header) + struct.pack("4b", bool(extension), 0, 0, 0) + extension + stored.astype(order + "i2").tobytes()
    )


STORED = np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 9


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(0.0, 3.0, np.int16), (1.0, 0.0, np.int16), (float("nan"), 0.0, np.int16), (0.5, -2.0, np.float32)],
)
def test_scaling_and_byte_order(tmp_path, order, pack, slope, intercept, dtype):
    (tmp_path / "a.nii.gz").write_bytes(pack(nifti(STORED, slope, intercept, order)))
    found, _ = read(tmp_path / "a.nii.gz")
    assert found.dtype == dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, STORED * 0.5 - 2 if dtype is np.float32 else STORED)


def test_extensions_and_several_gzip_members(tmp_path):
    """Extensions stand before the voxels; tools that compress in parallel write several members."""
    whole = nifti(STORED, extension=struct.pack("2i", 16, 6) + b"comment ")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole[:200]) + gzip.compress(whole[200:]) + bytes(8))
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz")[0], STORED)


@pytest.mark.parametrize("end", [-1, -60, 400, 360])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated_nifti(tmp_path, pack, end):
    (tmp_path / "a.nii.gz").write_bytes(pack(nifti(STORED)[:end]))
    with pytest.raises(InputError, match=r"a\.nii\.gz is damaged: it holds \d+ of 472 bytes"):
        read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("end", [-1, -8, -20])
def test_compressed_data_that_end_early(tmp_path, end):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti(STORED))[:end])
    with pytest.raises(InputError, match="end early"):
        read(tmp_path / "a.nii.gz")


def test_a_checksum_that_is_wrong(tmp_path):
    raw = bytearray(gzip.compress(nifti(STORED)))
    raw[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path / "a.nii.gz")


def test_a_compressed_header_that_promises_the_impossible(tmp_path):
    """A thousand million voxels in a file of some hundred bytes: nothing is allocated for them."""
    raw = bytearray(nifti(STORED))
    struct.pack_into("<3h", raw, 42, 1000, 1000, 1000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(InputError, match="of 2000000352 bytes"):
        read(tmp_path / "a.nii.gz")


def test_truncated_nrrd(tmp_path):
    write(numbers("int16"), tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.nrrd is damaged: it holds"):
        read(tmp_path / "a.nrrd")


def test_big_endian_nrrd(tmp_path):
    header = (
        b"NRRD0004\ntype: int16\ndimension: 3\nspace: LPS\nsizes: 5 4 3\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    )
    header += b"space origin: (0,0,0)\nendian: big\nencoding: raw\n# comment: none\nkey:=value: 1\n\n"
    (tmp_path / "a.nrrd").write_bytes(header + STORED.astype(">i2").tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.nrrd")[0], STORED)


def test_files_that_are_of_another_kind(tmp_path):
    image = sitk.GetImageFromArray(STORED)
    sitk.WriteImage(image, str(tmp_path / "packed.nrrd"), useCompression=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([STORED] * 2), isVector=False), str(tmp_path / "b.nrrd"))
    for name, words in {
        "packed.nrrd": "no uncompressed NRRD",
        "a.mha": "no NIfTI or NRRD",
        "b.nrrd": "2 volumes",
        "gone.nii": "does not exist",
    }.items():
        with pytest.raises(InputError, match=words):
            read(tmp_path / name)


def gaps(pieces):
    """Seconds before each yield."""
    seconds, start = [], time.perf_counter()
    for _ in pieces:
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return seconds


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.nii.gz"])
def test_no_piece_takes_long(tmp_path, name):
    """46 MiB in at least 46 pieces, of which none takes a good part of the whole."""
    geometry = Geometry((400, 300, 200), (1.0, 1.0, 1.0))
    array = np.arange(24_000_000, dtype=np.int16).reshape(geometry.shape)
    if name == "a.nrrd":
        assert len(gaps(write_in_pieces(array, geometry, tmp_path / name))) >= 46
    else:
        raw = nifti(array)
        (tmp_path / name).write_bytes(gzip.compress(raw, 1) if name.endswith("gz") else raw)
    seconds = gaps(read_in_pieces(tmp_path / name))
    assert len(seconds) >= 46
    assert max(seconds) < max(0.5 * sum(seconds), 0.02)
