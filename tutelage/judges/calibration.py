"""Scores in standard deviations: the mean and the spread of a judge's scores, as stored, as measured at the start of a run,
or as they are over all batches of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.judges.judge import Judge, checked
from tutelage.records import Prompt, Response, Score

ROUNDING = 1e-12
"""A deviation below so much of the mean is what rounding leaves of scores that are all equal."""


class Calibration(nn.Module):
    """value = (raw - mean) / std.

    The numbers are buffers, so that a checkpoint has them: what was measured at the start of a run holds to its end.
    Scores that nobody has measured stay as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, known: tuple[float, float] | None = None) -> None:
        super().__init__()
        mean, std = known or (math.nan, math.nan)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64))

    @property
    def known(self) -> bool:
        return not bool(self.std.isnan())

    @property
    def told(self) -> str:
        """Mean and deviation, in words."""
        return f"{float(self.mean):.3g} and {float(self.std):.3g}"

    def measure(self, raw: Sequence[float]) -> None:
        """Take mean and standard deviation from scores; where all are equal the deviation counts as 1."""
        mean, squares = _moments(raw)
        self._set(mean, squares / len(raw))

    def forward(self, raw: Tensor) -> Tensor:
        """Any shape and dtype."""
        return (raw - float(self.mean)) / float(self.std) if self.known else raw

    def scaled(self, scores: Sequence[Score | None]) -> list[Score | None]:
        """Scores in these units; places in a response are in them too, without the mean, which belongs to the whole."""
        if not self.known:
            return list(scores)
        mean, std = float(self.mean), float(self.std)
        return [
            score
            and Score(
                (score.value - mean) / std,
                score.parts,
                tuple((token, value / std) for token, value in score.at),
            )
            for score in scores
        ]

    def _set(self, mean: float, variance: float) -> None:
        std = math.sqrt(variance)
        self.mean.fill_(mean)
        self.std.fill_(std if std > ROUNDING * abs(mean) else 1.0)


class RunningCalibration(Calibration):
    """Mean and standard deviation of all scores that it has learnt from (Welford 1962; batches merged as in Chan, Golub and
    LeVeque 1979).  How the scores of a batch are ordered changes no bit of them."""

    count: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(0, dtype=torch.int64))
        self.register_buffer("squares", torch.tensor(0.0, dtype=torch.float64))  # sum of (raw - mean)^2

    def measure(self, raw: Sequence[float]) -> None:
        """The reference's responses are the first that it learns from."""
        self.learn(raw)

    def learn(self, raw: Sequence[float]) -> None:
        """Take in the scores of one batch."""
        if not raw:
            return
        before, count = int(self.count), int(self.count) + len(raw)
        mean, squares = _moments(raw)
        if before:
            apart = mean - float(self.mean)
            squares += float(self.squares) + apart * apart * before * len(raw) / count
            mean = float(self.mean) + apart * len(raw) / count
        self.count.fill_(count)
        self.squares.fill_(squares)
        self._set(mean, squares / count)


TASK = "task_"  # begins the name of a task's own calibration, which must not be empty


class TaskCalibration(nn.ModuleDict):
    """A `RunningCalibration` for each task, so that the task whose scores spread most does not own what is learnt.

    Tasks are met as a run goes on; a checkpoint has those that were met, by their names in hexadecimal (a module's name has
    no dots).
    """

    @property
    def known(self) -> bool:
        return len(self) > 0

    @property
    def told(self) -> str:
        """Mean and deviation of every task, in words."""
        names = {key: bytes.fromhex(key.removeprefix(TASK)).decode() for key in self}
        return ", ".join(f"{self._units(name).told} ({name or 'no task'})" for name in sorted(names.values()))

    def _units(self, task: str) -> RunningCalibration:
        """Those of one task; of a new one fresh ones, which are not kept: only what is learnt from belongs into a checkpoint."""
        key = TASK + task.encode().hex()
        found = self[key] if key in self else RunningCalibration()
        assert isinstance(found, RunningCalibration)
        return found

    def scaled(self, scores: Sequence[Score | None], tasks: Sequence[str]) -> list[Score | None]:
        """Each score in the units of its task; of a task of which nothing is known, as it is."""
        return [self._units(task).scaled([score])[0] for score, task in zip(scores, tasks, strict=True)]

    def learn(self, raw: Sequence[tuple[str, float]]) -> None:
        """Take in one batch of (task, score)."""
        for task in sorted({task for task, _ in raw}):
            units = self._units(task)
            units.learn([value for name, value in raw if name == task])
            self[TASK + task.encode().hex()] = units

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Make what a checkpoint has, before it is read."""
        for name in state_dict:
            key, dot, _ = name.removeprefix(prefix).partition(".")
            if name.startswith(prefix) and dot and key not in self:
                self[key] = RunningCalibration()
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Calibrated(Judge):
    """A judge whose scores have no unit, brought to mean 0 and standard deviation 1 on responses of the reference.

    This keeps `kl_coef` and `missing_eos_score` meaning the same whatever the units of a reward model are.  Until they are
    measured the scores stay as they are, which is enough to compare responses.
    """

    def __init__(self, judge: Judge, calibration: Calibration) -> None:
        self.name, self.state, self.places = judge.name, calibration, judge.places
        self._judge, self._calibration = judge, calibration

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return self._calibration.scaled(self._judge.score(responses))

    def lacks(self, prompt: Prompt) -> str:
        return self._judge.lacks(prompt)

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        return measured(
            self.name, lambda responses: checked(self._judge, responses), self._calibration, sample
        )


def measured(
    name: str,
    said: Callable[[Sequence[Response]], list[Score | None]],
    calibration: Calibration | TaskCalibration,
    sample: Callable[[], Sequence[Response]],
) -> str | None:
    """Calibrate on what a judge (`name`) has `said` of responses, where nothing is known yet; what was measured, in one sentence.

    Raises ValueError where the judge applies to none of the responses.
    """
    if calibration.known:
        return None
    responses = sample()
    scores = zip(responses, said(responses), strict=True)
    raw = [(response.prompt.task, score.value) for response, score in scores if score is not None]
    if not raw:
        raise ValueError(
            f"the judge {name} applies to none of the first {len(responses)} prompts, so the mean and spread of its "
            "scores cannot be measured: put prompts that it is for among the first, or leave it out."
        )
    if isinstance(calibration, TaskCalibration):
        calibration.learn(raw)
    else:
        calibration.measure([value for _, value in raw])
    return (
        f"{name} says nothing of its scores' mean and spread: measured on {len(raw)} responses of the "
        f"reference, {calibration.told}; scores are in these units."
    )


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """(mean, sum of squared distances from it), the same to the last bit in whatever order they come."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) * (value - mean) for value in values)
