"""Suggestions from files: kept in slots, checked like an answer, once."""

from __future__ import annotations

import io
import json
from typing import Any

from sqlalchemy import select

from tests.feedback.kit import start
from tutelage.feedback.asking.payloads import Schema
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import local_member
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema_feedback import Suggestion


def take(database: Database, who: Member, *rows: dict[str, Any], kind: str = "suggestions") -> Imported:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return importing.import_stream(database, who, kind, io.BytesIO(content), "rows.jsonl")  # type: ignore[arg-type]


def test_suggestions_are_kept_in_slots(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    pair, *others = store.pairs("main")
    prompt = pair.prompt.content_json()
    turned = {
        "prompt": prompt, "task": pair.prompt.task, "reference": pair.prompt.reference,
        "responses": [pair.texts[1], pair.texts[0]],
        "answer": {"type": "pair", "preference": -2}, "source": "judge", "score": 0.9,
    }  # fmt: skip
    by_item = {"item": others[0].digest, "answer": {"preference": 1}, "source": "judge"}
    done = take(database, olga, turned, by_item, kind="auto")
    assert (done.new, done.bad, done.unused) == (2, [], {})
    again = take(database, olga, turned, by_item)
    assert (again.new, again.there) == (0, 2)
    with database.read() as connection:
        found = connection.execute(
            select(Suggestion.item_id, Suggestion.answer, Suggestion.source, Suggestion.score).order_by(
                Suggestion.item_id
            )
        ).all()
    by_id = {row.item_id: row for row in found}
    assert by_id[pair.item_id].answer["preference"] == 2 and by_id[pair.item_id].score == 0.9
    assert by_id[others[0].item_id].answer["preference"] == 1

    bad = take(
        database, olga,
        turned | {"answer": {"preference": -3}},
        by_item | {"item": "0" * 16},
        by_item | {"answer": {"type": "rank", "ranks": [1, 2]}, "source": "x"},
        by_item | {"answer": {"preference": 9}, "source": "x"},
        by_item | {"score": 1e99},
        turned | {"responses": ["never", "seen"]},
        {"answer": {"preference": 1}, "source": "x"},
    ).bad  # fmt: skip
    for entry, part in zip(
        bad,
        ("suggested something else here already", "no item 0000", "wants an answer of type 'pair'", "less than or equal to 3",
         "score", "no item of the project is about", "names its item, or the prompt"),
        strict=True,
    ):  # fmt: skip
        assert part in entry.why and "reload" not in entry.why


def test_ratings_and_required_reasons(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, schema=Schema(type="rate", reason="required", scale=5))
    building.build(database, olga, "rate", size=2, per_prompt=1)
    (row,) = browsing.find(database, olga, browsing.Query(type="rate")).items
    item = browsing.detail(database, olga, row.item_id)
    names = ("overall", "accuracy", "coverage", "coherence")
    said = {"answer": {"ratings": dict.fromkeys(names, (1, 5))}, "source": "rm"}
    digest = next(
        digest for digest in _digests(database) if digest not in {pair.digest for pair in store.pairs("main")}
    )
    assert take(database, olga, said | {"item": digest}).new == 1 and item.row.type == "rate"
    beyond = {"answer": {"ratings": dict.fromkeys(names, (1, 6))}, "source": "b", "item": digest}
    assert "beyond the scale, which ends at 5" in take(database, olga, beyond).bad[0].why


def _digests(database: Database) -> list[str]:
    from tutelage.store.schema import Item

    with database.read() as connection:
        return list(connection.scalars(select(Item.digest)))


def test_what_is_missing_is_said(database: Database) -> None:
    who = local_member(database, "empty", create=True)
    done = take(database, who, {"item": "0" * 16, "answer": {"preference": 1}, "source": "x"})
    assert done.new == 0 and "import responses, then build items" in done.needs
    scores = take(database, who, {"prompt": "p", "response": "r", "score": 1}, kind="scores")
    assert scores.new == 0 and "import responses first" in scores.needs
