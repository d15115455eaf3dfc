"""The settings of `sample`, `select` and `mark`: what a model draws, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Made, setting
from tutelage.settings.groups import (
    DeviceSettings,
    FewShotForm,
    GeneratingSettings,
    LaunchSettings,
    MaybeReward,
    PlanSettings,
    Reward,
    RowSettings,
    RunSettings,
    Source,
    StepSettings,
    few_shot_form,
    run_folder,
)
from tutelage.settings.judges import LLM, by_rank, read_parts, same_reward
from tutelage.settings.served import ServedSettings
from tutelage.settings.ways import UNTRAINED, Way, check_demonstrations, way_of


class AnsweringSettings(RunSettings, RowSettings, DeviceSettings, GeneratingSettings, PlanSettings):
    """What every command has in which a model answers without learning, wherever the prompts come from."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to sample from.")
    samples: int = setting(2, "Responses per prompt.", unit="responses", ge=1)
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)
    max_prompts: int = setting(0, "Use only so many prompts, from the first; 0 = all.", unit="prompts", ge=0)

    @property
    def way(self) -> Way:
        """The model, and how it is put to work."""
        return Way(self.model)

    @property
    def draws(self) -> int:
        """Responses that are drawn for a prompt."""
        return self.samples

    @property
    def scored_by(self) -> Any:
        """The reward that scores them; "": none does."""
        return ""

    @property
    def asked(self) -> Source:
        """The rows whose prompts are answered."""
        raise NotImplementedError

    @property
    def reads(self) -> Mapping[str, Source]:
        """The settings that name rows, with what they name."""
        raise NotImplementedError

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no score of a reward, such as a timeout, may change."""
        if name == "reward" and before["reward"] and self.scored_by:
            return None if same_reward(before["reward"], self.scored_by) else ""
        return super().refuses(name, before, made)

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if not self.scored_by:
            return self
        if self.temperature == 0 and self.draws > 1:
            raise ValueError(
                "temperature=0 draws the same response every time, so there is nothing to choose from: set temperature=1"
            )
        if by_rank(self.scored_by):
            raise ValueError(by_rank(self.scored_by))
        return self


class DrawingSettings(AnsweringSettings):
    """What those have whose prompts stand in a file of their own."""

    prompts: Source = setting(..., "Prompts: a file, a glob, or hub:OWNER/NAME.")

    @property
    def asked(self) -> Source:
        """The rows whose prompts are answered."""
        return self.prompts

    @property
    def reads(self) -> Mapping[str, Source]:
        """The settings that name rows, with what they name."""
        return {"prompts": self.prompts}


class SampleSettings(LaunchSettings, DrawingSettings, ServedSettings):
    """Sample responses to prompts, and record them in the store with where they came from."""

    out: Path = run_folder("runs/sample")
    model: str = setting(
        "runs/sft",
        "Run folder, checkpoint or hub model to sample from; few-shot-4:PATH is shown four examples of demonstrations.",
    )
    demonstrations: Source = setting(
        "", "Prompts with responses, of which a model few-shot-N:PATH is shown N examples, drawn by seed."
    )
    few_shot_form: FewShotForm = few_shot_form()
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store that receives prompts and responses.")
    weights: dict[str, float] = setting(
        {},
        "What counts how much, written in front of every prompt, for a policy that reads it (weights_in_prompt), as {short: 1}.",
        everyday=False,
    )
    best_of: int = setting(1, "Every response is the best of so many that are drawn.", unit="responses", ge=1)
    reward: MaybeReward = setting(
        "", "Who says which is best, with best_of: a reward model, another judge, or a list of judges."
    )
    missing_eos_score: float | None = setting(
        -1.0,
        "With best_of, the score of a response without an end, in units of the reward: a reward model's are standard "
        "deviations; null: it is scored like any other.",
        everyday=False,
    )

    @property
    def way(self) -> Way:
        """The model, and behind how many examples it answers."""
        return way_of(self.model)

    @property
    def reads(self) -> Mapping[str, Source]:
        """The settings that name rows, with what they name."""
        examples: dict[str, Source] = {"demonstrations": self.demonstrations} if self.demonstrations else {}
        return {**super().reads, **examples}

    @model_validator(mode="after")
    def _examples_or_none(self) -> Self:
        if self.weights and self.way.shots:
            raise ValueError(
                f"weights are for a policy that learnt to read them, and {self.model} is shown examples: leave one of them out"
            )
        check_demonstrations([self.model], self.demonstrations, "the model")
        if self.way.untrained:
            raise ValueError(
                f"model={self.model} has fresh weights, and what it says is not worth storing: leave {UNTRAINED}: out"
            )
        if not self.way.shots and self.set_of("few_shot_form"):
            raise ValueError(
                "few_shot_form is for a model that is shown examples, and this one is not: write few-shot-4: before the "
                "model, or leave few_shot_form out"
            )
        return self

    @property
    def draws(self) -> int:
        """Responses that are drawn for a prompt, those that are not the best included."""
        return self.samples * self.best_of

    @property
    def scored_by(self) -> Any:
        """The reward that chooses; "": none is asked."""
        return self.reward

    @model_validator(mode="after")
    def _best_by_a_reward(self) -> Self:
        if self.best_of > 1 and not self.reward:
            raise ValueError(
                f"best_of={self.best_of} needs somebody who says which is best: add reward=runs/reward, say"
            )
        if self.reward and self.best_of == 1:
            raise ValueError(
                "reward says which of several is best, but best_of=1 draws one: set best_of=4, say"
            )
        return self


CHOICE = ("keep", "threshold", "top_share", "select", "deduplicate", "keep_cut", "otherwise")
"""What of `select` says which responses are kept, and not what is drawn."""


class SelectSettings(LaunchSettings, DrawingSettings, ServedSettings):
    """Draw several responses to each prompt and write the best as demonstrations (rejection sampling)."""

    from_checkpoints: ClassVar[bool] = False  # but from the responses that are there

    out: Path = run_folder("runs/select")
    reward: Reward = setting(
        "runs/reward", "Who scores: a reward model's run folder, another judge, or a list of judges."
    )
    samples: int = setting(8, "Responses drawn per prompt.", unit="responses", ge=1)
    keep: int = setting(1, "Responses kept of each prompt, the best; 0 = no limit.", unit="responses", ge=0)
    threshold: float | None = setting(
        None, "Keep only what scores at least this, in units of the reward; null = no limit.", unit="score"
    )
    top_share: float = setting(
        1.0, "Keep at most this share of all that is drawn, the best; 1 = no limit.", unit="share", gt=0, le=1
    )
    select: Literal["best", "random"] = setting(
        "best", "The best, or of each prompt as many by chance, which shows what choosing is worth."
    )
    otherwise: str = setting(
        "",
        "Response that is written to prompts of which nothing is kept, such as I do not know.; empty: none is.",
    )
    deduplicate: bool = setting(True, "Equal responses to a prompt are kept once.", everyday=False)
    keep_cut: bool = setting(
        False, "Responses without an end may be kept too; sft trains no end on them.", everyday=False
    )

    @field_validator("otherwise")
    @classmethod
    def _says_something(cls, otherwise: str) -> str:
        if otherwise and not otherwise.strip():
            raise ValueError(
                "it is blank, and would teach to say nothing: write what is said instead, or leave it out"
            )
        return otherwise

    @property
    def scored_by(self) -> Any:
        """The reward that scores what is drawn."""
        return self.reward

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What is kept may change: it is chosen anew from the responses that are there."""
        return None if name in CHOICE else super().refuses(name, before, made)

    def wants_more(self, before: Mapping[str, Any], made: Made) -> bool:
        """Whether something else is to be kept now."""
        now = self.model_dump(mode="json")
        return any(before.get(name) != now[name] for name in CHOICE)


