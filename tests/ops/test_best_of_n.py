"""Best-of-n in numbers, against enumeration of all draws and of all subsets."""

from __future__ import annotations

import math
from itertools import combinations, product

import pytest
import torch

from tests.oracle import oracle
from tutelage.ops.best_of_n import expected, kl_bound, kl_estimate, probabilities


def test_the_bound_has_its_known_values() -> None:
    known = {1: 0.0, 2: 0.1931, 4: 0.6363, 16: 1.8351, 64: 3.1745, 1024: 5.9324}
    assert {n: round(kl_bound(n), 4) for n in known} == known
    with pytest.raises(ValueError, match="n is 0"):
        kl_bound(0)


@pytest.mark.parametrize("n, known", [(4, 0.5987), (64, 2.748)])
def test_the_exact_kl_of_fifteen_responses_is_below_the_bound(n: int, known: float) -> None:
    world = oracle()
    best = probabilities(world.ref_logprobs.exp(), world.rewards, n)
    found = float(torch.special.xlogy(best, best).sum() - (best * world.ref_logprobs).sum())
    assert found == pytest.approx(known, abs=5e-4) and found < kl_bound(n)


def test_many_rare_responses_reach_the_bound() -> None:
    count = 100_000
    scores = torch.randperm(count, generator=torch.Generator().manual_seed(0)).double()
    best = probabilities(torch.full((count,), 1 / count), scores, 4)
    assert float(torch.special.xlogy(best, best * count).sum()) == pytest.approx(kl_bound(4), abs=1e-4)


def test_probabilities_are_those_of_all_draws() -> None:
    """5 responses, two of them tied twice: all 125 draws of 3, of which the first of the best wins."""
    sampled = torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25], dtype=torch.float64)
    scores = torch.tensor([1.0, 0.0, 1.0, 2.0, 2.0])
    wins = [0.0] * 5
    for draw in product(range(5), repeat=3):
        winner = max(draw, key=lambda i: float(scores[i]))  # max takes the first of equals
        wins[winner] += float(sampled[list(draw)].prod())
    assert probabilities(sampled, scores, 3).tolist() == pytest.approx(wins, abs=1e-12)
    assert probabilities(sampled, scores, 1).tolist() == pytest.approx(sampled.tolist(), abs=1e-12)


def test_what_cannot_be_sampled_is_never_the_best() -> None:
    found = probabilities(torch.tensor([0.0, 1.0]), torch.tensor([9.0, 1.0]), 8)
    assert found.tolist() == [0.0, 1.0]


def test_the_estimate_is_the_mean_over_all_subsets() -> None:
    scores = [0.5, -1.0, 2.0, 0.5, 2.0, 0.0]
    values = [3.0, 1.0, -4.0, 1.5, 9.0, 2.0]
    for n, found in enumerate(expected(torch.tensor(scores), torch.tensor(values)).tolist(), 1):
        means = []
        for subset in combinations(range(6), n):
            top = max(scores[i] for i in subset)
            tied = [values[i] for i in subset if scores[i] == top]
            means.append(sum(tied) / len(tied))
        assert found == pytest.approx(sum(means) / len(means), abs=1e-12)


def test_the_estimate_takes_several_prompts_and_no_order_of_samples() -> None:
    generator = torch.Generator().manual_seed(3)
    scores, values = (
        torch.randint(0, 4, (5, 64), generator=generator),
        torch.randn(5, 64, generator=generator),
    )
    found = expected(scores, values)
    order = torch.randperm(64, generator=generator)
    torch.testing.assert_close(expected(scores[:, order], values[:, order]), found)
    torch.testing.assert_close(expected(scores[2], values[2]), found[2])
    own = expected(scores, scores)
    assert (own.diff(dim=-1) >= -1e-12).all() and torch.equal(own[:, -1], scores.amax(-1).double())


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_estimate_of_the_kl_is_that_of_all_responses(n: int) -> None:
    """A judge that says right or wrong, and the fifteen responses of the enumerable world, in samples as often as they come."""
    right = 0.3
    won = 1 - (1 - right) ** n
    true = won * math.log(won / right) + (1 - won) * math.log((1 - won) / (1 - right))
    assert kl_estimate(torch.tensor([0.0] * 7 + [1.0] * 3), n) == pytest.approx(true, abs=0.06)
    many = torch.tensor([0.0] * 700 + [1.0] * 300)
    assert kl_estimate(many, n) == pytest.approx(true, abs=1e-9)
    world = oracle()
    sampled = world.ref_logprobs.exp()
    counts = (sampled * 200_000).round().double()
    best = probabilities(counts / counts.sum(), world.rewards, n)
    exact = float(torch.special.xlogy(best, best * counts.sum() / counts).sum())
    assert kl_estimate(torch.repeat_interleave(world.rewards, counts.long()), n) == pytest.approx(
        exact, abs=1e-9
    )


def test_without_ties_the_estimate_is_the_bound_and_of_equals_nothing_is_chosen() -> None:
    scores = torch.randperm(24, generator=torch.Generator().manual_seed(0)).float()
    for n in (1, 2, 8):
        assert kl_estimate(scores, n) == pytest.approx(kl_bound(n), abs=1e-12)
        assert kl_estimate(torch.ones(24), n) == 0
    assert kl_estimate(torch.tensor([1.0, 0.0, 1.0, 2.0]), 1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="no scores"):
        kl_estimate(torch.tensor([]), 2)
