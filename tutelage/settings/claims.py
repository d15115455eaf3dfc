"""What a file of claims says of each: where it was said, how it is tested, and which effect would bear it out."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from tutelage.settings.base import Settings, setting


class EffectSettings(Settings):
    """A number of a claim's study, and the bound that was set for it beforehand."""

    what: str = setting(..., "What it is, in a few words.")
    metric: str = setting(..., "The metric, as the results name it.")
    results: str = setting("", "Stage whose results it is in; empty: that of the study.")
    task: str = setting("", "Of this task alone; empty: of all.")
    first: dict[str, Any] = setting(
        {}, "The side that it is of: labels of axes, and `model` where cells have several; {}: all cells."
    )
    second: dict[str, Any] | None = setting(
        None, "The side that is subtracted, paired by everything else; null: nothing is."
    )
    above: float | None = setting(
        None, "Holds where it is surely above this, and does not where surely below."
    )
    below: float | None = setting(
        None, "Holds where it is surely below this, and does not where surely above."
    )
    within: float | None = setting(
        None, "Holds where it is surely within plus and minus this, and does not where surely outside.", gt=0
    )

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        bounds = [name for name in ("above", "below", "within") if getattr(self, name) is not None]
        if len(bounds) != 1:
            raise ValueError(
                f"'{self.what}' has {' and '.join(bounds) or 'no bound'}: give it one of above, below and within"
            )
        return self


class ClaimSettings(Settings):
    """Something that somebody said, put to the test."""

    claim: str = setting(..., "What is said.")
    source: str = setting(..., "Who says it, and where.")
    test: str = setting(..., "What is done to find out, in a sentence or two.")
    change: str = setting(..., "What would change the verdict.")
    study: dict[str, Any] | str = setting(
        ...,
        "The study, as a file of its own has it (axes, stages, results, constants, repeats); the path of such a file; or the "
        "name of an earlier claim, whose study says something of this one, too.",
    )
    effects: list[dict[str, Any]] = setting(
        ..., "The numbers that decide: what, metric, first, second, and above, below or within."
    )
