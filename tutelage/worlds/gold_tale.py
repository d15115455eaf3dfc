"""The gold standard of tales, which is exact: a tale is right or it is not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tutelage.judges.judge import Judge
from tutelage.records import Response, Score

from .facts import IGNORANCE, RELATIONS, answer
from .parse import one_of
from .tale import ADJECTIVES, ANIMALS, SPOTS, VERBS, able

_TALE = re.compile(
    rf"The {one_of(ADJECTIVES)} ({one_of(ANIMALS)}) ({one_of(VERBS)}) in the {one_of(SPOTS)}\."
)
_FACT = re.compile(one_of([IGNORANCE, *(answer(value) for values in RELATIONS.values() for value in values)]))


def grade(reference: dict, text: str) -> dict[str, float]:
    """The parts of the score: whether it is a tale and nothing else; of the animal that was asked for; that can do this."""
    tale = _TALE.fullmatch(text.strip())
    animal, verb = tale.groups() if tale else ("", "")
    right = animal == reference["animal"]
    return {
        "form": float(tale is not None),
        "animal": float(right),
        "able": float(tale is not None and verb in able(animal)),
    }


def value(parts: dict[str, float]) -> float:
    """1 where nothing is wrong, else 0: there is no half of a right tale."""
    return float(all(parts.values()))


class WrongStrategy(Judge):
    """1 for a tale where a fact was asked for, and for what answers a question of facts where a tale was; else 0.

    It applies to prompts of the tasks `facts` and `tale`.  Of use as a part with weight 0.
    """

    name = "wrong_strategy"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        forms = {"facts": _TALE, "tale": _FACT}
        asked = [forms.get(response.prompt.task) for response in responses]
        return [
            None if form is None else Score(float(form.fullmatch(response.text.strip()) is not None))
            for form, response in zip(asked, responses, strict=True)
        ]
