"""Who may come in: users, passwords, tokens, invitations and sessions.  Cookies and headers are the web's business.

What opens a door (session, token, invitation) is 32 random bytes, told once and stored as a SHA-256; passwords are
stored as Argon2id.  Users are never deleted, only made inactive: their answers stay.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, bindparam, delete, func, select, update

from tutelage.feedback.asking.payloads import Role
from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import User, find_member, note
from tutelage.store.database import Database
from tutelage.store.schema import Annotator, Project, now
from tutelage.store.schema_feedback import (
    Account,
    Credential,
    InvitationRow,
    LoginFailure,
    Membership,
    SessionRow,
)
from tutelage.store.sql import insert_one

Scope = Literal["read", "label", "manage"]  # what a token may do, beside what its user may do
SCOPES: tuple[Scope, ...] = ("read", "label", "manage")

WINDOW = timedelta(minutes=15)  # over which failed logins are counted
FAILURES_PER_NAME, FAILURES_PER_PLACE = 10, 50
SESSION_IDLE, SESSION_LIFE = timedelta(hours=12), timedelta(days=14)
TOUCH = timedelta(minutes=5)  # a session's last use is written down at most so often
PASSWORD_LENGTHS = (10, 1000)
NAME_LENGTH = 64

HASHER = PasswordHasher()  # Argon2id with the library's defaults (RFC 9106, low memory)
NOBODY = HASHER.hash(secrets.token_urlsafe())  # checked for unknown names, so that time does not tell them
LOCAL = User(0, "whoever works on this machine", True, True, datetime.fromtimestamp(0, UTC), 0)

# what every request asks first, built once; the user comes last in each row
_USER = (
    Account.id,
    Account.name,
    Account.administrator,
    Account.active,
    Account.created_at,
    Account.annotator_id,
)
_SESSION = (
    select(SessionRow.id.label("key"), SessionRow.csrf, SessionRow.used_at, SessionRow.expires_at, *_USER)
    .join(Account, Account.id == SessionRow.account_id)
    .where(SessionRow.secret_hash == bindparam("hash"))
)
_TOKEN = (
    select(
        Credential.id.label("key"),
        Credential.hash,
        Credential.scopes,
        Credential.expires_at,
        Credential.revoked_at,
        Credential.last_used_at,
        *_USER,
    )
    .join(Account, Account.id == Credential.account_id)
    .where(Credential.prefix == bindparam("prefix"), Credential.kind == "token")
)

# one sentence for every way to fail a login, so that it tells nothing
WRONG = "name and password do not fit together: check both, or ask an owner for a new invitation."


@dataclass(frozen=True)
class Session:
    """An open session: `csrf` must come back with everything that changes something."""

    user: User
    csrf: str
    expires_at: datetime


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


@dataclass(frozen=True)
class Invitation:
    """What an invitation link leads to.  `project` and `role` are None for the first owner's."""

    project: str | None
    role: Role | None
    expires_at: datetime


# invitations ----------------------------------------------------------------------------------------------------------


def first_owner_invitation(database: Database, hours: float = 72) -> str | None:
    """The secret of a one-time invitation for the first administrator; None once there is one.

    Every call makes a new secret and voids the earlier ones.
    """
    with database.write() as connection:
        if connection.scalar(select(Account.id).where(Account.administrator, Account.active).limit(1)):
            return None
        earlier = update(InvitationRow).where(
            InvitationRow.project_id.is_(None), InvitationRow.used_at.is_(None)
        )
        connection.execute(earlier.values(used_at=now()))
        return _new_invitation(connection, None, None, None, hours)


def invite(database: Database, by: User, project: str, role: Role, hours: float = 72) -> str:
    """The secret of a single-use invitation to a project.  Refused: forbidden (owners and managers invite), not-found."""
    with database.write() as connection:
        who = find_member(connection, by, project)
        who.require("own" if role == "owner" else "manage")
        note(connection, by, "invite", role, who.project_id)
        return _new_invitation(connection, who.project_id, role, by.account_id, hours)


