"""The settings of `soup`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import setting
from tutelage.settings.describe import plain
from tutelage.settings.groups import RunSettings, run_folder
from tutelage.settings.ways import way_of

OFF = 1e-6  # how far a sum of weights may be from 1: 0.333333 three times


class SoupSettings(RunSettings):
    """Average the weights of models that were trained from one start: a model for every mixture of their rewards."""

    out: Path = run_folder("runs/soup")
    models: list[str] = setting(
        ...,
        "Two or more models of one start: run folders, folders or hub names, each optionally as name=path.",
    )
    weights: list[float] | list[list[float]] = setting(
        [], "A weight for each model, which sum to 1; or several such lists, of which each gives a model."
    )
    points: int = setting(
        0,
        "Instead of weights: an even grid with so many steps from one model to another; 4 gives 0, 0.25, 0.5, 0.75, 1.",
        unit="steps",
        ge=0,
    )
    ends: bool = setting(True, "The models by themselves (weight 1) are part of the grid of points.")

    @field_validator("models")
    @classmethod
    def _several(cls, models: list[str]) -> list[str]:
        if len(models) < 2:
            raise ValueError(
                f"a soup is of two models or more, and here {'is one' if models else 'are none'}: name another"
            )
        for given in models:
            if not (way := way_of(given.rpartition("=")[2])).plain:
                raise ValueError(
                    f"{way} says how a model is asked, and a soup is of weights: write {way.path}"
                )
        return models

    @field_validator("weights")
    @classmethod
    def _convex(cls, given: list[float] | list[list[float]]) -> list[float] | list[list[float]]:
        for weights in vectors(given):
            if any(weight < 0 for weight in weights):
                raise ValueError(
                    f"{plain(weights)} has a weight below 0, which leaves what lies between the models: take weights from 0 to 1"
                )
            total = math.fsum(weights)
            if abs(total - 1) > OFF:
                raise ValueError(
                    f"{plain(weights)} sums to {total:.6g}, and the weights of a soup sum to 1: divide them by their sum"
                )
        return given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.weights) == bool(self.points):
            many = "both are given" if self.points else "neither is given"
            raise ValueError(
                f"the weights of a soup come from weights or from points, and {many}: keep one, such as weights=[0.5,0.5]"
            )
        for weights in vectors(self.weights):
            if len(weights) != len(self.models):
                raise ValueError(
                    f"weights: {plain(weights)} has {len(weights)} numbers for {len(self.models)} models: give one each"
                )
        if not self.mixtures:
            raise ValueError(
                f"points={self.points} without ends leaves nothing between {len(self.models)} models: take points="
                f"{len(self.models)} or more, or ends=true"
            )
        if not self.points and not self.ends:
            raise ValueError("ends is about the grid of points, and weights are given: leave it out")
        return self

    @property
    def mixtures(self) -> list[list[float]]:
        """The weights of every soup, each summing to 1."""
        if not self.points:
            return [[weight / math.fsum(given) for weight in given] for given in vectors(self.weights)]
        return simplex(len(self.models), self.points, ends=self.ends)

    @property
    def single(self) -> bool:
        """Whether one soup is asked for, which is then the model of the run."""
        return bool(self.weights) and not isinstance(self.weights[0], list)


def vectors(weights: Sequence[float] | Sequence[list[float]]) -> list[list[float]]:
    """One list of weights, or several, as several."""
    several = [given for given in weights if isinstance(given, list)]
    return several or ([[given for given in weights if not isinstance(given, list)]] if weights else [])


def simplex(parts: int, steps: int, *, ends: bool = True) -> list[list[float]]:
    """All weights of so many parts that are multiples of 1/steps and sum to 1, the first part's weight falling.

    ends: with those in which one part has all.  For two parts they stand in the order from the first to the second.
    """

    def compositions(total: int, left: int) -> list[list[int]]:
        if left == 1:
            return [[total]]
        return [
            [first, *rest] for first in range(total, -1, -1) for rest in compositions(total - first, left - 1)
        ]

    return [
        [count / steps for count in counts]
        for counts in compositions(steps, parts)
        if ends or max(counts) < steps
    ]
