"""API: the members of a project, invitations to it, and the users of the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tutelage.feedback.asking.payloads import Model, Role
from tutelage.feedback.people import invitations, users
from tutelage.feedback.people.invitations import InvitationInfo
from tutelage.feedback.people.users import UserRow
from tutelage.feedback.projects import projects
from tutelage.feedback.projects.projects import MemberRow
from tutelage.web.access import Administrator, AdministratorInPerson, Manager, Managing, TheSite
from tutelage.web.fields import Id, Name, strict_router

router = strict_router("people")


class Place(Model):
    """A member's role, and their team: a word that items can be reserved for (null leaves it as it is, "" is none)."""

    role: Role
    team: Annotated[str, Field(max_length=projects.TEAM_LENGTH)] | None = None


class NewInvitation(Model):
    """A single-use invitation."""

    role: Role = "annotator"
    hours: Annotated[float, Field(gt=0, le=24 * 30)] = invitations.HOURS


class Link(Model):
    """Where somebody goes, once; told once: a path on this server."""

    path: str


class Activity(Model):
    """Whether a user may come in."""

    active: bool


class Administration(Model):
    """Whether a user is an administrator."""

    administrator: bool


@router.get("/projects/{project}/members")
def list_members(site: TheSite, who: Manager) -> list[MemberRow]:
    """All members by name."""
    return projects.members(site.database, who)


@router.put("/projects/{project}/members/{name}", status_code=204)
def set_member(site: TheSite, who: Manager, name: Name, body: Place) -> None:
    """Add a user to the project, or change their role and team."""
    projects.set_role(site.database, who, name, body.role, body.team)


@router.delete("/projects/{project}/members/{name}", status_code=204)
def remove_member(site: TheSite, who: Manager, name: Name) -> None:
    """End a membership; answers stay."""
    projects.set_role(site.database, who, name, None)


@router.get("/projects/{project}/invitations")
def list_invitations(site: TheSite, who: Manager) -> list[InvitationInfo]:
    """All invitations, newest first: who made each, and what became of it."""
    return invitations.invitations(site.database, who)


@router.post("/projects/{project}/invitations", status_code=201)
def invite(site: TheSite, who: Manager, body: NewInvitation) -> Link:
    """A link that lets one person join, once."""
    site.limits.take("invite", site.database, who.user.name)
    return _link(invitations.invite(site.database, who.user, who.project, body.role, body.hours))


@router.delete("/projects/{project}/invitations/{invitation_id}", status_code=204)
def revoke_invitation(site: TheSite, who: Manager, invitation_id: Id) -> None:
    """Make an invitation void."""
    invitations.revoke_invitation(site.database, who, invitation_id)


@router.get("/users")
def list_users(site: TheSite, who: Administrator) -> list[UserRow]:
    """All users of this server by name."""
    return users.users(site.database, who.user)


@router.put("/users/{name}/active", status_code=204)
def set_active(site: TheSite, who: Managing, name: Name, body: Activity) -> None:
    """Let a user in, or keep them out (their sessions end, their tokens are revoked); their answers stay either way."""
    users.set_active(site.database, who.user, name, body.active)


@router.put("/users/{name}/administrator", status_code=204)
def set_administrator(site: TheSite, who: AdministratorInPerson, name: Name, body: Administration) -> None:
    """Make a user an administrator, or take that away; the last one stays."""
    users.set_administrator(site.database, who.user, name, body.administrator)


@router.post("/users/{name}/reset", status_code=201)
def reset_password(site: TheSite, who: AdministratorInPerson, name: Name) -> Link:
    """A link by which a user sets a new password, once; earlier ones are void."""
    site.limits.take("invite", site.database, who.user.name)
    return _link(invitations.reset_link(site.database, who.user, name))


def _link(secret: str) -> Link:
    return Link(path=f"/join/{secret}")
