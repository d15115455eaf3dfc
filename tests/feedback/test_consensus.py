"""Training labels by skill: annotators of known reliability, with ties, against the shares that careful people would give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tutelage.feedback.training.consensus import soft_labels
from tutelage.feedback.training.source import Settled, aggregated, skill_of
from tutelage.records import Comparison, Prompt, Vote
from tutelage.store import Ties, VotedPair
from tutelage.store.aggregate import NoRow

RELIABILITY = {"ann": 0.95, "ben": 0.9, "cy": 0.8, "dee": 0.65, "eve": 0.5}
WIDTH = 0.7  # what feels closer than that (in logits) is a tie
LAZY = "ben"  # ties now and then without looking


def simulate(pairs: int, overlap: int, seed: int) -> tuple[np.ndarray, list[VotedPair]]:
    """The share [pairs] of careful people who prefer the first response, and the pairs with votes, ties among them."""
    generator = np.random.default_rng(seed)
    people = list(RELIABILITY)
    differences = generator.normal(0, 2, pairs)
    voted = []
    for number, difference in enumerate(differences):
        votes = []
        for name in generator.permutation(people)[:overlap]:
            felt = difference + generator.logistic()
            if generator.random() > RELIABILITY[name]:
                felt = -felt
            tie = abs(felt) < WIDTH or (name == LAZY and generator.random() < 0.3)
            preference = 0 if tie else -1 if felt > 0 else 1
            votes.append(Vote(str(name), preference, 0))
        voted.append(VotedPair(str(number), number, Prompt(str(number)), ("x", "y"), tuple(votes)))
    return 1 / (1 + np.exp(-differences)), voted


def aggregate(pairs: list[VotedPair], how: Settled, ties: Ties) -> list[Comparison | NoRow]:
    return [row for _, row in aggregated(pairs, how, ties, skill_of(lambda: pairs, how))]


def shares(pairs: list[VotedPair], aggregation: Settled) -> np.ndarray:
    """The probability that the first response is better, by training's own rows."""
    rows = aggregate(pairs, aggregation, "keep")
    return np.array([row.p_chosen if row.chosen == "x" else 1 - row.p_chosen for row in rows])


def tie_as_a_label(pairs: list[VotedPair]) -> np.ndarray:
    """What dawid-skene did before: a tie is one of three true labels."""
    labels = [(p.group, v.annotator, (v.preference > 0) - (v.preference < 0)) for p in pairs for v in p.votes]
    soft = soft_labels(labels, (-1, 0, 1))
    return np.array([soft[p.group][-1] + soft[p.group][0] / 2 for p in pairs])


def test_soft_labels_by_skill_are_nearer_to_the_truth() -> None:
    """In squared error against the true share, over 2,000 pairs; and both name the better side more often."""
    sides, errors = [], []
    for seed in range(4):
        truth, pairs = simulate(pairs=500, overlap=4, seed=seed)
        names: tuple[Settled, ...] = ("majority", "all", "dawid-skene", "crowd-bt")
        found = {name: shares(pairs, name) for name in names} | {"a tie is a label": tie_as_a_label(pairs)}
        errors.append({name: np.mean((share - truth) ** 2) for name, share in found.items()})
        sides.append({name: right(share, truth) for name, share in found.items()})
    error = {name: np.mean([row[name] for row in errors]) for name in errors[0]}
    side = {name: np.mean([row[name] for row in sides]) for name in sides[0]}
    assert error["crowd-bt"] < error["dawid-skene"] < error["all"] < error["majority"], error
    assert error["dawid-skene"] < error["a tie is a label"], error
    assert min(side["dawid-skene"], side["crowd-bt"]) > max(side["majority"], side["a tie is a label"]), side


def right(share: np.ndarray, truth: np.ndarray) -> float:
    """How often the better side is named, a half being half right."""
    return float(np.where(share == 0.5, 0.5, (share > 0.5) == (truth > 0.5)).mean())


@pytest.mark.parametrize("aggregation", ["majority", "all", "dawid-skene", "crowd-bt"])
def test_which_response_stands_first_changes_no_row(aggregation: Settled) -> None:
    _, pairs = simulate(pairs=120, overlap=3, seed=0)
    turned = [
        replace(p, texts=("y", "x"), votes=tuple(Vote(v.annotator, -v.preference, 0) for v in p.votes))
        if number % 3 == 0
        else p
        for number, p in enumerate(pairs)
    ]
    assert shares(turned, aggregation) == pytest.approx(shares(pairs, aggregation), abs=2e-6)


@pytest.mark.parametrize("aggregation", ["dawid-skene", "crowd-bt"])
def test_a_tied_vote_counts_half(aggregation: Settled) -> None:
    """A pair of ties is a tie; a tie beside a vote halves what the vote says."""

    def pair(key: str, *preferences: int) -> VotedPair:
        votes = tuple(Vote(name, p, 0) for name, p in zip(RELIABILITY, preferences, strict=False))
        return VotedPair(key, int(key), Prompt(key), ("x", "y"), votes)

    pairs = [pair("1", 0, 0), pair("2", -2), pair("3", -2, 0), pair("4", 1, 2)]
    ties, alone, halved, second = aggregate(pairs, aggregation, "keep")
    assert ties.p_chosen == 0.5 and ties.margin == 0
    assert halved.p_chosen - 0.5 == pytest.approx((alone.p_chosen - 0.5) / 2, abs=1e-6)
    assert alone.p_chosen > 0.55 and (second.chosen, second.margin) == ("y", 0.5)
    assert [row == "tie" for row in aggregate(pairs, aggregation, "drop")] == [True, False, False, False]
    assert aggregate([pair("1", 0)], aggregation, "drop") == ["tie"]
