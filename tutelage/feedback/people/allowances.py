"""How often somebody may ask for what costs much, and what goes on only once at a time: counted in the store, so that it holds
for all processes and servers on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select, text, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.users import fingerprint
from tutelage.store.database import Database
from tutelage.store.schema import UtcDateTime, now
from tutelage.store.schema_feedback import Allowance

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# Both databases know these words.  Whoever is there first inserts the row; the others wait for it.
_MAKE = text("INSERT INTO allowance (key, free_at) VALUES (:key, :at) ON CONFLICT DO NOTHING").bindparams(
    bindparam("at", type_=UtcDateTime())
)


def take(database: Database, what: str, name: str, burst: int, seconds: float) -> float:
    """Count one try of `what` by somebody, who has `burst` at once and then one every `seconds`.

    0 when it may be made, otherwise the seconds until the next one may (not counted then).
    """
    key, at = fingerprint("allowance", what, name), now()
    with database.write() as connection:
        free = max(_locked(connection, key), at) + timedelta(seconds=seconds)
        excess = (free - at).total_seconds() - burst * seconds
        if excess > 1e-6:
            return excess
        connection.execute(update(Allowance).where(Allowance.key == key).values(free_at=free))
        return 0.0


def begin(database: Database, what: str, seconds: float, refusal: str) -> None:
    """Nobody else does `what` for so many seconds, in whatever process: who is at it longer says so by `go_on`.

    Refused: conflict, with the sentence.
    """
    key, at = fingerprint("only once", what), now()
    with database.write() as connection:
        if _locked(connection, key) > at:
            raise Refused("conflict", refusal)
        until = at + timedelta(seconds=seconds)
        connection.execute(update(Allowance).where(Allowance.key == key).values(free_at=until))


def go_on(database: Database, what: str, seconds: float) -> None:
    """Whoever has begun `what` is still at it, and has so many seconds from now."""
    with database.write() as connection:
        until = now() + timedelta(seconds=seconds)
        connection.execute(
            update(Allowance).where(Allowance.key == fingerprint("only once", what)).values(free_at=until)
        )


def end(database: Database, what: str) -> None:
    """`what` is done: the next may begin."""
    with database.write() as connection:
        connection.execute(delete(Allowance).where(Allowance.key == fingerprint("only once", what)))


def _locked(connection: Connection, key: str) -> datetime:
    """From when on all is free, of a row that is there now, and is nobody else's until the transaction ends."""
    while True:
        connection.execute(_MAKE, {"key": key, "at": LONG_AGO})
        found = connection.scalar(select(Allowance.free_at).where(Allowance.key == key).with_for_update())
        if found is not None:  # else somebody has just removed it
            return found
