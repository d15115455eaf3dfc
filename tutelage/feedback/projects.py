"""Projects: members and roles, settings, and the versions of questions and guidelines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tutelage.feedback.accounts import User
from tutelage.feedback.payloads import ProjectSettings, Role, Schema
from tutelage.store.database import Database

Action = Literal["label", "adjudicate", "view", "export", "manage", "own"]


@dataclass(frozen=True)
class Member:
    """A user in a project: what nearly every service wants to know first."""

    user: User
    project_id: int
    project: str
    role: Role
    annotator_id: int

    def may(self, action: Action) -> bool:
        """Whether the role allows it.

        annotator: label; adjudicator: label, adjudicate, view; viewer: view; manager: all but own; owner: all.
        """
        raise NotImplementedError

    def require(self, action: Action) -> None:
        """Refused: forbidden."""
        raise NotImplementedError


@dataclass(frozen=True)
class Guideline:
    """One immutable version; n counts from 1 (0 = none written yet, empty text)."""

    n: int
    markdown: str
    created_at: datetime | None
    by: str | None


@dataclass(frozen=True)
class ProjectInfo:
    """A project as members see it."""

    name: str
    role: Role
    settings: ProjectSettings
    schema: Schema
    schema_version: int
    guideline: Guideline


@dataclass(frozen=True)
class MemberRow:
    """One line of the list of members."""

    name: str
    role: Role
    active: bool
    answers: int


def member(database: Database, user: User, project: str) -> Member:
    """The user's place in a project.  Refused: not-found (also when the project is there but the user is not in it)."""
    raise NotImplementedError


def projects_of(database: Database, user: User) -> list[ProjectInfo]:
    """The projects of a user (all, for an administrator), by name."""
    raise NotImplementedError


def info(database: Database, who: Member) -> ProjectInfo:
    """The project with its current settings, questions and guidelines."""
    raise NotImplementedError


def create_project(
    database: Database,
    by: User,
    name: str,
    settings: ProjectSettings | None = None,
    schema: Schema | None = None,
) -> Member:
    """A new project; `by` becomes its owner.  Refused: forbidden (administrators create), conflict, invalid."""
    raise NotImplementedError


def members(database: Database, who: Member) -> list[MemberRow]:
    """All members by name.  Needs manage."""
    raise NotImplementedError


def set_role(database: Database, who: Member, user_name: str, role: Role | None) -> None:
    """Add or change a member; None removes the membership, never the answers.

    Refused: forbidden (only owners make and unmake owners), not-found, conflict (the last owner).
    """
    raise NotImplementedError


def set_settings(
    database: Database, who: Member, settings: ProjectSettings, apply_overlap: bool = False
) -> None:
    """Replace the settings; with `apply_overlap` also set the overlap of every item there is.  Needs manage."""
    raise NotImplementedError


def set_schema(database: Database, who: Member, schema: Schema) -> int:
    """Store a new version of the questions (the same content again makes none); returns n.  Needs manage."""
    raise NotImplementedError


def set_guideline(database: Database, who: Member, markdown: str) -> int:
    """Store a new version of the guidelines (the same content again makes none); returns n.  Needs manage."""
    raise NotImplementedError


def guidelines(database: Database, who: Member) -> list[Guideline]:
    """All versions, newest first.  Any member."""
    raise NotImplementedError


def guideline_seen(database: Database, who: Member) -> int:
    """The version this annotator last answered under (0 = never): the page says when there is a newer one."""
    raise NotImplementedError


def audit(database: Database, who: Member, limit: int = 200) -> list[dict[str, Any]]:
    """Who did what in the project, newest first: {at, who, what, object, detail}.  Needs manage."""
    raise NotImplementedError
