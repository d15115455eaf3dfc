"""Score against distance: which models are drawn, and where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tutelage.evals import frontier
from tutelage.evals.findings import one
from tutelage.evals.rows import Row

SLOTS = {"sft": 1, "ppo": 2, "dpo": 3, "dpo-best-of-4": 3}


def rows(model: str, gold: float | None, kl: float | None, n: int = 0) -> list[Row]:
    """n: the best of so many, whose bound is known as well."""
    found = []
    if gold is not None:
        found.append(Row(model, "gold", "all", gold, gold - 0.1, gold + 0.2, 10, "score"))
    if kl is not None:
        found.append(Row(model, "kl", "all", kl, kl - 0.3, kl + 0.75, 10, "nats"))
    if n:
        found.append(Row(model, "kl_bound", "all", math.log(n) - (n - 1) / n, unit="nats"))
    return found


def points(*found: list[Row]) -> list[frontier.Point]:
    every = [row for own in found for row in own]
    models = list(dict.fromkeys(row.model for row in every))
    return frontier.points(models, "gold", lambda model, metric: one(every, model, metric))


def test_where_the_points_are() -> None:
    """The square root of the KL, bounds of it below 0 at 0; the best of n of the start at its bound, on a line from the start."""
    made = points(
        *(rows("sft", 0.4, 0.0), rows("sft-best-of-16", 0.7, 1.2, 16), rows("sft-best-of-4", 0.6, None, 4)),
        *(rows("ppo", 0.8, 0.25), rows("dpo", None, 3.0), rows("raft", 0.5, None)),
    )
    lines, starts = frontier.lines_of(made, SLOTS)
    chosen, ppo = lines
    assert (chosen.name, ppo.name, [start.name for start in starts]) == ("SFT, best of n", "PPO", ["SFT"])
    bounds = [math.sqrt(math.log(n) - (n - 1) / n) for n in (1, 4, 16)]
    assert np.asarray(chosen.x) == pytest.approx(bounds) and list(chosen.y) == [0.4, 0.6, 0.7]  # type: ignore[arg-type]
    assert list(ppo.x) == [0.5] and list(starts[0].x) == [0.0]  # type: ignore[arg-type]
    assert np.ravel(ppo.reach) == pytest.approx([0.1, 0.2])  # type: ignore[arg-type]
    assert np.ravel(ppo.across) == pytest.approx([0.5, 0.5])  # type: ignore[arg-type]


def test_the_best_of_a_model_that_has_moved_stands_at_its_own_kl() -> None:
    made = points(rows("sft", 0.4, 0.0), rows("dpo", 0.5, 2.0), rows("dpo-best-of-4", 0.6, 4.0, 4))
    lines, _ = frontier.lines_of(made, SLOTS)
    assert [(line.name, float(np.ravel(line.x)[0])) for line in lines] == [  # type: ignore[arg-type]
        ("DPO", pytest.approx(math.sqrt(2))),
        ("dpo-best-of-4", 2.0),
    ]


def test_one_model_is_no_frontier() -> None:
    """Nor is a model without a KL a second one; the reference need not be among the models."""
    alone = points(rows("sft", 0.4, 0.0), rows("ppo", 0.8, 1.0), rows("dpo", 0.7, None))
    assert frontier.draw(alone, SLOTS, "gold score") == ""
    two = points(rows("ppo", 0.8, 1.0), rows("dpo", 0.7, 2.0))
    drawn = frontier.draw(two, SLOTS, "gold score")
    assert drawn.startswith("<svg") and "Gold score against distance" in drawn
