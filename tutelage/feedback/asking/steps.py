"""Cutting a response into steps.  Joined, the steps are the response again, so that marks always fit the text."""

from __future__ import annotations

import re

from tutelage.feedback.asking.payloads import Splitter

# Where a step ends: just after the match.
_ENDS: dict[Splitter, re.Pattern[str]] = {
    "paragraphs": re.compile(r"\n[ \t]*\n\s*"),
    "lines": re.compile(r"\n\s*"),
    "sentences": re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n\s*"),
    "numbered": re.compile(r"\n\s*(?=(?:step\s+)?\(?\d{1,3}[.):]\s)", re.IGNORECASE),
}


def split_steps(text: str, splitter: Splitter) -> tuple[str, ...]:
    """The steps of a text, white space between them kept at the end of each; `"".join` of them is `text`.

    numbered: before each line like "2. ", "2) " or "Step 2: "; paragraphs: at blank lines; lines; sentences: after
    . ! ? and white space.  A text without a place to cut is one step; an empty one has none.
    """
    steps, start = [], 0
    for match in _ENDS[splitter].finditer(text):
        if text[start : match.end()].strip():
            steps.append(text[start : match.end()])
            start = match.end()
    rest = text[start:]
    if rest.strip() or not steps:
        steps.append(rest)
    else:
        steps[-1] += rest
    return tuple(step for step in steps if step)
