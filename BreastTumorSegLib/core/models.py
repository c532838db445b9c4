"""Where the model bundles are."""

from __future__ import annotations

import hashlib
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


def description_sha256(name: str, folder: Path | None = None) -> str | None:
    """Of what a model's description says, however it is laid out; None as of `maps_of`.

    The same weights answer otherwise with another threshold or peak.
    """
    with suppress(OSError, ValueError):
        described = json.loads(((folder or models_folder()) / name / DESCRIPTION).read_bytes())
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return None


def _named(name: str, field: str, folder: Path | None) -> str | None:
    with suppress(OSError, ValueError, AttributeError):
        return json.loads(((folder or models_folder()) / name / DESCRIPTION).read_bytes()).get(field)
    return None
