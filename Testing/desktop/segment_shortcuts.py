"""The Segment Editor's keys, as qMRMLSegmentEditorWidget::installKeyboardShortcuts has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from PySide6 import QtGui, QtWidgets

EFFECTS = 10
SEGMENTS = (("Q", -1), ("W", 1), ("/", -1), ("*", 1), (",", -1), (".", 1), (">", -1), ("<", 1))


def install(editor: Any, parent: QtWidgets.QWidget) -> list[QtGui.QShortcut]:
    """Make the shortcuts in a window."""
    made = []
    for key, slot in _keys(editor):
        shortcut = QtGui.QShortcut(QtGui.QKeySequence(key), parent)
        shortcut.activated.connect(slot)
        made.append(shortcut)
    return made


def _keys(editor: Any) -> Iterator[tuple[Any, Callable[[], None]]]:
    for index in range(1, EFFECTS + 1):
        yield str(index % 10), lambda index=index: _toggle(editor, editor.effectByIndex(index))
        yield f"Shift+{index % 10}", lambda index=index: _toggle(editor, editor.effectByIndex(EFFECTS + index))
    yield "Escape", lambda: _toggle(editor, None)
    yield "Space", lambda: _toggle_last(editor)
    for key in ("Z", QtGui.QKeySequence.StandardKey.Undo):
        yield key, editor.undo
    for key in ("Y", QtGui.QKeySequence.StandardKey.Redo):
        yield key, editor.redo
    for key, offset in SEGMENTS:
        yield key, lambda offset=offset: editor.selectSegmentAtOffset(offset)
    yield "I", editor.toggleSourceVolumeIntensityMaskEnabled


def _toggle(editor: Any, effect: Any) -> None:
    if not editor.readOnly:
        editor.setActiveEffect(None if effect is editor.activeEffect() else effect)


def _toggle_last(editor: Any) -> None:
    if not editor.readOnly:
        editor.setActiveEffect(editor._last)
