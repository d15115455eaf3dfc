"""What guards every request before any route sees it, and what every answer carries.

`Shield` refuses hosts that are not ours (a page elsewhere cannot reach a server on loopback by pointing its own name
there), bodies that are too long, and state-changing requests that another site's page made.  It gives every answer a
strict content security policy with a fresh nonce.  Sessions, tokens and roles are checked in `access.py`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LONGEST_BODY = 512 * 2**10  # bytes: anybody may send that much; the longest answer is 400 kB of UTF-8
LONGEST_IMPORT = 32 * 2**20  # bytes of an import: its routes look who is asking before they read it
_IMPORT = re.compile(r"/api/v1/projects/[^/]+/import(/|$)")
_STATIC = "no-cache"  # asked for again each time, answered with 304


@dataclass(frozen=True)
class Shield:
    """ASGI middleware.  `hosts`: the names this server answers to (empty = any); `https`: it is reached over TLS."""

    app: App
    hosts: tuple[str, ...] = ()
    https: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce
        send = _with_headers(send, self._headers(nonce, scope["path"]))
        longest = LONGEST_IMPORT if _IMPORT.match(scope["path"]) else LONGEST_BODY
        refusal = self._refusal(scope["method"], Headers(scope=scope), longest)
        if refusal:
            status, sentence = refusal
            await JSONResponse({"detail": sentence}, status)(scope, receive, send)
        else:
            await self.app(scope, _Guarded(receive, longest).receive, send)

    def _refusal(self, method: str, headers: Headers, longest: int) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts and host_name(host) not in self.hosts:
            return 421, "This server does not answer to that host name: use the address that it printed."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > longest:
            return 413, _too_long(longest)
        if method not in SAFE_METHODS and from_elsewhere(headers):
            return 403, "This request came from a page of another site, so it was refused."
        return None

    def _headers(self, nonce: str, path: str) -> Iterable[tuple[str, str]]:
        yield "content-security-policy", policy(nonce)
        yield "x-content-type-options", "nosniff"
        yield "x-frame-options", "DENY"
        yield "referrer-policy", "same-origin"
        yield "cross-origin-opener-policy", "same-origin"
        yield "cross-origin-resource-policy", "same-origin"
        yield "permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        yield "cache-control", _STATIC if path.startswith("/static/") else "no-store"
        if self.https:
            yield "strict-transport-security", "max-age=31536000"


def policy(nonce: str) -> str:
    """The content security policy: scripts with this answer's nonce, our stylesheet, our own server; nothing else."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types tutelage"
    )


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that another site's page made this request; programs send neither header."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


class _Guarded:
    """A request body that may not grow beyond what is allowed (a body without a stated length)."""

    def __init__(self, receive: Receive, longest: int) -> None:
        self._receive, self._longest, self._left = receive, longest, longest

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, _too_long(self._longest))
        return message


def _too_long(longest: int) -> str:
    return f"The request is too long: send at most {longest // 2**10:,} KiB at once."


def _with_headers(send: Send, headers: Iterable[tuple[str, str]]) -> Send:
    """Adds headers to an answer that does not have them already."""

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            said = MutableHeaders(scope=message)
            for name, value in headers:
                said.setdefault(name, value)
        await send(message)

    return wrapped
