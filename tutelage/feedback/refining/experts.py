"""What experts do with problems that were handed up: take the last round over, write the solution, or end it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tutelage.feedback.asking.payloads import (
    MAX_TEXT,
    LiveResponse,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
    Task,
)
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import lock_item
from tutelage.feedback.items.written import store_response
from tutelage.feedback.people.access import Member, note
from tutelage.feedback.projects.projects import current_schema, standing
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.history import own_problem, view_of
from tutelage.feedback.refining.judging import is_right
from tutelage.feedback.refining.reading import Standing, marks_of, read_refinements
from tutelage.feedback.refining.views import ProblemView
from tutelage.feedback.work.answers import submit_in
from tutelage.feedback.work.leases import lease, own_assignment, read_task
from tutelage.records import Round
from tutelage.store.database import Database
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import Assignment
from tutelage.store.sql import lock_project

PERSON = "person"
"""The model that a solution written by a person is stored under."""


def take(database: Database, who: Member, root: int) -> Task:
    """The last round of a problem, to be marked anew and gone on from; the task holds the marks that it has.  Needs teach.

    Refused: not-found; conflict (the problem is closed and was not handed up).
    """
    who.require_account("teach")
    with database.write() as connection:
        standing(connection, who.project_id)  # before any item is locked: it may make questions
        found = _open_or_handed(connection, who, root)
        item = found.items[-1]
        lock_item(connection, item)
        mine = _in_hand(connection, who, item, found.refinement.rounds[-1])
        task = read_task(connection, who, mine)
        if task.annotation_id is not None or task.answer is not None:
            return task  # one's own marks
        marks = marks_of(found.refinement.rounds[-1].steps)
        return task.model_copy(update={"answer": StepAnswer(marks=marks)}) if marks else task


def write(database: Database, who: Member, root: int, text: str) -> ProblemView:
    """Write the solution: the last round, every step of it right; closes the problem.  Needs teach.

    Refused: not-found; invalid (nothing written; its answer is wrong); conflict (closed otherwise).
    """
    who.require_account("teach")
    text = text.strip()
    if not text or len(text) > MAX_TEXT:
        raise Refused("invalid", "write the solution first.")
    with database.read() as connection:
        prompt = own_problem(connection, who, root).refinement.prompt
    right = is_right(prompt, text)
    if right is False:
        raise Refused("invalid", "the answer of this solution is not the right one: correct it first.")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        found = _open_or_handed(connection, who, root)
        item = connection.execute(Item.__table__.select().where(Item.id == root)).one()
        said = LiveResponse(text=text, model=PERSON, engine=PERSON)
        response = store_response(connection, item.prompt_id, said, by=who.user.name)
        n = len(found.items) + 1
        written = rows.Written(response, right)
        added = rows.add_round(connection, root, n, written, "written", 0, who.annotator_id)
        _mark_right(connection, who, added, text)
        rows.close(connection, root, "written")
        note(connection, who.user, "write-solution", str(root), who.project_id)
        return _view(connection, who, root)


def end(database: Database, who: Member, root: int, why: str) -> ProblemView:
    """Say that the problem itself is broken.  Needs teach.  Refused: not-found; conflict (closed otherwise)."""
    who.require_account("teach")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        _open_or_handed(connection, who, root)
        rows.close(connection, root, "broken", why.strip())
        note(connection, who.user, "broken-problem", str(root), who.project_id)
        return _view(connection, who, root)


# inside ---------------------------------------------------------------------------------------------------------------


def _open_or_handed(connection: Connection, who: Member, root: int) -> Standing:
    found = own_problem(connection, who, root)
    if found.refinement.outcome not in (None, "handed-up"):
        raise Refused("conflict", "this problem is closed: reload the page.")
    return found


def _in_hand(connection: Connection, who: Member, item: int, last: Round) -> int:
    """The member's assignment on a round: as it is where they have it or have marked it; to be settled where others have."""
    own = (Assignment.item_id == item, Assignment.annotator_id == who.annotator_id)
    row = connection.execute(select(Assignment.id, Assignment.status).where(*own)).one_or_none()
    if row is not None and row.status in ("leased", "done"):
        return row.id
    owner = connection.scalar(select(Item.owner_id).where(Item.id == item))
    others = last.role is not None or owner not in (None, who.annotator_id)
    return lease(connection, who, item, status="review" if others else "leased")


def _view(connection: Connection, who: Member, root: int) -> ProblemView:
    return view_of(connection, who, read_refinements(connection, who.project_id, [root])[0])


def _mark_right(connection: Connection, who: Member, item: int, text: str) -> None:
    """Every step of what an expert wrote is right: they say so."""
    schema: Schema = current_schema(connection, who.project_id)[1]
    steps = len(split_steps(text, schema.splitter))
    held = own_assignment(connection, who, lease(connection, who, item))
    answer = StepAnswer(
        marks=tuple(StepMark(step=n, label=1) for n in range(steps)),
        confidence=9 if schema.confidence else None,
        reason="written by an expert" if schema.reason == "required" else "",
    )
    submit_in(connection, who, held, Submission(client_key=f"written/{item:08d}", answer=answer))
