"""Win rate: how often a model's response scores higher than the baseline's on the same prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage import statistics
from tutelage.evals.rows import Row, row
from tutelage.evals.scored import by_task
from tutelage.records import Response, Score
from tutelage.statistics import Interval


def similar(ours: Sequence[Response], theirs: Sequence[Response], share: float) -> np.ndarray:
    """Bool [n]: the two responses differ in tokens by at most `share` of the longer one."""
    a = np.array([len(r.ids) for r in ours], float)
    b = np.array([len(r.ids) for r in theirs], float)
    return np.abs(a - b) <= share * np.maximum(a, b)


def evaluate(
    model: str,
    responses: Sequence[Response],
    scores: Sequence[Score],
    baseline: Sequence[Response],
    baseline_scores: Sequence[Score],
    *,
    similar_length: float = 0.1,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Rows win_rate (ties one half), win_rate_similar_length, wins, ties, losses, sign_test_p; overall and per task.

    `win_rate_similar_length` is the win rate among the pairs of `similar` length only: a model that wins by writing
    more (or less) falls back here. Both lists must be in the same prompt order; raises ValueError when they are not.
    """
    if [r.prompt.id for r in responses] != [r.prompt.id for r in baseline]:
        raise ValueError(
            f"{model} and the baseline answered different prompts; evaluate them on the same prompts."
        )
    ours, theirs = np.array([s.value for s in scores]), np.array([s.value for s in baseline_scores])
    matched = similar(responses, baseline, similar_length)
    keys = np.array([r.prompt.id for r in responses])
    rows = []
    for task, members in by_task(responses).items():
        every = np.array(members, dtype=int)
        found = statistics.win_rate(ours[every], theirs[every], keys[every], seed=seed, resamples=resamples)
        rows.append(row(model, "win_rate", task, found.interval, "share"))
        close = every[matched[every]]
        controlled = statistics.win_rate(
            ours[close], theirs[close], keys[close], seed=seed, resamples=resamples
        )
        rows.append(row(model, "win_rate_similar_length", task, controlled.interval, "share"))
        for name in ("wins", "ties", "losses"):
            rows.append(Row(model, name, task, float(getattr(found, name)), n=len(members), unit="pairs"))
        rows.append(
            row(model, "sign_test_p", task, Interval(found.p, np.nan, np.nan, found.wins + found.losses), "p")
        )
    return rows
