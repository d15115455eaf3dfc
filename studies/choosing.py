"""Scores of several solutions to each problem: do right ones score higher, and is the one with the highest score right?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.statistics import percentile_interval, resample_counts

Floats = NDArray[np.float64]


def compared(
    scores: Mapping[str, Floats], right: Floats, first: str, seed: int, resamples: int
) -> list[dict[str, Any]]:
    """A row for each score [problems, solutions]: AUC, order within a problem, and the best of each problem's, which is compared
    with any solution and with the best by the score `first`.

    right: 1 where the answer is, else 0.  Intervals are bootstraps over problems, the same draws for all.
    """
    counts = np.concatenate(list(resample_counts(len(right), seed, resamples)))
    chance, best = right.mean(axis=1), {name: best_of(own, right) for name, own in scores.items()}
    rows: list[dict[str, Any]] = [
        {"by": "any", "best": _mean(chance, counts)},
        {"by": "gold", "best": _mean(right.max(1), counts)},
    ]
    for name, own in scores.items():
        wins, pairs = within(own, right)
        drawn = np.array([auc(own, right, weights) for weights in counts])
        rows.append(
            {
                "by": name,
                "auc": _shown(auc(own, right), drawn, len(right)),
                "within": _shown(
                    wins.sum() / pairs.sum(), (counts @ wins) / (counts @ pairs), int((pairs > 0).sum())
                ),
                "best": _mean(best[name], counts),
                "over any": _mean(best[name] - chance, counts),
            }
        )
        if name != first:
            rows[-1][f"{first} over it"] = _mean(best[first] - best[name], counts)
    return rows


def best_of(scores: Floats, right: Floats) -> Floats:
    """[problems]: whether the solution with the highest score is right; of several the share that are."""
    highest = scores == scores.max(axis=1, keepdims=True)
    return (right * highest).sum(axis=1) / highest.sum(axis=1)


def within(scores: Floats, right: Floats) -> tuple[Floats, Floats]:
    """[problems] twice: pairs of a right and a wrong solution with the right one higher (equal: half), and all pairs."""
    pairs = right[:, :, None] * (1 - right[:, None, :])
    above = scores[:, :, None] - scores[:, None, :]
    return (pairs * ((above > 0) + 0.5 * (above == 0))).sum(axis=(1, 2)), pairs.sum(axis=(1, 2))


def auc(scores: Floats, right: Floats, weights: Any = None) -> float:
    """The probability that a right solution scores above a wrong one of any problem; weights [problems]: its counts."""
    each = np.broadcast_to(
        np.ones(len(scores))[:, None] if weights is None else weights[:, None], scores.shape
    )
    _, place = np.unique(scores.ravel(), return_inverse=True)
    positive = np.bincount(place.ravel(), (each * right).ravel())
    negative = np.bincount(place.ravel(), (each * (1 - right)).ravel())
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def _mean(values: Floats, counts: Any) -> str:
    return _shown(float(values.mean()), counts @ values / len(values), len(values))


def _shown(value: float, drawn: Floats, n: int) -> str:
    found = percentile_interval(float(value), drawn, n)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
