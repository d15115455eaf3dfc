"""Reward model: does it order held-out pairs as people do, and does its confidence mean what it says?

Arrays in, rows out: the caller scores the pairs, so the same figures hold for any judge that gives a score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tutelage import statistics
from tutelage.evals.card import slices
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.judges.judge import Judge
from tutelage.records import Comparison, Response
from tutelage.seeds import rng
from tutelage.statistics import Interval


def ceiling(model: str, comparisons: Sequence[Comparison], judge: Judge) -> list[Row]:
    """What the noise in the labels allows: the accuracy on these comparisons of a judge that is never wrong.

    Empty where the judge does not apply to a prompt.  The interval is a bootstrap over prompts.
    """
    scores = scores_by(judge, comparisons)
    return [] if scores is None else [_accuracy(model, "ceiling", comparisons, scores[:, 0] - scores[:, 1])]


def by_project(
    model: str, comparisons: Sequence[Comparison], scores: ArrayLike, metric: str = "accuracy"
) -> list[Row]:
    """Rows METRIC@PROJECT for each project of the store that some comparisons (`place`) are from; scores: [n, 2].

    Where each project holds the responses of one round, they show whether a reward model follows the policy.
    """
    found = np.asarray(scores, float)
    projects: dict[str, list[int]] = {}
    for number, comparison in enumerate(comparisons):
        kind, colon, name = comparison.place.file.partition(":") if comparison.place else ("", "", "")
        if colon and kind == "store":
            projects.setdefault(name, []).append(number)
    return [
        _accuracy(model, f"{metric}@{name}", [comparisons[i] for i in rows], found[rows, 0] - found[rows, 1])
        for name, rows in projects.items()
    ]


def by_member(model: str, comparisons: Sequence[Comparison], scores: ArrayLike) -> list[Row]:
    """What the members of an ensemble make of the same pairs; scores: [M, n, 2].

    `members_agree`: the share of pairs that all members order alike; `accuracy_members_agree`: the accuracy there;
    `members_std`: the standard deviation of the margins over members, a mean over pairs.
    """
    found = np.asarray(scores, float)
    margins = found[..., 0] - found[..., 1]
    rows = [
        _accuracy(model, f"accuracy@member-{number}", comparisons, own)
        for number, own in enumerate(margins, 1)
    ]
    alike = np.abs(np.sign(margins).sum(0)) == len(margins)
    prompts = [comparison.prompt.id for comparison in comparisons]
    shares = statistics.bootstrap_mean(alike.astype(float), prompts, rate=True)
    rows.append(row(model, "members_agree", OVERALL, shares, "share"))
    if alike.any():
        agreed = [comparison for comparison, same in zip(comparisons, alike, strict=True) if same]
        rows.append(_accuracy(model, "accuracy_members_agree", agreed, margins.mean(0)[alike]))
    rows.append(
        row(model, "members_std", OVERALL, statistics.bootstrap_mean(margins.std(0), prompts), "score")
    )
    return rows


OTHERS = "accuracy_other_heads@"


def by_group(
    model: str, comparisons: Sequence[Comparison], scores: ArrayLike, groups: Sequence[str]
) -> list[Row]:
    """What heads of groups of annotators make of each group's pairs; scores: [n, 2, k], a head for each of `groups`.

    `accuracy@GROUP`: by its own head; `accuracy_other_heads@GROUP`: by those of the others, a mean; `heads_correlation`: of the
    scores that two heads give the same responses, a mean over pairs of heads.
    """
    found = np.asarray(scores, float)
    margins = found[:, 0] - found[:, 1]
    rows = []
    for number, group in enumerate(groups):
        mine = [i for i, comparison in enumerate(comparisons) if comparison.group == group]
        if not mine:
            continue
        own = [comparisons[i] for i in mine]
        others = np.delete(margins[mine], number, axis=1)
        rows.append(_accuracy(model, f"accuracy@{group}", own, margins[mine, number]))
        agreed = np.mean([statistics.correct(m, [c.p_chosen for c in own]) for m in others.T], axis=0)
        interval = statistics.bootstrap_mean(agreed, [c.prompt.id for c in own], rate=True)
        rows.append(row(model, f"{OTHERS}{group}", OVERALL, interval, "share"))
    flat = found.reshape(-1, len(groups))
    if len(flat) > 2 and flat.std(0).all():
        pairs = np.corrcoef(flat.T)[np.triu_indices(len(groups), 1)]
        rows.append(_plain(model, "heads_correlation", float(pairs.mean()), len(flat), "correlation"))
    return rows


def opposed(rows: Sequence[Row]) -> list[str]:
    """A sentence for each group whose pairs the heads of the others order the wrong way round."""
    return [
        f"What the group {row.metric.removeprefix(OTHERS)} prefers, the others reject: their heads agree with {row.value:.0%} "
        f"[{row.low:.0%}, {row.high:.0%}] of its choices, where chance is half."
        for row in rows
        if row.metric.startswith(OTHERS) and row.high is not None and row.high < 0.5
    ]


def accuracies(model: str, comparisons: Sequence[Comparison], scores: ArrayLike, metric: str) -> list[Row]:
    """METRIC on all these comparisons, and `by_project`; scores: [n, 2]."""
    found = np.asarray(scores, float)
    overall = _accuracy(model, metric, comparisons, found[:, 0] - found[:, 1])
    return [overall, *by_project(model, comparisons, found, metric)]


def scores_by(judge: Judge, comparisons: Sequence[Comparison]) -> np.ndarray | None:
    """[n, 2]: a judge's scores of (chosen, rejected); None where it does not apply to a prompt."""
    sides = sides_of(comparisons)
    scores = [score.value for score in judge.score(sides) if score is not None]
    return np.reshape(scores, (-1, 2)) if len(scores) == len(sides) else None


