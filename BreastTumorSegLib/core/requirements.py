"""The packages that the library needs, and which of them are there. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

REQUIRED = (
    "torch>=2.8",
    "monai>=1.5.2",
    "SimpleITK>=2.3",
    "numpy>=1.26",
    "scipy>=1.11",
    "pydicom>=2.4",
    "safetensors>=0.4",
    "scikit-learn>=1.4",
    "matplotlib>=3.8",
    "jinja2>=3.1",
    "typer>=0.12",
    "pydantic>=2.6",
    "pillow>=10",
)
"""Names and lowest versions; a test holds this to what pyproject.toml says."""

_MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml", "pytorch-ignite": "ignite"}
_PACKAGES = {module: package for package, module in _MODULES.items()}


def name_of(requirement: str) -> str:
    """The package that a requirement such as "torch>=2.8" names."""
    return requirement.partition(">=")[0]


def module_of(package: str) -> str:
    """The module to import for a package, such as sklearn for scikit-learn."""
    return _MODULES.get(package, package)


def package_of(module: str) -> str:
    """The package to install for a module, such as scikit-learn for sklearn.metrics."""
    top = module.partition(".")[0]
    return _PACKAGES.get(top, top)


def missing(requirements: Iterable[str] = REQUIRED) -> list[str]:
    """The packages that can't be found, without importing any."""
    names = map(name_of, requirements)
    return [name for name in names if find_spec(module_of(name)) is None]
