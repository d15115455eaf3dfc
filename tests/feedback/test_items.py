"""Finding items, and what managers do to them: on both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.feedback.kit import expire, hand_in, join, keys, prioritise, start, take, vote
from tests.store.making import new_vote
from tutelage.feedback.asking.payloads import (
    ChatAnswer,
    LiveResponse,
    PairAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
)
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import browsing, building
from tutelage.feedback.items.browsing import Query, find
from tutelage.feedback.items.changing import (
    Close,
    Label,
    Overlap,
    Prioritise,
    Reserve,
    Resolve,
    add_note,
    change_items,
    remove_note,
)
from tutelage.feedback.items.redaction import redact
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.refining import working
from tutelage.feedback.upkeep import examine
from tutelage.feedback.work import live, queue
from tutelage.records import Help, Message, Prompt, Response, Vote
from tutelage.store import Answer, ModelInfo, NewVote, Question, Store
from tutelage.store.database import Database
from tutelage.store.schema import Base, Item
from tutelage.store.schema_feedback import Membership

SECRET = "the whale sings at midnight"


def fill(store: Store, texts: list[Any], responses: list[str]) -> None:
    """More prompts for project main, each with these responses, compared."""
    prompts = [Prompt(content) for content in texts]
    store.add_prompts("main", prompts, split="test")
    run = store.add_generation_run(ModelInfo("runs/other"), "local", {"seed": 9})
    store.add_responses(
        "main",
        run,
        [
            Response(p, said, (1,), (2,), (-1.0,), "eos", n)
            for p in prompts
            for n, said in enumerate(responses)
        ],
    )
    store.build_pairs("main", 0, 2)


def refused(reason: str, act: Callable[..., Any], *args: Any, **named: Any) -> None:
    with pytest.raises(Refused) as caught:
        act(*args, **named)
    assert caught.value.reason == reason


def test_search_is_the_same_everywhere(store: Store, database: Database) -> None:
    """Beyond ASCII, across JSON's escapes, without case; nothing in what is searched for is a wildcard."""
    olga = start(store, database, prompts=1)
    chat = (Message("user", 'Say "hi\\there"'), Message("assistant", "Hi."), Message("user", "100%_sure?"))
    fill(store, ["Wo gibt es DÖNER?", "请写一首诗", chat], ["ﬁne straße", "no"])
    found = {
        wanted: find(database, olga, Query(text=wanted)).total
        for wanted in (
            "döner",
            "Döner",
            "写一首",
            '"hi\\there"',
            '"HI\\',
            "100%_s",
            "FINE STRASSE",
            "%",
            "0%_%",
            "q%2",
            "zzz",
        )
    }
    assert found == {
        "döner": 1, "Döner": 1, "写一首": 1, '"hi\\there"': 1, '"HI\\': 1, "100%_s": 1, "FINE STRASSE": 3,
        "%": 1, "0%_%": 0, "q%2": 0, "zzz": 0,
    }  # fmt: skip
    vote(database, olga)
    task = take(database, olga)
    hand_in(database, olga, task, PairAnswer(preference=1, reason="Größer, kürzer"))
    assert [row.item_id for row in find(database, olga, Query(text="GRÖSSER")).items] == [task.item_id]


def test_filters_and_pages(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=3, overlap=2)
    fill(store, ["one more"], ["a", "b"])
    all_items = [row.item_id for row in find(database, olga, Query(limit=500)).items]
    assert len(all_items) == 19
    pages, after = [], 0
    while True:
        page = find(database, olga, Query(limit=5, after=after))
        pages += [row.item_id for row in page.items]
        assert page.total == 19
        if page.next is None:
            break
        after = page.next
    assert pages == all_items
    with pytest.raises(ValueError, match="less than or equal to 500"):
        Query(limit=501)
    queue.flag(database, olga, take(database, olga).assignment_id, "unsure")
    votes = [
        (all_items[0], "ann", -3),
        (all_items[0], "bob", 3),
        (all_items[1], "ann", 0),
        (all_items[1], "bob", 0),
    ]
    store.add_votes("main", [new_vote(*said) for said in votes])
    by = {
        name: {row.item_id for row in find(database, olga, Query(**asked)).items}  # type: ignore[arg-type]
        for name, asked in {
            "apart": {"agreement": "far-apart"}, "agree": {"agreement": "agree"}, "differ": {"agreement": "differ"},
            "tie": {"answer": "tie"}, "bob's ties": {"answer": "tie", "annotator": "bob"},
            "bob": {"annotator": "bob"}, "nobody": {"annotator": "zoe"}, "test": {"split": "test"},
            "maths": {"task": "maths"}, "model": {"model": "runs/other"}, "flagged": {"state": "flagged"},
        }.items()
    }  # fmt: skip
    assert (
        len(by["apart"]) == 1 and by["differ"] == by["apart"] and by["agree"] == by["tie"] == by["bob's ties"]
    )
    assert by["bob"] == by["apart"] | by["tie"] and by["nobody"] == set()
    assert by["test"] == by["model"] and len(by["test"]) == 1 and len(by["maths"]) == 18
    assert len(by["flagged"]) == 1
    at = browsing.neighbours(database, olga, Query(annotator="bob"), max(by["bob"]))
    assert (at.previous, at.next, at.place, at.total) == (min(by["bob"]), None, 2, 2)
    outside = browsing.neighbours(database, olga, Query(split="test"), all_items[0])
    assert (outside.previous, outside.next, outside.place) == (None, next(iter(by["test"])), 0)


