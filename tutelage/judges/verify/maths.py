"""Mathematical equality: of the normalised LaTeX, else of rational numbers, else by algebra in a process of its own.

The order is that of the graders of PRM800K (Lightman et al. 2023, arXiv 2305.20050): most answers are decided by the first two,
which take microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tutelage.judges.verify.answers import extract, truths_in
from tutelage.judges.verify.apart.equal import Undecided, rationals, same
from tutelage.judges.verify.helpers import Helpers
from tutelage.judges.verify.latex import Tree, Unread, normalise, read_formula
from tutelage.judges.verify.verifier import UNREADABLE, Verifier, verdict
from tutelage.records import Score
from tutelage.settings.rules import MathsOptions

Truths = tuple[str, ...]
Pair = tuple[str, str]


def maths(name: str, options: MathsOptions) -> Verifier[Truths]:
    """One of the right answers is equal to that of the response."""
    helpers = Helpers("maths", options.workers)
    decided: dict[Pair, bool] = {}  # what algebra has shown: samples of a prompt say the same again and again

    def truth(reference: Mapping[str, Any]) -> Truths | None:
        return tuple(dict.fromkeys(map(normalise, truths_in(reference)))) or None

    def check(pairs: Sequence[tuple[str, Truths]]) -> list[Score]:
        answers = [extract(text, options.extract) for text, _ in pairs]
        plain = [None if answer is None else normalise(answer) for answer in answers]
        asked = {(a, t) for a, (_, truths) in zip(plain, pairs, strict=True) if a is not None for t in truths}
        right = {pair: at_once(*pair) for pair in asked}
        hard = sorted(pair for pair, found in right.items() if found is None and pair not in decided)
        if len(decided) > REMEMBERED:
            decided.clear()
        decided.update(by_algebra(hard, helpers, options.seconds))
        known = {pair: decided[pair] if found is None else found for pair, found in right.items()}
        return [
            UNREADABLE if a is None else verdict(any(known[a, t] for t in truths))
            for a, (_, truths) in zip(plain, pairs, strict=True)
        ]

    return Verifier(name, truth, check)


REMEMBERED = 100_000  # pairs
TOGETHER = 16  # pairs per process: starting one takes longer than most pairs


def by_algebra(pairs: Sequence[Pair], helpers: Helpers, seconds: float) -> dict[Pair, bool]:
    """Which pairs of normalised answers are equal.  One that takes longer than `seconds`, or too much memory, is not."""
    decided: dict[Pair, bool] = {}
    left = list(pairs)
    while left:
        some = [left[start : start + TOGETHER] for start in range(0, len(left), TOGETHER)]
        trees = [[(tree(a), tree(b)) for a, b in together] for together in some]
        jobs = [({"pairs": one, "each": seconds, "seconds": seconds * len(one) + 1}, None) for one in trees]
        left = []
        for together, found in zip(some, helpers.run(jobs), strict=True):
            answered = found.ljust(
                min(len(found) + 1, len(together)), b"0"
            )  # the first without an answer ended it
            decided.update((pair, one == ord("1")) for pair, one in zip(together, answered, strict=False))
            left += together[len(answered) :]
    return decided


@lru_cache(65_536)
def at_once(a: str, b: str) -> bool | None:
    """Whether two normalised answers are equal; None where it takes algebra to tell."""
    if a == b:
        return bool(a)
    first, second = tree(a), tree(b)
    if first is None or second is None:
        return False
    try:
        return same(first, second, rationals)
    except (Undecided, RecursionError):
        return None


@lru_cache(65_536)
def tree(text: str) -> Tree | None:
    """The tree of a normalised answer, None where it is no formula that can be read."""
    try:
        return read_formula(text)
    except (Unread, RecursionError):
        return None
