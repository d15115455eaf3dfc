"""Right twice: after a sound and right round the model is asked again and told nothing, until it was right often enough."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from tutelage.feedback.asking.payloads import LiveResponse
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.written import store_response
from tutelage.feedback.people.access import Member
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.history import following_of, model_of, own_problem, view_of
from tutelage.feedback.refining.reading import Standing, read_refinements
from tutelage.feedback.refining.views import ProblemView
from tutelage.feedback.refining.working import close_if_over
from tutelage.records import Prompt
from tutelage.store.database import Database
from tutelage.store.schema import Item
from tutelage.store.schema_refining import RefinementCheck
from tutelage.store.sql import lock_project


@dataclass(frozen=True)
class Checking:
    """What the model is asked for the `n`-th time (from 1)."""

    root: int
    n: int
    prompt: Prompt
    model: str


def next_check(database: Database, who: Member, root: int) -> tuple[ProblemView, Checking | None]:
    """The check that a refinement waits for; None where it waits for something else.  Refused: not-found."""
    who.require_account("label")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        found = close_if_over(connection, who, own_problem(connection, who, root))
        view = view_of(connection, who, found)
        if view.wants != "check":
            return view, None
        model = model_of(connection, found.responses[0])
        return view, Checking(root, len(view.checks) + 1, found.refinement.prompt, model)


def add_check(
    database: Database, who: Member, checking: Checking, said: LiveResponse, right: bool | None
) -> ProblemView:
    """Store what the model said, and close the refinement where that decides it.  There already: nothing changes."""
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        found = own_problem(connection, who, checking.root)
        there = select(func.count()).where(RefinementCheck.item_id == checking.root)
        following = following_of(found, who)
        if connection.scalar(there) == checking.n - 1 and following and following.what == "check":
            prompt_id = connection.scalar(select(Item.prompt_id).where(Item.id == checking.root))
            assert prompt_id is not None
            response = store_response(connection, prompt_id, said, check=checking.n)
            rows.add_check(connection, checking.root, checking.n, response, right)
        return _view_after(connection, who, found)


def judge_check(database: Database, who: Member, root: int, n: int, right: bool) -> ProblemView:
    """Say whether what the model answered when asked again is right, where nothing else says so.

    Refused: not-found; conflict (it was said already).
    """
    who.require_account("label")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        found = own_problem(connection, who, root)
        open_check = (
            RefinementCheck.item_id == root,
            RefinementCheck.n == n,
            RefinementCheck.correct.is_(None),
        )
        if not connection.execute(update(RefinementCheck).where(*open_check).values(correct=right)).rowcount:
            raise Refused("conflict", f"check {n} waits for nobody's word: reload the page.")
        return _view_after(connection, who, found)


def _view_after(connection: Connection, who: Member, found: Standing) -> ProblemView:
    [now] = read_refinements(connection, who.project_id, [found.root])
    return view_of(connection, who, close_if_over(connection, who, now))
