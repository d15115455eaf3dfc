"""What an evaluation spends on generating."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage import cost
from tutelage.models.policy import PolicyModule
from tutelage.runs import Run


class Spent:
    """Counts the tokens that a generator draws from a model (as its `progress`)."""

    def __init__(self, model: PolicyModule) -> None:
        self.tokens = 0
        self._parameters = sum(p.numel() for p in model.parameters())

    def __call__(self, tokens: int, responses: int) -> None:
        self.tokens += tokens

    @property
    def flops(self) -> float:
        """An estimate (`cost.flops`)."""
        return cost.flops(self._parameters, 0, self.tokens)


def note_spent(run: Run, each: Sequence[Spent]) -> None:
    """Put it into the run's lineage."""
    run.note(tokens_generated=sum(s.tokens for s in each), flops=sum(s.flops for s in each))
