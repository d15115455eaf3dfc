"""Anthropic's transcripts: turns that begin with an empty line and "Human:" or "Assistant:"."""

from __future__ import annotations

import re

from tutelage.records import Message

_MARK = re.compile(r"(?:^|\n[ \t\r]*\n)[ \t]*(Human|Assistant)[ \t]*:")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text begins with somebody's turn."""
    return _MARK.match(text.strip()) is not None


def is_dialogue(text: str) -> bool:
    """Whether a text is a transcript in which a person speaks and an assistant answers."""
    first = _MARK.match(text.strip())
    if first is None or first[1] != "Human":
        return False
    return any(found[1] == "Assistant" for found in _MARK.finditer(text.strip()))


def read_transcript(text: str) -> tuple[Message, ...]:
    """The turns, without the white space around them."""
    parts = _MARK.split(text.strip())
    return tuple(
        Message(_ROLES[role], said.strip()) for role, said in zip(parts[1::2], parts[2::2], strict=True)
    )
