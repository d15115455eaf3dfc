"""What the commands share that learn by practising: sample, score, learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Made, setting
from tutelage.settings.groups import (
    GeneratingSettings,
    Reward,
    RowSettings,
    Source,
)
from tutelage.settings.judges import read_parts, same_reward
from tutelage.settings.served import SyncedSettings
from tutelage.settings.train import LoraSettings, MixSettings, TrainSettings


class RLSettings(TrainSettings, RowSettings, LoraSettings, GeneratingSettings, MixSettings, SyncedSettings):
    """What every command has that samples responses, scores them and learns from the scores."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to start from; also the reference.")
    reward: Reward = setting(
        "runs/reward",
        "Who scores: a reward model's run folder or checkpoint, another judge, or a list of judges that are mixed.",
    )
    prompts: Source = setting(..., "Prompts to practise on: a file, a glob, or hub:OWNER/NAME.")
    eval_prompts: Source = setting("", "Prompts for evaluation; empty skips it.")
    batch_size: int = setting(64, "Prompts per step.", unit="prompts", ge=1)
    samples: int = setting(1, "Responses per prompt and step.", unit="responses", ge=1)
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    learning_rate: float = setting(3e-6, "Peak learning rate of AdamW.", gt=0)
    epochs: float = setting(1.0, "Passes over the prompts.", unit="epochs", gt=0)
    task_alpha: float = setting(
        1.0,
        "Tasks are drawn in proportion to (prompts of the task) to this power: 1 as they are, 0 all alike.",
        everyday=False,
        ge=0,
        le=1,
    )
    weights_in_prompt: int = setting(
        0,
        "One policy for all weights of the reward's parts: they are drawn from a grid of so many steps, written in front of each "
        "prompt, and what it is scored by; 0 = the reward's own weights.",
        unit="steps",
        everyday=False,
        ge=0,
    )
    kl_coef: float = setting(0.05, "Weight of the KL to the reference.", unit="score per nat", ge=0)
    inner_epochs: int = setting(4, "Passes over each step's responses.", unit="epochs", ge=1)
    minibatches: int = setting(1, "Updates per pass.", unit="updates", everyday=False, ge=1)
    micro_batch_tokens: int = setting(
        8192,
        "Tokens per forward pass; changes memory and speed, never a gradient. The first pass over rollouts that fit into one "
        "is made only once.",
        unit="tokens",
        everyday=False,
        changes_result=False,
        ge=1,
    )
    max_eval_prompts: int = setting(
        128, "Use only so many evaluation prompts.", unit="prompts", everyday=False, ge=1
    )
    max_prompt_length: int = setting(
        512, "Longer prompts are left out, and counted.", unit="tokens", everyday=False, ge=1
    )
    temperature: float = setting(
        1.0, "Sampling temperature; all log-probabilities are taken at it.", everyday=False, gt=0
    )
    importance_cap: float = setting(
        2.0,
        "Where the sampler's probability of a token differs from the trainer's, its loss is weighed by their ratio, at most "
        "this; 0 = no weights.",
        everyday=False,
        ge=0,
    )
    missing_eos_score: float | None = setting(
        -1.0,
        "Score of a response without an end, in units of the reward: a reward model's are standard deviations; null: it is "
        "scored like any other.",
        everyday=False,
    )
    truncated: Literal["score", "mask"] = setting(
        "score",
        "A response that is cut at max_new_tokens is learnt from, with missing_eos_score; or left out of everything but the log, "
        "as if it had never been drawn (mask).",
        everyday=False,
    )
    clip_low: float = setting(0.2, "The ratio is clipped at 1 - clip_low.", everyday=False, gt=0, lt=1)
    clip_high: float = setting(0.2, "The ratio is clipped at 1 + clip_high.", everyday=False, gt=0)
    dual_clip: float = setting(
        0.0,
        "Where the advantage is negative the loss is at most this times its size, however large the ratio; 0 = no bound.",
        everyday=False,
        ge=0,
    )
    score_clip: float = setting(
        0.0, "Scores are held within plus and minus this; 0 = no bound.", everyday=False, ge=0
    )
    entropy_coef: float = setting(
        0.0, "Weight of the entropy of responses, in the reward.", unit="score per nat", everyday=False, ge=0
    )
    task_kl: dict[str, float] = setting(
        {},
        "Weight of the KL for prompts of single tasks, in place of kl_coef: {tale: 0.1}.",
        unit="score per nat",
        everyday=False,
    )
    kl_target: float = setting(
        0.0,
        "Adapt kl_coef towards this KL per response; 0 keeps it fixed.",
        unit="nats",
        everyday=False,
        ge=0,
    )
    kl_horizon: float = setting(10000.0, "How slowly kl_coef adapts.", unit="episodes", everyday=False, gt=0)
    kl_budget: float = setting(
        0.0,
        "Hold the KL per response at most at this, with kl_coef as the Lagrange multiplier; 0 = no budget.",
        unit="nats",
        everyday=False,
        ge=0,
    )
    kl_budget_rate: float = setting(
        0.02,
        "How fast the multiplier moves: its logarithm changes by this times KL / kl_budget - 1, per step.",
        everyday=False,
        gt=0,
        le=1,
    )
    cost: Reward | None = setting(
        None, "Who says what a response costs, as `reward` does; null: nobody.", everyday=False
    )
    cost_limit: float = setting(
        0.0, "Hold the mean cost of responses at most at this, by a Lagrange multiplier.", everyday=False
    )
    cost_rate: float = setting(
        0.02,
        "How fast the multiplier of the cost moves: by this times mean cost - cost_limit, per step.",
        everyday=False,
        gt=0,
    )
    ref_refresh: int = setting(
        0,
        "The policy becomes its own reference every so many steps; 0 = the reference stays.",
        unit="steps",
        everyday=False,
        ge=0,
    )
    task_gradients_every: int = setting(
        0,
        "Measure every so many steps how the gradients of tasks lie to each other, with one more pass over each task; 0 = never.",
        unit="steps",
        everyday=False,
        changes_result=False,
        ge=0,
    )
    max_approx_kl: float = setting(
        0.03,
        "End a step's passes early when the policy has moved further than this.",
        unit="nats per token",
        everyday=False,
        gt=0,
    )
    adam_epsilon: float = setting(1e-5, "AdamW's epsilon.", everyday=False, gt=0)
    monitor: Reward | None = setting(
        None,
        "Who watches, at every evaluation, whether `reward` is over-optimised: a judge that makes other mistakes; null: nobody.",
        everyday=False,
    )
    monitor_stop: int = setting(
        0,
        "End the run when the monitor has fallen at so many evaluations in a row while the reward rose; the checkpoint at which "
        "it was highest is the result; 0 = only say so.",
        unit="evaluations",
        everyday=False,
        ge=0,
    )

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no score of a reward, such as a timeout, may change."""
        if name in ("reward", "cost", "monitor"):
            then, now = before[name], getattr(self, name)
            if None not in (then, now) and same_reward(then, now):
                return None
        if name == "eval_every" and self.monitor is not None:
            return "the monitor compares evaluations"
        return super().refuses(name, before, made)

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if self.monitor is None:
            if self.monitor_stop:
                raise ValueError(
                    f"monitor_stop={self.monitor_stop} stops nothing without a monitor: set monitor to a judge, or monitor_stop "
                    "to 0"
                )
            return self
        if not self.eval_prompts:
            raise ValueError(
                "monitor watches on eval_prompts, of which there are none: set eval_prompts to a file"
            )
        if same_reward(self.monitor, self.reward):
            raise ValueError(
                "monitor is the reward itself and can see none of its mistakes: give another judge, such as a reward model "
                "trained on other prompts (half=first, half=second)"
            )
        return self

    @field_validator("task_kl")
    @classmethod
    def _not_negative(cls, weights: dict[str, float]) -> dict[str, float]:
        for task, weight in weights.items():
            if weight < 0:
                raise ValueError(
                    f"the weight of the KL of {task} is {weight:g}: give a number that is 0 or more, or leave the task out"
                )
        return weights

    @property
    def weighed(self) -> list[str]:
        """The names of the reward's parts whose weights stand in front of prompts; [] where none do."""
        if not self.weights_in_prompt:
            return []
        parts = [part.mix for part in read_parts(self.reward) if part.mix.gate is None and part.mix.weight]
        return [part.name for part in parts]

    @model_validator(mode="after")
    def _has_something_to_weigh(self) -> Self:
        names = self.weighed
        if self.weights_in_prompt and (len(names) < 2 or not all(names) or len(set(names)) < len(names)):
            raise ValueError(
                f"weights_in_prompt={self.weights_in_prompt} writes what each part of the reward counts in front of prompts: "
                "give reward two parts or more, each with a name of its own, as {judge: runs/reward, name: helpful}"
            )
        return self

    @model_validator(mode="after")
    def _has_one_control_of_the_kl(self) -> Self:
        if self.task_kl and (self.kl_target or self.kl_budget):
            mover = "kl_target" if self.kl_target else "kl_budget"
            raise ValueError(
                f"{mover}={getattr(self, mover):g} moves one weight of the KL by that of all responses, and task_kl fixes those "
                f"of single tasks: set {mover}=0, or leave task_kl out"
            )
        if self.kl_target and self.kl_budget:
            raise ValueError(
                f"kl_target={self.kl_target:g} and kl_budget={self.kl_budget:g} both move kl_coef: set one of them to 0"
            )
        if self.kl_budget and not self.kl_coef:
            raise ValueError("kl_budget moves kl_coef, which cannot start at 0: set kl_coef=0.05, say")
        if self.cost is None and self.cost_limit:
            raise ValueError(
                f"cost_limit={self.cost_limit:g} limits nothing without a cost: set cost to a judge, or cost_limit to 0"
            )
        if self.ref_refresh and self.lora_rank:
            raise ValueError(
                f"ref_refresh={self.ref_refresh} needs a reference of its own, but with lora_rank={self.lora_rank} the "
                "reference is the policy without its adapter: set one of them to 0"
            )
        return self


