"""The settings of `eval front`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, field_validator, model_validator

from tutelage.settings.base import Made, setting
from tutelage.settings.evals import PassSettings
from tutelage.settings.groups import (
    DeviceSettings,
    GeneratingSettings,
    RowSettings,
    RunSettings,
    Source,
    run_folder,
)
from tutelage.settings.judges import read_parts, same_reward
from tutelage.settings.ways import way_of


def several_rewards(rewards: Any) -> Any:
    """The rewards as they were given.  Raises ValueError where they are not objectives: fewer than two, a weight that is no
    direction, a gate, scores that other responses change."""
    parts = read_parts(rewards)
    if len(parts) < 2:
        raise ValueError(f"a front is between two rewards or more, and here are {len(parts)}: name another")
    for number, part in enumerate(parts, 1):
        where = f"part {number} ({part.judge})"
        if part.mix.gate is not None:
            raise ValueError(
                f"{where}: a gate belongs to a mix, and here every reward stands alone: leave gate out"
            )
        if part.mix.weight not in (1, -1):
            raise ValueError(
                f"{where}: weight is {part.mix.weight:g}, but a front weighs nothing: write 1 where more is better, -1 where "
                "less is"
            )
        if part.mix.normalise in ("zscore", "rank"):
            raise ValueError(
                f"{where}: normalise: {part.mix.normalise} makes a score depend on the other responses: take auto or none"
            )
    return rewards


Rewards = Annotated[list[str | dict[str, Any]], AfterValidator(several_rewards)]
"""Judges as a reward has them, each an objective: weight 1, more is better; -1, less is."""


class FrontSettings(RunSettings, RowSettings, DeviceSettings, GeneratingSettings, PassSettings):
    """Measure models by several rewards: which are on the front, and how much each group of models covers."""

    out: Path = run_folder("runs/front")
    models: list[str] = setting(
        ...,
        "Models, each optionally as name=path; those named GROUP/... are a group, and all models of a soup's run folder are one.",
    )
    rewards: Rewards = setting(
        ...,
        "Two or more judges, as a reward has them; weight 1: more is better (as is without), -1: less is.",
    )
    prompts: Source = setting(..., "Held-out prompts: a file with the columns prompt, task and reference.")
    reference: str = setting(
        "", "Name or path of the model that the KL is measured to, which is measured too; empty = no KL."
    )
    point: list[float] = setting(
        [],
        "What hypervolumes are measured from, a value of each reward; empty = the worst mean of any model, in each.",
    )
    samples: int = setting(1, "Responses of each model to each prompt.", unit="responses", ge=1)
    max_prompts: int = setting(
        300, "At most so many prompts, drawn by seed in equal shares per task; 0 = all.", unit="prompts", ge=0
    )
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)
    resamples: int = setting(
        1000, "Bootstrap resamples of the prompts behind each interval.", everyday=False, ge=100
    )

    @field_validator("models")
    @classmethod
    def _as_they_are(cls, models: list[str]) -> list[str]:
        for given in models:
            if not (way := way_of(given.rpartition("=")[2])).plain:
                raise ValueError(f"{way}: models are measured as they are here: write {way.path}")
        return models

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.point and len(self.point) != len(self.rewards):
            raise ValueError(
                f"point has {len(self.point)} values for {len(self.rewards)} rewards: give one of each, in their order"
            )
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                "temperature=0 draws the same response every time: set samples=1, or temperature=1"
            )
        if self.temperature == 0 and self.reference:
            raise ValueError(
                "temperature=0 draws no samples of a model, and the KL is a mean over samples: set temperature=1, or no reference"
            )
        return self

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no score of a judge, such as a timeout, may change."""
        if name == "rewards" and before[name] and same_reward(before[name], self.rewards):
            return None
        return super().refuses(name, before, made)
