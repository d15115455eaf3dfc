"""One store, one server and one browser for all tests of the web app; each test has a project of its own."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from tests.feedback.kit import cheap_passwords
from tests.web.everything import everything
from tests.web.kit import Parrots, World, make_world
from tutelage.feedback.people.tokens import create_token
from tutelage.web.app import build_app
from tutelage.web.limits import Limit, Limits
from tutelage.web.serve import listen
from tutelage.web.site import Site


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """Argon2 with the least work in this process; a server that a test starts has its own."""
    with pytest.MonkeyPatch.context() as patch:
        cheap_passwords(patch)
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("world") / "store.sqlite")
    made.project("main")
    yield made
    made.close()


@pytest.fixture(scope="session")
def labelled(world: World) -> str:
    """The name of a project with people's and programs' answers of every type, gold, flags, conflicts, what is gone."""
    return everything(world)


@pytest.fixture(scope="session")
def site(world: World) -> Iterator[Site]:
    free = Limits(**{name: Limit(100_000, 0.001) for name in ("generate", "export", "token", "invite")})
    made = Site(
        world.database, generator=Parrots(), limits=free, hosts=("localhost", "127.0.0.1", "testserver")
    )
    yield made
    made.exports.close()


class Running:
    """A server in a thread of this process; `stop` and `start` keep its address."""

    def __init__(self, site: Site) -> None:
        self.site, self.port = site, 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        listener = listen("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(build_app(self.site), log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture(scope="session")
def server(site: Site) -> Iterator[Running]:
    running = Running(site)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def shots(request: pytest.FixtureRequest) -> Path:
    """Where screenshots are kept, with TUTELAGE_TEST_PICTURES=1: below the cache folder of pytest."""
    return request.config.cache.mkdir("screenshots")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    """A store of the test's own, with an empty project `main`."""
    made = make_world(tmp_path / "own.sqlite")
    made.project("main", prompts=(), answers=())
    yield made
    made.close()


@pytest.fixture
def api(own: World) -> Iterator[TestClient]:
    """A client of its API, as its owner."""
    token = create_token(own.database, own.owner, "test", ("manage",))
    site = Site(own.database)
    with TestClient(build_app(site), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client
    site.exports.close()
