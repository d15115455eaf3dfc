"""No way in: every route and method refuses strangers and every role that it is not for; browsers' requests are guarded."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy.exc import IntegrityError
from starlette.routing import Mount

from tests.web.kit import PASSWORD, ROLES, World
from tutelage.feedback.people.invitations import invite
from tutelage.feedback.people.tokens import create_token
from tutelage.feedback.work import queue
from tutelage.web import access
from tutelage.web.access import Acting, Known
from tutelage.web.app import build_app
from tutelage.web.site import Site

PUBLIC = {"/login", "/join/{secret}", "/healthz", "/readyz", "/api/v1/auth/login"}
ALLOWED = {  # what each role may do, written down on its own: the truth that the routes are compared with
    "annotator": {"member", "label"},
    "expert": {"member", "label", "teach"},
    "adjudicator": {"member", "label", "teach", "adjudicate", "view"},
    "viewer": {"member", "view"},
    "manager": {"member", "label", "teach", "adjudicate", "view", "export", "manage"},
    "owner": {"member", "label", "teach", "adjudicate", "view", "export", "manage", "own"},
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def app(site: Site) -> FastAPI:
    return build_app(site)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture(scope="module")
def tokens(world: World) -> dict[str, str]:
    """A manage token of one user per role in project `main`, and of somebody who is in no project."""
    world.project("elsewhere")
    people = {role: world.user(f"the-{role}", "main", role) for role in ROLES}
    people["outsider"] = world.user("outsider", "elsewhere")
    return {name: create_token(world.database, user, "test", ("manage",)) for name, user in people.items()}


@dataclass(frozen=True)
class Way:
    """One method of one route, with its whole path."""

    method: str
    path: str
    route: APIRoute


def ways(app: FastAPI) -> list[Way]:
    """Every way into the app, but for its static files."""
    found = []
    for part in app.routes:
        if isinstance(part, Mount):
            assert part.path == "/static"
            continue
        prefix = part.include_context.prefix
        for route in part.original_router.routes:
            assert isinstance(route, APIRoute)
            found += [Way(method, prefix + route.path, route) for method in sorted(route.methods or ())]
    return found


def needs(route: APIRoute) -> tuple[set[str], str]:
    """What a route declares: the needs of its project, and the scope that a token must have."""
    found, scopes = set(), set()
    queue = [route.dependant]
    while queue:
        dependant = queue.pop()
        if isinstance(dependant.call, Acting):
            found.add(dependant.call.need)
            scopes.add(dependant.call.scope)
        if isinstance(dependant.call, Known):
            scopes.add(dependant.call.scope)
        queue.extend(dependant.dependencies)
    strongest = max(scopes, key=["read", "label", "manage"].index, default="")
    return found, strongest


def asks(route: APIRoute, what: str) -> bool:
    """Whether a route is closed to all but administrators (`administrator`), or to tokens (`in_person`)."""
    queue = [route.dependant]
    while queue:
        dependant = queue.pop()
        if isinstance(dependant.call, Known) and getattr(dependant.call, what):
            return True
        queue.extend(dependant.dependencies)
    return False


def path_of(path: str, project: str = "main") -> str:
    values = {"project": project, "name": "nobody", "secret": "x"}
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda part: values.get(part[1], "1"), path)


def test_there_are_routes_to_walk(app: FastAPI) -> None:
    assert len(ways(app)) > 60


def test_strangers_are_refused_everywhere(app: FastAPI, client: TestClient) -> None:
    for way in ways(app):
        if way.path in PUBLIC:
            continue
        answer = client.request(way.method, path_of(way.path), json={})
        where = f"{way.method} {way.path}: {answer.status_code}"
        if way.path.startswith("/api/") or way.path == "/metrics":
            assert answer.status_code == 401, where
        else:
            assert answer.status_code == 303 and answer.headers["location"].startswith("/login"), where


@pytest.mark.parametrize("token", ["", "nonsense", "tut_00000000_" + "A" * 43, "ä" * 20])
def test_wrong_tokens_are_refused_everywhere(app: FastAPI, client: TestClient, token: str) -> None:
    for way in ways(app):
        if way.path.startswith("/api/") and way.path not in PUBLIC:
            headers = {b"authorization": b"Bearer " + token.encode()}
            answer = client.request(way.method, path_of(way.path), json={}, headers=headers)
            assert answer.status_code == 401, f"{way.method} {way.path}"


@pytest.mark.parametrize("role", ROLES)
def test_every_route_refuses_the_roles_that_it_is_not_for(
    app: FastAPI, client: TestClient, tokens: dict[str, str], role: str
) -> None:
    """A route of a project answers 403 exactly where the table above says so, before it looks at anything else."""
    headers = {"Authorization": f"Bearer {tokens[role]}"}
    refused = 0
    for way in ways(app):
        if "{project}" not in way.path:
            continue
        wanted, _ = needs(way.route)
        assert wanted, f"{way.path} declares no need"
        if not wanted <= ALLOWED[role]:
            answer = client.request(way.method, path_of(way.path), json={}, headers=headers)
            assert answer.status_code == 403, (
                f"{role}: {way.method} {way.path}: {answer.status_code} {answer.text[:200]}"
            )
            refused += 1
    assert (refused > 10) == (role in ("annotator", "expert", "adjudicator", "viewer"))


def test_outsiders_do_not_even_learn_that_a_project_exists(
    app: FastAPI, client: TestClient, tokens: dict[str, str]
) -> None:
    headers = {"Authorization": f"Bearer {tokens['outsider']}"}
    for way in ways(app):
        if "{project}" in way.path:
            there = client.request(way.method, path_of(way.path), json={}, headers=headers)
            missing = client.request(
                way.method, path_of(way.path, "no-such-project"), json={}, headers=headers
            )
            assert there.status_code == missing.status_code == 404, f"{way.method} {way.path}"


def test_what_is_for_administrators_refuses_even_owners_of_projects(
    app: FastAPI, client: TestClient, world: World, tokens: dict[str, str]
) -> None:
    closed = [way for way in ways(app) if asks(way.route, "administrator")]
    assert {"/metrics", "/users", "/api/v1/users/{name}/reset"} <= {way.path for way in closed}
    admin = create_token(world.database, world.owner, "monitor", ("read",))
    for way in closed:
        for token in (tokens["owner"], tokens["outsider"]):
            refused = client.request(
                way.method, path_of(way.path), headers={"Authorization": f"Bearer {token}"}
            )
            assert refused.status_code == 403, f"{way.method} {way.path}"
        if not asks(way.route, "in_person"):
            headers = {"Authorization": f"Bearer {admin}"}
            assert client.request(way.method, path_of(way.path), headers=headers).status_code == 200
    for token in ("", "Bearer tut_00000000_x"):  # a monitor is told in its own language, not sent to a form
        answer = client.get("/metrics", headers={"Authorization": token} if token else {})
        assert (answer.status_code, answer.json()["reason"]) == (401, "unauthenticated")


def test_what_would_outlive_a_token_no_token_does(app: FastAPI, client: TestClient, world: World) -> None:
    """A token that made tokens, passwords or administrators would have its way after it has ended."""
    token = create_token(world.database, world.owner, "mighty", ("manage",))
    closed = {way.path: way for way in ways(app) if asks(way.route, "in_person")}
    assert set(closed) == {
        "/api/v1/me/tokens",
        "/api/v1/me/password",
        "/api/v1/users/{name}/reset",
        "/api/v1/users/{name}/administrator",
    }
    fitting = {
        "/api/v1/me/tokens": {"name": "more", "scopes": ["read"]},
        "/api/v1/me/password": {"old": PASSWORD, "new": "another password"},
        "/api/v1/users/{name}/administrator": {"administrator": True},
    }
    for path, way in closed.items():
        headers = {"Authorization": f"Bearer {token}"}
        answer = client.request(way.method, path_of(path), json=fitting.get(path, {}), headers=headers)
        assert answer.status_code == 403 and "A token may not do that" in answer.json()["detail"], path


@pytest.mark.parametrize("scope", ["read", "label"])
def test_tokens_do_no_more_than_their_scope(
    app: FastAPI, client: TestClient, world: World, scope: Any
) -> None:
    token = create_token(world.database, world.owner, "small", (scope,))
    order = ["read", "label", "manage"]
    refused = []
    for way in ways(app):
        _, needed = needs(way.route)
        if needed and order.index(needed) > order.index(scope):
            answer = client.request(
                way.method, path_of(way.path), json={}, headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == 403, f"{way.method} {way.path}: {answer.status_code}"
            refused.append(way.path)
    assert "/api/v1/projects/{project}/members/{name}" in refused


def test_every_change_needs_more_than_the_scope_read(app: FastAPI) -> None:
    harmless = {
        "/api/v1/auth/logout",
        "/api/v1/projects/{project}/exports",
        "/api/v1/projects/{project}/exports/preview",
    }
    for way in ways(app):
        if way.method != "GET" and way.path not in PUBLIC | harmless:
            assert needs(way.route)[1] in ("label", "manage"), f"{way.method} {way.path}"


# ---- sessions --------------------------------------------------------------------------------------------------------


def log_in(client: TestClient, name: str = "ann") -> str:
    """Log in over the API; returns the CSRF token."""
    answer = client.post("/api/v1/auth/login", json={"name": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return answer.json()["csrf"]


def test_a_session_without_its_csrf_token_changes_nothing(app: FastAPI, client: TestClient) -> None:
    log_in(client)
    for way in ways(app):
        if way.method != "GET" and way.path.startswith("/api/") and way.path not in PUBLIC:
            for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": "ä".encode()}):
                answer = client.request(way.method, path_of(way.path), json={}, headers=headers)
                assert answer.status_code == 403, f"{way.method} {way.path}: {answer.status_code}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://testserver:81"},
    ],
)
def test_pages_of_other_sites_are_refused_even_with_the_token(
    client: TestClient, headers: dict[str, str]
) -> None:
    csrf = log_in(client)
    body = {"name": "stolen", "scopes": ["read"], "days": 1}
    refused = client.post("/api/v1/me/tokens", json=body, headers={"X-CSRF-Token": csrf, **headers})
    assert refused.status_code == 403
    taken = client.post(
        "/api/v1/me/tokens", json=body, headers={"X-CSRF-Token": csrf, "Origin": "http://testserver"}
    )
    assert taken.status_code == 201
    assert client.post("/login", content="name=a&password=b", headers={**FORM, **headers}).status_code == 403
    assert (
        client.post("/api/v1/auth/login", json={"name": "a", "password": "b"}, headers=headers).status_code
        == 403
    )


def test_a_login_form_that_no_browser_sent_is_refused(client: TestClient) -> None:
    assert client.post("/login", content=f"name=ann&password={PASSWORD}", headers=FORM).status_code == 403


def test_login_gives_a_new_session_and_ends_the_old_one(client: TestClient, site: Site, world: World) -> None:
    """Fixation: a secret that somebody planted, or knew before, is worth nothing after the login."""
    client.cookies.set(site.cookie, "planted-by-somebody-else")
    log_in(client)
    planted = [cookie.value for cookie in client.cookies.jar if cookie.name == site.cookie]
    first = planted[-1]
    assert first != "planted-by-somebody-else"
    client.cookies.clear()
    client.cookies.set(site.cookie, first)
    log_in(client)
    second = [cookie.value for cookie in client.cookies.jar if cookie.name == site.cookie][-1]
    assert second != first
    client.cookies.clear()
    client.cookies.set(site.cookie, first)
    assert client.get("/api/v1/me").status_code == 401
    client.cookies.clear()
    client.cookies.set(site.cookie, second)
    assert client.get("/api/v1/me").json()["name"] == "ann"


def test_logging_out_ends_the_session(client: TestClient, site: Site) -> None:
    csrf = log_in(client)
    secret = client.cookies[site.cookie]
    assert client.post("/api/v1/auth/logout", headers={"X-CSRF-Token": csrf}).status_code == 204
    client.cookies.set(site.cookie, secret)
    assert client.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize("https", [False, True])
def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(world: World, https: bool) -> None:
    with TestClient(build_app(Site(world.database, https=https)), base_url="https://testserver") as client:
        answer = client.post("/api/v1/auth/login", json={"name": "ann", "password": PASSWORD})
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (
        morsel["httponly"] and morsel["samesite"] == "lax" and morsel["path"] == "/" and not morsel["domain"]
    )
    assert bool(morsel["secure"]) == https
    assert morsel.key.startswith("__Host-") == https
    assert ("strict-transport-security" in answer.headers) == https


def test_a_token_makes_cookies_unimportant(client: TestClient, tokens: dict[str, str]) -> None:
    """A program with a token needs no CSRF token; whose cookie comes along does not matter."""
    log_in(client)
    headers = {"Authorization": f"Bearer {tokens['annotator']}"}
    assert client.get("/api/v1/me", headers=headers).json()["name"] == "the-annotator"
    assert client.post("/api/v1/projects/main/next", json={}, headers=headers).status_code == 200


@pytest.mark.slow
def test_passwords_cannot_be_tried_for_ever(client: TestClient, world: World) -> None:
    world.user("victim", "main")
    wrong = {"name": "victim", "password": "wrong wrong wrong"}
    codes = [client.post("/api/v1/auth/login", json=wrong).status_code for _ in range(12)]
    assert codes[0] == 401 and codes[-1] == 429
    right = client.post("/api/v1/auth/login", json={"name": "victim", "password": PASSWORD})
    assert right.status_code == 429
    form = client.post(
        "/login", content="name=victim&password=x", headers={**FORM, "Origin": "http://testserver"}
    )
    assert form.status_code == 429 and "victim" in form.text


def test_wrong_names_and_wrong_passwords_look_alike(client: TestClient) -> None:
    unknown = client.post("/api/v1/auth/login", json={"name": "nobody-here", "password": "x" * 12})
    known = client.post("/api/v1/auth/login", json={"name": "ann", "password": "x" * 12})
    assert unknown.status_code == known.status_code == 401
    assert unknown.json() == known.json()


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nX: y"],
)
def test_login_leads_nowhere_else(client: TestClient, wanted: str) -> None:
    from urllib.parse import urlencode

    form = urlencode({"name": "ann", "password": PASSWORD, "next": wanted})
    answer = client.post("/login", content=form, headers={**FORM, "Origin": "http://testserver"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_an_invitation_works_once(client: TestClient, world: World) -> None:
    secret = invite(world.database, world.owner, "main", "annotator")
    headers = {**FORM, "Origin": "http://testserver"}
    form = f"name=invited-{time.time_ns()}&password=long+enough+password"
    assert client.post(f"/join/{secret}", content=form, headers=headers).status_code == 303
    assert client.get(f"/join/{secret}").status_code == 410
    assert client.post(f"/join/{secret}", content=form + "2", headers=headers).status_code == 410


# ---- what every answer and request must be ---------------------------------------------------------------------------


def test_every_answer_carries_the_policy(app: FastAPI, client: TestClient) -> None:
    log_in(client)
    seen = set()
    for path in (
        "/",
        "/login",
        "/p/main/work",
        "/p/main/manage",
        "/nothing",
        "/static/style.css",
        "/static/nothing",
        "/api/v1/me",
    ):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy, path
        assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy
        nonce = re.search(r"'nonce-([^']+)'", policy)[1]
        assert nonce not in seen
        seen.add(nonce)
        assert set(re.findall(r'nonce="([^"]+)"', answer.text)) <= {nonce}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_other_host_names_are_refused(world: World) -> None:
    site = Site(world.database, hosts=("localhost", "127.0.0.1", "::1"))
    with TestClient(build_app(site), base_url="http://localhost:8000") as client:
        for host, status in [
            ("localhost:8000", 200),
            ("LOCALHOST", 200),
            ("[::1]:8000", 200),
            ("evil.example", 421),
            ("localhost.evil.example", 421),
            ("", 421),
        ]:
            assert client.get("/healthz", headers={"Host": host}).status_code == status, host


def test_long_bodies_are_refused(client: TestClient, tokens: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {tokens['annotator']}"}
    stated = client.post(
        "/api/v1/projects/main/next", content=b"x", headers={**headers, "Content-Length": str(2**40)}
    )
    assert stated.status_code == 413
    assert client.post(
        "/api/v1/projects/main/next", content=b"x", headers={**headers, "Content-Length": "-5"}
    ).status_code in (400, 413)


@pytest.mark.parametrize(
    "body",
    [
        b'{"draft": {"a": "\\u0000"}}',
        b'{"draft": {"a": "\\ud800"}}',
        b'{"draft": {"\\udc00": 1}}',
        b'{"draft": {"a": "x\\\\\\u0000"}}',
    ],
)
def test_text_that_no_database_keeps_is_refused(
    client: TestClient, tokens: dict[str, str], body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {tokens['annotator']}", "Content-Type": "application/json"}
    answer = client.put("/api/v1/projects/main/assignments/1/draft", content=body, headers=headers)
    assert answer.status_code == 422 and "NUL" in answer.json()["detail"]


def test_an_escaped_backslash_is_no_nul(client: TestClient, tokens: dict[str, str]) -> None:
    """The text backslash-u-0-0-0-0, as a program about JSON may hold it."""
    headers = {"Authorization": f"Bearer {tokens['annotator']}", "Content-Type": "application/json"}
    task = client.post("/api/v1/projects/main/next", json={}, headers=headers).json()["view"]["task"]
    url = f"/api/v1/projects/main/assignments/{task['assignment_id']}/draft"
    assert client.put(url, content=b'{"draft": {"a": "\\\\u0000"}}', headers=headers).status_code == 204


def test_refusals_repeat_nothing_that_was_sent(client: TestClient) -> None:
    answer = client.post("/api/v1/auth/login", json={"name": "ann", "password": {"secret": "hunter2"}})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


def test_of_two_at_the_same_moment_one_is_told_to_send_it_again(
    client: TestClient, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database keeps one row of each key: whoever comes second at once is refused, and not with a fault of ours."""

    def overtaken(*_: Any) -> None:
        raise IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed"))

    monkeypatch.setattr(queue, "next_task", overtaken)
    headers = {"Authorization": f"Bearer {tokens['annotator']}"}
    answer = client.post("/api/v1/projects/main/next", json={}, headers=headers)
    assert answer.status_code == 409 and "send it again" in answer.json()["detail"]


def test_a_request_looks_up_who_makes_it_once(
    client: TestClient, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    known = access.token_user
    monkeypatch.setattr(
        access, "token_user", lambda database, token: looked.append(token) or known(database, token)
    )
    headers = {"Authorization": f"Bearer {tokens['owner']}"}
    page = client.get("/p/main/data", headers=headers)
    assert page.status_code == 200 and "the-owner" in page.text and len(looked) == 1
