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
    ("phantom", "review"),
    ("networks",),
    ("segmentation",),
    ("training",),
    ("report",),
    ("jobs",),
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# What Slicer's own Python lacks until the user installs it, and what none of this may use.
ABSENT = (
    *("torch", "monai", "sklearn", "typer", "pydantic", "psutil", "safetensors", "matplotlib", "jinja2", "openvino"),
    *("slicer", "qt", "vtk"),
)
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


@pytest.mark.parametrize("package", ["core", "io", "kinetics", "metrics", "review"])
def test_what_slicer_imports_needs_no_torch(package):
    """Imports every module of the package in a process in which what Slicer's Python lacks can't be imported."""
    modules = [
        ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
        for path in (LIBRARY / package).rglob("*.py")
        if path.name != "__init__.py" and path.relative_to(LIBRARY).as_posix() != "kinetics/vqvae.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {ABSENT!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parent)


@pytest.mark.parametrize(
    "module", ["doctor", "__main__", "core.job", "core.requirements", "core.models", "core.machine"]
)
def test_what_tells_of_missing_packages_needs_the_standard_library_alone(module):
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        f"import BreastTumorSegLib.{module}\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "sys.exit(', '.join(new - set(sys.stdlib_module_names) - {'BreastTumorSegLib'}) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parent)


def test_modules_that_are_run_are_imported_once():
    """Python warns on standard error where a package imports what `-m` runs."""
    for module in ("io.convert", "doctor"):
        command = [sys.executable, "-W", "error", "-m", f"BreastTumorSegLib.{module}", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=LIBRARY.parent)
        assert (done.stderr, "usage" in done.stdout) == ("", True)


def test_the_command_line_starts_without_torch():
    code = "import sys, BreastTumorSegLib.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parent)
