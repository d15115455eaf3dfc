"""The insights page and its API, for everybody's answers and for those of judges, and the way back from a settlement."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.web.kit import World
from tutelage.feedback.people.tokens import create_token
from tutelage.records import Vote
from tutelage.store import NewVote, Store
from tutelage.web.app import build_app
from tutelage.web.site import Site

SAID = [[f"Yes, {n}, and here is why.", f"No {n}."] for n in range(36)]


@pytest.fixture
def client(site: Site, world: World) -> Iterator[TestClient]:
    token = create_token(world.database, world.owner, "insights", ("manage",))
    with TestClient(build_app(site), headers={"Authorization": f"Bearer {token}"}) as made:
        yield made


@pytest.fixture
def judged(world: World) -> str:
    """36 pairs: two people who mostly agree, and a judge who mostly does not."""
    prompts = [f"Question {n}?" for n in range(36)]
    world.project("judged", {"acceptable": False}, {"overlap": 3}, prompts, SAID)
    with Store(world.path) as store:
        for name, kind in (("pia", "human"), ("pio", "human"), ("bot", "judge")):
            store.add_annotator(name, kind, {})
        votes = [
            NewVote(pair.item_id, Vote(name, -2 if n % every else 2, n % 2), f"judged/{name}/{n}")
            for n, pair in enumerate(store.pairs("judged"))
            for name, every in (("pia", 3), ("pio", 4), ("bot", 2))
        ]
        store.add_votes("judged", votes)
    return "judged"


@pytest.mark.slow
def test_every_choice_of_answers_has_its_page_and_its_numbers(client: TestClient, judged: str) -> None:
    for whose, voters in (("people", 2), ("judges", 1), ("all", 3), ("against", 0)):
        assert len(client.get(f"/api/v1/projects/{judged}/stats?whose={whose}").json()["people"]) == voters
        page = client.get(f"/p/{judged}/insights?whose={whose}")
        assert page.status_code == 200 and "Judges beside people" in page.text
    assert client.get(f"/api/v1/projects/{judged}/stats").json()["whose"] == "people"
    assert client.get(f"/api/v1/projects/{judged}/stats?whose=cats").status_code == 422
    (judge,) = client.get(f"/api/v1/projects/{judged}/stats?whose=against").json()["judges"]
    # By hand over 36 items: people differ on 3, 4, 6, 8, 9 ... (every 3rd or 4th but not every 12th).
    apart = sum((n % 3 == 0) != (n % 4 == 0) for n in range(36))
    assert judge["people"]["value"] == pytest.approx(1 - apart / 36) and judge["people"]["n"] == 36


def test_a_settlement_is_listed_shown_and_taken_back(client: TestClient, judged: str) -> None:
    base = f"/api/v1/projects/{judged}"
    found = client.post(f"{base}/conflicts/next", json={}).json()
    task, left = found["conflict"]["view"]["task"], found["left"]
    assert found["conflict"]["settled"] is None
    assert [one["kind"] for one in found["conflict"]["opinions"]] == ["human", "human", "judge"]
    answer = {"answer": {"type": "pair", "preference": -1}}
    key = {"Idempotency-Key": "settle-it-once"}
    told = client.post(f"{base}/assignments/{task['assignment_id']}/adjudicate", json=answer, headers=key)
    assert told.status_code == 200, told.text
    assert [row["item_id"] for row in client.get(f"{base}/settled").json()] == [task["item_id"]]
    opened = client.post(f"{base}/conflicts/{task['item_id']}/open").json()
    assert (opened["settled"]["by"], opened["settled"]["answer"]["preference"]) == ("ann", -1)
    assert client.post(f"{base}/conflicts/{task['item_id']}/reopen").status_code == 204
    assert client.get(f"{base}/settled").json() == []
    assert client.post(f"{base}/conflicts/next", json={}).json()["left"] == left
    assert client.post(f"{base}/conflicts/{task['item_id']}/reopen").status_code == 404
