"""The options of judges that are rules: formulas and verifiers.

reward: [{judge: "formula:length", target: 100, weight: 0.1}, {judge: "verify:numeric", tolerance: 0.01}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator, model_validator

from tutelage.settings.base import Settings, setting
from tutelage.settings.phrases import with_words

FORMULA = "formula:"
VERIFY = "verify:"

Where = Literal["auto", "marked", "boxed", "hashes", "last", "whole"]


class FleschOptions(Settings):
    """How easy a text is to read."""


class LengthOptions(Settings):
    """How far a response is from a length."""

    target: int = setting(..., "Length that scores 0, the best.", unit="tokens", gt=0)


class OverlongOptions(Settings):
    """DAPO's soft punishment of responses that are too long."""

    limit: int = setting(..., "From this length on the score is -1.", unit="tokens", gt=0)
    margin: int | None = setting(
        None,
        "So far below limit the score starts to fall from 0; null = a fifth of limit.",
        unit="tokens",
        ge=0,
    )

    @model_validator(mode="after")
    def _within(self) -> OverlongOptions:
        if self.margin is not None and self.margin > self.limit:
            raise ValueError(
                f"margin ({self.margin}) is above limit ({self.limit}), so that even an empty response is too long: lower it"
            )
        return self


class RepetitionOptions(Settings):
    """How much of a response was said in it before."""

    n: int = setting(3, "Length of the sequences of words that are counted.", unit="words", ge=1)


class KeywordsOptions(Settings):
    """Which of the wanted words a response has."""

    keywords: list[str] = setting(
        [], "Words or phrases that are wanted; empty: those in the prompt's reference.keywords."
    )

    @model_validator(mode="after")
    def _words(self) -> KeywordsOptions:
        if not all(word.strip() for word in self.keywords):
            raise ValueError("keywords has an empty one: leave it out")
        return self


class RegexOptions(Settings):
    """Whether a response fits a pattern."""

    pattern: str = setting(..., "Regular expression of Python; flags go into it, as in (?is).", min_length=1)
    match: Literal["search", "full"] = setting(
        "search", "search: the pattern is found somewhere; full: the whole response is one."
    )
    seconds: float = setting(1.0, "A response that takes longer to match does not.", unit="s", gt=0)


class JsonOptions(Settings):
    """Whether a response is JSON, and fits a schema."""

    json_schema: dict[str, Any] | str = setting(
        {}, "JSON schema that it has to fit, or a file with one; {} = any JSON."
    )


class ExactOptions(Settings):
    """Whether the answer is the right one, letter for letter."""

    extract: Where = setting("whole", "Where the answer stands (docs/rewards.md).")
    case: bool = setting(False, "Whether small and capital letters differ.")


class NumericOptions(Settings):
    """Whether the answer is the right number."""

    extract: Where = setting("auto", "Where the answer stands (docs/rewards.md).")
    tolerance: float = setting(
        1e-6, "How far it may be off, as a share of the right number (of 1, where that is smaller).", ge=0
    )


class MathsOptions(Settings):
    """Whether the answer is mathematically equal to the right one."""

    extract: Where = setting("marked", "Where the answer stands (docs/rewards.md).")
    seconds: float = setting(2.0, "An answer whose equality takes longer to show is wrong.", unit="s", gt=0)
    workers: int = setting(
        0, "Processes that compare at a time; 0 = as many as there are cores.", changes_result=False, ge=0
    )


class ChoiceOptions(Settings):
    """Whether all right options are chosen, and only those."""


class CodeOptions(Settings):
    """Whether Python code passes its tests."""

    score: Literal["all", "share"] = setting(
        "all", "all: 1 where every test passes, else 0; share: the share of tests that pass."
    )
    seconds: float = setting(5.0, "One response's code and tests may run so long.", unit="s", gt=0)
    memory_mib: int = setting(512, "Memory that one response's code may use.", unit="MiB", ge=64)
    workers: int = setting(
        0, "Responses that run at a time; 0 = as many as there are cores.", changes_result=False, ge=0
    )


class HonestyOptions(Settings):
    """Whether the answer is right, wrong, or an admission not to know."""

    cost: float = setting(
        1.0, "What a wrong answer costs, where a right one is worth 1 and none 0.", ge=0, allow_inf_nan=False
    )
    match: Literal["contains", "equals"] = setting(
        "contains", "When an answer is right: it contains an accepted one as whole words, or it equals one."
    )
    abstain: list[str] | None = setting(None, "Phrases that admit not knowing; null = those of eval honesty.")
    refuse: list[str] | None = setting(
        None, "Phrases that decline, which is no answer either; null = those of eval honesty."
    )

    @field_validator("abstain", "refuse")
    @classmethod
    def _said(cls, phrases: list[str] | None) -> list[str] | None:
        return phrases and with_words(phrases)


RULES: Mapping[str, type[Settings]] = {
    "formula:flesch": FleschOptions,
    "formula:length": LengthOptions,
    "formula:overlong": OverlongOptions,
    "formula:repetition": RepetitionOptions,
    "formula:keywords": KeywordsOptions,
    "formula:regex": RegexOptions,
    "formula:json": JsonOptions,
    "verify:exact": ExactOptions,
    "verify:numeric": NumericOptions,
    "verify:maths": MathsOptions,
    "verify:choice": ChoiceOptions,
    "verify:code": CodeOptions,
    "verify:honesty": HonestyOptions,
}
"""A rule's name -> what may be said of it."""


def is_rule(judge: str) -> bool:
    """Whether this names a formula or a verifier."""
    return judge.startswith((FORMULA, VERIFY))


def known_rule(judge: str) -> str:
    """The name of a rule, which is one of RULES.  Raises ValueError, with the names that there are, when it is none."""
    if judge not in RULES:
        kind = FORMULA if judge.startswith(FORMULA) else VERIFY
        names = ", ".join(name for name in RULES if name.startswith(kind))
        raise ValueError(f"there is no judge {judge}: write one of {names}.")
    return judge
