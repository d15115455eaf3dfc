"""Tokens: how programs are known.  A token is 32 random bytes, told once, stored as a SHA-256, found by its visible prefix."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import bindparam, select, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import User, note
from tutelage.feedback.people.users import USER, fingerprint
from tutelage.store.database import Database
from tutelage.store.schema import now
from tutelage.store.schema_feedback import Account, Credential
from tutelage.store.sql import insert_one

Scope = Literal["read", "label", "manage"]  # what a token may do, beside what its user may do
SCOPES: tuple[Scope, ...] = ("read", "label", "manage")
NAME_LENGTH = 64
TOUCH = timedelta(minutes=5)  # the last use is written down at most so often

_TOKEN = (
    select(
        Credential.id.label("key"),
        Credential.hash,
        Credential.scopes,
        Credential.expires_at,
        Credential.revoked_at,
        Credential.last_used_at,
        *USER,
    )
    .join(Account)
    .where(Credential.prefix == bindparam("prefix"), Credential.kind == "token")
)


@dataclass(frozen=True)
class TokenInfo:
    """A token as its owner sees it later: never the token itself."""

    id: int
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked: bool


def create_token(
    database: Database, user: User, name: str, scopes: tuple[Scope, ...], days: float | None = 90
) -> str:
    """A token for programs, told once.  It begins with its visible prefix: `tut_xxxxxxxx_...`."""
    if not scopes or not set(scopes) <= set(SCOPES):
        raise Refused("invalid", f"a token needs at least one scope of {', '.join(SCOPES)}.")
    if not name.strip() or len(name) > NAME_LENGTH:
        raise Refused("invalid", f"a token needs a name of 1 to {NAME_LENGTH} characters.")
    prefix, secret = f"tut_{secrets.token_hex(4)}", secrets.token_urlsafe(32)
    with database.write() as connection:
        row = {"account_id": user.id, "kind": "token", "name": name.strip(), "prefix": prefix}
        ends = None if days is None else now() + timedelta(days=days)
        opens = {"hash": fingerprint(secret), "scopes": sorted(set(scopes)), "expires_at": ends}
        insert_one(connection, Credential, **row, **opens)
        note(connection, user, "token", prefix)
    return f"{prefix}_{secret}"


def token_user(database: Database, token: str) -> tuple[User, tuple[Scope, ...]]:
    """Whose token it is and what it may do.  Refused: unauthenticated (unknown, revoked, expired, user inactive)."""
    prefix, _, secret = token.strip().removeprefix("tut_").partition("_")
    at = now()
    with database.read() as connection:
        row: Any = connection.execute(_TOKEN, {"prefix": f"tut_{prefix}"}).one_or_none()
    fits = row is not None and secrets.compare_digest(row.hash, fingerprint(secret))
    dead = row is not None and (row.revoked_at is not None or (row.expires_at or at) < at)
    if row is None or not fits or dead or not row.active:
        raise Refused("unauthenticated", "this token is unknown, revoked or expired: make a new one.")
    if row.last_used_at is None or at - row.last_used_at > TOUCH:
        with database.write() as connection:
            connection.execute(update(Credential).where(Credential.id == row.key).values(last_used_at=at))
    return User(*row[-len(USER) :]), tuple(row.scopes)


def tokens_of(database: Database, user: User) -> list[TokenInfo]:
    """The user's tokens, newest first."""
    row = Credential
    times = (row.created_at, row.expires_at, row.last_used_at, row.revoked_at.is_not(None))
    query = select(row.id, row.name, row.prefix, row.scopes, *times)
    query = query.where(row.account_id == user.id, row.kind == "token").order_by(row.id.desc())
    with database.read() as connection:
        return [
            TokenInfo(key, name, prefix, tuple(scopes), *rest)
            for key, name, prefix, scopes, *rest in connection.execute(query)
        ]


def revoke_token(database: Database, user: User, token_id: int) -> None:
    """Refused: not-found (also for tokens of others, unless the user is an administrator)."""
    own = (Credential.id == token_id) & (Credential.kind == "token")
    if not user.administrator:
        own &= Credential.account_id == user.id
    with database.write() as connection:
        if connection.scalar(select(Credential.id).where(own)) is None:
            raise Refused("not-found", f"there is no token {token_id} of yours.")
        connection.execute(
            update(Credential).where(own, Credential.revoked_at.is_(None)).values(revoked_at=now())
        )
        note(connection, user, "revoke-token", str(token_id))
