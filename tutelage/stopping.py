"""When rounds stop before their number is reached: where a figure of a stage has fallen since the round before.

    - repeat: 4
      stop: {stage: audit, metric: gold_agreement, model: "judge-{round}", fall: 0.02}
      stages: [...]

Levels of recursive reward modelling are watched by an audit set so: a level whose judge is right less often than the one before
it is not used, and none is built on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tutelage.evals import rows
from tutelage.evals.rows import OVERALL
from tutelage.settings.base import Settings, build, nearest
from tutelage.settings.describe import plain


class Stop(Settings):
    """`stage` of the block, whose results.json has `metric` of `model` on all tasks; more than `fall` below the round before
    ends the block, without the round that fell.  `{round}` in `model` is the number of the round."""

    stage: str
    metric: str
    model: str
    fall: float = Field(0.0, ge=0)

    def value(self, folder: Path, round: int) -> float:
        """The figure of that round's run.  Raises ValueError where it has none."""
        model = self.model.replace("{round}", str(round))
        found = [one for one in rows.read(folder / "results.json") if one.task == OVERALL]
        value = next((one.value for one in found if (one.metric, one.model) == (self.metric, model)), None)
        if value is None:
            have = ", ".join(dict.fromkeys(f"{one.metric} of {one.model}" for one in found)) or "nothing"
            raise ValueError(
                f"stop: {folder / 'results.json'} has no {self.metric} of {model}: name one that it has ({have})."
            )
        return value


def read_stop(given: Any, names: Sequence[str], where: str) -> Stop:
    """What a block says.  Raises ValueError that begins with `where`."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{where}: stop is {plain(given)}, but it is a mapping: {{stage: audit, metric: gold_agreement, model: judge}}."
        )
    try:
        stop = build(Stop, dict(given))
    except ValueError as error:
        raise ValueError(f"{where}: stop: {error}") from None
    if stop.stage not in names:
        near = nearest(stop.stage, names)
        hint = f"did you mean '{near}'?" if near else f"it has {', '.join(names)}."
        raise ValueError(f"{where}: stop names '{stop.stage}', which is no stage of the block: {hint}")
    return stop
