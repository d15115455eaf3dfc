"""Rows of refinements: what a file says of them, in our form or as people write it, as records.

What cannot be a refinement raises ValueError, one sentence with the round and the step (both from 1, as people count); what can
be mended is, and is said in `RefinementLine.mended`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AliasChoices, Field, field_validator

from tutelage.feedback.asking.payloads import MAX_TEXT, Model, Splitter
from tutelage.feedback.asking.steps import split_steps
from tutelage.records import ErrorKind, Finish, How, MarkedStep, Outcome, Prompt, Refinement, Role, Round

MOST_STEPS = 1_000  # of a solution
MOST_ROUNDS = 100
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=200)]
SPLITTERS: tuple[Splitter, ...] = ("paragraphs", "numbered", "lines", "sentences")
GAPS: dict[Splitter, str] = {"paragraphs": "\n\n", "numbered": "\n", "lines": "\n", "sentences": " "}
"""What stands between steps that come without white space of their own."""
BEFORE_ANSWER: dict[Splitter, str] = {"paragraphs": "\n", "numbered": "\n", "lines": " ", "sentences": " "}
"""What stands between the last step and a final answer that belongs to it."""

_SAID = re.compile(
    r"\s*(?:\d{1,3}[.):]\s*)?[*_]*(?P<said>correct|right|ok|neutral|incorrect|wrong)\b[*_]*[\s.:,;–—-]*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LABELS = {"correct": 1, "right": 1, "ok": 1, "neutral": 0, "incorrect": -1, "wrong": -1}
_CAUSE = re.compile(
    r"\b(?:due to|because of|caused by|follows from)\b[^.;\n]{0,60}?\bstep\s+(?P<step>\d{1,4})", re.IGNORECASE
)


class _Said(Model):
    """What is said of a step.  label: 1, 0, -1, true, false, or in words ("Incorrect: why")."""

    label: int | str | None = None
    explanation: Text = ""
    rewrite: Text | None = None
    caused_by: int | None = None
    error: ErrorKind | None = None

    @field_validator("label", mode="before")
    @classmethod
    def _true_or_false(cls, value: Any) -> Any:
        return (1 if value else -1) if isinstance(value, bool) else value


class StepColumns(_Said):
    """A step, with what is said of it.  i: its number, where `caused_by` goes by such numbers (else from 0)."""

    text: Text
    i: int | None = None


class RoundColumns(Model):
    """A round.  feedback: what is said of each step, where the steps are texts alone.  text: the solution as it was written,
    with all white space; answer: its final answer, where no step holds it."""

    steps: Annotated[list[str | StepColumns], Field(max_length=MOST_STEPS)]
    feedback: list[str | _Said | None] = Field(default_factory=list, max_length=MOST_STEPS)
    text: Text | None = None
    answer: Text | None = None
    right: bool | None = Field(None, validation_alias=AliasChoices("right", "answer_ok"))
    how: How | None = None
    since: int | None = None
    finish: Finish = "eos"
    by: Name = ""
    role: Role | None = None
    calls: int = 0  # counted anew from what is stored
    minutes: Annotated[float, Field(ge=0, le=24 * 60)] = 0.0


class RefinementColumns(Model):
    """A refinement.  annotator, role: who marked the rounds that do not say it.  model: what wrote the solutions."""

    rounds: Annotated[list[RoundColumns], Field(min_length=1, max_length=MOST_ROUNDS)]
    checks: list[bool] = Field(default_factory=list, max_length=MOST_ROUNDS)
    outcome: Outcome | None = None
    why: Text = ""
    annotator: Name = ""
    role: Role | None = None
    model: Annotated[str, Field(max_length=2_000)] = "imported"
    split: Annotated[str, Field(min_length=1, max_length=200)] = "train"
    item: Any = None


@dataclass(frozen=True)
class RefinementLine:
    """kind=refinements: what a row says; cut into steps by the project's splitter in `cut`."""

    prompt: Prompt
    said: RefinementColumns

    def parts(self) -> dict[str, str]:
        first = self.said.rounds[0]
        texts = [step if isinstance(step, str) else step.text for step in first.steps]
        rounds = str(len(self.said.rounds))
        return {"prompt": self.prompt.text(), "first solution": "\n".join(texts), "rounds": rounds}


def cut(line: RefinementLine, splitter: Splitter) -> tuple[Refinement, list[str]]:
    """The record, with steps as a splitter cuts them, and what was mended, in sentences.  Raises ValueError."""
    rounds, mended = list[Round](), list[str]()
    for number, said in enumerate(line.said.rounds, 1):
        where = f"round {number}"
        texts = _texts(said, splitter, where)
        marks = _marks(said, where)
        steps, more = _without_false_causes(
            [_step(text, mark) for text, mark in zip(texts, marks, strict=True)], where
        )
        _check_order(steps, where)
        mended += more
        rounds.append(_round(line.said, said, steps, rounds, where))
    kept = line.said
    return Refinement(line.prompt, tuple(rounds), tuple(kept.checks), kept.outcome, kept.why), mended


