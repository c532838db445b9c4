"""`python -m BreastTumorSegLib.doctor [--json | --events] [--results FOLDER]` tells what is there and what is missing.

It works with any package missing. Nothing that it tells names a user: the home folder is shown as `~`.
Exit codes: 0 ready, 2 not ready.

JSON (`--json`, and the event `finished` of `--events`) has:

- `ready`: bool; `remedies`: what to do where it is not, one sentence each; `hints`: what is worth knowing all the same
- `system`: {label: text}, such as version, Python, operating system, processors and memory
- `packages`: [{name, required, installed, ok}]; `installed` is null where it is missing; with PyTorch's build in it
- `devices`: [{id, name, memory_total_mb, memory_free_mb}]; `id` is what `--device` takes, "cpu" or "cuda"
- `models`: [{name, task, default, version, contrast, ok, message}]; `contrast` is false where it sees the pre-contrast
  phase alone, `ok` is null where it could not be checked
- `folders`: [{name, path, free_mb, writable}] of "results" (where one was given) and "temporary"
- `text`: all of it for people, to be copied into a report of a fault
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from BreastTumorSegLib import __version__
from BreastTumorSegLib.core.errors import BreastTumorSegError
from BreastTumorSegLib.core.events import JsonEvents
from BreastTumorSegLib.core.job import run_and_leave
from BreastTumorSegLib.core.machine import long_paths, memory_mb
from BreastTumorSegLib.core.models import REGISTRY, models_folder
from BreastTumorSegLib.core.requirements import REQUIRED, missing, module_of, name_of

NOT_READY = 2
LITTLE_DISK_MB = 2000
LITTLE_MEMORY_MB = 8000
TASKS = ("breast", "tumor")
_IN_SET_UP = "in the module's Set-up panel, or with pip"
# What importing a damaged or half-installed package raises.
_BROKEN = (ImportError, OSError, RuntimeError, AttributeError, ValueError, TypeError)


@dataclass(frozen=True)
class Package:
    """A required package; `installed` is None where it is missing."""

    name: str
    required: str
    installed: str | None
    ok: bool


@dataclass(frozen=True)
class Device:
    """Something to compute on; memory in MiB, None where it can't be told."""

    id: str
    name: str
    memory_total_mb: int | None
    memory_free_mb: int | None


@dataclass(frozen=True)
class Model:
    """A model bundle; `ok` is None where it could not be checked."""

    name: str
    task: str
    default: bool
    version: str
    contrast: bool
    ok: bool | None
    message: str


@dataclass(frozen=True)
class Folder:
    """A folder that is written to."""

    name: str
    path: str
    free_mb: int | None
    writable: bool


@dataclass(frozen=True)
class Report:
    """What was found; the module's docstring has the same as JSON."""

    system: dict[str, str]
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    models: tuple[Model, ...]
    folders: tuple[Folder, ...]
    hints: tuple[str, ...]
    remedies: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """True where nothing keeps a segmentation from working."""
        return not self.remedies

    @property
    def exit_code(self) -> int:
        """Of the process: 0 ready, 2 not ready."""
        return 0 if self.ready else NOT_READY

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ready": self.ready, **asdict(self), "text": self.text}

    @property
    def text(self) -> str:
        """Everything for people, in aligned columns; the last line says whether it is ready."""
        verdict = "Ready." if self.ready else f"Not ready: {' '.join(self.remedies)}"
        parts = [
            *_table(self.system.items()),
            *_section("Packages", (_package_row(package) for package in self.packages)),
            *_section("Devices", ((d.id, d.name, _memory(d.memory_total_mb, d.memory_free_mb)) for d in self.devices)),
            *_section("Models", (_model_row(model) for model in self.models)),
            *_section("Folders", (_folder_row(folder) for folder in self.folders)),
            *_section("Hints", ((hint,) for hint in self.hints)),
        ]
        return "\n".join([*parts, "", verdict])


@dataclass
class _Findings:
    """What is worth knowing, and what has to be done."""

    hints: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)


def examine(results: Path | None = None) -> Report:
    """Look at everything; importing PyTorch takes seconds.

    Args:
        results: Folder whose disk is looked at, whether it is there yet or not.
    """
    found = _Findings()
    return Report(
        _system(found),
        tuple(_packages(found)),
        tuple(_devices(found)),
        tuple(_models(found)),
        tuple(_folders(results, found)),
        tuple(map(_without_home, found.hints)),
        tuple(map(_without_home, found.remedies)),
    )


