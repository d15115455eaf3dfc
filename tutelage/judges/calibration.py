"""Scores in standard deviations: the mean and the spread of a judge's scores, as stored or as measured at the start."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tutelage.judges.judge import Judge, scores_of
from tutelage.records import Response, Score


class Calibration(nn.Module):
    """value = (raw - mean) / std.

    The numbers are buffers, so that a checkpoint has them: what was measured at the start of a run holds to its end.
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

    def measure(self, raw: Sequence[float]) -> None:
        """Take mean and standard deviation from scores; where all are equal the deviation counts as 1."""
        scores = torch.tensor(raw, dtype=torch.float64)
        self.mean.fill_(scores.mean())
        self.std.fill_(scores.std(correction=0) or 1.0)

    def forward(self, raw: Tensor) -> Tensor:
        """Any shape and dtype."""
        return (raw - float(self.mean)) / float(self.std)


class Calibrated(Judge):
    """A judge whose scores have no unit, brought to mean 0 and standard deviation 1 on responses of the reference.

    This keeps `kl_coef` and `missing_eos_score` meaning the same whatever the units of a reward model are.
    """

    def __init__(self, judge: Judge, calibration: Calibration) -> None:
        self.name = judge.name
        self._judge, self._calibration = judge, calibration

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        assert self._calibration.known, "scores that nobody has measured are calibrated first"
        return [score and self._normalised(score) for score in self._judge.score(responses)]

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        if self._calibration.known:
            return None
        responses = sample()
        self._calibration.measure([score.value for score in scores_of(self._judge, responses)])
        return (
            f"{self.name} says nothing of its scores' mean and spread: measured on {len(responses)} responses of the "
            f"reference, {float(self._calibration.mean):.3g} and {float(self._calibration.std):.3g}; scores are in these units."
        )

    def _normalised(self, score: Score) -> Score:
        value = self._calibration(torch.tensor(score.value, dtype=torch.float64)).item()
        return Score(value, score.parts, score.at)
