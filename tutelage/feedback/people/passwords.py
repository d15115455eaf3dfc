"""Passwords: stored as Argon2id, guessed at only so often.

Hashing takes 64 MiB and some 50 ms on purpose: whoever calls this for many at once keeps a gate before it, as the web
does (`web.limits.Gate`).
"""

from __future__ import annotations

import math
import secrets
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Connection, delete, select, text, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import User, note
from tutelage.feedback.people.users import end_access, find_user, fingerprint, normal_name
from tutelage.store.database import Database
from tutelage.store.schema import now
from tutelage.store.schema_feedback import Account, Credential, LoginFailure
from tutelage.store.sql import insert_one, takes_turns

WINDOW = timedelta(minutes=15)  # over which failed logins are counted
FAILURES_PER_NAME, FAILURES_PER_PLACE = 10, 50
LENGTHS = (10, 1000)  # characters of a password

HASHER = PasswordHasher()  # Argon2id with the library's defaults (RFC 9106, low memory)
NOBODY = HASHER.hash(secrets.token_urlsafe())  # checked for unknown names, so that time does not tell them

# one sentence for every way to fail a login, so that it tells nothing
WRONG = (
    "name and password do not fit together: check both, or ask an administrator for a link to a new password."
)


def check_password(database: Database, name: str, password: str, place: str = "") -> User:
    """The user, if the password fits.  `place` (an address) is counted too, and is stored hashed.

    The attempt counts as failed from before the password is looked at until it turned out right, so that many at once
    get no further than many in a row.

    Refused: unauthenticated (one sentence for wrong name, wrong password and inactive); too-many (10 failures per
    name or 50 per place within 15 minutes).
    """
    name = normal_name(name)
    limits = {fingerprint("name", name): FAILURES_PER_NAME}
    if place:
        limits[fingerprint("place", place)] = FAILURES_PER_PLACE
    with database.write() as connection:
        reserved = _reserve(connection, limits)
        user = find_user(connection, Account.name == name)
        own = () if user is None else _password_of(user.id)
        stored = connection.scalar(select(Credential.hash).where(*own)) if own else None
    fits = _verify(stored or NOBODY, password)  # outside of any transaction: it takes its time on purpose
    if user is None or stored is None or not fits or not user.active:
        raise Refused("unauthenticated", WRONG)
    with database.write() as connection:
        connection.execute(delete(LoginFailure).where(LoginFailure.id.in_(reserved)))
        if HASHER.check_needs_rehash(stored):
            store_password(connection, user.id, HASHER.hash(password))
    return user


def set_password(database: Database, user: User, old: str, new: str, place: str = "") -> None:
    """Change one's own password; ends all of the user's sessions and revokes all their tokens.

    Refused: unauthenticated, invalid, too-many.
    """
    check_password(database, user.name, old, place)
    hashed = hash_new(user.name, new)
    with database.write() as connection:
        store_password(connection, user.id, hashed)
        end_access(connection, user.id)
        note(connection, user, "password", user.name)


def hash_new(name: str, password: str) -> str:
    """The hash of a new password.  Refused: invalid (too short, too long, little more than the name)."""
    shortest, longest = LENGTHS
    if not shortest <= len(password) <= longest:
        raise Refused("invalid", f"a password has {shortest} to {longest} characters.")
    if name.casefold() in password.casefold() and len(password) < len(name) + shortest:
        raise Refused("invalid", "the password is little more than the name: choose another one.")
    return HASHER.hash(password)


def store_password(connection: Connection, account_id: int, hashed: str) -> None:
    """Replace a user's password."""
    connection.execute(update(Credential).where(*_password_of(account_id)).values(hash=hashed))


def _verify(stored: str, password: str) -> bool:
    if len(password) > LENGTHS[1]:
        return False
    try:
        return HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _password_of(account_id: int) -> tuple[ColumnElement[bool], ...]:
    return Credential.account_id == account_id, Credential.kind == "password"


def _reserve(connection: Connection, limits: dict[str, int]) -> list[int]:
    """Count one attempt under each key; the rows.

    Refused: too-many, until the oldest of the `most` latest attempts has left the window.
    """
    at = now()
    if not takes_turns(connection):
        connection.execute(text("LOCK TABLE login_failure IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(delete(LoginFailure).where(LoginFailure.at < at - WINDOW))
    for key, most in limits.items():
        attempts = select(LoginFailure.at).where(LoginFailure.key == key).order_by(LoginFailure.at.desc())
        oldest = connection.scalar(attempts.offset(most - 1).limit(1))
        if oldest is not None:
            wait = (oldest + WINDOW - at).total_seconds()
            said = f"too many failed logins: try again in {math.ceil(wait / 60)} minutes."
            raise Refused("too-many", said, wait)
    return [insert_one(connection, LoginFailure, key=key, at=at) for key in limits]
