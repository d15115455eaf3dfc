"""The settings of the commands that learn by practising: sample, score, learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Made, setting
from tutelage.settings.describe import plain
from tutelage.settings.groups import (
    GeneratingSettings,
    PresetSettings,
    Reward,
    RowSettings,
    Source,
    run_folder,
)
from tutelage.settings.judges import read_parts, same_reward
from tutelage.settings.preference import PairLossSettings
from tutelage.settings.presets import PRESETS, Preset
from tutelage.settings.train import LoraSettings, MixSettings, TrainSettings


class RLSettings(TrainSettings, RowSettings, LoraSettings, GeneratingSettings, MixSettings):
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


class PPOSettings(CriticSettings):
    """Optimise the policy against the reward model with PPO and a critic."""

    out: Path = run_folder("runs/ppo")
    value_clip: float = setting(
        0.2, "Values may move so far from the old ones before they are clipped.", everyday=False, gt=0
    )
    gamma: float = setting(1.0, "Discount.", everyday=False, ge=0, le=1)
    gae_lambda: float = setting(
        0.95, "Lambda of generalised advantage estimation.", everyday=False, ge=0, le=1
    )
    whiten_rewards: bool = setting(
        False, "Scale token rewards to unit variance before the advantages.", everyday=False
    )


class RaftSettings(RLSettings):
    """Fine-tune the policy on the best of its own responses, step after step (RAFT)."""

    out: Path = run_folder("runs/raft")
    batch_size: int = setting(16, "Prompts per step.", unit="prompts", ge=1)
    samples: int = setting(8, "Responses per prompt and step.", unit="responses", ge=2)
    learning_rate: float = setting(2e-5, "Peak learning rate of AdamW.", gt=0)
    inner_epochs: int = setting(
        1, "Passes over each step's best responses.", unit="epochs", everyday=False, ge=1
    )
    keep: int = setting(
        1,
        "Responses that are trained on, of each prompt; of the batch as many on average.",
        unit="responses",
        ge=1,
    )
    select: Literal["prompt", "batch", "random"] = setting(
        "prompt",
        "The best of each prompt; of the whole batch, which favours easy prompts; or any, which shows what choosing is worth.",
        everyday=False,
    )
    deduplicate: bool = setting(True, "Equal responses to a prompt are trained on once.", everyday=False)

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if self.keep >= self.samples:
            raise ValueError(
                f"keep={self.keep} of samples={self.samples} leaves nothing to choose: set keep lower, or samples higher"
            )
        return self


class OnlineDPOSettings(PairLossSettings, RLSettings):
    """Optimise the policy on pairs of its own responses, step after step (online DPO)."""

    out: Path = run_folder("runs/online-dpo")
    batch_size: int = setting(32, "Prompts per step.", unit="prompts", ge=1)
    samples: int = setting(
        2, "Responses per prompt and step; the best and the worst are a pair.", unit="responses", ge=2
    )
    learning_rate: float = setting(1e-6, "Peak learning rate of AdamW.", gt=0)
    inner_epochs: int = setting(1, "Passes over each step's pairs.", unit="epochs", everyday=False, ge=1)
    kl_coef: float = setting(
        0.05,
        "Weight of the KL in objective/rlhf_reward, which tells the best checkpoint; what holds the policy is beta.",
        unit="score per nat",
        everyday=False,
        ge=0,
    )
    soft_labels: bool = setting(
        False,
        "Label a pair with the sigmoid of its difference in score, instead of 1: for scores that are logits.",
        everyday=False,
    )

    @model_validator(mode="after")
    def _has_no_advantages(self) -> Self:
        for name in (
            "kl_target",
            "kl_budget",
            "task_kl",
            "entropy_coef",
            "clip_low",
            "clip_high",
            "dual_clip",
            "importance_cap",
        ):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}={plain(getattr(self, name))} is for methods with advantages, and online-dpo is held by beta alone: "
                    "leave it out"
                )
        return self


GROUPED = ("leave-one-out", "group", "group-std")
"""Advantages that compare the responses to a prompt."""

Advantage = Literal["none", "batch", "learned", "leave-one-out", "group", "group-std"]
Clip = Literal["none", "token", "sequence", "sequence-mean"]
Reduction = Literal["token-mean", "sequence-sum", "sequence-mean", "constant"]
KL = Literal[
    "none", "k1-reward", "exact", "k2-loss", "exact-loss", "k3-loss", "k1-loss", "k2-reward", "k3-reward"
]  # fmt: skip

WRONG_KL: Mapping[str, str] = {
    "k1-loss": "its gradient is zero on average, so nothing holds the policy to the reference: take k1-reward or exact",
    "k3-loss": "it has the gradient of the reversed KL(reference || policy), whose optimum is another: take k1-reward or exact",
    "k2-loss": "it leaves out what a token does to the KL of those after it, which is a small error: take k1-reward or exact",
    "exact-loss": "it leaves out what a token does to the KL of those after it, which is a small error: take exact",
    "k2-reward": "its gradient is that of no KL: take k1-reward",
    "k3-reward": "its gradient is that of no KL: take k1-reward",
}
"""What is wrong with placements of the KL that are there to be compared with (docs: Where the KL stands)."""


class ReinforceSettings(PresetSettings, CriticSettings):
    """Optimise the policy without a critic: REINFORCE, RLOO, GRPO, Dr. GRPO, REINFORCE++, DAPO."""

    out: Path = run_folder("runs/reinforce")
    preset: Literal["none", "reinforce", "rloo", "grpo", "dr-grpo", "reinforce++", "dapo"] = setting(
        "none", "A method by its name, which sets what it says; what is given beside it goes before."
    )
    batch_size: int = setting(16, "Prompts per step.", unit="prompts", ge=1)
    samples: int = setting(4, "Responses per prompt and step.", unit="responses", ge=1)
    inner_epochs: int = setting(1, "Passes over each step's responses.", unit="epochs", everyday=False, ge=1)
    advantage: Advantage = setting(
        "leave-one-out",
        "What is taken from a response's reward: none, the mean of the batch, what a critic foretells (learned), the mean of the "
        "prompt's other responses, of the prompt's responses (group), or that and divided by their standard deviation.",
    )
    clip: Clip = setting(
        "token",
        "Where the policy has moved since sampling: each token's ratio is clipped, the product over a response (sequence), "
        "their geometric mean (sequence-mean), or none (one update per step only).",
        everyday=False,
    )
    reduction: Reduction = setting(
        "token-mean",
        "How losses of tokens become one: mean over all tokens; sum over a response, mean over responses; mean over each "
        "response, then over responses; or sum divided by max_new_tokens (constant).",
        everyday=False,
    )
    kl: KL = setting(
        "k1-reward",
        "Where the KL to the reference stands and how it is estimated (none: kl_coef is not used; exact: over the whole "
        "vocabulary, in both places); all but none, k1-reward and exact miss the optimum and are there to be compared with.",
        everyday=False,
    )
    credit: Literal["response", "tokens"] = setting(
        "response",
        "Each token is paid the whole reward of its response, or what comes from it on.",
        everyday=False,
    )
    whiten_advantages: bool = setting(
        False,
        "Bring the advantages of all tokens of a step to mean 0 and standard deviation 1.",
        everyday=False,
    )
    gamma: float = setting(1.0, "Discount, where credit=tokens.", everyday=False, ge=0, le=1)
    dynamic_sampling: int = setting(
        0,
        "Prompts whose responses are all worth the same are replaced by further ones, in up to so many draws per step; 0 = no.",
        unit="draws",
        everyday=False,
        ge=0,
    )

    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.samples == 1 and self.advantage in GROUPED:
            raise ValueError(
                f"advantage={self.advantage} compares a prompt's responses, of which samples=1 gives one: set samples=2 or "
                "more, or advantage=batch or learned"
            )
        if self.advantage != "learned" and (self.critic != "auto" or self.critic_learning_rate):
            raise ValueError(
                f"critic={self.critic} and critic_learning_rate={self.critic_learning_rate:g} say what a critic is like, but "
                f"advantage={self.advantage} has none: set advantage=learned, or leave both out"
            )
        if self.dynamic_sampling and self.advantage not in GROUPED:
            raise ValueError(
                f"dynamic_sampling={self.dynamic_sampling} replaces prompts whose responses are all worth the same, which teach "
                f"nothing to {', '.join(GROUPED)}, but something to advantage={self.advantage}: set dynamic_sampling=0, or "
                "another advantage"
            )
        if self.dynamic_sampling and self.task_alpha != 1:
            raise ValueError(
                f"dynamic_sampling={self.dynamic_sampling} fills up from all prompts as they are, and task_alpha="
                f"{self.task_alpha:g} draws tasks in other shares: set dynamic_sampling=0, or task_alpha=1"
            )
        if self.clip == "none" and self.inner_epochs * self.minibatches > 1:
            raise ValueError(
                f"clip=none is right for one update per step only, but inner_epochs={self.inner_epochs} and "
                f"minibatches={self.minibatches} make {self.inner_epochs * self.minibatches}: set clip=token, or both to 1"
            )
        if self.kl == "none" and (self.kl_target or self.kl_budget):
            raise ValueError(
                "kl=none holds nothing to the reference, so kl_target and kl_budget have nothing to move: set kl=k1-reward, or "
                "both to 0"
            )
        if self.kl == "none" and self.task_kl:
            raise ValueError(
                "kl=none holds nothing to the reference, so the weights of task_kl weigh nothing: set kl=k1-reward, and "
                "kl_coef=0 for the other tasks, or leave task_kl out"
            )
        if self.clip.startswith("sequence") and self.credit == "tokens":
            raise ValueError(
                f"clip={self.clip} has one ratio for a response, but credit=tokens gives every token an advantage of its "
                "own: set clip=token, or credit=response"
            )
        return self
