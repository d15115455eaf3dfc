"""Whether an answer fits the questions: everything that pydantic cannot know because it depends on the item."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.feedback.asking.payloads import (
    Answer,
    ItemType,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
)
from tutelage.feedback.errors import Refused


def check_answer(answer: Answer, type: ItemType, schema: Schema, shown: Sequence[str], steps: int) -> None:
    """Refused: invalid, in one sentence, when the answer does not fit.

    `shown` are the texts of the responses, `steps` into how many steps the first was cut (type step).
    """
    if answer.type != type:
        _refuse(f"this item wants an answer of type '{type}', not '{answer.type}'")
    if answer.confidence is not None and not schema.confidence:
        _refuse("confidence is not asked here")
    if answer.reason and schema.reason == "off":
        _refuse("a reason is not asked here")
    if not answer.reason.strip() and schema.reason == "required":
        _refuse("a reason is missing")
    if isinstance(answer, PairAnswer | RankAnswer | RateAnswer):
        _check_acceptable(answer.acceptable, schema, len(shown))
    if isinstance(answer, PairAnswer):
        _check_pair(answer, schema)
    elif isinstance(answer, RankAnswer):
        _check_rank(answer, schema, len(shown))
    elif isinstance(answer, RateAnswer):
        _check_rate(answer, schema, len(shown))
    elif isinstance(answer, StepAnswer):
        _check_steps(answer, schema, steps)
    elif isinstance(answer, RewriteAnswer):
        _check_rewrite(answer, shown)


def dense(ranks: Sequence[float]) -> tuple[int, ...]:
    """Ranks without gaps: (1, 3, 3) becomes (1, 2, 2)."""
    places = {rank: place for place, rank in enumerate(sorted(set(ranks)), start=1)}
    return tuple(places[rank] for rank in ranks)


def _check_acceptable(acceptable: Sequence[bool | None], schema: Schema, slots: int) -> None:
    if any(value is not None for value in acceptable) and not schema.acceptable:
        _refuse("whether responses are acceptable is not asked here")
    if acceptable and len(acceptable) != slots:
        _refuse(f"acceptable has {len(acceptable)} entries for {slots} responses")


def _check_pair(answer: PairAnswer, schema: Schema) -> None:
    names = {criterion.name for criterion in schema.criteria} if schema.compare_criteria else set()
    for name, preference in {"preference": answer.preference, **answer.criteria}.items():
        if name != "preference" and name not in names:
            _refuse(f"the criterion '{name}' is not asked here")
        if abs(preference) > schema.strength:
            _refuse(f"{name} {preference} is beyond the scale of {schema.strength} steps per side")
        if preference == 0 and not schema.ties:
            _refuse(f"{name} is a tie, which is not offered here")


def _check_rank(answer: RankAnswer, schema: Schema, slots: int) -> None:
    if len(answer.ranks) != slots:
        _refuse(f"there are {len(answer.ranks)} ranks for {slots} responses")
    if not schema.ties and len(set(answer.ranks)) < slots:
        _refuse("two responses have the same rank, which is not offered here")


def _check_rate(answer: RateAnswer, schema: Schema, slots: int) -> None:
    wanted = [criterion.name for criterion in schema.criteria]
    for name in wanted:
        if name not in answer.ratings:
            _refuse(f"the criterion '{name}' is not rated")
    for name, values in answer.ratings.items():
        if name not in wanted:
            _refuse(f"the criterion '{name}' is not asked here")
        if len(values) != slots:
            _refuse(f"'{name}' has {len(values)} ratings for {slots} responses")
        if any(value is not None and value > schema.scale for value in values):
            _refuse(f"'{name}' is rated beyond the scale, which ends at {schema.scale}")


def _check_steps(answer: StepAnswer, schema: Schema, steps: int) -> None:
    if [mark.step for mark in answer.marks] != list(range(len(answer.marks))):
        _refuse("steps are marked in order, each once, from step 0")
    wrong = [mark.step for mark in answer.marks if mark.label == -1]
    if schema.first_error and wrong and wrong[0] != answer.marks[-1].step:
        _refuse("marking ends at the first wrong step here")
    ended = bool(schema.first_error and wrong) or answer.finish in ("bad-problem", "give-up")
    if len(answer.marks) > steps or (len(answer.marks) < steps and not ended):
        _refuse(f"{len(answer.marks)} steps are marked of {steps}")
    for mark in answer.marks:
        if mark.error is not None and mark.label != -1:
            _refuse(f"step {mark.step} has a kind of error, but is not marked wrong")
        if mark.caused_by is not None and (
            mark.label != -1 or mark.caused_by not in wrong[: wrong.index(mark.step)]
        ):
            _refuse(
                f"step {mark.step} follows from step {mark.caused_by}, but not both are wrong, in this order"
            )


def _check_rewrite(answer: RewriteAnswer, shown: Sequence[str]) -> None:
    if not answer.text.strip():
        _refuse("the text is empty")
    if shown and answer.text == shown[0]:
        _refuse("the text is the same as before: change it, or skip the item")


def _refuse(what: str) -> None:
    raise Refused("invalid", f"{what}: reload the page and answer again.")
