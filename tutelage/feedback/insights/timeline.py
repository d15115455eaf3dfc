"""How many answers came when, and how far annotators agreed then."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tutelage.feedback import statistics
from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.insights.labels import Pairs, Values
from tutelage.feedback.insights.shown import HOW, SIDES, votes_of

Unit = Literal["hour", "day", "week", "month"]
PERIODS = 31  # at most
SECONDS: dict[Unit, int] = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}


class Period(Model):
    """`start` (UTC, YYYY-MM-DD or with the hour); `answers` that came in it; `agreement`: the share of pairs of answers
    that name the same side, on pairs whose last answer came in it."""

    start: str
    answers: int
    agreement: statistics.Estimate


class Timeline(Model):
    """Periods of one `unit` from the first answer to the last; the newest where there are more than fit."""

    unit: Unit
    periods: tuple[Period, ...]


def timeline(pairs: Pairs, values: Values) -> Timeline | None:
    """None when everything came within an hour: a file, or a beginning."""
    who = np.unique(values.annotator, return_inverse=True)[1]
    once = np.unique(np.stack([values.item, who]), axis=1, return_index=True)[1]  # of the values of an answer
    at = np.concatenate([pairs.at, values.at[once]]).astype("datetime64[s]").astype(np.int64)
    if not at.size or at.min() // 3600 == at.max() // 3600:
        return None
    unit: Unit = next(
        (name for name, size in SECONDS.items() if at.max() // size - at.min() // size < PERIODS), "month"
    )
    size = SECONDS[unit]
    last = int(at.max() // size)
    first = max(int(at.min() // size), last - PERIODS + 1)
    answers = np.bincount((at // size)[at // size >= first] - first, minlength=last - first + 1)
    done = _completed(pairs) // size
    return Timeline(
        unit=unit,
        periods=tuple(
            Period(
                start=_shown((first + k) * size, unit),
                answers=int(answers[k]),
                agreement=_agreement(pairs.where(done == first + k)),
            )
            for k in range(last - first + 1)
        ),
    )


def _shown(at: int, unit: Unit) -> str:
    return str(np.datetime64(at, "s"))[: 16 if unit == "hour" else 10].replace("T", " ")


def _completed(pairs: Pairs) -> np.ndarray:
    """By answer, when the last one to its item came [s]."""
    if not len(pairs):
        return np.zeros(0, np.int64)
    items, number = np.unique(pairs.item, return_inverse=True)
    latest = np.zeros(items.size, np.int64)
    np.maximum.at(latest, number, pairs.at.astype("datetime64[s]").astype(np.int64))
    return latest[number]


def _agreement(pairs: Pairs) -> statistics.Estimate:
    return statistics.percent_agreement(votes_of(pairs, pairs.side, SIDES), how=HOW)
