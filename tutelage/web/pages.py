"""The pages: HTML around the same services; whatever changes something goes through the API, but for coming in."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

import jinja2
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
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people import users
from tutelage.feedback.people.invitations import accept_invitation, invitations, read_invitation
from tutelage.feedback.people.tokens import tokens_of
from tutelage.feedback.projects import deletion, projects, webhooks
from tutelage.feedback.projects.projects import Member, ProjectInfo
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
    caller,
    segment,
)
from tutelage.web.api_account import begin_session, log_in, place_of
from tutelage.web.api_items import Search
from tutelage.web.api_projects import guideline_view
from tutelage.web.fields import Id
from tutelage.web.limits import retry_after
from tutelage.web.metrics import CONTENT_TYPE, exposition
from tutelage.web.render import AS_WRITTEN, UNDRAWN, markdown, plain
from tutelage.web.site import Site
from tutelage.web.views import item_view, summary

router = APIRouter()

LONGEST_FORM = 10_000  # bytes of the forms here
PAGE = 40  # lines of the data browser


@router.get("/")
def home(request: Request, site: TheSite, who: Reader) -> Response:
    """My projects, and what waits in them."""
    cards = [_card(site, who, found) for found in projects.projects_of(site.database, who.user)]
    deleted = deletion.deleted_projects(site.database, who.user)
    return page(request, "home.html", who=who, cards=cards, deleted=deleted)


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
    return page(request, "login.html", next=local_path(next), error="", name="")


@router.post("/login")
async def login(request: Request, site: TheSite) -> Response:
    """Come in with name and password."""
    form = await _form(request)
    wanted = local_path(form.get("next", "/"))
    answer, name, password = RedirectResponse(wanted, 303), form.get("name", ""), form.get("password", "")
    try:
        await site.passwords.run(log_in, site, request, answer, name, password)
    except Refused as error:
        return _refused(request, "login.html", 401, error, form, next=wanted)
    return answer


@router.get("/join/{secret}")
def join_form(request: Request, site: TheSite, secret: str) -> Response:
    """What a link leads to: joining, or a new password."""
    found = read_invitation(site.database, secret)
    return page(request, "join.html", invitation=found, error="", name="")


@router.post("/join/{secret}")
async def join(request: Request, site: TheSite, secret: str) -> Response:
    """Accept an invitation, or set the new password."""
    form = await _form(request)
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
        return _refused(request, "join.html", 422, error, form, invitation=found)
    return answer


@router.get("/account")
def account(request: Request, site: TheSite, who: Reader) -> Response:
    """Password, tokens, appearance."""
    return page(
        request,
        "account.html",
        who=who,
        tokens=tokens_of(site.database, who.user),
        languages=list(languages.languages().values()),
        language_cookie=languages.COOKIE,
    )


@router.get("/users")
def users_page(request: Request, site: TheSite, who: Administrator) -> Response:
    """Everybody who may come in: new passwords, administrators, whom to keep out."""
    return page(request, "users.html", who=who, users=users.users(site.database, who.user))


@router.get("/p/{project}/work")
def work(request: Request, site: TheSite, who: Annotator, person: Reader) -> Response:
    """Where annotators work; the items come over the API."""
    info = projects.info(site.database, who)
    data = _work_data(site, who, info, "work")
    return page(request, "work.html", who=person, member=who, info=info, data=data)


@router.get("/p/{project}/adjudicate")
def adjudicate(request: Request, site: TheSite, who: Adjudicator, person: Reader) -> Response:
    """Where conflicts are settled."""
    info = projects.info(site.database, who)
    data = _work_data(site, who, info, "adjudicate")
    return page(request, "work.html", who=person, member=who, info=info, data=data)


def _work_data(site: Site, who: Member, info: ProjectInfo, mode: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "store": site.database.identity,
        "project": who.project,
        "base": f"/api/v1/projects/{segment(who.project)}",
        "home": "/",
        "user": who.user.name,
        "settings": info.settings.model_dump(mode="json"),
        "generation": site.generator.why_off,
        "guideline": info.guideline.n,
        "guideline_seen": newest_seen(site.database, who),
        "version": __version__,
        "offer": mode == "work" and _offer(site, who),
    }


@router.get("/p/{project}/guidelines")
def guidelines(request: Request, site: TheSite, who: AnyMember, person: Reader) -> Response:
    """The guidelines, and what they were before."""
    found = [guideline_view(version) for version in projects.guidelines(site.database, who)]
    info = projects.info(site.database, who)
    base = f"/api/v1/projects/{segment(who.project)}"
    reading = {"seen": f"{base}/guidelines/{found[0].n}/seen"} if found and who.may("label") else {}
    return page(request, "guidelines.html", who=person, member=who, info=info, versions=found, data=reading)


@router.get("/p/{project}/manage")
def manage(request: Request, site: TheSite, who: Manager, person: Reader) -> Response:
    """Questions, settings, guidelines, people, items."""
    info = projects.info(site.database, who)
    data = {
        "base": f"/api/v1/projects/{segment(who.project)}",
        "schema": info.schema.model_dump(mode="json"),
        "settings": info.settings.model_dump(mode="json"),
        "default_criteria": [criterion.model_dump() for criterion in DEFAULT_CRITERIA],
        "usual_question": Schema().question,
    }
    return page(
        request,
        "manage.html",
        who=person,
        member=who,
        info=info,
        data=data,
        members=projects.members(site.database, who),
        invitations=invitations(site.database, who),
        hooks=webhooks.webhooks(site.database, who),
        deliveries=webhooks.deliveries(site.database, who),
        webhook_events=webhooks.EVENTS,
        versions=projects.guidelines(site.database, who),
        audit=projects.audit(site.database, who, 50),
        totals=totals.totals(site.database, who),
        stock=building.stock(site.database, who),
        usual=Schema().question,
        generation=site.generator,
        encodings=[(name, name) for name in ENCODINGS],
    )


@router.get("/p/{project}/insights")
def insights_page(
    request: Request, site: TheSite, who: Viewer, person: Reader, whose: Whose | None = None
) -> Response:
    """How far to trust the answers, and what they say."""
    return page(
        request,
        "insights.html",
        who=person,
        member=who,
        info=projects.info(site.database, who),
        totals=totals.totals(site.database, who),
        found=insight(site.database, who, whose),
    )


@router.get("/new")
def new_project(request: Request, site: TheSite, who: Reader) -> Response:
    """A new project."""
    if not who.user.administrator:
        raise Refused("forbidden", "Only administrators make projects.")
    return page(request, "new.html", who=who, settings=ProjectSettings(), schema=Schema())


@router.get("/p/{project}/data")
def data_browser(
    request: Request, site: TheSite, who: Viewer, person: Reader, search: Annotated[Search, Query()]
) -> Response:
    """Look through the items."""
    found = browsing.find(site.database, who, search.query(PAGE))
    asked = _asked(search)
    data = {"base": f"/api/v1/projects/{segment(who.project)}", "asked": asked, "total": found.total}
    return page(
        request,
        "data.html",
        who=person,
        member=who,
        info=projects.info(site.database, who),
        found=found,
        asked=asked,
        query=urlencode(asked),
        more=urlencode({**asked, "after": found.next}) if found.next else "",
        choices=browsing.choices(site.database, who),
        totals=totals.totals(site.database, who),
        data=data,
    )


def _asked(search: Search) -> dict[str, Any]:
    """What is asked for, as parts of an address."""
    said = search.model_dump(exclude={"after"})
    return {name: value for name, value in said.items() if value not in ("", 0, "any")}


@router.get("/p/{project}/data/{item_id}")
def item_page(
    request: Request,
    site: TheSite,
    who: Viewer,
    person: Reader,
    item_id: Id,
    search: Annotated[Search, Query()],
) -> Response:
    """One item with all its answers, as one of those that fit the search it was found by."""
    found, asked = browsing.detail(site.database, who, item_id), _asked(search)
    info = projects.info(site.database, who)
    data = {
        "base": f"/api/v1/projects/{segment(who.project)}",
        "item": item_id,
        "view": item_view(found, info.settings.markdown, info.schema.model_dump(mode="json")),
        "settings": info.settings.model_dump(mode="json"),
        "models": found.row.models,
    }
    return page(
        request,
        "item.html",
        who=person,
        member=who,
        info=info,
        detail=found,
        near=browsing.neighbours(site.database, who, search.query(), item_id),
        query=urlencode(asked),
        choices=browsing.choices(site.database, who),
        data=data,
    )


@router.get("/p/{project}/export")
def export_page(request: Request, site: TheSite, who: Exporter, person: Reader) -> Response:
    """Make files."""
    data = {"base": f"/api/v1/projects/{segment(who.project)}"}
    info, splits = projects.info(site.database, who), exporting.splits(site.database, who)
    return page(request, "export.html", who=person, member=who, info=info, data=data, splits=splits)


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


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page; `who` among the values (the caller) draws the navigation."""
    who: Caller | None = values.get("who")
    language = languages.chosen(
        request.cookies.get(languages.COOKIE, ""), request.headers.get("accept-language", "")
    )
    html = (
        _environment()
        .get_template(template)
        .render(
            language=language,
            _=language.say,
            nonce=request.state.nonce,
            csrf=who.session.csrf if who and who.session else "",
            path=request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0],
            **{"who": None, "member": None, "info": None, **values},
        )
    )
    return HTMLResponse(html, status)


