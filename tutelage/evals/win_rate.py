"""Win rate: how often a model's response is better than the baseline's on the same prompt, by scores or by comparing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage import statistics
from tutelage.evals.rows import Row, row
from tutelage.evals.scored import by_task
from tutelage.judges.judge import Judge
from tutelage.records import Response, Score
from tutelage.statistics import Floats, Interval


def similar(ours: Sequence[Response], theirs: Sequence[Response], share: float) -> np.ndarray:
    """Bool [n]: the two responses differ in tokens by at most `share` of the longer one."""
    a, b = lengths(ours), lengths(theirs)
    return np.abs(a - b) <= share * np.maximum(a, b)


def lengths(responses: Sequence[Response]) -> Floats:
    """Tokens [n]."""
    return np.array([len(response.ids) for response in responses], float)


def by_score(ours: Sequence[Score], theirs: Sequence[Score]) -> Floats:
    """Outcomes [n]: 1, 0, or one half for equal scores."""
    return statistics.outcomes([s.value for s in ours], [s.value for s in theirs])


def judged(judge: Judge, ours: Sequence[Response], theirs: Sequence[Response]) -> Floats:
    """Outcomes [n] by a judge that compares: the probability that ours is better, NaN where it has no verdict.  Of two equal
    texts nobody is asked: one half."""
    found = np.full(len(ours), 0.5)
    asked = [i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one.text != other.text]
    for i, vote in zip(asked, judge.compare([(ours[i], theirs[i]) for i in asked]), strict=True):
        found[i] = np.nan if vote is None else vote.for_first
    return found


def evaluate(
    model: str,
    outcomes: Floats,
    responses: Sequence[Response],
    baseline: Sequence[Response],
    *,
    similar_length: float = 0.1,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Rows win_rate (ties one half), win_rate_length_controlled, win_rate_similar_length, win_rate_detectable, wins, ties,
    losses, sign_test_p, and no_verdict_rate where a judge had none; overall and per task.

    outcomes: [n], `by_score` or `judged`.  `win_rate_similar_length` is the win rate among the pairs of `similar` length only: a
    model that wins by writing more (or less) falls back here, and in `win_rate_length_controlled`.  Both lists must be in the
    same prompt order; raises ValueError when they are not.
    """
    if [r.prompt.id for r in responses] != [r.prompt.id for r in baseline]:
        raise ValueError(
            f"{model} and the baseline answered different prompts; evaluate them on the same prompts."
        )
    matched = similar(responses, baseline, similar_length)
    longer = lengths(responses) - lengths(baseline)
    keys = np.array([r.prompt.id for r in responses])
    seeded = {"seed": seed, "resamples": resamples}
    rows = []
    for task, members in by_task(responses).items():
        asked = np.array(members, dtype=int)
        every = asked[~np.isnan(outcomes[asked])]
        close = every[matched[every]]
        found = statistics.won(outcomes[every], keys[every], **seeded)
        rates = {
            "win_rate": found.interval,
            "win_rate_length_controlled": statistics.length_controlled(
                outcomes[every], longer[every], keys[every], seed=seed, resamples=resamples
            ),
            "win_rate_similar_length": statistics.won(outcomes[close], keys[close], **seeded).interval,
        }
        rows += [row(model, name, task, interval, "share") for name, interval in rates.items()]
        least = statistics.detectable(outcomes[every], keys[every])
        rows.append(
            row(model, "win_rate_detectable", task, Interval(least, np.nan, np.nan, every.size), "share")
        )
        for name in ("wins", "ties", "losses"):
            rows.append(Row(model, name, task, float(getattr(found, name)), n=every.size, unit="pairs"))
        rows.append(
            row(model, "sign_test_p", task, Interval(found.p, np.nan, np.nan, found.wins + found.losses), "p")
        )
        if every.size < asked.size:
            rows.append(
                Row(model, "no_verdict_rate", task, 1 - every.size / asked.size, n=asked.size, unit="share")
            )
    return rows
