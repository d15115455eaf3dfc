"""Whatever is sent to the API, by its own schema or against it: no answer is the server's fault."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests.web.kit import Parrots, World, make_world
from tutelage.feedback.people.tokens import create_token
from tutelage.web.api_imports import MOST_LINES
from tutelage.web.app import build_app
from tutelage.web.limits import Limit, Limits
from tutelage.web.site import Site

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store of its own: what is sent here may change anything."""
    world = make_world(tmp_path_factory.mktemp("schema") / "schema.sqlite")
    world.project("main")
    for kind in ("rank", "step", "chat"):
        world.project(kind, {"type": kind})
    return world


@pytest.fixture(scope="module")
def app(own: World) -> Any:
    free = Limits(**{name: Limit(1_000_000, 1e-6) for name in ("generate", "export", "token", "invite")})
    return build_app(Site(own.database, generator=Parrots(), limits=free))


@pytest.fixture(scope="module")
def client(app: Any, own: World) -> Any:
    token = create_token(own.database, own.owner, "fuzz", ("manage",))
    with TestClient(app, raise_server_exceptions=False) as made:
        made.headers["Authorization"] = f"Bearer {token}"
        yield made


HARMFUL = {
    "/api/v1/users/{name}/active",
    "/api/v1/me/password",
    "/api/v1/me/tokens/{token_id}",
}  # would lock the test out
DELETION = {"/api/v1/projects/{project}", "/api/v1/projects/{project}/purge"}  # would take the projects away


PROJECTS = ("main", "rank", "step", "chat")


@pytest.mark.slow
def test_no_answer_is_the_servers_fault(app: Any, client: TestClient) -> None:
    """Schemathesis makes requests to every operation, fitting its schema and not; bounded, the same every time."""
    sent: Counter[int] = Counter()
    for found in schemathesis.openapi.from_dict(app.openapi()).get_all_operations():
        operation = found.ok()
        if operation.path in DELETION and operation.method.upper() != "GET":
            continue
        if operation.path in HARMFUL or operation.path.endswith("/import"):
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=5,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=True,
            )
            @given(case=operation.as_strategy(generation_mode=mode), real=st.sampled_from([*PROJECTS, None]))
            def send(case: Any, real: str | None) -> None:
                if real and "project" in (case.path_parameters or {}):
                    case.path_parameters["project"] = real
                arguments = case.as_transport_kwargs(base_url="http://testserver")
                arguments["headers"] = {
                    k: v for k, v in dict(arguments["headers"]).items() if k.lower() != "authorization"
                }
                arguments.pop("cookies", None)
                if isinstance(arguments.get("data"), bytes | str):
                    arguments["content"] = arguments.pop("data")
                try:
                    answer = client.request(**arguments)
                except (UnicodeError, TypeError, httpx2.InvalidURL):
                    return  # not even a client would send this
                sent[answer.status_code] += 1
                assert answer.status_code < 500, (
                    case.method,
                    case.operation.path,
                    answer.status_code,
                    answer.text[:300],
                )

            with suppress(Unsatisfiable):  # a route without parameters cannot be called wrongly
                send()
    assert sent.total() > 300
    assert sent[200] > 30 and sent[422] > 30, sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "response", "chosen", "rejected", "score", "model", "x"]), inner
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(JSON.map(json.dumps) | st.text(max_size=30), max_size=4),
    kind=st.sampled_from(["prompts", "responses", "preference", "scores", "raw"]),
)
def test_an_import_takes_anything_or_says_which_line(client: TestClient, rows: list[str], kind: str) -> None:
    body = "\n".join(rows).encode("utf-8", "surrogatepass")
    answer = client.post(f"/api/v1/projects/main/import?kind={kind}", content=body)
    assert answer.status_code in (200, 422), answer.text[:300]
    if answer.status_code == 200:
        lines = (
            body.count(b"\n") + body.count(b",") + 1
        )  # rows of one list on a line are told by their number
        assert all(1 <= bad["line"] <= lines and bad["why"] for bad in answer.json()["bad"])


@pytest.mark.slow
def test_an_import_of_too_many_lines_is_refused(client: TestClient) -> None:
    refused = client.post(
        "/api/v1/projects/main/import?kind=prompts", content=b'{"prompt": "p"}\n' * (MOST_LINES + 1)
    )
    assert refused.status_code == 422 and "too many at once" in refused.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "1e999",
        '{"besides": [1e400]}',
        '{"besides": [99999999999999999999]}',
        '{"besides": ' + "[" * 3000 + "]" * 3000 + "}",
    ],
)
def test_bodies_that_are_none(client: TestClient, body: str) -> None:
    answer = client.post(
        "/api/v1/projects/main/next", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400, 422), answer.text
    assert isinstance(answer.json().get("detail", ""), str)


def test_the_schema_describes_every_route_with_a_sentence(app: Any) -> None:
    described = app.openapi()["paths"]
    assert len(described) > 40
    for path, methods in described.items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path}"
            assert set(operation["responses"]) >= {"401", "403", "422"}
