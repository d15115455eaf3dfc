"""Invitations: links that work once.  They let somebody join a project, make an administrator, or set a new password.

A link's secret is 32 random bytes, told once and stored as a SHA-256.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, func, select, update
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.payloads import Role
from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import LOCAL, Member, User, find_member, note
from tutelage.feedback.people.passwords import check_password, hash_new, store_password
from tutelage.feedback.people.users import (
    UNUSED,
    add_user,
    end_access,
    find_user,
    fingerprint,
    named,
    usable_name,
    void,
)
from tutelage.store.database import Database
from tutelage.store.schema import Project, now
from tutelage.store.schema_feedback import Account, InvitationRow, Membership
from tutelage.store.sql import insert_one

HOURS = 72.0  # that a link works, unless told otherwise
LISTED = 200  # at most
GONE = "this link was used, replaced or has expired: ask for a new one."
State = Literal["open", "used", "revoked", "expired"]


@dataclass(frozen=True)
class Invitation:
    """What a link leads to: a new password for `account`, or else a place in `project` (None: as an administrator)."""

    project: str | None
    role: Role | None
    expires_at: datetime
    account: str | None = None


@dataclass(frozen=True)
class InvitationInfo:
    """One line of a project's list of invitations; `used_by` once somebody has joined by it."""

    id: int
    role: Role
    by: str
    created_at: datetime
    expires_at: datetime
    state: State
    used_by: str | None


def first_owner_invitation(database: Database, hours: float = HOURS) -> str | None:
    """The secret of an invitation for the first administrator; None once there is one.

    Every call makes a new secret and voids the earlier ones.
    """
    with database.write() as connection:
        if connection.scalar(select(Account.id).where(Account.administrator, Account.active).limit(1)):
            return None
        return _administrators(connection, hours)


def recovery_link(database: Database, name: str = "", hours: float = HOURS) -> str:
    """For whoever works on the store's own machine: the secret of a link that lets an administrator in.

    With a name, that user is made an administrator, is let in, and sets a new password by the link; without one,
    somebody new becomes one.  Earlier links for the same are void.  Refused: not-found.
    """
    with database.write() as connection:
        if not name:
            note(connection, LOCAL, "invite", "administrator")
            return _administrators(connection, hours)
        user = named(connection, name)
        made = update(Account).where(Account.id == user.id)
        connection.execute(made.values(administrator=True, active=True))
        note(connection, LOCAL, "administrator", name)
        return _reset(connection, LOCAL, user, hours)


def reset_link(database: Database, by: User, name: str, hours: float = HOURS) -> str:
    """The secret of a link by which a user sets a new password; earlier ones are void.

    Refused: forbidden (administrators only); not-found; conflict (locked out).
    """
    if not by.administrator:
        raise Refused("forbidden", "only an administrator resets passwords: ask one.")
    with database.write() as connection:
        user = named(connection, name)
        if not user.active:
            raise Refused("conflict", f"'{name}' is locked out: let them in first.")
        return _reset(connection, by, user, hours)


def invite(database: Database, by: User, project: str, role: Role, hours: float = HOURS) -> str:
    """The secret of an invitation to a project.  Refused: forbidden (owners and managers invite), not-found."""
    with database.write() as connection:
        who = find_member(connection, by, project)
        who.require("own" if role == "owner" else "manage")
        note(connection, by, "invite", role, who.project_id)
        return _new(connection, hours, project_id=who.project_id, role=role, by_id=by.account_id)


def invitations(database: Database, who: Member) -> list[InvitationInfo]:
    """A project's latest invitations, newest first: at most 200.  Needs manage."""
    who.require("manage")
    maker, taker, at = aliased(Account), aliased(Account), now()
    names = (func.coalesce(maker.name, LOCAL.name).label("by"), taker.name.label("used_by"))
    query = (
        select(InvitationRow, *names)
        .outerjoin(maker, maker.id == InvitationRow.by_id)
        .outerjoin(taker, taker.id == InvitationRow.account_id)
        .where(InvitationRow.project_id == who.project_id)
        .order_by(InvitationRow.id.desc())
        .limit(LISTED)
    )
    with database.read() as connection:
        return [
            InvitationInfo(
                row.id, row.role, row.by, row.created_at, row.expires_at, _state(row, at), row.used_by
            )
            for row in connection.execute(query)
        ]


