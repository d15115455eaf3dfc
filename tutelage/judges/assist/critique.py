"""A critique behind the response that it is about: what a reward model reads that scores by critiques.

Critique, then score (Ankner et al. 2024, arXiv 2408.11791): the reward model reads prompt, response and what an assistant found
in the response; its loss is that of every reward model.  Who uses it asks the same assistant first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.judges.assist.assistant import Assistant
from tutelage.judges.reward_model import RewardModelJudge
from tutelage.models.policy import ScalarModule
from tutelage.records import Response, Score

TEMPLATE = "critique-1"
MARK = "\n\nCritique: "
CONFIG = "tutelage_score_critique"
"""Where a model's config says in which words it reads critiques."""


def critiqued(text: str, critique: str) -> str:
    """A response with its critique behind it.  A response that holds the mark itself cannot pass for one."""
    return f"{text.replace(MARK, ' ')}{MARK}{critique}"


def without_critique(text: str) -> str:
    """The response alone."""
    return text.partition(MARK)[0]


def reads_critiques(config: Any) -> bool:
    """Whether a model was trained on critiques.  Raises ValueError where they were put in other words."""
    found = getattr(config, CONFIG, None)
    if found not in (None, TEMPLATE):
        raise ValueError(
            f"{config.name_or_path or 'this reward model'} reads critiques as {found}, and this version writes them as "
            f"{TEMPLATE}: train it again."
        )
    return found == TEMPLATE


def read_critiques(model: ScalarModule, reads: bool) -> None:
    """Say in a model's config whether it reads critiques."""
    if reads:
        setattr(model.config, CONFIG, TEMPLATE)
    elif hasattr(model.config, CONFIG):  # it starts from a reward model that did
        delattr(model.config, CONFIG)


class CritiqueJudge(RewardModelJudge):
    """A reward model that reads what its assistant says of each response."""

    assistant: Assistant

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """The head's value at the last token of the critique."""
        found = self.assistant.review(responses)
        texts = (critiqued(one.text, said.text) for one, said in zip(responses, found, strict=True))
        return super().score(
            [
                Response.written(one.prompt, text, one.finish)
                for one, text in zip(responses, texts, strict=True)
            ]
        )
