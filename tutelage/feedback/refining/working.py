"""What members do in a refinement: mark a round and go on from it.  Generation itself happens elsewhere.

The marks are stored first, so nothing is lost where a model fails; the number of the round keeps it from being there twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from tutelage.feedback.asking.answer_rows import normal, read_answers
from tutelage.feedback.asking.payloads import LiveResponse, Splitter, StepAnswer, Submission, Task
from tutelage.feedback.asking.slots import to_slots
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import lock_item, texts_of
from tutelage.feedback.items.written import prompt_of, store_response
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import schema_at
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.history import (
    following_of,
    model_of,
    reopened,
    standing_at,
    view_of,
)
from tutelage.feedback.refining.judging import is_right
from tutelage.feedback.refining.reading import Standing, marked_step
from tutelage.feedback.refining.rules import GoingOn, prefix_of
from tutelage.feedback.refining.telling import told
from tutelage.feedback.refining.views import ProblemView
from tutelage.feedback.work.answers import following_round, revise_in, settle_in, submit_in
from tutelage.feedback.work.leases import Held, hold, latest_answer, lease, own_assignment, read_task
from tutelage.records import Finish, Prompt, Round
from tutelage.store.database import Database
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import Assignment
from tutelage.store.sql import lock_project

MANY = "this solution waits for the marks of others: submit yours, and it goes on when all of them are there."


@dataclass(frozen=True)
class Going:
    """What a model is to write: the `n`-th round, from `step` of `last` on.

    `told`: the prompt by which it writes that step again from the explanation; `begun`: how the new solution begins, where a
    model does not write that step from an explanation first.
    """

    root: int
    n: int
    how: GoingOn
    step: int
    last: Round
    prompt: Prompt
    told: Prompt | None
    begun: str
    splitter: Splitter
    model: str

    def begun_with(self, written: str) -> str:
        """How the new solution begins where its step is the first one of what a model wrote.  Raises ValueError."""
        return prefix_of(self.last, self.step, split_steps(written.strip(), self.splitter)[0], self.splitter)


@dataclass(frozen=True)
class Marked:
    """What came of marking a round: the refinement (None: the item is in none), a model's work, or a round there already."""

    problem: ProblemView | None
    going: Going | None = None
    task: Task | None = None


