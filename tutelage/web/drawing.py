"""Drawing pages: templates with what all of them get, refusals as pages, and plain forms read and shown again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from tutelage import __version__
from tutelage.feedback.errors import Refused
from tutelage.web import languages
from tutelage.web.access import Caller, caller, segment
from tutelage.web.limits import retry_after
from tutelage.web.render import AS_WRITTEN, UNDRAWN, markdown, plain

LONGEST_FORM = 10_000  # bytes of a plain form


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page; whoever the request was found to come from has the navigation on it."""
    who: Caller | None = getattr(request.state, "caller", None)
    language = languages.chosen(
        request.cookies.get(languages.COOKIE, ""), request.headers.get("accept-language", "")
    )
    drawn = _environment().get_template(template)
    html = drawn.render(
        language=language,
        _=language.say,
        nonce=request.state.nonce,
        csrf=who.session.csrf if who and who.session else "",
        path=request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0],
        **{"who": who, "member": None, "info": None, "error": "", "name": "", **values},
    )
    return HTMLResponse(html, status)


def error_page(request: Request, status: int, sentence: str) -> HTMLResponse:
    """A refusal as a page, with the navigation where the visitor is known."""
    if request.method == "GET":
        with suppress(ValueError):
            caller(request)
    return page(request, "error.html", status, sentence=sentence, status_code=status)


def as_sentence(said: str) -> str:
    """With a capital letter."""
    return said[:1].upper() + said[1:]


def local_path(wanted: str) -> str:
    """A path on this server; anything else becomes the home page."""
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if safe else "/"


def refused(
    request: Request, template: str, status: int, error: Refused, form: dict[str, str], **values: Any
) -> Response:
    """A form again, with what was wrong; `status` unless it came too often."""
    wait, said, name = retry_after(error), as_sentence(str(error)), form.get("name", "")[:200]
    shown = page(request, template, 429 if wait else status, error=said, name=name, **values)
    shown.headers.update(wait)
    return shown


async def read_form(request: Request) -> dict[str, str]:
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
    environment.globals["version"] = __version__
    return environment
