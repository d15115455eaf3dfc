"""The settings of `distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import setting
from tutelage.settings.groups import CutSettings, GeneratingSettings, RowSettings, Source, run_folder
from tutelage.settings.train import LoraSettings, TrainSettings


class DistillSettings(TrainSettings, RowSettings, CutSettings, LoraSettings, GeneratingSettings):
    """Teach a student what a teacher writes, or the distributions that it would write from."""

    model: str = setting("runs/sft", "The student: run folder, checkpoint or hub model to start from.")
    teacher: str = setting(
        "",
        "The teacher: run folder, checkpoint or hub model, which is not changed; empty: data holds what one has written.",
    )
    prompts: Source = setting("", "Prompts to respond to: a file, a glob, or hub:OWNER/NAME.")
    data: Source = setting(
        "", "Demonstrations to learn from beside or instead: a file, a glob, or hub:OWNER/NAME; empty: none."
    )
    eval_prompts: Source = setting("", "Prompts for evaluation, alike; empty skips it.")
    out: Path = run_folder("runs/distill")
    learn_from: Literal["outputs", "logits", "on-policy"] = setting(
        "outputs",
        "What the teacher writes (outputs); its distributions of the next token at that and at data (logits); or these at what "
        "the student itself writes (on-policy).",
    )
    divergence: Literal["forward-kl", "reverse-kl", "jsd"] = setting(
        "forward-kl",
        "Between the distributions: forward-kl, KL(teacher || student); reverse-kl, KL(student || teacher); jsd, between both.",
    )
    batch_size: int = setting(32, "Rows per step; on-policy: prompts and rows of data.", unit="rows", ge=1)
    samples: int = setting(1, "Responses per prompt.", unit="responses", everyday=False, ge=1)
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    keep: Literal["all", "agreed"] = setting(
        "all",
        "Learn all responses; or only those which the student, before it learns, would give itself (word by word), and in place "
        "of the others the abstention.",
    )
    abstention: str = setting(
        "I do not know.", "What is learnt where student and teacher do not agree.", everyday=False
    )
    beta: float = setting(
        0.5, "The teacher's weight in the mixture of jsd: near 0 as forward-kl, near 1 as reverse-kl.",
        everyday=False, gt=0, lt=1,
    )  # fmt: skip
    logits_temperature: float = setting(
        1.0,
        "Both distributions are compared at this temperature, and the divergence is multiplied by its square.",
        everyday=False,
        gt=0,
    )
    temperature: float = setting(
        1.0, "Sampling temperature of the responses; 0 takes the likeliest token.", everyday=False, ge=0
    )
    data_share: float = setting(
        0.5,
        "Share of a step's rows that come from data, where there are prompts, too (1 - lambda of GKD).",
        unit="share",
        everyday=False,
        gt=0,
        lt=1,
    )
    cut_responses: Literal["keep", "drop"] = setting(
        "keep",
        "Responses that were cut at the longest length when they were written: keep trains them as they are, without an "
        "end; drop leaves them out.",
        everyday=False,
    )
    max_length: int = setting(
        1024, "Longest sequence, prompt and response together.", unit="tokens", everyday=False, ge=2
    )
    max_prompt_length: int = setting(
        512, "Longer prompts are left out, and counted.", unit="tokens", everyday=False, ge=1
    )
    max_eval_prompts: int = setting(
        128, "Use only so many evaluation prompts.", unit="prompts", everyday=False, ge=1
    )
    micro_batch_tokens: int = setting(
        4096,
        "Tokens per forward pass; changes memory and speed, never a gradient.",
        unit="tokens",
        everyday=False,
        changes_result=False,
        ge=1,
    )

    @property
    def on_policy(self) -> bool:
        """Whether the student writes what it learns from."""
        return self.learn_from == "on-policy"

    @property
    def data_rows(self) -> int:
        """Rows of a step that come from data."""
        if not (self.data and self.prompts):
            return self.batch_size if self.data else 0
        return round(self.data_share * self.batch_size)

    @field_validator("abstention")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError('it is empty: give words, for example "I do not know."')
        return text

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if not self.teacher and (self.learn_from != "outputs" or self.prompts or self.eval_prompts):
            wanting = "prompts" if self.prompts else "eval_prompts"
            why = wanting if self.learn_from == "outputs" else f"learn_from={self.learn_from}"
            raise ValueError(f"{why} needs a teacher: set teacher to a run folder, checkpoint or hub model")
        if self.teacher and not self.prompts and self.learn_from != "logits":
            raise ValueError(
                f"learn_from={self.learn_from} has nothing to respond to: set prompts to a file, or leave teacher out where data "
                "holds its responses"
            )
        if not (self.prompts or self.data):
            raise ValueError("there is nothing to learn from: set prompts, data or both to a file")
        if not self.teacher and self.keep == "all":
            raise ValueError(
                "without a teacher, and with keep=all, this is fine-tuning on data: use `sft`, or set keep=agreed"
            )
        return self

    @model_validator(mode="after")
    def _uses_what_is_set(self) -> Self:
        if self.learn_from == "outputs" and (idle := self.set_of("divergence", "beta", "logits_temperature")):
            raise ValueError(
                f"{idle}={getattr(self, idle)} is about distributions, and learn_from=outputs learns the tokens alone: set "
                "learn_from=logits or on-policy, or leave it out"
            )
        if self.divergence != "jsd" and self.set_of("beta"):
            raise ValueError(f"beta={self.beta:g} is for divergence=jsd, not {self.divergence}: leave it out")
        if self.learn_from != "outputs" and self.keep == "agreed":
            raise ValueError(
                f"keep=agreed replaces what is learnt by the abstention, of which learn_from={self.learn_from} has no "
                "distribution: set learn_from=outputs, or keep=all"
            )
        if self.keep == "all" and self.set_of("abstention"):
            raise ValueError("abstention is for keep=agreed, which replaces responses by it: leave it out")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"temperature=0 draws the same response every time, and samples={self.samples} asks for several: set "
                "samples=1, or another temperature"
            )
        if self.set_of("data_share") and not (self.data and self.prompts):
            raise ValueError("data_share shares a step between prompts and data: set both, or leave it out")
        if self.prompts and self.data and not 0 < self.data_rows < self.batch_size:
            raise ValueError(
                f"data_share={self.data_share:g} of batch_size={self.batch_size} leaves no row for one of the two: set another "
                "share, or a larger batch_size"
            )
        return self
