"""Webhooks: addresses that are told what happens in a project.

A message is a row, written in the transaction that does what it tells of, and kept until it is delivered; `web.sender`
sends it.  Signatures are those of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over
"ID.TIMESTAMP.BODY", so receivers find a library for them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import Connection, bindparam, delete, func, select, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import Member, note
from tutelage.store.database import Database
from tutelage.store.schema import Project, now
from tutelage.store.schema_feedback import Webhook, WebhookDelivery
from tutelage.store.sql import insert_one

Event = Literal["answered", "complete", "conflict"]
EVENTS: tuple[Event, ...] = ("answered", "complete", "conflict")
MOST = 10  # webhooks of one project
LONGEST_URL = 2_000  # characters
CLAIMED = timedelta(minutes=1)  # that a message being sent is nobody else's; longer than sending takes
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(hours=1)  # between tries; doubled every time
KEPT = timedelta(days=30)  # what was delivered is listed for so long


@dataclass(frozen=True)
class WebhookRow:
    """A webhook as its managers see it: never its secret.  `waiting`: messages that are not delivered yet."""

    id: int
    url: str
    events: tuple[Event, ...]
    active: bool
    created_at: datetime
    waiting: int
    delivered: int


@dataclass(frozen=True)
class Delivery:
    """One message in the list of deliveries; `error` is what became of the last try ("" = none, or it arrived)."""

    id: int
    url: str
    event: str
    created_at: datetime
    attempts: int
    next_at: datetime
    delivered_at: datetime | None
    error: str


@dataclass(frozen=True)
class Message:
    """A message to send now: `headers` and `body` are signed."""

    id: int
    webhook_id: int
    url: str
    body: bytes
    headers: dict[str, str]
    attempts: int


# for managers ---------------------------------------------------------------------------------------------------------


def add_webhook(database: Database, who: Member, url: str, events: tuple[Event, ...]) -> tuple[int, str]:
    """The number of a new webhook, and its secret, told once.  Needs manage.

    Refused: invalid (an address that is not https, nor http on this machine; no events); conflict (ten already).
    """
    who.require("manage")
    check_url(url)
    if not events or not set(events) <= set(EVENTS):
        raise Refused("invalid", f"choose at least one event of {', '.join(EVENTS)}.")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with database.write() as connection:
        there = select(func.count(Webhook.id)).where(Webhook.project_id == who.project_id)
        if (connection.scalar(there) or 0) >= MOST:
            raise Refused("conflict", f"a project has at most {MOST} webhooks: delete one first.")
        wanted = sorted(set(events))
        owner = {"project_id": who.project_id, "by_id": who.user.account_id}
        key = insert_one(connection, Webhook, **owner, url=url, secret=secret, events=wanted)
        note(connection, who.user, "webhook", url, who.project_id, events=wanted)
        return key, secret


def webhooks(database: Database, who: Member) -> list[WebhookRow]:
    """A project's webhooks, oldest first.  Needs manage."""
    who.require("manage")
    sent = WebhookDelivery.delivered_at.is_not(None)
    mine = WebhookDelivery.webhook_id == Webhook.id
    counts = [select(func.count()).where(mine, which).scalar_subquery() for which in (~sent, sent)]
    columns = (Webhook.id, Webhook.url, Webhook.events, Webhook.active, Webhook.created_at)
    query = select(*columns, *counts).where(Webhook.project_id == who.project_id).order_by(Webhook.id)
    with database.read() as connection:
        return [
            WebhookRow(key, url, tuple(events), *rest)
            for key, url, events, *rest in connection.execute(query)
        ]


def deliveries(database: Database, who: Member, limit: int = 20) -> list[Delivery]:
    """The newest messages of a project's webhooks, delivered or not.  Needs manage."""
    who.require("manage")
    row = WebhookDelivery
    columns = (row.event, row.created_at, row.attempts, row.next_at, row.delivered_at, row.error)
    query = select(row.id, Webhook.url, *columns).join(Webhook, Webhook.id == row.webhook_id)
    query = query.where(Webhook.project_id == who.project_id).order_by(row.id.desc()).limit(limit)
    with database.read() as connection:
        return [Delivery(*found) for found in connection.execute(query)]


def set_webhook_active(database: Database, who: Member, webhook_id: int, active: bool) -> None:
    """Pause a webhook (its messages are kept meanwhile), or send to it again, at once.  Needs manage.  Refused: not-found."""
    with database.write() as connection:
        url = _url_of(connection, who, webhook_id)
        connection.execute(update(Webhook).where(Webhook.id == webhook_id).values(active=active))
        if active:
            connection.execute(_waiting(webhook_id).values(next_at=now()))
        note(connection, who.user, "webhook-on" if active else "webhook-off", url, who.project_id)


def delete_webhook(database: Database, who: Member, webhook_id: int) -> None:
    """Delete a webhook with its messages, sent or not.  Needs manage.  Refused: not-found."""
    with database.write() as connection:
        url = _url_of(connection, who, webhook_id)
        connection.execute(delete(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id))
        connection.execute(delete(Webhook).where(Webhook.id == webhook_id))
        note(connection, who.user, "delete-webhook", url, who.project_id)