def error_page(request: Request, status: int, sentence: str) -> HTMLResponse:
    """A refusal as a page, with the navigation where the visitor is known."""
    try:
        who = caller(request) if request.method == "GET" else None
    except ValueError:
        who = None
    return page(request, "error.html", status, who=who, sentence=sentence, status_code=status)


def local_path(wanted: str) -> str:
    """A path on this server; anything else becomes the home page."""
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if safe else "/"


def _refused(
    request: Request, template: str, status: int, error: Refused, form: dict[str, str], **values: Any
) -> Response:
    """A form again, with what was wrong; `status` unless it came too often."""
    said = str(error)[:1].upper() + str(error)[1:]
    wait = retry_after(error)
    shown = page(
        request, template, 429 if wait else status, error=said, name=form.get("name", "")[:200], **values
    )
    shown.headers.update(wait)
    return shown


async def _form(request: Request) -> dict[str, str]:
    """The fields of a plain form.  Browsers say where a form comes from; one that does not is refused."""
    if "origin" not in request.headers and "sec-fetch-site" not in request.headers:
        raise Refused("forbidden", "This form was not sent by a browser: programs log in over the API.")
    body = await request.body()
    if len(body) > LONGEST_FORM:
        raise Refused("invalid", "The form is too long.")
    fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: value.replace("\0", "\ufffd") for name, value in fields}


@jinja2.pass_context
def _markdown(context: jinja2.runtime.Context, text: str) -> str:
    """`render.markdown`, its notes in the visitor's language."""
    say = context["_"]
    return markdown(text, say(AS_WRITTEN), say(UNDRAWN))


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": _markdown,
        "plain": plain,
        "segment": segment,
        "asdict": asdict,
        "quoted": quote,
        "twice": lambda value: (value, value),  # an option whose words are its value
        "run_words": lambda run: (run[0], f"{run[0]}: {run[1]}"),
    }
    environment.globals |= {"version": __version__, "summary": summary}
    return environment
