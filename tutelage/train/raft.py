"""RAFT: fine-tune on the best of one's own responses, step after step (Dong et al. 2023, arXiv 2304.06767).

Per step: several responses to each prompt, of which the best are trained on with the loss of `sft`.  Best is what has the highest

    score - kl_coef * log(policy / reference)          (less what it costs, where that is limited)

with the weight of its task in place of kl_coef, where it has one (`task_kl`).

The second part is a guard.  Without it the policy collapses onto the response that scores highest; with it the policy that is
optimal for E[score] - kl_coef * KL stays where it is, for there all responses are equally good by this measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import nn

from tutelage.data.batch import TokenBatch
from tutelage.models.policy import PolicyModule
from tutelage.ops.losses import nll
from tutelage.ops.masked import masked_sum, segment_sum
from tutelage.parallel import World
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.rollout.select import best_of_each
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.rl import RaftSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.kl import KLController
from tutelage.train.onpolicy import on_policy
from tutelage.train.policy_update import passes

Log = Callable[[Mapping[str, float]], None]


class Raft:
    """The algorithm: the best responses as batches, the loss of fine-tuning.  `log` takes the metrics of rollouts."""

    def __init__(self, policy: PolicyModule, rollouts: Rollouts, settings: Settings, log: Log) -> None:
        self._controller = KLController(settings)
        self.trained: dict[str, nn.Module] = {
            "policy": policy,
            "kl_controller": self._controller,
            **rollouts.kept,
        }
        self._policy, self._rollouts, self._settings, self._log = policy, rollouts, settings, log

    def batches(self, step: int) -> Updates:
        """The chosen responses, as often as `inner_epochs` says."""
        experience = self._rollouts.collect(step)
        kl_coef = float(self._controller.kl_coef)
        chosen = self._chosen(experience, kl_coef, step)
        scores = experience.scores.tolist()
        self._log({**experience.metrics(kl_coef), "raft/unique_share": unique_share(experience)})
        self._controller.update(experience.kl, len(scores))
        if not chosen:
            return
        best = float(np.mean([scores[number] for number in chosen]))
        self._log({"raft/selected_scores": best, "raft/selection_gain": best - float(np.mean(scores))})
        yield from passes(experience.batch.take(chosen), {}, self._settings, step, self._log)

    def loss(self, batch: TokenBatch) -> Loss:
        """Negative log-likelihood of the chosen responses, mean over tokens."""
        mask, found = batch.loss_mask, self._policy(batch, self._settings.temperature)
        return Loss(
            {"nll": Term(masked_sum(nll(found.logprobs), mask), "tokens")},
            {"mean_token_accuracy": Sum(masked_sum(found.hits, mask), "tokens")},
        )

    def _chosen(self, experience: Experience, kl_coef: float, step: int) -> list[int]:
        """The numbers of the responses to train on, in order."""
        settings = self._settings
        log_ratio = segment_sum(experience.log_ratio, experience.batch.lengths)
        weights = experience.kl_coefs(kl_coef)
        worth = (experience.paid.double() - weights * log_ratio.double()).tolist()
        if settings.select == "random":
            worth = rng(settings.seed, "raft", step).random(len(worth)).tolist()
        seen: set[tuple[int, tuple[int, ...]]] = set()
        candidates = []
        for number, (group, response) in enumerate(
            zip(experience.group.tolist(), experience.responses, strict=True)
        ):
            key = (group, response.ids)
            left_out = settings.truncated == "mask" and response.finish == "length"
            if not left_out and (not settings.deduplicate or key not in seen):
                candidates.append(number)
            seen.add(key)
        groups = experience.group.tolist() if settings.select != "batch" else [0] * len(worth)
        prompts = int(experience.group.max()) + 1
        most = settings.keep * (prompts if settings.select == "batch" else 1)
        return best_of_each(worth, groups, candidates, most)


def unique_share(experience: Experience) -> float:
    """How many of the responses to a prompt differ from each other, as a share, mean over prompts."""
    different = {
        (group, response.ids)
        for group, response in zip(experience.group.tolist(), experience.responses, strict=True)
    }
    return len(different) / len(experience.responses)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = on_policy(settings, world, run)
    algorithm = Raft(start.policy, start.rollouts, settings, run.log)
    return start.learn(algorithm, settings, world, run)
