"""The verifier that a setting names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tutelage.judges.judge import Judge
from tutelage.judges.verify.answers import exact, numeric
from tutelage.judges.verify.choice import choice
from tutelage.judges.verify.code import code
from tutelage.judges.verify.honesty import honesty
from tutelage.judges.verify.maths import maths
from tutelage.settings.base import Settings


def verifier(name: str, options: Settings) -> Judge:
    """The verifier of this name (`verify:numeric`) with its options (`settings/rules.py`)."""
    return MAKERS[name](name, options)


MAKERS: Mapping[str, Callable[[str, Any], Judge]] = {
    "verify:exact": exact,
    "verify:numeric": numeric,
    "verify:maths": maths,
    "verify:choice": choice,
    "verify:code": code,
    "verify:honesty": honesty,
}