def test_many_are_changed_at_once_or_none(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=2)
    ids = [row.item_id for row in find(database, olga, Query(limit=500)).items]
    some = ids[:3]
    queue.flag(database, olga, take(database, olga).assignment_id, "unsafe", "look")
    assert change_items(database, olga, some, Label(what="tag", tag="again")) == 3
    assert change_items(database, olga, some[:1], Label(what="tag", tag="again")) == 1
    assert [row.tags for row in find(database, olga, Query(tag="again")).items] == [("again",)] * 3
    change_items(database, olga, Query(tag="again"), Close(what="close", closed=True), count=3)
    assert {row.item_id for row in find(database, olga, Query(state="closed")).items} == set(some)
    refused("conflict", change_items, database, olga, Query(), Close(what="close", closed=True), count=3)
    refused("not-found", change_items, database, olga, [ids[0], 10**6], Overlap(what="overlap", overlap=9))
    assert {row.overlap for row in find(database, olga, Query()).items} == {1}
    change_items(database, olga, Query(), Overlap(what="overlap", overlap=4), count=len(ids))
    change_items(database, olga, [ids[5]], Prioritise(what="priority", priority=7))
    rows = {row.item_id: row for row in find(database, olga, Query()).items}
    assert {row.overlap for row in rows.values()} == {4} and rows[ids[5]].priority == 7
    assert (
        change_items(database, olga, Query(state="flagged"), Resolve(what="resolve", word="it is fine")) == 1
    )
    assert find(database, olga, Query(state="flagged")).total == 0
    change_items(database, olga, ids, Label(what="tag", tag="again", on=False))
    assert browsing.choices(database, olga).tags == []
    made = add_note(database, olga, ids[0], " look here ")
    assert [note["text"] for note in browsing.detail(database, olga, ids[0]).notes] == ["look here"]
    remove_note(database, olga, ids[0], made)
    refused("not-found", remove_note, database, olga, ids[0], made)
    ben = join(database, olga.user, "main", "ben")
    refused("forbidden", change_items, database, ben, ids, Close(what="close", closed=True))
    events = [event["what"] for event in projects.audit(database, olga, 5)]
    assert events == ["join", "invite", "items-tag", "items-resolve", "items-priority"]
    first = projects.audit(database, olga, 1)[0]
    assert projects.audit(database, olga, 1, before=first["id"])[0]["what"] == "invite"


