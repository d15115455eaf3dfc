"""What comes next in a refinement: pure, the same for the command and for the web pages.

A round: the steps are marked; the prefix before the first wrong step that is wrong by itself (the root, k) stays word for word;
that step is rewritten, or written again; all behind it is generated anew.  Accepted when every step holds, the answer is right,
and the model, asked again and told nothing, is right several times in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.feedback.asking.payloads import Splitter
from tutelage.feedback.asking.steps import split_steps
from tutelage.records import How, Outcome, Refinement, Round

Wanted = Literal["mark", "go on", "check", "close"]
GoingOn = Literal["rewritten", "explained", "regenerated"]


@dataclass(frozen=True)
class Rules:
    """rounds: corrections at most.  checks: times in a row that the model must be right without help; 0: none is asked.  stuck:
    rounds in which the root may stay where it is.  fallback: how to go on from a root without a rewrite, if at all; an
    explanation is needed for `explained`, and without one the step is `regenerated`."""

    rounds: int = 4
    checks: int = 2
    stuck: int = 2
    fallback: Literal["explained", "regenerated", "never"] = "explained"


@dataclass(frozen=True)
class Next:
    """What a refinement wants: marks; a solution that goes on from its `step`, in this way (`how`); one more check; or to be
    closed, with this outcome and why."""

    what: Wanted
    how: GoingOn | None = None
    step: int = 0
    outcome: Outcome | None = None
    why: str = ""


def next_of(refinement: Refinement, rules: Rules) -> Next | None:
    """What comes next; None where it is closed."""
    if refinement.outcome is not None:
        return None
    last = refinement.rounds[-1]
    if last.role is None:
        return Next("mark")
    root = last.root
    if root is None:
        return _without_root(refinement, last, rules)
    if len(refinement.rounds) > rules.rounds:
        corrections = "1 correction" if rules.rounds == 1 else f"{rules.rounds} corrections"
        return _handed_up(f"step {root + 1} is still wrong after {corrections}")
    if still := _stays(refinement, root, rules.stuck):
        return _handed_up(f"step {root + 1} was wrong {still} times, rewritten or not")
    how = way_on(last, root, rules)
    if how is None:
        return _handed_up(f"nobody has rewritten step {root + 1}")
    return Next("go on", how, root)


def way_on(last: Round, root: int, rules: Rules) -> GoingOn | None:
    """How to go on from the root of a round; None where it has no rewrite and nothing else may be done."""
    step = last.steps[root]
    if step.rewrite:
        return "rewritten"
    if rules.fallback == "never":
        return None
    return "explained" if rules.fallback == "explained" and step.explanation else "regenerated"


def prefix_of(last: Round, step: int, rewrite: str | None, splitter: Splitter) -> str:
    """How the next solution begins: the steps before `step` as they were, and `rewrite` in its place (None: nothing).

    Raises ValueError where there is no such step, and where the rewrite is no single step, for then the steps behind it would
    be others than those that were marked.
    """
    if not 0 <= step < len(last.steps):
        raise ValueError(f"there is no step {step + 1}: the solution has {len(last.steps)}.")
    kept = "".join(one.text for one in last.steps[:step])
    if rewrite is None:
        return kept
    if not rewrite.strip():
        raise ValueError("write the corrected step first.")
    parts = len(split_steps(rewrite.strip(), splitter))
    if parts != 1:
        raise ValueError(
            f"the rewrite of step {step + 1} has {parts} steps, and must be one: all behind it is written anew anyway."
        )
    wrong = last.steps[step].text
    gap = wrong[len(wrong.rstrip()) :]
    if not gap and rewrite.endswith("\n"):  # the place that it was written for is not the last one
        gap = "\n"
    return kept + rewrite.strip() + gap


def right_in_a_row(checks: tuple[bool, ...]) -> int:
    """How often the model was right at the end."""
    found = 0
    for right in reversed(checks):
        if not right:
            break
        found += 1
    return found


def _without_root(refinement: Refinement, last: Round, rules: Rules) -> Next:
    if not last.sound:
        return _handed_up("not every step was marked")
    if last.finish == "length":
        return _handed_up("the solution does not end")
    if last.right is False:
        return _handed_up("every step is marked right, but the answer is wrong")
    if refinement.checks and not refinement.checks[-1]:
        return Next("close", outcome="sound", why="the model is not right yet without help")
    if right_in_a_row(refinement.checks) < rules.checks:
        return Next("check")
    return Next("close", outcome="accepted")


def _stays(refinement: Refinement, root: int, stuck: int) -> int:
    """How many rounds the root has not moved on for, where that is more than `stuck`; else 0."""
    roots = [one.root for one in refinement.rounds]
    still = 1
    for earlier in reversed(roots[:-1]):
        if earlier is None or earlier < root:
            break
        still += 1
    return still if still > stuck else 0


def _handed_up(why: str) -> Next:
    return Next("close", outcome="handed-up", why=why)


HOW: dict[How, str] = {
    "first": "the model's first solution",
    "rewritten": "from a rewritten step",
    "explained": "from an explanation",
    "regenerated": "from a step written again",
    "written": "written by a person",
}
"""In words, for tables and pages."""
