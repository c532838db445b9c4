"""What belongs to this computer and not to the scene: kept in Slicer's settings."""

from __future__ import annotations

import json
from pathlib import Path

import qt

DEFAULT_STAGE_SECONDS = {"export": 1.0, "load": 2.0, "models": 3.0, "breast": 3.0, "tumor": 7.0, "kinetics": 1.3,
                         "clusters": 1.1, "lesions": 0.1, "write": 2.0, "report": 1.0, "import": 3.0}  # fmt: skip
"""Until a first run has measured them: a whole exam on two CPU cores."""
NONCONTRAST_STAGE_SECONDS = {"export": 0.3, "load": 0.5, "models": 3.0, "breast": 3.0, "clusters": 2.5, "tumor": 2.5,
                             "lesions": 0.1, "write": 1.5, "report": 1.0, "import": 2.0}  # fmt: skip
"""The same without contrast, where stages come in another order."""


class Settings:
    """Results folder, device, model, and how long each stage took here."""

    PREFIX = "BreastTumorSeg/"

    @property
    def results_folder(self) -> Path:
        """Where results go; a folder in the user's documents unless chosen."""
        documents = qt.QStandardPaths.writableLocation(qt.QStandardPaths.DocumentsLocation)
        return Path(self._get("ResultsFolder", "") or Path(documents) / "BreastTumorSeg")

    @results_folder.setter
    def results_folder(self, folder: Path) -> None:
        self._set("ResultsFolder", str(folder))

    @property
    def reader(self) -> str:
        """Who reviews; "" until said."""
        return self._get("Reader", "")

    @reader.setter
    def reader(self, name: str) -> None:
        self._set("Reader", name)

    @property
    def reviews_folder(self) -> Path:
        """Where readers' stores are; a folder beside the results unless chosen."""
        return Path(self._get("ReviewsFolder", "") or self.results_folder / "reviews")

    @reviews_folder.setter
    def reviews_folder(self, folder: Path) -> None:
        self._set("ReviewsFolder", str(folder))

    @property
    def device(self) -> str:
        """Chosen device: "auto", "cpu" or "cuda"."""
        return self._get("Device", "auto")

    @device.setter
    def device(self, device: str) -> None:
        self._set("Device", device)

    @property
    def model(self) -> str:
        """Chosen tumour model; "" for the registry's default."""
        return self._get("Model", "")

    @model.setter
    def model(self, model: str) -> None:
        self._set("Model", model)

    def stage_seconds(self, device: str, contrast: bool = True) -> dict[str, float]:
        """How long each stage took on a device, last time, in the order of the stages."""
        usual = DEFAULT_STAGE_SECONDS if contrast else NONCONTRAST_STAGE_SECONDS
        try:
            return {**usual, **json.loads(self._get(_stages_key(device, contrast), "{}"))}
        except ValueError:
            return dict(usual)

    def keep_stage_seconds(self, device: str, seconds: dict[str, float], contrast: bool = True) -> None:
        """Note how long each stage took on a device."""
        self._set(_stages_key(device, contrast), json.dumps(seconds))

    def _get(self, key: str, default: str) -> str:
        return qt.QSettings().value(self.PREFIX + key, default) or default

    def _set(self, key: str, value: str) -> None:
        qt.QSettings().setValue(self.PREFIX + key, value)


def _stages_key(device: str, contrast: bool) -> str:
    return f"StageSeconds/{device}" if contrast else f"StageSeconds/{device}/WithoutContrast"
