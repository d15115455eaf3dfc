"""API: logging in and out, one's own account and tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Request, Response
from pydantic import Field

from tutelage.feedback.asking.payloads import Model, Role
from tutelage.feedback.people import passwords, sessions, tokens
from tutelage.feedback.people.access import User
from tutelage.feedback.people.sessions import Session
from tutelage.feedback.people.tokens import Scope, TokenInfo
from tutelage.feedback.projects import projects
from tutelage.web.access import InPerson, Labelling, Reader, TheSite
from tutelage.web.fields import Id, Name, Secret, strict_router
from tutelage.web.site import Site

router = strict_router("account")

SESSION_SECONDS = 14 * 24 * 3600  # the longest that a session lives, as `sessions.read_session` says


class Login(Model):
    """Name and password."""

    name: Name
    password: Secret


class LoggedIn(Model):
    """`csrf` must be sent back as X-CSRF-Token with everything that changes something."""

    name: str
    csrf: str
    expires_at: datetime


class Membership(Model):
    """A project and one's role in it."""

    name: str
    title: str
    role: Role


class Me(Model):
    """Who one is; `csrf` only for browsers."""

    name: str
    administrator: bool
    csrf: str | None
    projects: tuple[Membership, ...]


class PasswordChange(Model):
    """The password as it is and as it shall be."""

    old: Secret
    new: Secret


class NewToken(Model):
    """A token to make; `days` until it expires, null = never."""

    name: Annotated[str, Field(min_length=1, max_length=tokens.NAME_LENGTH)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=3)] = ("label",)
    days: Annotated[float, Field(gt=0, le=3650)] | None = 90


class TokenSecret(Model):
    """The token itself: this is the only time it is told."""

    token: str


def begin_session(site: Site, request: Request, response: Response, user: User) -> Session:
    """Open a fresh session, close the one that the browser came with, and set the cookie."""
    sessions.close_session(site.database, request.cookies.get(site.cookie, ""))
    secret, session = sessions.open_session(site.database, user, place_of(request))
    response.set_cookie(
        site.cookie, secret, SESSION_SECONDS, path="/", secure=site.https, httponly=True, samesite="lax"
    )
    return session


def end_session(site: Site, request: Request, response: Response) -> None:
    """Close the browser's session and take its cookie back."""
    sessions.close_session(site.database, request.cookies.get(site.cookie, ""))
    response.delete_cookie(site.cookie, path="/", secure=site.https, httponly=True, samesite="lax")


def place_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else ""


@router.post("/auth/login")
async def login(site: TheSite, request: Request, response: Response, body: Login) -> LoggedIn:
    """Open a session; the answer sets its cookie."""
    session = await site.passwords.run(log_in, site, request, response, body.name, body.password)
    return LoggedIn(name=session.user.name, csrf=session.csrf, expires_at=session.expires_at)


def log_in(site: Site, request: Request, response: Response, name: str, password: str) -> Session:
    """Check name and password, and begin a session.  Call it behind the gate: it hashes."""
    user = passwords.check_password(site.database, name, password, place_of(request))
    return begin_session(site, request, response, user)


@router.post("/auth/logout", status_code=204)
def logout(site: TheSite, request: Request, response: Response, who: Reader) -> None:
    """Close the session."""
    end_session(site, request, response)


@router.get("/me")
def me(site: TheSite, who: Reader) -> Me:
    """The caller and their projects."""
    own = projects.projects_of(site.database, who.user)
    return Me(
        name=who.user.name,
        administrator=who.user.administrator,
        csrf=who.session.csrf if who.session else None,
        projects=tuple(Membership(name=p.name, title=p.settings.title, role=p.role) for p in own),
    )


@router.post("/me/password", status_code=204)
async def change_password(
    site: TheSite, request: Request, response: Response, who: InPerson, body: PasswordChange
) -> None:
    """Change one's own password; every other session ends, all tokens are revoked, and this session gets a new cookie."""

    def change() -> None:
        passwords.set_password(site.database, who.user, body.old, body.new, place_of(request))
        begin_session(site, request, response, who.user)

    await site.passwords.run(change)


@router.get("/me/tokens")
def list_tokens(site: TheSite, who: Reader) -> list[TokenInfo]:
    """One's own tokens, newest first."""
    return tokens.tokens_of(site.database, who.user)


@router.post("/me/tokens", status_code=201)
def make_token(site: TheSite, who: InPerson, body: NewToken) -> TokenSecret:
    """A new token.  Only a logged-in session makes tokens: a token cannot make another."""
    site.limits.take("token", site.database, who.user.name)
    return TokenSecret(token=tokens.create_token(site.database, who.user, body.name, body.scopes, body.days))


@router.delete("/me/tokens/{token_id}", status_code=204)
def revoke_token(site: TheSite, who: Labelling, token_id: Id) -> None:
    """Revoke a token at once."""
    tokens.revoke_token(site.database, who.user, token_id)
