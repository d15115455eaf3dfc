"""Who may do what in a project, and the record of what was done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, select

from tutelage.feedback.asking.payloads import Role
from tutelage.feedback.errors import Refused
from tutelage.store.schema import Project
from tutelage.store.schema_feedback import AuditEvent, Membership
from tutelage.store.sql import insert_one

Action = Literal["label", "teach", "adjudicate", "view", "export", "manage", "own"]
ALLOWED: dict[Role, frozenset[Action]] = {
    "owner": frozenset({"label", "teach", "adjudicate", "view", "export", "manage", "own"}),
    "manager": frozenset({"label", "teach", "adjudicate", "view", "export", "manage"}),
    "adjudicator": frozenset({"label", "teach", "adjudicate", "view"}),
    "expert": frozenset(
        {"label", "teach"}
    ),  # whose answers weigh more; writes problems, and what nobody else can solve
    "annotator": frozenset({"label"}),  # sees nobody's answers: agreement must be independent
    "viewer": frozenset({"view"}),
}
TEACHERS: tuple[Role, ...] = tuple(role for role, actions in ALLOWED.items() if "teach" in actions)


@dataclass(frozen=True)
class User:
    """Somebody who is known.  An administrator is the owner of every project."""

    id: int
    name: str
    administrator: bool
    active: bool
    created_at: datetime
    annotator_id: int

    @property
    def account_id(self) -> int | None:
        """The account to name in records; None for whoever works on the store's own machine."""
        return self.id or None


LOCAL = User(0, "whoever works on this machine", True, True, datetime.fromtimestamp(0, UTC), 0)


@dataclass(frozen=True)
class Member:
    """A user in a project: what nearly every service wants to know first."""

    user: User
    project_id: int
    project: str
    role: Role

    @property
    def annotator_id(self) -> int:
        return self.user.annotator_id

    def may(self, action: Action) -> bool:
        """Whether the role allows it (`ALLOWED`)."""
        return action in ALLOWED[self.role]

    def require(self, action: Action) -> None:
        """Refused: forbidden."""
        if not self.may(action):
            raise Refused(
                "forbidden",
                f"'{self.user.name}' is {self.role} in project '{self.project}', which does not include to {action}: "
                "ask an owner or a manager for another role.",
            )

    def require_account(self, action: Action) -> None:
        """As `require`, and not for whoever works on the store's own machine: answers belong to somebody.  Refused: forbidden."""
        self.require(action)
        if not self.annotator_id:
            said = "label" if action == "label" else "settle conflicts"
            raise Refused("forbidden", f"only users with an account {said}: log in through the web page.")


_MEMBER = (
    select(Project.id, Project.deleted_at, Membership.role)
    .outerjoin(
        Membership, (Membership.project_id == Project.id) & (Membership.account_id == bindparam("account"))
    )
    .where(Project.name == bindparam("project"))
)


def find_member(connection: Connection, user: User, project: str, deleted: bool = False) -> Member:
    """The user's place in a project, also in a deleted one if asked for.

    Refused: not-found, the same for no such project, a deleted one, and for not being in it.
    """
    row = connection.execute(_MEMBER, {"project": project, "account": user.id}).one_or_none()
    role: Any = None if row is None else "owner" if user.administrator else row.role
    if row is None or role is None or (row.deleted_at is not None and not deleted):
        raise Refused(
            "not-found", f"there is no project '{project}' for you: check its name, or ask to be invited."
        )
    return Member(user, row.id, project, role)


def note(
    connection: Connection,
    user: User | None,
    what: str,
    object: str,
    project_id: int | None = None,
    **detail: Any,
) -> None:
    """Write down who did what, in the transaction that does it."""
    row = {"project_id": project_id, "account_id": None if user is None else user.account_id}
    insert_one(connection, AuditEvent, **row, what=what, object=object, detail=detail)
