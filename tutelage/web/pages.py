"""The pages: HTML around the same services; whatever changes something goes through the API, but for coming in."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from sqlalchemy import select

from tutelage import __version__
from tutelage.data.reading.encodings import ENCODINGS
from tutelage.feedback.asking.payloads import DEFAULT_CRITERIA, ProjectSettings, Schema
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports import exporting
from tutelage.feedback.insights import own, totals
from tutelage.feedback.insights.census import census
from tutelage.feedback.insights.figures import Whose, insight
from tutelage.feedback.insights.judges import judges_work
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people import users
from tutelage.feedback.people.access import Member
from tutelage.feedback.people.invitations import accept_invitation, invitations, read_invitation
from tutelage.feedback.people.tokens import tokens_of
from tutelage.feedback.projects import deletion, projects, webhooks
from tutelage.feedback.projects.projects import ProjectInfo
from tutelage.feedback.refining.history import waiting_for_experts
from tutelage.feedback.work import queue
from tutelage.feedback.work.guidelines import newest_seen
from tutelage.store.schema import Project
from tutelage.web import languages
from tutelage.web.access import (
    Adjudicator,
    Administrator,
    Annotator,
    AnyMember,
    Caller,
    Exporter,
    Manager,
    Reader,
    TheSite,
    Viewer,
    segment,
)
from tutelage.web.api_account import begin_session, log_in, place_of
from tutelage.web.api_projects import guideline_view
from tutelage.web.drawing import local_path, page, read_form, refused
from tutelage.web.fields import Id
from tutelage.web.metrics import CONTENT_TYPE, exposition
from tutelage.web.site import Site
from tutelage.web.views import item_view

router = APIRouter()

PAGE = 40  # lines of the data browser


@router.get("/")
def home(request: Request, site: TheSite, who: Reader) -> Response:
    """My projects, and what waits in them."""
    cards = [_card(site, who, found) for found in projects.projects_of(site.database, who.user)]
    deleted = deletion.deleted_projects(site.database, who.user)
    return page(request, "home.html", cards=cards, deleted=deleted)


def _card(site: Site, who: Caller, found: ProjectInfo) -> dict[str, Any]:
    member = projects.member(site.database, who.user, found.name)
    labels = member.may("label")
    seen = newest_seen(site.database, member) if labels else found.guideline.n
    progress = queue.progress(site.database, member) if labels else None
    return {
        "info": found,
        "member": member,
        "progress": progress,
        "agreement": own.own_agreement(site.database, member) if labels else None,
        "new_guideline": seen < found.guideline.n,
        "offer": _offer(site, member),
        "handed_up": waiting_for_experts(site.database, member) if member.may("teach") else 0,
        "training": training_command(site, member, progress) if progress and progress.answered else None,
    }


def _offer(site: Site, who: Member) -> bool:
    """Whether to offer that people label, too, what only programs have labelled."""
    return who.may("manage") and projects.answered_by_programs_only(site.database, who)


def training_command(site: Site, who: Member, progress: queue.Progress) -> str | None:
    """The command that trains a reward model on the caller's own answers; None where they are no comparisons."""
    if not who.may("manage") or not {last.type for last in progress.last} & {"pair", "rank", "rewrite"}:
        return None
    models = browsing.models_of(site.database, who)
    out = f"runs/reward-{re.sub(r'[^a-z0-9]+', '-', who.user.name.lower()).strip('-') or 'mine'}"
    settings = {
        "model": models[0] if len(models) == 1 else "runs/sft",
        "store": site.database.place,
        "data": f"store:{who.project}",
        "annotators": who.user.name,
        "out": out,
    }
    return " ".join(["tutelage reward", *(shlex.quote(f"{key}={value}") for key, value in settings.items())])


@router.get("/login")
def login_form(request: Request, site: TheSite, next: str = "/") -> Response:
    """The form to come in."""
    return page(request, "login.html", next=local_path(next))


