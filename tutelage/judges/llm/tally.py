"""What a judge's answers were like, in counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What a judge's answers were like, in counts.

    answers: questions that were to give a verdict; unparsed: those that gave none, also when asked again; repaired: those that
    gave one then; pairs: asked about in both orders, with a verdict in both; flips: those that differ in who is better;
    first: verdicts for the response shown first, of `decided` that are for one of them; scores: of responses by each
    criterion, on the template's scale.
    """

    answers: int = 0
    unparsed: int = 0
    repaired: int = 0
    pairs: int = 0
    flips: int = 0
    first: int = 0
    decided: int = 0
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def figures(self) -> dict[str, float]:
        """Shares by the names that docs/metrics.md explains; none of nothing."""
        shares = {
            "unparsed_rate": (self.unparsed, self.answers),
            "repaired_rate": (self.repaired, self.answers),
            "flip_rate": (self.flips, self.pairs),
            "first_position_rate": (self.first, self.decided),
        }
        return {name: count / of for name, (count, of) in shares.items() if of}

    def scored(self, scores: Mapping[str, tuple[float, float]]) -> None:
        """Count what two responses were given by each criterion."""
        for criterion, both in scores.items():
            self.scores[criterion] += both
