"""What went wrong, said to people."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text


class Ended(RuntimeError):
    """Processes that this one had started ended with an exit code, and have said why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the ranks ended with exit code {code}, and have said why.")
        self.code = code


def sentence_of(error: Exception) -> str:
    """The error for people: an OSError with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def complain(what: str, message: str) -> None:
    """One line on standard error; never wrapped, so that a path can be copied from it."""
    sys.stdout.flush()
    text = Text.assemble((f"{what}: " if message else what, "bold red"), message)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
