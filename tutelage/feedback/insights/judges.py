"""What language models that judge have done in a project, and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from tutelage.feedback.people.access import Member
from tutelage.store.calls import read_spent
from tutelage.store.current import IS_FIRST
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Annotator, Item


@dataclass(frozen=True)
class JudgeWork:
    """One judge: its votes, the questions it was asked and answered, tokens as the endpoint counts them, the cost in the unit of
    the prices, and the mean time of an answer in seconds.

    lost: questions that were on their way when a process died.  waiting: pairs it voted on that still wait for a person.
    """

    name: str
    votes: int
    asked: int
    answered: int
    lost: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float
    waiting: int


def judges_work(database: Database, who: Member) -> list[JudgeWork]:
    """The judges that were asked in words in the project, by name.  Needs view."""
    who.require("view")
    first = (Annotation.role == "answer", IS_FIRST, Item.project_id == who.project_id)
    open_items = func.count(Item.id).filter(Item.n_done < Item.overlap, Item.closed.is_(False))
    query = (
        select(Annotator.name, func.count(Annotation.id), open_items)
        .join(Annotation, Annotation.annotator_id == Annotator.id)
        .join(Item, Item.id == Annotation.item_id)
        .where(*first, Annotator.kind == "judge")
        .group_by(Annotator.name)
    )
    with database.read() as connection:
        spent = read_spent(connection, who.project_id)
        votes = {name: (count, waiting) for name, count, waiting in connection.execute(query)}
    return [
        JudgeWork(
            name,
            votes.get(name, (0, 0))[0],
            one.asked,
            one.answered,
            one.lost,
            one.prompt_tokens,
            one.completion_tokens,
            one.cost,
            one.seconds / max(one.answered, 1),
            votes.get(name, (0, 0))[1],
        )
        for name, one in sorted(spent.items())
    ]
