"""Whether everything in a store fits together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.payloads import Schema
from tutelage.feedback.items.building import SIZES
from tutelage.feedback.projects.projects import guideline_sha, schema_sha
from tutelage.records import Prompt
from tutelage.store import counting, sqlite_file
from tutelage.store.current import IS_CURRENT
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, ItemResponse, PromptRow, ResponseRow, digest
from tutelage.store.schema_feedback import (
    APPEND_ONLY,
    Account,
    Assignment,
    GuidelineVersion,
    RankEntry,
    Rewrite,
    SchemaVersion,
)


@dataclass(frozen=True)
class Finding:
    """What one check found: how many things are wrong, and the first of them."""

    check: str
    wrong: int
    example: str = ""


def examine(database: Database) -> list[Finding]:
    """Run every check, in one state of the database."""
    with database.read() as connection:
        checks = SQLITE_CHECKS | CHECKS if database.path else CHECKS
        findings = [_finding(name, check(connection)) for name, check in checks.items()]
    if database.path:
        findings.append(_finding("only its owner and group can read it", _readers(database.path)))
    return findings


def recount_all(database: Database) -> int:
    """Bring what every item knows of its answers up to date; returns how many were wrong."""
    with database.write() as connection:
        return counting.recount_all(connection)


# checks: each yields what is wrong, one sentence each -------------------------------------------------------------


def _finding(name: str, wrong: Iterator[str]) -> Finding:
    found = list(wrong)
    return Finding(name, len(found), found[0] if found else "")


def _integrity(connection: Connection) -> Iterator[str]:
    yield from (row[0] for row in connection.execute(text("PRAGMA integrity_check")) if row[0] != "ok")


def _references(connection: Connection) -> Iterator[str]:
    for row in connection.execute(text("PRAGMA foreign_key_check")):
        yield f"row {row[1]} of {row[0]} points at nothing in {row[2]}"


def _triggers(connection: Connection) -> Iterator[str]:
    there = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")))
    for table in APPEND_ONLY:
        for event in ("update", "delete"):
            if f"{table}_no_{event}" not in there:
                yield f"the trigger against {event} on {table} is gone"


def _each(connection: Connection, query: Any, sentence: str) -> Iterator[str]:
    """A sentence for each row, with its columns in it."""
    yield from (sentence.format(**row) for row in connection.execute(query).mappings())


def _counts(connection: Connection) -> Iterator[str]:
    answers, spread = counting.answers_of(Item.id), counting.SPREAD
    wrong = select(Item.id, Item.n_done, answers.label("n")).where(Item.n_done != answers)
    yield from _each(connection, wrong, "item {id} is counted as having {n_done} answers but has {n}")
    apart = select(Item.id, Item.spread, spread.label("n")).where(Item.spread != spread)
    yield from _each(
        connection, apart, "the answers to item {id} are said to lie {spread} apart, but lie {n}"
    )


def _single_answers(connection: Connection) -> Iterator[str]:
    query = (
        select(Annotation.item_id, Annotation.annotator_id)
        .where(IS_CURRENT, Annotation.role != "adjudication")
        .group_by(Annotation.item_id, Annotation.annotator_id)
        .having(func.count() > 1)
    )
    yield from _each(connection, query, "annotator {annotator_id} has two current answers to item {item_id}")


def _revisions(connection: Connection) -> Iterator[str]:
    earlier = aliased(Annotation)
    strange = (
        (Annotation.item_id != earlier.item_id)
        | (Annotation.role != earlier.role)
        | ((Annotation.annotator_id != earlier.annotator_id) & (Annotation.role != "adjudication"))
        | (Annotation.id <= earlier.id)
    )
    query = select(Annotation.id, earlier.id.label("before"))
    query = query.join(earlier, earlier.id == Annotation.supersedes_id).where(strange)
    yield from _each(connection, query, "answer {id} revises answer {before}, which is not its predecessor")


def _slots(connection: Connection) -> Iterator[str]:
    highest, n = func.max(ItemResponse.slot), func.count()
    query = select(ItemResponse.item_id).group_by(ItemResponse.item_id).having(highest != n - 1)
    yield from (f"the slots of item {item} have gaps" for item in connection.scalars(query))
    sizes = (
        select(Item.id, Item.type, func.count(ItemResponse.slot).label("n"))
        .outerjoin(ItemResponse)
        .group_by(Item.id, Item.type)
    )
    for row in connection.execute(sizes):
        low, high = SIZES[row.type]
        if not low <= row.n <= high:
            yield f"item {row.id} of type {row.type} has {row.n} responses"


def _shapes(connection: Connection) -> Iterator[str]:
    """Every answer has what its type asks for."""
    answers = select(Annotation.id).join(Item)
    without = (Item.type == "pair") != Annotation.preference.is_not(None)
    said = "answer {id} has a preference without a pair, or the other way round"
    yield from _each(connection, answers.where(without), said)
    slots = select(func.count()).where(ItemResponse.item_id == Item.id).correlate(Item).scalar_subquery()
    entries = select(func.count()).where(RankEntry.annotation_id == Annotation.id).scalar_subquery()
    short = answers.where(Item.type == "rank", entries != slots)
    yield from _each(connection, short, "answer {id} does not rank every response")
    texts = select(Rewrite.annotation_id).where(Rewrite.annotation_id == Annotation.id)
    blank = answers.where(Item.type == "rewrite", ~texts.exists())
    yield from _each(connection, blank, "answer {id} has no text")


def _orders(connection: Connection) -> Iterator[str]:
    """What an assignment says was shown fits the item and the answer."""
    slots = select(ItemResponse.item_id, func.count().label("n")).group_by(ItemResponse.item_id).subquery()
    query = select(Assignment.id, Assignment.presented_order, func.coalesce(slots.c.n, 0).label("n"))
    for row in connection.execute(query.outerjoin(slots, slots.c.item_id == Assignment.item_id)):
        if sorted(row.presented_order) != list(range(row.n)):
            yield f"assignment {row.id} shows {row.presented_order} of {row.n} responses"
    shown = select(Annotation.id, Annotation.first_shown, Assignment.presented_order).join(Assignment)
    for row in connection.execute(shown.where(Annotation.first_shown.is_not(None))):
        if row.presented_order[0] != row.first_shown:
            yield f"answer {row.id} says slot {row.first_shown} was first, its assignment {row.presented_order[0]}"


def _assignments(connection: Connection) -> Iterator[str]:
    own = (Annotation.item_id == Assignment.item_id) & (Annotation.annotator_id == Assignment.annotator_id)
    strangers = select(Annotation.id).join(Assignment).where(~own)
    said = "answer {id} belongs to an assignment of another item or annotator"
    yield from _each(connection, strangers, said)
    answered = select(Annotation.id).where(Annotation.assignment_id == Assignment.id).exists()
    done = select(Assignment.id).where(Assignment.status == "done", ~answered)
    yield from _each(connection, done, "assignment {id} is done but has no answer")


def _contents(connection: Connection) -> Iterator[str]:
    """Digests are those of the contents."""
    responses = select(ResponseRow.id, ResponseRow.text, ResponseRow.digest)
    responses = responses.where(ResponseRow.redacted_at.is_(None))
    for row in connection.execute(responses):
        if digest(row.text) != row.digest:
            yield f"the text of response {row.id} is not what was stored"
    prompts = select(PromptRow.id, PromptRow.content, PromptRow.reference, PromptRow.digest)
    prompts = prompts.where(PromptRow.redacted_at.is_(None))
    for row in connection.execute(prompts):
        if Prompt.from_json(row.content, "", row.reference).id != row.digest:
            yield f"prompt {row.id} is not what was stored"
    for row in connection.execute(select(SchemaVersion.id, SchemaVersion.content, SchemaVersion.sha256)):
        if schema_sha(Schema.model_validate(row.content)) != row.sha256:
            yield f"version {row.id} of the questions is not what was stored: {json.dumps(row.content)[:80]}"
    written = select(GuidelineVersion.id, GuidelineVersion.markdown, GuidelineVersion.sha256)
    for row in connection.execute(written):
        if guideline_sha(row.markdown) != row.sha256:
            yield f"version {row.id} of the guidelines is not what was stored"


def _readers(path: Path) -> Iterator[str]:
    for file in sqlite_file.open_to_all(path):
        yield f"anybody on this machine can read {file}: chmod o= {file}"


def _owners(connection: Connection) -> Iterator[str]:
    accounts = connection.scalar(select(func.count(Account.id)))
    active = connection.scalar(select(Account.id).where(Account.administrator, Account.active).limit(1))
    if accounts and active is None:
        yield "there are users, but no active administrator"


SQLITE_CHECKS: dict[str, Callable[[Connection], Iterator[str]]] = {
    "the file is sound": _integrity,
    "every reference leads somewhere": _references,
    "answers are protected against change": _triggers,
}
CHECKS: dict[str, Callable[[Connection], Iterator[str]]] = {
    "counts of answers are right": _counts,
    "nobody has two answers to one item": _single_answers,
    "revisions form lines": _revisions,
    "items have the responses that their type wants": _slots,
    "answers have what their type asks for": _shapes,
    "what was shown fits what was answered": _orders,
    "assignments and answers belong together": _assignments,
    "contents are what was stored": _contents,
    "somebody is in charge": _owners,
}
