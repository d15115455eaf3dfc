"""Who is asking, and may they: sessions for browsers, bearer tokens for programs, one dependency per route.

A route says what it needs by the parameter that it declares: `Reader` (anybody who is known), or `Acting("manage")`
(a member of the project in the path whose role allows it).  A test walks all routes and reads the same declarations.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote, unquote

from fastapi import Depends, Path, Request

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import Action, Member, User
from tutelage.feedback.people.sessions import Session, read_session
from tutelage.feedback.people.tokens import SCOPES, Scope, token_user
from tutelage.feedback.projects import projects
from tutelage.web.security import SAFE_METHODS
from tutelage.web.site import Site

Need = Literal["member"] | Action
SCOPE_OF: dict[Need, Scope] = {
    "member": "read",
    "view": "read",
    "export": "read",
    "label": "label",
    "teach": "label",
    "adjudicate": "label",
    "manage": "manage",
    "own": "manage",
}


@dataclass(frozen=True)
class Caller:
    """Who makes this request.  `session` is None for a program with a token."""

    user: User
    session: Session | None
    scopes: tuple[Scope, ...]

    def require(self, scope: Scope) -> None:
        """Refused: forbidden when a token does not have the scope (manage includes label, label includes read)."""
        best = max((SCOPES.index(held) for held in self.scopes), default=-1)
        if best < SCOPES.index(scope):
            raise Refused("forbidden", f"This token may not do that: it needs the scope '{scope}'.")


async def site_of(request: Request) -> Site:
    """What the app runs on.  (Async, like all here that waits for nothing: FastAPI gives the others to a thread.)"""
    return site(request)


def site(request: Request) -> Site:
    """What the app runs on."""
    found: Site = request.app.state.site
    return found


def caller(request: Request) -> Caller:
    """The caller, by bearer token or else by session cookie; with a cookie, a change needs the CSRF token, too.

    Found out once per request: `request.state.caller`, which a page draws its navigation for.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is None:
        known = request.state.caller = _caller(request)
    return known


def _caller(request: Request) -> Caller:
    found = site(request)
    authorization = request.headers.get("authorization", "")
    if authorization:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise Refused("unauthenticated", "Only 'Authorization: Bearer TOKEN' is understood.")
        user, scopes = token_user(found.database, token.strip())
        return Caller(user, None, scopes)
    session = read_session(found.database, request.cookies.get(found.cookie, ""))
    if request.method not in SAFE_METHODS:
        check_csrf(session, request.headers.get("x-csrf-token", ""))
    return Caller(session.user, session, SCOPES)


def check_csrf(session: Session, given: str) -> None:
    """Refused: forbidden, unless `given` is the session's own CSRF token."""
    if not hmac.compare_digest(session.csrf.encode(), given.encode("utf-8", "replace")):
        raise Refused("forbidden", "The page is older than this session: reload it and try again.")


class Known:
    """Dependency: anybody who is known, with a token of at least this scope.

    `administrator`: only those; `in_person`: whoever is logged in, no token, so that nothing outlives the token it came from.
    """

    def __init__(self, scope: Scope, administrator: bool = False, in_person: bool = False) -> None:
        self.scope, self.administrator, self.in_person = scope, administrator, in_person

    async def __call__(self, who: Annotated[Caller, Depends(caller)]) -> Caller:
        who.require(self.scope)
        if self.administrator and not who.user.administrator:
            raise Refused("forbidden", "Only administrators may do this.")
        if self.in_person and who.session is None:
            raise Refused(
                "forbidden", "A token may not do that, whatever its scope: log in, and use the session."
            )
        return who


class Acting:
    """Dependency: a member of the project in the path, whose role allows `need` ("member" = any role).

    `deleted`: the project may be a deleted one.
    """

    def __init__(self, need: Need, deleted: bool = False) -> None:
        self.need, self.scope, self.deleted = need, SCOPE_OF[need], deleted

    def __call__(self, request: Request, project: Annotated[str, Path(max_length=600)]) -> Member:
        who = caller(request)  # here, not as a dependency: that would be a second trip to a thread
        who.require(self.scope)
        found = projects.member(site(request).database, who.user, unquote(project), self.deleted)
        if self.need != "member":
            found.require(self.need)
        return found


def segment(project: str) -> str:
    """A project's name as one segment of a path; a slash in it stays part of the name."""
    return quote(project.replace("%", "%25").replace("/", "%2F"), safe="")


TheSite = Annotated[Site, Depends(site_of)]
Reader = Annotated[Caller, Depends(Known("read"))]
Labelling = Annotated[Caller, Depends(Known("label"))]
Managing = Annotated[Caller, Depends(Known("manage"))]
InPerson = Annotated[Caller, Depends(Known("manage", in_person=True))]
Administrator = Annotated[Caller, Depends(Known("read", administrator=True))]
AdministratorInPerson = Annotated[Caller, Depends(Known("manage", administrator=True, in_person=True))]
AnyMember = Annotated[Member, Depends(Acting("member"))]
Annotator = Annotated[Member, Depends(Acting("label"))]
Teacher = Annotated[Member, Depends(Acting("teach"))]
Adjudicator = Annotated[Member, Depends(Acting("adjudicate"))]
Viewer = Annotated[Member, Depends(Acting("view"))]
Exporter = Annotated[Member, Depends(Acting("export"))]
Manager = Annotated[Member, Depends(Acting("manage"))]
Owner = Annotated[Member, Depends(Acting("own"))]
FormerOwner = Annotated[Member, Depends(Acting("own", deleted=True))]  # of a deleted project
