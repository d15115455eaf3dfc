"""Rewards as settings say them: which judges, how they are mixed, and the options of each kind of judge.

A reward is a judge's name, or a list of parts: a judge's name, or a mapping with `judge` and the options of its kind.

    reward: runs/reward
    reward: [runs/reward, {judge: world, weight: 0.5}, {judge: "https://host/safety", gate: 0.5}]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from tutelage.settings.base import Settings, build, setting
from tutelage.settings.describe import mark, plain

WORLD = "world"
PYTHON = "python:"
HTTP, HTTPS = "http://", "https://"
UNCERTAINTY = 0.1


class RewardPart(Settings):
    """What every part of a reward may say beside `judge`."""

    weight: float = setting(1.0, "What its score is multiplied with; 0 only watches it.")
    normalise: Literal["auto", "none", "zscore", "rank"] = setting(
        "auto",
        "auto: a reward model in standard deviations of its scores on the reference's responses, all else as it is; none; "
        "zscore: by the mean and deviation of all training batches so far; rank: its rank in the batch, from -1 to 1.",
    )
    gate: float | None = setting(
        None,
        "Where its score is below this, weight times its score takes the place of the sum; elsewhere it adds nothing.",
    )
    name: str = setting("", "What it is called in metrics; empty: as its judge is.")

    @field_validator("name")
    @classmethod
    def _one_level(cls, name: str) -> str:
        if "/" in name:
            raise ValueError(
                f"{name} has a slash, which stands between a part and what it is made of: write it without"
            )
        return name

    @model_validator(mode="after")
    def _gates_are_raw(self) -> RewardPart:
        if self.gate is not None and self.normalise in ("zscore", "rank"):
            raise ValueError(
                f"gate and normalise: {self.normalise} do not go together, for a gate compares the score as it is: leave one out"
            )
        return self


class WorldPart(RewardPart):
    """The gold standard of the embedded world."""

    judge: Literal["world"] = setting(..., "The world.")


class PythonPart(RewardPart):
    """A judge of a Python module."""

    judge: str = setting(..., "python:MODULE:NAME.")


class ModelPart(RewardPart):
    """A reward model."""

    judge: str = setting(..., "Its run folder, folder or hub name.")


class EnsemblePart(RewardPart):
    """Several reward models that speak with one voice."""

    judge: list[str] = setting(..., "The reward models.")
    combine: Literal["mean", "worst", "uncertainty"] = setting(
        "mean",
        "How their scores, each in its own standard deviations, become one: mean; worst (the lowest); uncertainty (the mean "
        "less uncertainty_coef times the variance).",
    )
    uncertainty_coef: float | None = setting(
        None, f"Weight of the variance, for combine: uncertainty; null = {UNCERTAINTY}.", ge=0
    )

    @field_validator("judge")
    @classmethod
    def _models(cls, judges: list[str]) -> list[str]:
        if len(judges) < 2:
            raise ValueError(
                "an ensemble has at least two reward models: name another, or write one without brackets"
            )
        for number, judge in enumerate(judges):
            if kind_of(judge) is not ModelPart:
                raise ValueError(
                    f"{judge} is no reward model, and an ensemble is of reward models: make it a part of its own"
                )
            if judge in judges[:number]:
                raise ValueError(f"{judge} stands twice in one ensemble: keep one")
        return judges

    @model_validator(mode="after")
    def _nothing_ignored(self) -> EnsemblePart:
        if self.uncertainty_coef is not None and self.combine != "uncertainty":
            raise ValueError(
                f"uncertainty_coef means nothing with combine: {self.combine}: leave it out, or write combine: uncertainty"
            )
        return self


class RemotePart(RewardPart):
    """A judge that answers over HTTP."""

    judge: str = setting(..., "Its address, as http://localhost:8100/score.")
    batch_size: int = setting(
        32, "Responses per request.", unit="responses", changes_result=False, ge=1, le=10_000
    )
    concurrency: int = setting(4, "Requests at a time.", unit="requests", changes_result=False, ge=1, le=256)
    timeout: float = setting(
        60.0,
        "One request may take so long, from the connection to the last byte.",
        unit="s",
        changes_result=False,
        gt=0,
    )
    patience: float = setting(
        300.0,
        "A batch is sent again for so long before the run stops; 0 sends it once.",
        unit="s",
        changes_result=False,
        ge=0,
    )
    token_env: str = setting(
        "", "Environment variable with the token that is sent (Authorization: Bearer).", changes_result=False
    )

    @field_validator("judge")
    @classmethod
    def _address(cls, judge: str) -> str:
        try:
            address = urlsplit(judge)
            usable = bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"{judge} is no address: write it like http://localhost:8100/score")
        if address.username or address.password:
            raise ValueError(
                f"{address.hostname} is called with a password in its address, which is written down with the settings: put it "
                "into an environment variable, and the variable's name into token_env"
            )
        return judge


AnyPart = WorldPart | PythonPart | ModelPart | EnsemblePart | RemotePart

KINDS: Mapping[str, type[AnyPart]] = {PYTHON: PythonPart, HTTP: RemotePart, HTTPS: RemotePart}
"""What a judge's name begins with -> what may be said of it.  Any other name is a reward model's."""


def kind_of(judge: str) -> type[AnyPart]:
    """The options that the judge of this name has."""
    if judge == WORLD:
        return WorldPart
    return next((kind for prefix, kind in KINDS.items() if judge.startswith(prefix)), ModelPart)


def names_model(judge: str) -> bool:
    """Whether this names a reward model, which is an input of the run."""
    return kind_of(judge) is ModelPart


def read_parts(reward: Any) -> list[AnyPart]:
    """The parts of a reward with all their options.

    Raises ValueError, one sentence that names the part, for an unknown or unfit option, names that are not unique, and a
    mix that can reward nothing.
    """
    given = reward if isinstance(reward, list | tuple) else [reward]
    parts = [read_part(part, f"part {number}") for number, part in enumerate(given, 1)]
    names = [part.name for part in parts if part.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two parts of the reward are named {twice!r}: give one of them another name")
    if not any(part.gate is None and part.weight for part in parts):
        raise ValueError(
            "nothing is rewarded, for the reward has no part without a gate whose weight is not 0: add one"
        )
    return parts


def read_part(part: Any, where: str) -> AnyPart:
    """One part, from a judge's name or a mapping.  `where` says which, for the error."""
    given = {"judge": part} if isinstance(part, str) else part
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {plain(part)}, but a part of a reward is a judge's name or a mapping")
    judge = given.get("judge")
    if isinstance(judge, str) and judge.startswith(("{", "[")):
        raise ValueError(
            f"{where} is a text, {judge}: parts with options stand in a list, as [{{judge: world, weight: 0.5}}]"
        )
    if not judge or not isinstance(judge, str | list | tuple):
        raise ValueError(f"{where} has no judge: write one, as in {{judge: runs/reward, weight: 0.5}}")
    kind = kind_of(judge) if isinstance(judge, str) else EnsemblePart
    try:
        return build(kind, given)
    except ValueError as error:
        raise ValueError(f"{where} ({plain(judge)}): {error}") from None


def paths_in(reward: str | Sequence[Any]) -> list[str]:
    """The reward models that a reward names, in its order: a run's inputs."""
    found = []
    for part in read_parts(reward):
        judges = part.judge if isinstance(part, EnsemblePart) else [part.judge]
        found += [judge for judge in judges if names_model(judge)]
    return list(dict.fromkeys(found))


def same_reward(before: Any, now: Any) -> bool:
    """Whether a run may go on with the reward `now`: it differs at most in what changes no score, such as a timeout.

    A list of one part is another reward than its judge alone: it has other metrics.
    """
    return isinstance(before, str) == isinstance(now, str) and _scoring(before) == _scoring(now)


def _scoring(reward: Any) -> list[dict[str, Any]]:
    """What of a reward changes its scores."""
    return [
        {
            name: getattr(part, name)
            for name, field in type(part).model_fields.items()
            if mark(field, "changes_result")
        }
        for part in read_parts(reward)
    ]


def checked_reward(reward: Any) -> Any:
    """The reward as it was given.  Raises ValueError where `read_parts` does: before anything is loaded."""
    read_parts(reward)
    return reward
