"""The reference texts of prompts: what an output is compared with, in whichever of the usual forms it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("references", "reference", "targets", "target", "answers", "answer", "texts", "text", "summary")
"""Under which of these names a mapping holds its text, or texts; the first that is there counts."""


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts in a reference: a text, a number, a list of these, a conversation (its last turn), or a mapping with one of
    `NAMES`.  None in anything else; a text without a character is none."""
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (str(value),)
    if isinstance(value, Mapping):
        name = next((name for name in NAMES if name in value), "")
        return texts_of(value[name]) if name else ()
    if isinstance(value, Sequence):
        if value and isinstance(value[-1], Mapping) and "role" in value[-1]:
            return texts_of(value[-1].get("content"))
        return tuple(dict.fromkeys(text for one in value for text in texts_of(one)))
    return ()
