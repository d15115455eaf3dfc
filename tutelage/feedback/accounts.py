"""Who may come in: users, passwords, tokens, invitations and sessions.  Cookies and headers are the web's business.

What opens a door (session, token, invitation) is 32 random bytes, told once and stored as a SHA-256; passwords are
stored as Argon2id.  Users are never deleted, only made inactive: their answers stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tutelage.feedback.payloads import Role
from tutelage.store.database import Database

Scope = Literal["read", "label", "manage"]  # what a token may do, beside what its user may do


@dataclass(frozen=True)
class User:
    """Somebody who is known.  An administrator is the owner of every project."""

    id: int
    name: str
    administrator: bool
    active: bool
    created_at: datetime


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


def first_owner_invitation(database: Database) -> str | None:
    """The secret of a one-time invitation for the first administrator; None once there is one.

    Every call makes a new secret and voids the earlier ones.
    """
    raise NotImplementedError


def invite(database: Database, by: User, project: str, role: Role, hours: float = 72) -> str:
    """The secret of a single-use invitation to a project.  Refused: forbidden (owners and managers invite)."""
    raise NotImplementedError


def invitation(database: Database, secret: str) -> Invitation:
    """What a secret invites to.  Refused: gone (unknown, used, or expired)."""
    raise NotImplementedError


def accept_invitation(database: Database, secret: str, name: str, password: str) -> User:
    """Make the invited user, or let an existing one (name and password must fit) join.

    Refused: gone; invalid (name or password unusable); conflict (the name is somebody else's); too-many.
    """
    raise NotImplementedError


def check_password(database: Database, name: str, password: str, place: str = "") -> User:
    """The user, if the password fits.  `place` (an address) is counted too, and is stored hashed.

    Refused: unauthenticated (one sentence for wrong name, wrong password and inactive); too-many (10 failures per
    name or 50 per place within 15 minutes).
    """
    raise NotImplementedError


def set_password(database: Database, user: User, old: str, new: str) -> None:
    """Change one's own password; ends the user's other sessions.  Refused: unauthenticated, invalid."""
    raise NotImplementedError


def open_session(database: Database, user: User, place: str = "") -> tuple[str, Session]:
    """A new session and its secret (for the cookie).  Call it at every login: a secret from before is never kept."""
    raise NotImplementedError


def session(database: Database, secret: str) -> Session:
    """The session of a cookie.  Refused: unauthenticated (unknown, closed, idle for 12 h, older than 14 days)."""
    raise NotImplementedError


def close_session(database: Database, secret: str) -> None:
    """Log out; an unknown secret is no mistake."""
    raise NotImplementedError


def create_token(
    database: Database, user: User, name: str, scopes: tuple[Scope, ...], days: float | None = 90
) -> str:
    """A token for programs, told once.  It begins with its visible prefix: `tut_xxxxxxxx_...`."""
    raise NotImplementedError


def token_user(database: Database, token: str) -> tuple[User, tuple[Scope, ...]]:
    """Whose token it is and what it may do.  Refused: unauthenticated (unknown, revoked, expired, user inactive)."""
    raise NotImplementedError


def tokens(database: Database, user: User) -> list[TokenInfo]:
    """The user's tokens, newest first."""
    raise NotImplementedError


def revoke_token(database: Database, user: User, token_id: int) -> None:
    """Refused: not-found (also for tokens of others, unless the user is an administrator)."""
    raise NotImplementedError


def set_active(database: Database, by: User, user_name: str, active: bool) -> None:
    """Let a user in or keep them out (ends their sessions).  Refused: forbidden; conflict (the last administrator)."""
    raise NotImplementedError