def test_a_reserved_item_goes_to_those_named_and_nobody_else(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    ben, cem = (join(database, olga.user, "main", name) for name in ("ben", "cem"))
    with database.write() as connection:
        connection.execute(
            Membership.__table__.update().where(Membership.account_id == cem.user.id).values(team="law")
        )
    ids = [row.item_id for row in find(database, olga, Query()).items]
    change_items(database, olga, ids, Reserve(what="reserve", people=("ben",)))
    change_items(database, olga, ids[:2], Reserve(what="reserve", teams=("law",)))
    assert queue.progress(database, ben).left == 4 and queue.progress(database, cem).left == 2
    assert queue.next_task(database, olga) is None
    assert {vote(database, ben).annotation_id for _ in range(4)} and queue.next_task(database, ben) is None
    assert {take(database, cem).item_id, take(database, cem).item_id} <= set(ids[:2])
    shown = find(database, olga, Query(state="reserved")).items
    assert [row.reserved for row in shown] == [("@law",)] * 2 + [("ben",)] * 4
    change_items(database, olga, ids[:1], Reserve(what="reserve"))
    assert queue.progress(database, olga).left == (0 if shown[0].answers else 1)
    refused("not-found", change_items, database, olga, ids, Reserve(what="reserve", people=("zoe",)))
    refused("not-found", change_items, database, olga, ids, Reserve(what="reserve", teams=("tax",)))


def test_what_was_reserved_meanwhile_is_not_kept_by_a_late_heartbeat(
    store: Store, database: Database
) -> None:
    olga = start(store, database, prompts=1)
    ben, _ = join(database, olga.user, "main", "ben"), join(database, olga.user, "main", "cem")
    task = take(database, ben)
    change_items(database, olga, [task.item_id], Reserve(what="reserve", people=("cem",)))
    queue.heartbeat(database, ben, task.assignment_id)  # in hand already: theirs
    expire(database, task.assignment_id)
    refused("gone", queue.heartbeat, database, ben, task.assignment_id)


# redaction ------------------------------------------------------------------------------------------------------------


def everything(database: Database) -> str:
    """Every value of every table, as text."""
    with database.read() as connection:
        return "\n".join(
            str(tuple(row))
            for table in Base.metadata.sorted_tables
            for row in connection.execute(text(f'SELECT * FROM "{table.name}"'))
        )


def on_disk(store: Store) -> bytes:
    """What the files of an SQLite store hold."""
    path = Path(store.place)
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def make_secret(store: Store, database: Database) -> Member:
    """A project in which a response says the secret, with everything that people make of a response."""
    olga = start(store, database, prompts=1, schema=Schema(acceptable=False))
    fill(store, [f"prompt {SECRET}"], [f"Well.\n\nNow {SECRET}.\n\nEnd.", "no"])
    for type in ("step", "rewrite", "chat"):
        building.build(database, olga, type, "all")  # type: ignore[arg-type]
    return olga


def item_of(database: Database, who: Member, type: str, words: str = "prompt") -> int:
    return find(database, who, Query(text=words, type=type)).items[0].item_id  # type: ignore[arg-type]


def take_item(database: Database, who: Member, item: int) -> Any:
    prioritise(database, who, {item: 10.0 + item})
    task = take(database, who)
    assert task.item_id == item
    return task


def test_a_redacted_response_is_gone_everywhere(store: Store, database: Database) -> None:
    olga = make_secret(store, database)
    fill(store, ["plain"], [f"Well.\n\nNow {SECRET}.\n\nEnd.", "no"])
    with database.write() as connection:
        connection.execute(
            Item.__table__.update().where(Item.type.in_(("step", "rewrite"))).values(priority=0.0)
        )
    pair = item_of(database, olga, "pair", "plain")
    receipt = hand_in(
        database, olga, take_item(database, olga, pair), PairAnswer(preference=-2, reason="short")
    )
    building.build(database, olga, "step", "all")
    building.build(database, olga, "rewrite", "all")
    step = next(
        row.item_id
        for row in find(database, olga, Query(text="plain", type="step")).items
        if SECRET in row.responses[0]
    )
    task = take_item(database, olga, step)
    marks = (
        StepMark(step=0, label=1),
        StepMark(step=1, label=1),
        StepMark(step=2, label=-1, reason="no", rewrite=f"Better end, not {SECRET}."),
    )
    given = Submission(client_key="secret/steps", answer=StepAnswer(marks=marks, finish="found-error"))
    going = working.mark(database, olga, task.assignment_id, given, "rewritten").going
    assert going is not None
    said = LiveResponse(text="Then.", model="red", n_tokens=2)
    _, again = working.add(database, olga, going, going.begun, said)
    sound = tuple(StepMark(step=n, label=1) for n in range(len(again.responses[0].steps)))
    hand_in(database, olga, again, StepAnswer(marks=sound))
    rewrite = next(
        row.item_id
        for row in find(database, olga, Query(text="plain", type="rewrite")).items
        if SECRET in row.responses[0]
    )
    task = take_item(database, olga, rewrite)
    queue.save_draft(database, olga, task.assignment_id, {"answer": {"text": SECRET}})
    queue.flag(database, olga, task.assignment_id, "personal-data", SECRET)
    add_note(database, olga, rewrite, SECRET)
    hand_in(database, olga, task, RewriteAnswer(text=f"{SECRET}!"))
    for number, asked in enumerate(store.pairs("main")):  # a model that was asked about it, and quotes it
        if SECRET not in asked.prompt.text() + "".join(asked.texts):
            continue
        key = f"{number:064}"
        store.add_questions("main", [Question(key, "llm:x", "pair 01", asked.prompt.id)])
        store.add_judge_answers([Answer(key, "answered", f"It says {SECRET}.", likely={SECRET: 0.0})])
    store.add_annotator("helped", "judge", {})  # whom an assistant has told of it
    told = Help("honest", "llm:y", (f"It says {SECRET}.", "It says no."), 1, "critic")
    store.add_votes("main", [NewVote(pair, Vote("helped", 1, 0, help=told), "helped")])
    slot = next(
        n for n, said in enumerate(browsing.detail(database, olga, pair).row.responses) if SECRET in said
    )
    refused("invalid", redact, database, olga, pair, "response", slot, "")
    refused("not-found", redact, database, olga, pair, "response", 7, "redact")
    before = find(database, olga, Query(text="plain", limit=500))
    closed = redact(database, olga, pair, "response", slot, "redact")
    assert closed == 4  # the pair, the steps, those written again, the rewrite
    redact(database, olga, item_of(database, olga, "pair"), "prompt", confirm="redact")
    other = item_of(database, olga, "pair", SECRET)  # the same words to another prompt are another record
    slot = next(
        n for n, said in enumerate(browsing.detail(database, olga, other).row.responses) if SECRET in said
    )
    redact(database, olga, other, "response", slot, "redact")
    assert SECRET not in everything(database)
    if database.is_sqlite:
        assert SECRET.encode() not in on_disk(store)
    after = find(database, olga, Query(text="plain", limit=500))
    assert [(row.item_id, row.answers) for row in after.items] == [
        (row.item_id, row.answers) for row in before.items
    ]
    detail = browsing.detail(database, olga, pair)
    assert (
        detail.row.closed and detail.row.redacted and detail.answers[0].annotation_id == receipt.annotation_id
    )
    kept = detail.answers[0].answer
    assert isinstance(kept, PairAnswer) and abs(kept.preference) == 2 and kept.reason == "short"
    assert [mark.label for mark in browsing.detail(database, olga, step).answers[0].answer.marks] == [
        1,
        1,
        -1,
    ]  # type: ignore[union-attr]
    assert pair not in {found.item_id for found in store.pairs("main")}
    assert projects.audit(database, olga)[-1]["what"] != "" and "redact-response" in [
        e["what"] for e in projects.audit(database, olga)
    ]
    assert not any(found.wrong for found in examine(database))
    with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
        connection.execute(text("UPDATE annotation SET reason = 'x'"))


def test_a_redacted_conversation_and_a_redacted_answer(store: Store, database: Database) -> None:
    olga = make_secret(store, database)
    chat = take_item(database, olga, item_of(database, olga, "chat"))
    for n in range(2):
        said = [LiveResponse(text=f"{word} {n}", model="red", n_tokens=2) for word in ("yes", "no")]
        turn = live.add_turn(database, olga, chat.assignment_id, f"tell {SECRET} {n}", said)
        submission = Submission(
            client_key=next(keys), answer=PairAnswer(preference=-2, reason=f"because {SECRET}")
        )
        live.choose(database, olga, turn.assignment_id, submission)
    hand_in(database, olga, chat, ChatAnswer(satisfied=True))
    turns = browsing.detail(database, olga, chat.item_id).children
    assert redact(database, olga, turns[1], "prompt", confirm="Redact ") == 1
    assert SECRET in browsing.detail(database, olga, turns[0]).thread[0].content  # a record of its own
    assert redact(database, olga, turns[0], "prompt", confirm="redact") == 1
    for item in turns:
        found = browsing.detail(database, olga, item)
        assert found.thread[0].content == "[redacted]" and found.row.responses[0] != "[redacted]"
        redact(database, olga, item, "answer", found.answers[0].annotation_id, "redact")
        assert browsing.detail(database, olga, item).answers[0].answer == PairAnswer(
            preference=found.answers[0].answer.preference
        )  # type: ignore[union-attr]
    redact(database, olga, chat.item_id, "prompt", confirm="redact")
    for row in find(database, olga, Query(text=SECRET, limit=500)).items:
        for slot, said in enumerate(row.responses):
            if SECRET in said:
                redact(database, olga, row.item_id, "response", slot, "redact")
    assert SECRET not in everything(database)
    assert store.comparisons("main") == [] and not any(found.wrong for found in examine(database))


CUT_OFF = """
import sys
from tutelage.feedback.items.redaction import redact
from tutelage.feedback.projects.projects import local_member
from tutelage.store.database import Database
database = Database(sys.argv[1])
who = local_member(database, "main")
print("go", flush=True)
redact(database, who, int(sys.argv[2]), "response", int(sys.argv[3]), "redact")
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.2])
def test_a_redaction_that_is_killed_is_done_or_not_done(
    address: str, store: Store, database: Database, delay: float
) -> None:
    olga = make_secret(store, database)
    steps = find(database, olga, Query(text="prompt", type="step")).items
    step = next(row.item_id for row in steps if SECRET in row.responses[0])
    marks = tuple(StepMark(step=n, label=1) for n in range(3))
    hand_in(database, olga, take_item(database, olga, step), StepAnswer(marks=marks))
    words = everything(database).count(SECRET)
    process = subprocess.Popen(
        [sys.executable, "-c", CUT_OFF, address, str(step), "0"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"go\n"
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    closed = browsing.detail(database, olga, step).row.closed
    assert closed or everything(database).count(SECRET) == words
    with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
        connection.execute(text("UPDATE annotation SET reason = 'x'"))
    redact(database, olga, step, "response", 0, "redact")  # again finishes it
    assert SECRET not in browsing.detail(database, olga, step).row.responses[0]
    assert not any(found.wrong for found in examine(database))
