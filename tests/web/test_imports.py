"""Files over HTTP: any kind by its name, whole or in part refused in a sentence; prompts with tools on the pages."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient

from tests.web.conftest import Running
from tests.web.kit import PASSWORD, World
from tutelage.feedback.imports import importing
from tutelage.feedback.items import browsing
from tutelage.feedback.people.tokens import create_token
from tutelage.feedback.projects import projects
from tutelage.web import api_imports
from tutelage.web.app import build_app
from tutelage.web.client import Client
from tutelage.web.site import Site

ROWS = [{"prompt": f"Q{n}?", "chosen": "A", "rejected": "B", "p_chosen": 0.7} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def send(api: TestClient, content: bytes, name: str = "", kind: str = "preference") -> Any:
    query = {"kind": kind} | ({"name": name} if name else {})
    return api.post("/api/v1/projects/main/import", params=query, content=content)


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n")),
        ("rows.json", json.dumps(ROWS).encode()),
        ("a b&c.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("rows.csv", b"prompt,chosen,rejected,p_chosen\n" + b"".join(b"Q%d?,A,B,0.7\n" % n for n in range(3))),
        ("rows.parquet", parquet()),
    ],
)  # fmt: skip
def test_any_kind_of_file(api: TestClient, name: str, content: bytes) -> None:
    said = {"new": 3, "there": 0, "bad": [], "unused": {}, "needs": "", "mended": []}
    assert send(api, content, name).json() == said
    assert send(api, content, name).json() == said | {"new": 0, "there": 3}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("rows.xlsx", b"PK\x03\x04" + LINES, "Rows.xlsx is an Excel workbook or another archive"),
        ("rows.dat", b"\x00\x01\x02" * 99, "is no text and no Parquet file"),
        ("rows.dat", b"hello\nworld\n", "holds no rows that can be told apart"),
        ("rows.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "is not a complete gzip file"),
        ("rows.jsonl.gz", gzip.compress(b" " * 2**21, mtime=0), "unpacks to more than 1 MiB"),
        ("rows.parquet", parquet()[:-9], "is not a readable parquet file"),
        ("rows.json", b'[{"prompt": 1}', "malformed JSON"),
        ("", b"", "is empty"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_whole(
    api: TestClient, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, why: str
) -> None:
    monkeypatch.setattr(api_imports, "LONGEST_UNPACKED", 2**20)
    refused = send(api, content, name)
    assert refused.status_code == 422 and why in refused.json()["detail"], refused.text


def test_what_no_database_keeps_is_refused_by_its_line(api: TestClient) -> None:
    rows = ['{"prompt": "nul \\u0000"}', '{"prompt": "half \\ud800"}', '{"prompt": "fine"}']
    for content, numbers in (("\n".join(rows).encode(), [1, 2]), (rows[0].encode(), [1])):
        said = send(api, content, kind="prompts").json()
        assert [bad["line"] for bad in said["bad"]] == numbers


@pytest.mark.slow
def test_nothing_is_stored_of_a_file_that_breaks_off(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = b"prompt,chosen,rejected\nQ0?,A,B\nQ1?,A,B\n" + b'"Q2?",A,B"x"\n"'
    assert send(api, broken, "rows.csv").status_code == 422
    monkeypatch.setattr(api_imports, "MOST_LINES", 2)
    assert "at most 2 lines or rows" in send(api, json.dumps(ROWS).encode(), "rows.json").json()["detail"]
    monkeypatch.undo()
    assert send(api, LINES).json()["new"] == 3


def test_the_client_sends_files(world: World, server: Running, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(parquet())
    world.project("client-files", prompts=(), answers=())
    with Client(server.url, create_token(world.database, world.owner, "files", ("manage",))) as client:
        assert client.import_file("client-files", "preference", tmp_path / "rows.parquet")["new"] == 3


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "<b>x</b>"}}}
WITH_TOOLS = {
    "prompt": {
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "yes", "name": "look"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
    }
}


@pytest.mark.slow
def test_pages_show_prompts_with_tools(own: World) -> None:
    member = own.member("main")
    row = json.dumps(
        WITH_TOOLS | {"chosen": "Wet.", "rejected": "Dry.", "p_chosen": 0.7, "margin": 0.25}
    ).encode()
    assert importing.import_stream(own.database, member, "preference", io.BytesIO(row), "rows.jsonl").new == 1
    projects.ask_one_more(own.database, member)
    (item,) = browsing.find(own.database, member, browsing.Query()).items
    site = Site(own.database)
    with TestClient(build_app(site), base_url="http://localhost") as client:
        said = client.post("/api/v1/auth/login", json={"name": "ann", "password": PASSWORD})
        csrf = {"X-CSRF-Token": said.json()["csrf"]}
        for page in ("data", f"data/{item.item_id}", "work", "insights", "manage", "export"):
            shown = client.get(f"/p/main/{page}")
            assert shown.status_code in (200, 404), (page, shown.text[:300])
            if page.startswith("data"):
                assert shown.status_code == 200 and "look(" in shown.text and "<b>x</b>" not in shown.text
        assert "better, by 70% of votes, margin 0.25" in client.get(f"/p/main/data/{item.item_id}").text
        view = client.post("/api/v1/projects/main/next", json={"besides": []}, headers=csrf).json()["view"]
        assert [turn["role"] for turn in view["task"]["thread"]] == ["user", "assistant", "tool"]
        assert "look(" in view["task"]["thread"][1]["content"] and "<b>x</b>" not in view["thread"][1]["html"]
    site.exports.close()
