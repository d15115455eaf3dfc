"""Webhooks: what is told, when it counts as told, and that nothing is told of what was not stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.feedback.kit import hand_in, join, start, take, vote
from tests.feedback.test_accounts import refused
from tutelage.feedback.asking.payloads import PairAnswer
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import deletion, projects, webhooks
from tutelage.feedback.projects.webhooks import Message
from tutelage.feedback.work import answers, queue
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import now
from tutelage.store.schema_feedback import WebhookDelivery

URL = "https://example.org/hook"


def told(database: Database) -> list[tuple[str, dict[str, Any]]]:
    with database.read() as connection:
        rows = connection.execute(
            select(WebhookDelivery.event, WebhookDelivery.payload).order_by(WebhookDelivery.id)
        )
        return [(event, payload["data"]) for event, payload in rows]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    passed = [timedelta()]
    monkeypatch.setattr(webhooks, "now", lambda: now() + passed[0])
    return lambda **by: passed.__setitem__(0, passed[0] + timedelta(**by))


def two(store: Store, database: Database, **settings: Any) -> tuple[Member, Member, Member]:
    olga = start(store, database, prompts=1, overlap=2, **settings)
    return olga, join(database, olga.user, "main", "ben"), join(database, olga.user, "main", "mia")


def test_answers_completion_and_conflict_are_told(store: Store, database: Database) -> None:
    olga, ben, mia = two(store, database)
    webhooks.add_webhook(database, olga, URL, ("answered", "complete", "conflict"))
    webhooks.add_webhook(database, olga, "https://example.org/less", ("conflict",))
    task = take(database, ben)
    hand_in(database, ben, task, PairAnswer(preference=2))
    assert told(database) == [
        (
            "answered",
            {
                "project": "main", "item_id": task.item_id, "type": "pair", "annotation_id": 1,
                "counted": True, "answers": 1, "wanted": 2,
            },
        )
    ]  # fmt: skip
    other = take(database, mia)
    while other.item_id != task.item_id:
        hand_in(database, mia, other, PairAnswer(preference=1))
        other = take(database, mia)
    same_side = 2 if other.responses[0].text == task.responses[0].text else -2
    hand_in(database, mia, other, PairAnswer(preference=-same_side))
    about = Counter((event, data["item_id"] == task.item_id) for event, data in told(database))
    assert (
        about["complete", True] == 1 and about["conflict", True] == 2
    )  # both webhooks want to know of conflicts
    assert about["complete", False] == about["conflict", False] == 0


def test_agreement_is_no_conflict_and_nobody_is_told_elsewhere(store: Store, database: Database) -> None:
    olga, ben, mia = two(store, database)
    other = projects.create_project(database, olga.user, "other")
    webhooks.add_webhook(database, other, URL, ("answered",))
    webhooks.add_webhook(database, olga, URL, ("complete", "conflict"))
    for who in (ben, mia):
        while (task := queue.next_task(database, who)) is not None:
            hand_in(database, who, task, PairAnswer(preference=0))
    assert {event for event, _ in told(database)} == {"complete"}


def test_nothing_is_told_of_what_was_not_stored(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is written with the answer or not at all."""
    olga, ben, _ = two(store, database)
    webhooks.add_webhook(database, olga, URL, ("answered",))
    task = take(database, ben)

    def broken(**_: Any) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(answers, "Receipt", broken)
        hand_in(database, ben, task, PairAnswer(preference=1))
    assert told(database) == []
    hand_in(database, ben, task, PairAnswer(preference=1))
    assert len(told(database)) == 1


def test_signatures_are_those_of_standard_webhooks(store: Store, database: Database) -> None:
    olga, ben, _ = two(store, database)
    key, secret = webhooks.add_webhook(database, olga, URL, ("answered",))
    vote(database, ben, 1)
    message = webhooks.claim(database, key)
    assert message is not None and json.loads(message.body)["type"] == "answered"
    signed = (
        f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    )
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert message.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    # the example of the specification
    found = webhooks.signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def one_of(database: Database, key: int) -> Message:
    message = webhooks.claim(database, key)
    assert message is not None
    return message


