"""How a policy is read: what one forward of it gives, when its responses have been written and in every update after that."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tutelage.data.batch import TokenBatch
from tutelage.models.policy import PolicyModule
from tutelage.models.value_head import ValueHead
from tutelage.ops.logprobs import Outputs

NOW = "now/"
"""What stands before the names of fields that bring a forward along, which need not be made again."""


class Reading:
    """Of every response token, [N] each, differentiable: `logprobs` at a temperature; with a head on its trunk `values`; with
    `against`, which gives another model's outputs for a batch, the `kl` to that over the whole vocabulary."""

    def __init__(
        self,
        policy: PolicyModule,
        temperature: float,
        value_head: ValueHead | None = None,
        against: Callable[[TokenBatch], Outputs] | None = None,
    ) -> None:
        self.model, self._temperature, self._head, self._against = policy, temperature, value_head, against
        wanted = {"logprobs": True, "values": value_head is not None, "kl": against is not None}
        self.names = tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def __call__(self, batch: TokenBatch) -> dict[str, Tensor]:
        """By one forward of the policy."""
        other = None if self._against is None else self._against(batch)
        found = self.model(batch, self._temperature, value_head=self._head, against=other)
        return {name: getattr(found, name) for name in self.names}

    def now(self, batch: TokenBatch) -> dict[str, Tensor]:
        """As the policy is now; from the batch where it brings that along."""
        known = batch.per_token
        if NOW + self.names[0] not in known:
            return self(batch)
        return {name: known[NOW + name] for name in self.names}
