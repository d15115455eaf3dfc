"""What a monitor reads: well formed, right, and without a word of what people write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.web.kit import World, make_world
from tutelage import __version__
from tutelage.feedback.people.tokens import create_token
from tutelage.web.app import build_app
from tutelage.web.metrics import Requests, exposition
from tutelage.web.site import Site

LINE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$')


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "store.sqlite")
    yield made
    made.close()


def read(text: str) -> dict[str, float]:
    """Every sample by its name and labels; each line must be one, or a comment."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            assert LINE.match(line), line
            name, _, value = line.rpartition(" ")
            assert name not in found, name
            found[name] = float(value)
    assert text.endswith("\n")
    return found


def test_the_numbers_are_right(own: World) -> None:
    own.project('od"d\\name', {"acceptable": False}, {"overlap": 2})
    token = create_token(own.database, own.owner, "x", ("manage",))
    with TestClient(build_app(Site(own.database))) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        base = "/api/v1/projects/od%22d%5Cname"
        task = client.post(f"{base}/next", json={}).json()["view"]["task"]
        url = f"{base}/assignments/{task['assignment_id']}/submit"
        given = {"answer": {"type": "pair", "preference": 1}}
        assert client.post(url, json=given, headers={"Idempotency-Key": "the-first"}).status_code == 200
        assert client.post(url, json=given).status_code == 422
        assert client.post(f"{base}/next", json={"besides": []}).status_code == 200
        client.get("/nothing/here/secret-word")
        client.get("/static/style.css")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = read(answer.text)
    project = '{project="od\\"d\\\\name"}'
    assert found[f"tutelage_answers{project}"] == 1
    assert found[f"tutelage_open_leases{project}"] == 1
    assert found[f"tutelage_answers_wanted{project}"] == 2 * 6 - 1
    route = "/api/v1/projects/{project}/assignments/{assignment_id}/submit"
    submits = f'tutelage_requests_total{{method="POST",route="{route}",status="'
    assert (found[f'{submits}200"}}'], found[f'{submits}422"}}']) == (1, 1)
    assert found['tutelage_requests_total{method="GET",route="none",status="404"}'] == 1
    assert found['tutelage_requests_total{method="GET",route="/static",status="200"}'] == 1
    assert found[f'tutelage_request_seconds_bucket{{le="+Inf",method="POST",route="{route}"}}'] == 2
    assert (
        found["process_resident_memory_bytes"] > 0 and found[f'tutelage_info{{version="{__version__}"}}'] == 1
    )
    for word in ("secret-word", token[-20:], task["responses"][0]["text"][:10], own.owner.name + '"'):
        assert word not in answer.text


def test_buckets_hold_what_is_below_them() -> None:
    requests = Requests()
    for seconds in (0.001, 0.005, 0.3, 100):
        requests.count("BREW", "/x", 200, seconds)
    found = read(exposition(requests, []).decode())
    bucket = 'tutelage_request_seconds_bucket{le="%s",method="other",route="/x"}'
    assert [found[bucket % bound] for bound in ("0.005", "0.25", "0.5", "60.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert found['tutelage_request_seconds_sum{method="other",route="/x"}'] == pytest.approx(100.306)


def test_two_servers_in_one_process_count_for_themselves() -> None:
    one, other = Requests(), Requests()
    one.count("GET", "/x", 200, 0.1)
    sample = 'tutelage_requests_total{method="GET",route="/x",status="200"}'
    assert read(exposition(one, []).decode())[sample] == 1
    assert sample not in exposition(other, []).decode()


def test_ready_means_that_the_database_answers(own: World) -> None:
    with TestClient(build_app(Site(own.database)), raise_server_exceptions=False) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        with own.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE project RENAME TO hidden")
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code >= 500
