"""Refinements over the API: one at a time, without a model, and the server killed with -9 in the middle of a round."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from tests.rollout.conftest import WORDS, build
from tests.web.kit import World, make_world
from tests.web.test_load import Served, free_port
from tests.web.test_refining import FIRST, Pupil
from tutelage.feedback.asking.payloads import LiveResponse
from tutelage.feedback.people.tokens import create_token
from tutelage.models.tiny import train_tokenizer
from tutelage.records import Prompt
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, ResponseRow
from tutelage.store.schema_refining import RefinementRound
from tutelage.web import api_refining
from tutelage.web.api_refining import _served
from tutelage.web.app import build_app
from tutelage.web.generation import NamedModel
from tutelage.web.limits import Limit, Limits
from tutelage.web.site import Site

MARKS = [
    {"step": 0, "label": 1},
    {
        "step": 1,
        "label": -1,
        "reason": "smaller, not larger",
        "rewrite": "2. Compressed.",
        "error": "reasoning",
    },
    {"step": 2, "label": -1, "caused_by": 1},
    {"step": 3, "label": -1, "caused_by": 1},
]
ANSWER = {"type": "step", "marks": MARKS, "finish": "found-error"}
DRAFT = {"text": "What is right?", "options": ["this", "that", "those", "these"], "right": [0, 3]}


class Slow(Pupil):
    """Takes a while for what goes on from a step."""

    seconds = 0.4
    begun = 0.0  # when the last began

    async def write(
        self,
        prompt: Prompt,
        count: int,
        begun: str | None = None,
        model: str | None = None,
        one_step: Any = None,
    ) -> list[LiveResponse]:
        if begun is not None:
            type(self).begun = time.monotonic()
            await asyncio.sleep(self.seconds)
        return await super().write(prompt, count, begun, model)


@pytest.mark.parametrize(
    ("wrote", "goes_on"),
    [
        ("old", "old"),
        ("runs/old", "old"),
        ("runs/old/model", "old"),
        ("runs/new/model", "new"),
        ("runs/x", "new"),
    ],
)
def test_the_model_that_wrote_a_solution_goes_on(own: World, wrote: str, goes_on: str) -> None:
    """Also where a command has written it, which names a model by its folder."""
    pupil = Pupil()
    pupil.models = (NamedModel("new", "runs/new"), NamedModel("old", "runs/old"))
    site = Site(own.database, generator=pupil)
    assert _served(site, wrote) == goes_on
    site.exports.close()


@pytest.fixture
def steps(own: World) -> World:
    own.project("steps", {"type": "step"}, prompts=["What happens to x^2?"], answers=[[FIRST]])
    return own


@pytest.fixture
def client(steps: World) -> Iterator[TestClient]:
    token = create_token(steps.database, steps.owner, "test", ("label",))
    free = Limits(generate=Limit(1000, 0.001))
    site = Site(steps.database, generator=Slow(), limits=free)
    with TestClient(build_app(site), headers={"Authorization": f"Bearer {token}"}) as made:
        yield made
    site.exports.close()


def next_of(client: TestClient) -> int:
    return client.post("/api/v1/projects/steps/next", json={}).json()["view"]["task"]["assignment_id"]


@pytest.mark.slow
def test_one_that_takes_long_stays_the_only_one(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a server that died would be waited for."""
    monkeypatch.setattr(api_refining, "HELD", 1.0)
    monkeypatch.setattr(api_refining, "HELD_AGAIN", 0.1)
    monkeypatch.setattr(Slow, "seconds", 3.0)
    monkeypatch.setattr(Slow, "begun", 0.0)
    url = f"/api/v1/projects/steps/assignments/{next_of(client)}/round"

    def go(key: str) -> str:
        body = {"answer": ANSWER, "how": "rewritten"}
        return client.post(url, json=body, headers={"Idempotency-Key": key}).text

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(go, "first-key")
        while Slow.begun == 0.0:
            time.sleep(0.01)
        time.sleep(1.5)
        assert "at work on this solution already" in go("second-key"), "no second model is asked"
    assert "rewritten" in first.result()


