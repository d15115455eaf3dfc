"""The app: routes put together, and every error as one sentence (JSON for the API, a page for people)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from tutelage import __version__
from tutelage.feedback.errors import Refused
from tutelage.web import (
    api_account,
    api_imports,
    api_items,
    api_live,
    api_people,
    api_projects,
    api_refining,
    api_results,
    api_webhooks,
    api_work,
    drawing,
    pages,
    pages_refining,
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
REFUSALS = {
    400: "The body is not JSON.",
    401: "Nobody is known by that session or token.",
    403: "Known, but not allowed.",
    404: "There is no such thing, or it is somebody else's.",
    409: "It contradicts what is stored.",
    410: "It was there and is used up or has ended.",
    413: "The request is too long.",
    422: "The content cannot be; the sentence says where.",
    429: "Try again later.",
    502: "The process that runs the model failed.",
    503: "The database cannot be used now; the sentence says why.",
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
        api_refining,
        api_items,
        api_imports,
        api_results,
    )
    refusals: dict[int | str, dict[str, Any]] = {n: {"description": said} for n, said in REFUSALS.items()}
    for module in modules:
        app.include_router(module.router, prefix=API, responses=refusals)
    app.include_router(pages.router, include_in_schema=False)
    app.include_router(pages_refining.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    for kind in (
        Refused,
        RequestValidationError,
        GenerationFailed,
        IntegrityError,
        HTTPException,
        ValueError,
    ):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(Shield, hosts=site.hosts, https=site.https)
    app.add_middleware(Meter, requests=site.requests)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    if site.threads:
        anyio.to_thread.current_default_thread_limiter().total_tokens = site.threads
    await site.generator.start()
    sender = Sender(site.database)
    sender.start()
    try:
        yield
    finally:
        await run_in_threadpool(sender.stop)
        await site.generator.stop()
        site.exports.close()
        if site.own_database:
            await run_in_threadpool(site.database.close)


def _answer(request: Request, error: Exception) -> Response:
    """The refusal in the form that the caller understands; an unknown visitor of a page is sent to the log-in."""
    status, reason, said, headers = _meaning(error)
    path, sentence = request.url.path, drawing.as_sentence(said)
    if path.startswith(("/api/", "/static/")) or path in PROBES:
        extra = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return JSONResponse({"detail": sentence, "reason": reason}, status, {**headers, **extra})
    if status == 401 and request.method in ("GET", "HEAD"):
        wanted = path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/login" if path == "/" else f"/login?next={quote(wanted)}", 303)
    shown = drawing.error_page(request, status, sentence)
    shown.headers.update(headers)
    return shown


def _meaning(error: Exception) -> tuple[int, str, str, Mapping[str, str]]:
    """An error's status, its reason for programs, its sentence, and the headers that go with it."""
    match error:
        case Refused():
            return STATUS[error.reason], error.reason, str(error), retry_after(error)
        case RequestValidationError():
            return 422, "invalid", _sentence(error), {}
        case GenerationFailed():
            return 502, "generation", str(error), {}
        case IntegrityError():
            # Two did the same at the very same moment, and the database keeps one: the other finds it when asking again.
            return 409, "conflict", "This was being stored at the same moment: send it again.", {}
        case HTTPException(status_code=404):
            return 404, "not-found", "There is nothing at this address.", {}
        case HTTPException(status_code=405):
            return 405, "http", "This address does not take that method.", error.headers or {}
        case HTTPException():
            return error.status_code, "http", str(error.detail), error.headers or {}
    return 503, "database", str(error), {}  # a ValueError of the store's: it cannot be used


def _sentence(error: RequestValidationError) -> str:
    """The first thing that does not fit, in one sentence, without what was sent."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    message = str(first["msg"]).encode("utf-8", "replace").decode()
    return f"{where}: {message}." if where else f"{message}."
