"""What a front is like, in rows: of every model its rewards and whether it is dominated, of every group what it covers.

Intervals are over prompts, and paired: every resample is of the same prompts for all models, and fronts, volumes and their ratios
are of the means of that resample.  No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.statistics import Floats, Interval, hypervolume, non_dominated, percentile_interval

FLAT = 1e-12  # of the largest value: what sums of the same numbers in another order differ by


@dataclass(frozen=True)
class Front:
    """Models by what each reward says of them on each prompt, as it is [M, P, R]; direction [R] (-1: less is better); and the
    point that volumes are measured from [R], as it is."""

    names: Sequence[str]
    rewards: Sequence[str]
    direction: Floats
    values: Floats
    point: Floats
    seed: int = 0
    resamples: int = 1000

    @property
    def means(self) -> Floats:
        """[M, R], more is better."""
        return self.values.mean(axis=1) * self.direction

    @cached_property
    def drawn(self) -> Floats:
        """The means of every resample of the prompts, [resamples, M, R], more is better."""
        prompts = self.values.shape[1]
        by_prompt = np.moveaxis(self.values * self.direction, 1, 0).reshape(prompts, -1)
        counts = statistics.resample_counts(prompts, self.seed, self.resamples)
        found = np.concatenate([drawn @ by_prompt for drawn in counts]) / prompts
        return found.reshape(-1, len(self.names), len(self.rewards))

    def volume(self, members: Sequence[int]) -> Interval:
        """Of a group: what its models cover together, above the point."""
        return self._interval(float(self._volumes(self.means[None], members)[0]), self.volumes(members))

    def volumes(self, members: Sequence[int]) -> Floats:
        """The same in every resample."""
        return self._volumes(self.drawn, members)

    def ratio(self, ours: Sequence[int], theirs: Sequence[int]) -> Interval:
        """Volume of one group over that of another; NaN where the other has none."""
        own, other = (float(self._volumes(self.means[None], members)[0]) for members in (ours, theirs))
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self.volumes(ours) / self.volumes(theirs)
        return self._interval(own / other if other else float("nan"), drawn)

    def _volumes(self, means: Floats, members: Sequence[int]) -> Floats:
        corner = self.point * self.direction
        return np.array([hypervolume(each, corner) for each in means[:, list(members)]])

    def _interval(self, value: float, drawn: Floats) -> Interval:
        return percentile_interval(value, drawn, self.values.shape[1])


def nadir(values: Floats, direction: Floats) -> Floats:
    """The worst mean of any model in each reward [R], of values [M, P, R]."""
    means = values.mean(axis=1)
    worst: Floats = np.where(direction > 0, means.min(axis=0), means.max(axis=0))
    return worst


def monotone(means: Floats) -> bool:
    """Whether along the models, in their order [n, 2], one reward only rises where the other only falls."""
    steps = np.diff(means, axis=0)
    steps[np.abs(steps) <= FLAT * max(1.0, float(np.abs(means).max()))] = 0.0
    first, second = steps.T
    return bool(((first >= 0).all() and (second <= 0).all()) or ((first <= 0).all() and (second >= 0).all()))


def model_rows(front: Front, tasks: Mapping[str, Sequence[int]]) -> Iterator[Row]:
    """reward/NAME of every model, overall and per task (task -> numbers of prompts), and whether others are better in all."""
    best = non_dominated(front.means)
    how_often = non_dominated(front.drawn).mean(axis=0)
    for number, name in enumerate(front.names):
        for place, reward in enumerate(front.rewards):
            for task, members in tasks.items():
                values = front.values[number, list(members), place]
                found = statistics.bootstrap_mean(values, seed=front.seed, resamples=front.resamples)
                yield row(name, f"reward/{reward}", task, found, "score")
        prompts = front.values.shape[1]
        yield Row(name, "non_dominated", OVERALL, float(best[number]), n=prompts)
        yield Row(name, "non_dominated_share", OVERALL, float(how_often[number]), n=prompts, unit="share")


def group_rows(front: Front, groups: Mapping[str, Sequence[int]]) -> Iterator[Row]:
    """Of every group: volume, ratio to each other's, share of its models on its own front; of two rewards whether one rises as
    the other falls."""
    prompts = front.values.shape[1]
    for name, members in groups.items():
        own = list(members)
        yield row(name, "hypervolume", OVERALL, front.volume(own), "")
        for other, theirs in groups.items():
            if other != name:
                yield row(name, f"hypervolume_ratio@{other}", OVERALL, front.ratio(own, theirs), "")
        on_front = non_dominated(front.means[own]).mean()
        yield Row(name, "non_dominated_in_group", OVERALL, float(on_front), n=len(own), unit="share")
        if len(front.rewards) == 2 and len(own) > 2:
            yield Row(name, "monotone", OVERALL, float(monotone(front.means[own])), n=prompts)
            share = float(np.mean([monotone(each) for each in front.drawn[:, own]]))
            yield Row(name, "monotone_share", OVERALL, share, n=prompts, unit="share")
