"""What a model is told of a wrong step, for writing it again: by a refiner, or by the model itself with the explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tutelage.records import MarkedStep, Message, Prompt


def told(prompt: Prompt, steps: Sequence[MarkedStep], step: int, explanation: str) -> Prompt:
    """A prompt that is answered by step `step` (from 0) written again: the problem, the solution as far as that step, and what
    is wrong with it, in one turn; a plain prompt stays plain.

    Nothing of it is in what is learnt later: the explanation is a help for writing, not a part of the problem.
    """
    said = "".join(one.text for one in steps[: step + 1]).rstrip()
    teacher = f"Teacher: step {step + 1}" + (
        f": {explanation.strip()}" if explanation.strip() else " is wrong."
    )
    more = f"\n{said}\n{teacher}"
    if isinstance(prompt.content, str):
        return Prompt(prompt.content + more + "\n", prompt.task)
    last = prompt.content[-1]
    turns = (*prompt.content[:-1], replace(last, content=last.content + more))
    if last.role != "user":
        turns = (*prompt.content, Message("user", more.strip()))
    return Prompt(turns, prompt.task, tools=prompt.tools)
