"""Between positions on one annotator's screen and the canonical slots of the store.

`order[position]` is the slot shown there.  An answer in slots is the same payload with its positions meaning slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tutelage.feedback.asking.payloads import Answer, PairAnswer, RankAnswer, RateAnswer
from tutelage.seeds import rng
from tutelage.store.aggregate import in_slots

T = TypeVar("T")


def draw_order(slots: int, order_seed: int) -> list[int]:
    """The order in which an annotator sees `slots` responses."""
    return [int(slot) for slot in rng(order_seed, "order").permutation(slots)]


def order_of(presented: list[int] | None, first_shown: int | None) -> list[int]:
    """The order in which whoever answered saw the responses: of a program, which has no screen, that of its pair."""
    return presented or ([] if first_shown is None else [first_shown, 1 - first_shown])


def to_slots(answer: Answer, order: Sequence[int]) -> Answer:
    """An answer in positions as one in slots."""
    back = sorted(range(len(order)), key=lambda position: order[position])  # back[slot] = position
    return _reorder(answer, order, lambda values: tuple(values[position] for position in back))


def to_positions(answer: Answer, order: Sequence[int]) -> Answer:
    """An answer in slots as one in positions: the inverse of `to_slots`."""
    return _reorder(answer, order, lambda values: tuple(values[slot] for slot in order))


def _reorder(answer: Answer, order: Sequence[int], move: Callable[[Sequence[T]], tuple[T, ...]]) -> Answer:
    changed: dict[str, Any] = {}
    if isinstance(answer, PairAnswer):
        changed["preference"] = in_slots(answer.preference, order[0])
        changed["criteria"] = {name: in_slots(value, order[0]) for name, value in answer.criteria.items()}
    elif isinstance(answer, RankAnswer):
        changed["ranks"] = move(answer.ranks)  # type: ignore[arg-type]
    elif isinstance(answer, RateAnswer):
        changed["ratings"] = {name: move(values) for name, values in answer.ratings.items()}  # type: ignore[arg-type]
    else:
        return answer  # steps, rewrites and chats show one response
    changed["acceptable"] = move(answer.acceptable) if answer.acceptable else ()  # type: ignore[arg-type]
    return answer.model_copy(update=changed)
