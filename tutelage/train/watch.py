"""A run that says what is wrong with it, while it goes on and at its end.  It never stops training."""

from __future__ import annotations

from collections.abc import Mapping

from tutelage.diagnosis.diagnosis import COMMANDS, Diagnosis
from tutelage.resume import read_metrics
from tutelage.runs import Run
from tutelage.settings.base import Settings


class Watch:
    """Diagnoses the lines of a run: each finding is printed once, and all stand in findings.json of the run folder."""

    def __init__(self, run: Run, settings: Settings) -> None:
        """What the folder holds already, of a run that was stopped, is taken in without a word."""
        self._run = run
        self._diagnosis = Diagnosis(settings.model_dump()) if run.lineage["command"] in COMMANDS else None
        if self._diagnosis is not None:
            for line in read_metrics(run.folder):
                self._diagnosis.see(line)

    def see(self, step: int, line: Mapping[str, float]) -> None:
        """Take the line of a step."""
        if self._diagnosis is None:
            return
        for finding in self._diagnosis.see({"step": step, **line}):
            self._run.console.print(finding.line, style="yellow", markup=False, highlight=False)
            self.write()

    def write(self) -> None:
        """Write down what was found so far."""
        if self._diagnosis is not None:
            self._run.write_json("findings.json", [one.to_json() for one in self._diagnosis.findings])
