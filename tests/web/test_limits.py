"""Rate limits: a burst, then one at a time, each name on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from tests.web.kit import PASSWORD, Parrots, World
from tutelage.feedback.errors import Refused
from tutelage.feedback.people import allowances
from tutelage.feedback.people.invitations import invite
from tutelage.feedback.people.passwords import FAILURES_PER_NAME
from tutelage.feedback.people.tokens import create_token
from tutelage.store.database import Database
from tutelage.web.app import build_app
from tutelage.web.limits import Limit, Limits
from tutelage.web.site import Site


def test_a_burst_then_one_every_so_often(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in the store: two servers on it, as `Database` stands for each, share the allowance."""
    at = [datetime(2026, 1, 1, tzinfo=UTC)]
    monkeypatch.setattr(allowances, "now", lambda: at[0])
    other = Database(world.path)

    def wait(name: str, database: Database = world.database) -> float:
        return allowances.take(database, "tries", name, burst=3, seconds=10)

    assert [wait("ann"), wait("ann", other), wait("ann")] == [0, 0, 0]
    assert wait("ann", other) == pytest.approx(10)
    assert wait("ben") == 0
    at[0] += timedelta(seconds=4)
    assert wait("ann") == pytest.approx(6)
    at[0] += timedelta(seconds=6)
    assert wait("ann", other) == 0
    assert wait("ann") == pytest.approx(10)
    other.close()


def test_what_goes_on_once_goes_on_once_on_all_servers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = [datetime(2026, 1, 1, tzinfo=UTC)]
    monkeypatch.setattr(allowances, "now", lambda: at[0])
    other = Database(world.path)
    allowances.begin(world.database, "1/7", 60, "wait")
    with pytest.raises(Refused, match="wait"):
        allowances.begin(other, "1/7", 60, "wait")
    allowances.begin(other, "1/8", 60, "wait")
    allowances.end(world.database, "1/7")
    allowances.begin(other, "1/7", 60, "wait")
    at[0] += timedelta(seconds=59)
    allowances.go_on(other, "1/7", 60)  # still at it
    at[0] += timedelta(seconds=2)
    with pytest.raises(Refused, match="wait"):
        allowances.begin(world.database, "1/7", 60, "wait")
    at[0] += timedelta(seconds=60)  # whoever held it is dead
    allowances.begin(world.database, "1/7", 60, "wait")
    allowances.end(world.database, "1/7")
    allowances.go_on(other, "1/7", 60)  # too late: it is over
    allowances.begin(other, "1/7", 60, "wait")
    other.close()


def test_tokens_and_generation_are_limited(world: World) -> None:
    world.project("hasty", {"type": "chat"})
    tight = Limits(
        generate=Limit(1, 60), token=Limit(2, 60, "new tokens"), export=Limit(1, 60), invite=Limit(1, 60)
    )
    token = create_token(world.database, world.owner, "limits", ("manage",))
    with TestClient(build_app(Site(world.database, generator=Parrots(), limits=tight))) as client:
        csrf = client.post("/api/v1/auth/login", json={"name": "ann", "password": PASSWORD}).json()["csrf"]
        body, headers = {"name": "x", "scopes": ["read"]}, {"X-CSRF-Token": csrf}
        made = [client.post("/api/v1/me/tokens", json=body, headers=headers) for _ in range(3)]
        client.headers["Authorization"] = f"Bearer {token}"
        assert [answer.status_code for answer in made] == [201, 201, 429]
        assert 1 <= int(made[-1].headers["Retry-After"]) <= 60
        assert made[-1].json()["detail"].startswith("Too many new tokens at once: try again in ")
        task = client.post("/api/v1/projects/hasty/next", json={}).json()["view"]["task"]
        url = f"/api/v1/projects/hasty/assignments/{task['assignment_id']}/turns"
        said = [client.post(url, json={"message": "Hello"}) for _ in range(2)]
        assert [answer.status_code for answer in said] == [201, 429]
        assert "Retry-After" in said[-1].headers
        exported = [client.post("/api/v1/projects/main/exports", json={}) for _ in range(2)]
        assert [answer.status_code for answer in exported] == [201, 429]
        invited = [client.post("/api/v1/projects/main/invitations", json={}) for _ in range(2)]
        assert [answer.status_code for answer in invited] == [201, 429]


@pytest.mark.slow
def test_guessing_at_an_invitation_counts_as_logging_in(world: World) -> None:
    """The form that joins also takes the password of an account that is there: it must not be a way round the limit."""
    world.user("wanted", "main")
    secret = invite(world.database, world.owner, "main", "annotator")
    with TestClient(build_app(Site(world.database))) as client:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://testserver"}
        tried = [
            client.post(f"/join/{secret}", content="name=wanted&password=guess", headers=form)
            for _ in range(FAILURES_PER_NAME + 1)
        ]
        assert [answer.status_code for answer in tried] == [422] * FAILURES_PER_NAME + [429]
        shut = client.post("/login", content=f"name=wanted&password={PASSWORD}", headers=form)
        for answer in (tried[-1], shut):
            assert answer.status_code == 429 and "Too many failed logins" in answer.text
            assert 0 < int(answer.headers["Retry-After"]) <= 900
