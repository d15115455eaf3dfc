"""`tutelage serve`: how it starts, what it prints, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.kit import make_world
from tutelage.settings.base import build
from tutelage.settings.web import ServeSettings
from tutelage.web.serve import address, check, host_names, is_loopback, listen, named_models


def started(*settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tutelage", "serve", "port=0", *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines_until(process: subprocess.Popen[str], wanted: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if wanted in line:
            return
    raise AssertionError(f"the server ended without saying {wanted!r}")


@pytest.mark.slow
def test_first_start_prints_a_link_that_makes_the_owner(tmp_path: Path) -> None:
    process = started(f"store={tmp_path / 'store.sqlite'}")
    try:
        text = "".join(lines_until(process, "/join/"))
        link = re.search(r"http://localhost:\d+/join/[\w-]{40,}", text)
        assert link is not None
        with urllib.request.urlopen(link[0]) as answer:
            assert "Become the owner" in answer.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)


@pytest.mark.slow
def test_a_later_start_prints_no_link_and_does_not_let_the_old_one_in(tmp_path: Path) -> None:
    make_world(tmp_path / "store.sqlite").close()
    process = started(f"store={tmp_path / 'store.sqlite'}")
    try:
        first = next(lines_until(process, "serves"))
        assert "http://localhost:" in first
        url = re.search(r"http://\S+", first)[0]
        with urllib.request.urlopen(f"{url}/healthz") as answer:
            assert json.load(answer) == {"status": "ok"}
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert "/join/" not in rest


@pytest.mark.slow
def test_it_starts_without_what_is_slow_to_import(tmp_path: Path) -> None:
    script = (
        "import sys; import tutelage.cli, tutelage.launch, tutelage.web.serve as s; "
        "from tutelage.web.app import build_app; from tutelage.store.database import Database; "
        f"from tutelage.web.site import Site; build_app(Site(Database({str(tmp_path / 's.sqlite')!r}))); "
        "print({'torch', 'transformers', 'pandas', 'datasets', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


@pytest.mark.slow
def test_other_machines_are_let_in_only_once_there_is_an_owner(tmp_path: Path) -> None:
    process = started(f"store={tmp_path / 'store.sqlite'}", "host=0.0.0.0")
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "nobody owns this store yet" in said


@pytest.mark.slow
def test_without_tls_it_warns(tmp_path: Path) -> None:
    make_world(tmp_path / "store.sqlite").close()
    process = started(f"store={tmp_path / 'store.sqlite'}", "host=0.0.0.0")
    try:
        assert any("without TLS" in line for line in lines_until(process, "url=https"))
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} .*choose another port="):
            listen("127.0.0.1", port)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio sets TCP_NODELAY only where the protocol is named; without it each answer takes 40 ms longer."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"certificate": "cert.pem"}, "belong together"),
        ({"certificate": "no.pem", "certificate_key": "no.key"}, "there is no such file"),
        ({"url": "labels.example.org"}, "is no address"),
        ({"models": ["runs/a/model", "runs/b/model"]}, "two are called 'model'"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(build(ServeSettings, given))


def test_names_that_the_server_answers_to() -> None:
    assert "localhost" in host_names(build(ServeSettings, {}))
    assert host_names(build(ServeSettings, {"host": "0.0.0.0"})) == ()
    assert (
        host_names(build(ServeSettings, {"host": "0.0.0.0", "url": "https://Labels.example.org"}))[0]
        == "labels.example.org"
    )


def test_addresses() -> None:
    assert address(build(ServeSettings, {"host": "0.0.0.0"}), 80) == "http://localhost:80"
    assert (
        address(build(ServeSettings, {"url": "https://labels.example.org/"}), 80)
        == "https://labels.example.org"
    )
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_models_may_be_named() -> None:
    assert [(model.name, model.path) for model in named_models(["runs/sft", "new=runs/ppo"])] == [
        ("sft", "runs/sft"),
        ("new", "runs/ppo"),
    ]


@pytest.mark.slow
def test_tls(tmp_path: Path) -> None:
    """With a certificate the server speaks TLS, and its cookie says so."""
    import ssl

    make_world(tmp_path / "store.sqlite").close()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            cert,
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("openssl is not there to make a certificate")
    process = started(f"store={tmp_path / 'store.sqlite'}", f"certificate={cert}", f"certificate_key={key}")
    try:
        url = re.search(r"https://\S+", next(lines_until(process, "serves")))[0]
        context = ssl.create_default_context(cafile=str(cert))
        context.check_hostname = False
        time.sleep(0.2)
        body = json.dumps({"name": "ann", "password": "correct horse battery staple"}).encode()
        request = urllib.request.Request(
            f"{url}/api/v1/auth/login", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, context=context) as answer:
            assert answer.headers["set-cookie"].startswith("__Host-tutelage=")
            assert "Secure" in answer.headers["set-cookie"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
