"""Items: building them from stored responses, gold and priority.  Looking through them is in `browsing`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, case, delete, func, select, update

from tutelage.feedback.asking.answer_rows import normal
from tutelage.feedback.asking.checking import check_answer
from tutelage.feedback.asking.payloads import Answer, ItemType
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.conflicts import conflicts
from tutelage.feedback.items.contents import own_item, steps_shown, texts_of
from tutelage.feedback.people.access import Member, note
from tutelage.feedback.projects.projects import current_schema, settings_of
from tutelage.store.choosing import (
    Candidate,
    Group,
    Strategy,
    choose_groups,
    closeness,
    in_slots_order,
    item_digest,
    spread,
)
from tutelage.store.database import Database
from tutelage.store.pairing import askable, by_run, candidates, insert_items
from tutelage.store.schema import Item, ItemResponse, PromptRow, ResponseRow
from tutelage.store.schema_feedback import Gold, ResponseScore
from tutelage.store.sql import chunks, insert_one, lock_project

SIZES: dict[ItemType, tuple[int, int]] = {
    "pair": (2, 2),
    "rank": (2, 9),
    "rate": (1, 9),
    "step": (1, 1),
    "rewrite": (0, 1),
    "chat": (0, 0),
}


@dataclass(frozen=True)
class Built:
    """What a build did: new items, items that were there already, prompts with too few different responses."""

    new: int
    there: int
    short: int


def build(
    database: Database,
    who: Member,
    type: ItemType,
    strategy: Strategy = "random",
    per_prompt: int = 1,
    size: int | None = None,
    across_runs: bool = True,
) -> Built:
    """Make items from the project's responses; repeating it makes none twice.  Needs manage.

    `per_prompt` items per prompt (0 = all there can be), of `size` responses: pair 2, rank 2 to 9 (4 unless said),
    rate 1 to 9 (1), step 1, rewrite 1, or 0 for demonstrations (a prompt, nothing shown), chat 0.  Without
    `across_runs` the responses of an item come from one generation run.

    random: by content hash; all: every group there is; round-robin: models meet equally often; best-worst: the
    extremes by reward score; uncertainty: the closest reward scores, which also come first in the queue.  The last
    two need scores (`tutelage feedback import kind=scores`).  Refused: invalid.
    """
    who.require("manage")
    size = _size(type, size)
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        overlap = 1 if type == "chat" else settings_of(connection, who.project_id).overlap
        prompts = connection.execute(
            select(PromptRow.id, PromptRow.digest).where(*askable(who.project_id)).order_by(PromptRow.digest)
        ).all()
        source = _source(connection, who.project_id)
        found = candidates(connection, who.project_id, source) if size else {}
        scored = any(one.score is not None for some in found.values() for one in some)
        if strategy in ("best-worst", "uncertainty") and not scored:
            raise Refused(
                "invalid",
                f"strategy={strategy} needs scores of the responses: import some, or choose another.",
            )
        wanted, short = _choose(prompts, found, type, strategy, per_prompt, size, across_runs)
        priority = (
            (lambda group: 1 / (1 + spread(group))) if strategy == "uncertainty" else (lambda group: 0.0)
        )
        new = insert_items(connection, who.project_id, type, overlap, wanted, priority)
        note(connection, who.user, "build", type, who.project_id, strategy=strategy, size=size, new=new)
        return Built(new, len(wanted) - new, short)


@dataclass(frozen=True)
class Stock:
    """What items can be made of."""

    prompts: int
    responses: int


def stock(database: Database, who: Member) -> Stock:
    """How many prompts and responses there are to make items of.  Needs manage."""
    who.require("manage")
    there = askable(who.project_id)
    prompts = select(func.count(PromptRow.id)).where(*there)
    responses = select(func.count(ResponseRow.id)).join(PromptRow)
    responses = responses.where(*there, ResponseRow.redacted_at.is_(None))
    with database.read() as connection:
        return Stock(connection.scalar(prompts) or 0, connection.scalar(responses) or 0)


def set_gold(database: Database, who: Member, item_id: int, answer: Answer | None) -> None:
    """Make an item gold with its right answer (positions = canonical slots), or an ordinary one (None).  Needs manage.

    Gold items are mixed into the queue at `gold_rate`, for everybody, whatever their overlap.
    """
    who.require("manage")
    with database.write() as connection:
        item = own_item(connection, who, item_id)
        connection.execute(delete(Gold).where(Gold.item_id == item_id))
        if answer is not None:
            _, schema = current_schema(connection, who.project_id)
            texts = texts_of(connection, item_id)
            steps = steps_shown(item.type, schema, texts[0]) if texts else ()
            check_answer(answer, item.type, schema, texts, len(steps))
            content = normal(answer).model_dump(mode="json")
            insert_one(connection, Gold, item_id=item_id, answer=content, by_id=who.user.account_id)
        note(connection, who.user, "gold", str(item_id), who.project_id, gold=answer is not None)


def set_priority(database: Database, who: Member, by: Literal["none", "uncertainty", "disagreement"]) -> int:
    """Set every item's priority (high comes first) by rule; returns how many changed.  Needs manage.

    uncertainty: the closer the reward scores in an item, the earlier (without scores: last).  disagreement: the more
    the answers so far differ, the earlier.  A rule looks at the project as it is now: repeat it when that changes.
    """
    who.require("manage")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        priorities = select(Item.id, Item.priority).where(Item.project_id == who.project_id)
        now_at = {row.id: row.priority for row in connection.execute(priorities)}
        wanted: Mapping[int, float] = {}
        if by == "uncertainty":
            wanted = _uncertainty(connection, who.project_id)
        elif by == "disagreement":
            wanted = conflicts(connection, who.project_id, full=False)
        new = {item: wanted.get(item, 0.0) for item in now_at}
        changed = sorted(item for item, old in now_at.items() if new[item] != old)
        for some in chunks(changed):
            value = case({item: new[item] for item in some}, value=Item.id)
            connection.execute(update(Item).where(Item.id.in_(some)).values(priority=value))
        note(connection, who.user, "priority", by, who.project_id)
        return len(changed)


def _size(type: ItemType, size: int | None) -> int:
    least, most = SIZES[type]
    if size is None:
        return {"rank": 4, "rewrite": 1}.get(type, least)
    if not least <= size <= most:
        raise Refused("invalid", f"an item of type {type} has {least} to {most} responses, not {size}.")
    return size


def _choose(
    prompts: Iterable[Any],  # rows: id, digest
    found: Mapping[int, list[Candidate]],
    type: ItemType,
    strategy: Strategy,
    per_prompt: int,
    size: int,
    across_runs: bool,
) -> tuple[dict[str, tuple[int, Group]], int]:
    """The items to be there (digest -> prompt row id, responses by slot), and how many prompts make none."""
    met: Counter[tuple[str, str]] = Counter()
    wanted: dict[str, tuple[int, Group]] = {}
    short = 0
    for prompt_id, prompt_digest in prompts:
        groups: list[Group] = [()]
        if size:
            some = found.get(prompt_id, [])
            most = 0 if strategy == "all" else per_prompt
            groups = [
                group
                for run in ([some] if across_runs else by_run(some))
                for group in _groups(run, strategy, size, most, prompt_digest, met)
            ]
        short += not groups
        for group in groups:
            wanted.setdefault(item_digest(type, prompt_digest, group), (prompt_id, in_slots_order(group)))
    return wanted, short


def _groups(*asked: Any) -> list[Group]:
    try:
        return choose_groups(*asked)
    except ValueError as error:
        raise Refused("invalid", str(error)) from error


def _source(connection: Connection, project_id: int) -> str:
    """The source of scores that covers most of the project's responses ('' = there are none)."""
    query = select(ResponseScore.source).join(ResponseRow).join(PromptRow)
    query = query.where(PromptRow.project_id == project_id).group_by(ResponseScore.source)
    query = query.order_by(func.count().desc(), ResponseScore.source)
    return connection.scalar(query.limit(1)) or ""


def _uncertainty(connection: Connection, project_id: int) -> dict[int, float]:
    """item -> closeness of the scores in it, where all its responses (two or more) have one."""
    source = _source(connection, project_id)
    scored = (ResponseScore.response_id == ItemResponse.response_id) & (ResponseScore.source == source)
    query = select(ItemResponse.item_id, ResponseScore.value).select_from(ItemResponse).join(Item)
    rows = connection.execute(query.outerjoin(ResponseScore, scored).where(Item.project_id == project_id))
    scores: dict[int, list[float | None]] = defaultdict(list)
    for item_id, value in rows:
        scores[item_id].append(value)
    return {
        item: closeness([v for v in values if v is not None])
        for item, values in scores.items()
        if len(values) > 1 and None not in values
    }
