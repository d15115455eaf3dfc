"""Users: who is known here, who is an administrator, and who is kept out.

Users are never deleted, only made inactive: their answers stay.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import User, note
from tutelage.store.database import Database
from tutelage.store.origins import is_foreign
from tutelage.store.schema import Annotator, now
from tutelage.store.schema_feedback import Account, Credential, InvitationRow, Membership, SessionRow
from tutelage.store.sql import insert_one

NAME_LENGTH = 64
UNUSED = InvitationRow.used_at.is_(None) & InvitationRow.revoked_at.is_(None)

USER = tuple(getattr(Account, field.name) for field in fields(User))  # the columns of one, in its order


@dataclass(frozen=True)
class UserRow:
    """One line of the list of users."""

    name: str
    administrator: bool
    active: bool
    created_at: datetime
    projects: int  # that they are a member of


def users(database: Database, by: User) -> list[UserRow]:
    """All users by name.  Refused: forbidden (administrators only)."""
    _require_administrator(by)
    joined = select(func.count()).where(Membership.account_id == Account.id).scalar_subquery()
    query = select(Account.name, Account.administrator, Account.active, Account.created_at, joined)
    with database.read() as connection:
        return [UserRow(*row) for row in connection.execute(query.order_by(Account.name))]


def set_active(database: Database, by: User, user_name: str, active: bool) -> None:
    """Let a user in, or keep them out: then their sessions end, and their tokens and open invitations are revoked.

    Refused: forbidden; not-found; conflict (the last administrator).
    """
    _require_administrator(by)
    with database.write() as connection:
        user = named(connection, user_name)
        if not active:
            _keep_one_administrator(connection, user)
            end_access(connection, user.id)
            void(connection, InvitationRow.by_id == user.id)  # else they join again by one
        connection.execute(update(Account).where(Account.id == user.id).values(active=active))
        note(connection, by, "activate" if active else "deactivate", user_name)


def set_administrator(database: Database, by: User, user_name: str, administrator: bool) -> None:
    """Make a user an administrator, or take that away.  Refused: forbidden; not-found; conflict (locked out; the last)."""
    _require_administrator(by)
    with database.write() as connection:
        user = named(connection, user_name)
        if administrator and not user.active:
            raise Refused("conflict", f"'{user_name}' is locked out: let them in first.")
        if not administrator:
            _keep_one_administrator(connection, user)
        connection.execute(update(Account).where(Account.id == user.id).values(administrator=administrator))
        note(connection, by, "administrator" if administrator else "no-administrator", user_name)


# for the other modules: inside their transactions -----------------------------------------------------------------


def find_user(connection: Connection, which: object) -> User | None:
    """The user that a condition on `Account` finds."""
    row = connection.execute(select(*USER).where(which)).one_or_none()  # type: ignore[arg-type]
    return None if row is None else User(*row)


def named(connection: Connection, name: str) -> User:
    """The user of a name.  Refused: not-found."""
    user = find_user(connection, Account.name == name)
    if user is None:
        raise Refused("not-found", f"there is no user '{name}': check the name.")
    return user


def add_user(connection: Connection, name: str, hashed: str) -> User:
    """A new user with the hash of a password.  Refused: conflict (the name is taken, by a user or in answers)."""
    taken = select(Annotator.id).where(Annotator.name == name)
    if connection.scalar(taken) is not None or find_user(connection, Account.name == name) is not None:
        raise Refused("conflict", f"the name '{name}' is taken: choose another one.")
    annotator = insert_one(connection, Annotator, name=name, kind="human", profile={})
    account = insert_one(connection, Account, name=name, annotator_id=annotator, administrator=False)
    insert_one(connection, Credential, account_id=account, kind="password", name="", hash=hashed, scopes=[])
    return named(connection, name)


def end_access(connection: Connection, account_id: int) -> None:
    """End all sessions of a user and revoke all their tokens."""
    connection.execute(delete(SessionRow).where(SessionRow.account_id == account_id))
    tokens = (Credential.account_id == account_id, Credential.kind == "token")
    open_ones = update(Credential).where(*tokens, Credential.revoked_at.is_(None))
    connection.execute(open_ones.values(revoked_at=now()))


def void(connection: Connection, *which: ColumnElement[bool]) -> int:
    """Revoke the invitations that fit and are neither used nor revoked; how many those were."""
    return connection.execute(update(InvitationRow).where(*which, UNUSED).values(revoked_at=now())).rowcount


def normal_name(name: str) -> str:
    """A name as it is stored."""
    return unicodedata.normalize("NFC", name.strip())


def usable_name(name: str) -> str:
    """A new user's name as it is stored.  Refused: invalid."""
    name = normal_name(name)
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise Refused("invalid", f"a name has 1 to {NAME_LENGTH} printable characters.")
    if is_foreign(name):
        raise Refused("invalid", f"'{name}' looks like an imported annotator's name: choose one without '@'.")
    return name


def fingerprint(*parts: str) -> str:
    """SHA-256, in hex: how what opens a door is stored."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _require_administrator(by: User) -> None:
    if not by.administrator:
        raise Refused("forbidden", "only an administrator may do this: ask one.")


def _keep_one_administrator(connection: Connection, user: User) -> None:
    """Refused: conflict, when there would be no active administrator without `user`."""
    # all are locked, in one order, so that two who take it from each other at the same moment do not both succeed
    all_of_them = select(Account.id, Account.active).where(Account.administrator).order_by(Account.id)
    locked = connection.execute(all_of_them.with_for_update()).all()
    if user.administrator and not any(row.active and row.id != user.id for row in locked):
        raise Refused("conflict", f"'{user.name}' is the last administrator: make another one first.")
