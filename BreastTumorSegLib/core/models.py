"""Where the model bundles are."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

REGISTRY = "registry.json"
DESCRIPTION = "model.json"
"""Of a bundle, in its folder."""


def models_folder() -> Path:
    """The folder of bundles: `BREASTTUMORSEG_MODELS` if set, else `models` inside the package, else beside it.

    An installed extension has them inside; the source tree has them beside.
    """
    package = Path(__file__).parents[1]
    if named := os.environ.get("BREASTTUMORSEG_MODELS"):
        return Path(named)
    inside = package / "models"
    return inside if (inside / REGISTRY).is_file() else package.parent / "models"


def maps_of(name: str, folder: Path | None = None) -> str | None:
    """Name of the model for clusters that a model takes maps of, by its description alone.

    None for most models; and where the description can't be read, which loading it tells.
    """
    return _named(name, "maps", folder)


def partner_of(name: str, folder: Path | None = None) -> str | None:
    """Name of the tumour model that another one is averaged with; None as of `maps_of`."""
    return _named(name, "averaged_with", folder)


def refinement_of(name: str, folder: Path | None = None) -> str | None:
    """Name of the model for refinement that looks at a tumour model's candidates again; None as of `maps_of`."""
    return _named(name, "refined_by", folder)


def version_of(name: str, folder: Path | None = None) -> str:
    """Version of a model, by its description alone; "1" where it has none, as an nnU-Net may."""
    version = _named(name, "version", folder)
    return "1" if version is None else version


def _named(name: str, field: str, folder: Path | None) -> str | None:
    with suppress(OSError, ValueError, AttributeError):
        return json.loads(((folder or models_folder()) / name / DESCRIPTION).read_bytes()).get(field)
    return None