def refinement_at(database: Database, who: Member, assignment_id: int) -> tuple[ProblemView | None, str]:
    """The refinement that an own item is a round of, and why one cannot go on from it ("": one can).  Refused: not-found."""
    who.require_account("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id)
        found = standing_at(connection, who.project_id, held.item_id)
        why = MANY if found is None and not _alone(connection, held.item_id) else ""
        return None if found is None else view_of(connection, who, found), why


def mark(
    database: Database,
    who: Member,
    assignment_id: int,
    submission: Submission,
    how: GoingOn | None = None,
    hand_up: str | None = None,
) -> Marked:
    """Store the marks of a round, and say what a model is to write then (`how`).  Again: the same, stored once.

    `hand_up`: give the problem to the experts, and why.  A round without a wrong step that is wrong by itself ends the
    refinement, or asks for checks.
    Refused: not-found; invalid (nothing to go on from; the rewrite is not one step); conflict (gone on from by somebody else;
    waits for others).  In all these nothing is stored.
    """
    who.require_account("label")
    right = _right(database, who, assignment_id)
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        held = hold(connection, who, assignment_id, submission)
        there = _gone_on(connection, who, held, submission)
        if there is not None:
            return there
        _check_ready(connection, held, submission, how)
        found = standing_at(connection, who.project_id, held.item_id)
        if found is None and (how or hand_up is not None) and not _alone(connection, held.item_id):
            raise Refused("conflict", MANY)
        _store_marks(connection, who, held, submission)
        if found is None and not how and hand_up is None:
            return Marked(None)
        if found is None:
            rows.begin_with(connection, held.item_id, right)
        return _follow(connection, who, held, how, hand_up)


def add(
    database: Database, who: Member, going: Going, begun: str, candidate: LiveResponse
) -> tuple[ProblemView, Task]:
    """Store what a model wrote behind `begun` as the next round, for this member.  Again: the round that is there.

    Refused: conflict (somebody else has gone on meanwhile).
    """
    text = begun + candidate.text
    right = is_right(going.prompt, text)
    origin = {"continued_from": hashlib.sha256(begun.encode()).hexdigest()[:16], "step": going.step}
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        first = connection.execute(select(Item.__table__).where(Item.id == going.root)).one()
        whole = candidate.model_copy(update={"text": text})
        response = store_response(connection, first.prompt_id, whole, **origin, round=going.n, how=going.how)
        written = rows.Written(response, right)
        item = rows.add_round(
            connection, going.root, going.n, written, going.how, going.step, who.annotator_id
        )
        rows.reopen(connection, going.root)
        lock_item(connection, item)
        assignment = lease(connection, who, item)
        found = standing_at(connection, who.project_id, item)
        assert found is not None
        return view_of(connection, who, found), read_task(connection, who, assignment)


def settle(database: Database, who: Member, assignment_id: int) -> None:
    """After an answer to a round by whatever way: close its refinement where that is what comes next."""
    with database.read() as connection:
        item = select(Assignment.item_id).where(Assignment.id == assignment_id)
        if standing_at(connection, who.project_id, connection.scalar(item) or 0) is None:
            return
    with database.write() as connection:
        held = own_assignment(connection, who, assignment_id)
        found = standing_at(connection, who.project_id, held.item_id)
        if found is not None:
            close_if_over(connection, who, found)


def close_if_over(connection: Connection, who: Member, found: Standing) -> Standing:
    """Close a refinement where that is what comes next; returns it as it stands then."""
    following = following_of(found, who)
    if following is None or following.what != "close" or following.outcome is None:
        return found
    rows.close(connection, found.root, following.outcome, following.why)
    refinement = replace(found.refinement, outcome=following.outcome, why=following.why)
    return replace(found, refinement=refinement)


# inside ---------------------------------------------------------------------------------------------------------------


def _right(database: Database, who: Member, assignment_id: int) -> bool | None:
    """Whether the solution's answer is right; found before the store is held, since it may take a moment."""
    with database.read() as connection:
        held = own_assignment(connection, who, assignment_id)
        if held.type != "step":
            raise Refused("invalid", "only items of steps are gone on from.")
        prompt, text = prompt_of(connection, held.prompt_id), texts_of(connection, held.item_id)[0]
    return is_right(prompt, text)


def _alone(connection: Connection, item_id: int) -> bool:
    """Whether one person's marks are all that an item waits for."""
    return connection.scalar(select(Item.overlap).where(Item.id == item_id)) == 1


def _gone_on(connection: Connection, who: Member, held: Held, given: Submission) -> Marked | None:
    """The next round, where it is there already and this member's.  Refused: conflict, where it is another's, or came of other
    marks than these."""
    following = following_round(connection, held.item_id)
    if following is None:
        return None
    own = (Assignment.item_id == following, Assignment.annotator_id == who.annotator_id)
    assignment = connection.scalar(select(Assignment.id).where(*own))
    found = standing_at(connection, who.project_id, following)
    if assignment is None or found is None:
        raise Refused("conflict", rows.TAKEN)
    latest = latest_answer(connection, held.item_id, who.annotator_id)
    if latest is not None and not _says(connection, latest, held, given):
        raise Refused("conflict", rows.TAKEN)
    return Marked(view_of(connection, who, found), None, read_task(connection, who, assignment))


def _check_ready(connection: Connection, held: Held, given: Submission, how: GoingOn | None) -> None:
    """Refused: invalid, where the marks do not say what it takes to go on."""
    if how is None or not isinstance(given.answer, StepAnswer):
        return
    _, schema = schema_at(connection, held.schema_version_id)
    texts = split_steps(texts_of(connection, held.item_id)[0], schema.splitter)
    said = {one.step: one for one in given.answer.marks}
    steps = tuple(marked_step(text, said.get(n)) for n, text in enumerate(texts))
    _begun(Round(steps), how, schema.splitter)


def _begun(last: Round, how: GoingOn, splitter: Splitter) -> str:
    """How the next solution begins.  Refused: invalid."""
    root = last.root
    if root is None:
        raise Refused("invalid", "mark the step that is wrong first: the solution goes on from there.")
    step = last.steps[root]
    if how == "explained" and not step.explanation.strip():
        raise Refused("invalid", f"say what is wrong with step {root + 1} first: the model is told that.")
    try:
        return prefix_of(last, root, (step.rewrite or "") if how == "rewritten" else None, splitter)
    except ValueError as error:
        raise Refused("invalid", str(error)) from error


def _store_marks(connection: Connection, who: Member, held: Held, submission: Submission) -> None:
    """Submit, or revise what differs; whoever has taken a round over settles it."""
    if held.status == "review":
        settle_in(connection, who, held, submission)
        return
    latest = latest_answer(connection, held.item_id, who.annotator_id)
    if latest is None:
        submit_in(connection, who, held, submission)
    elif not _says(connection, latest, held, submission):
        revise_in(connection, who, latest, submission)


def _says(connection: Connection, annotation_id: int, held: Held, given: Submission) -> bool:
    """Whether that answer is the same as what is given now."""
    return read_answers(connection, [annotation_id])[annotation_id] == normal(
        to_slots(given.answer, held.order)
    )


def _follow(
    connection: Connection, who: Member, held: Held, how: GoingOn | None, hand_up: str | None
) -> Marked:
    """What comes after the marks."""
    found = standing_at(connection, who.project_id, held.item_id)
    assert found is not None
    if hand_up is not None:
        rows.close(connection, found.root, "handed-up", hand_up.strip())
        closed = standing_at(connection, who.project_id, held.item_id)
        assert closed is not None
        return Marked(view_of(connection, who, closed))
    if how or held.status == "review":
        found = reopened(found)
    following = following_of(found, who)
    if following is not None and following.what == "check":
        rows.reopen(connection, found.root)
    if how is None or following is None or following.what != "go on":
        return Marked(view_of(connection, who, close_if_over(connection, who, found)))
    return Marked(view_of(connection, who, found), _going(connection, found, how))


def _going(connection: Connection, found: Standing, how: GoingOn) -> Going:
    last = found.refinement.rounds[-1]
    begun = _begun(last, how, found.splitter)
    assert last.root is not None
    prompt, step = found.refinement.prompt, last.root
    asked = told(prompt, last.steps, step, last.steps[step].explanation) if how == "explained" else None
    model = model_of(connection, found.responses[0])
    n = len(found.items) + 1
    return Going(found.root, n, how, step, last, prompt, asked, begun, found.splitter, model)


def solution_end(finish: Finish) -> str:
    """Why a solution that a model wrote cannot be a round; "": it can."""
    if finish != "length":
        return ""
    return (
        "The model wrote on and on and came to no end, so there is no new round: your marks are stored. "
        "Try again, insert a step of your own, or hand the problem up."
    )
