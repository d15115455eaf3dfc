"""The settings of what learns to judge: reward models and process reward models."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from tutelage.settings.base import setting
from tutelage.settings.groups import (
    CutSettings,
    DataSettings,
    FeedbackSettings,
    RefinedPairs,
    Source,
    StepSettings,
    refined_pairs,
    run_folder,
    whose,
)
from tutelage.settings.train import LoraSettings, TrainSettings

TIES_RATE = 0.02
"""The step of the one number of a model of ties, whatever the rate of the weights: Adam moves each by about its rate, and this
one has a distance of about 1 to go."""


class ScoringSettings(TrainSettings, DataSettings):
    """What every model has that learns to judge: more is held out, for it is to be trusted."""

    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "Learning rate after the warm-up.")
    heldout_share: float = setting(
        0.1,
        "Share of the prompts held out for evaluation when there is no eval_data.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )


OF_COMPARISONS = (
    "loss",
    "batch_by",
    "groups",
    "adapts_by",
    "weighted",
    "half",
    "previous",
    "policy_data",
    "margin_coef",
    "label_smoothing",
    "refined",
)
"""Settings of `reward` that mean nothing where it learns from ratings."""


NOT_BY_STEPS = (
    "loss",
    "batch_by",
    "weighted",
    "members",
    "lora_rank",
    "previous",
    "margin_coef",
    "label_smoothing",
    "center_coef",
)
"""Settings of `reward` that mean nothing where it learns to be adapted by gradient steps."""


class RewardSettings(ScoringSettings, FeedbackSettings, LoraSettings, CutSettings):
    """Train a reward model on comparisons, rankings or ratings."""

    model: str = setting(
        "runs/sft",
        "Run folder, checkpoint or hub model whose body the reward model starts from; an encoder, too.",
    )
    data: Source = setting(
        "store:main",
        "Comparisons: store:PROJECT or a list of them, a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].",
    )
    out: Path = run_folder("runs/reward")
    batch_size: int = setting(
        64,
        "Pairs per step; prompts where all pairs of a prompt are learnt from together.",
        unit="pairs",
        ge=1,
    )
    loss: Literal["bradley-terry", "davidson", "rao-kupper", "plackett-luce"] = setting(
        "bradley-terry",
        "What comparisons say: bradley-terry (a tie is half a win for both); davidson, rao-kupper (a tie is an outcome of its "
        "own, and how readily people call one is learnt); plackett-luce (the whole ranking of a prompt's responses).",
        everyday=False,
    )
    batch_by: Literal["auto", "pairs", "prompts"] = setting(
        "auto",
        "What a step takes: pairs; prompts (all pairs of a prompt together, each response computed once, each prompt counted "
        "once); auto: prompts where a response stands in several pairs.",
        everyday=False,
    )
    pooling: Literal["last", "mean"] = setting(
        "last",
        "What is scored: the state at the last token; or mean, the mean of the scores at all tokens of the response, in which a "
        "small model holds more of what it knows.",
        everyday=False,
    )
    learn_from: Literal["comparisons", "ratings"] = setting(
        "comparisons",
        "What data holds: comparisons (and rankings), or ratings, which are learnt by regression.",
        everyday=False,
    )
    criteria: dict[str, float] = setting(
        {},
        "The criteria of ratings, a head for each, and their weights in the score; empty: all that data has, alike.",
        everyday=False,
    )
    standardise: Literal["annotator", "all", "none"] = setting(
        "annotator",
        "Ratings in standard deviations: by annotator, who use a scale differently; over all; or as they are.",
        everyday=False,
    )
    weighted: bool = setting(
        False,
        "Weigh each comparison by its column weight; from the store, by those who voted (experts count more).",
        everyday=False,
    )
    groups: dict[str, list[str]] | Literal["each"] = setting(
        {},
        "A head for each group of annotators, as {experts: [ann, bob], crowd: [eve]}; in a file the column group names the "
        "group, and the lists may be empty; each: one for every group of a file, for every annotator of a store.",
        everyday=False,
    )
    adapts_by: Literal["heads", "inner-steps"] = setting(
        "heads",
        "With groups: a head for each (heads), or one head from which a few gradient steps lead to any group's (inner-steps, "
        "ANIL).",
        everyday=False,
    )
    inner_steps: int = setting(5, "These gradient steps.", unit="steps", everyday=False, ge=1, le=100)
    inner_rate: float = setting(
        0.1, "Their rate at first; it is learnt beside the rest.", everyday=False, gt=0
    )
    task_pairs: int = setting(
        32,
        "Pairs of one group that are learnt from together, a quarter to three quarters of them to step by.",
        unit="pairs",
        everyday=False,
        ge=4,
    )
    members: int = setting(
        1,
        "Reward models trained side by side, each with its own head and order of the data: an ensemble.",
        unit="models",
        everyday=False,
        ge=1,
        le=16,
    )
    learning_rate: float = setting(9e-6, "Peak learning rate of AdamW.", gt=0)
    label_smoothing: float = setting(
        0.0,
        "Probability that a preference is wrong, mixed into the labels.",
        everyday=False,
        ge=0,
        lt=0.5,
    )
    refined: RefinedPairs = refined_pairs("solutions")
    half: Literal["all", "first", "second"] = setting(
        "all",
        "Train on all prompts, or on one half of them: two reward models that share none (see monitor of ppo).",
        everyday=False,
    )
    previous: str = setting(
        "",
        "Earlier reward model, whose accuracy on the same held-out pairs is reported beside; empty: none.",
        everyday=False,
    )
    policy_data: Source = setting(
        "",
        "Comparisons of the present policy's own responses, which are not trained on: accuracy on them, beside; as data.",
        everyday=False,
    )
    center_coef: float = setting(
        0.01,
        "Weight of the squared sum of a pair's scores, which centres them.",
        everyday=False,
        ge=0,
    )
    margin_coef: float = setting(
        0.0,
        "Score difference that a margin of 1 asks for: times the row's margin, off its scores.",
        everyday=False,
        ge=0,
    )

    def peak_rate(self, name: str) -> float:
        """As for every command; the model of ties and the rate of inner steps are single numbers and have a rate of their own."""
        return TIES_RATE if name.startswith(("ties", "inner")) else super().peak_rate(name)

    @model_validator(mode="after")
    def _inner_steps_alone(self) -> Self:
        if self.adapts_by == "heads":
            if unused := self.set_of("inner_steps", "inner_rate", "task_pairs"):
                raise ValueError(f"{unused} is about adapts_by=inner-steps: set that, or leave {unused} out")
            return self
        if not self.groups:
            raise ValueError(
                "adapts_by=inner-steps learns from groups, and there are none: set groups=each, say"
            )
        if unread := self.set_of(*NOT_BY_STEPS):
            raise ValueError(f"{unread} means nothing with adapts_by=inner-steps: leave it out")
        return self

    @model_validator(mode="after")
    def _loss_uses_all(self) -> Self:
        if self.loss != "bradley-terry" and self.margin_coef:
            raise ValueError(
                f"margin_coef={self.margin_coef:g} is for loss=bradley-terry, and loss is {self.loss}: leave one out"
            )
        if self.loss in ("davidson", "rao-kupper") and self.ties == "drop":
            raise ValueError(
                f"loss={self.loss} learns from ties, and ties=drop leaves them out: set ties=keep"
            )
        if self.loss == "plackett-luce":
            pairs = "batch_by=pairs" if self.batch_by == "pairs" else ""
            if wrong := pairs or self.set_of("label_smoothing", "groups", "weighted"):
                raise ValueError(
                    f"loss=plackett-luce takes whole rankings, for which {wrong} means nothing: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _ratings_or_comparisons(self) -> Self:
        if self.learn_from == "ratings":
            if wrong := self.set_of(*OF_COMPARISONS):
                raise ValueError(f"{wrong} is about comparisons, and learn_from is ratings: leave it out")
        elif self.criteria or self.standardise != "annotator":
            raise ValueError(
                "criteria and standardise are about ratings: set learn_from=ratings, or leave them out"
            )
        if self.criteria and not any(self.criteria.values()):
            raise ValueError(
                "criteria has no weight but 0, so that the score would be 0: give one of them another"
            )
        if len(self.criteria) == 1 and min(self.criteria.values()) < 0:
            raise ValueError(
                "criteria has one criterion with a weight below 0: turn its ratings round in the data instead"
            )
        return self

    @model_validator(mode="after")
    def _groups_apart(self) -> Self:
        if self.groups and self.policy_data:
            raise ValueError(
                "policy_data is measured by one score, and groups has a head for each group: leave one of the two out"
            )
        if self.groups == "each":
            return self
        if len(self.groups) == 1:
            raise ValueError(
                "groups has one group, and one head needs no name: name another, or leave groups out"
            )
        twice = Counter(name for names in self.groups.values() for name in set(names)).most_common(1)
        if twice and twice[0][1] > 1:
            raise ValueError(f"groups has {twice[0][0]} in {twice[0][1]} groups: an annotator is in one")
        return self


class ProcessSettings(ScoringSettings, LoraSettings, StepSettings):
    """Train a process reward model on marked steps."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model whose body it starts from.")
    data: Source = setting(
        "store:main",
        "Marked steps: store:PROJECT or a list of them, a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].",
    )
    out: Path = run_folder("runs/process")
    batch_size: int = setting(32, "Responses per step.", unit="rows", ge=1)
    learning_rate: float = setting(1e-5, "Peak learning rate of AdamW.", gt=0)
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    aggregation: Literal["auto", "majority", "all", "dawid-skene", "adjudicated"] = setting(
        "auto",
        "How marks of several annotators become one: auto (adjudicated once somebody has settled a conflict, else majority); "
        "majority; all (a row for each); dawid-skene; adjudicated.",
    )
    annotators: list[str] = whose("marks")
    marks: Literal["steps", "outcome", "outcome-tokens"] = setting(
        "steps",
        "What is learnt: each step at its end; or whether the final answer is right, at the last token or at every token.",
    )
    neutral: Literal["positive", "negative", "drop", "class"] = setting(
        "positive", "What a neutral step teaches: right, wrong, nothing, or a class of its own."
    )
    first_error: bool = setting(
        True, "Learn nothing from what stands behind the first wrong step.", everyday=False
    )

    @model_validator(mode="after")
    def _steps_alone_are_neutral(self) -> Self:
        if self.marks != "steps" and self.neutral != "positive":
            raise ValueError(f"neutral={self.neutral} says nothing with marks={self.marks}: leave it out")
        return self
