"""What the statistics read: the current answers of a project as columns, in canonical slots, without text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, combinations
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, literal, select

from tutelage.store.current import IS_CURRENT
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
from tutelage.store.schema_feedback import Acceptance, Gold, RankEntry, Rating, StepMarkRow, VoteHelp
from tutelage.store.sql import chunks

Column = NDArray[Any]
OVERALL = "overall"  # the criterion that stands for the rest, where there is one


class Columns:
    """Rows of equally long columns, one dataclass field each."""

    def where(self, rows: Column) -> Self:
        """The rows that a mask or a list of numbers names."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Pairs(Columns):
    """Current counted answers to pairs [N], in the order they came."""

    item: Column
    prompt: Column
    annotator: Column  # names
    kind: Column  # human, simulated, judge, rule
    preference: Column  # canonical: negative = slot 0 is better, -3 to 3
    first_shown: Column  # the slot that was shown first
    seconds: Column  # of work; NaN: a program
    at: Column  # datetime64
    gold: Column  # the right preference of a gold item, else NaN
    response: Column  # [N, 2] ids by slot
    length: Column  # [N, 2] characters by slot
    model: Column  # [N, 2] names by slot
    help: Column  # what an assistant was for the voter: none (kept away), honest, adversarial; "": there was none
    argues: Column  # the slot that it argued for where it was seen, else -1

    @property
    def side(self) -> Column:
        """-1 slot 0 is better, 0 a tie, 1 slot 1 is."""
        return np.sign(self.preference)


@dataclass(frozen=True, eq=False)
class Values(Columns):
    """Current counted ranks, ratings, acceptances and marks of steps [N], one value a row."""

    item: Column
    prompt: Column
    annotator: Column
    kind: Column
    question: Column  # rank, rating, acceptable, step
    place: Column  # slot, or number of the step
    criterion: Column  # of a rating, else ""
    value: Column
    response: Column  # id of the response in the slot; -1 for steps
    at: Column


@dataclass(frozen=True, eq=False)
class Sides(Columns):
    """Which of two responses is better [N], whatever way it was asked: at most one row per way, pair and annotator."""

    way: Column  # pair (compared), rank, rate
    pair: Column  # number of the two responses
    prompt: Column
    annotator: Column
    kind: Column
    side: Column  # -1 the response with the smaller id is better, 0 a tie, 1 the other


def read_pairs(connection: Connection, project_id: int, prompts: Sequence[int] | None = None) -> Pairs:
    """All answers to pairs, or those about some prompts."""
    said = (Annotation.preference, Annotation.first_shown, Annotation.active_ms, Gold.answer)
    told = (func.coalesce(VoteHelp.arm, ""), func.coalesce(VoteHelp.argues, -1))
    query = (
        _current(project_id, *said, *told, Annotation.id)
        .outerjoin(Gold)
        .outerjoin(VoteHelp, VoteHelp.annotation_id == Annotation.id)
        .where(Annotation.preference.is_not(None))
        .order_by(Annotation.id)
    )
    rows = _about(connection, query, prompts)
    types = {
        "preference": int,
        "first_shown": int,
        "seconds": float,
        "gold": object,
        "help": str,
        "argues": int,
    }
    found = _columns(rows, **types, answer=int)
    del found["answer"]
    found["seconds"] /= 1000
    found["gold"] = np.array(
        [np.nan if right is None else right["preference"] for right in found["gold"]], float
    )
    response = _responses(connection, project_id, found["item"], 2, prompts)
    length, model = _written(connection, project_id, response, prompts)
    return Pairs(**found, response=response, length=length, model=model)


def read_values(connection: Connection, project_id: int, prompts: Sequence[int] | None = None) -> Values:
    """All ranks, ratings, acceptances and marks, or those about some prompts."""
    tables: tuple[tuple[str, Any, Any, Any, Any], ...] = (
        ("rank", RankEntry, RankEntry.slot, literal(""), RankEntry.rank),
        ("rating", Rating, Rating.slot, Rating.criterion, Rating.value),
        ("acceptable", Acceptance, Acceptance.slot, literal(""), Acceptance.acceptable),
        ("step", StepMarkRow, StepMarkRow.step, literal(""), StepMarkRow.label),
    )
    rows = []
    for question, table, place, criterion, value in tables:
        query = _current(project_id, place, criterion, value, Annotation.id)
        query = query.join(table, table.annotation_id == Annotation.id)
        query = query.order_by(Annotation.id, place, criterion)
        rows += [(*row, question) for row in _about(connection, query, prompts)]
    found = _columns(rows, place=int, criterion=str, value=int, answer=int, question=str)
    del found["answer"]
    place, of_steps = found["place"], found["question"] == "step"
    most = 1 + int(place[~of_steps].max(initial=0))
    slots = _responses(connection, project_id, found["item"], most, prompts)
    response = slots[np.arange(place.size), np.where(of_steps, 0, place)]
    return Values(**found, response=np.where(of_steps, -1, response))


def _about(connection: Connection, query: Select[Any], prompts: Sequence[int] | None) -> Sequence[Any]:
    """The rows of a query on `Item` that ends with the answer's number, in its order; about some prompts, if they are given."""
    if prompts is None:
        return connection.execute(query).all()
    parts = (connection.execute(query.where(Item.prompt_id.in_(some))) for some in chunks(prompts))
    return sorted(chain.from_iterable(parts), key=lambda row: row[-1])