def fitting(line: RefinementLine) -> Splitter:
    """The splitter that cuts the solutions of a row as the row does.  Raises ValueError, as the usual one does, for none."""
    for splitter in SPLITTERS:
        if _fits(line, splitter):
            return splitter
    return SPLITTERS[0]


def _fits(line: RefinementLine, splitter: Splitter) -> bool:
    try:
        cut(line, splitter)
    except ValueError:
        return False
    return True


# the text ---------------------------------------------------------------------------------------------------------------


def _texts(said: RoundColumns, splitter: Splitter, where: str) -> tuple[str, ...]:
    """The steps of a solution as the splitter cuts it, which must be those of the row."""
    texts = [step if isinstance(step, str) else step.text for step in said.steps]
    if not texts:
        raise ValueError(f"{where} has no step: write its steps, in order")
    empty = next((number for number, text in enumerate(texts, 1) if not text.strip()), 0)
    if empty:
        raise ValueError(f"{where}: step {empty} is empty: write it, or leave it and its mark out")
    whole = said.text if said.text is not None else _joined(texts, splitter)
    if said.answer and said.answer.strip() not in whole:
        end = BEFORE_ANSWER[splitter] + said.answer.strip()
        whole, texts = whole.rstrip() + end, [*texts[:-1], texts[-1].rstrip() + end]
    found = split_steps(whole, splitter)
    other = [
        number for number, (a, b) in enumerate(zip(found, texts, strict=False), 1) if a.strip() != b.strip()
    ]
    if said.text is not None and other:
        raise ValueError(
            f"{where}: step {other[0]} is not what stands in its text: the marks are of another version of the solution"
        )
    if other or len(found) != len(texts):
        raise ValueError(_not_cut_so(texts, found, splitter, where))
    return found


def _joined(texts: Sequence[str], splitter: Splitter) -> str:
    """The solution: steps as they are where each brings the white space behind it, else with what the splitter cuts at."""
    if all(text[-1].isspace() for text in texts[:-1]):
        return "".join(texts)
    return GAPS[splitter].join(text.strip() for text in texts)


def _not_cut_so(texts: Sequence[str], found: Sequence[str], splitter: Splitter, where: str) -> str:
    count = f"{len(found)} step{'s' * (len(found) != 1)}"
    others = [
        one
        for one in SPLITTERS
        if [step.strip() for step in split_steps(_joined(texts, one), one)]
        == [text.strip() for text in texts]
    ]
    advice = (
        f"set splitter to {others[0]} in the project's questions"
        if others
        else "leave no place within a step where one could be cut"
    )
    return f"{where} has {len(texts)} steps, and the project cuts the solution into {count} (splitter: {splitter}): {advice}"


# the marks --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mark:
    label: int | None = None
    explanation: str = ""
    rewrite: str | None = None
    caused_by: int | None = None  # from 0
    error: ErrorKind | None = None


def _marks(said: RoundColumns, where: str) -> list[_Mark]:
    """What is said of each step, in the steps or beside them."""
    own: list[str | _Said | None] = [None if isinstance(step, str) else step for step in said.steps]
    numbers = [step.i for step in said.steps if isinstance(step, StepColumns) and step.i is not None]
    first = numbers[0] if numbers else 0
    if said.feedback:
        twice = next(
            (n for n, one in enumerate(own, 1) if isinstance(one, _Said) and one.label is not None), 0
        )
        if twice:
            raise ValueError(
                f"{where}: step {twice} has a label, and feedback has one for it, too: leave one out"
            )
        own = list(said.feedback)
    found = [_mark(one, first, f"{where}: step {number}") for number, one in enumerate(own, 1)]
    missing = len(said.steps) - len(found)
    if missing < 0 or (missing and found[-1].label != -1):
        raise ValueError(
            f"{where}: feedback has {len(found)} entries for {len(said.steps)} steps: write one for each, or end with the first "
            "wrong step"
        )
    return [*found, *[_Mark()] * missing]


def _mark(said: str | _Said | None, first: int, where: str) -> _Mark:
    """first: the number of the first step where `caused_by` is said in numbers."""
    if said is None:
        return _Mark()
    if isinstance(said, str):
        return _in_words(said, where)
    words = _in_words(said.label, where) if isinstance(said.label, str) else _Mark(said.label)
    if words.label not in (None, *_LABELS.values()):
        raise ValueError(f"{where}: the label is {words.label}, and it is 1, 0 or -1 (right, neutral, wrong)")
    cause = words.caused_by if said.caused_by is None else said.caused_by - first
    # Its line break stays: a rewrite in the place of a last step says so that something follows.
    rewrite = said.rewrite if said.rewrite and said.rewrite.strip() else None
    found = _Mark(words.label, said.explanation or words.explanation, rewrite, cause, said.error)
    if words.label != -1 and (cause is not None or said.error is not None):
        name = "caused_by" if cause is not None else "error"
        raise ValueError(f"{where} is not marked wrong, and {name} is said of wrong steps only: leave it out")
    return found


