"""Which responses to one prompt are asked about together: pure functions, the same choice on every machine.

Groups are ordered by digests of their contents, which are as good as random: the first ones are a random choice, and
asking for more keeps those there are.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.store.schema import digest

Strategy = Literal["random", "all", "round-robin", "best-worst", "uncertainty"]
MOST_GROUPS = 2_000  # per prompt, where not all pairs are wanted
Group = tuple["Candidate", ...]


@dataclass(frozen=True)
class Candidate:
    """A response that may be asked about; `score` is a reward model's, if there is one."""

    response_id: int
    run_id: int
    model: str
    digest: str
    score: float | None = None


def item_digest(type: str, prompt_digest: str, group: Sequence[Candidate]) -> str:
    """What an item is, by content."""
    return digest(type, prompt_digest, *sorted(candidate.digest for candidate in group))


def in_slots_order(group: Sequence[Candidate]) -> Group:
    """Slots are ordered by content, so that they say nothing about who wrote a response or when."""
    return tuple(sorted(group, key=lambda candidate: candidate.digest))


def choose_groups(
    candidates: Sequence[Candidate],
    strategy: Strategy,
    size: int,
    per_prompt: int,
    prompt_digest: str,
    met: Counter[tuple[str, str]] | None = None,
    most: int | None = MOST_GROUPS,
) -> list[Group]:
    """At most `per_prompt` (0 = all) groups of `size` different responses; fewer where there are no more.

    `met` counts how often two models have been put side by side, and is brought up to date (round-robin only).
    Raises ValueError where all groups are wanted and there are more than `most`.
    """
    known = {candidate.digest: candidate for candidate in reversed(candidates)}
    distinct = sorted(known.values(), key=lambda candidate: digest(prompt_digest, candidate.digest))
    if strategy in ("best-worst", "uncertainty"):
        distinct = [candidate for candidate in distinct if candidate.score is not None]
    if len(distinct) < size:
        return []
    if strategy == "best-worst":
        found = _extremes(distinct, size)
    elif strategy == "round-robin":
        found = _rounds(distinct, size, Counter() if met is None else met)
    elif strategy == "uncertainty":
        found = iter(sorted(_all(distinct, size, prompt_digest, most), key=spread))
    elif size <= 2 or not per_prompt:
        found = iter(_all(distinct, size, prompt_digest, most))
    else:
        found = _draws(distinct, size)
    return list(itertools.islice(found, per_prompt or most))


def spread(group: Sequence[Candidate]) -> float:
    """How far apart the scores of a group lie (0 where there are none)."""
    scores = [candidate.score for candidate in group if candidate.score is not None]
    return max(scores) - min(scores) if scores else 0.0


def closeness(scores: Sequence[float]) -> float:
    """A priority in (0, 1] from the scores in an item: 1 when they are equal."""
    return 1 / (1 + max(scores) - min(scores))


def _all(distinct: Sequence[Candidate], size: int, prompt_digest: str, most: int | None) -> list[Group]:
    """Every group, in an order that is as good as random and belongs to the content."""
    if most is not None and math.comb(len(distinct), size) > most:
        raise ValueError(
            f"{len(distinct)} responses to one prompt make more than {most:,} groups of {size}: "
            "ask for some per prompt, at random."
        )
    kind = "pair" if size == 2 else "rank"
    groups = itertools.combinations(distinct, size)
    return sorted(groups, key=lambda group: item_digest(kind, prompt_digest, group))


def _draws(distinct: Sequence[Candidate], size: int) -> Iterator[Group]:
    """Groups without looking at all there are: each round takes the next ones of a new shuffle."""
    seen: set[frozenset[str]] = set()
    for number in range(MOST_GROUPS):
        shuffled = sorted(distinct, key=lambda candidate: digest("draw", number, candidate.digest))
        group = tuple(shuffled[:size])
        names = frozenset(candidate.digest for candidate in group)
        if names not in seen:
            seen.add(names)
            yield group
        if len(seen) == math.comb(len(distinct), size):
            return


def _extremes(distinct: Sequence[Candidate], size: int) -> Iterator[Group]:
    """The best with the worst (and evenly spaced ones between), then the second best with the second worst, ..."""
    ranked = sorted(distinct, key=lambda candidate: (-(candidate.score or 0.0), candidate.digest))
    while len(ranked) >= size:
        if size == 1:
            places = [0]
        else:
            places = [round(place * (len(ranked) - 1) / (size - 1)) for place in range(size)]
        yield tuple(ranked[place] for place in places)
        ranked = ranked[1:-1]


def _rounds(distinct: Sequence[Candidate], size: int, met: Counter[tuple[str, str]]) -> Iterator[Group]:
    """Groups whose models have met least often so far, before groups of one model."""
    left = list(itertools.islice(itertools.combinations(distinct, size), MOST_GROUPS))
    while left:
        best = min(left, key=lambda group: _meetings(group, met))
        left.remove(best)
        for pair in _model_pairs(best):
            met[pair] += 1
        yield best


def _meetings(group: Group, met: Counter[tuple[str, str]]) -> tuple[int, int]:
    pairs = _model_pairs(group)
    same = sum(first == second for first, second in pairs)
    return same, sum(met[pair] for pair in pairs)


def _model_pairs(group: Group) -> list[tuple[str, str]]:
    models = sorted(candidate.model for candidate in group)
    return list(itertools.combinations(models, 2))
