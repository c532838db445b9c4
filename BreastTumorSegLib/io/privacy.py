"""Takes what could name a patient out of text that is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DATE = re.compile(r"(?<!\d)(\d{8}|\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](\d{4}|\d{2}))(?!\d)")
_WORD = re.compile(r"[^\W_]+")
# Shorter parts of a name, such as "Li", are only taken out as whole words.
_LONG = 4


def without_identity(text: str, identity: Sequence[str]) -> str:
    """`text` without dates and without any word of the patient's name, number or birth date.

    Example:
        >>> without_identity("ax dyn DOE 20240131 pre", ["Doe^Jane"])
        'ax dyn pre'
    """
    secret = {word.casefold() for value in identity for word in _WORD.findall(value) if len(word) > 1}

    def kept(match: re.Match[str]) -> str:
        word = match.group().casefold()
        hidden = word in secret or any(len(part) >= _LONG and part in word for part in secret)
        return "" if hidden else match.group()

    shown = _WORD.sub(kept, _DATE.sub("", text))
    return re.sub(r"([\s_^,-])[\s_^,-]+", r"\1", shown).strip(" _^,-")
