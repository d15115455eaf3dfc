"""The settings of the training commands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from tutelage.settings.base import Made, Settings, setting
from tutelage.settings.groups import (
    CutSettings,
    DataSettings,
    DeviceSettings,
    LaunchSettings,
    PlanSettings,
    RefinedRows,
    RunSettings,
    Source,
    run_folder,
)


class TrainSettings(LaunchSettings, DeviceSettings, PlanSettings):
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
    refined: RefinedRows = setting(
        "solutions",
        "What refinements in the store give: solutions (the sound ones, without the feedback); corrections (a step rewritten, as "
        "an answer to what is wrong with it: a refiner); none.",
        everyday=False,
    )
    preferred: bool = setting(
        False,
        "From the store also the better responses of what was compared: positive examples alone.",
        everyday=False,
    )
    train_on_prompt: bool = setting(False, "Train the prompt's tokens too.", everyday=False)
