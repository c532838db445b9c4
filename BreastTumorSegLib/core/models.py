"""Where the model bundles are."""

from __future__ import annotations

import os
from pathlib import Path

REGISTRY = "registry.json"


def models_folder() -> Path:
    """The folder of bundles: `BREASTTUMORSEG_MODELS` if set, else `models` inside the package, else beside it.

    An installed extension has them inside; the source tree has them beside.
    """
    package = Path(__file__).parents[1]
    if named := os.environ.get("BREASTTUMORSEG_MODELS"):
        return Path(named)
    inside = package / "models"
    return inside if (inside / REGISTRY).is_file() else package.parent / "models"
