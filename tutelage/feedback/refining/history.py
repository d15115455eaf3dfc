"""Problems as members see them: the list of refinements, and one with all its rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import Connection, select

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import Member
from tutelage.feedback.refining.reading import Standing, read_refinements
from tutelage.feedback.refining.rules import Next, Rules, next_of
from tutelage.feedback.refining.views import (
    CheckView,
    ProblemLine,
    ProblemView,
    RoundView,
    doing,
    step_view,
)
from tutelage.records import Prompt
from tutelage.store.database import Database
from tutelage.store.schema import GenerationRun, Item, ModelRef, ResponseRow
from tutelage.store.schema_feedback import Assignment
from tutelage.store.schema_refining import RefinementCheck, RefinementRound, RefinementRow

Which = Literal["", "open", "accepted", "sound", "handed-up", "written", "broken"]
UNSTOPPED = 1000
"""Rounds: experts are not stopped, for whoever gets what was handed up decides alone when it is enough."""
UNKNOWN = Next("close", outcome="handed-up", why="nobody can say whether the answer is right")
LISTED = 500
BEGINNING = 160


def rules_for(found: Standing, who: Member) -> Rules:
    """The rules by which a refinement goes on in a member's hands."""
    return replace(found.rules, rounds=UNSTOPPED, stuck=UNSTOPPED) if who.may("teach") else found.rules


def following_of(found: Standing, who: Member) -> Next | None:
    """What comes next; None where the refinement is closed."""
    if found.refinement.outcome is None and found.broken:
        return Next("close", outcome="broken", why="the problem itself is broken")
    following = next_of(found.refinement, rules_for(found, who))
    last = found.refinement.rounds[-1]
    return UNKNOWN if following and following.what == "check" and last.right is None else following


def reopened(found: Standing) -> Standing:
    """The same as if it had not been handed up."""
    if found.refinement.outcome != "handed-up":
        return found
    return replace(found, refinement=replace(found.refinement, outcome=None))


def problems(database: Database, who: Member, which: Which = "") -> list[ProblemLine]:
    """The refinements of the project, newest first; annotators see those that they have worked on.  At most 500."""
    with database.read() as connection:
        roots = _roots(connection, who, which)
        found = read_refinements(connection, who.project_id, roots) if roots else []
        times = _times(connection, roots)
        unjudged = set(_unjudged(connection, roots))
        mine = _assignments(connection, who, [one.items[-1] for one in found])
        lines = []
        for one in reversed(found):
            row, refinement = times[one.root], one.refinement
            lines.append(
                ProblemLine(
                    root=one.root,
                    prompt=_beginning(asked(refinement.prompt)),
                    rounds=len(refinement.rounds),
                    outcome=refinement.outcome,
                    why=refinement.why,
                    opened_at=row.opened_at,
                    closed_at=row.closed_at,
                    wants=doing(following_of(one, who), one.root in unjudged),
                    minutes=sum(each.minutes for each in refinement.rounds),
                    assignment_id=mine.get(one.items[-1]),
                )
            )
        return lines


def waiting_for_experts(database: Database, who: Member) -> int:
    """How many refinements were handed up."""
    handed = (Item.project_id == who.project_id, RefinementRow.outcome == "handed-up")
    with database.read() as connection:
        return len(connection.scalars(select(RefinementRow.item_id).join(Item).where(*handed)).all())


def problem(database: Database, who: Member, root: int) -> ProblemView:
    """One refinement.  Refused: not-found, also for annotators who have not worked on it."""
    with database.read() as connection:
        return view_of(connection, who, own_problem(connection, who, root))


def own_problem(connection: Connection, who: Member, root: int) -> Standing:
    """A refinement that the member may see.  Refused: not-found."""
    found = read_refinements(connection, who.project_id, [root])
    if not found or not (_sees_all(who) or _assignments(connection, who, found[0].items)):
        raise Refused("not-found", f"there is no refined problem {root} for you in this project.")
    return found[0]


def standing_at(connection: Connection, project_id: int, item_id: int) -> Standing | None:
    """The refinement that an item is a round of."""
    root = connection.scalar(select(RefinementRound.root_id).where(RefinementRound.item_id == item_id))
    return None if root is None else read_refinements(connection, project_id, [root])[0]


