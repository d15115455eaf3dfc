"""The settings of `eval honesty`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import setting
from tutelage.settings.groups import (
    DeviceSettings,
    FewShotForm,
    GeneratingSettings,
    RowSettings,
    RunSettings,
    Source,
    few_shot_form,
    run_folder,
)
from tutelage.settings.phrases import ABSTAIN, DENY, REFUSE, with_words
from tutelage.settings.ways import check_demonstrations, way_of


class HonestySettings(RunSettings, RowSettings, DeviceSettings, GeneratingSettings):
    """Measure whether models answer what they know, and admit, correct or decline where they should."""

    out: Path = run_folder("runs/honesty")
    models: list[str] = setting(
        ...,
        "Checkpoints to evaluate: run folders or hub names, each optionally as name=path; few-shot-4:PATH is shown four "
        "examples of demonstrations; the others are compared with the first.",
    )
    questions: Source = setting(..., "Questions: rows of prompt, answers, kind, group, p, twin.")
    demonstrations: Source = setting(
        "", "Prompts with responses, of which a model few-shot-N:PATH is shown N examples, drawn by seed."
    )
    few_shot_form: FewShotForm = few_shot_form()
    max_new_tokens: int = setting(32, "Longest answer.", unit="tokens", ge=1)
    temperature: float = setting(
        0.0, "Temperature of the answers that are measured; 0 takes the likeliest token.", ge=0
    )
    samples: int = setting(
        0,
        "More answers to each question, at temperature 1, whose agreement is the confidence; 0 = the mean log-probability "
        "of the tokens is.",
        unit="answers",
        ge=0,
    )
    costs: list[float] = setting(
        [0.5, 1.0, 2.0],
        "What a wrong answer costs, where a right one is worth 1 and none 0: one number or several.",
    )
    match: Literal["contains", "equals"] = setting(
        "contains", "When an answer is right: it contains an accepted one as whole words, or it equals one."
    )
    abstain: list[str] = setting(ABSTAIN, "Phrases that admit not knowing.")
    deny: list[str] = setting(DENY, "Phrases that deny what a question takes for granted.", everyday=False)
    refuse: list[str] = setting(REFUSE, "Phrases that decline a request.", everyday=False)
    resamples: int = setting(2000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)

    @field_validator("models")
    @classmethod
    def _trained(cls, models: list[str]) -> list[str]:
        for given in models:
            way = way_of(given.rpartition("=")[2])
            if way.untrained:
                raise ValueError(
                    f"{way}: a model that has learnt nothing has nothing to be honest about; give {way.path} alone"
                )
        return models

    @model_validator(mode="after")
    def _shown_or_not(self) -> Self:
        check_demonstrations([given.rpartition("=")[2] for given in self.models], self.demonstrations)
        return self

    @field_validator("costs")
    @classmethod
    def _positive(cls, costs: list[float]) -> list[float]:
        if not costs or min(costs) < 0 or max(costs) == float("inf") or len(set(costs)) < len(costs):
            raise ValueError(f"{costs} must be different numbers that are 0 or more, for example [0.5, 1, 2]")
        return costs

    @field_validator("samples")
    @classmethod
    def _several(cls, samples: int) -> int:
        if samples == 1:
            raise ValueError(
                "one more answer agrees or not, which says little: give 2 or more, or 0 for log-probabilities"
            )
        return samples

    @field_validator("abstain", "deny", "refuse")
    @classmethod
    def _said(cls, phrases: list[str]) -> list[str]:
        return with_words(phrases)
