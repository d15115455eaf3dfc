"""One row per annotator of pairs: how reliable, how fast, and with what habits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tutelage.feedback import statistics
from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.insights.labels import Column, Pairs, Sides
from tutelage.feedback.insights.shown import HOW, votes_of
from tutelage.feedback.statistics import Estimate

NO_SIDES = Estimate(None, None, None, 0, "share", "ties only")


class Person(Model):
    """One annotator in numbers.

    reliability: probability that a decided answer names the better response (Dawid-Skene); gold: right answers to gold
    items; first: share of decided answers for what was shown first; length: logits in favour of the longer response;
    consistency: how often the same two responses got the same answer asked in another way; seconds: median per answer;
    longest_run: of the same answer, and the probability of one as long when shuffled.
    """

    name: str
    kind: str
    votes: int
    ties: int
    reliability: Estimate
    gold: Estimate | None
    gold_alert: bool
    first: Estimate
    length: Estimate
    consistency: Estimate | None
    seconds: Estimate | None
    longest_run: Estimate
    run_chance: float | None


def people(pairs: Pairs, sides: Sides) -> tuple[Person, ...]:
    """One row per annotator, most answers first."""
    if not len(pairs):
        return ()
    # Without the ties: as a label of its own a tie takes in every pair that people see differently, and nobody looks reliable.
    decided = pairs.where(pairs.side != 0)
    reliable = (
        statistics.dawid_skene(votes_of(decided, decided.side, (-1, 1)), how=HOW).accuracy
        if len(decided)
        else {}
    )
    first, longer = first_won(pairs), longer_first(pairs)
    position = statistics.position_bias(pairs.annotator, first, clusters=pairs.prompt, how=HOW)
    length = statistics.length_bias(pairs.annotator, first, longer, clusters=pairs.prompt, how=HOW)
    runs = statistics.straight_lining(pairs.annotator, _as_clicked(pairs), how=HOW)
    again, gold, speed = _consistency(sides), _gold(pairs), _speed(pairs)
    names, start, counts = np.unique(pairs.annotator, return_index=True, return_counts=True)
    order = sorted(range(names.size), key=lambda k: (-counts[k], names[k]))
    rows = [(str(names[k]), str(pairs.kind[start[k]]), int(counts[k])) for k in order]
    return tuple(
        Person(
            name=name,
            kind=kind,
            votes=votes,
            ties=int(np.sum((pairs.annotator == name) & (pairs.side == 0))),
            reliability=reliable.get(name, NO_SIDES),
            gold=gold[name].accuracy if name in gold else None,
            gold_alert=name in gold and gold[name].alert,
            first=position[name].rate,
            length=length[name],
            consistency=again.get(name),
            seconds=speed.get(name),
            longest_run=runs[name].longest,
            run_chance=runs[name].chance,
        )
        for name, kind, votes in rows
    )


def first_won(pairs: Pairs) -> Column:
    """1 where the response shown first won, 0 where the other did, one half for a tie."""
    zero_won = 0.5 - 0.5 * pairs.side
    return np.where(pairs.first_shown == 0, zero_won, 1 - zero_won)


def longer_first(pairs: Pairs) -> Column:
    """By how many characters the response shown first is the longer one."""
    less = pairs.length[:, 0] - pairs.length[:, 1]
    return np.where(pairs.first_shown == 0, less, -less)


def _as_clicked(pairs: Pairs) -> Column:
    return np.where(pairs.first_shown == 0, pairs.preference, -pairs.preference)


def _consistency(sides: Sides) -> Mapping[Any, Estimate]:
    """Of two responses judged in two ways, the share with the same side both times."""
    who = np.unique(sides.annotator, return_inverse=True)[1] if len(sides) else sides.pair
    key = sides.pair * (1 + who.max(initial=0)) + who
    names: list[str] = []
    before: list[Column] = []
    again: list[Column] = []
    compared = np.flatnonzero(sides.way == "pair")
    for other in ("rank", "rate"):
        rows = np.flatnonzero(sides.way == other)
        _, i, j = np.intersect1d(key[compared], key[rows], assume_unique=True, return_indices=True)
        names += sides.annotator[rows[j]].tolist()
        before.append(sides.side[compared[i]])
        again.append(sides.side[rows[j]])
    return statistics.consistency(names, np.concatenate(before), np.concatenate(again), how=HOW)


def _gold(pairs: Pairs) -> Mapping[Any, statistics.GoldAccuracy]:
    known = pairs.where(~np.isnan(pairs.gold))
    return statistics.gold_accuracy(known.annotator, (known.side == np.sign(known.gold)).astype(float))


def _speed(pairs: Pairs) -> Mapping[Any, Estimate]:
    timed = pairs.where(~np.isnan(pairs.seconds))
    return statistics.speed(timed.annotator, timed.seconds, how=HOW)
