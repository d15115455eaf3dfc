"""The settings of the training commands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator

from tutelage.settings.base import Made, Settings, nearest, setting
from tutelage.settings.describe import plain
from tutelage.settings.groups import (
    Aggregation,
    CutSettings,
    DataSettings,
    DeviceSettings,
    FeedbackSettings,
    LabelsFrom,
    PlanSettings,
    PresetSettings,
    RunSettings,
    Source,
    StepSettings,
    run_folder,
)
from tutelage.settings.presets import DIRECT, Preset


class TrainSettings(RunSettings, DeviceSettings, PlanSettings):
    """What every training command has."""

    batch_size: int = setting(32, "Rows per step.", unit="rows", ge=1)
    learning_rate: float = setting(2e-5, "Peak learning rate of AdamW.", gt=0)
    epochs: float = setting(1.0, "Passes over the data.", unit="epochs", gt=0)
    max_steps: int = setting(0, "Steps to train, instead of epochs; 0 = as epochs say.", unit="steps", ge=0)
    schedule: Literal["constant", "linear", "cosine"] = setting("linear", "Learning rate after the warm-up.")
    eval_every: int = setting(
        50, "Evaluate every so many steps, and at both ends.", unit="steps", changes_result=False, ge=1
    )
    save_every: int = setting(
        100, "Checkpoint every so many steps, and at the end.", unit="steps", changes_result=False, ge=1
    )
    load_best: bool = setting(False, "Export the best checkpoint by evaluation instead of the last.")
    micro_batch_tokens: int = setting(
        4096,
        "Tokens per forward pass; changes memory and speed, never a gradient.",
        unit="tokens",
        changes_result=False,
        ge=1,
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto",
        "Compute layers again in the backward pass instead of keeping them: less memory, a third more work; auto: where "
        "memory is short.",
        everyday=False,
        changes_result=False,
    )
    warmup: float = setting(
        0.03,
        "Share of the steps over which the learning rate rises.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )
    min_rate: float = setting(
        0.1,
        "Where the cosine schedule ends, as a share of the peak.",
        unit="share",
        everyday=False,
        ge=0,
        le=1,
    )
    weight_decay: float = setting(0.0, "Decoupled weight decay on matrices.", everyday=False, ge=0)
    adam_beta1: float = setting(0.9, "AdamW's first decay rate.", everyday=False, ge=0, lt=1)
    adam_beta2: float = setting(0.95, "AdamW's second decay rate.", everyday=False, ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "AdamW's epsilon.", everyday=False, gt=0)
    max_grad_norm: float = setting(
        1.0, "Clip each trained model's gradient to this norm; 0 = no clipping.", everyday=False, ge=0
    )
    best: str = setting(
        "",
        "Evaluation metric that tells the best checkpoint, as max:NAME or min:NAME; empty: what the command measures.",
        everyday=False,
        pattern=r"^((max|min):\S+)?$",
    )
    keep_checkpoints: int = setting(
        1,
        "Checkpoints kept, beside the best one.",
        unit="checkpoints",
        everyday=False,
        changes_result=False,
        ge=1,
    )
    export_dtype: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        "Dtype of the weights in model/; auto: that of the model it started from, fp32 for one from scratch. Checkpoints stay "
        "fp32.",
        everyday=False,
    )
    tensorboard: bool = setting(
        True, "Also write the metrics as TensorBoard files.", everyday=False, changes_result=False
    )

    def total_steps(self, rows: int) -> int:
        """The number of steps: `max_steps` if set, else as many as `epochs` passes over `rows` rows need."""
        return self.max_steps or max(1, math.ceil(self.epochs * rows / self.batch_size))

    def peak_rate(self, name: str) -> float:
        """The peak learning rate of the trained model of that name: `NAME_learning_rate` where it is set."""
        own: float = getattr(self, f"{name}_learning_rate", 0.0)
        return own or self.learning_rate

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rate at `step` (from 0) of `steps`: linear warm-up, then constant, linear or cosine.

        linear ends at 0 after the last step; cosine ends at `min_rate`.
        """
        warmup = round(self.warmup * steps)
        if step < warmup:
            return (step + 1) / warmup
        share = (step - warmup) / max(steps - warmup, 1)
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "linear":
            return 1.0 - share
        return self.min_rate + (1.0 - self.min_rate) * 0.5 * (1.0 + math.cos(math.pi * share))

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """Beside what is marked: more (or fewer) steps are the same run as long as those made are the same."""
        if name in ("epochs", "max_steps"):
            return self._refuses_steps(before, made)
        if name == "eval_every" and self.load_best:
            return "load_best=true chooses among the steps evaluated"
        return super().refuses(name, before, made)

    def wants_more(self, before: Mapping[str, Any], made: Made) -> bool:
        """Whether these settings ask for more steps."""
        return self.total_steps(made.rows) > self._earlier(before).total_steps(made.rows)

    def _earlier(self, before: Mapping[str, Any]) -> Self:
        return self.model_copy(update={key: before[key] for key in ("max_steps", "epochs")})

    def _refuses_steps(self, before: Mapping[str, Any], made: Made) -> str | None:
        earlier = self._earlier(before)
        if not made.steps or (earlier.max_steps and earlier.max_steps == self.max_steps):
            return None
        if not made.rows and not (earlier.max_steps and self.max_steps):
            return "how many steps an epoch has is not recorded there"
        there, here = earlier.total_steps(made.rows), self.total_steps(made.rows)
        if here < made.steps:
            return f"{made.steps} steps are made already"
        if all(earlier.rate(step, there) == self.rate(step, here) for step in range(made.steps)):
            return None
        return (
            f"with schedule={self.schedule} and warmup={self.warmup:g} the {made.steps} steps made would have had other "
            "learning rates, so train on from its result (model=) instead"
        )


