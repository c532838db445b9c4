"""A cache of preprocessed exams on disk, keyed by the content of what they are made from.

Several processes may use it at once: an entry is made beside its place and renamed into it, and is never changed. Of
processes that make the same entry at once the first one wins; the others have made the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from BreastTumorSegLib.io.results import output_errors


class ContentCache:
    """Entries are folders, named by a key.

    Args:
        folder: Of the cache; made when the first entry is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, files: Iterable[Path], facts: dict[str, Any]) -> str:
        """The key of what is made from the content of `files`, in this order, and from `facts`, which JSON can hold."""
        said = json.dumps([facts, [self._digest(file) for file in files]], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def has(self, key: str) -> bool:
        """Whether an entry is there."""
        return self._place(key).is_dir()

    def free_bytes(self) -> int:
        """Space that is left on the cache's disk."""
        there = next(place for place in (self._folder, *self._folder.absolute().parents) if place.is_dir())
        return shutil.disk_usage(there).free

    def entry(self, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of an entry; where it is missing, `make` fills a new one.

        Raises:
            OutputError: The disk is full, or the cache may not be written.
        """
        place = self._place(key)
        if self.has(key):
            return place
        with output_errors(self._folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=place.parent, prefix=".making-"))
            try:
                make(made)
                made.chmod(0o755)  # temporary folders are their maker's alone
                try:
                    made.rename(place)
                except OSError:
                    if not self.has(key):  # else somebody was faster
                        raise
            finally:
                shutil.rmtree(made, ignore_errors=True)
        return place

    def _place(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _digest(self, file: Path) -> str:
        """A file's sha256; read again only where its size or time has changed, since cohorts are terabytes."""
        about = file.stat()
        name = f"{file.absolute()}|{about.st_size}|{about.st_mtime_ns}"
        note = self._folder / "files" / hashlib.sha256(name.encode()).hexdigest()[:32]
        with suppress(OSError):
            return note.read_text(encoding="ascii")
        digest = _sha256(file)
        with output_errors(self._folder):
            note.parent.mkdir(parents=True, exist_ok=True)
            beside = note.with_name(f".{note.name}-{os.getpid()}")
            beside.write_text(digest, encoding="ascii")
            beside.replace(note)
        return digest


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
