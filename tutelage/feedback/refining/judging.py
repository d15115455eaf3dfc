"""Whether a solution's answer is right, by what the prompt's reference holds."""

from __future__ import annotations

from functools import lru_cache

from tutelage.judges.verify.answers import last_number, numeric, truths_in
from tutelage.judges.verify.choice import choice, right_letters
from tutelage.judges.verify.maths import maths
from tutelage.judges.verify.verifier import Verifier
from tutelage.records import Prompt, Response
from tutelage.settings.rules import ChoiceOptions, MathsOptions, NumericOptions


def is_right(prompt: Prompt, text: str) -> bool | None:
    """Whether the answer in a text is right; None where the prompt has no reference that says so.

    Right options (letters) are compared as a set; numbers as numbers, the last one of a text being its answer where none is
    marked; all else is compared as formulas, behind a mark (docs/rewards.md).
    """
    verifier = _verifier_of(prompt)
    if verifier is None:
        return None
    score = verifier.score([Response(prompt, text, (), (), (), "eos")])[0]
    return None if score is None else score.value > 0.5


def _verifier_of(prompt: Prompt) -> Verifier | None:
    reference = prompt.reference or {}
    if right_letters(reference) is not None:
        return _choice()
    truths = truths_in(reference)
    if not truths:
        return None
    numbers = [last_number(text) for text in truths]
    plain = all(text.replace(",", "").strip("-+.$% 0123456789/") == "" for text in truths)
    return _numeric() if plain and None not in numbers else _maths()


@lru_cache(1)
def _choice() -> Verifier:
    return choice("verify:choice", ChoiceOptions())


@lru_cache(1)
def _numeric() -> Verifier:
    return numeric("verify:numeric", NumericOptions())


@lru_cache(1)
def _maths() -> Verifier:
    """One process for algebra: a person waits for one answer at a time."""
    return maths("verify:maths", MathsOptions(workers=1))
