"""Studies whose stages take no time, and cells made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.evals.synthetic import write_run
from tutelage.evals.rows import OVERALL, Row, to_json
from tutelage.settings.base import build
from tutelage.settings.pipeline import StudySettings
from tutelage.study.plan import Study, plan

WORLD = {
    "command": "world",
    "documents": 5,
    "demonstrations": 3,
    "prompts": 4,
    "heldout_prompts": 3,
    "solutions": 3,
}


def settings(out: Path, axes: dict[str, Any], *stages: dict[str, Any], **more: Any) -> StudySettings:
    return build(StudySettings, {"out": str(out), "axes": axes, "stages": list(stages), **more})


def planned(out: Path, axes: dict[str, Any], *stages: dict[str, Any], **more: Any) -> Study:
    """By default the results are those of the last stage."""
    last = str(stages[-1].get("name", stages[-1].get("command")))
    return plan(settings(out, axes, *stages, **{"results": last, **more}))


def recorded() -> Console:
    return Console(record=True, width=200)


def evaluation(folder: Path, scores: list[float], kl: float, base: float = 0.0) -> None:
    """A done run of `eval` whose model `policy` scores these on prompts p0, p1, ...; its baseline scores `base` everywhere."""
    write_run(folder, "eval", baseline="sft")
    answer = {"text": "x", "finish": "eos", "tokens": 10}
    lines = [
        {
            "id": f"p{i}",
            "task": "summary",
            "prompt": [],
            "responses": {"sft": {**answer, "score": base}, "policy": {**answer, "score": score}},
        }
        for i, score in enumerate(scores)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mean = sum(scores) / len(scores)
    rows = [
        Row("sft", "gold", OVERALL, base, n=len(scores), unit="score"),
        Row("policy", "gold", OVERALL, mean, n=len(scores), unit="score"),
        Row("policy", "win_rate", OVERALL, 0.5, n=len(scores), unit="share"),
        Row("policy", "kl", OVERALL, kl, n=len(scores), unit="nats"),
    ]
    (folder / "results.json").write_text(json.dumps(to_json(rows)))


EVAL_STAGE = {
    "command": "eval",
    "models": ["sft=a", "policy=b"],
    "prompts": "$method-$seed.jsonl",
}
"""Depends on the axes `method` and `seed`."""
