"""What language models that judge have done in a project, what it has cost, and what they left to people."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tutelage.feedback.people.access import Member
from tutelage.store.calls import Spent, read_budgets, read_spent
from tutelage.store.current import IS_FIRST
from tutelage.store.database import Database
from tutelage.store.leaving import Left, read_left
from tutelage.store.schema import Annotation, Annotator, Item


@dataclass(frozen=True)
class JudgeWork:
    """One judge: its answers to items (votes, rankings, marked steps), the questions it was asked and answered, tokens as the
    endpoint counts them, the cost in the unit of the prices, and the mean time of an answer in seconds.

    lost: questions that were on their way when a process died, which may have cost `open_cost` at most.
    budget: what it may cost in the project, as it was last run; left: what it may still cost (None: it has no limit).
    left_to_people: items that it was not sure enough of (`people_below`), or had no verdict on; people_answered: of these, those
    that a person has answered since; waiting: those that no person has answered since, and that are still to be answered.
    """

    name: str
    votes: int
    asked: int
    answered: int
    lost: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    open_cost: float
    budget: float | None
    left: float | None
    seconds: float
    left_to_people: int
    people_answered: int
    waiting: int


def judges_work(database: Database, who: Member) -> list[JudgeWork]:
    """The judges that were asked in words in the project or left something to people, by name.  Needs view."""
    who.require("view")
    with database.read() as connection:
        spent = read_spent(connection, who.project_id)
        budgets = read_budgets(connection, who.project_id)
        left = read_left(connection, who.project_id)
        votes = _votes(connection, who.project_id)
    return [
        _work(name, votes.get(name, 0), spent.get(name, Spent()), budgets.get(name), left.get(name, Left()))
        for name in sorted({*spent, *budgets, *left})
    ]


def _votes(connection: Connection, project_id: int) -> dict[str, int]:
    """Judge -> the items it has answered."""
    first = (Annotation.role == "answer", IS_FIRST, Item.project_id == project_id)
    query = (
        select(Annotator.name, func.count(Annotation.id))
        .join(Annotation, Annotation.annotator_id == Annotator.id)
        .join(Item, Item.id == Annotation.item_id)
        .where(*first, Annotator.kind == "judge")
        .group_by(Annotator.name)
    )
    return dict(connection.execute(query).all())


def _work(name: str, votes: int, spent: Spent, budget: float | None, left: Left) -> JudgeWork:
    return JudgeWork(
        name=name,
        votes=votes,
        asked=spent.asked,
        answered=spent.answered,
        lost=spent.lost,
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        cost=spent.cost,
        open_cost=spent.open_cost,
        budget=budget,
        left=None if budget is None else max(0.0, budget - spent.cost - spent.open_cost),
        seconds=spent.seconds / max(spent.answered, 1),
        left_to_people=left.items,
        people_answered=left.answered,
        waiting=left.waiting,
    )
