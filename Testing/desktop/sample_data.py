"""The module `SampleData`: notes what is registered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

sources: list[SimpleNamespace] = []
titles: dict[str, str] = {}


class SampleDataLogic:
    """Registers sample data."""

    @staticmethod
    def registerCustomSampleDataCategory(name: str, title: str) -> None:
        """Name a category."""
        titles[name] = title

    @staticmethod
    def registerCustomSampleDataSource(
        category: str, sampleName: str, uris: list, fileNames: list, thumbnailFileName: str, customDownloader: Any
    ) -> None:
        """Offer an exam."""
        sources.append(
            SimpleNamespace(
                category=category, sampleName=sampleName, thumbnailFileName=thumbnailFileName, download=customDownloader
            )
        )
