"""API: a project's webhooks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.projects import webhooks
from tutelage.feedback.projects.webhooks import Delivery, Event, WebhookRow
from tutelage.web.access import Manager, TheSite
from tutelage.web.api_people import Activity
from tutelage.web.fields import Id, strict_router

router = strict_router("webhooks")


class NewWebhook(Model):
    """An address, and the events that it is told of."""

    url: Annotated[str, Field(min_length=1, max_length=webhooks.LONGEST_URL)]
    events: Annotated[tuple[Event, ...], Field(min_length=1, max_length=len(webhooks.EVENTS))] = (
        webhooks.EVENTS
    )


class NewSecret(Model):
    """A webhook's number, and what its messages are signed with: told once."""

    id: int
    secret: str


@router.get("/projects/{project}/webhooks")
def list_webhooks(site: TheSite, who: Manager) -> list[WebhookRow]:
    """All webhooks, oldest first."""
    return webhooks.webhooks(site.database, who)


@router.post("/projects/{project}/webhooks", status_code=201)
def add_webhook(site: TheSite, who: Manager, body: NewWebhook) -> NewSecret:
    """Tell an address of what happens from now on."""
    site.limits.take("invite", site.database, who.user.name)
    key, secret = webhooks.add_webhook(site.database, who, body.url, body.events)
    return NewSecret(id=key, secret=secret)


@router.get("/projects/{project}/webhooks/deliveries")
def list_deliveries(site: TheSite, who: Manager) -> list[Delivery]:
    """The newest hundred messages, delivered or not, with the last error of each."""
    return webhooks.deliveries(site.database, who, 100)


@router.put("/projects/{project}/webhooks/{webhook_id}", status_code=204)
def set_webhook_active(site: TheSite, who: Manager, webhook_id: Id, body: Activity) -> None:
    """Pause a webhook (its messages are kept), or send to it again, at once."""
    webhooks.set_webhook_active(site.database, who, webhook_id, body.active)


@router.delete("/projects/{project}/webhooks/{webhook_id}", status_code=204)
def delete_webhook(site: TheSite, who: Manager, webhook_id: Id) -> None:
    """Delete a webhook, with the messages that it did not get."""
    webhooks.delete_webhook(site.database, who, webhook_id)


@router.post("/projects/{project}/webhooks/{webhook_id}/test", status_code=202)
def test_webhook(site: TheSite, who: Manager, webhook_id: Id) -> None:
    """Send a message of the type `test`; the list of deliveries shows what became of it."""
    site.limits.take("invite", site.database, who.user.name)
    webhooks.send_test(site.database, who, webhook_id)