def sides_of(pairs: Pairs, values: Values) -> Sides:
    """Comparisons as they are, and ranks and ratings two responses at a time.

    A response is better by its rank, or by its rating on `overall`, without that by the mean of its ratings.  Where an
    annotator judged two responses twice in the same way (they stand in two items), the first time counts.
    """
    parts: list[tuple[Any, ...]] = [
        ("pair", pairs.prompt, pairs.annotator, pairs.kind, pairs.response, pairs.side)
    ]
    for asked, scored in (("rank", _ranked(values)), ("rate", _rated(values))):
        for row, other in _in_twos(scored):
            a, b = scored.where(row), scored.where(other)
            better = np.sign(b.value - a.value).astype(int)
            both = np.stack([a.response, b.response], axis=1)
            parts.append((asked, a.prompt, a.annotator, a.kind, both, better))
    way, prompt, annotator, kind, response, side = (
        np.concatenate(columns)
        for columns in zip(*((np.full(len(part[1]), part[0]), *part[1:]) for part in parts))
    )
    turned = response[:, 0] > response[:, 1]
    pair = np.unique(np.sort(response, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    found = Sides(way, pair, prompt, annotator, kind, np.where(turned, -side, side))
    who = np.unique(annotator, return_inverse=True)[1]
    ways = np.unique(way, return_inverse=True)[1]
    once = np.unique(np.stack([ways, pair, who], axis=1), axis=0, return_index=True)[1]
    return found.where(np.sort(once))


def _ranked(values: Values) -> Values:
    """Ranks as numbers of which the higher is better."""
    own = values.where(values.question == "rank")
    return replace(own, value=-own.value)


def _rated(values: Values) -> Values:
    """One rating per annotator, item and slot."""
    own = values.where(values.question == "rating")
    if OVERALL in own.criterion:
        own = own.where(own.criterion == OVERALL)
    if not len(own):
        return own
    who = np.unique(own.annotator, return_inverse=True)[1]
    _, first, group = np.unique(
        np.stack([own.item, who, own.place], axis=1), axis=0, return_index=True, return_inverse=True
    )
    group = group.reshape(-1)
    mean = np.bincount(group, weights=own.value) / np.bincount(group)
    return replace(own.where(first), value=mean.round(9))


def _in_twos(scored: Values) -> list[tuple[Column, Column]]:
    """Rows of the same annotator and item, for every two slots."""
    who = np.unique(scored.annotator, return_inverse=True)[1] if len(scored) else scored.item
    key = scored.item * (1 + who.max(initial=0)) + who
    found = []
    for a, b in combinations(range(1 + int(scored.place.max(initial=-1))), 2):
        rows, others = np.flatnonzero(scored.place == a), np.flatnonzero(scored.place == b)
        _, i, j = np.intersect1d(key[rows], key[others], assume_unique=True, return_indices=True)
        found.append((rows[i], others[j]))
    return found


def _current(project_id: int, *said: Any) -> Select[Any]:
    """Answers that count and that nobody revised: whose, to which item and when, and what was `said`."""
    return (
        select(
            Annotation.item_id, Item.prompt_id, Annotator.name, Annotator.kind, Annotation.submitted_at, *said
        )
        .select_from(Annotation)
        .join(Item)
        .join(Annotator, Annotator.id == Annotation.annotator_id)  # an item has an owner, too
        .where(Item.project_id == project_id, Annotation.role == "answer", IS_CURRENT)
    )


def _columns(rows: Sequence[Any], **said: type) -> dict[str, Column]:
    """Rows of `_current` by column; `said` names what comes after the first five, with the types."""
    types = {"item": int, "prompt": int, "annotator": str, "kind": str, "at": object, **said}
    cells = zip(*rows) if rows else [()] * len(types)
    found: dict[str, Column] = {
        name: np.array(column, kind) for (name, kind), column in zip(types.items(), cells, strict=True)
    }
    found["at"] = np.array([moment.replace(tzinfo=None) for moment in found["at"]], "datetime64[s]")
    return found


def _responses(
    connection: Connection, project_id: int, items: Column, slots: int, prompts: Sequence[int] | None
) -> Column:
    """The ids of the responses in the slots of `items` [N, slots]; -1 where a slot is empty."""
    if not items.size:
        return np.full((0, slots), -1)
    columns: tuple[Any, ...] = (ItemResponse.item_id, ItemResponse.slot, ItemResponse.response_id)
    query = select(*columns).join(Item).where(Item.project_id == project_id, ItemResponse.slot < slots)
    found = chain.from_iterable(_about(connection, query, prompts))
    rows = np.fromiter(found, int).reshape(-1, 3)
    known, number = np.unique(rows[:, 0], return_inverse=True)
    table = np.full((known.size + 1, slots), -1)
    table[number, rows[:, 1]] = rows[:, 2]
    place = np.searchsorted(known, items)
    return table[np.where(np.isin(items, known), place, known.size)]


def _written(
    connection: Connection, project_id: int, responses: Column, prompts: Sequence[int] | None
) -> tuple[Column, Column]:
    """Length in characters and model of each of `responses`, in the same shape."""
    query = (
        select(func.length(ResponseRow.text), ModelRef.name, ResponseRow.id)
        .join(PromptRow)
        .join(GenerationRun)
        .join(ModelRef)
        .where(PromptRow.project_id == project_id)
        .order_by(ResponseRow.id)
    )
    if prompts is None:
        rows = list(connection.execute(query))
    else:
        parts = (connection.execute(query.where(ResponseRow.prompt_id.in_(some))) for some in chunks(prompts))
        rows = sorted(chain.from_iterable(parts), key=lambda row: row.id)
    lengths, models, ids = zip(*rows) if rows else ((), (), ())
    place = np.searchsorted(np.array(ids, int), responses)
    return np.array(lengths, int)[place], np.array(models, str)[place]