def shown(report: Report, as_json: bool) -> str:
    """The report as JSON or as text."""
    return json.dumps(report.as_dict(), indent=2) if as_json else report.text


def _system(found: _Findings) -> dict[str, str]:
    total, free = memory_mb()
    if total is not None and total < LITTLE_MEMORY_MB:
        found.hints.append(f"Less than {LITTLE_MEMORY_MB} MB of memory: large exams may not fit.")
    long = long_paths()
    if long is False:
        found.hints.append("Paths of more than 260 characters fail: keep results in a folder near the drive's root.")
    return {
        "BreastTumorSeg": __version__,
        "Python": f"{platform.python_version()} ({_kind_of_python()})",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Processors": str(os.cpu_count() or "unknown"),
        "Memory": _memory(total, free),
        "OpenVINO": "not installed (optional)" if missing(["openvino"]) else _version("openvino"),
        **({} if long is None else {"Long paths": "on" if long else "off"}),
    }


def _kind_of_python() -> str:
    if "slicer" in Path(sys.executable).stem.lower() or "slicer" in str(sys.prefix).lower():
        return "Slicer's"
    return "virtual environment" if sys.prefix != sys.base_prefix else "the system's"


def _packages(found: _Findings) -> list[Package]:
    packages = [_package(requirement) for requirement in REQUIRED]
    if wrong := [f"{p.name}{p.required}" for p in packages if not p.ok]:
        found.remedies.append(f"Install {', '.join(wrong)} {_IN_SET_UP}.")
    return packages


def _package(requirement: str) -> Package:
    name = name_of(requirement)
    lowest = requirement.removeprefix(f"{name}>=")
    installed = None if missing([requirement]) else _version(name)
    return Package(name, f">={lowest}", installed, installed is not None and at_least(installed, lowest))


