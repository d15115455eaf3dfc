"""The gold standard of the embedded world: it reads any response, whoever wrote it, and says how good it is and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tutelage.judges.judge import Judge
from tutelage.records import Prompt, Response, Score

from . import gold_conversation, gold_maths, gold_options, gold_summary, gold_tale, letters

Parts = dict[str, float]


class Standard(NamedTuple):
    """How one task is graded: parts from (reference, response text), and the value made of the parts."""

    grade: Callable[[dict, str], Parts]
    value: Callable[[Parts], float]


STANDARDS = {
    "conversation": Standard(gold_conversation.grade, gold_conversation.value),
    "summary": Standard(gold_summary.grade, gold_summary.value),
    "maths": Standard(gold_maths.grade, gold_maths.value),
    "options": Standard(gold_options.grade, gold_options.value),
    "tale": Standard(gold_tale.grade, gold_tale.value),
    letters.TASK: Standard(letters.judged, letters.value),
}


def gradable(prompt: Prompt) -> bool:
    """Whether this is a prompt of the world, with what grading needs."""
    return prompt.task in STANDARDS and prompt.reference is not None


def grade(prompt: Prompt, response_text: str) -> Score:
    """The score of a response: `value` in [0, 1] (1 = without fault) and its parts, each in [0, 1].

    Any text is graded, however long or strange. Raises ValueError when the prompt is not one of this world's: its task
    is unknown or its reference is missing.
    """
    standard = STANDARDS.get(prompt.task)
    if standard is None or prompt.reference is None:
        known = ", ".join(STANDARDS)
        raise ValueError(
            f"no gold standard for a prompt of task {prompt.task!r} (known: {known}) with reference {prompt.reference}"
        )
    parts = standard.grade(dict(prompt.reference), response_text)
    return Score(round(standard.value(parts), 6), parts)


def mark(prompt: Prompt, steps: Sequence[str]) -> list[int | None] | None:
    """What the expert says of the steps of a solution, up to the first wrong one: 1, 0 or -1; None for a task without steps."""
    reference = dict(prompt.reference or {})
    if prompt.task == "maths":
        return gold_maths.mark(reference, list(steps))
    return gold_options.labels(reference, steps) if prompt.task == "options" else None


class GoldStandard(Judge):
    """The gold standard as a judge; it does not apply to prompts of anybody else."""

    name = "gold"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """Raises ValueError naming a prompt whose reference is not what its task needs."""
        return [self._score(response) for response in responses]

    def lacks(self, prompt: Prompt) -> str:
        missing = ["a reference"] if prompt.reference is None else []
        if prompt.task not in STANDARDS:
            missing.append(f"a task of the world ({', '.join(STANDARDS)})")
        return " and ".join(missing)

    def _score(self, response: Response) -> Score | None:
        prompt = response.prompt
        if not gradable(prompt):
            return None
        try:
            return grade(prompt, response.text)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Prompt {prompt.id} (task {prompt.task}) cannot be graded: {error}; the held-out prompts need the column "
                "'reference' that `tutelage world` writes."
            ) from error