class ReviseSettings(RunSettings, RowSettings):
    """Let a language model criticise responses by the principles of a constitution, and write them anew."""

    out: Path = run_folder("runs/revise")
    data: Source = setting(
        ..., "Responses to revise: prompts with responses, such as samples.jsonl of `sample`."
    )
    judge: Reward = setting(
        ...,
        "Who criticises and revises: {judge: llm:NAME, url: ...} with the options of a judge that is asked in words.",
    )
    constitution: str = setting("", "File with a principle in each line; empty: our own eight.")
    rounds: int = setting(
        1,
        "Times that a response is criticised and revised, each by another principle.",
        unit="rounds",
        ge=1,
        le=16,
    )
    max_rows: int = setting(0, "At most so many responses, drawn by seed; 0 = all.", unit="rows", ge=0)
    calls: str = setting(
        "runs/store.sqlite", "Store that keeps every question and its answer.", changes_result=False
    )

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no answer, such as a timeout, may change."""
        if name == "judge" and same_reward(before[name], self.judge):
            return None
        return super().refuses(name, before, made)

    @field_validator("judge")
    @classmethod
    def _asked_in_words(cls, given: Any) -> Any:
        [part, *more] = read_parts(given)
        if more or part.kind != LLM:
            raise ValueError("who revises is one language model: write {judge: llm:NAME, ...} in brackets")
        if unused := part.options.set_of(*NOT_FOR_WRITING):
            raise ValueError(f"{unused} is for a judge, and means nothing for who revises: leave it out")
        return given


NOT_FOR_WRITING = (
    "template",
    "mode",
    "orders",
    "exemplars",
    "exemplar_count",
    "constitution",
    "repair",
    "unrated",
    "json_answer",
    "calls",
)


class MarkSettings(DrawingSettings, StepSettings):
    """Mark the steps of solutions by how often the model, going on from each, comes out right."""

    from_checkpoints: ClassVar[bool] = False  # but from the rollouts that are there

    out: Path = run_folder("runs/mark")
    prompts: Source = setting(
        "",
        "Prompts to which the model writes the solutions: a file, a glob, or hub:OWNER/NAME; empty: they stand in data.",
    )
    data: Source = setting(
        "",
        "Solutions to mark, instead of prompts: rows in steps, or with a response; a file, a glob, or hub:OWNER/NAME.",
    )
    reward: Reward = setting(
        "verify:maths",
        "Who says whether a response is right: a verifier, another judge, or a list of judges.",
    )
    right_above: float = setting(0.5, "A response is right if it scores more than this.", unit="score")
    rollouts: int = setting(8, "Responses drawn from the end of each step.", unit="responses", ge=1)
    labels: Literal["soft", "hard"] = setting(
        "soft", "A step's label: the share of its rollouts that are right (soft), or whether any is (hard)."
    )
    samples: int = setting(4, "Solutions that the model writes to each prompt.", unit="responses", ge=1)
    max_new_tokens: int = setting(
        128, "Longest solution; a rollout may be as long, with what it goes on from.", unit="tokens", ge=1
    )
    first_error: bool = setting(
        True, "Roll out nothing behind the first step from which no rollout is right.", everyday=False
    )

    @property
    def draws(self) -> int:
        """Responses that are drawn for a prompt at a time."""
        return self.rollouts * (1 if self.data else self.samples)

    @property
    def scored_by(self) -> Any:
        """The reward that says what is right."""
        return self.reward

    @property
    def reads(self) -> Mapping[str, Source]:
        """The settings that name rows, with what they name."""
        return {"data": self.data} if self.data else super().reads

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """The labels may be of the other kind: they are made anew from the rollouts that are there."""
        return None if name == "labels" else super().refuses(name, before, made)

    def wants_more(self, before: Mapping[str, Any], made: Made) -> bool:
        """Whether the labels are to be of the other kind now."""
        return before.get("labels") != self.labels

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if self.temperature == 0 and self.rollouts > 1:
            raise ValueError(
                "temperature=0 draws the same rollout every time: set temperature=1, or rollouts=1"
            )
        if by_rank(self.reward):
            raise ValueError(by_rank(self.reward))
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.prompts) == bool(self.data):
            both = "both are given" if self.data else "neither is given"
            raise ValueError(
                f"the solutions are written to prompts, or stand in data, and {both}: give one of the two"
            )
        for name in ("samples", "max_prompts"):
            if self.data and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is for solutions that the model writes, and data has them: leave it out"
                )
        return self
