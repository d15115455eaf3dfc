"""What refinements teach: rows for trainers, each a pure function of the record.

    solutions    prompt -> the sound solution, for `sft`
    steps        the corrected step against the original one behind the same steps, for `dpo`
    marks        the steps of each round with their marks, for `process`
    pairs        the last solution against the first, for `reward`
    corrections  what a refiner is told -> the step as it should be, for `sft`

Nothing that was said of a solution stands in what is learnt from it, but for `corrections`: there it is the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tutelage.feedback.refining.telling import told
from tutelage.records import Comparison, Demonstration, Finish, Prompt, Refinement, Role, Round, StepMarks

PEOPLE: tuple[Role, ...] = ("expert", "crowd")
"""Roles whose rewrite is right unless somebody marks it otherwise."""
REWRITERS: tuple[Role, ...] = (*PEOPLE, "judge")
"""Roles whose rewrites a refiner learns."""
Label = int | None


class Correction(NamedTuple):
    """A round whose root, its step number `step` (from 0), was corrected in the round after it."""

    before: Round
    after: Round
    step: int


def solution(refinement: Refinement) -> Demonstration | None:
    """Prompt -> solution, without a word of the feedback (context distillation: Scheurer et al. 2023, arXiv 2303.16755); None
    where there is no sound one, or its answer is wrong."""
    text, last = refinement.solution, refinement.rounds[-1]
    if text is None or last.right is False:
        return None
    return Demonstration(refinement.prompt, text, last.finish, refinement.place)


def corrections_of(refinement: Refinement) -> list[Correction]:
    """The roots that the round after them has put right: it goes on from there, what stands before is the same word for word,
    and the step in its place is marked right or neutral, or a person wrote it and nobody has marked it."""
    found = []
    for before, after in zip(refinement.rounds, refinement.rounds[1:], strict=False):
        step = before.root
        if step is None or after.how in ("first", "written") or after.since != step:
            continue
        if len(after.steps) > step and _prefix(before, step) == _prefix(after, step):
            one = Correction(before, after, step)
            if _is_corrected(one):
                found.append(one)
    return found


def _prefix(one: Round, step: int) -> str:
    return "".join(each.text for each in one.steps[:step])


def _is_corrected(one: Correction) -> bool:
    new, old = one.after.steps[one.step], one.before.steps[one.step]
    if new.text.strip() == old.text.strip():
        return False
    if new.label is None:
        return one.after.how == "rewritten" and one.before.role in PEOPLE
    return new.label >= 0


def step_pair(prompt: Prompt, one: Correction) -> Comparison:
    """Step-DPO (Lai et al. 2024, arXiv 2406.18629): chosen = the steps before and the corrected step, rejected = the same steps
    and the original one.  Each ends as its step did, and may go on ("length") unless that was the solution's last."""
    return Comparison(
        prompt,
        _until(one.after, one.step),
        _until(one.before, one.step),
        chosen_finish=_end(one.after, one.step),
        rejected_finish=_end(one.before, one.step),
    )


def _until(one: Round, step: int) -> str:
    return _prefix(one, step + 1)


def _end(one: Round, step: int) -> Finish:
    return one.finish if step == len(one.steps) - 1 else "length"


def step_pairs(refinement: Refinement) -> list[Comparison]:
    """`step_pair` of every correction."""
    return [step_pair(refinement.prompt, one) for one in corrections_of(refinement)]


def solution_pair(refinement: Refinement) -> Comparison | None:
    """The last solution above the first one; None where there is no sound last one, where both are the same, and where the
    first one was not found to be wrong, in a step or in its answer."""
    last, first = solution(refinement), refinement.rounds[0]
    if last is None or last.response.strip() == first.text.strip():
        return None
    if first.root is None and first.right is not False:
        return None
    return Comparison(
        refinement.prompt, last.response, first.text, chosen_finish=last.finish, rejected_finish=first.finish
    )


