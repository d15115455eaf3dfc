"""Sessions: how browsers are known.  A session's secret is 32 random bytes, told once and stored as a SHA-256."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import User
from tutelage.feedback.people.users import USER, fingerprint
from tutelage.store.database import Database
from tutelage.store.schema import now
from tutelage.store.schema_feedback import Account, SessionRow
from tutelage.store.sql import insert_one

SESSION_IDLE, SESSION_LIFE = timedelta(hours=12), timedelta(days=14)
TOUCH = timedelta(minutes=5)  # the last use is written down at most so often

_SESSION = (  # what every request asks first, built once; the user comes last in the row
    select(SessionRow.id.label("key"), SessionRow.csrf, SessionRow.used_at, SessionRow.expires_at, *USER)
    .join(Account)
    .where(SessionRow.secret_hash == bindparam("hash"))
)


@dataclass(frozen=True)
class Session:
    """An open session: `csrf` must come back with everything that changes something."""

    user: User
    csrf: str
    expires_at: datetime


def open_session(database: Database, user: User, place: str = "") -> tuple[str, Session]:
    """A new session and its secret (for the cookie).  Call it at every login: a secret from before is never kept."""
    secret, csrf, at = secrets.token_urlsafe(32), secrets.token_urlsafe(32), now()
    with database.write() as connection:
        connection.execute(delete(SessionRow).where(SessionRow.expires_at < at))
        insert_one(
            connection,
            SessionRow,
            secret_hash=fingerprint(secret),
            account_id=user.id,
            csrf=csrf,
            place_hash=fingerprint("place", place),
            created_at=at,
            used_at=at,
            expires_at=at + SESSION_LIFE,
        )
    return secret, Session(user, csrf, at + SESSION_LIFE)


def read_session(database: Database, secret: str) -> Session:
    """The session of a cookie.  Refused: unauthenticated (unknown, closed, idle for 12 h, older than 14 days)."""
    at = now()
    with database.read() as connection:
        row: Any = connection.execute(_SESSION, {"hash": fingerprint(secret)}).one_or_none()
    if row is None or not row.active or at >= min(row.expires_at, row.used_at + SESSION_IDLE):
        raise Refused("unauthenticated", "you are not logged in, or were away for too long: log in again.")
    if at - row.used_at > TOUCH:
        with database.write() as connection:
            connection.execute(update(SessionRow).where(SessionRow.id == row.key).values(used_at=at))
    return Session(User(*row[-len(USER) :]), row.csrf, row.expires_at)


def close_session(database: Database, secret: str) -> None:
    """Log out; an unknown secret is no mistake."""
    with database.write() as connection:
        connection.execute(delete(SessionRow).where(SessionRow.secret_hash == fingerprint(secret)))
