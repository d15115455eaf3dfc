"""Several responses to one prompt, ranked or rated: as comparisons, as the best of them, as the prompt alone, and as ratings.

responses + ranks                    ours, and what many write: 1 is the best, equal ranks are ties
context + completions [{rank, completion}]            NeMo
instruction + completions [{response, overall_score, annotations}]     UltraFeedback before it was made into pairs
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from tutelage.data.reading.cells import Cells, Skip, blank, parsed, wrong
from tutelage.data.reading.trees import MOST_RANKED

Columns = dict[str, Any]
LISTED = ("overall_score", "score", "rating")
"""What says how good one of a list of completions is: the first that any of them has."""
NOTHING = ("", "n/a", "nan", "none")  # how a rating that is none is written


@dataclass(frozen=True)
class Several:
    """A row of several responses: `rest` are its other columns; of each response its cell (text or turns), how it ended, its
    place (the lower the better; None: nobody says) and its ratings by criterion."""

    rest: Columns
    responses: Sequence[Any]
    ends: Sequence[str]
    places: Sequence[float | None]
    ratings: Sequence[Mapping[str, float]]

    def comparisons(self) -> Iterator[Columns]:
        """Columns of every two responses that have places; equal places are a tie."""
        placed = [i for i, place in enumerate(self.places) if place is not None]
        if len(placed) < 2:
            raise Skip("of whose responses no two are ranked")
        if len(placed) > MOST_RANKED:
            raise Skip(f"that ranks more than {MOST_RANKED} responses")
        for i, j in combinations(placed, 2):
            one, other = self.places[i], self.places[j]
            assert one is not None and other is not None
            better, worse = (i, j) if one <= other else (j, i)
            yield self.rest | {
                "chosen": self.responses[better],
                "rejected": self.responses[worse],
                "chosen_finish": self.ends[better],
                "rejected_finish": self.ends[worse],
                "p_chosen": 0.5 if one == other else 1.0,
            }

    def best(self) -> Columns:
        """Columns of the best response, the first of several."""
        places = [math.inf if place is None else place for place in self.places]
        best = places.index(min(places))
        return self.rest | {"completion": self.responses[best], "completion_finish": self.ends[best]}

    def rated(self) -> Iterator[tuple[Columns, Mapping[str, float]]]:
        """Columns of every response that has ratings, and those."""
        for response, end, ratings in zip(self.responses, self.ends, self.ratings, strict=True):
            if ratings:
                yield self.rest | {"completion": response, "completion_finish": end}, ratings


def is_several(columns: Mapping[str, Any]) -> bool:
    """Whether a row holds several responses with ranks or scores."""
    if "responses" in columns and "ranks" in columns:
        return True
    listed = parsed(columns.get("completions"), "[")
    return (
        isinstance(listed, list)
        and bool(listed)
        and all(isinstance(one, dict) for one in listed)
        and any("rank" in one or "response" in one for one in listed)
    )


def read_several(cells: Cells) -> Several:
    """Raises `Skip` for ranks that are none: of another number than the responses, not from 1 on, or with gaps."""
    if cells.has("responses", "ranks"):
        return _ranked(cells)
    return _listed(cells)


def _ranked(cells: Cells) -> Several:
    responses, ranks = (_list(cells, name) for name in ("responses", "ranks"))
    missing = next((number for number, one in enumerate(responses, 1) if one is None), 0)
    if missing:
        raise Skip(f"whose response {missing} is null")
    ends = _list(cells, "responses_finish") if cells.has("responses_finish") else ["eos"] * len(responses)
    _refuse_count("ranks", ranks, responses)
    _refuse_count("responses_finish", ends, responses)
    return Several(_rest(cells), responses, ends, _places(ranks), [{}] * len(responses))


def _listed(cells: Cells) -> Several:
    """A list of objects, each with a response, and a rank, or a score by which they can be put into an order."""
    listed = parsed(cells.get("completions"), "[")
    rest = _rest(cells)
    if "context" in rest and "prompt" not in rest:
        cells.get("context")
        rest["prompt"] = rest.pop("context")
    responses = [one.get("completion", one.get("response")) for one in listed]
    if any(response is None for response in responses):
        raise Skip("with a completion that has no text")
    by = next((name for name in LISTED if any(one.get(name) is not None for one in listed)), LISTED[0])
    scores = [_rating_of(one.get(by), by) for one in listed]
    ratings = [_criteria(one, score) for one, score in zip(listed, scores, strict=True)]
    ranks = [one["rank"] for one in listed if "rank" in one]
    if len(ranks) not in (0, len(listed)):
        raise Skip("with a completion that has no rank")
    places = _places(ranks) if ranks else [None if score is None else -score for score in scores]
    return Several(rest, responses, ["eos"] * len(responses), places, ratings)


def _rest(cells: Cells) -> Columns:
    used = ("responses", "ranks", "responses_finish", "completions")
    return {name: value for name, value in cells.columns.items() if name not in used}


def _list(cells: Cells, name: str) -> list[Any]:
    value = parsed(cells.get(name), "[")
    if not isinstance(value, list) or not value:
        wrong(name, "a list", value)
    return value


def _refuse_count(name: str, values: Sequence[Any], responses: Sequence[Any]) -> None:
    if len(values) != len(responses):
        raise Skip(f"with {len(values)} {name} for {len(responses)} responses")


def _places(ranks: Sequence[Any]) -> list[float | None]:
    """Ranks from 1 on, as 1, 1, 2 or as in sports 1, 1, 3; also counted from 0."""
    if not all(
        isinstance(rank, int | float) and not isinstance(rank, bool) and rank == int(rank) for rank in ranks
    ):
        raise Skip("whose ranks must be whole numbers")
    ordered, first = sorted(ranks), min(ranks)
    dense = all(b - a in (0, 1) for a, b in pairwise(ordered))
    sports = all(rank - first == ordered.index(rank) for rank in ordered)
    if first not in (0, 1):
        raise Skip(f"whose best rank is {first:g}, but ranks begin with 1")
    if not (dense or sports):
        raise Skip(f"whose ranks have gaps ({', '.join(f'{rank:g}' for rank in ordered)})")
    return [float(rank) for rank in ranks]


def _criteria(one: Mapping[str, Any], overall: float | None) -> dict[str, float]:
    """criterion -> rating: the overall one, and those of UltraFeedback's annotations."""
    found = {} if overall is None else {"overall": overall}
    annotations = one.get("annotations")
    for name, said in annotations.items() if isinstance(annotations, Mapping) else ():
        value = said.get("Rating", said.get("rating")) if isinstance(said, Mapping) else said
        rating = _rating_of(value, f"rating by {name}")
        if rating is not None:
            found[str(name)] = rating
    return found