def _version(package: str) -> str:
    """As its metadata say; else as it says itself, since Slicer's own packages may have no metadata."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
    try:
        return str(getattr(import_module(module_of(package)), "__version__", "unknown"))
    except _BROKEN:
        return "unknown"


def at_least(installed: str, lowest: str) -> bool:
    """Whether a version is no older than another, by the numbers of the release; one without numbers passes.

    Example:
        >>> at_least("2.13.0+cu130", "2.8")
        True
    """
    have, want = (
        [int(part) for part in match[0].split(".")] if (match := re.match(r"\d+(\.\d+)*", text)) else []
        for text in (installed, lowest)
    )
    length = max(len(have), len(want))
    padded = ([*numbers, *[0] * (length - len(numbers))] for numbers in (have, want))
    return not have or next(padded) >= next(padded)


def _devices(found: _Findings) -> list[Device]:
    devices = [Device("cpu", platform.processor() or platform.machine(), *memory_mb())]
    if "torch" in missing():
        return devices
    try:
        torch = import_module("torch")
    except _BROKEN as error:
        found.remedies.append(f"Install torch again {_IN_SET_UP}: it can't be loaded ({_brief(error)}).")
        return devices
    try:
        devices += _cuda_devices(torch, found)
    except RuntimeError as error:
        found.hints.append(f"The GPU can't be used: {_brief(error)}.")
    return devices


def _cuda_devices(torch: Any, found: _Findings) -> list[Device]:
    """The first CUDA device, which is the one that is used."""
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            found.hints.append(_why_no_cuda(torch.version.cuda))
        return []
    if (count := torch.cuda.device_count()) > 1:
        found.hints.append(f"{count} GPUs are there; the first one is used.")
    free, total = torch.cuda.mem_get_info(0)
    return [Device("cuda", torch.cuda.get_device_name(0), total >> 20, free >> 20)]


def _why_no_cuda(built_for: str | None) -> str:
    if built_for is None:
        return f"The NVIDIA GPU is not used: this PyTorch was built without CUDA. Install one with CUDA {_IN_SET_UP}."
    return f"The NVIDIA GPU is not used: update its driver, which may be too old for CUDA {built_for}."


def _models(found: _Findings) -> list[Model]:
    folder = models_folder()
    try:
        entries = json.loads((folder / REGISTRY).read_text(encoding="utf-8"))
        models = [
            _model(folder, str(name), str(entry["task"]), bool(entry.get("default"))) for name, entry in entries.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found.remedies.append(f"Install the models again: {folder / REGISTRY} can't be read ({_brief(error)}).")
        return []
    found.remedies += [f"Install the model {model.name} again." for model in models if model.ok is False]
    for task in TASKS:
        if not any(model.default and model.task == task for model in models):
            found.remedies.append(f"Install the models again: none is the default for {task}.")
    return models


def _model(folder: Path, name: str, task: str, default: bool) -> Model:
    try:
        described = json.loads((folder / name / "model.json").read_text(encoding="utf-8"))
        version, contrast = str(described["version"]), task == "breast" or described.get("phases") != ["pre"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        version, contrast = "unknown", True
    ok, message = _checked(folder, name, task)
    return Model(name, task, default, version, contrast, ok, _without_home(message))


def _checked(folder: Path, name: str, task: Any) -> tuple[bool | None, str]:
    """Whether a bundle can be loaded, and what is wrong with it."""
    needs = missing(["torch", "pydantic", "safetensors", "monai"])
    if needs:
        return None, f"not checked: needs {', '.join(needs)}"
    try:
        from BreastTumorSegLib.networks.bundle import Bundle, load_bundle
        from BreastTumorSegLib.segmentation.nnunet_models import load_tumor_model, without_contrast
        from BreastTumorSegLib.segmentation.noncontrast import load_clusters_model
        from BreastTumorSegLib.segmentation.refinement import load_refinement

        if task != "tumor":
            load_bundle(name, task, folder)
        elif without_contrast(tumor := load_tumor_model(name, folder)):
            load_clusters_model(tumor, folder)
        elif isinstance(tumor, Bundle):
            load_refinement(tumor, folder)
    except BreastTumorSegError as error:
        return False, error.message
    except _BROKEN as error:
        return None, f"not checked: {_brief(error)}"
    return True, "checksum ok"


def _folders(results: Path | None, found: _Findings) -> list[Folder]:
    named = {"results": results, "temporary": Path(tempfile.gettempdir())}
    folders = [_folder(name, path) for name, path in named.items() if path is not None]
    for folder in folders:
        if not folder.writable:
            found.remedies.append(f"Choose another {folder.name} folder: {folder.path} can't be written.")
        elif folder.free_mb is not None and folder.free_mb < LITTLE_DISK_MB:
            found.hints.append(f"The disk of the {folder.name} folder has only {folder.free_mb} MB free.")
    return folders


def _folder(name: str, path: Path) -> Folder:
    """Looks at the nearest folder that is there."""
    path = path.absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
        writable = True
    except OSError:
        writable = False
    try:
        free = shutil.disk_usage(there).free >> 20
    except OSError:
        free = None
    return Folder(name, _without_home(str(path)), free, writable)


def _without_home(text: str) -> str:
    """`text` with `~` in place of the home folder, which has the user's name in it."""
    home = Path.home()
    for place in {str(home), str(home.resolve()), home.as_posix()}:
        if len(Path(place).parts) > 1:
            text = re.sub(
                re.escape(place) + r"(?![\w-])", "~", text, flags=re.IGNORECASE if sys.platform == "win32" else 0
            )
    return text


def _brief(error: Exception) -> str:
    """The first line: what libraries add to it is for programmers."""
    return str(error).partition("\n")[0]


def _memory(total: int | None, free: int | None) -> str:
    if total is None:
        return "memory unknown"
    return f"{total} MB" + ("" if free is None else f", {free} MB free")


def _package_row(package: Package) -> tuple[str, ...]:
    state = "" if package.ok else "missing" if package.installed is None else "too old"
    return package.name, package.required, package.installed or "-", state


def _model_row(model: Model) -> tuple[str, ...]:
    use = "default" if model.default else "" if model.contrast else "without contrast"
    return model.name, model.task, model.version, use, model.message


def _folder_row(folder: Folder) -> tuple[str, ...]:
    free = "free space unknown" if folder.free_mb is None else f"{folder.free_mb} MB free"
    return folder.name, folder.path, free, "writable" if folder.writable else "not writable"


def _section(title: str, rows: Iterable[Sequence[str]]) -> list[str]:
    lines = _table(rows)
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report; `argv` is the process's without it.

    Raises:
        SystemExit: Always, with the exit code.
    """
    parser = argparse.ArgumentParser("python -m BreastTumorSegLib.doctor", description="Tells what is missing.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--events", action="store_true", help="as the event `finished`")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="folder whose disk is looked at, too")
    arguments = parser.parse_args(argv)
    report = examine(arguments.results)
    if arguments.events:
        JsonEvents(sys.stdout).finished(**report.as_dict())
    else:
        sys.stdout.write(shown(report, arguments.json) + "\n")
    raise SystemExit(report.exit_code)


if __name__ == "__main__":
    run_and_leave(main)
