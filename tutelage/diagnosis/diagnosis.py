"""From metric lines to findings: the same words for a run in progress and for a report on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tutelage.diagnosis.history import History
from tutelage.diagnosis.rules import RULES

ON_POLICY = ("ppo", "reinforce", "raft", "online-dpo")
"""Commands that learn from scores of their own responses."""
COMMANDS = (*ON_POLICY, "dpo")
"""Those that are diagnosed."""


@dataclass(frozen=True)
class Finding:
    """What was found in a run.

    step, last: the first and the last step at which it was seen.  seen: one sentence, with its numbers as they were at `step`;
    numbers: those numbers by name.  cause, change, healthy: as the rule says.
    """

    name: str
    title: str
    step: int
    last: int
    seen: str
    numbers: Mapping[str, float]
    cause: str
    change: str
    healthy: str

    @property
    def line(self) -> str:
        """For the screen."""
        return f"Step {self.step}, {self.name}: {self.seen} {self.change}"

    def to_json(self) -> dict[str, Any]:
        """For findings.json."""
        return asdict(self)


class Diagnosis:
    """Takes the lines of a run as they come.  settings: those of the run, by name."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings, self._history, self._found = settings, History(), dict[str, Finding]()

    @property
    def findings(self) -> list[Finding]:
        """What was found so far, in the order in which it was first seen."""
        return list(self._found.values())

    def see(self, line: Mapping[str, Any]) -> list[Finding]:
        """Take the line of a step; returns what was seen for the first time."""
        if not line.get("step"):  # what was measured before the first step
            return []
        self._history.add(line)
        step, new = int(line["step"]), []
        for rule in RULES:
            if rule.needs not in line:
                continue
            seen = rule.look(self._history, self._settings)
            if seen is None:
                continue
            if rule.name in self._found:
                self._found[rule.name] = replace(self._found[rule.name], last=step)
                continue
            found = Finding(rule.name, rule.title, step, step, *seen, rule.cause, rule.change, rule.healthy)
            self._found[rule.name] = found
            new.append(found)
        return new


def diagnose(lines: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Finding]:
    """The findings in the metric lines of a run."""
    diagnosis = Diagnosis(settings)
    for line in lines:
        diagnosis.see(line)
    return diagnosis.findings
