"""What the real classes have: Slicer's and CTK's by the table, Qt's by Qt itself."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

EXCEPTIONS: dict[str, set[str]] = {
    # Base/QTCore/qSlicerBaseQTCorePythonQtDecorators.h:54, static_qSlicerCoreApplication_testingEnabled
    "qSlicerCoreApplication": {"testingEnabled"},
}
"""Members that the table misses, by class; each with the header and line that declare it."""


@cache
def table() -> dict[str, dict]:
    """The classes of slicer_api.json by name."""
    return json.loads((Path(__file__).parent / "slicer_api.json").read_text(encoding="utf-8"))["classes"]


@cache
def members(class_name: str) -> frozenset[str]:
    """Every member that a class of the table and its bases in the table have."""
    entry = table()[class_name]
    own = {*entry["properties"], *entry["slots"], *entry["signals"], *entry["invokable"]}
    own |= {value for values in entry["enums"].values() for value in values} | EXCEPTIONS.get(class_name, set())
    base = entry["base"]
    return frozenset(own | members(base) if base in table() else own)


class Strict:
    """Says of a missing member whether the real class has it."""

    API = ""

    def __getattr__(self, name: str) -> Any:
        if name in members(self.API):
            raise NotImplementedError(f"{self.API}.{name} is real, but the stand-in lacks it.")
        raise AttributeError(f"{self.API} has no member {name!r}, by slicer_api.json.")
