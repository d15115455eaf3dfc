"""Raw rows: every answer with its revisions, and all that is needed to store it again somewhere else."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import bindparam, select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.slots import order_of
from tutelage.feedback.exports.current import EMPTIED, RowDict, Source, aliases
from tutelage.feedback.exports.files import COLUMNS
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
    VoteHelp,
    Withdrawal,
)
from tutelage.store.sql import CHUNK, chunks
from tutelage.store.voting import HELP, help_of

# How the client keys of imported answers begin; what follows is the key in the file.  The first is for one project, so
# that others may hold the same file; the second was given before.
IMPORTED_INTO = "raw:{project_id}/"
IMPORTED = "raw/"
_IMPORTED = re.compile(r"raw(:\d+)?/")


def raw(source: Source) -> Iterator[RowDict]:
    """The versions of questions and guidelines, then one row per answer, oldest first.

    Keys and (unless the specification wants names) annotators are pseudonyms.
    """
    yield from _versions(source)
    alias, redacted = aliases(source), _emptied_items(source)
    last = 0
    while some := source.connection.execute(_NEXT, {"last": last, "project": source.project_id}).all():
        last = some[-1].id
        own = [row for row in some if row.mine]
        splits = _splits(source, own, redacted)
        yield from _answers(source, list(splits), alias, _keys(source, own), splits)


def _keys(source: Source, answers: Sequence[Any]) -> dict[int, str]:
    """The public keys of some answers, and of what they supersede."""
    keys = {row.id: public_key(row.client_key) for row in answers}
    earlier = {row.supersedes_id for row in answers if row.supersedes_id is not None} - keys.keys()
    query = select(Annotation.id, Annotation.client_key)
    for some in chunks(sorted(earlier)):
        rows = source.connection.execute(query.where(Annotation.id.in_(some)))
        keys |= {key: public_key(client_key) for key, client_key in rows}
    return keys


def public_key(client_key: str) -> str:
    """A client key without the user in it; an imported answer keeps the key that it came with."""
    imported = _IMPORTED.match(client_key)
    return client_key[imported.end() :] if imported else digest("key", client_key)


def _emptied_items(source: Source) -> set[int]:
    """Items of which a rewrite was redacted: they go as a whole, since its revisions hang together."""
    emptied = select(Annotation.item_id).where(Annotation.id.in_(EMPTIED))
    return set(source.connection.scalars(emptied))


def _splits(source: Source, answers: Sequence[Any], redacted: set[int]) -> dict[int, str]:
    """Those of some answers that are written, oldest first, with their splits: what arose in a chat about a held-out prompt
    stays held out."""
    ids = {row.item_id for row in answers}
    items = {
        one.item_id: one for one in read_items(source.connection, source.project_id, *ITEM_TYPES, only=ids)
    }
    found = ((row.id, items[row.item_id]) for row in answers)
    rows = (
        (item.item_id, item.split, item.redacted or item.item_id in redacted, (answer, item.split))
        for answer, item in found
    )
    return dict(source.wanted(rows))


def _versions(source: Source) -> Iterator[RowDict]:
    contents = (SchemaVersion.content, GuidelineVersion.markdown)
    for kind, content in zip(("questions", "guidelines"), contents, strict=True):
        table = content.class_
        query = select(table.n, content).where(table.project_id == source.project_id).order_by(table.n)
        for row in source.connection.execute(query).mappings():
            yield {"kind": kind, **row}


def _answers(
    source: Source, ids: Sequence[int], alias: dict[str, str], keys: dict[int, str], splits: dict[int, str]
) -> Iterator[RowDict]:
    connection = source.connection
    as_they_are = (
        Item.digest.label("item"),
        Item.type,
        Item.overlap,
        PromptRow.content.label("prompt"),
        PromptRow.task,
        PromptRow.reference,
        Annotator.kind.label("annotator_kind"),
        Annotation.role,
        SoftVote.share,
        SoftVote.margin,
        Annotation.active_ms,
        SchemaVersion.n.label("questions"),
        GuidelineVersion.n.label("guidelines"),
    )
    to_say = (
        Annotation.id,
        Annotation.item_id,
        Annotator.name,
        Annotation.supersedes_id,
        Annotation.submitted_at,
    )
    seen = (Annotation.first_shown, Assignment.presented_order, Withdrawal.created_at.label("withdrawn_at"))
    rows = connection.execute(
        select(*as_they_are, *to_say, *seen, *HELP)
        .select_from(Annotation)
        .join(Item)
        .join(PromptRow)
        .outerjoin(SoftVote)
        .outerjoin(VoteHelp, VoteHelp.annotation_id == Annotation.id)
        .outerjoin(Withdrawal)
        .join(Annotator, Annotator.id == Annotation.annotator_id)  # an item has an owner, too
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(SchemaVersion)
        .outerjoin(GuidelineVersion)
        .where(Annotation.id.in_(ids))
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(connection, ids)
    responses = _responses(source, sorted({row.item_id for row in rows}))
    fixed = {"kind": "answer", "store": identity(connection)}
    for row in rows:
        told = help_of(row)
        said = {
            **fixed,
            **row._mapping,
            "split": splits[row.id],
            "responses": responses[row.item_id],
            "annotator": alias[row.name],
            "answer": stored[row.id].model_dump(mode="json"),
            "shown_order": order_of(row.presented_order, row.first_shown),
            "key": keys[row.id],
            "supersedes": keys.get(row.supersedes_id),
            "withdrawn": row.withdrawn_at is not None,
            "submitted_at": row.submitted_at.isoformat(),
            **({} if told is None else {"help": asdict(told)}),
        }
        yield {name: said[name] for name in COLUMNS["raw"] if name in said}


def _responses(source: Source, items: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """item -> its responses by slot, with where they come from."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    query = (
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
        .select_from(ItemResponse)
        .join(ResponseRow)
        .join(GenerationRun)
        .join(ModelRef)
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
    for some in chunks(items):
        for row in source.connection.execute(query.where(ItemResponse.item_id.in_(some))).mappings():
            said = dict(row)
            found[said.pop("item_id")].append(said)
    return found


# The next answers of all projects, so that no database is tempted to sort those of one again and again.
_SOME = (
    select(Annotation.id, Annotation.item_id, Annotation.client_key, Annotation.supersedes_id)
    .where(Annotation.id > bindparam("last"))
    .order_by(Annotation.id)
    .limit(CHUNK)
    .subquery()
)
_NEXT = (
    select(_SOME, (Item.project_id == bindparam("project")).label("mine"))
    .select_from(_SOME)
    .join(Item, Item.id == _SOME.c.item_id)
    .order_by(_SOME.c.id)
)
