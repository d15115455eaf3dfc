"""The settings of what a policy learns from preferences directly: the DPO family and KTO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator

from tutelage.settings.base import Made, nearest, setting
from tutelage.settings.describe import plain
from tutelage.settings.groups import (
    Aggregation,
    CutSettings,
    DataSettings,
    FeedbackSettings,
    LabelsFrom,
    PresetSettings,
    RefinedPairs,
    Reward,
    Source,
    refined_pairs,
    run_folder,
)
from tutelage.settings.judges import same_reward
from tutelage.settings.presets import DIRECT, PAIRED, Preset
from tutelage.settings.train import LoraSettings, MixSettings, TrainSettings

PAIR_LOSSES = ("sigmoid", "robust", "ipo", "hinge", "orpo", "simpo", "sft")
"""What `dpo` can learn from a pair by."""
BY_RATIO = ("sigmoid", "robust", "ipo", "hinge")
"""Those that look at the ratio to the reference; the others need none."""


def checked_loss(loss: str | dict[str, float]) -> str | dict[str, float]:
    """The loss, or losses with their weights, as given.  Raises ValueError for a name that is none, and a weight not above 0."""
    for name, weight in losses_in(loss).items():
        if name not in PAIR_LOSSES:
            near = nearest(name, list(PAIR_LOSSES))
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(PAIR_LOSSES)}"
            raise ValueError(f"there is no loss {name!r}: {hint}")
        if not weight > 0:
            raise ValueError(
                f"the weight of {name} is {weight:g}, but a weight is above 0: leave the loss out instead"
            )
    if set(losses_in(loss)) <= {"sft"}:
        raise ValueError(
            "a loss that compares is missing: add one, as in {sft: 1, sigmoid: 1}, or use the command sft"
        )
    return loss


def losses_in(loss: str | Mapping[str, float]) -> dict[str, float]:
    """Name -> weight."""
    return {loss: 1.0} if isinstance(loss, str) else dict(loss)


Losses = Annotated[str | dict[str, float], AfterValidator(checked_loss)]


class PairLossSettings(PresetSettings):
    """How a policy learns from pairs of responses directly."""

    beta: float = setting(0.1, "How strongly the policy is held to the reference.", gt=0)
    preset: Literal["none", "dpo", "cdpo", "robust", "ipo", "slic", "orpo", "simpo"] = setting(
        "none",
        "A method by its name, which sets what it says; what is given beside it goes before.",
        everyday=False,
    )
    loss: Losses = setting(
        "sigmoid",
        "sigmoid (DPO), robust, ipo, hinge (SLiC), orpo, simpo, or several by weight: {sigmoid: 1, sft: 0.1}; sft is the "
        "negative log-likelihood of the chosen response, per token.",
        everyday=False,
    )
    logprobs: Literal["sum", "mean"] = setting(
        "sum",
        "Whether the log-probability of a response is that of all its tokens, or their mean (orpo, simpo and sft: always the "
        "mean).",
        everyday=False,
    )
    gamma: float = setting(
        0.0, "Margin that simpo asks for, outside beta.", unit="nats", everyday=False, ge=0
    )
    label_smoothing: float = setting(
        0.0,
        "Probability that a preference is wrong: sigmoid becomes conservative, robust unbiased.",
        everyday=False,
        ge=0,
        lt=0.5,
    )
    presets: ClassVar[Mapping[str, Preset]] = DIRECT

    @property
    def losses(self) -> dict[str, float]:
        """Name -> weight."""
        return losses_in(self.loss)

    @property
    def needs_reference(self) -> bool:
        """Whether a loss looks at the ratio to the reference."""
        return any(name in BY_RATIO for name in self.losses)

    @property
    def weight_of_pairs(self) -> float:
        """What the criterion that pairs are labelled by counts, beside other objectives."""
        return 1.0

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        names = self.losses
        if self.label_smoothing and not {"sigmoid", "robust"} & set(names):
            raise ValueError(
                f"label_smoothing={self.label_smoothing:g} is for sigmoid and robust, and loss is "
                f"{plain(self.loss)}: leave it out"
            )
        if "robust" in names and not self.label_smoothing:
            raise ValueError(
                "loss=robust with label_smoothing=0 is sigmoid: say which share of the labels is wrong, as in label_smoothing=0.1"
            )
        if self.gamma and "simpo" not in names:
            raise ValueError(
                f"gamma={self.gamma:g} is the margin of simpo, and loss is {plain(self.loss)}: leave it out"
            )
        if self.logprobs == "mean" and not self.needs_reference:
            raise ValueError(
                f"logprobs=mean is for {', '.join(BY_RATIO)}, and {plain(self.loss)} always takes the mean: leave it out"
            )
        return self


class DPOSettings(
    PairLossSettings, TrainSettings, DataSettings, FeedbackSettings, CutSettings, LoraSettings, MixSettings
):
    """Optimise the policy on comparisons directly: DPO, IPO, SLiC, ORPO, SimPO and their mixes."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to start from; also the reference.")
    data: Source = setting(
        "store:main",
        "Comparisons: store:PROJECT or a list of them, a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].",
    )
    out: Path = run_folder("runs/dpo")
    batch_size: int = setting(32, "Pairs per step.", unit="pairs", ge=1)
    preset: Literal["none", "dpo", "cdpo", "robust", "ipo", "slic", "orpo", "simpo", "spin"] = setting(  # type: ignore[assignment]
        "none",
        "A method by its name, which sets what it says; what is given beside it goes before.",
        everyday=False,
    )
    presets: ClassVar[Mapping[str, Preset]] = PAIRED
    learning_rate: float = setting(1e-6, "Peak learning rate of AdamW.", gt=0)
    shared_prefix: Literal["keep", "mask"] = setting(
        "keep",
        "What both responses begin with: keep it, or mask it, so that only what comes after their first difference is learnt "
        "(Step-DPO).",
        everyday=False,
    )
    refined: RefinedPairs = refined_pairs("steps")
    other_rewards: Reward | None = setting(
        None,
        "What else counts beside what the comparisons are about, as judges with their weights; null: nothing (MODPO).",
        everyday=False,
    )
    own_weight: float = setting(
        1.0, "Weight of what the comparisons are about, beside other_rewards.", everyday=False, gt=0
    )

    @property
    def weight_of_pairs(self) -> float:
        return self.own_weight

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no score of a judge, such as a timeout, may change."""
        now = self.other_rewards
        if name == "other_rewards" and before[name] and now is not None and same_reward(before[name], now):
            return None
        return super().refuses(name, before, made)

    @model_validator(mode="after")
    def _objectives(self) -> Self:
        if self.other_rewards is None and self.own_weight != 1:
            raise ValueError(
                f"own_weight={self.own_weight:g} weighs the comparisons beside other_rewards, and there are none: leave it out"
            )
        if self.other_rewards is not None and not set(self.losses) <= {"sigmoid", "robust", "sft"}:
            raise ValueError(
                f"other_rewards enter the Bradley-Terry model of a pair, and loss is {plain(self.loss)}: take sigmoid or robust"
            )
        return self


class KTOSettings(TrainSettings, DataSettings, CutSettings, LoraSettings, MixSettings):
    """Optimise the policy on responses that are called good or not, each by itself (KTO)."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to start from; also the reference.")
    data: Source = setting(
        ...,
        "Labelled responses, or comparisons: store:PROJECT, a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].",
    )
    out: Path = run_folder("runs/kto")
    batch_size: int = setting(32, "Responses per step.", unit="rows", ge=2)
    learning_rate: float = setting(5e-6, "Peak learning rate of AdamW.", gt=0)
    beta: float = setting(0.1, "How strongly the policy is held to the reference.", gt=0)
    baseline_share: float = setting(
        0.25,
        "Share of a batch's rows that the baseline z is estimated from: each is read once more, after another prompt.",
        unit="share",
        everyday=False,
        gt=0,
        le=1,
    )
    good_weight: float = setting(
        0.0,
        "Weight of good responses; 0 for both weights: so that good ones weigh 1 to 4/3 times what the others do.",
        everyday=False,
        ge=0,
    )
    bad_weight: float = setting(
        0.0, "Weight of the other responses; set both weights, or none.", everyday=False, ge=0
    )
    store: str = setting(
        "runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.", everyday=False
    )
    aggregation: Aggregation = setting(
        "auto",
        "How several people's labels become one, as for reward; what goes by skill (dawid-skene, crowd-bt, habit-bt, "
        "habit-bt-length) needs labels_from=pairs.",
        everyday=False,
    )
    labels_from: LabelsFrom = setting(
        "pairs",
        "From the store: the better and the worse sides of pairs, what was said to be acceptable, or ratings above and below "
        "the middle of their scale.",
        everyday=False,
    )

    @model_validator(mode="after")
    def _both_weights(self) -> Self:
        if bool(self.good_weight) != bool(self.bad_weight):
            raise ValueError(
                f"good_weight={self.good_weight:g} and bad_weight={self.bad_weight:g}: set both, or none, which balances them"
            )
        return self