def invitation(database: Database, secret: str) -> Invitation:
    """What a secret invites to.  Refused: gone (unknown, used, or expired)."""
    with database.read() as connection:
        row = _open_invitation(connection, secret)
        project = connection.scalar(select(Project.name).where(Project.id == row.project_id))
        return Invitation(project, row.role, row.expires_at)


def accept_invitation(database: Database, secret: str, name: str, password: str, place: str = "") -> User:
    """Make the invited user, or let an existing one (name and password must fit) join.

    Refused: gone; invalid (name or password unusable); conflict (the name is somebody else's); too-many.
    """
    name = _usable_name(name)
    with database.read() as connection:
        _open_invitation(connection, secret)
        known = connection.scalar(select(Account.id).where(Account.name == name))
    if known is not None:
        try:
            check_password(database, name, password, place)
        except Refused as error:
            if error.reason != "unauthenticated":
                raise
            raise Refused("conflict", f"the name '{name}' is taken: choose another one.") from None
    hashed = None if known is not None else _hash_new(name, password)
    with database.write() as connection:
        row = _open_invitation(connection, secret)
        used = update(InvitationRow).where(InvitationRow.id == row.id, InvitationRow.used_at.is_(None))
        if connection.execute(used.values(used_at=now())).rowcount != 1:
            raise _gone()
        user = _user(connection, Account.name == name) if hashed is None else _add(connection, name, hashed)
        assert user is not None
        if row.project_id is None:
            connection.execute(update(Account).where(Account.id == user.id).values(administrator=True))
        else:
            _join(connection, row.project_id, user.id, row.role)
        note(connection, user, "join", name, row.project_id, role=row.role or "administrator")
        found = _user(connection, Account.id == user.id)
        assert found is not None
        return found


# passwords ------------------------------------------------------------------------------------------------------------


def check_password(database: Database, name: str, password: str, place: str = "") -> User:
    """The user, if the password fits.  `place` (an address) is counted too, and is stored hashed.

    Refused: unauthenticated (one sentence for wrong name, wrong password and inactive); too-many (10 failures per
    name or 50 per place within 15 minutes).
    """
    name = unicodedata.normalize("NFC", name.strip())
    keys = {_sha("name", name): FAILURES_PER_NAME} | (
        {_sha("place", place): FAILURES_PER_PLACE} if place else {}
    )
    with database.read() as connection:
        _refuse_too_many(connection, keys)
        user = _user(connection, Account.name == name)
        stored = None if user is None else _password_hash(connection, user.id)
    fits = _verify(stored or NOBODY, password)  # outside of any transaction: it takes its time on purpose
    if user is None or stored is None or not fits or not user.active:
        with database.write() as connection:
            connection.execute(delete(LoginFailure).where(LoginFailure.at < now() - WINDOW))
            for key in keys:
                insert_one(connection, LoginFailure, key=key, at=now())
        raise Refused("unauthenticated", WRONG)
    if HASHER.check_needs_rehash(stored):
        _store_password(database, user, HASHER.hash(password))
    return user


def set_password(database: Database, user: User, old: str, new: str) -> None:
    """Change one's own password; ends all of the user's sessions.  Refused: unauthenticated, invalid, too-many."""
    check_password(database, user.name, old)
    _store_password(database, user, _hash_new(user.name, new))
    with database.write() as connection:
        connection.execute(delete(SessionRow).where(SessionRow.account_id == user.id))
        note(connection, user, "password", user.name)


# sessions -------------------------------------------------------------------------------------------------------------


def open_session(database: Database, user: User, place: str = "") -> tuple[str, Session]:
    """A new session and its secret (for the cookie).  Call it at every login: a secret from before is never kept."""
    secret, csrf, at = secrets.token_urlsafe(32), secrets.token_urlsafe(32), now()
    with database.write() as connection:
        connection.execute(delete(SessionRow).where(SessionRow.expires_at < at))
        insert_one(
            connection,
            SessionRow,
            secret_hash=_sha(secret),
            account_id=user.id,
            csrf=csrf,
            place_hash=_sha("place", place),
            created_at=at,
            used_at=at,
            expires_at=at + SESSION_LIFE,
        )
    return secret, Session(user, csrf, at + SESSION_LIFE)


