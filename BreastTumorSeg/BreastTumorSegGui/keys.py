"""Keys that work wherever the focus is in Slicer's window, while they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt
import slicer


class Keys:
    """Shortcuts of the main window. Two for one key make Qt call neither, so only the open section's are on.

    Args:
        actions: What each key does, by its name in Qt.
        repeated: Whether a key that is held does it again and again.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]], repeated: bool = False) -> None:
        self._actions = actions
        self._repeated = repeated
        self._shortcuts: dict[str, qt.QShortcut] = {}

    def switch(self, on: bool) -> None:
        """Let them work, or not."""
        if on and not self._shortcuts:
            self._shortcuts = {key: self._shortcut(key, action) for key, action in self._actions.items()}
        elif not on:
            for key, shortcut in self._shortcuts.items():
                shortcut.disconnect("activated()", self._actions[key])
                shortcut.setParent(None)
                shortcut.deleteLater()
            self._shortcuts = {}

    def _shortcut(self, key: str, action: Callable[[], None]) -> qt.QShortcut:
        shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow())
        shortcut.setAutoRepeat(self._repeated)
        shortcut.connect("activated()", action)
        return shortcut
