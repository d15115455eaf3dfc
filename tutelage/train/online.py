"""Online DPO: learn from pairs of one's own responses, step after step (Guo et al. 2024, arXiv 2402.04792).

Per step: several responses to each prompt, all scored; the best and the worst are a pair, which is learnt from by any loss of
`preference`.  The reference stays what training started from: with labels sigmoid(difference in score) the policy that is optimal
for E[score] - beta KL stays where it is.  With `ref_refresh` the reference is an earlier policy, and each refresh starts from
what was reached: without a bound on its rounds the policy drifts on.  A prompt whose responses are all worth the same gives no
pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tutelage.data.batch import TokenBatch
from tutelage.models.policy import PolicyModule
from tutelage.ops.masked import segment_sum
from tutelage.parallel import World
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.runs import Run
from tutelage.settings.rl import OnlineDPOSettings as Settings
from tutelage.train.algorithm import Loss, Updates
from tutelage.train.onpolicy import on_policy
from tutelage.train.policy_update import passes
from tutelage.train.preference import PairScores, explain, pair_loss

Log = Callable[[Mapping[str, float]], None]


class OnlineDPO:
    """The algorithm: pairs of the policy's own responses as batches.  `log` takes the metrics of rollouts."""

    def __init__(self, policy: PolicyModule, rollouts: Rollouts, settings: Settings, log: Log) -> None:
        self.trained: dict[str, nn.Module] = {"policy": policy, **rollouts.kept}
        self._policy, self._rollouts, self._settings, self._log = policy, rollouts, settings, log

    def batches(self, step: int) -> Updates:
        """The pairs of this step, as often as `inner_epochs` says; none where the judge sees no difference."""
        settings, experience = self._settings, self._rollouts.collect(step)
        pairs = best_and_worst(experience, settings)
        prompts = int(experience.group.max()) + 1 if len(experience.responses) else 0
        metrics = {"online/pairs_share": len(pairs) / max(1, prompts)}
        self._log({**experience.metrics(settings.kl_coef), **metrics})
        if pairs:
            yield from passes(pairs_batch(experience, pairs, settings), {}, settings, step, self._log)

    def loss(self, batch: TokenBatch) -> Loss:
        """The losses by weight, each a mean over pairs."""
        scores = PairScores.of(self._policy, batch, self._settings.temperature)
        return pair_loss(scores, self._settings, batch.per_unit["p_chosen"])


def best_and_worst(experience: Experience, settings: Settings) -> list[tuple[int, int]]:
    """The numbers of the best and of the worst response of each group, the first ones of equals; none of a group in which all are
    worth the same."""
    groups: dict[int, list[int]] = {}
    for number, (group, response) in enumerate(
        zip(experience.group.tolist(), experience.responses, strict=True)
    ):
        if settings.truncated == "score" or response.finish != "length":
            groups.setdefault(group, []).append(number)
    worth = experience.paid.tolist()
    found = []
    for numbers in groups.values():
        best, worst = max(numbers, key=lambda n: worth[n]), min(numbers, key=lambda n: worth[n])
        if worth[best] > worth[worst]:
            found.append((best, worst))
    return found


def pairs_batch(experience: Experience, pairs: Sequence[tuple[int, int]], settings: Settings) -> TokenBatch:
    """Units of two sequences, (better, worse), with `ref_logprobs` per sequence and `p_chosen` per unit."""
    whole = experience.batch
    batch = whole.take([number for pair in pairs for number in pair])
    ref = segment_sum(batch.per_token["ref_logprobs"], batch.lengths)
    worth = experience.paid[torch.tensor(pairs, device=whole.device)]
    p_chosen = torch.ones(len(pairs), device=whole.device)
    if settings.soft_labels:
        p_chosen = torch.sigmoid(worth[:, 0] - worth[:, 1])
    return replace(
        batch,
        unit_sizes=(2,) * len(pairs),
        per_token={},
        per_sequence={"ref_logprobs": ref} if settings.needs_reference else {},
        per_unit={"p_chosen": p_chosen},
    )


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    explain(settings, run.console)
    if settings.ref_refresh:
        run.console.print(
            f"ref_refresh={settings.ref_refresh}: the policy is held to what it was itself, and drifts on: watch eval and the KL "
            "to the model it started from.",
            style="yellow",
        )
    start = on_policy(settings, world, run)
    algorithm = OnlineDPO(start.policy, start.rollouts, settings, run.log)
    return start.learn(algorithm, settings, world, run)