def sides_of(comparisons: Sequence[Comparison]) -> list[Response]:
    """The responses of n comparisons, chosen at 2i, rejected at 2i + 1."""
    return [
        Response.written(c.prompt, text, finish)
        for c in comparisons
        for text, finish in ((c.chosen, c.chosen_finish), (c.rejected, c.rejected_finish))
    ]


def _accuracy(model: str, metric: str, comparisons: Sequence[Comparison], margins: np.ndarray) -> Row:
    """The share of the votes that score differences agree with; the interval is a bootstrap over prompts."""
    agreed = statistics.correct(margins, [comparison.p_chosen for comparison in comparisons])
    found = statistics.bootstrap_mean(agreed, [comparison.prompt.id for comparison in comparisons], rate=True)
    return row(model, metric, OVERALL, found, "share")


def evaluate(
    model: str,
    chosen: ArrayLike,
    rejected: ArrayLike,
    p_chosen: ArrayLike | None = None,
    chosen_length: ArrayLike | None = None,
    rejected_length: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    *,
    similar_length: float = 0.1,
    bins: int = 10,
    seed: int = 0,
    resamples: int = 1000,
) -> list[Row]:
    """Rows for n held-out pairs; all arrays are [n].

    chosen, rejected: the scores. p_chosen: share of votes for the chosen response (default 1). chosen_length,
    rejected_length: tokens; with them come accuracy_similar_length, accuracy_longer_wins and accuracy_shorter_wins (the
    baselines that always prefer the longer, the shorter response), the accuracy less these (over_*), and the correlations of
    score and length. clusters: prompt ids; with them the interval of the
    accuracy is a bootstrap over prompts, otherwise Wilson's. Raises ValueError when a score is not finite.
    """
    c, r = np.asarray(chosen, float), np.asarray(rejected, float)
    bad = np.flatnonzero(~np.isfinite(c - r))
    if bad.size:
        raise ValueError(
            f"Pair {bad[0]} has a score that is not a finite number; the reward model has diverged."
        )
    margins = c - r
    p = np.ones_like(margins) if p_chosen is None else np.asarray(p_chosen, float)
    agreed = statistics.correct(margins, p)
    found = statistics.accuracy(margins, p)
    if clusters is not None and len(set(clusters)) < len(clusters):
        found = statistics.bootstrap_mean(agreed, clusters, rate=True, seed=seed, resamples=resamples)
    rows = [row(model, "accuracy", OVERALL, found, "share")]
    prompts = clusters if clusters is not None else [str(number) for number in range(c.size)]
    rows += _calibration(model, margins, p, bins, prompts, seed, min(resamples, 300))
    rows += _margins(model, c, r)
    if chosen_length is not None and rejected_length is not None:
        rows += _lengths(
            model,
            c,
            r,
            p,
            np.asarray(chosen_length, float),
            np.asarray(rejected_length, float),
            similar_length,
            prompts,
            seed,
        )
    return rows


