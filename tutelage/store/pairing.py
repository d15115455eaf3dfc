"""Items as rows: making them of chosen responses, and reading pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, update
from sqlalchemy.orm import aliased

from tutelage.records import Prompt
from tutelage.store.choosing import Candidate, Group, choose_groups, in_slots_order, item_digest
from tutelage.store.current import IS_FIRST
from tutelage.store.rows import LIVE as LIVE
from tutelage.store.rows import Pair, finish_of
from tutelage.store.schema import (
    Annotation,
    Annotator,
    GenerationRun,
    Item,
    ItemResponse,
    ModelRef,
    PromptRow,
    ResponseRow,
)
from tutelage.store.schema_feedback import ResponseScore
from tutelage.store.sql import chunks, insert_one, insert_rows

LEAST_RANKED = 3  # responses that are more than a pair


def candidates(connection: Connection, project_id: int, source: str = "") -> dict[int, list[Candidate]]:
    """prompt row id -> the responses to it in the order of their making, with their scores by `source`."""
    rows = connection.execute(
        select(
            ResponseRow.prompt_id,
            ResponseRow.id,
            ResponseRow.generation_run_id,
            ModelRef.name,
            ResponseRow.digest,
            ResponseScore.value,
        )
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .join(GenerationRun, GenerationRun.id == ResponseRow.generation_run_id)
        .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
        .outerjoin(
            ResponseScore, (ResponseScore.response_id == ResponseRow.id) & (ResponseScore.source == source)
        )
        .where(*askable(project_id), ResponseRow.redacted_at.is_(None))
        .order_by(ResponseRow.generation_run_id, ResponseRow.prompt_id, ResponseRow.sample_index)
    )
    found: dict[int, list[Candidate]] = defaultdict(list)
    for row in rows:
        found[row.prompt_id].append(Candidate(*row[1:]))
    return found


def askable(project_id: int) -> tuple[ColumnElement[bool], ...]:
    """The prompts that items are made of: none that arose in a chat, none whose text is gone."""
    return (PromptRow.project_id == project_id, PromptRow.split != LIVE, PromptRow.redacted_at.is_(None))


def by_run(some: Sequence[Candidate]) -> list[list[Candidate]]:
    """The responses of one prompt, parted by generation run."""
    runs: dict[int, list[Candidate]] = defaultdict(list)
    for candidate in some:
        runs[candidate.run_id].append(candidate)
    return list(runs.values())


def insert_pairs(connection: Connection, project_id: int, per_prompt: int, overlap: int) -> int:
    """Insert the chosen pairs that are not there; see `Store.build_pairs`."""
    prompts = connection.execute(select(PromptRow.id, PromptRow.digest).where(*askable(project_id)))
    digests = {row.id: row.digest for row in prompts}
    wanted: dict[str, tuple[int, Group]] = {}
    for prompt_id, some in candidates(connection, project_id).items():
        for run in by_run(some):
            for group in choose_groups(run, "random", 2, per_prompt, digests[prompt_id], most=None):
                key = item_digest("pair", digests[prompt_id], group)
                wanted.setdefault(key, (prompt_id, in_slots_order(group)))
    new = insert_items(connection, project_id, "pair", overlap, wanted)
    plain = (Item.project_id == project_id, Item.type == "pair", Item.owner_id.is_(None))
    connection.execute(update(Item).where(*plain, Item.overlap < overlap).values(overlap=overlap))
    return new


def insert_rankings(connection: Connection, project_id: int, size: int) -> int:
    """Insert the chosen groups to be ranked that are not there; see `Store.build_rankings`."""
    prompts = connection.execute(select(PromptRow.id, PromptRow.digest).where(*askable(project_id)))
    digests = {row.id: row.digest for row in prompts}
    wanted: dict[str, tuple[int, Group]] = {}
    for prompt_id, some in candidates(connection, project_id).items():
        for run in by_run(some):
            count = min(size, len({one.digest for one in run}))
            if count < LEAST_RANKED:
                continue
            for group in choose_groups(run, "random", count, 1, digests[prompt_id]):
                key = item_digest("rank", digests[prompt_id], group)
                wanted.setdefault(key, (prompt_id, in_slots_order(group)))
    return insert_items(connection, project_id, "rank", 1, wanted)


def insert_items(
    connection: Connection,
    project_id: int,
    type: str,
    overlap: int,
    wanted: Mapping[str, tuple[int, Group]],
    priority: Callable[[Group], float] = lambda group: 0.0,
) -> int:
    """Insert those items (digest -> prompt row id, responses by slot) that are not there; returns how many."""
    in_project = Item.project_id == project_id
    there = set(connection.scalars(select(Item.digest).where(in_project)))
    new = {key: value for key, value in wanted.items() if key not in there}
    common: dict[str, Any] = {"project_id": project_id, "type": type, "overlap": overlap}
    items = [
        common | {"prompt_id": prompt_id, "digest": key, "priority": priority(group)}
        for key, (prompt_id, group) in new.items()
    ]
    insert_rows(connection, Item, items)
    ids = {row.digest: row.id for row in connection.execute(select(Item.id, Item.digest).where(in_project))}
    slots = [
        {"item_id": ids[key], "slot": slot, "response_id": candidate.response_id}
        for key, (_, group) in new.items()
        for slot, candidate in enumerate(group)
    ]
    insert_rows(connection, ItemResponse, slots)
    return len(new)


def insert_item(connection: Connection, responses: Sequence[int], **item: Any) -> int:
    """Insert one item about these responses (ids), in this order of slots; returns its id."""
    item_id = insert_one(connection, Item, **item)
    slots = [{"item_id": item_id, "slot": slot, "response_id": one} for slot, one in enumerate(responses)]
    insert_rows(connection, ItemResponse, slots)
    return item_id


def pair_query(project_id: int) -> Select[Any]:
    """The pairs of a project whose texts are there, ordered by content; `read_pairs` reads them."""
    slots = [aliased(ItemResponse), aliased(ItemResponse)]
    responses = [aliased(ResponseRow), aliased(ResponseRow)]
    query = select(
        Item.id,
        Item.digest,
        PromptRow.content,
        PromptRow.task,
        PromptRow.reference,
        responses[0].text.label("first"),
        responses[1].text.label("second"),
        responses[0].finish_reason.label("first_finish"),
        responses[1].finish_reason.label("second_finish"),
    ).join(PromptRow, PromptRow.id == Item.prompt_id)
    for number, (slot, response) in enumerate(zip(slots, responses, strict=True)):
        query = query.join(slot, (slot.item_id == Item.id) & (slot.slot == number))
        query = query.join(response, response.id == slot.response_id).where(response.redacted_at.is_(None))
    query = query.where(Item.project_id == project_id, Item.type == "pair", PromptRow.redacted_at.is_(None))
    return query.order_by(Item.digest)


def read_pairs(connection: Connection, query: Select[Any]) -> list[Pair]:
    """Run a `pair_query` and add who has voted."""
    rows = connection.execute(query).all()
    voters: dict[int, list[str]] = defaultdict(list)
    for some in chunks([row.id for row in rows]):
        voted = (
            select(Annotation.item_id, Annotator.name)
            .join(Annotator, Annotator.id == Annotation.annotator_id)
            .where(
                Annotation.item_id.in_(some),
                Annotation.role == "answer",
                IS_FIRST,
            )
        )
        for item_id, name in connection.execute(voted):
            voters[item_id].append(name)
    return [
        Pair(
            row.id,
            row.digest,
            Prompt.from_json(row.content, row.task, row.reference),
            (row.first, row.second),
            tuple(sorted(voters[row.id])),
            (finish_of(row.first_finish), finish_of(row.second_finish)),
        )
        for row in rows
    ]
