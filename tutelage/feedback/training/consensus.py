"""From several people's labels to one, by skill: whoever is right more often counts for more.

The one place that calls `statistics.dawid_skene` and `statistics.crowd_pairs` for training data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tutelage.feedback.training.habits import (
    WITHOUT_HABITS,
    Given,
    WithoutHabits,
    fit_habits,
    given_of,
)
from tutelage.records import Comparison
from tutelage.store import Ties, VotedPair
from tutelage.store.aggregate import NoRow, counted_before, oriented

if TYPE_CHECKING:
    from tutelage.feedback.statistics import HabitPairs

BySkill = Literal["dawid-skene", "crowd-bt"] | WithoutHabits
Label = tuple[str, str, int]  # unit, annotator, value


def soft_labels(
    labels: Sequence[Label], categories: Sequence[int], *, mirrored: bool = False
) -> dict[str, Mapping[int, float]]:
    """unit -> category -> probability, from everybody's labels; `mirrored` where they are for a side of a pair."""
    from tutelage.feedback.statistics import (  # numpy's linear algebra: when used
        Resampling,
        Votes,
        dawid_skene,
    )

    if not labels:
        return {}
    units, annotators, values = (list(column) for column in zip(*labels, strict=True))
    votes = Votes.from_triplets(units, annotators, values, categories=list(categories), mirrored=mirrored)
    no_intervals = Resampling(enough=sys.maxsize)
    found = dawid_skene(votes, how=no_intervals)
    return {
        str(unit): {int(c): float(p) for c, p in zip(found.categories, row, strict=True)}
        for unit, row in zip(found.items, found.soft, strict=True)
    }


@dataclass(frozen=True)
class Skill:
    """What the votes of a project say of each of its pairs (by number), by the skill of whoever voted; and the habits, where
    they were fitted."""

    second: Mapping[str, float]  # that the second response is the better one
    habits: HabitPairs | None = None

    def row(self, number: int, pair: VotedPair, ties: Ties) -> Comparison | NoRow:
        """A pair as a training row, or "tie" for a dropped one; p_chosen is a probability."""
        if counted_before(pair):
            return oriented(pair, pair.votes[0].for_first, ties)
        tied = sum(vote.preference == 0 for vote in pair.votes) / len(pair.votes)
        first = (1 - self.second.get(str(number), 0.5)) * (1 - tied) + tied / 2
        return oriented(pair, round(first, 6), ties)


def fit_skill(pairs: Iterable[VotedPair], how: BySkill) -> Skill:
    """Read all pairs once; of them nothing is kept but their votes.

    dawid-skene: that the chosen response is the better one.  crowd-bt: that a careful annotator prefers it, which stays
    near one half where the pair is close.  habit-bt: the same, with what each annotator likes in the place where a response
    was shown, and in its length more than others do, taken out (`statistics.habit_pairs`); habit-bt-length: with all that is
    liked in length taken out.  In all, skill is learnt from the
    votes for a side, and then each tied vote counts half for either, as with `aggregation=all`.  (As a label of its own a tie
    takes in every pair that people see differently; docs/LOG.md has the numbers.)  A share of votes that stands alone stays
    what it is; among others it is a vote for its side.  How much an annotator counts is learnt, so that `Vote.weight` plays no
    part.
    """
    given = [
        one for number, pair in enumerate(pairs) if not counted_before(pair) for one in given_of(number, pair)
    ]
    habits = fit_habits(given, how) if how == "habit-bt" or how == "habit-bt-length" else None
    return Skill(_second(given, how, habits), habits)


def _second(given: Sequence[Given], how: BySkill, habits: HabitPairs | None) -> dict[str, float]:
    """pair -> probability that the second response is better."""
    if how in WITHOUT_HABITS:
        if habits is None:
            return {}
        return {str(pair): 1 - float(share) for pair, share in zip(habits.pairs, habits.share, strict=True)}
    decided = [(one.unit, one.annotator, int(one.preference > 0)) for one in given]
    return _crowd(decided) if how == "crowd-bt" else _dawid_skene(decided)


def _dawid_skene(decided: Sequence[Label]) -> dict[str, float]:
    """pair -> probability that the second response is better."""
    return {unit: by_side[1] for unit, by_side in soft_labels(decided, (0, 1), mirrored=True).items()}


def _crowd(decided: Sequence[Label]) -> dict[str, float]:
    """pair -> probability that a careful annotator prefers the second response."""
    from tutelage.feedback.statistics import crowd_pairs

    if not decided:
        return {}
    found = crowd_pairs(*(list(column) for column in zip(*decided, strict=True)))
    return {str(pair): float(share) for pair, share in zip(found.pairs, found.share, strict=True)}
