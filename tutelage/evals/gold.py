"""Gold score: what the gold standard says of each response, and of its parts, overall and per task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.records import Prompt, Response, Score

Grade = Callable[[Prompt, str], Score]


def grade_all(responses: Sequence[Response], grade: Grade) -> list[Score]:
    """The gold score of every response. Raises ValueError naming the prompt that cannot be graded."""
    scores = []
    for response in responses:
        try:
            scores.append(grade(response.prompt, response.text))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Prompt {response.prompt.id} (task {response.prompt.task or 'not given'}) cannot be graded: {error}; "
                "the held-out prompts need the column 'reference' that `tutelage world` writes."
            ) from error
    return scores


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
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Mean gold score and mean of each part, with bootstrap intervals over prompts.

    A part that only some responses have is averaged over those.
    """
    rows = []
    for task, members in by_task(responses).items():
        names = sorted({name for i in members for name in scores[i].parts})
        for metric in ("gold", *(f"gold/{name}" for name in names)):
            part = metric.removeprefix("gold/")
            kept = [i for i in members if metric == "gold" or part in scores[i].parts]
            values = [scores[i].value if metric == "gold" else scores[i].parts[part] for i in kept]
            keys = [responses[i].prompt.id for i in kept]
            found = statistics.bootstrap_mean(values, keys, seed=seed, resamples=resamples)
            rows.append(row(model, metric, task, found, "score"))
    return rows