def revoke_invitation(database: Database, who: Member, invitation_id: int) -> None:
    """Make an open invitation void.  Needs manage.  Refused: not-found; conflict (it was used, or void before)."""
    who.require("manage")
    with database.write() as connection:
        found = (InvitationRow.id == invitation_id, InvitationRow.project_id == who.project_id)
        role = connection.scalar(select(InvitationRow.role).where(*found))
        if role is None:
            raise Refused("not-found", f"there is no invitation {invitation_id} in this project.")
        if role == "owner":
            who.require("own")
        if void(connection, *found) != 1:
            raise Refused("conflict", "this invitation was used or revoked already: reload the page.")
        note(connection, who.user, "revoke-invitation", role, who.project_id)


def read_invitation(database: Database, secret: str) -> Invitation:
    """What a secret leads to.  Refused: gone (unknown, used, revoked, or expired)."""
    with database.read() as connection:
        row = _open(connection, secret)
        return Invitation(row.project, row.role, row.expires_at, row.account)


def accept_invitation(database: Database, secret: str, name: str, password: str, place: str = "") -> User:
    """Make the invited user, let an existing one (name and password must fit) join, or set the new password.

    A new password ends the user's sessions and revokes their tokens; `name` is not asked for then.
    Refused: gone; invalid (name or password unusable); conflict (the name is somebody else's); too-many.
    """
    with database.read() as connection:
        account = _open(connection, secret).account
        name = account or usable_name(name)
        known = account is None and find_user(connection, Account.name == name) is not None
    if known:
        _check_own_name(database, name, password, place)
    hashed = "" if known else hash_new(name, password)
    with database.write() as connection:
        row = _open(connection, secret)
        user = _enter(connection, row, name, hashed)
        unused = update(InvitationRow).where(InvitationRow.id == row.id, UNUSED)
        used = unused.values(used_at=now(), account_id=user.id)
        if connection.execute(used).rowcount != 1:  # somebody else was faster
            raise Refused("gone", GONE)
        return named(connection, name)


def _check_own_name(database: Database, name: str, password: str, place: str) -> None:
    try:
        check_password(database, name, password, place)
    except Refused as error:
        if error.reason != "unauthenticated":
            raise
        raise Refused("conflict", f"the name '{name}' is taken: choose another one.") from None


def _enter(connection: Connection, row: Any, name: str, hashed: str) -> User:
    """What a link is for, done; the user whom it was done for."""
    if row.account is not None:
        user = named(connection, name)
        store_password(connection, user.id, hashed)
        end_access(connection, user.id)
        note(connection, user, "new-password", name)
        return user
    user = add_user(connection, name, hashed) if hashed else named(connection, name)
    if row.project_id is None:
        connection.execute(update(Account).where(Account.id == user.id).values(administrator=True))
    else:
        _join(connection, row.project_id, user.id, row.role)
    note(connection, user, "join", name, row.project_id, role=row.role or "administrator")
    return user


def _join(connection: Connection, project_id: int, account_id: int, role: Role) -> None:
    """An invitation only ever adds a membership: it does not change a role that is there."""
    there = (Membership.project_id == project_id, Membership.account_id == account_id)
    if connection.scalar(select(Membership.role).where(*there)) is None:
        insert_one(connection, Membership, project_id=project_id, account_id=account_id, role=role)


def _administrators(connection: Connection, hours: float) -> str:
    void(connection, InvitationRow.project_id.is_(None), InvitationRow.account_id.is_(None))
    return _new(connection, hours)


def _reset(connection: Connection, by: User, user: User, hours: float) -> str:
    void(connection, InvitationRow.project_id.is_(None), InvitationRow.account_id == user.id)
    note(connection, by, "reset-password", user.name)
    return _new(connection, hours, account_id=user.id, by_id=by.account_id)


def _new(connection: Connection, hours: float, **what: Any) -> str:
    secret = secrets.token_urlsafe(32)
    row = {"secret_hash": fingerprint(secret), "expires_at": now() + timedelta(hours=hours), **what}
    insert_one(connection, InvitationRow, **row)
    return secret


def _state(row: Any, at: datetime) -> State:
    if row.used_at is not None:
        return "used"
    if row.revoked_at is not None:
        return "revoked"
    return "open" if row.expires_at > at else "expired"


def _open(connection: Connection, secret: str) -> Any:
    """The row of a link that works, with the names of its project and of the account whose password it sets."""
    names = (Project.name.label("project"), Account.name.label("account"))
    query = select(InvitationRow, *names, Project.deleted_at, Account.active).select_from(InvitationRow)
    query = query.outerjoin(Project).outerjoin(Account, Account.id == InvitationRow.account_id)
    row: Any = connection.execute(query.where(InvitationRow.secret_hash == fingerprint(secret))).one_or_none()
    if row is None or _state(row, now()) != "open" or row.deleted_at is not None or row.active is False:
        raise Refused("gone", GONE)
    return row