def session(database: Database, secret: str) -> Session:
    """The session of a cookie.  Refused: unauthenticated (unknown, closed, idle for 12 h, older than 14 days)."""
    at = now()
    with database.read() as connection:
        row: Any = connection.execute(_SESSION, {"hash": _sha(secret)}).one_or_none()
    if row is None or not row.active or at >= min(row.expires_at, row.used_at + SESSION_IDLE):
        raise Refused("unauthenticated", "you are not logged in, or were away for too long: log in again.")
    if at - row.used_at > TOUCH:
        with database.write() as connection:
            connection.execute(update(SessionRow).where(SessionRow.id == row.key).values(used_at=at))
    return Session(User(*row[-len(_USER) :]), row.csrf, row.expires_at)


def close_session(database: Database, secret: str) -> None:
    """Log out; an unknown secret is no mistake."""
    with database.write() as connection:
        connection.execute(delete(SessionRow).where(SessionRow.secret_hash == _sha(secret)))


# tokens ---------------------------------------------------------------------------------------------------------------


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
        insert_one(
            connection,
            Credential,
            account_id=user.id,
            kind="token",
            name=name.strip(),
            prefix=prefix,
            hash=_sha(secret),
            scopes=sorted(set(scopes)),
            expires_at=None if days is None else now() + timedelta(days=days),
        )
        note(connection, user, "token", prefix)
    return f"{prefix}_{secret}"


def token_user(database: Database, token: str) -> tuple[User, tuple[Scope, ...]]:
    """Whose token it is and what it may do.  Refused: unauthenticated (unknown, revoked, expired, user inactive)."""
    prefix, _, secret = token.strip().removeprefix("tut_").partition("_")
    at = now()
    with database.read() as connection:
        row: Any = connection.execute(_TOKEN, {"prefix": f"tut_{prefix}"}).one_or_none()
    fits = row is not None and secrets.compare_digest(row.hash, _sha(secret))
    dead = row is not None and (row.revoked_at is not None or (row.expires_at or at) < at)
    if row is None or not fits or dead or not row.active:
        raise Refused("unauthenticated", "this token is unknown, revoked or expired: make a new one.")
    if row.last_used_at is None or at - row.last_used_at > TOUCH:
        with database.write() as connection:
            connection.execute(update(Credential).where(Credential.id == row.key).values(last_used_at=at))
    return User(*row[-len(_USER) :]), tuple(row.scopes)