def send_test(database: Database, who: Member, webhook_id: int) -> int:
    """Write a message of the event `test`; its number among the deliveries.  Needs manage.  Refused: not-found."""
    with database.write() as connection:
        _url_of(connection, who, webhook_id)
        return _write(connection, webhook_id, "test", {"project": who.project})


def check_url(url: str) -> None:
    """Refused: invalid, unless it is https://..., or http://... on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    usable = url.isascii() and url.isprintable() and " " not in url and len(url) <= LONGEST_URL and host
    if not usable or parts.username is not None or parts.scheme not in ("https", "http"):
        raise Refused(
            "invalid", "an address looks like https://example.org/hook, without name or password in it."
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise Refused("invalid", "messages go over https; http only to this machine (http://localhost...).")


# inside the transactions of what happens ------------------------------------------------------------------------------


def tell(connection: Connection, project_id: int, event: Event, data: dict[str, Any]) -> None:
    """Write a message for every webhook of the project that wants this event; paused ones too: it waits for them."""
    for row in connection.execute(select(Webhook.id, Webhook.events).where(Webhook.project_id == project_id)):
        if event in row.events:
            _write(connection, row.id, event, data)


def anybody_listens(connection: Connection, project_id: int) -> bool:
    """Whether a project has a webhook at all."""
    return connection.scalar(_LISTENS, {"project": project_id}) is not None


# With every answer: built once, since building a statement costs as much as running it.
_LISTENS = select(Webhook.id).where(Webhook.project_id == bindparam("project")).limit(1)


# for the sender -------------------------------------------------------------------------------------------------------


def due(database: Database) -> list[int]:
    """The webhooks that have something to send now."""
    waiting = (WebhookDelivery.delivered_at.is_(None), WebhookDelivery.next_at <= now())
    query = select(WebhookDelivery.webhook_id).join(Webhook).join(Project)
    query = query.where(*waiting, Webhook.active, Project.deleted_at.is_(None)).distinct()
    with database.read() as connection:
        return list(connection.scalars(query))


def claim(database: Database, webhook_id: int) -> Message | None:
    """The webhook's oldest message that is due, signed; for a while it is nobody else's.  None when there is none.

    Whoever dies with it in hand loses nothing: then it is due again, and may arrive twice, under the same id.
    """
    at = now()
    mine = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.delivered_at.is_(None))
    with database.write() as connection:
        row = connection.execute(
            select(WebhookDelivery, Webhook.url, Webhook.secret)
            .join(Webhook)
            .where(*mine, WebhookDelivery.next_at <= at, Webhook.active)
            .order_by(WebhookDelivery.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=WebhookDelivery)
        ).one_or_none()
        if row is None:
            return None
        taken = update(WebhookDelivery).where(WebhookDelivery.id == row.id)
        connection.execute(taken.values(attempts=row.attempts + 1, next_at=at + CLAIMED))
    body = json.dumps(row.payload, ensure_ascii=False).encode()
    headers = signed(row.secret, row.payload["id"], int(datetime.now(UTC).timestamp()), body)
    return Message(row.id, webhook_id, row.url, body, headers, row.attempts + 1)


def delivered(database: Database, message: Message) -> None:
    """It arrived; what waited because the receiver was away is due at once."""
    with database.write() as connection:
        done = update(WebhookDelivery).where(WebhookDelivery.id == message.id)
        connection.execute(done.values(delivered_at=now(), error=""))
        untried = _waiting(message.webhook_id).where(WebhookDelivery.attempts == 0)
        connection.execute(untried.where(WebhookDelivery.next_at > now()).values(next_at=now()))


def failed(database: Database, message: Message, error: str, away: bool) -> None:
    """It did not arrive: try again later; `away`: the receiver is, so that its other messages wait for as long."""
    pause = min(FIRST_PAUSE * 2 ** min(message.attempts - 1, 20), LONGEST_PAUSE)
    later = now() + pause
    with database.write() as connection:
        mine = update(WebhookDelivery).where(WebhookDelivery.id == message.id)
        connection.execute(mine.values(next_at=later, error=error))
        if away:
            others = _waiting(message.webhook_id).where(WebhookDelivery.next_at < later)
            connection.execute(others.values(next_at=later))


def forget_delivered(database: Database) -> None:
    """Delete what was delivered long ago."""
    with database.write() as connection:
        connection.execute(delete(WebhookDelivery).where(WebhookDelivery.delivered_at < now() - KEPT))


def signed(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message: its id (the same however often it is sent), seconds since 1970, and the signature."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "Tutelage",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def _write(connection: Connection, webhook_id: int, event: str, data: dict[str, Any]) -> int:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    payload = {"id": f"msg_{uuid.uuid4().hex}", "type": event, "timestamp": at, "data": data}
    return insert_one(connection, WebhookDelivery, webhook_id=webhook_id, event=event, payload=payload)


def _waiting(webhook_id: int) -> Any:
    """A change of the messages that are not delivered and not being sent just now."""
    return update(WebhookDelivery).where(
        WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.delivered_at.is_(None)
    )


def _url_of(connection: Connection, who: Member, webhook_id: int) -> str:
    """Needs manage.  Refused: not-found."""
    who.require("manage")
    mine = (Webhook.id == webhook_id, Webhook.project_id == who.project_id)
    url = connection.scalar(select(Webhook.url).where(*mine))
    if url is None:
        raise Refused("not-found", f"there is no webhook {webhook_id} in this project.")
    return url


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
