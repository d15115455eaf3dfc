"""Whatever is sent to the API, by its own schema or against it: no answer is the server's fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from tests.web.kit import Parrots, World, make_world

from tutelage.feedback import accounts
from tutelage.web.app import build_app
from tutelage.web.limits import Limit
from tutelage.web.site import Limits, Site

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store of its own: what is sent here may change anything."""
    world = make_world(Path(tmp_path_factory.mktemp("schema")) / "store.sqlite")
    world.project("main")
    for kind in ("rank", "step", "chat"):
        world.project(kind, {"type": kind})
    return world


@pytest.fixture(scope="module")
def app(own: World) -> Any:
    free = Limits(**{name: Limit(1_000_000, 1e-6) for name in ("generate", "export", "token", "invite")})
    return build_app(Site(own.database, generator=Parrots(), limits=free))


@pytest.fixture(scope="module")
def api(app: Any) -> Any:
    return schemathesis.openapi.from_dict(app.openapi())


schema = schemathesis.pytest.from_fixture("api")


@pytest.fixture(scope="module")
def client(app: Any, own: World) -> Any:
    token = accounts.create_token(own.database, own.owner, "fuzz", ("manage",))
    with TestClient(app, raise_server_exceptions=False) as made:
        made.headers["Authorization"] = f"Bearer {token}"
        yield made


HARMFUL = {"/api/v1/users/{name}/active", "/api/v1/me/password", "/api/v1/me/tokens/{token_id}"}  # would lock the test out


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_answer_is_the_servers_fault(case: Any, client: TestClient) -> None:
    if case.operation.path in HARMFUL:
        pytest.skip("it would end the session of this test")
    if "project" in (case.path_parameters or {}) and hash(str(case.path_parameters)) % 4:
        case.path_parameters["project"] = ("main", "rank", "step", "chat")[hash(str(case.path_parameters)) % 3]
    arguments = case.as_transport_kwargs(base_url="http://testserver")
    arguments.pop("cookies", None)
    try:
        answer = client.request(**arguments)
    except (UnicodeEncodeError, ValueError) as error:
        pytest.skip(f"the client cannot send this: {error}")
    assert answer.status_code < 500, (case.method, case.operation.path, answer.status_code, answer.text[:300])


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', "1e999", '{"besides": [1e400]}', '{"besides": [99999999999999999999]}', '{"besides": ' + "[" * 3000 + "]" * 3000 + "}"])
def test_bodies_that_are_none(client: TestClient, body: str) -> None:
    answer = client.post("/api/v1/projects/main/next", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 422), answer.text
    assert isinstance(answer.json().get("detail", ""), str)


def test_the_schema_describes_every_route_with_a_sentence(app: Any) -> None:
    described = app.openapi()["paths"]
    assert len(described) > 40
    for path, methods in described.items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path}"
            assert set(operation["responses"]) >= {"401", "403", "422"}