@pytest.mark.slow
def test_what_fails_is_tried_again_ever_more_seldom(store: Store, database: Database, clock: Any) -> None:
    olga, ben, _ = two(store, database)
    key, _ = webhooks.add_webhook(database, olga, URL, ("answered",))
    for _ in range(3):
        vote(database, ben, 1)
    assert webhooks.due(database) == [key]
    first = one_of(database, key)
    webhooks.failed(database, first, "example.org answered with 503.", away=True)
    assert webhooks.due(database) == []  # the receiver is away: the others wait, too
    pauses = []
    for _ in range(12):
        waited = 0
        while not webhooks.due(database):
            clock(seconds=5)
            waited += 5
        pauses.append(waited)
        again = one_of(database, key)
        assert (again.id, again.headers["webhook-id"]) == (first.id, first.headers["webhook-id"])
        webhooks.failed(database, again, "example.org answered with 503.", away=True)
    assert pauses == sorted(pauses) and pauses[0] <= 10 and pauses[-1] <= 3605
    clock(hours=1)
    webhooks.delivered(database, one_of(database, key))
    rest = [one_of(database, key), one_of(database, key)]  # at once, now that the receiver is back
    assert webhooks.claim(database, key) is None
    for message in rest:
        webhooks.delivered(database, message)
    (row,) = webhooks.webhooks(database, olga)
    assert (row.waiting, row.delivered) == (0, 3)
    assert {found.error for found in webhooks.deliveries(database, olga)} == {""}


def test_one_message_that_is_refused_does_not_hold_up_the_others(store: Store, database: Database) -> None:
    olga, ben, _ = two(store, database)
    key, _ = webhooks.add_webhook(database, olga, URL, ("answered",))
    for _ in range(2):
        vote(database, ben, 1)
    first = one_of(database, key)
    webhooks.failed(database, first, "example.org answered with 400.", away=False)
    second = one_of(database, key)
    assert second.id != first.id
    assert [d.error for d in webhooks.deliveries(database, olga)] == ["", "example.org answered with 400."]


def test_a_message_in_the_hands_of_who_dies_is_due_again(
    store: Store, database: Database, clock: Any
) -> None:
    olga, ben, _ = two(store, database)
    key, _ = webhooks.add_webhook(database, olga, URL, ("answered",))
    vote(database, ben, 1)
    first = one_of(database, key)
    assert webhooks.claim(database, key) is None  # nobody else sends it meanwhile
    clock(minutes=2)
    again = one_of(database, key)
    assert again.headers["webhook-id"] == first.headers["webhook-id"] and again.attempts == 2


def test_paused_deleted_and_forgotten(store: Store, database: Database, clock: Any) -> None:
    olga, ben, _ = two(store, database)
    key, _ = webhooks.add_webhook(database, olga, URL, ("answered",))
    webhooks.set_webhook_active(database, olga, key, False)
    vote(database, ben, 1)
    assert webhooks.due(database) == [] and webhooks.claim(database, key) is None
    webhooks.set_webhook_active(database, olga, key, True)
    webhooks.delivered(database, one_of(database, key))  # what came in between is sent
    webhooks.send_test(database, olga, key)
    assert one_of(database, key).body.count(b'"type": "test"') == 1
    clock(days=31)
    webhooks.forget_delivered(database)
    assert [d.event for d in webhooks.deliveries(database, olga)] == [
        "test"
    ]  # it did not arrive, so it stays
    deletion.delete_project(database, olga)
    assert webhooks.due(database) == []
    deletion.restore_project(database, olga)
    webhooks.delete_webhook(database, olga, key)
    assert webhooks.webhooks(database, olga) == webhooks.deliveries(database, olga) == []
    with refused("not-found"):
        webhooks.send_test(database, olga, key)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://",
        "example.org",
        "https://me:secret@example.org/",
        "https://example.org/a b",
        "http://localhost.example.org/",
        "http://10.0.0.1/",
        "https://example.org:port/",
        "https://[::1/",
        "file:///etc/passwd",
        "https://example.org/" + "x" * 2000,
    ],
)
def test_addresses_that_cannot_be(url: str) -> None:
    with refused("invalid"):
        webhooks.check_url(url)


def test_who_may_and_how_many(store: Store, database: Database) -> None:
    olga, ben, _ = two(store, database)
    for url in (
        "http://localhost:9000/x",
        "http://127.0.0.1/",
        "http://[::1]:8080/",
        "https://example.org:8443/a?b=c",
    ):
        webhooks.check_url(url)
    with refused("forbidden"):
        webhooks.add_webhook(database, ben, URL, ("answered",))
    with refused("forbidden"):
        webhooks.webhooks(database, ben)
    with refused("invalid"):
        webhooks.add_webhook(database, olga, URL, ())
    for _ in range(webhooks.MOST):
        key, _secret = webhooks.add_webhook(database, olga, URL, ("complete",))
    with refused("conflict"):
        webhooks.add_webhook(database, olga, URL, ("complete",))
    other = projects.create_project(database, olga.user, "other")
    for attempt in (webhooks.delete_webhook, webhooks.send_test):
        with refused("not-found"):  # another project's
            attempt(database, other, key)
