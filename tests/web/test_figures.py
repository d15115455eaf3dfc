"""The numbers of the insights page, on panels whose members are known."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from tutelage.feedback.insights.figures import _agreement, _people
from tutelage.feedback.insights.tables import PairLabel

ITEMS = 200
RIGHT = {"careful": 0.95, "fair": 0.85, "coin": 0.5}  # how often a decided answer is right


def label(item: int, name: str, preference: int) -> PairLabel:
    when = datetime(2026, 1, 1, 12, item % 60, tzinfo=UTC)
    return PairLabel(item, item, name, "human", preference, item % 2, (40, 50), ("a", "b"), (1, 2), 3000, when, None)  # fmt: skip


def panel() -> list[PairLabel]:
    """Everybody sees every item, a fifth of the answers are ties, and one person only ever ties."""
    draw = np.random.default_rng(0)
    truth = draw.choice([-1, 1], ITEMS)
    found = [label(item, "undecided", 0) for item in range(ITEMS)]
    for name, right in RIGHT.items():
        said = np.where(draw.random(ITEMS) < right, truth, -truth) * (draw.random(ITEMS) > 0.2)
        found += [label(item, name, int(preference)) for item, preference in enumerate(said)]
    return found


def test_reliability_is_about_sides_and_ties_lower_nobodys() -> None:
    people = {person.name: person for person in _people(panel())}
    for name, right in RIGHT.items():
        reliability = people[name].reliability
        assert reliability.value is not None and abs(reliability.value - right) < 0.1
    assert people["undecided"].reliability.value is None
    assert people["undecided"].reliability.note == "ties only"
    assert people["undecided"].ties == ITEMS


def test_agreement_and_reliability_do_not_depend_on_which_response_stands_first() -> None:
    draw = np.random.default_rng(1)
    truth = draw.normal(0.8, 1.5, ITEMS)
    said = {
        name: np.clip(np.rint(truth + draw.normal(0, s, ITEMS)), -3, 3) for name, s in (("a", 1), ("b", 2))
    }
    turned = draw.random(ITEMS) < 0.5

    def shown(turn: np.ndarray) -> list[tuple[str, float | None, float | None, float | None]]:
        labels = [
            label(i, name, int(-p if turn[i] else p))
            for name, votes in said.items()
            for i, p in enumerate(votes)
        ]
        lines = [(line.name, line.estimate) for line in _agreement(labels)]
        lines += [(person.name, person.reliability) for person in _people(labels)]
        return [(name, e.value, e.low, e.high) for name, e in lines]

    given, other = shown(np.zeros(ITEMS, bool)), shown(turned)
    assert [name for name, *_ in given][3] == "Krippendorff's alpha, ordinal"
    for (_, *numbers), (_, *again) in zip(given, other, strict=True):
        assert again == pytest.approx(numbers, abs=1e-9)
        assert None not in numbers