@router.post("/login")
async def login(request: Request, site: TheSite) -> Response:
    """Come in with name and password."""
    form = await read_form(request)
    wanted = local_path(form.get("next", "/"))
    answer, name, password = RedirectResponse(wanted, 303), form.get("name", ""), form.get("password", "")
    try:
        await site.passwords.run(log_in, site, request, answer, name, password)
    except Refused as error:
        return refused(request, "login.html", 401, error, form, next=wanted)
    return answer


@router.get("/join/{secret}")
def join_form(request: Request, site: TheSite, secret: str) -> Response:
    """What a link leads to: joining, or a new password."""
    return page(request, "join.html", invitation=read_invitation(site.database, secret))


@router.post("/join/{secret}")
async def join(request: Request, site: TheSite, secret: str) -> Response:
    """Accept an invitation, or set the new password."""
    form = await read_form(request)
    found = await run_in_threadpool(read_invitation, site.database, secret)
    answer = RedirectResponse("/", 303)

    def accept() -> None:
        name, password = form.get("name", ""), form.get("password", "")
        user = accept_invitation(site.database, secret, name, password, place_of(request))
        begin_session(site, request, answer, user)

    try:
        await site.passwords.run(accept)
    except Refused as error:
        if error.reason == "gone":
            raise
        return refused(request, "join.html", 422, error, form, invitation=found)
    return answer


@router.get("/account")
def account(request: Request, site: TheSite, who: Reader) -> Response:
    """Password, tokens, appearance."""
    tokens, known = tokens_of(site.database, who.user), list(languages.languages().values())
    return page(request, "account.html", tokens=tokens, languages=known, language_cookie=languages.COOKIE)


@router.get("/users")
def users_page(request: Request, site: TheSite, who: Administrator) -> Response:
    """Everybody who may come in: new passwords, administrators, whom to keep out."""
    return page(request, "users.html", users=users.users(site.database, who.user))


@router.get("/p/{project}/work")
def work(request: Request, site: TheSite, who: Annotator) -> Response:
    """Where annotators work; the items come over the API."""
    return _work_page(request, site, who, "work")


@router.get("/p/{project}/adjudicate")
def adjudicate(request: Request, site: TheSite, who: Adjudicator) -> Response:
    """Where conflicts are settled."""
    return _work_page(request, site, who, "adjudicate")


def _work_page(request: Request, site: Site, who: Member, mode: str) -> Response:
    info = projects.info(site.database, who)
    data = {
        "mode": mode,
        "store": site.database.identity,
        "project": who.project,
        "user": who.user.name,
        "settings": info.settings.model_dump(mode="json"),
        "generation": site.generator.why_off,
        "guideline": info.guideline.n,
        "guideline_seen": newest_seen(site.database, who),
        "version": __version__,
        "offer": mode == "work" and _offer(site, who),
    }
    return project_page(request, site, who, "work.html", data, info)


@router.get("/p/{project}/guidelines")
def guidelines(request: Request, site: TheSite, who: AnyMember) -> Response:
    """The guidelines, and what they were before."""
    found = [guideline_view(version) for version in projects.guidelines(site.database, who)]
    reading = {"seen": f"{base_of(who)}/guidelines/{found[0].n}/seen"} if found and who.may("label") else {}
    return project_page(request, site, who, "guidelines.html", reading, versions=found)


@router.get("/p/{project}/manage")
def manage(request: Request, site: TheSite, who: Manager) -> Response:
    """Questions, settings, guidelines, people, items."""
    info = projects.info(site.database, who)
    data = {
        "schema": info.schema.model_dump(mode="json"),
        "settings": info.settings.model_dump(mode="json"),
        "default_criteria": [criterion.model_dump() for criterion in DEFAULT_CRITERIA],
        "usual_question": Schema().question,
    }
    shown = {
        "members": projects.members(site.database, who),
        "invitations": invitations(site.database, who),
        "hooks": webhooks.webhooks(site.database, who),
        "deliveries": webhooks.deliveries(site.database, who),
        "webhook_events": webhooks.EVENTS,
        "versions": projects.guidelines(site.database, who),
        "audit": projects.audit(site.database, who, 50),
        "totals": totals.totals(site.database, who),
        "stock": building.stock(site.database, who),
        "judged": judges_work(site.database, who),
        "generation": site.generator,
        "encodings": [(name, name) for name in ENCODINGS],
    }
    return project_page(request, site, who, "manage.html", data, info, **shown)