def _rating_of(value: Any, name: str) -> float | None:
    """A number; None where it says that there is none (UltraFeedback writes N/A)."""
    if value is None or (isinstance(value, str) and value.strip().lower() in NOTHING):
        return None
    return _required(name, value)


def _number(value: Any) -> float | None:
    """A finite number, also as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


# ---- one rated response ------------------------------------------------------------------------------------------------

ATTRIBUTES = (
    "helpfulness",
    "correctness",
    "coherence",
    "complexity",
    "verbosity",
    "honesty",
    "safety",
    "overall",
    "accuracy",
    "coverage",
)
"""Criteria that people write as columns of their own: HelpSteer's, and those that a project begins with."""
WIDE = "rating_"  # how the columns of criteria begin in a table


def ratings_of(cells: Cells) -> dict[str, float]:
    """criterion -> rating of the one response in a row: from `values` or `ratings` (an object), `rating` or `score` (called
    overall), `rating_NAME`, and columns that are criteria by themselves: those of `ATTRIBUTES`."""
    found: dict[str, float] = {}
    for name in ("values", "ratings"):
        if cells.has(name):
            for criterion, value in (cells.object(name) or {}).items():
                found[criterion] = _required(f"{name}: {criterion}", value)
    for name in ("rating", "score"):
        if cells.has(name):
            found.setdefault("overall", _required(name, cells.get(name)))
    wide = [name for name in cells.columns if name.startswith(WIDE)]
    for name in (*wide, *ATTRIBUTES):
        if cells.has(name) and not blank(cells.columns[name]):
            found.setdefault(name.removeprefix(WIDE), _required(name, cells.get(name)))
    return found


def _required(name: str, value: Any) -> float:
    found = _number(value)
    if found is None:
        wrong(name, "a number", value)
    return found
