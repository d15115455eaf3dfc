"""Refinements as rows: opening them, adding rounds and checks, closing them; each within the transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from tutelage.feedback.errors import Refused
from tutelage.records import How, Outcome, Prompt
from tutelage.store.choosing import Candidate, item_digest
from tutelage.store.pairing import insert_item
from tutelage.store.schema import Item, PromptRow, ResponseRow, digest, now
from tutelage.store.schema_feedback import ItemReserved
from tutelage.store.schema_refining import RefinementCheck, RefinementRound, RefinementRow
from tutelage.store.sql import insert_one, storable

TAKEN = "this solution was gone on from meanwhile: reload the page to see the new round."


@dataclass(frozen=True)
class Written:
    """A response that is in the store, by its row, and whether its answer is right (None: nobody knows)."""

    response_id: int
    right: bool | None = None


def open_refinement(connection: Connection, project_id: int, first: Written, overlap: int = 1) -> int:
    """Begin with a model's first solution; returns its item, which names the refinement.  Again: nothing changes."""
    row = connection.execute(
        select(ResponseRow.id, ResponseRow.digest, ResponseRow.prompt_id, PromptRow.digest.label("prompt"))
        .join(PromptRow)
        .where(ResponseRow.id == first.response_id, PromptRow.project_id == project_id)
    ).one()
    # As `items.building` names it: a solution that was marked already is not asked about again.
    name = item_digest("step", row.prompt, [Candidate(row.id, 0, "", row.digest)])
    there = connection.scalar(select(Item.id).where(Item.project_id == project_id, Item.digest == name))
    item_id = there or insert_item(
        connection,
        [row.id],
        project_id=project_id,
        type="step",
        prompt_id=row.prompt_id,
        overlap=overlap,
        digest=name,
    )
    begin_with(connection, item_id, first.right)
    return item_id


def item_of(connection: Connection, project_id: int, prompt: Prompt, text: str) -> int | None:
    """The item of steps that shows this solution of a prompt; None where there is none yet."""
    name = item_digest("step", prompt.id, [Candidate(0, 0, "", digest(storable(text)))])
    return connection.scalar(select(Item.id).where(Item.project_id == project_id, Item.digest == name))


def begin_with(connection: Connection, item_id: int, right: bool | None) -> None:
    """Begin with the solution that an item of steps shows.  Again: nothing changes."""
    opened = select(RefinementRow.item_id).where(RefinementRow.item_id == item_id)
    if connection.scalar(opened) is None:
        insert_one(connection, RefinementRow, item_id=item_id)
        first: dict[str, Any] = {"n": 1, "how": "first", "since": 0, "correct": right}
        insert_one(connection, RefinementRound, item_id=item_id, root_id=item_id, **first)


def reserve(connection: Connection, item_id: int, annotator_id: int | None = None) -> None:
    """Let an item be for this annotator alone; for the experts where none is named."""
    connection.execute(update(Item).where(Item.id == item_id).values(reserved=True))
    whom = {"annotator_id": annotator_id, "team": None, "role": None if annotator_id else "expert"}
    insert_one(connection, ItemReserved, item_id=item_id, **whom)


def add_round(
    connection: Connection,
    root: int,
    n: int,
    solution: Written,
    how: How,
    since: int,
    owner: int | None = None,
) -> int:
    """The `n`-th round of a refinement; returns its item, which asks as many people as the first.  `owner`: the annotator whom
    it is for alone.

    Refused: conflict where there is such a round already, or the refinement is closed.
    """
    first = connection.execute(select(Item.__table__).where(Item.id == root)).one()
    outcome = connection.scalar(select(RefinementRow.outcome).where(RefinementRow.item_id == root))
    at = select(func.max(RefinementRound.n)).where(RefinementRound.root_id == root)
    if outcome not in (None, "handed-up") or connection.scalar(at) != n - 1:
        raise Refused("conflict", TAKEN)
    try:
        item_id = insert_item(
            connection,
            [solution.response_id],
            project_id=first.project_id,
            type="step",
            prompt_id=first.prompt_id,
            overlap=1 if owner else first.overlap,
            digest=digest("round", first.digest, n),
            parent_id=root,
            owner_id=owner,
            reserved=first.reserved,
        )
    except IntegrityError as error:  # two at once, in a database with several writers
        raise Refused("conflict", TAKEN) from error
    _reserve_as(connection, item_id, root)
    insert_one(
        connection,
        RefinementRound,
        item_id=item_id,
        root_id=root,
        n=n,
        how=how,
        since=since,
        correct=solution.right,
    )
    return item_id


def add_check(connection: Connection, root: int, n: int, response_id: int, right: bool | None) -> None:
    """What came of asking the model again, for the `n`-th time (from 1); None: somebody has to say.  Again: nothing changes."""
    if not is_checked(connection, root, n):
        insert_one(connection, RefinementCheck, item_id=root, n=n, response_id=response_id, correct=right)


def is_checked(connection: Connection, root: int, n: int) -> bool:
    """Whether the model was asked again for the `n`-th time."""
    own = (RefinementCheck.item_id == root, RefinementCheck.n == n)
    return connection.scalar(select(RefinementCheck.n).where(*own)) is not None


def close(connection: Connection, root: int, outcome: Outcome, why: str = "") -> None:
    """End a refinement, or end it otherwise than before."""
    values: dict[str, Any] = {"outcome": outcome, "why": why, "closed_at": now()}
    connection.execute(update(RefinementRow).where(RefinementRow.item_id == root).values(values))


def reopen(connection: Connection, root: int) -> None:
    """Let a refinement that was handed up go on."""
    handed = (RefinementRow.item_id == root, RefinementRow.outcome == "handed-up")
    values = {"outcome": None, "why": "", "closed_at": None}
    connection.execute(update(RefinementRow).where(*handed).values(values))


def roots_of(connection: Connection, project_id: int) -> Sequence[int]:
    """The refinements of a project, oldest first."""
    query = select(RefinementRow.item_id).join(Item).where(Item.project_id == project_id)
    return connection.scalars(query.order_by(RefinementRow.item_id)).all()


def _reserve_as(connection: Connection, item_id: int, other: int) -> None:
    """Let an item be for whomever another one is for."""
    whom = (ItemReserved.annotator_id, ItemReserved.team, ItemReserved.role)
    same = select(literal(item_id), *whom).where(ItemReserved.item_id == other)
    names = ("item_id", *(column.key for column in whom))
    connection.execute(insert(ItemReserved).from_select(names, same))
