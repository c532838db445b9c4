"""What is installed, and installing what is missing: only when the user asks for it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import slicer

from BreastTumorSegGui import scratch
from BreastTumorSegGui.tasks import Work, follow
from BreastTumorSegGui.worker import Launcher
from BreastTumorSegLib.core.errors import DependencyError

REQUESTER = "BreastTumorSeg"
TORCH_AT_LEAST = (2, 8)
TORCH = ">=" + ".".join(map(str, TORCH_AT_LEAST))


class Setup:
    """Examines and completes the installation.

    Args:
        launcher: Starts the library.
        requirements: The file of packages that it needs beside PyTorch.
    """

    def __init__(self, launcher: Launcher, requirements: Path) -> None:
        self._launcher = launcher
        self._requirements = requirements

    def examine(self, results: Path) -> Work:
        """The work of a task that ends with what `doctor` found."""
        folder = scratch.new()
        found: dict[str, Any] = {}
        try:
            arguments = ["--events", "--results", str(results)]
            events = self._launcher.run("BreastTumorSegLib.doctor", arguments, folder / "log.txt")
            yield from follow(events, found.update)
            return found
        finally:
            scratch.discard(folder)

    def install(self) -> None:
        """Install what is missing from the package index: PyTorch through its extension, the rest with pip.

        Raises:
            DependencyError: The PyTorch extension is not installed.
            subprocess.CalledProcessError: pip failed.
        """
        self._install_torch()
        try:
            from slicer import packaging
        except ImportError:  # before Slicer 5.12
            slicer.util.pip_install(["-r", str(self._requirements)])
        else:
            wanted = packaging.load_requirements(self._requirements)
            packaging.pip_ensure(wanted, prompt_install=False, requester=REQUESTER)

    def install_from(self, folder: Path) -> None:
        """Install what is missing from a folder of wheels, without a network.

        Raises:
            DependencyError: The folder holds no wheels.
            subprocess.CalledProcessError: pip failed.
        """
        if not any(folder.glob("*.whl")):
            raise DependencyError(f"{folder} holds no wheels.", "Choose the folder with the .whl files.")
        source = ["--no-index", "--find-links", str(folder)]
        slicer.util.pip_install([*source, f"torch{TORCH}", "-r", str(self._requirements)])

    def _install_torch(self) -> None:
        try:
            import PyTorchUtils
        except ImportError as error:
            raise DependencyError(
                "Slicer's PyTorch extension is not installed.",
                "Install PyTorch in the Extensions Manager, restart Slicer, and come back; or install from wheels.",
            ) from error
        logic = PyTorchUtils.PyTorchUtilsLogic()
        if logic.torchInstalled():
            _refuse_old_torch()
        else:
            logic.installTorch(**_accepted(logic.installTorch, askConfirmation=False, torchVersionRequirement=TORCH))


def _refuse_old_torch() -> None:
    installed = version("torch")
    if tuple(map(int, installed.split(".")[:2])) < TORCH_AT_LEAST:
        raise DependencyError(
            f"PyTorch {installed} is too old; {TORCH} is needed.",
            "Uninstall it in the module PyTorch Utils, restart Slicer, and install again.",
        )


def as_text(report: dict[str, Any]) -> str:
    """What `doctor` found, for people."""
    return report.get("text") or json.dumps(report, indent=2)


def _accepted(function: Callable[..., Any], **wanted: Any) -> dict[str, Any]:
    """Those arguments that a function takes: the PyTorch extension has changed its own more than once."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in wanted.items() if name in known}
