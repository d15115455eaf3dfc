"""The client against a served store: label, read, import, build, export; and what it does when the server is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.web.conftest import Running
from tests.web.kit import World
from tutelage.data.reading.formats import read_comparisons
from tutelage.feedback.people.tokens import create_token
from tutelage.files import sha256_of
from tutelage.records import Vote
from tutelage.store import NewVote, Store
from tutelage.web.client import ApiRefused, Client, Unreachable


@pytest.fixture
def client(world: World, server: Running) -> Iterator[Client]:
    token = create_token(world.database, world.owner, "client", ("manage",))
    with Client(server.url, token) as made:
        yield made


def test_from_rows_to_answers(client: Client, world: World, tmp_path: Path) -> None:
    """A project made, filled, labelled and read through the API alone."""
    client.create_project("by-client", {"acceptable": False}, {"dwell_seconds": 0})
    rows = [{"prompt": f"Say {n}.", "response": text} for n in range(5) for text in (f"{n}", f"no {n}")]
    assert client.import_lines("by-client", "responses", rows)["new"] == 10
    assert client.import_lines("by-client", "responses", rows)["new"] == 0
    assert client.build("by-client", "pair")["new"] == 5
    chosen = {}
    while task := client.next("by-client"):
        texts = [shown["text"] for shown in task["responses"]]
        short = min(range(2), key=lambda position: len(texts[position]))
        chosen[task["thread"][0]["content"]] = texts[short]
        receipt = client.submit(task, {"type": "pair", "preference": 3 if short else -3}, active_ms=900)
        assert not receipt["repeated"]
    assert len(chosen) == 5
    exported = client.export("by-client", format="preference")
    assert {row["prompt"]: row["chosen"] for row in exported} == chosen
    for kind in ("jsonl", "parquet"):
        told = client.export_file("by-client", tmp_path / f"rows.{kind}", file_format=kind)
        assert told["rows"] == 5 and told["sha256"] == sha256_of(tmp_path / f"rows.{kind}")
        read = list(read_comparisons(str(tmp_path / f"rows.{kind}")))
        assert {row.prompt.content: row.chosen for row in read} == chosen
    with pytest.raises(ApiRefused, match="lists in every row"):
        client.export_file("by-client", tmp_path / "no.csv", format="ranked", file_format="csv")
    assert client.project("by-client")["name"] == "by-client"
    assert [item["answers"] for item in client.items("by-client", state="complete")] == [1] * 5
    assert client.stats("by-client")["people"][0]["votes"] == 5


def test_an_item_that_programs_answered_is_shown_in_full(client: Client, world: World) -> None:
    """A program takes no time and is asked no questions: both are null, and items below the item are listed."""
    world.project("simulated", {"acceptable": False})
    with Store(world.path) as store:
        store.add_annotator("robot", "simulated")
        item = store.pairs("simulated")[0].item_id
        store.add_votes("simulated", [NewVote(item, Vote("robot", -2, 1), "robot/simulated")])
    found = client.request("GET", f"/projects/simulated/items/{item}")
    assert found["children"] == [] and found["row"]["answers"] == 1
    (answer,) = found["answers"]
    assert (answer["annotator"], answer["active_ms"], answer["schema_version"]) == ("robot", None, None)
    assert answer["answer"]["preference"] == -2 and answer["shown_order"] == [1, 0]
    assert [row["item_id"] for row in client.items("simulated", state="complete")] == [item]


def test_pages_are_read_to_the_end(client: Client, world: World) -> None:
    """A page says how to go on; a limit is honoured or refused, never cut."""
    world.project("pages", {"acceptable": False})
    assert len(client.items("pages")) == 6
    assert client.items("pages", limit=4) == client.items("pages", limit=1) == client.items("pages")
    page = client.request("GET", "/projects/pages/items?limit=4")
    assert (len(page["items"]), page["total"], page["next"]) == (4, 6, page["items"][-1]["item_id"])
    with pytest.raises(ApiRefused, match=r"(?i)limit"):
        client.items("pages", limit=501)
    with pytest.raises(ApiRefused, match=r"(?i)state"):
        client.items("pages", state="nonsense")
    seen, path = [], "/projects/pages/audit?limit=2"
    while True:
        page = client.request("GET", path)
        seen += page["events"]
        if page["next"] is None:
            break
        path = f"/projects/pages/audit?limit=2&before={page['next']}"
    assert [event["id"] for event in seen] == sorted((event["id"] for event in seen), reverse=True)
    assert seen == client.request("GET", "/projects/pages/audit?limit=1000")["events"]


def test_the_same_key_is_stored_once_and_a_revision_follows(client: Client, world: World) -> None:
    world.project("keys", {"acceptable": False})
    task = client.next("keys")
    assert task is not None
    first = client.submit(task, {"type": "pair", "preference": 1}, key="my-own-key")
    again = client.submit(task, {"type": "pair", "preference": 1}, key="my-own-key")
    assert again == {**first, "repeated": True}
    revised = client.revise("keys", first["annotation_id"], {"type": "pair", "preference": -1})
    assert revised["annotation_id"] != first["annotation_id"]
    with pytest.raises(ApiRefused) as refused:
        client.submit(task, {"type": "pair", "preference": 2}, key="another-key")
    assert (refused.value.status, refused.value.reason) == (409, "conflict")


def test_an_answer_without_a_usable_key_is_refused(client: Client, world: World) -> None:
    world.project("keyless", {"acceptable": False})
    task = client.next("keyless")
    assert task is not None
    path = f"/projects/keyless/assignments/{task['assignment_id']}/submit"
    answer = {"type": "pair", "preference": 1}
    for key in ("", "short", "with a space", "x" * 201):
        with pytest.raises(ApiRefused, match=r"^Idempotency-Key: ") as refused:
            client.request("POST", path, {"answer": answer}, key=key)
        assert refused.value.status == 422
    with pytest.raises(ApiRefused, match=r"(?i)client_key"):  # the header is the only way
        client.request("POST", path, {"answer": answer, "client_key": "in-the-body"}, key="in-the-header")


def test_members_have_a_role_and_a_team(client: Client, world: World) -> None:
    world.project("client people")
    world.user("hana", "main")
    client.set_member("client people", "hana", "expert", "chemists")
    client.set_member("client people", "hana", "adjudicator")
    (row,) = [row for row in client.members("client people") if row["name"] == "hana"]
    assert (row["role"], row["team"]) == ("adjudicator", "chemists")


def test_the_longest_text_is_not_too_long(client: Client, world: World) -> None:
    """A hundred thousand characters of any script: an answer is at most four bytes a character."""
    client.request("PUT", "/projects/client%20people/guidelines", {"markdown": "🌍" * 100_000})


def test_refusals_are_sentences(client: Client) -> None:
    with pytest.raises(ApiRefused, match=r"(?i)project") as refused:
        client.next("no-such-project")
    assert refused.value.status == 404
    with pytest.raises(ValueError, match="write it like"):
        Client("localhost:8000", "token")


def test_a_server_that_comes_back_is_waited_for(client: Client, server: Running) -> None:
    assert client.me()["name"] == "ann"
    server.stop()
    timer = threading.Timer(0.6, server.start)
    timer.start()
    assert client.me()["name"] == "ann"
    timer.join()


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew() -> None:
    """Servers close what was silent for some seconds; what cannot be sent twice must not meet such a connection."""
    asked = []

    class Forgetful(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = True  # without having said so

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_address[1]}", "token") as client:
            for number in range(3):
                assert client.request("POST", "/anything", {"number": number}) == {}
                time.sleep(0.05)  # until the end of the connection is here
        server.shutdown()
    assert asked == [b'{"number": 0}', b'{"number": 1}', b'{"number": 2}']


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.web.client.FIRST_PAUSE", 0.001)
    with Client("http://127.0.0.1:9", "token") as client, pytest.raises(Unreachable, match="does not answer"):
        client.me()
