"""Raw rows: every answer with its revisions, and all that is needed to store it again somewhere else."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.exports.current import EMPTIED, RowDict, Source, aliases
from tutelage.store.comparing import read_items
from tutelage.store.origins import identity
from tutelage.store.schema import (
    ITEM_TYPES,
    Annotation,
    Annotator,
    GenerationRun,
    Item,
    ItemResponse,
    ModelRef,
    PromptRow,
    ResponseRow,
    digest,
)
from tutelage.store.schema_feedback import (
    Assignment,
    GuidelineVersion,
    SchemaVersion,
    SoftVote,
    Withdrawal,
)
from tutelage.store.sql import chunks

# How the client keys of imported answers begin; what follows is the key in the file.  The first is for one project, so
# that others may hold the same file; the second was given before.
IMPORTED_INTO = "raw:{project_id}/"
IMPORTED = "raw/"
_IMPORTED = re.compile(r"raw(:\d+)?/")
AT_ONCE = 500  # answers read in one go


def raw(source: Source) -> Iterator[RowDict]:
    """The versions of questions and guidelines, then one row per answer, oldest first.

    Keys and (unless the specification wants names) annotators are pseudonyms.
    """
    yield from _versions(source)
    alias, keys, splits = aliases(source), _keys(source), _splits(source)
    answers = list(splits)
    for start in range(0, len(answers), AT_ONCE):
        yield from _answers(source, answers[start : start + AT_ONCE], alias, keys, splits)


def public_key(client_key: str) -> str:
    """A client key without the user in it; an imported answer keeps the key that it came with."""
    imported = _IMPORTED.match(client_key)
    return client_key[imported.end() :] if imported else digest("key", client_key)


def _splits(source: Source) -> dict[int, str]:
    """The answers to write, oldest first, with their splits: what arose in a chat about a held-out prompt stays held out.

    Items of which a rewrite was redacted go as a whole: its revisions hang together.
    """
    emptied = select(Annotation.item_id).where(Annotation.id.in_(EMPTIED))
    redacted = set(source.connection.scalars(emptied))
    items = read_items(source.connection, source.project_id, *ITEM_TYPES)
    by_id = {item.item_id: item for item in items}
    query = select(Annotation.id, Annotation.item_id).join(Item, Item.id == Annotation.item_id)
    query = query.where(Item.project_id == source.project_id).order_by(Annotation.id)
    found = ((row.id, by_id[row.item_id]) for row in source.connection.execute(query))
    rows = (
        (item.item_id, item.split, item.redacted or item.item_id in redacted, (answer, item.split))
        for answer, item in found
    )
    return dict(source.wanted(rows))


def _versions(source: Source) -> Iterator[RowDict]:
    questions = select(SchemaVersion.n, SchemaVersion.content).where(
        SchemaVersion.project_id == source.project_id
    )
    for row in source.connection.execute(questions.order_by(SchemaVersion.n)):
        yield {"kind": "questions", "n": row.n, "content": row.content}
    guidelines = select(GuidelineVersion.n, GuidelineVersion.markdown).where(
        GuidelineVersion.project_id == source.project_id
    )
    for row in source.connection.execute(guidelines.order_by(GuidelineVersion.n)):
        yield {"kind": "guidelines", "n": row.n, "markdown": row.markdown}


def _keys(source: Source) -> dict[int, str]:
    query = select(Annotation.id, Annotation.client_key).join(Item, Item.id == Annotation.item_id)
    rows = source.connection.execute(query.where(Item.project_id == source.project_id))
    return {row.id: public_key(row.client_key) for row in rows}


def _answers(
    source: Source, ids: Sequence[int], alias: dict[str, str], keys: dict[int, str], splits: dict[int, str]
) -> Iterator[RowDict]:
    connection = source.connection
    store = identity(connection)
    rows = connection.execute(
        select(
            Annotation.id,
            Annotation.item_id,
            Annotation.role,
            Annotation.first_shown,
            Annotation.submitted_at,
            Annotation.active_ms,
            Annotation.supersedes_id,
            Annotator.name,
            Annotator.kind,
            Item.type,
            Item.digest,
            Item.overlap,
            PromptRow.content,
            PromptRow.task,
            PromptRow.reference,
            Assignment.presented_order,
            SchemaVersion.n.label("questions"),
            GuidelineVersion.n.label("guidelines"),
            SoftVote.share,
            SoftVote.margin,
            Withdrawal.created_at.label("withdrawn_at"),
        )
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .join(Item, Item.id == Annotation.item_id)
        .join(PromptRow, PromptRow.id == Item.prompt_id)
        .outerjoin(SoftVote, SoftVote.annotation_id == Annotation.id)
        .outerjoin(Withdrawal, Withdrawal.annotation_id == Annotation.id)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(SchemaVersion, SchemaVersion.id == Assignment.schema_version_id)
        .outerjoin(GuidelineVersion, GuidelineVersion.id == Assignment.guideline_version_id)
        .where(Annotation.id.in_(ids))
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(connection, ids)
    responses = _responses(source, sorted({row.item_id for row in rows}))
    for row in rows:
        order = row.presented_order
        if order is None and row.first_shown is not None:
            order = [row.first_shown, 1 - row.first_shown]
        yield {
            "kind": "answer",
            "store": store,
            "item": row.digest,
            "type": row.type,
            "overlap": row.overlap,
            "prompt": row.content,
            "task": row.task,
            "reference": row.reference,
            "split": splits[row.id],
            "responses": responses[row.item_id],
            "annotator": alias[row.name],
            "annotator_kind": row.kind,
            "role": row.role,
            "answer": stored[row.id].model_dump(mode="json"),
            "share": row.share,
            "margin": row.margin,
            "shown_order": order or [],
            "key": keys[row.id],
            "supersedes": keys.get(row.supersedes_id),
            "withdrawn": row.withdrawn_at is not None,
            "submitted_at": row.submitted_at.isoformat(),
            "active_ms": row.active_ms,
            "questions": row.questions,
            "guidelines": row.guidelines,
        }


def _responses(source: Source, items: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """item -> its responses by slot, with where they come from."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for some in chunks(items):
        rows = source.connection.execute(
            select(
                ItemResponse.item_id,
                ResponseRow.text,
                ResponseRow.sample_index,
                ResponseRow.finish_reason.label("finish"),
                ResponseRow.n_tokens,
                ResponseRow.logprob,
                ModelRef.name.label("model"),
                ModelRef.sha256.label("model_sha256"),
                GenerationRun.engine,
                GenerationRun.params,
            )
            .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
            .join(GenerationRun, GenerationRun.id == ResponseRow.generation_run_id)
            .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
            .where(ItemResponse.item_id.in_(some))
            .order_by(ItemResponse.item_id, ItemResponse.slot)
        )
        for row in rows.mappings():
            columns = dict(row)
            found[columns.pop("item_id")].append(columns)
    return found
