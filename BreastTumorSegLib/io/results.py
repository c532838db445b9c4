"""The results folder: written beside its place, and renamed into it last."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.io.files import check_name

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def results_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden folder to write results into; it becomes `out` when the block ends without an exception.

    Any exception removes it, so that `out` is either whole or not there. A folder that is already there is replaced
    with `overwrite` only, and then kept beside as `NAME-previous-YYYYmmdd-HHMMSS`.

    Raises:
        OutputError: `out` is there and not empty, its parent is not writable, or the disk is full.
    """
    with output_errors(out):
        # A link stays a link; what it points to is made or replaced.
        out = Path(out).resolve()
        check_name(out)
        _refuse_immovable(out)
        if not overwrite:
            _refuse_existing(out)
    staging = out.with_name(f"{_staging_prefix(out)}{os.getpid()}")
    try:
        with output_errors(out):
            staging.mkdir(parents=True)
        # Other errors of the block are the caller's own, such as an input that may not be read.
        with output_errors(out, _FULL):
            yield staging
        with output_errors(out):
            _put_in_place(staging, out, overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def refuse_over_input(sources: Sequence[Path], out: Path) -> None:
    """Overwriting would move the input away, and leave results where it was.

    Raises:
        OutputError: `out` is one of the sources, or holds one.
    """
    if any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        raise OutputError(f"{out} is the input or holds it.", "Choose another folder for the results.")


def unfinished_folders(out: Path) -> list[Path]:
    """Folders beside `out` that jobs for it have not finished: of a job that runs, or of one that was killed."""
    out = Path(out).resolve()
    prefix = _staging_prefix(out)
    try:
        return sorted(path for path in out.parent.iterdir() if path.name.startswith(prefix))
    except OSError:
        return []


def remove_unfinished(out: Path) -> None:
    """Remove what jobs for `out` that were killed have left beside it.

    A folder is renamed first: should its job still run, that job fails, and can't put half a result in place.
    """
    for folder in unfinished_folders(out):
        doomed = folder.with_name(f"{folder.name}-removed-{os.getpid()}")
        with suppress(OSError):
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _staging_prefix(out: Path) -> str:
    return f".{out.name}.partial-"


def _refuse_immovable(out: Path) -> None:
    """The root of a disk, a shared folder of a container, a device or a pipe is never moved, not even to keep it."""
    if out.is_mount():
        raise OutputError(f"{out} is a whole disk or share.", "Name a new folder inside it.")
    if out.exists() and not (out.is_dir() or out.is_file()):
        raise OutputError(f"{out} is no folder.", "Name a new folder for the results.")


def _refuse_existing(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} is already there.", "Choose another folder, or overwrite where the command can (--overwrite)."
        )


def _put_in_place(staging: Path, out: Path, overwrite: bool) -> None:
    if not overwrite:
        _refuse_existing(out)
    if out.is_dir() and not any(out.iterdir()):
        # Windows can't rename onto an empty folder.
        out.rmdir()
    previous = _kept_name(out)
    if out.exists():
        out.rename(previous)
    try:
        staging.rename(out)
    except OSError:
        if previous.exists():
            previous.rename(out)
        raise


def _kept_name(out: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = [f"{out.name}-previous-{stamp}", *(f"{out.name}-previous-{stamp}-{i}" for i in range(2, 100))]
    return next(out.with_name(name) for name in names if not out.with_name(name).exists())


@contextmanager
def output_errors(out: Path, codes: set[int] | None = None) -> Iterator[None]:
    """Type what the operating system says while `out` is written: the errors of these codes, or of any.

    Raises:
        OutputError: The disk is full, or `out` may not be written.
    """
    try:
        yield
    except OSError as error:
        if codes is not None and error.errno not in codes:
            raise
        if error.errno in _FULL:
            raise OutputError(
                f"{out} can't be written: the disk is full.", "Free space, or use another disk."
            ) from error
        raise OutputError(f"{out} can't be written: {error.strerror}.", "Choose a folder you may write to.") from error
