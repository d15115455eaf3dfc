"""`tutelage serve`: check how the server shall be reached, print the links, and serve until Ctrl-C."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from rich.console import Console

from tutelage.feedback.people.invitations import first_owner_invitation
from tutelage.feedback.projects.webhooks import is_loopback
from tutelage.settings.web import ServeSettings as Settings
from tutelage.store.database import Database
from tutelage.web.app import build_app
from tutelage.web.exporting import Exports
from tutelage.web.generation import Drawing, LiveGenerator, NamedModel
from tutelage.web.security import LOOPBACK
from tutelage.web.site import Site
from tutelage.web.workers import share


def main(settings: Settings, console: Console) -> None:
    """Serve until interrupted.

    Raises ValueError when the settings contradict each other, when other machines were let in before there is an owner,
    when a port is taken, or when the store cannot be used.
    """
    check(settings)
    database = Database(settings.store)
    try:
        listener = listen(settings.host, settings.port)
        with listener:
            _serve(settings, console, database, listener)
    finally:
        database.close()


def check(settings: Settings) -> None:
    """Raises ValueError for settings that cannot go together."""
    if bool(settings.certificate) != bool(settings.certificate_key):
        raise ValueError("certificate and certificate_key belong together: give both or neither.")
    for name in ("certificate", "certificate_key"):
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            raise ValueError(f"{name}={path}: there is no such file.")
    if settings.url and urlsplit(settings.url).scheme not in ("http", "https"):
        raise ValueError(f"url={settings.url} is no address: write it like https://labels.example.org.")
    for place in settings.proxies:
        try:
            ipaddress.ip_network(place)
        except ValueError as error:
            raise ValueError(
                f"proxies: {place} is no address and no network ({error}): list those of your proxies, as 10.0.0.5 or "
                "10.0.0.0/24; whoever is believed can say to come from anywhere."
            ) from error
    named_models(settings.models)


def named_models(models: Sequence[str]) -> tuple[NamedModel, ...]:
    """The models of `models=`, each "path" or "name=path".  Raises ValueError for a name given twice."""
    found: dict[str, NamedModel] = {}
    for entry in models:
        name, _, path = entry.rpartition("=")
        name = name or Path(path).name
        if name in found:
            raise ValueError(f"models: two are called '{name}': name one of them, as in other={path}.")
        found[name] = NamedModel(name, path)
    return tuple(found.values())


def site(settings: Settings, database: Database, exports: Path | None = None) -> Site:
    """What the app runs on, as the settings say; `exports`: a folder that is shared with others."""
    drawing = Drawing(
        settings.max_new_tokens, settings.temperature, settings.device, settings.precision, settings.kernels
    )
    generator = LiveGenerator(named_models(settings.models), drawing)
    kept = Exports(exports or (Path(settings.exports) if settings.exports else None))
    return Site(database, generator, kept, https=is_https(settings), hosts=host_names(settings))


def is_https(settings: Settings) -> bool:
    """Whether browsers reach the server over TLS, its own or a proxy's."""
    return bool(settings.certificate) or urlsplit(settings.url).scheme == "https"


def host_names(settings: Settings) -> tuple[str, ...]:
    """The names that requests may be for; () = any, when other machines are let in without a `url`."""
    named = urlsplit(settings.url).hostname
    if is_loopback(settings.host):
        return (*LOOPBACK, *([named] if named else []))
    return (named, *LOOPBACK) if named else ()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.  Raises ValueError when the port is taken or the address is not one of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only on sockets that name their protocol; with it, every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"cannot listen on {host} port {port} ({error.strerror}): choose another port= or host=."
        ) from error
    return listener


def address(settings: Settings, port: int) -> str:
    """Where people find the server."""
    if settings.url:
        return settings.url.rstrip("/")
    name = "localhost" if settings.host in ("0.0.0.0", "::") or is_loopback(settings.host) else settings.host
    return f"{'https' if settings.certificate else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"


def _serve(settings: Settings, console: Console, database: Database, listener: socket.socket) -> None:
    invitation = first_owner_invitation(database)
    if invitation is not None and not is_loopback(settings.host):
        raise ValueError(
            f"host={settings.host} lets other machines in, but nobody owns this store yet: start once without host=, "
            "open the owner link, then start again."
        )
    here = address(settings, listener.getsockname()[1])
    console.print(f"Tutelage serves {database.place} at {here}  (Ctrl-C ends it)", soft_wrap=True)
    if invitation is not None:
        console.print(f"Open this link once to become the owner: {here}/join/{invitation}", soft_wrap=True)
    if not is_loopback(settings.host) and not is_https(settings):
        console.print(
            "Warning: without TLS, passwords and answers cross the network readable; give certificate= and "
            "certificate_key=, or put a proxy in front and give url=https://...",
            style="yellow",
            soft_wrap=True,
        )
    if settings.workers > 1:
        share(settings, console, listener)
    else:
        uvicorn.Server(configured(settings, build_app(site(settings, database)))).run(sockets=[listener])


def configured(settings: Settings, app: Any, **more: Any) -> uvicorn.Config:
    """How uvicorn serves an app."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.url),
        forwarded_allow_ips=settings.proxies,
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.certificate_key or None,
        timeout_graceful_shutdown=5,
        **more,
    )
