"""The models that a judge is made of, as inputs of a run.  No torch."""

from __future__ import annotations

from typing import Any

from tutelage.runs import Run, result_folder
from tutelage.settings.judges import inputs_in


def note_judge(run: Run, name: str, judge: Any) -> None:
    """Record the models that a judge (as settings say it, nothing for none) runs here as inputs of the run: NAME, or NAME 1,
    NAME 2, ... where there are several."""
    models = inputs_in(judge) if judge else []
    for number, path in enumerate(models, 1):
        run.input(name if len(models) == 1 else f"{name} {number}", result_folder(path))