def _in_words(text: str, where: str) -> _Mark:
    """ "Correct", "Neutral", "Incorrect: why", "Incorrect due to the error in step 4" (steps from 1, as people count)."""
    found = _SAID.match(text)
    if found is None:
        raise ValueError(
            f"{where}: the feedback {text[:60]!r} does not begin with Correct, Neutral or Incorrect: write which it is"
        )
    label, why = _LABELS[found["said"].lower()], found["rest"].strip()
    cause = _CAUSE.match(why) or _CAUSE.search(why) if label == -1 else None
    return _Mark(label, why if label == -1 else "", caused_by=int(cause["step"]) - 1 if cause else None)


def _step(text: str, mark: _Mark) -> MarkedStep:
    return MarkedStep(text, mark.label, mark.explanation, mark.rewrite, mark.caused_by, mark.error)


def _without_false_causes(
    steps: Sequence[MarkedStep], where: str
) -> tuple[tuple[MarkedStep, ...], list[str]]:
    """A step follows from a wrong one before it; where another is named, from the nearest one before it that is wrong by itself,
    and where there is none it is wrong by itself."""
    found, mended = list[MarkedStep](), list[str]()
    for number, step in enumerate(steps):
        cause = step.caused_by
        if cause is not None and not (0 <= cause < number and found[cause].label == -1):
            root = next((n for n in reversed(range(number)) if found[n].is_root), None)
            instead = (
                "nothing before it is, so it is wrong by itself"
                if root is None
                else f"taken: step {root + 1}"
            )
            mended.append(
                f"{where}: step {number + 1} is said to follow from step {cause + 1}, which is no wrong step before it; {instead}"
            )
            step = MarkedStep(step.text, step.label, step.explanation, step.rewrite, root, step.error)
        found.append(step)
    return tuple(found), mended


def _check_order(steps: Sequence[MarkedStep], where: str) -> None:
    """Marks run from the first step on, without a gap: so they are stored, and so they are given."""
    labels = [step.label for step in steps]
    marked = labels.index(None) if None in labels else len(labels)
    later = next((n for n, label in enumerate(labels[marked:], marked + 1) if label is not None), 0)
    if later:
        raise ValueError(
            f"{where}: step {later} is marked, and step {marked + 1} before it is not: mark that, too"
        )


# the way ----------------------------------------------------------------------------------------------------------------


def _round(
    row: RefinementColumns,
    said: RoundColumns,
    steps: tuple[MarkedStep, ...],
    before: Sequence[Round],
    where: str,
) -> Round:
    marked = any(step.label is not None for step in steps)
    if not marked and (said.by or said.role):
        raise ValueError(
            f"{where} says who marked it, and has no mark: give its labels, or leave by and role out"
        )
    how, since = _came_about(said, steps, before[-1] if before else None, where)
    by = (said.by or row.annotator or "expert") if marked else ""
    role: Role | None = (said.role or row.role or "expert") if marked else None
    return Round(steps, how, since, said.right, said.finish, by, role, minutes=said.minutes)


def _came_about(
    said: RoundColumns, steps: Sequence[MarkedStep], before: Round | None, where: str
) -> tuple[How, int]:
    """How a solution came about and from which step on it is new: as it is said, or as a look at both solutions says."""
    if before is None:
        if said.how not in (None, "first", "written") or said.since:
            raise ValueError(
                f"{where} is the first, before which there is no solution: leave how and since out"
            )
        return said.how or "first", 0
    same = _in_common(before.steps, steps)
    root = before.root
    since = said.since if said.since is not None else same if root is None else min(same, root)
    if not 0 <= since < len(steps):
        since_said = f"{where} is said to be new from its step {since + 1} on"
        raise ValueError(f"{since_said}, and has {len(steps)} steps: since is the number of a step, from 0")
    if said.how != "written" and same < since:
        raise ValueError(
            f"{where}: step {same + 1} is another than in the round before, and since={since} says that it is the same: mend one"
        )
    if said.how is not None:
        if said.how == "first":
            raise ValueError(
                f"{where} is not the first: say how it came about ({', '.join(get_args(How)[1:])})"
            )
        return said.how, since
    return _how(steps, before, since), since


def _in_common(one: Sequence[MarkedStep], other: Sequence[MarkedStep]) -> int:
    """How many steps two solutions begin with alike; one of two is always left."""
    same = 0
    for a, b in zip(one, other[:-1], strict=False):
        if a.text.strip() != b.text.strip():
            break
        same += 1
    return same


def _how(
    steps: Sequence[MarkedStep], before: Round, since: int
) -> Literal["rewritten", "explained", "regenerated"]:
    if since != before.root:
        return "regenerated"
    old = before.steps[since]
    if old.rewrite is not None and old.rewrite.strip() == steps[since].text.strip():
        return "rewritten"
    return "explained" if old.explanation else "regenerated"
