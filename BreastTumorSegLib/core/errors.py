"""Typed errors. Each has a message that names the file and the value, a remedy, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class BreastTumorSegError(Exception):
    """Base of all errors that a user can meet.

    Args:
        message: What is wrong, naming the file and the value.
        remedy: What the user can do about it, as a full sentence.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(BreastTumorSegError):
    """The input can't be used: missing, damaged, inconsistent, or not an exam."""

    exit_code = 2


class OutputError(BreastTumorSegError):
    """The result can't be written: not writable, already there, or the disk is full."""

    exit_code = 2


class ModelError(BreastTumorSegError):
    """A model bundle is missing, incomplete, or not what its checksum says."""

    exit_code = 3


class OutOfMemoryError(BreastTumorSegError):
    """Memory ran out after every fallback."""

    exit_code = 4


class Cancelled(BreastTumorSegError):
    """The user cancelled."""

    exit_code = 5

    def __init__(self) -> None:
        super().__init__("Cancelled.", "Nothing half-written was left.")


@contextmanager
def typed_errors() -> Iterator[None]:
    """Give what the operating system says (not readable, vanished, a disk that fails) and a lack of memory their type.

    A broken pipe is left as it is: nobody is there to be told.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = str(error.filename or "A file").encode(errors="replace").decode()
        raise InputError(
            f"{where} can't be used: {error.strerror or error}.", "Check that it is there, and that you may use it."
        ) from error
    except MemoryError as error:
        raise OutOfMemoryError(
            "The memory is too small for this exam.", "Close other programs, or use a computer with more memory."
        ) from error
