"""Prompts with tools and calls of tools, from the file to the people and back into a file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.databases import fresh_sqlite
from tests.feedback.kit import hand_in, owner, prioritise
from tests.feedback.kit import take as take_next
from tutelage.data.reading.formats import read_comparisons, read_prompts
from tutelage.feedback.asking.payloads import LiveResponse, PairAnswer, Schema
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec
from tutelage.feedback.imports import importing
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.upkeep import examine
from tutelage.feedback.work import live, queue
from tutelage.records import Comparison, Message, Prompt, ToolCall
from tutelage.store import Store
from tutelage.store.database import Database

TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},)
ASKED = Prompt(
    (
        Message("system", "Be brief."),
        Message("user", "Rain in Rome?"),
        Message("assistant", "Let me look.", (ToolCall("weather", {"city": "Rome"}, "call-1"),)),
        Message("tool", '{"rain": true}', name="weather", tool_call_id="call-1"),
    ),
    "weather",
    {"answer": "yes"},
    TOOLS,
)
PLAIN = Prompt("Plain?")
ROWS = [Comparison(prompt, "Yes.", "No.", 0.75, 0.5) for prompt in (ASKED, PLAIN)]
THREAD = [
    ("system", "Be brief."),
    ("user", "Rain in Rome?"),
    ("assistant", 'Let me look.\nweather({"city": "Rome"})'),
    ("tool", '{"rain": true}'),
]


@pytest.fixture
def olga(store: Store, database: Database) -> Member:
    store.add_prompts("main", [ASKED])
    who = projects.member(database, owner(database), "main")
    content = "".join(json.dumps(row.to_json()) + "\n" for row in ROWS).encode()
    done = importing.import_stream(database, who, "preference", io.BytesIO(content), "rows.jsonl")
    assert (done.new, done.bad) == (2, [])
    projects.ask_one_more(database, who)
    return who


def test_people_see_calls_as_text(database: Database, olga: Member) -> None:
    shown = {row.item_id: row.prompt for row in browsing.find(database, olga, browsing.Query()).items}
    threads = set()
    while (task := queue.next_task(database, olga)) is not None:
        threads.add(tuple((turn.role, turn.content) for turn in task.thread))
        detail = browsing.detail(database, olga, task.item_id)
        assert (detail.thread == task.thread and "weather(" in shown[task.item_id]) or task.plain_prompt
        hand_in(database, olga, task, PairAnswer(preference=2))
    assert threads == {tuple(THREAD), (("user", "Plain?"),)}
    assert [finding for finding in examine(database) if finding.wrong] == []


def test_a_chat_keeps_the_tools(store: Store, database: Database, olga: Member) -> None:
    projects.set_schema(database, olga, Schema(type="chat"))
    building.build(database, olga, "chat")
    chats = [
        row.item_id
        for row in browsing.find(database, olga, browsing.Query(type="chat")).items
        if "Rome" in row.prompt
    ]
    prioritise(database, olga, dict.fromkeys(chats, 1.0))
    task = take_next(database, olga)
    said = [LiveResponse(text="Yes.", model="m"), LiveResponse(text="No.", model="m")]
    turn = live.add_turn(database, olga, task.assignment_id, "", said)
    assert [(t.role, t.content) for t in turn.thread] == THREAD
    choice = PairAnswer(preference=-1)
    hand_in(database, olga, turn, choice)
    following = live.chat_prompt(database, olga, task.assignment_id, "And in Oslo?")
    assert following.tools == TOOLS and following.content[-1] == Message("user", "And in Oslo?")


@pytest.mark.parametrize("file_format", ["jsonl", "parquet", "csv"])
def test_files_keep_tools(database: Database, olga: Member, tmp_path: Path, file_format: Any) -> None:
    out = tmp_path / f"rows.{file_format}"
    exporting.export(database, olga, ExportSpec(file_format=file_format), out)
    chat = (
        Prompt((Message("user", "Plain?"),)) if file_format == "parquet" else PLAIN
    )  # one type for a column
    read = sorted(read_comparisons(out), key=lambda row: not row.prompt.tools)
    assert read == [ROWS[0], Comparison(chat, "Yes.", "No.", 0.75, 0.5)]
    other = Database(fresh_sqlite(tmp_path / "other.sqlite"))
    there = projects.local_member(other, "main", create=True)
    with out.open("rb") as stream:
        assert importing.import_stream(other, there, "preference", stream, out.name).new == 2
    with Store(other.place) as copied:
        assert {row.prompt for row in copied.comparisons("main")} == {ASKED, chat}
    other.close()


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_other_exports_keep_tools_or_say_that_they_cannot(
    database: Database, olga: Member, tmp_path: Path, file_format: Any
) -> None:
    spec = ExportSpec(format="unpaired", labels_from="pairs", file_format=file_format)
    out = exporting.export(database, olga, spec, tmp_path / f"rows.{file_format}").file
    assert ASKED in set(read_prompts(out))
    done = exporting.export(database, olga, ExportSpec(format="hh", file_format=file_format), tmp_path / "hh")
    assert done.rows == 1 and done.left_out == {"prompt has tools, which transcripts cannot say": 1}
    raw = exporting.export(
        database, olga, ExportSpec(format="raw", file_format=file_format), tmp_path / f"raw.{file_format}"
    )
    other = Database(fresh_sqlite(tmp_path / "other.sqlite"))
    there = projects.local_member(other, "main", create=True)
    with raw.file.open("rb") as stream:
        assert importing.import_stream(other, there, "raw", stream, raw.file.name).bad == []
    with (
        Store(other.place) as copied,
        Store(database.place) if database.is_sqlite else Store(str(database._reader.url)),
    ):
        assert ASKED in {row.prompt for row in copied.comparisons("main")}
    other.close()
