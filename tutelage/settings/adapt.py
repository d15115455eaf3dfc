"""The settings of `adapt` and of `eval groups`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Settings, setting
from tutelage.settings.evals import PassSettings
from tutelage.settings.groups import (
    CutSettings,
    DeviceSettings,
    FeedbackSettings,
    RowSettings,
    RunSettings,
    Source,
    run_folder,
)

Prior = Literal["gaussian", "ridge", "mixture", "inner-steps"]
"""What holds a head that is fitted to few labels near those that are known."""


class HeadSettings(Settings):
    """How a head is fitted to few labels."""

    shrinkage: float = setting(
        0.1,
        "Of the gaussian prior's covariance: 0 as the heads spread, 1 the same in every direction; -1 = as Ledoit and Wolf "
        "estimate it.",
        everyday=False,
        ge=-1,
        le=1,
    )
    strength: float = setting(
        1.0,
        "The prior counts so much: its precision is multiplied by this.",
        everyday=False,
        gt=0,
    )
    max_length: int = setting(1024, "Longest sequence, prompt and response together.", unit="tokens", ge=2)

    @field_validator("shrinkage")
    @classmethod
    def _share_or_estimated(cls, shrinkage: float) -> float:
        if -1 < shrinkage < 0:
            raise ValueError(f"{shrinkage:g} is no share: give 0 to 1, or -1 to have it estimated")
        return shrinkage


class AdaptSettings(
    RunSettings, RowSettings, FeedbackSettings, CutSettings, HeadSettings, DeviceSettings, PassSettings
):
    """Fit a reward model with a head for each group to a new group, from few labels."""

    out: Path = run_folder("runs/adapt")
    model: str = setting("runs/reward", "Reward model with a head for each group (reward groups=...).")
    data: Source = setting(
        "store:main", "Comparisons by the new group: store:PROJECT, a file, a glob, or hub:OWNER/NAME."
    )
    group: str = setting(
        "", "Only rows whose column group says this; empty: all. Of a store annotators says whose votes."
    )
    labels: int = setting(0, "Learn from the first so many comparisons; 0 = all.", unit="pairs", ge=0)
    eval_data: Source = setting(
        "", "Comparisons of the same group to measure on, as data; empty: by cross-validation alone."
    )
    prior: Prior = setting(
        "gaussian",
        "What the head is held near: gaussian (mean and covariance of the known heads), ridge (their mean, alike in every "
        "direction), mixture (it is a mixture of the known heads); inner-steps (of a model that was trained for these).",
    )
    folds: int = setting(5, "Parts of the cross-validation, by prompt.", unit="parts", everyday=False, ge=2)
    pooled: str = setting(
        "",
        "Reward model that knows no groups, whose accuracy on the same pairs is reported beside; empty: none.",
    )

    @model_validator(mode="after")
    def _prior_uses_all(self) -> Self:
        if self.prior != "gaussian" and self.set_of("shrinkage"):
            raise ValueError(f"shrinkage is of prior=gaussian, and prior is {self.prior}: leave it out")
        if self.prior in ("mixture", "inner-steps") and self.strength != 1:
            raise ValueError(f"strength is of a prior with a spread, and prior is {self.prior}: leave it out")
        return self


class GroupsSettings(RunSettings, RowSettings, HeadSettings, DeviceSettings, PassSettings):
    """Measure how well reward models adapt to groups that they have not seen, by the number of labels."""

    out: Path = run_folder("runs/eval-groups")
    models: list[str] = setting(
        ...,
        "Reward models with a head for each known group, or trained for inner steps, each optionally as name=path.",
    )
    data: Source = setting(
        ..., "Comparisons with a column group, to learn from: the first so many of each group."
    )
    eval_data: Source = setting(..., "Other comparisons of the same groups, to measure on.")
    labels: list[int] = setting(
        [0, 8, 32], "Numbers of labels to learn from; 0 is what is known of all groups."
    )
    priors: list[Prior] = setting(
        ["gaussian"],
        "What new heads are held near (see adapt), each measured: gaussian, ridge, mixture; of a model that was trained for "
        "inner steps, these alone.",
    )
    pooled: str = setting("", "Reward model that knows no groups, to compare with; empty: none.")
    tune_steps: int = setting(
        10,
        "The pooled model is fine-tuned as a whole on the labels, in so many steps over all of them; 0: it is not.",
        unit="steps",
        ge=0,
    )
    tune_rate: float = setting(1e-3, "Learning rate of that.", gt=0)
    resamples: int = setting(1000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)

    @field_validator("labels")
    @classmethod
    def _rising(cls, labels: list[int]) -> list[int]:
        if not labels or min(labels) < 0 or sorted(set(labels)) != labels:
            raise ValueError(f"{labels} is no rising list of numbers from 0 on: give labels=[0,8,32], say")
        return labels

    @field_validator("priors")
    @classmethod
    def _each_once(cls, priors: list[Prior]) -> list[Prior]:
        if not priors or len(set(priors)) < len(priors):
            raise ValueError(f"{priors} is no list of different priors: give priors=[gaussian,ridge], say")
        if "inner-steps" in priors:
            raise ValueError("inner-steps is of the model, which says so itself: leave it out of priors")
        return priors
