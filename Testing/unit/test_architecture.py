"""The design's rules on imports, held by walking the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import BreastTumorSegLib

LIBRARY = Path(BreastTumorSegLib.__file__).parent
# A package may import those before it, and itself; those on one line don't know each other.
ORDER = [
    ("core",),
    ("io", "kinetics", "metrics"),
    ("phantom",),
    ("networks",),
    ("segmentation", "training"),
    ("report",),
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# `evaluate` reads masks.
EXCEPTIONS = {("metrics", "io")}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", LEVEL)
def test_dependencies_never_point_backwards(package):
    for path in (LIBRARY / package).rglob("*.py"):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != "BreastTumorSegLib" or parts[1] in (package, "__version__"):
                continue
            assert LEVEL[parts[1]] < LEVEL[package] or (package, parts[1]) in EXCEPTIONS, f"{path}: {name}"


def test_the_library_knows_nothing_of_slicer():
    for path in LIBRARY.rglob("*.py"):
        heads = {name.split(".")[0] for name in imports_of(path)}
        assert not heads & {"slicer", "qt", "ctk", "vtk"}, path


@pytest.mark.parametrize("package", ["core", "io", "kinetics", "metrics"])
def test_what_slicer_imports_needs_no_torch(package):
    """Imports every module of the package in a process in which torch, monai and scikit-learn can't be imported."""
    modules = [
        ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
        for path in (LIBRARY / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    code = (
        "import importlib, sys\n"
        "for name in ('torch', 'monai', 'sklearn', 'slicer', 'qt', 'vtk'): sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parent)


def test_the_command_line_starts_without_torch():
    code = "import sys, BreastTumorSegLib.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parent)