def view_of(connection: Connection, who: Member, found: Standing) -> ProblemView:
    """What a member is shown of a refinement."""
    refinement, row = found.refinement, _times(connection, [found.root])[found.root]
    checks = _checks(connection, found.root)
    following = following_of(found, who)
    reference: Mapping[str, Any] = refinement.prompt.reference or {}
    knows = _sees_all(who)
    unjudged = any(check.right is None for check in checks)
    return ProblemView(
        root=found.root,
        prompt=asked(refinement.prompt),
        model=model_of(connection, found.responses[0]),
        answer=reference.get("answer") if knows else None,
        trap=str(reference["trap"]) if knows and reference.get("trap") else None,
        error=str(reference["error"]) if knows and reference.get("error") else None,
        rounds=tuple(_rounds(connection, who, found)),
        checks=checks,
        checks_wanted=found.rules.checks,
        outcome=refinement.outcome,
        why=refinement.why,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        wants=doing(following, unjudged),
        step=following.step if following else 0,
        calls=sum(one.calls for one in refinement.rounds),
        minutes=sum(one.minutes for one in refinement.rounds),
        assignment_id=_assignments(connection, who, found.items[-1:]).get(found.items[-1]),
    )


def asked(prompt: Prompt) -> str:
    """A problem for people: without saying of a single turn that it is the user's."""
    if isinstance(prompt.content, str) or len(prompt.content) > 1:
        return prompt.text()
    return prompt.content[0].text()


def model_of(connection: Connection, response_id: int) -> str:
    """The name of the model that wrote a response."""
    query = select(ModelRef.name).join(GenerationRun).join(ResponseRow).where(ResponseRow.id == response_id)
    return connection.scalar(query) or ""


# rows -----------------------------------------------------------------------------------------------------------------


def _sees_all(who: Member) -> bool:
    return who.may("view") or who.may("teach")


def _rounds(connection: Connection, who: Member, found: Standing) -> list[RoundView]:
    query = select(RefinementRound.item_id, RefinementRound.made_at)
    made = dict(connection.execute(query.where(RefinementRound.root_id == found.root)).all())
    return [
        RoundView(
            item_id=item_id,
            n=n,
            how=one.how,
            since=one.since,
            right=one.right,
            finish=one.finish,
            by=one.by if _sees_all(who) or one.by == who.user.name else "",
            role=one.role or "",
            made_at=made[item_id],
            calls=one.calls,
            minutes=one.minutes,
            steps=tuple(step_view(step) for step in one.steps),
        )
        for n, (item_id, one) in enumerate(zip(found.items, found.refinement.rounds, strict=True), start=1)
    ]


def _checks(connection: Connection, root: int) -> tuple[CheckView, ...]:
    columns = (RefinementCheck.n, ResponseRow.text, RefinementCheck.correct, RefinementCheck.made_at)
    query = select(*columns).join(ResponseRow, ResponseRow.id == RefinementCheck.response_id)
    rows = connection.execute(query.where(RefinementCheck.item_id == root).order_by(RefinementCheck.n))
    return tuple(CheckView(n=n, text=text, right=right, made_at=at) for n, text, right, at in rows)


def _unjudged(connection: Connection, roots: list[int]) -> list[int]:
    unsaid = (RefinementCheck.item_id.in_(roots), RefinementCheck.correct.is_(None))
    return list(connection.scalars(select(RefinementCheck.item_id).where(*unsaid)))


def _roots(connection: Connection, who: Member, which: Which) -> list[int]:
    query = select(RefinementRow.item_id).join(Item).where(Item.project_id == who.project_id)
    if which == "open":
        query = query.where(RefinementRow.outcome.is_(None))
    elif which:
        query = query.where(RefinementRow.outcome == which)
    if not _sees_all(who):
        mine = (
            select(RefinementRound.root_id)
            .join(Assignment, Assignment.item_id == RefinementRound.item_id)
            .where(Assignment.annotator_id == who.annotator_id)
        )
        query = query.where(RefinementRow.item_id.in_(mine))
    return list(connection.scalars(query.order_by(RefinementRow.item_id.desc()).limit(LISTED)))


def _times(connection: Connection, roots: list[int]) -> dict[int, Any]:
    rows = connection.execute(select(RefinementRow.__table__).where(RefinementRow.item_id.in_(roots)))
    return {row.item_id: row for row in rows}


def _assignments(connection: Connection, who: Member, items: Any) -> dict[int, int]:
    """item -> the member's own assignment, for those items where there is one."""
    own = (Assignment.annotator_id == who.annotator_id, Assignment.item_id.in_(list(items)))
    return dict(connection.execute(select(Assignment.item_id, Assignment.id).where(*own)).all())


def _beginning(text: str) -> str:
    said = " ".join(text.split())
    return said if len(said) <= BEGINNING else said[: BEGINNING - 1] + "…"
