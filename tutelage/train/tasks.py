"""Whether tasks that are learnt together are in each other's way: the cosine between their gradients (Yu et al. 2020, arXiv
2001.06782, definition 1: below 0 they conflict)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch
from tutelage.parallel import World
from tutelage.rollout.reading import NOW
from tutelage.settings.onpolicy import RLSettings
from tutelage.train.algorithm import Algorithm, Loss, Updates
from tutelage.train.fit import accumulate, sum_gradients


class TaskGradients:
    """An algorithm that measures, in the first update of every so many steps, how the policy's gradients of tasks lie to each
    other; what is learnt stays the same to the bit.  `task_of`: of a row of the prompts."""

    def __init__(
        self,
        algorithm: Algorithm,
        task_of: Callable[[int], str],
        settings: RLSettings,
        world: World,
        log: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.trained: dict[str, nn.Module] = algorithm.trained
        self.loss: Callable[[TokenBatch], Loss] = algorithm.loss
        self._algorithm, self._task_of, self._settings = algorithm, task_of, settings
        self._world, self._log = world, log

    def batches(self, step: int) -> Updates:
        """The algorithm's updates."""
        updates, reply = self._algorithm.batches(step), None
        measure = step % self._settings.task_gradients_every == 0
        while True:
            try:
                update = updates.send(reply)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration:
                return
            if measure:
                self._log(self._cosines(update[0]))
                measure = False
            reply = yield update

    def _cosines(self, batch: TokenBatch) -> dict[str, float]:
        """Of each two tasks of a batch; {} where it has one."""
        found = {task: self._gradient(batch.take(units)) for task, units in self._units(batch).items()}
        return {
            f"task/gradient_cosine/{one}~{other}": torch.cosine_similarity(
                found[one], found[other], dim=0
            ).item()
            for one, other in combinations(sorted(found), 2)
        }

    def _units(self, batch: TokenBatch) -> dict[str, list[int]]:
        """The units of each task."""
        units: dict[str, list[int]] = {}
        first = 0
        for unit, size in enumerate(batch.unit_sizes or (1,) * len(batch.lengths)):
            units.setdefault(self._task_of(batch.rows[first]) or "none", []).append(unit)
            first += size
        return units

    def _gradient(self, part: TokenBatch) -> Tensor:
        """float32 [parameters of the policy], of the loss of a part of an update."""
        # A forward that is there already belongs to the update: its graph can be gone through once.
        known = {name: value for name, value in part.per_token.items() if not name.startswith(NOW)}
        policy = self.trained["policy"]
        accumulate(
            self._algorithm, [replace(part, per_token=known)], self._settings.micro_batch_tokens, self._world
        )
        parameters = [p for p in policy.parameters() if p.requires_grad]
        sum_gradients(parameters, self._world)
        found = torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten().float()
                for p in parameters
            ]
        )
        for module in self.trained.values():
            module.zero_grad(set_to_none=True)
        return found
