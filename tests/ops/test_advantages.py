from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.ops.advantages import baseline, gae
from tutelage.ops.masked import mask_from_lengths, pad

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(sum)
SHARE = st.floats(0, 1)


def _draw(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(sum(lengths), generator=generator, dtype=torch.float64) for _ in range(2)]
    return pad(draw[0], lengths), pad(draw[1], lengths), mask_from_lengths(lengths)


def _by_definition(rewards, values, lengths, gamma, lam):
    """A_t = sum of (1 - lambda) lambda^(n-1) [n-step return - V_t]; the longest takes what weight is left."""
    advantages = torch.zeros_like(rewards)
    for b, length in enumerate(lengths):
        r, v = rewards[b].tolist(), values[b].tolist()
        for t in range(length):
            total = 0.0
            for n in range(1, length - t + 1):
                n_step = sum(gamma**k * r[t + k] for k in range(n))
                last = t + n == length
                if not last:
                    n_step += gamma**n * v[t + n]
                total += lam ** (n - 1) * (1.0 if last else 1 - lam) * (n_step - v[t])
            advantages[b, t] = total
    return advantages


def test_a_row_by_hand_with_the_score_at_the_last_real_token():
    mask = mask_from_lengths((4, 2))
    rewards = torch.tensor([[0, 0, 0, 1.0], [0, 1.0, 0, 0]])
    advantages, returns = gae(rewards, torch.full((2, 4), 0.4), mask, gamma=1.0, gae_lambda=0.95)
    assert advantages[0].tolist() == pytest.approx([0.5144, 0.5415, 0.57, 0.6], abs=5e-5)
    assert advantages[1].tolist() == pytest.approx([0.57, 0.6, 0, 0], abs=1e-6)
    torch.testing.assert_close(returns, torch.where(mask, advantages + 0.4, 0.0))


@given(LENGTHS, SHARE, SHARE, st.integers(0, 99))
def test_against_the_definition(lengths, gamma, lam, seed):
    rewards, values, mask = _draw(lengths, seed)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=lam)
    expected = _by_definition(rewards, values, lengths, gamma, lam)
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(returns, torch.where(mask, expected + values, 0.0), rtol=0, atol=1e-10)


@given(LENGTHS, st.integers(0, 5), st.sampled_from([1e6, float("nan"), float("inf")]), st.integers(0, 99))
def test_padding_never_matters(lengths, extra, poison, seed):
    rewards, values, mask = _draw(lengths, seed)
    clean = gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8)
    wide = torch.nn.functional.pad(mask, (0, extra))
    dirty = (torch.where(wide, torch.nn.functional.pad(x, (0, extra)), poison) for x in (rewards, values))
    for found, expected in zip(gae(*dirty, wide, gamma=0.9, gae_lambda=0.8), clean, strict=True):
        assert torch.equal(found, torch.nn.functional.pad(expected, (0, extra)))


@given(LENGTHS, st.integers(0, 99))
def test_lambda_1_gives_the_reward_to_go_as_return_whatever_the_values(lengths, seed):
    rewards, values, mask = _draw(lengths, seed)
    _, returns = gae(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    to_go = rewards.flip(1).cumsum(1).flip(1).masked_fill(~mask, 0.0)
    torch.testing.assert_close(returns, to_go, rtol=0, atol=1e-10)


def test_the_results_are_constants_and_the_inputs_are_left_alone():
    rewards, values, mask = _draw((3, 2), 0)
    before = rewards.clone(), values.clone()
    advantages, returns = gae(rewards, values.requires_grad_(), mask, gamma=1.0, gae_lambda=0.95)
    assert not advantages.requires_grad and not returns.requires_grad
    assert torch.equal(rewards, before[0]) and torch.equal(values, before[1])


def test_padding_on_the_left_is_refused():
    mask = torch.tensor([[False, True]])
    with pytest.raises(AssertionError, match="on the right"):
        gae(torch.zeros(1, 2), torch.zeros(1, 2), mask, gamma=1.0, gae_lambda=1.0)


def _advantages(rewards, group, kind):
    wide = torch.tensor(rewards, dtype=torch.float64)
    base, spread = baseline(wide, torch.tensor(group), kind)
    return ((wide - base) / spread).tolist()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [1, 0, 4, 4, 1]),
        ("batch", [-1, -2, 2, 2, -1]),
        ("leave-one-out", [1, -1, 1.5, 1.5, -3]),
        ("group", [0.5, -0.5, 1, 1, -2]),
        ("group-std", [0.7071, -0.7071, 0.5774, 0.5774, -1.1547]),
    ],
)
def test_what_is_taken_from_a_reward(kind, expected):
    """Two groups, of two and three: [1, 0] and [4, 4, 1], whose deviations are .7071 and 1.7321 (n - 1 below)."""
    assert _advantages([1.0, 0.0, 4.0, 4.0, 1.0], [0, 0, 1, 1, 1], kind) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("kind", ["batch", "leave-one-out", "group", "group-std"])
def test_equal_rewards_teach_nothing_and_a_constant_changes_nothing(kind):
    assert _advantages([0.1] * 6, [0, 0, 0, 1, 1, 1], kind) == pytest.approx([0.0] * 6, abs=1e-9)
    rewards = [0.3, -1.0, 2.0, 0.25, 0.5, 7.0]
    moved = [reward + 5.0 for reward in rewards]
    group = [2, 0, 2, 0, 1, 1]
    assert _advantages(moved, group, kind) == pytest.approx(_advantages(rewards, group, kind), abs=1e-5)


def test_a_response_does_not_change_its_own_baseline():
    group = torch.tensor([0, 0, 0])
    one = baseline(torch.tensor([1.0, 2.0, 3.0]), group, "leave-one-out")[0]
    other = baseline(torch.tensor([9.0, 2.0, 3.0]), group, "leave-one-out")[0]
    assert one[0] == other[0] and one[1] != other[1]


@pytest.mark.parametrize("kind", ["leave-one-out", "group", "group-std"])
def test_a_response_without_others_has_nothing_to_be_compared_with(kind):
    rewards = torch.tensor([5.0, 1.0, 2.0])
    base, spread = baseline(rewards, torch.tensor([0, 1, 1]), kind)
    advantages = (rewards - base) / spread
    assert advantages[0] == 0.0 and advantages[1] == -advantages[2] < 0
