"""When rounds end before their number is reached: by a metric of a stage.

    - repeat: 4
      until: {stage: reward, metric: "accuracy@round-{round}", below: 0.55}
      stages: [...]

    - repeat: 4
      until: {stage: audit, metric: gold_agreement, model: "judge-{round}", fall: 0.02}
      stages: [...]

The first round in which the metric is below (above) the bound is done to its end and is the last.  One in which it is more than
`fall` below that of the round before is not gone on with: the round before is the last.  Levels of recursive reward modelling are
watched by an audit set so: a level whose judge is right less often than the one before it is not used, and none is built on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from tutelage.evals import rows
from tutelage.evals.rows import OVERALL
from tutelage.resume import read_metrics
from tutelage.settings.base import Settings, build, nearest
from tutelage.settings.describe import plain

EXAMPLE = "{stage: reward, metric: accuracy, below: 0.55}"


class Until(Settings):
    """`stage` of the block and its `metric`: by its results.json (on all tasks; of `model`, where that has several), else the
    last value in its metrics.jsonl; and one bound.  `{round}` in `metric` and `model` is the number of the round."""

    stage: str
    metric: str
    model: str = ""
    below: float | None = None
    above: float | None = None
    fall: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if sum(bound is not None for bound in (self.below, self.above, self.fall)) != 1:
            raise ValueError("it has one of below, above and fall")
        return self

    def last(self, round: int, folder: Path, before: Path | None) -> tuple[int, str] | None:
        """(number of the last round, why), where this `round`, whose stage is in `folder`, ends the rounds; before: its folder in
        the round before.  Raises ValueError where it has not measured that."""
        value, metric = self.value(folder, round), self.metric.replace("{round}", str(round))
        if self.fall is not None:
            then = None if before is None else self.value(before, round - 1)
            if then is None or value >= then - self.fall:
                return None
            return round - 1, f"{metric} has fallen from {then:.3f} to {value:.3f}"
        name, limit = ("below", self.below) if self.below is not None else ("above", self.above)
        assert limit is not None, "there is one bound"
        passed = value < limit if name == "below" else value > limit
        return (round, f"{metric} is {value:.4g}, {name} {limit:g}") if passed else None

    def value(self, folder: Path, round: int) -> float:
        """The metric of that round's run.  Raises ValueError where it has none."""
        metric, model = (text.replace("{round}", str(round)) for text in (self.metric, self.model))
        found = _measured(folder, model)
        if metric not in found:
            near = nearest(metric, found)
            hint = f"did you mean '{near}'?" if near else f"it has {', '.join(found) or 'none'}."
            of = f" of {model}" if model else ""
            raise ValueError(f"until: {folder} has not measured '{metric}'{of}: {hint}")
        return found[metric]


def read_until(given: Any, names: Sequence[str], where: str) -> Until:
    """What a block says.  Raises ValueError that begins with `where`."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: until is {plain(given)}: write it like {EXAMPLE}.")
    try:
        until = build(Until, dict(given))
    except ValueError as error:
        raise ValueError(f"{where}: until: {error}: write it like {EXAMPLE}.") from None
    if until.stage not in names:
        near = nearest(until.stage, names)
        hint = f"did you mean '{near}'?" if near else f"it has {', '.join(names)}."
        raise ValueError(f"{where}: until names '{until.stage}', which is no stage of the block: {hint}")
    return until


def _measured(folder: Path, model: str) -> dict[str, float]:
    """The last value of every metric of a run, and what its results say of everything together (which goes before); with `model`
    what they say of that model alone."""
    found: dict[str, float] = {}
    if not model:
        found = {
            name: value for line in read_metrics(folder) for name, value in line.items() if name != "step"
        }
    with suppress(FileNotFoundError):
        results = rows.read(folder / "results.json")
        found |= {
            row.metric: row.value
            for row in results
            if row.task == OVERALL and row.value is not None and model in ("", row.model)
        }
    return found
