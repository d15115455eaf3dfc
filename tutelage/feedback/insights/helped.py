"""What an assistant did to the votes of people: those who saw what it says, beside those from whom it was kept at random."""

from __future__ import annotations

import numpy as np

from tutelage.feedback import statistics
from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.insights.labels import Column, Pairs
from tutelage.feedback.insights.shown import HOW
from tutelage.feedback.statistics import Estimate

ARMS = ("none", "honest", "adversarial")


class Helped(Model):
    """Votes of one arm.  agreement: share of decided votes on the side of the others' majority; gold: right answers to gold
    items; followed: share of decided votes for the response that the assistant argues for.  None: there are none such."""

    arm: str
    votes: int
    agreement: Estimate | None
    gold: Estimate | None
    followed: Estimate | None


def helped(pairs: Pairs) -> tuple[Helped, ...]:
    """One row for each arm that somebody voted in; () where no assistant said anything."""
    if not np.any(pairs.help != ""):
        return ()
    others = majority_of_others(pairs)
    return tuple(
        Helped(
            arm=arm,
            votes=int(np.sum(pairs.help == arm)),
            agreement=_same(pairs, others, (pairs.help == arm) & (others != 0)),
            gold=_same(
                pairs, np.nan_to_num(np.sign(pairs.gold)), (pairs.help == arm) & ~np.isnan(pairs.gold)
            ),
            followed=_same(pairs, 2 * pairs.argues - 1, (pairs.help == arm) & (pairs.argues >= 0)),
        )
        for arm in ARMS
        if np.any(pairs.help == arm)
    )


def majority_of_others(pairs: Pairs) -> Column:
    """Of each vote, the side that most of the others to its item are on; 0: none, or nobody else."""
    _, item = np.unique(pairs.item, return_inverse=True)
    total = np.bincount(item, weights=pairs.side, minlength=item.max(initial=-1) + 1)
    found: Column = np.sign(total[item] - pairs.side)
    return found


def _same(pairs: Pairs, other: Column, rows: Column) -> Estimate | None:
    """How often the decided votes among `rows` are on the `other` side; None where there are none."""
    chosen = rows & (pairs.side != 0)
    if not chosen.any():
        return None
    names = np.full(int(chosen.sum()), "all")
    return statistics.consistency(names, pairs.side[chosen], other[chosen], how=HOW)["all"]