def edit_distance(first: str, second: str) -> float:
    """The least number of words that are put in, taken out or put in another's place to make one text the other
    (Levenshtein 1966, over words), as a share of the longer one's words: 0 (the same words) to 1 (none kept)."""
    a, b = first.split(), second.split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1] / max(len(a), len(b), 1)


# marks ------------------------------------------------------------------------------------------------------------------


def step_marks(refinement: Refinement) -> list[StepMarks]:
    """The steps of each marked round: the labels up to and with the first wrong step, None behind it (as PRM800K's second
    phase: Lightman et al. 2023, arXiv 2305.20050); whether the answer is right is the outcome."""
    marked = [one for one in refinement.rounds if one.role is not None]
    labels = last_word([_said(one) for one in marked])
    return [
        StepMarks(
            refinement.prompt,
            tuple(step.text for step in one.steps),
            _to_first_error(own),
            finish=one.finish,
            outcome=one.right,
        )
        for one, own in zip(marked, labels, strict=True)
        if any(label is not None for label in own)
    ]


def _said(one: Round) -> tuple[list[str], list[Label]]:
    return [step.text for step in one.steps], [step.label for step in one.steps]


def _to_first_error(labels: Sequence[Label]) -> tuple[Label, ...]:
    first = labels.index(-1) if -1 in labels else len(labels)
    return (*labels[: first + 1], *[None] * (len(labels) - first - 1))


def last_word(rounds: Sequence[tuple[Sequence[str], Sequence[Label]]]) -> list[list[Label]]:
    """The labels of the rounds of one refinement, (steps, labels) each, where a later look at the same steps holds.

    A step that an earlier round called right and a later one wrong, or the other way round, behind the same steps, gets the later
    label; what was marked behind it went by the earlier one, and is taken back (None).
    """
    found = [list(labels) for _, labels in rounds]
    for number, (steps, _) in enumerate(rounds):
        for later, looked in rounds[number + 1 :]:
            step = _first_change(found[number], steps, later, looked)
            if step is not None:
                rest = len(found[number]) - step - 1
                found[number] = [*found[number][:step], looked[step], *[None] * rest]
    return found


def _first_change(
    labels: Sequence[Label], steps: Sequence[str], later: Sequence[str], looked: Sequence[Label]
) -> int | None:
    """The first step of a common beginning of which one look says that it is wrong, and the other that it is not."""
    for step, (text, other) in enumerate(zip(steps, later, strict=False)):
        if text.strip() != other.strip() or step >= min(len(labels), len(looked)):
            return None
        before, after = labels[step], looked[step]
        if before is not None and after is not None and (before == -1) != (after == -1):
            return step
    return None


# a refiner --------------------------------------------------------------------------------------------------------------


def rewrites(refinement: Refinement) -> list[Demonstration]:
    """What a refiner is told of a root (`told`) -> the step as a person or a judge rewrote it; one that was marked wrong in its
    turn is left out (Self-Refine: Madaan et al. 2023, arXiv 2303.17651)."""
    found = []
    for number, one in enumerate(refinement.rounds):
        step = one.root
        if step is None or one.role not in REWRITERS:
            continue
        wrong = one.steps[step]
        if wrong.rewrite and wrong.rewrite.strip() and not _was_refused(refinement.rounds, number, step):
            asked = told(refinement.prompt, one.steps, step, wrong.explanation)
            found.append(Demonstration(asked, wrong.rewrite.strip(), place=refinement.place))
    return found


def _was_refused(rounds: Sequence[Round], number: int, step: int) -> bool:
    """Whether the rewrite of a round's root stands in the next round and is marked wrong there."""
    if number + 1 == len(rounds):
        return False
    rewrite, after = rounds[number].steps[step].rewrite or "", rounds[number + 1]
    return len(after.steps) > step and (
        after.steps[step].text.strip() == rewrite.strip() and after.steps[step].label == -1
    )