def _plain(model: str, metric: str, value: float, n: int, unit: str, task: str = OVERALL) -> Row:
    return row(model, metric, task, Interval(value, np.nan, np.nan, n), unit)


def _calibration(
    model: str,
    margins: np.ndarray,
    p: np.ndarray,
    bins: int,
    clusters: Sequence[str],
    seed: int,
    resamples: int,
) -> list[Row]:
    """ECE and its floor, fitted temperature and the ECE after it, and the reliability table as rows per bin.

    Each resample of the prompts is fitted anew; for the floor its labels are drawn anew, too, so that the interval says what
    calibrated models show.
    """
    chance, order = rng(seed, "calibration floor"), np.argsort(np.abs(margins))
    margins, p, keys = margins[order], p[order], np.asarray(clusters)[order]
    names = {
        "calibration_error": "share",
        "calibration_error_floor": "share",
        "temperature_fitted": "",
        "calibration_error_fitted": "share",
    }

    def figures(m: np.ndarray, votes: np.ndarray, floor: float, start: float) -> tuple[float, ...]:
        fitted = statistics.temperature(m, votes, start=start) if m.size else np.nan
        error = statistics.expected_calibration_error(m, votes, bins)
        return error, floor, fitted, statistics.expected_calibration_error(m / fitted, votes, bins)

    found = figures(margins, p, statistics.calibration_floor(margins, bins=bins, seed=seed), 1.0)
    drawn = [
        figures(margins[i], p[i], statistics.chance_error(margins[i], bins, chance), found[2])
        for i in map(np.sort, statistics.resampled_rows(keys, seed, resamples) if margins.size else ())
    ]
    rows = [
        row(model, name, OVERALL, statistics.percentile_interval(value, of, margins.size), unit)
        for (name, unit), value, of in zip(
            names.items(), found, np.reshape(drawn, (-1, len(names))).T, strict=True
        )
    ]
    for number, b in enumerate(statistics.reliability(margins, p, bins), 1):
        rows.append(_plain(model, f"reliability/{number:02}/confidence", b.confidence, b.agreed.n, "share"))
        rows.append(row(model, f"reliability/{number:02}/accuracy", OVERALL, b.agreed, "share"))
    return rows


def _margins(model: str, chosen: np.ndarray, rejected: np.ndarray) -> list[Row]:
    """Mean and spread of the margins and of the scores; a pair with margin exactly 0 is a tie."""
    margins, n = chosen - rejected, chosen.size
    if n == 0:
        return []
    both = np.concatenate([chosen, rejected])
    return [
        row(model, "margin", OVERALL, statistics.bootstrap_mean(margins), "score"),
        _plain(model, "margin_std", float(margins.std()), n, "score"),
        _plain(model, "score_mean", float(both.mean()), 2 * n, "score"),
        _plain(model, "score_std", float(both.std()), 2 * n, "score"),
        _plain(model, "score_ties", float((margins == 0).mean()), n, "share"),
    ]


def _lengths(
    model: str,
    chosen: np.ndarray,
    rejected: np.ndarray,
    p: np.ndarray,
    chosen_length: np.ndarray,
    rejected_length: np.ndarray,
    share: float,
    clusters: Sequence[str],
    seed: int,
) -> list[Row]:
    """How much of the accuracy could be length alone."""
    difference = chosen_length - rejected_length
    close = np.abs(difference) <= share * np.maximum(chosen_length, rejected_length)
    both, lengths = np.stack([chosen, rejected], 1), np.stack([chosen_length, rejected_length], 1)
    simple = {"longer_wins": difference, "shorter_wins": -difference}
    return [
        row(
            model,
            "accuracy_similar_length",
            OVERALL,
            statistics.accuracy((chosen - rejected)[close], p[close]),
            "share",
        ),
        *slices.baselines(model, chosen - rejected, p, simple, clusters, seed=seed),
        *slices.length_correlation(model, both, lengths, clusters, seed=seed),
    ]
