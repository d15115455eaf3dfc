"""The app: routes put together, and every error as one sentence (JSON for the API, a page for people)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import IntegrityError

from tutelage import __version__
from tutelage.feedback.errors import Refused
from tutelage.web import (
    api_account,
    api_imports,
    api_items,
    api_live,
    api_people,
    api_projects,
    api_results,
    api_webhooks,
    api_work,
    pages,
)
from tutelage.web.generation import GenerationFailed
from tutelage.web.limits import retry_after
from tutelage.web.metrics import API, Meter
from tutelage.web.security import Shield
from tutelage.web.sender import Sender
from tutelage.web.site import Site

STATUS = {
    "invalid": 422,
    "unauthenticated": 401,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "gone": 410,
    "too-many": 429,
}
PROBES = ("/healthz", "/readyz", "/metrics")  # for programs, like the API
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": sentence}
    for status, sentence in (
        (400, "The body is not JSON."),
        (401, "Nobody is known by that session or token."),
        (403, "Known, but not allowed."),
        (404, "There is no such thing, or it is somebody else's."),
        (409, "It contradicts what is stored."),
        (410, "It was there and is used up or has ended."),
        (413, "The request is too long."),
        (422, "The content cannot be; the sentence says where."),
        (429, "Try again later."),
        (502, "The process that runs the model failed."),
        (503, "The database cannot be used now; the sentence says why."),
    )
}


def build_app(site: Site) -> FastAPI:
    """The whole app on a site."""
    app = FastAPI(
        title="Tutelage",
        version=__version__,
        summary="Feedback on language models: items, answers, statistics, exports.",
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan,
    )
    app.state.site = site
    modules = (
        api_account,
        api_people,
        api_projects,
        api_webhooks,
        api_work,
        api_live,
        api_items,
        api_imports,
        api_results,
    )
    for module in modules:
        app.include_router(module.router, prefix=API, responses=_REFUSALS)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    _handle_errors(app)
    app.add_middleware(Shield, hosts=site.hosts, https=site.https)
    app.add_middleware(Meter, requests=site.requests)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    await site.generator.start()
    sender = Sender(site.database)
    sender.start()
    try:
        yield
    finally:
        await run_in_threadpool(sender.stop)
        await site.generator.stop()
        site.exports.close()


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return _answer(request, STATUS[error.reason], str(error), error.reason, retry_after(error))

    @app.exception_handler(RequestValidationError)
    def unfit(request: Request, error: RequestValidationError) -> Response:
        return _answer(request, 422, _sentence(error), "invalid")

    @app.exception_handler(GenerationFailed)
    def failed(request: Request, error: GenerationFailed) -> Response:
        return _answer(request, 502, str(error), "generation")

    @app.exception_handler(ValueError)
    def unusable(request: Request, error: ValueError) -> Response:
        return _answer(request, 503, str(error), "database")

    @app.exception_handler(IntegrityError)
    def overtaken(request: Request, error: IntegrityError) -> Response:
        """Two did the same at the very same moment, and the database keeps one: the other finds it when asking again."""
        return _answer(request, 409, "This was being stored at the same moment: send it again.", "conflict")

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        return _answer(request, error.status_code, str(error.detail), "http", error.headers)

    @app.exception_handler(404)
    def nothing(request: Request, error: Exception) -> Response:
        return _answer(request, 404, "There is nothing at this address.", "not-found")

    @app.exception_handler(405)
    def not_so(request: Request, error: Any) -> Response:
        return _answer(request, 405, "This address does not take that method.", "http", error.headers)


def _answer(request: Request, status: int, sentence: str, reason: str, headers: Any = None) -> Response:
    """The refusal in the form that the caller understands; an unknown visitor of a page is sent to the log-in."""
    path, sentence = request.url.path, pages.as_sentence(sentence)
    if path.startswith(("/api/", "/static/")) or path in PROBES:
        extra = dict(headers or {})
        if status == 401:
            extra["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"detail": sentence, "reason": reason}, status, extra)
    if status == 401 and request.method in ("GET", "HEAD"):
        wanted = path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/login" if path == "/" else f"/login?next={quote(wanted)}", 303)
    shown = pages.error_page(request, status, sentence)
    shown.headers.update(headers or {})
    return shown


def _sentence(error: RequestValidationError) -> str:
    """The first thing that does not fit, in one sentence, without what was sent."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    message = str(first["msg"]).encode("utf-8", "replace").decode()
    return f"{where}: {message}." if where else f"{message}."
