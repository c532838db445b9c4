"""Typed errors. Each has a message that names the file and the value, a remedy, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from BreastTumorSegLib.core.requirements import missing, package_of

# What Windows says where a package's own libraries are not there or don't start.
_LIBRARY_NOT_LOADED = {126, 127, 1114}
_INSTALL = "Install {} in the module's Set-up panel, or with pip."


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


class DependencyError(BreastTumorSegError):
    """A package that the library needs is not installed, or can't be loaded."""

    exit_code = 3


class OutOfMemoryError(BreastTumorSegError):
    """Memory ran out after every fallback."""

    exit_code = 4


class Cancelled(BreastTumorSegError):
    """The user cancelled."""

    exit_code = 5

    def __init__(self) -> None:
        super().__init__("Cancelled.", "Nothing half-written was left.")


def require_packages() -> None:
    """Tell at the start of a job what would end it in the middle.

    Raises:
        DependencyError: A required package is not installed.
    """
    names = missing()
    if names:
        verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
        raise DependencyError(f"{', '.join(names)} {verb} not installed.", _INSTALL.format(them))


@contextmanager
def typed_errors() -> Iterator[None]:
    """Give what the operating system says, a lack of memory and a missing package their type.

    The operating system says that a file is not readable, has vanished, or that a disk fails. A broken pipe is left as
    it is: nobody is there to be told.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except ImportError as error:
        raise _dependency_error(error) from error
    except OSError as error:
        if getattr(error, "winerror", None) in _LIBRARY_NOT_LOADED:
            raise _dependency_error(error) from error
        where = str(error.filename or "A file").encode(errors="replace").decode()
        raise InputError(
            f"{where} can't be used: {error.strerror or error}.", "Check that it is there, and that you may use it."
        ) from error
    except MemoryError as error:
        raise OutOfMemoryError(
            "The memory is too small for this exam.", "Close other programs, or use a computer with more memory."
        ) from error


def _dependency_error(error: ImportError | OSError) -> Exception:
    """The typed error of a package; an import that fails within the library is a bug and stays what it is."""
    name = getattr(error, "name", None) or ""
    package = package_of(name)
    if package == __name__.partition(".")[0]:
        return error
    if isinstance(error, ModuleNotFoundError) and name and "." not in name:
        return DependencyError(f"{package} is not installed.", _INSTALL.format("it"))
    return DependencyError(
        f"{package or 'A package'} is installed, but can't be loaded: {error}.", _INSTALL.format("it again")
    )
