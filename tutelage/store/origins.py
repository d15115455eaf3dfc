"""Annotators that came with a file: their name says from where, so that none is, or blocks, a person of this store.

`joan@1a2b3c4d` came from the store whose identity begins so, `joan@import` from a file that belongs to no store.  An
account cannot have such a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import Connection, select

from tutelage.store.schema import StoreInfo

FILE = "import"  # the origin of names in files that no store wrote
SHOWN = 8  # hex digits of a store's identity in a name
IDENTITY = select(StoreInfo.value).where(StoreInfo.key == "identity")
_FOREIGN = re.compile(rf".+@([0-9a-f]{{{SHOWN}}}|{FILE})", re.DOTALL)
_PSEUDONYM = re.compile(rf"annotator-\d+@[0-9a-f]{{{SHOWN}}}")


def identity(connection: Connection) -> str:
    """The name that this store has and no other (hex)."""
    found = connection.scalar(IDENTITY)
    assert found is not None, "a store is made with an identity"
    return found


def is_foreign(name: str) -> bool:
    """Whether a name is that of an annotator who came with a file."""
    return _FOREIGN.fullmatch(name) is not None


def is_pseudonym(name: str) -> bool:
    """Whether it is so, and says nothing of who that is."""
    return _PSEUDONYM.fullmatch(name) is not None


def pseudonyms(names: Iterable[str]) -> dict[str, str]:
    """name -> what to call it where names are not wanted: a number in the order given, which is that of their making.

    A pseudonym that came with a file from another store stays what it is.
    """
    return {name: name if is_pseudonym(name) else f"annotator-{n}" for n, name in enumerate(names, start=1)}


def with_origin(name: str, origin: str = FILE) -> str:
    """The name under which an annotator of a file is kept; it stays as it is where it says already where it is from."""
    return name if is_foreign(name) else f"{name}@{origin[:SHOWN]}"