@router.get("/p/{project}/insights")
def insights_page(request: Request, site: TheSite, who: Viewer, whose: Whose | None = None) -> Response:
    """How far to trust the answers, and what they say."""
    counted, found = totals.totals(site.database, who), insight(site.database, who, whose)
    return project_page(request, site, who, "insights.html", totals=counted, found=found)


@router.get("/new")
def new_project(request: Request, site: TheSite, who: Reader) -> Response:
    """A new project."""
    if not who.user.administrator:
        raise Refused("forbidden", "Only administrators make projects.")
    return page(request, "new.html", settings=ProjectSettings(), schema=Schema())


@router.get("/p/{project}/data")
def data_browser(
    request: Request, site: TheSite, who: Viewer, search: Annotated[browsing.Query, Query()]
) -> Response:
    """Look through the items."""
    found = browsing.find(site.database, who, search.model_copy(update={"limit": PAGE}))
    asked = _asked(search)
    shown: dict[str, Any] = {
        "found": found,
        "asked": asked,
        "query": urlencode(asked),
        "more": urlencode({**asked, "after": found.next}) if found.next else "",
        "choices": browsing.choices(site.database, who),
        "totals": totals.totals(site.database, who),
    }
    return project_page(request, site, who, "data.html", {"asked": asked, "total": found.total}, **shown)


def _asked(search: browsing.Query) -> dict[str, Any]:
    """What is asked for, as parts of an address."""
    said = search.model_dump(exclude={"after", "limit"})
    return {name: value for name, value in said.items() if value not in ("", 0, "any")}


@router.get("/p/{project}/data/{item_id}")
def item_page(
    request: Request, site: TheSite, who: Viewer, item_id: Id, search: Annotated[browsing.Query, Query()]
) -> Response:
    """One item with all its answers, as one of those that fit the search it was found by."""
    found, asked = browsing.detail(site.database, who, item_id), _asked(search)
    info = projects.info(site.database, who)
    data = {
        "item": item_id,
        "view": item_view(found, info.settings.markdown, info.schema.model_dump(mode="json")),
        "settings": info.settings.model_dump(mode="json"),
        "models": found.row.models,
    }
    shown = {
        "detail": found,
        "near": browsing.neighbours(site.database, who, search, item_id),
        "query": urlencode(asked),
        "choices": browsing.choices(site.database, who),
    }
    return project_page(request, site, who, "item.html", data, info, **shown)


@router.get("/p/{project}/export")
def export_page(request: Request, site: TheSite, who: Exporter) -> Response:
    """Make files."""
    splits = exporting.splits(site.database, who)
    return project_page(request, site, who, "export.html", splits=splits)


@router.get("/api/v1/openapi.json")
def openapi(request: Request, who: Reader) -> JSONResponse:
    """The API in OpenAPI's form."""
    return JSONResponse(request.app.openapi())


@router.get("/healthz")
async def health() -> dict[str, str]:
    """The process answers.  (Async: it waits for no thread, so it answers when all of them are busy.)"""
    return {"status": "ok"}


@router.get("/readyz")
def ready(site: TheSite) -> dict[str, str]:
    """The database answers, too."""
    with site.database.read() as connection:
        connection.execute(select(Project.id).limit(1)).all()
    return {"status": "ready"}


@router.get("/metrics")
def metrics(site: TheSite, who: Administrator) -> Response:
    """Numbers for a monitor."""
    return Response(exposition(site.requests, census(site.database)), media_type=CONTENT_TYPE)


def project_page(
    request: Request,
    site: Site,
    who: Member,
    template: str,
    data: dict[str, Any] | None = None,
    info: ProjectInfo | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page of a project; `data` is for its script, which also gets the address of the project in the API."""
    info = info or projects.info(site.database, who)
    return page(
        request, template, member=who, info=info, data={"base": base_of(who), **(data or {})}, **values
    )


def base_of(who: Member) -> str:
    return f"/api/v1/projects/{segment(who.project)}"