def test_a_second_one_waits_until_the_first_is_done(client: TestClient) -> None:
    url = f"/api/v1/projects/steps/assignments/{next_of(client)}/round"

    def go(key: str) -> Any:
        return client.post(url, json={"answer": ANSWER, "how": "rewritten"}, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(go, "first-key")
        time.sleep(0.2)
        second = pool.submit(go, "second-key")
        # On a busy machine the second may be the first to begin.
        made, refused = sorted((first.result(), second.result()), key=lambda answer: answer.status_code)
    assert refused.status_code == 409 and "at work on this solution already" in refused.json()["detail"]
    assert made.status_code == 200
    assert made.json()["view"]["task"]["responses"][0]["text"].startswith(
        "1. 0.25 is less than 1.\n\n2. Compressed.\n\n3. "
    )
    again = go("third-key")  # the reply was lost: the round that is there
    assert again.json()["view"]["task"]["item_id"] == made.json()["view"]["task"]["item_id"]
    assert [one["how"] for one in again.json()["problem"]["rounds"]] == ["first", "rewritten"]


def test_without_a_model_it_is_said_and_nothing_is_stored(steps: World) -> None:
    token = create_token(steps.database, steps.owner, "test", ("label",))
    site = Site(steps.database)
    with TestClient(build_app(site), headers={"Authorization": f"Bearer {token}"}) as client:
        url = f"/api/v1/projects/steps/assignments/{next_of(client)}/round"
        body = {"answer": ANSWER, "how": "explained"}
        refused = client.post(url, json=body, headers={"Idempotency-Key": "some-key"})
        assert refused.status_code == 409 and "No model is loaded" in refused.json()["detail"]
        tried = client.post("/api/v1/projects/steps/author/try", json=DRAFT)
        assert tried.status_code == 409 and "No model is loaded" in tried.json()["detail"]
        up = {"answer": ANSWER, "hand_up": "no model"}  # that needs none
        problem = client.post(url, json=up, headers={"Idempotency-Key": "other-key"}).json()["problem"]
        assert (problem["outcome"], problem["why"]) == ("handed-up", "no model")
    site.exports.close()


def test_a_problem_is_kept_as_it_was_tried(client: TestClient) -> None:
    """What is stored is what the models said; a problem that was changed since is tried again first."""
    base = "/api/v1/projects/steps/author"
    trial = client.post(f"{base}/try", json=DRAFT).json()
    assert [(one["model"], [each["right"] for each in one["answers"]]) for one in trial["models"]] == [
        ("new", [False] * 4),
        ("old", [False, True, True, False]),
    ]
    changed = {"draft": {**DRAFT, "text": "What is right now?"}, "trial": trial["name"]}
    refused = client.post(f"{base}/problems", json=changed)
    assert refused.status_code == 422 and "Try the problem first" in refused.json()["detail"]
    kept = client.post(f"{base}/problems", json={"draft": DRAFT, "trial": trial["name"]})
    root = kept.json()["root"]
    assert kept.status_code == 201
    problem = client.get(f"/api/v1/projects/steps/problems/{root}").json()
    assert (problem["answer"], problem["model"], problem["wants"]) == (["A", "D"], "new", "mark")
    lines = client.get("/api/v1/projects/steps/problems?outcome=open").json()
    assert [line["root"] for line in lines] == [root]
    assert client.get("/api/v1/projects/steps/problems?outcome=accepted").json() == []


# kill -9 --------------------------------------------------------------------------------------------------------------


def post(port: int, token: str, path: str, body: Any, key: str) -> dict[str, Any] | None:
    """What the server answers; None where it is gone, waits for one that died, or the model came to no end."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
    asked = Request(f"http://127.0.0.1:{port}/api/v1{path}", json.dumps(body).encode(), headers)
    try:
        with urlopen(asked, timeout=120) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except HTTPError as error:
        assert error.code in (409, 429, 502), error.read()
        time.sleep(0 if error.code == 502 else 3)
        return None
    except (URLError, OSError):
        return None


def comes_to_an_end(folder: Path) -> None:
    """Save a model that ends after any token with probability one half, and else writes any other, whatever stands before."""
    model, tokenizer = build("llama"), train_tokenizer(WORDS, 280)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        hidden = model.lm_head.weight.shape[1]
        model.lm_head.weight[tokenizer.eos_token_id] = math.log(len(model.lm_head.weight)) / hidden
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
def test_a_killed_server_loses_no_marks_and_makes_no_round_twice(tmp_path: Path) -> None:
    model = tmp_path / "model"
    comes_to_an_end(model)
    world = make_world(tmp_path / "store.sqlite")
    world.project("steps", {"type": "step"}, prompts=["one two"], answers=[["one\n\ntwo"]])
    token = create_token(world.database, world.owner, "test", ("label",))
    world.close()
    port, said = free_port(), tmp_path / "said.txt"
    server = Served(f"{tmp_path / 'store.sqlite'}", port, said)
    server.kill()
    server._words += [f"models={model}", "device=cpu", "max_new_tokens=40"]
    server.start()
    handed = post(port, token, "/projects/steps/next", {}, "unused-key")
    assert handed is not None
    path = f"/projects/steps/assignments/{handed['view']['task']['assignment_id']}/round"
    marks = [{"step": 0, "label": 1}, {"step": 1, "label": -1, "reason": "no"}]
    body = {"answer": {"type": "step", "marks": marks, "finish": "found-error"}, "how": "regenerated"}
    with ThreadPoolExecutor(1) as pool, closing(Database(tmp_path / "store.sqlite")) as database:
        lost = pool.submit(post, port, token, path, body, "key-before")

        def count(column: Any) -> int:
            with database.read() as connection:
                return connection.scalar(select(func.count(column))) or 0

        while not count(Annotation.id):  # the marks are stored; the model still loads, or writes
            time.sleep(0.005)
        server.kill()
        assert lost.result() is None and count(RefinementRound.item_id) == 1
        server.start()
        made = None
        for number in range(20):  # it may still be loading
            made = post(port, token, path, body, f"key-after-{number}")
            if made is not None:
                break
        again = post(port, token, path, body, "key-at-last")
        assert made is not None and again is not None
        assert made["view"]["task"]["item_id"] == again["view"]["task"]["item_id"]
        assert made["view"]["task"]["responses"][0]["text"].startswith("one\n\n")
        assert (count(Annotation.id), count(RefinementRound.item_id), count(ResponseRow.id)) == (1, 2, 2)
        server.kill()
