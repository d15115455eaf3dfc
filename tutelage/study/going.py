"""All instances of a study, in an order in which each comes behind what it needs; what fails stops only what depends on it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tutelage.evals.table import duration
from tutelage.resume import read_lineage
from tutelage.settings.pipeline import StudySettings
from tutelage.study.doing import attempt
from tutelage.study.plan import Instance, Study
from tutelage.study.workers import Workers


@dataclass
class Outcome:
    """done: names; failed: name -> why, one line; waiting: name -> the failed one that it needs."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    def blocked_by(self, one: Instance) -> str | None:
        """The failed instance without which this one cannot run."""
        return next(
            (
                name if name in self.failed else self.waiting[name]
                for name in one.needs
                if name in self.failed or name in self.waiting
            ),
            None,
        )


def go(study: Study, settings: StudySettings, console: Console) -> Outcome:
    """Run everything that is left, one after the other or several at once."""
    if settings.parallel > 1:
        return _several(study, settings, console)
    outcome, clock = Outcome(), Clock(study.instances.values())
    for number, one in enumerate(study.instances.values(), 1):
        if needed := outcome.blocked_by(one):
            outcome.waiting[one.name] = needed
            clock.skip(one)
            continue
        console.rule(f"{number}/{len(study.instances)} {one.name}{clock.left()}", align="left")
        clock.begin(one)
        _ended(one, attempt(one, study.instances, settings.out, console), outcome, clock, console)
    return outcome


def _several(study: Study, settings: StudySettings, console: Console) -> Outcome:
    """Run what is ready in `parallel` processes; each says what it does in OUT/logs."""
    outcome, clock = Outcome(), Clock(study.instances.values(), settings.parallel)
    waiting = dict(study.instances)
    workers = Workers(settings.parallel, study.instances, settings.out)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, TextColumn("{task.fields[status]}"), console=console) as progress:
            task = progress.add_task("stages", total=len(waiting), status="")
            while waiting or workers.doing:
                for one in _blocked(waiting, outcome):
                    clock.skip(one)
                    del waiting[one.name]
                for one in _ready(waiting, outcome):
                    if workers.free:
                        clock.begin(one)
                        workers.begin(waiting.pop(one.name))
                for one, reason in workers.ended(1.0) if workers.doing else ():
                    _ended(one, reason, outcome, clock, progress.console)
                names = ", ".join(one.name for one in workers.doing)
                left = len(waiting) + len(workers.doing)
                progress.update(
                    task,
                    completed=len(study.instances) - left,
                    status=f"{names}{clock.left() if left else ''}",
                )
    finally:
        workers.close()
    return outcome


def _blocked(waiting: Mapping[str, Instance], outcome: Outcome) -> list[Instance]:
    """What cannot run any more, because of what has failed."""
    found = []
    for one in waiting.values():
        if needed := outcome.blocked_by(one):
            outcome.waiting[one.name] = needed
            found.append(one)
    return found


def _ready(waiting: Mapping[str, Instance], outcome: Outcome) -> list[Instance]:
    return [one for one in waiting.values() if all(name in outcome.done for name in one.needs)]


def _ended(one: Instance, reason: str | None, outcome: Outcome, clock: Clock, console: Console) -> None:
    clock.end(one, reason is None)
    if reason is None:
        outcome.done.append(one.name)
    else:
        outcome.failed[one.name] = reason
        console.print(f"{one.name} failed: {reason}", style="red", markup=False, highlight=False)


class Clock:
    """How long the rest will take: a stage as long as others of its name have, and before there is one as all on average."""

    def __init__(self, instances: Iterable[Instance], at_once: int = 1) -> None:
        self._left = {one.name: one.of for one in instances}
        self._took: dict[str, list[float]] = defaultdict(list)
        self._began: dict[str, float] = {}
        self._at_once = at_once
        for one in instances:
            lineage = read_lineage(one.stage.folder)
            if lineage and lineage.get("state") == "done":
                self._took[one.of].append(float(lineage.get("seconds", 0)))

    def begin(self, one: Instance) -> None:
        self._began[one.name] = time.monotonic()

    def end(self, one: Instance, well: bool) -> None:
        took = time.monotonic() - self._began.pop(one.name)
        del self._left[one.name]
        if well and took > 1:
            self._took[one.of].append(took)

    def skip(self, one: Instance) -> None:
        """It will not run."""
        self._left.pop(one.name, None)

    def seconds(self) -> float | None:
        """What is left; None while nothing is known."""
        every = [seconds for each in self._took.values() for seconds in each]
        if not every:
            return None
        overall = sum(every) / len(every)
        total = 0.0
        for name, of in self._left.items():
            mine = self._took.get(of) or [overall]
            ran = time.monotonic() - self._began[name] if name in self._began else 0.0
            total += max(0.0, sum(mine) / len(mine) - ran)
        return total / self._at_once

    def left(self) -> str:
        """For people: how long, and until when."""
        seconds = self.seconds()
        if seconds is None:
            return ""
        ends = datetime.now() + timedelta(seconds=seconds)
        return f" (about {duration(seconds)} left, until {ends:%H:%M})"
