"""Hub names without a network, with one, and with HF_HUB_OFFLINE: a sentence soon, and nothing the libraries would not do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from tutelage import hub as module
from tutelage.data.reading.sources import read_rows
from tutelage.hub import hub
from tutelage.models.loading import load_policy, load_tokenizer

LOADERS: list[tuple[Callable[[], object], str]] = [
    (lambda: load_tokenizer("org/name"), "no tokenizer of that name was downloaded before"),
    (lambda: load_policy("org/name"), "no model of that name was downloaded before"),
    (lambda: list(read_rows("hub:org/name")), "the hub data set org/name"),
]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Call it with an address: the hub is there, and HF_HUB_OFFLINE is not set."""

    def set_endpoint(endpoint: str) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        module._silence.cache_clear()

    yield set_endpoint
    module._silence.cache_clear()


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A hub that knows nothing (404): its address, and what it was asked."""
    asked: list[str] = []

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_hub_that_refuses_is_named_without_waiting(
    online: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries alone sleep and try again, for a minute and a half with these three."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    online("http://127.0.0.1:9")
    for load, sentence in LOADERS:
        with pytest.raises(ValueError, match=sentence) as caught:
            load()
        message = str(caught.value)
        assert "http://127.0.0.1:9 does not answer" in message and "network" in message, message
        assert "\n" not in message and len(message) < 300, message
    assert slept == []
    assert constants.HF_HUB_OFFLINE is False  # as it was


def test_a_hub_that_answers_is_asked_once_and_then_left_to_the_libraries(
    online: Callable[[str], None], server: tuple[str, list[str]]
) -> None:
    address, asked = server
    online(address)
    for _ in range(2):
        with hub() as unreachable:
            assert unreachable == "" and constants.HF_HUB_OFFLINE is False
    assert asked == ["/"]


def test_offline_mode_asks_nobody(
    online: Callable[[str], None], server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = server
    online(address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for load, sentence in LOADERS:
        with pytest.raises(ValueError, match=f"{sentence}.*HF_HUB_OFFLINE is set"):
            load()
    assert asked == [] and constants.HF_HUB_OFFLINE is True