def tokens(database: Database, user: User) -> list[TokenInfo]:
    """The user's tokens, newest first."""
    with database.read() as connection:
        rows = connection.execute(
            select(
                Credential.id,
                Credential.name,
                Credential.prefix,
                Credential.scopes,
                Credential.created_at,
                Credential.expires_at,
                Credential.last_used_at,
                Credential.revoked_at,
            )
            .where(Credential.account_id == user.id, Credential.kind == "token")
            .order_by(Credential.id.desc())
        )
        return [
            TokenInfo(
                row.id,
                row.name,
                row.prefix or "",
                tuple(row.scopes),
                row.created_at,
                row.expires_at,
                row.last_used_at,
                row.revoked_at is not None,
            )
            for row in rows
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


# users ----------------------------------------------------------------------------------------------------------------


def set_active(database: Database, by: User, user_name: str, active: bool) -> None:
    """Let a user in or keep them out (ends their sessions).  Refused: forbidden; not-found; conflict (the last administrator)."""
    if not by.administrator:
        raise Refused("forbidden", "only an administrator lets users in and keeps them out.")
    with database.write() as connection:
        user = _user(connection, Account.name == user_name)
        if user is None:
            raise Refused("not-found", f"there is no user '{user_name}'.")
        admins = connection.scalar(
            select(func.count(Account.id)).where(Account.administrator, Account.active, Account.id != user.id)
        )
        if not active and user.administrator and not admins:
            raise Refused("conflict", f"'{user_name}' is the last administrator: make another one first.")
        connection.execute(update(Account).where(Account.id == user.id).values(active=active))
        if not active:
            connection.execute(delete(SessionRow).where(SessionRow.account_id == user.id))
        note(connection, by, "activate" if active else "deactivate", user_name)


# inside ---------------------------------------------------------------------------------------------------------------


def _sha(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _usable_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise Refused("invalid", f"a name has 1 to {NAME_LENGTH} printable characters.")
    return name


def _hash_new(name: str, password: str) -> str:
    shortest, longest = PASSWORD_LENGTHS
    if not shortest <= len(password) <= longest:
        raise Refused("invalid", f"a password has {shortest} to {longest} characters.")
    if name.casefold() in password.casefold() and len(password) < len(name) + shortest:
        raise Refused("invalid", "the password is little more than the name: choose another one.")
    return HASHER.hash(password)


def _verify(stored: str, password: str) -> bool:
    if len(password) > PASSWORD_LENGTHS[1]:
        return False
    try:
        return HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _store_password(database: Database, user: User, hashed: str) -> None:
    with database.write() as connection:
        of_user = (Credential.account_id == user.id, Credential.kind == "password")
        connection.execute(update(Credential).where(*of_user).values(hash=hashed))


def _password_hash(connection: Connection, account_id: int) -> str | None:
    query = select(Credential.hash).where(Credential.account_id == account_id, Credential.kind == "password")
    return connection.scalar(query)


def _refuse_too_many(connection: Connection, keys: dict[str, int]) -> None:
    """Refused: too-many, until the oldest of the `most` latest failures has left the window."""
    at = now()
    for key, most in keys.items():
        failures = select(LoginFailure.at).where(LoginFailure.key == key).order_by(LoginFailure.at.desc())
        oldest = connection.scalar(failures.offset(most - 1).limit(1))
        if oldest is not None and oldest + WINDOW > at:
            wait = (oldest + WINDOW - at).total_seconds()
            raise Refused(
                "too-many", f"too many failed logins: try again in {math.ceil(wait / 60)} minutes.", wait
            )


def _user(connection: Connection, which: object) -> User | None:
    row = connection.execute(select(*_USER).where(which)).one_or_none()  # type: ignore[arg-type]
    return None if row is None else User(*row)


def _add(connection: Connection, name: str, hashed: str) -> User:
    taken = select(Annotator.id).where(Annotator.name == name)
    if connection.scalar(taken) is not None or _user(connection, Account.name == name) is not None:
        raise Refused("conflict", f"the name '{name}' is taken: choose another one.")
    annotator = insert_one(connection, Annotator, name=name, kind="human", profile={})
    account = insert_one(connection, Account, name=name, annotator_id=annotator, administrator=False)
    insert_one(connection, Credential, account_id=account, kind="password", name="", hash=hashed, scopes=[])
    user = _user(connection, Account.id == account)
    assert user is not None
    return user


def _join(connection: Connection, project_id: int, account_id: int, role: Role) -> None:
    """An invitation only ever adds a membership: it does not change a role that is there."""
    there = select(Membership.role).where(
        Membership.project_id == project_id, Membership.account_id == account_id
    )
    if connection.scalar(there) is None:
        insert_one(connection, Membership, project_id=project_id, account_id=account_id, role=role)


def _new_invitation(
    connection: Connection, project_id: int | None, role: Role | None, by: int | None, hours: float
) -> str:
    secret = secrets.token_urlsafe(32)
    insert_one(
        connection,
        InvitationRow,
        secret_hash=_sha(secret),
        project_id=project_id,
        role=role,
        by_id=by,
        expires_at=now() + timedelta(hours=hours),
    )
    return secret


def _open_invitation(connection: Connection, secret: str) -> Any:
    columns = (
        InvitationRow.id,
        InvitationRow.project_id,
        InvitationRow.role,
        InvitationRow.expires_at,
        InvitationRow.used_at,
    )
    query = select(*columns, Project.deleted_at).outerjoin(Project, Project.id == InvitationRow.project_id)
    row = connection.execute(query.where(InvitationRow.secret_hash == _sha(secret))).one_or_none()
    if row is None or row.used_at is not None or row.expires_at <= now() or row.deleted_at is not None:
        raise _gone()
    return row


def _gone() -> Refused:
    return Refused("gone", "this invitation was used, replaced or has expired: ask for a new one.")
