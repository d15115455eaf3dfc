"""What a database says, as one sentence that tells what is wrong and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

BUSY_SECONDS = 30.0  # how long a statement waits for another process's transaction to end
_FULL = "no space left to write {place}: free some and repeat the command; what was stored is safe."
_SENTENCES = (  # a part of what it says, in lower case -> what that means
    ("not a database", "{place} is not an SQLite database: choose another store=."),
    (
        "malformed",
        "{place} is damaged ({said}): put a backup in its place with `tutelage feedback restore-backup`, or choose "
        "another store=.",
    ),
    (
        "locked",
        "{place} has been locked by another process for {busy:g} s: wait for that process, or end it.",
    ),
    ("nul (0x00)", "a text holds a NUL character (U+0000), which no database keeps: take it out."),
    ("full", _FULL),
    ("readonly", "{place} cannot be written: change its permissions, or choose another store=."),
    ("unable to open", "{place} cannot be opened: check that the folder exists and can be written."),
    ("connection refused", "no server answers at {place}: start it, or correct store=."),
    ("password authentication failed", "{place} refuses the name or the password: correct store=."),
    ("could not translate host name", "the host of {place} is not known: correct store=."),
    ("failed to resolve host", "the host of {place} is not known: correct store=."),
    ("no space left", _FULL),
    ("disk i/o", "{place}: the disk reports an error ({said}): check the disk, then repeat the command."),
)


@contextmanager
def explained(place: object, busy_seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """Turn what the database at `place` says inside into a ValueError with one sentence, where we know what it means."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error)
        for sign, sentence in _SENTENCES:
            if sign in said.lower():
                raise ValueError(sentence.format(place=place, said=said, busy=busy_seconds)) from error
        raise
