"""What models answered when an author tried a problem: kept here until the problem is kept or others have been tried since."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence

from tutelage.feedback.refining.authoring import Tried
from tutelage.records import Prompt

MOST = 200  # problems


class Trials:
    """The answers by a secret name, so that what is stored later is what a model said, not what a browser says it said."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[str, tuple[Tried, ...]]] = OrderedDict()

    def keep(self, user: str, prompt: Prompt, tried: Sequence[Tried]) -> str:
        """Keep some answers; returns their name."""
        name = secrets.token_urlsafe(16)
        self._kept[user, name] = (prompt.id, tuple(tried))
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return name

    def of(self, user: str, name: str, prompt: Prompt) -> tuple[Tried, ...]:
        """The answers to this prompt; none where it was changed since, or the server was started anew."""
        asked, tried = self._kept.get((user, name), ("", ()))
        return tried if asked == prompt.id else ()

    def drop(self, user: str, name: str) -> None:
        """They are stored."""
        self._kept.pop((user, name), None)
