"""NRRD headers: times of the sequences and multivolumes that Slicer writes, and uncompressed volumes."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.raw import Layout, damaged, truncated, voxels_in_pieces

_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "milliseconds": 1e-3, "min": 60.0}
# The format's names of each number type; the first is the one that is written.
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("unsigned char", "uchar", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("unsigned int", "uint", "uint32", "uint32_t"),
    "i8": ("long long int", "longlong", "long long", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("unsigned long long int", "ulonglong", "unsigned long long", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_LONGEST_HEADER = 1 << 16


def frame_clocks(header: Mapping[str, str], count: int) -> list[dict[TimeSource, float]]:
    """Time of each volume, in seconds, as far as the header has numbers with a unit of time.

    Args:
        header: Key-value pairs of the file, as SimpleITK names them.
        count: Volumes in the file.
    """
    if "MultiVolume.FrameLabels" in header:
        unit = header.get("MultiVolume.FrameIdentifyingDICOMTagUnits", "")
        listed = header["MultiVolume.FrameLabels"].split(",")
    else:
        unit = header.get("NRRD_units[pixel]", "")
        listed = next((v.split() for k, v in header.items() if re.fullmatch(r"axis [03] index values", k)), [])
    scale = _SECONDS.get(unit.strip().strip('"').lower())
    values = _numbers(listed)
    if scale is None or len(values) != count:
        return [{} for _ in range(count)]
    return [{TimeSource.NRRD: value * scale} for value in values]


def _numbers(listed: list[str]) -> list[float]:
    try:
        return [float(text) for text in listed]
    except ValueError:
        return []


def header(dtype: np.dtype, geometry: Geometry) -> bytes:
    """Header of an uncompressed 3D volume whose voxels follow it, little-endian.

    Raises:
        ValueError: NRRD has no such number type.
    """
    code = f"{dtype.kind}{dtype.itemsize}"
    if code not in _TYPES:
        raise ValueError(f"NRRD has no voxels of type {dtype}.")
    axes = " ".join(_vector(geometry.matrix[:3, axis]) for axis in range(3))
    return (
        f"NRRD0004\ntype: {_TYPES[code][0]}\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, geometry.size))}\nspace directions: {axes}\nkinds: domain domain domain\n"
        f"endian: little\nencoding: raw\nspace origin: {_vector(geometry.origin)}\n\n"
    ).encode()


def read_in_pieces(path: Path) -> Generator[float, None, np.ndarray]:
    """Voxels (Z, Y, X) of an uncompressed volume in one file, yielding the fraction done.

    Raises:
        InputError: It is compressed, has its voxels in another file, is truncated or no NRRD file.
    """
    with path.open("rb") as stream:
        layout = _layout(stream.read(_LONGEST_HEADER), path)
        if (there := path.stat().st_size) < layout.bytes:
            raise truncated(path, there, layout)
        return (yield from voxels_in_pieces(stream, layout, path))


def _layout(start: bytes, path: Path) -> Layout:
    text, end, _ = start.partition(b"\n\n")
    fields = dict(re.findall(r"^([\w ]+): *(.*?) *$", text.decode(errors="replace"), re.MULTILINE))
    if not (start.startswith(b"NRRD") and end):
        raise damaged(path, "it has no NRRD header")
    elsewhere = {"data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"}.intersection(fields)
    if fields.get("encoding") != "raw" or elsewhere:
        raise InputError(f"{path} is no uncompressed NRRD file of its own.", "Save it uncompressed, or as NIfTI.")
    code = next((code for code, names in _TYPES.items() if fields.get("type") in names), None)
    sizes = fields.get("sizes", "").split()
    if code is None or not sizes or not all(size.isdecimal() for size in sizes):
        raise damaged(path, "its header has no usable type or sizes")
    order = ">" if fields.get("endian") == "big" else "<"
    return Layout(tuple(map(int, sizes)), np.dtype(order + code), len(text) + len(end))


def _vector(values: Iterable[float]) -> str:
    """All digits of each number."""
    return f"({','.join(repr(float(value)) for value in values)})"
