"""Sends the messages of webhooks: a thread of the server, so that nobody who labels waits for a receiver.

A manager chooses the address, and the server stands where it may reach more than the manager does.  So a name is looked
up once, every address behind it is checked, and the connection goes to the address that was checked; redirects are not
followed, proxies not used, and of an answer only the status is told.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from urllib.parse import urlsplit

import httpx2

from tutelage.feedback.projects import webhooks
from tutelage.feedback.projects.webhooks import Message
from tutelage.store.database import Database

TIMEOUT = 10.0  # seconds for sending one message, from the connection to the status of the answer
AT_ONCE = 4  # receivers
ROUND = 100  # messages to one receiver, then the others have their turn
PAUSE = 1.0  # seconds between looks at what is due
TIDY = 3600.0  # seconds between deletions of what was delivered long ago
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")))
_log = logging.getLogger(__name__)


class NotSent(Exception):
    """Why a message did not arrive, in a sentence; `away`: the receiver cannot be reached, or is broken."""

    def __init__(self, sentence: str, away: bool = True) -> None:
        super().__init__(sentence)
        self.away = away


class Sender:
    """The thread.  `start` and `stop` go with the server; a message in hand when it dies is sent again later."""

    def __init__(self, database: Database, pause: float = PAUSE) -> None:
        self._database, self._pause = database, pause
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send what is due."""
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the messages in hand."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        tidied = -TIDY
        with ThreadPoolExecutor(AT_ONCE, "webhook") as pool:
            while not self._over.wait(self._pause):
                try:
                    list(pool.map(self._serve, webhooks.due(self._database)))
                    if time.monotonic() - tidied > TIDY:
                        webhooks.forget_delivered(self._database)
                        tidied = time.monotonic()
                except Exception:  # the database is away, perhaps: nothing is lost, and a thread that ends is
                    _log.exception("webhooks: sending failed; it is tried again")

    def _serve(self, webhook_id: int) -> None:
        """Send what one webhook has, oldest first, until something fails."""
        for _ in range(ROUND):
            message = None if self._over.is_set() else webhooks.claim(self._database, webhook_id)
            if message is None:
                return
            try:
                send(message)
            except NotSent as error:
                webhooks.failed(self._database, message, str(error), error.away)
                if error.away:
                    return
            else:
                webhooks.delivered(self._database, message)


def send(message: Message, transport: httpx2.AsyncBaseTransport | None = None) -> None:
    """Send one message.  Raises NotSent.  (`transport`: other than the network.)"""
    parts = urlsplit(message.url)
    host = parts.hostname or ""
    address = checked_address(host, parts.port or (443 if parts.scheme == "https" else 80), parts.scheme)
    there = httpx2.URL(message.url).copy_with(host=address)
    try:
        status = asyncio.run(_post(there, message, host, parts.netloc, transport))
    except TimeoutError as error:
        raise NotSent(f"{host} did not answer within {TIMEOUT:.0f} s.") from error
    except (httpx2.HTTPError, OSError) as error:
        raise NotSent(f"{host} cannot be reached: {str(error)[:200]}.") from error
    if 300 <= status < 400:
        raise NotSent(
            f"{host} answered with {status}, a redirect, which is not followed: give the final address."
        )
    if status >= 400:
        raise NotSent(f"{host} answered with {status}.", away=status >= 500 or status == 429)


async def _post(
    there: httpx2.URL, message: Message, host: str, netloc: str, transport: httpx2.AsyncBaseTransport | None
) -> int:
    """The status of the answer, whose body is not read.  Async only for a time limit on the whole: drops come for ever."""
    headers, named = {**message.headers, "host": netloc}, {"sni_hostname": host}
    async with (
        asyncio.timeout(TIMEOUT),
        httpx2.AsyncClient(verify=_trusted(), trust_env=False, timeout=None, transport=transport) as client,
        client.stream("POST", there, content=message.body, headers=headers, extensions=named) as answer,
    ):
        return answer.status_code


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """This machine's certificates; reading them takes longer than a message."""
    return ssl.create_default_context()


def checked_address(host: str, port: int, scheme: str) -> str:
    """An address of the host that may be sent to.  Raises NotSent, also when only one of its addresses may not."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise NotSent(f"the name {host} is not known.") from error
    for text in sorted(found):
        address = ipaddress.ip_address(str(text).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if _is_forbidden(address) or (scheme == "http" and not address.is_loopback):
            raise NotSent(f"{host} is at {address}, where messages may not go.")
    return str(min(found, key=lambda text: (":" in str(text), str(text))))  # IPv4 first: it works everywhere


def _is_forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Link-local (there, clouds tell machines their secrets), other places of that kind, and what is no receiver."""
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and not address.is_loopback)
        or address in _METADATA
    )
