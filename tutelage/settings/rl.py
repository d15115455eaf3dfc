"""The settings of the commands that learn by practising; what all of them have is in `onpolicy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from tutelage.settings.base import setting
from tutelage.settings.describe import plain
from tutelage.settings.groups import (
    PresetSettings,
    run_folder,
)
from tutelage.settings.onpolicy import CriticSettings, RLSettings
from tutelage.settings.preference import PairLossSettings
from tutelage.settings.presets import PRESETS, Preset


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
        if self.dynamic_sampling and self.max_staleness:
            raise ValueError(
                f"dynamic_sampling={self.dynamic_sampling} draws further responses when it has seen the first, and max_staleness="
                f"{self.max_staleness} draws all of them before: set one of the two to 0"
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
