"""The command `study`: a grid over any settings; what cells share runs once; one report at the end.

    axes:
      method: [ppo, dpo]
      seed: [0, 1, 2]
    stages:
      - {command: sft, ...}
      - {command: ppo, name: policy, where: {method: ppo}, model: "@sft", seed: "$seed", ...}
      - {command: dpo, name: policy, where: {method: dpo}, model: "@sft", seed: "$seed", ...}
      - {command: eval, models: ["sft=@sft", "policy=@policy"], ...}
    compare: {method: [ppo, dpo]}

`grid.py` has the axes, `plan.py` which stages there are, `doing.py` one of them, `going.py` all; `cells.py`, `summary.py` and
`differences.py` the numbers; `report.py` and `page.py` what is written; `claims.py` many studies with a verdict each.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tutelage.settings.pipeline import StudySettings as Settings
from tutelage.study import claims, report
from tutelage.study.going import go
from tutelage.study.listing import sentence, show_failed, show_plan
from tutelage.study.plan import plan


def main(settings: Settings, console: Console) -> Path:
    """Run what is left of the study and write its report; returns its folder.

    Raises ValueError before anything runs where a stage cannot be, and at the end where stages have failed: all that does not
    depend on them is done then, and the same command goes on.
    """
    if settings.claims:
        return claims.main(settings, console)
    study = plan(settings)
    if settings.plan:
        show_plan(study, console)
        return settings.out
    outcome = go(study, settings, console)
    report.write(study, settings, console)
    if outcome.failed:
        show_failed(outcome, console)
        raise ValueError(sentence(outcome, len(study.instances)))
    return settings.out
