"""What a judge says of each response, and of its parts, overall and per task."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.records import Response, Score


def by_task(responses: Sequence[Response]) -> dict[str, list[int]]:
    """Row numbers for "all", then for each task by name (only when there is more than one named task)."""
    tasks = sorted({r.prompt.task for r in responses if r.prompt.task})
    groups = {OVERALL: list(range(len(responses)))}
    if len(tasks) > 1:
        groups |= {task: [i for i, r in enumerate(responses) if r.prompt.task == task] for task in tasks}
    return groups


def evaluate(
    model: str,
    responses: Sequence[Response],
    scores: Sequence[Score],
    metric: str,
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Rows `metric` and `metric`/PART: mean score and mean of each part, with bootstrap intervals over prompts.

    A part that only some responses have is averaged over those.
    """
    rows = []
    for task, members in by_task(responses).items():
        names = sorted({name for i in members for name in scores[i].parts})
        for part in (None, *names):
            kept = [i for i in members if part is None or part in scores[i].parts]
            values = [scores[i].value if part is None else scores[i].parts[part] for i in kept]
            keys = [responses[i].prompt.id for i in kept]
            found = statistics.bootstrap_mean(values, keys, seed=seed, resamples=resamples)
            rows.append(row(model, metric if part is None else f"{metric}/{part}", task, found, "score"))
    return rows