VALUE_COEF = 0.1
"""Huang et al. 2024 (arXiv 2403.17031), whose critic shares nothing; between 0.1 and 0.5 elsewhere."""


class CriticSettings(RLSettings):
    """What commands have that can train a critic beside the policy."""

    critic: str = setting(
        "auto",
        "What the critic starts from: a reward model; policy (the policy's start, with a head of zeros); auto: the first reward "
        "model of the reward that reads the policy's tokens, else policy; or shared, no network but a head on the policy itself.",
        everyday=False,
    )
    critic_learning_rate: float = setting(
        0.0, "Peak learning rate of the critic; 0 = that of the policy.", everyday=False, ge=0
    )
    value_coef: float = setting(
        VALUE_COEF,
        "Weight of the critic's loss in the policy's trunk, where critic=shared.",
        everyday=False,
        gt=0,
    )

    @model_validator(mode="after")
    def _weighs_what_is_shared(self) -> Self:
        if self.value_coef != VALUE_COEF and self.critic != "shared":
            raise ValueError(
                f"value_coef={self.value_coef:g} weighs the critic's loss in a trunk that it shares with the policy, but critic="
                f"{self.critic} is a network of its own, with a learning rate of its own: set critic=shared, or "
                "critic_learning_rate instead"
            )
        return self
