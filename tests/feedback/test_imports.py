"""Imports: good lines in, bad lines listed with their numbers, nothing twice."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.feedback.kit import join, start
from tutelage.feedback.errors import Refused
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported, Kind
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import local_member
from tutelage.feedback.work import queue
from tutelage.store import Store
from tutelage.store.database import Database


@pytest.fixture
def who(database: Database) -> Member:
    return local_member(database, "main", create=True)


def lines(*rows: object) -> list[str]:
    return [row if isinstance(row, str) else json.dumps(row) for row in rows]


def take(database: Database, who: Member, kind: Kind, rows: Iterable[str | bytes]) -> Imported:
    """Import lines of JSON."""
    encoded = [row.encode() if isinstance(row, str) else row for row in rows]
    return importing.import_stream(database, who, kind, io.BytesIO(b"\n".join(encoded)), "rows.jsonl")


def test_good_lines_are_in_and_bad_ones_are_listed(store: Store, database: Database, who: Member) -> None:
    good = [{"prompt": f"p{n}", "response": f"r{m}", "model": "m"} for n in range(3) for m in range(2)]
    mixed = lines(
        good[0],
        "",
        "{not json",
        good[1],
        {"prompt": "p0"},
        "[1]",
        {"prompt": 5, "response": "x"},
        {"prompt": "p", "response": "x", "colour": "red"},
        {"prompt": [{"role": "assistant", "content": "hm"}], "response": "x"},
        '{"prompt": "p", "response": "x", "logprob": Infinity}',
        {"prompt": "p0", "response": "other", "model": "m", "sample_index": 0},
        *good[2:],
    )
    done = take(database, who, "responses", mixed)
    assert (done.new, done.there, done.unused) == (7, 0, {"colour": 1})
    assert [entry.line for entry in done.bad] == [3, 5, 6, 7, 9, 10, 11]
    why = {entry.line: entry.why for entry in done.bad}
    for line, part in (
        (3, "malformed JSON"),
        (5, "which hold prompts"),
        (6, "a row that is a list, not an object"),
        (7, "whose prompt must be text or a list of messages"),
        (9, "a row whose prompt ends with an assistant's turn"),
        (10, "Infinity is no number"),
        (11, "already has another response 0"),
    ):
        assert part in why[line] and "\n" not in why[line]
    again = take(database, who, "responses", mixed)
    assert (again.new, again.there, len(again.bad)) == (0, 7, 7)
    mended = take(database, who, "responses", lines(*good, {"prompt": "p", "response": "z"}))
    assert (mended.new, mended.there, mended.bad) == (1, 6, [])
    assert store.counts("main").responses == 8


def test_bytes_that_are_no_text(database: Database, who: Member) -> None:
    done = take(
        database, who, "prompts", [b'{"prompt": "\xff"}', '{"prompt": "grüß"}'.encode(), b"x" * 5_000_000]
    )
    assert (done.new, [(entry.line, entry.why[:9]) for entry in done.bad]) == (
        1,
        [(1, "not UTF-8"), (3, "malformed")],
    )


def test_a_batch_boundary_changes_nothing(store: Store, database: Database, who: Member) -> None:
    rows = [{"prompt": f"p{n}"} for n in range(importing.AT_ONCE + 5)]
    done = take(database, who, "prompts", lines(*rows[:10], "{", *rows[10:]))
    assert (done.new, [entry.line for entry in done.bad]) == (len(rows), [11])
    split = take(database, who, "prompts", lines({"prompt": "p1", "split": "test"}))
    assert "already in the project as 'train'" in split.bad[0].why


def test_preference_rows_become_votes(store: Store, database: Database, who: Member) -> None:
    rows = lines(
        {"prompt": "q", "chosen": "good", "rejected": "bad", "extra": "ignored"},
        {"prompt": "q", "chosen": "x", "rejected": "y", "p_chosen": 0.5},
        {"chosen": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}],
         "rejected": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "no"}]},
        {"prompt": "q", "chosen": "same", "rejected": "same"},
    )  # fmt: skip
    done = take(database, who, "preference", rows)
    assert (done.new, [entry.line for entry in done.bad]) == (3, [4])
    assert take(database, who, "preference", rows).there == 3
    found = {(row.prompt.text(), row.chosen, row.p_chosen) for row in store.comparisons("main")}
    assert {("q", "good", 1.0), ("user: hi", "yes", 1.0)} <= found and len(found) == 3
    assert store.comparisons("main", ties="drop")[0].p_chosen == 1.0


def test_scores_choose_what_is_asked_first(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    with pytest.raises(Refused, match="needs scores of the responses"):
        building.build(database, olga, "pair", "uncertainty")
    prompt = store.pairs("main")[0].prompt
    texts = sorted({text for pair in store.pairs("main") for text in pair.texts})
    values = dict(zip(texts, (0.0, 0.1, 5.0, 9.0), strict=True))
    columns = {"prompt": prompt.content_json(), "task": prompt.task, "reference": prompt.reference}
    rows = lines(*({**columns, "response": text, "score": value} for text, value in values.items()))
    done = take(database, olga, "scores", [*rows, *lines({**columns, "response": "?", "score": 1})])
    assert done.new == 4 and "not in the project" in done.bad[0].why
    other = lines({**columns, "response": texts[0], "score": 3.0})
    assert "has another score" in take(database, olga, "scores", other).bad[0].why
    building.set_priority(database, olga, "uncertainty")
    order = []
    while (task := queue.next_task(database, olga)) is not None:
        order.append(abs(values[task.responses[0].text] - values[task.responses[1].text]))
        queue.skip(database, olga, task.assignment_id, "other")
    assert order == sorted(order) and order[0] == pytest.approx(0.1) and len(order) == 6
    assert building.build(database, olga, "rank", "best-worst", size=2).new == 1
    ranked = browsing.find(database, olga, browsing.Query(type="rank")).items
    assert set(ranked[0].responses) == {texts[0], texts[3]}


def test_only_managers_import(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben")
    with pytest.raises(Refused, match="does not include to manage"):
        take(database, ben, "prompts", ['{"prompt": "p"}'])


def test_raw_lines_that_lie(database: Database, who: Member, tmp_path: Path) -> None:
    fine = {
        "kind": "answer", "item": "0123456789abcdef", "type": "pair", "overlap": 1, "prompt": "p", "task": "",
        "reference": None, "split": "train", "annotator": "a", "annotator_kind": "judge", "role": "answer",
        "responses": [{"text": t, "sample_index": n, "finish": "eos", "n_tokens": 1, "logprob": None, "model": "m",
                       "model_sha256": "", "engine": "e", "params": {}} for n, t in enumerate("xy")],
        "answer": {"type": "pair", "preference": -1}, "shown_order": [1, 0], "key": "0000000000000001",
        "supersedes": None, "submitted_at": "2026-01-01T00:00:00+00:00", "active_ms": None, "questions": None,
        "guidelines": None,
    }  # fmt: skip
    bad = [
        {**fine, "key": "0000000000000002"},  # a second answer of the same annotator
        {**fine, "key": "0000000000000003", "supersedes": "nowhere!"},
        {**fine, "key": "0000000000000004", "item": "f" * 16, "shown_order": [0, 2]},
        {**fine, "key": "0000000000000005", "item": "e" * 16, "answer": {"type": "rank", "ranks": [1, 2]}},
        {**fine, "key": "0000000000000006", "item": "d" * 16, "questions": 7},
        {**fine, "key": "0000000000000007", "item": "c" * 16, "annotator_kind": "rule"},
        {**fine, "answer": {"type": "pair", "preference": 2}},  # the same key, another answer
        {
            **fine,
            "key": "0000000000000008",
            "item": "b" * 16,
            "responses": fine["responses"][:1],
            "shown_order": [0],
        },
    ]
    done = take(database, who, "raw", lines(fine, *bad))
    assert (done.new, [entry.line for entry in done.bad]) == (1, list(range(2, 10)))
    for entry, part in zip(
        done.bad,
        ("answered this item here already", "keep the order", "shown_order", "cannot have an answer of type 'rank'",
         "not in the file before", "is there as judge, not as rule", "is there with another answer", "two responses, not 1"),
        strict=True,
    ):  # fmt: skip
        assert part in entry.why
    with Store(database.place) if database.is_sqlite else Store(str(database._reader.url)) as store:
        assert len(store.votes("main")) == 1
