"""Several responses in order, from what was said of them in several orders of showing.

K responses are shown in the K rotations of one order, a Latin square: each stands once in every place, so that what is liked for
its place alone cancels in the shares

    p_ij = mean over the rotations of [i stands before j] (1/2 where they are tied)

The ranking is by the sum of a response's shares (Borda's count); equal sums are ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.records import Response

FEWEST, MOST = 2, 9  # responses that are ranked together


@dataclass(frozen=True)
class Ranking:
    """`shares[i][j]`: the probability that response i is better than j."""

    shares: tuple[tuple[float, ...], ...]
    ranks: tuple[int, ...]

    @property
    def sure(self) -> float:
        """The mean share of the better response of two, over all of them: 1/2 to 1."""
        count = len(self.shares)
        upper = [max(self.shares[i][j], self.shares[j][i]) for i in range(count) for j in range(i)]
        return sum(upper) / len(upper)


def canonical(responses: Sequence[Response]) -> tuple[int, ...]:
    """The numbers of responses in an order that does not depend on how they are given."""
    return tuple(sorted(range(len(responses)), key=lambda number: (responses[number].text, number)))


def rotations(order: Sequence[int]) -> list[tuple[int, ...]]:
    """All rotations of an order."""
    return [(*order[start:], *order[:start]) for start in range(len(order))]


def joined(orders: Sequence[Sequence[int]], said: Sequence[Sequence[int]]) -> Ranking:
    """One ranking from several.  `orders[q][place]` is the response in a place of question q, `said[q][place]` its rank (1: the
    best; equal: tied)."""
    count = len(orders[0])
    twice = [[0] * count for _ in range(count)]  # whole numbers, so that equal sums are equal
    for order, ranks in zip(orders, said, strict=True):
        of = dict(zip(order, ranks, strict=True))
        for i in range(count):
            for j in range(count):
                twice[i][j] += 1 + (of[j] > of[i]) - (of[j] < of[i])
    shares = tuple(tuple(value / (2 * len(orders)) for value in row) for row in twice)
    sums = [sum(row) for row in twice]
    places = {value: rank for rank, value in enumerate(sorted(set(sums), reverse=True), 1)}
    return Ranking(shares, tuple(places[value] for value in sums))
