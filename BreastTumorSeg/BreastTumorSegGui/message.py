"""What a panel says."""

from __future__ import annotations

import qt


def tell(label: qt.QLabel, text: str) -> None:
    """Show a text; without one the label takes no room."""
    label.text = text
    label.visible = bool(text)