class LoraSettings(RunSettings):
    """Train a low-rank adapter instead of all weights."""

    lora_rank: int = setting(0, "Rank of the LoRA adapter on all linear layers; 0 trains all weights.", ge=0)
    lora_alpha: float = setting(16.0, "Scale of the LoRA adapter (times 1 / rank).", everyday=False, gt=0)


class PretrainSettings(TrainSettings, DataSettings):
    """Train a language model on text, from scratch or from a checkpoint."""

    data: Source = setting(..., "Text: a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.txt*3].")
    model: str = setting(
        "", "Checkpoint or hub model to go on from; empty starts the tiny model from scratch."
    )
    out: Path = run_folder("runs/pretrain")
    batch_size: int = setting(2, "Rows of max_length tokens per step.", unit="rows", ge=1)
    max_length: int = setting(
        256, "Tokens per row: documents are packed into rows, longer ones are cut.", unit="tokens", ge=2
    )
    learning_rate: float = setting(2e-3, "Peak learning rate of AdamW.", gt=0)
    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "Learning rate after the warm-up.")
    vocab_size: int = setting(1024, "Vocabulary of the tiny model's own tokenizer.", unit="tokens", ge=300)
    hidden_size: int = setting(128, "Width of the tiny model.", ge=8)
    layers: int = setting(4, "Layers of the tiny model.", unit="layers", ge=1)
    heads: int = setting(4, "Attention heads of the tiny model.", unit="heads", ge=1)
    context: int = setting(1024, "Context of the tiny model.", unit="tokens", ge=16)
    weight_decay: float = setting(0.1, "Decoupled weight decay on matrices.", everyday=False, ge=0)
    heldout_share: float = setting(
        0.02,
        "Share of the documents held out for evaluation when there is no eval_data.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )
    eval_every: int = setting(
        500, "Evaluate every so many steps, and at both ends.", unit="steps", changes_result=False, ge=1
    )
    save_every: int = setting(
        1000, "Checkpoint every so many steps, and at the end.", unit="steps", changes_result=False, ge=1
    )


class MixSettings(Settings):
    """Text that is trained on beside everything else, in the same updates."""

    mix_data: Source = setting(
        "",
        "Pretraining text to mix into every update: a file, a glob, or hub:OWNER/NAME; empty: none.",
        everyday=False,
    )
    mix_coef: float = setting(
        1.0, "Weight of its loss (nats per token): gamma of PPO-ptx.", everyday=False, gt=0
    )
    mix_batch_size: int = setting(8, "Rows of text per update.", unit="rows", everyday=False, ge=1)
    mix_length: int = setting(
        512, "Longest row of text; documents are packed into rows.", unit="tokens", everyday=False, ge=2
    )


class SFTSettings(TrainSettings, DataSettings, CutSettings, LoraSettings):
    """Fine-tune on demonstrations: the responses are trained, the prompts are not."""

    model: str = setting("runs/pretrain", "Run folder, checkpoint or hub model to start from.")
    data: Source = setting(
        ...,
        "Demonstrations: store:PROJECT or a list of them, a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].",
    )
    out: Path = run_folder("runs/sft")
    batch_size: int = setting(32, "Demonstrations per step.", unit="rows", ge=1)
    store: str = setting(
        "runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.", everyday=False
    )
    train_on_prompt: bool = setting(False, "Train the prompt's tokens too.", everyday=False)


TIES_RATE = 0.02
"""The step of the one number of a model of ties, whatever the rate of the weights: Adam moves each by about its rate, and this
one has a distance of about 1 to go."""


class RewardSettings(TrainSettings, DataSettings, FeedbackSettings, LoraSettings, CutSettings):
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
    groups: dict[str, list[str]] = setting(
        {},
        "A head for each group of annotators, as {experts: [ann, bob], crowd: [eve]}; in a file the column group names the "
        "group, and the lists may be empty.",
        everyday=False,
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
    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "Learning rate after the warm-up.")
    label_smoothing: float = setting(
        0.0,
        "Probability that a preference is wrong, mixed into the labels.",
        everyday=False,
        ge=0,
        lt=0.5,
    )
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
    heldout_share: float = setting(
        0.1,
        "Share of the prompts held out for evaluation when there is no eval_data.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )

    def peak_rate(self, name: str) -> float:
        """As for every command; the model of ties has a rate of its own."""
        return TIES_RATE if name.startswith("ties") else super().peak_rate(name)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.loss != "bradley-terry" and self.margin_coef:
            raise ValueError(
                f"margin_coef={self.margin_coef:g} is for loss=bradley-terry, and loss is {self.loss}: leave one out"
            )
        if self.loss in ("davidson", "rao-kupper") and self.ties == "drop":
            raise ValueError(
                f"loss={self.loss} learns from ties, and ties=drop leaves them out: set ties=keep"
            )
        if self.loss == "plackett-luce":
            refused = {
                "label_smoothing": bool(self.label_smoothing),
                "batch_by=pairs": self.batch_by == "pairs",
                "groups": bool(self.groups),
                "weighted": self.weighted,
            }
            wrong = next((name for name, given in refused.items() if given), "")
            if wrong:
                raise ValueError(
                    f"loss=plackett-luce takes whole rankings, for which {wrong} means nothing: leave it out"
                )
        if self.learn_from == "ratings":
            fields, refused_here = (
                type(self).model_fields,
                (
                    "loss",
                    "batch_by",
                    "groups",
                    "weighted",
                    "half",
                    "previous",
                    "margin_coef",
                    "label_smoothing",
                ),
            )
            given = next((name for name in refused_here if getattr(self, name) != fields[name].default), "")
            if given:
                raise ValueError(f"{given} is about comparisons, and learn_from is ratings: leave it out")
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
        if len(self.groups) == 1:
            raise ValueError(
                "groups has one group, and one head needs no name: name another, or leave groups out"
            )
        twice = Counter(name for names in self.groups.values() for name in set(names)).most_common(1)
        if twice and twice[0][1] > 1:
            raise ValueError(f"groups has {twice[0][0]} in {twice[0][1]} groups: an annotator is in one")
        return self


class ProcessSettings(TrainSettings, DataSettings, LoraSettings, StepSettings):
    """Train a process reward model on marked steps."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model whose body it starts from.")
    data: Source = setting(
        "store:main",
        "Marked steps: store:PROJECT or a list of them, a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].",
    )
    out: Path = run_folder("runs/process")
    batch_size: int = setting(32, "Responses per step.", unit="rows", ge=1)
    learning_rate: float = setting(1e-5, "Peak learning rate of AdamW.", gt=0)
    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "Learning rate after the warm-up.")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    aggregation: Literal["auto", "majority", "all", "dawid-skene", "adjudicated"] = setting(
        "auto",
        "How marks of several annotators become one: auto (adjudicated once somebody has settled a conflict, else majority); "
        "majority; all (a row for each); dawid-skene; adjudicated.",
    )
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
    heldout_share: float = setting(
        0.1,
        "Share of the prompts held out for evaluation when there is no eval_data.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _steps_alone_are_neutral(self) -> Self:
        if self.marks != "steps" and self.neutral != "positive":
            raise ValueError(f"neutral={self.neutral} says nothing with marks={self.marks}: leave it out")
        return self


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
    learning_rate: float = setting(1e-6, "Peak learning rate of AdamW.", gt=0)
    shared_prefix: Literal["keep", "mask"] = setting(
        "keep",
        "What both responses begin with: keep it, or mask it, so that only what comes after their first difference is learnt "
        "(Step-DPO).",
        everyday=False,
    )


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
        "How several people's labels become one, as for reward; dawid-skene, crowd-bt and habit-bt need labels_from=pairs.",
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
