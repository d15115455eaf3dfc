"""Opening the store that a command works on, without making one where there is none."""

from __future__ import annotations

from pathlib import Path

from tutelage.store.database import Database


def open_existing(address: str) -> Database:
    """The database at an address.  Raises ValueError when there is none yet, and whatever `Database` raises."""
    if "://" not in address and not Path(address).expanduser().exists():
        raise ValueError(
            f"there is no store at {address}: set store= to the file that `sample` or `serve` wrote."
        )
    return Database(address)
