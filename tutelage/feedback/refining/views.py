"""What the pages and the API show of a refinement."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.refining.rules import Next
from tutelage.records import ErrorKind, Finish, How, MarkedStep, Outcome

Doing = Literal["mark", "go-on", "check", "judge", "close", "nothing"]


class StepView(Model):
    """One step, and what was said of it (see `MarkedStep`)."""

    text: str
    label: int | None
    explanation: str
    rewrite: str | None
    caused_by: int | None
    error: ErrorKind | None


class RoundView(Model):
    """One solution: its steps as marked; `by` and `role` are empty where nobody has, `by` also where names are hidden."""

    item_id: int
    n: int
    how: How
    since: int
    right: bool | None
    finish: Finish
    by: str
    role: str
    made_at: datetime
    calls: int
    minutes: float
    steps: tuple[StepView, ...]


class CheckView(Model):
    """What the model answered when it was told nothing; `right` is null until somebody has said so."""

    n: int
    text: str
    right: bool | None
    made_at: datetime


class ProblemView(Model):
    """A refinement as it stands.

    `wants`: what comes next: marks, a solution that goes on from `step`, a check of the model, somebody's word on a check
    (judge), or nothing.  `answer`, `trap` and `error` are the author's, null for plain annotators.
    """

    root: int
    prompt: str
    model: str
    answer: Any
    trap: str | None
    error: str | None
    rounds: tuple[RoundView, ...]
    checks: tuple[CheckView, ...]
    checks_wanted: int
    outcome: Outcome | None
    why: str
    opened_at: datetime
    closed_at: datetime | None
    wants: Doing
    step: int
    calls: int
    minutes: float
    assignment_id: int | None  # the caller's own on the last round


class ProblemLine(Model):
    """A refinement in a list."""

    root: int
    prompt: str
    rounds: int
    outcome: Outcome | None
    why: str
    opened_at: datetime
    closed_at: datetime | None
    wants: Doing
    minutes: float
    assignment_id: int | None = None  # the caller's own on the last round


def step_view(step: MarkedStep) -> StepView:
    """One step."""
    names = ("text", "label", "explanation", "rewrite", "caused_by", "error")
    return StepView(**{name: getattr(step, name) for name in names})


def doing(following: Next | None, unjudged: bool) -> Doing:
    """What comes next, in a word."""
    if following is None:
        return "nothing"
    if following.what == "go on":
        return "go-on"
    return "judge" if unjudged and following.what == "check" else following.what
