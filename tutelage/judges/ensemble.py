"""Several reward models that speak with one voice (Coste et al. 2023, arXiv 2310.02743)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

from torch import nn

from tutelage.judges.judge import Judge, scores_of
from tutelage.records import Response, Score

STD = "std"


class Ensemble(Judge):
    """What optimisation can exploit in one reward model it seldom can in all.

    combine: "mean"; "worst", the lowest score (WCO); "uncertainty", mean - uncertainty_coef x variance over the members,
    divided by their number (UWO).  Members are {name: judge}; their scores must have one unit (`Calibrated`).
    `Score.parts` has each member's score and their standard deviation `std`.
    """

    name = "ensemble"

    def __init__(self, members: dict[str, Judge], combine: str, uncertainty_coef: float) -> None:
        assert len(members) > 1 and combine in ("mean", "worst", "uncertainty")
        self._members, self._combine, self._coef = members, combine, uncertainty_coef
        held = [member.state for member in members.values() if member.state is not None]
        self.state = nn.ModuleList(held) if held else None

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """Raises ValueError naming the prompt to which a member does not apply."""
        by_member = [scores_of(member, responses) for member in self._members.values()]
        return [self._combined([score.value for score in scores]) for scores in zip(*by_member, strict=True)]

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        sample = cache(sample)  # the same responses do for all
        found = [member.calibrate(sample) for member in self._members.values()]
        return "\n".join(sentence for sentence in found if sentence) or None

    def _combined(self, values: Sequence[float]) -> Score:
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        if self._combine == "worst":
            value = min(values)
        else:
            value = mean - (self._coef * variance if self._combine == "uncertainty" else 0.0)
        return Score(value, {**dict(zip(self._members, values, strict=True)), STD: math.sqrt(variance)})
