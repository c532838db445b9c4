"""Modal dialogs: a test answers them beforehand; one that nobody answers fails the test instead of hanging."""

from __future__ import annotations

from typing import Any

answers: list[Any] = []
"""What the next dialogs get: True or False, a path, or a list of paths."""
messages: list[str] = []
"""Texts that were shown."""


class UnansweredDialogError(AssertionError):
    """A dialog came up that the test did not expect."""


def answer(text: str) -> Any:
    """The answer to a dialog."""
    messages.append(text)
    if not answers:
        raise UnansweredDialogError(f"Unexpected dialog: {text}")
    return answers.pop(0)


class FileDialog:
    """`qt.QFileDialog`'s static functions, as PythonQt has them: no tuple with the filter."""

    @staticmethod
    def getExistingDirectory(_parent: Any = None, title: str = "", _folder: str = "") -> str:
        """A folder; "" where it was cancelled."""
        return str(answer(title) or "")

    @staticmethod
    def getOpenFileName(_parent: Any = None, title: str = "", _folder: str = "", _filter: str = "") -> str:
        """A file; "" where it was cancelled."""
        return str(answer(title) or "")

    @staticmethod
    def getOpenFileNames(_parent: Any = None, title: str = "", _folder: str = "", _filter: str = "") -> tuple[str, ...]:
        """Files; none where it was cancelled."""
        return tuple(map(str, answer(title) or ()))


def message_box(text: str, parent: Any = None, **_more: Any) -> Any:
    """In the place of `slicer.util.messageBox`; gives the button that the test named."""
    from PySide6.QtWidgets import QMessageBox

    return QMessageBox.Ok if answer(text) else QMessageBox.Cancel
