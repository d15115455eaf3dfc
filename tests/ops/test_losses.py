from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.ops import losses
from tutelage.ops.masked import masked_mean, masked_sum

LN2 = math.log(2)
NUMBER = st.floats(-20, 20)
SHARE = st.floats(0, 1)


def _t(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def _gradient(function, x):
    x = x.clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


@pytest.mark.parametrize(
    ("margin", "expected"), [(0, LN2), (1, 1.313262), (1 / 3, 0.8736), (2 / 3, 1.0810), (3, 3.048587)]
)
def test_bradley_terry_of_equal_scores(margin, expected):
    assert losses.bradley_terry(_t(0), margin=margin).item() == pytest.approx(expected, abs=5e-5)


@given(NUMBER, SHARE)
def test_bradley_terry_against_cross_entropy(delta, p):
    """-p ln sigma - (1 - p) ln(1 - sigma), as for a Bernoulli variable, with gradient sigma - p."""
    sigma = 1 / (1 + math.exp(-delta))
    expected = -p * math.log(sigma) - (1 - p) * math.log(1 - sigma)
    assert losses.bradley_terry(_t(delta), p).item() == pytest.approx(expected, rel=1e-6)
    gradient = _gradient(lambda x: losses.bradley_terry(x, p), _t(delta))
    assert gradient.item() == pytest.approx(sigma - p, abs=1e-9)


@given(NUMBER, SHARE, st.floats(0, 3))
def test_swapping_chosen_and_rejected_changes_nothing(delta, p, margin):
    there = losses.bradley_terry(_t(delta), p, margin)
    back = losses.bradley_terry(_t(-delta), 1 - p, margin)
    assert there.item() == pytest.approx(back.item(), rel=1e-9, abs=1e-12)


def test_a_soft_label_is_least_at_its_logit_and_worth_its_entropy():
    p = 0.9
    loss = losses.bradley_terry(_t(math.log(p / (1 - p))), p).item()
    assert loss == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert loss < min(losses.bradley_terry(_t(2.0, 2.4), p).tolist())


def test_labels_and_margins_may_differ_by_pair():
    found = losses.bradley_terry(_t(0, 0, 2), p_chosen=_t(1, 0.5, 0), margin=_t(1, 0, 0))
    assert found.tolist() == pytest.approx([1.313262, LN2, 2 + math.log1p(math.exp(-2))], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_stay_finite(dtype):
    delta = torch.tensor([1e4, -1e4], dtype=dtype)
    for loss in (losses.bradley_terry, lambda x: losses.dpo(x, beta=1.0)):
        assert loss(delta).tolist() == [0, 1e4]
        assert _gradient(loss, delta).tolist() == [0, -1]


def test_dpo_of_the_reference_is_ln_2_for_every_pair():
    for smoothing in (0.0, 0.1):
        found = losses.dpo(torch.zeros(3), beta=0.1, label_smoothing=smoothing)
        assert found.tolist() == pytest.approx([LN2] * 3, abs=1e-6)


@given(NUMBER, st.floats(0.01, 1))
def test_the_gradient_of_dpo(h, beta):
    """-beta sigma(-beta h), equation 8 of the paper."""
    gradient = _gradient(lambda x: losses.dpo(x, beta=beta), _t(h))
    assert gradient.item() == pytest.approx(-beta / (1 + math.exp(beta * h)), rel=1e-9)


def test_smoothed_dpo_stops_at_the_assumed_flip_rate():
    beta, flips = 0.5, 0.1
    h = math.log((1 - flips) / flips) / beta
    stopped = _gradient(lambda x: losses.dpo(x, beta=beta, label_smoothing=flips), _t(h))
    assert stopped.item() == pytest.approx(0, abs=1e-12)
    plain = losses.dpo(_t(1, -1), beta=beta)
    smoothed = losses.dpo(_t(1), beta=beta, label_smoothing=flips)
    assert smoothed.item() == pytest.approx(0.9 * plain[0].item() + 0.1 * plain[1].item())
    tie = losses.dpo(_t(1), beta=beta, label_smoothing=flips, p_chosen=0.5)
    assert tie.item() == pytest.approx(plain.mean().item())


def test_dpo_learns_one_pair_of_unequal_lengths():
    """Sums over the response, not means: every token of 1 and of 4 gets the same push."""
    chosen, rejected = _t(-0.5).requires_grad_(), _t(-1, -1, -1, -1).requires_grad_()
    losses.dpo((chosen.sum() + 0.5) - (rejected.sum() + 4), beta=0.1).backward()
    assert chosen.grad.tolist() == pytest.approx([-0.05]) and rejected.grad.tolist() == pytest.approx(
        [0.05] * 4
    )


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "gradient", "clipped"),
    [
        (1.0, 0.7, -0.7, -0.7, False),
        (1.0, 1.1, -1.1, -1.1, False),
        (1.0, 1.5, -1.28, 0.0, True),
        (-1.0, 0.7, 0.8, 0.0, True),
        (-1.0, 1.1, 1.1, 1.1, False),
        (-1.0, 1.5, 1.5, 1.5, False),
    ],
)
def test_the_clipped_policy_loss(advantage, ratio, loss, gradient, clipped):
    """clip_low .2, clip_high .28; the gradient is that of the log-probability."""
    old = _t(-1.3)
    logprobs = (old + math.log(ratio)).requires_grad_()
    found, held = losses.clipped_policy(logprobs - old, _t(advantage), clip_low=0.2, clip_high=0.28)
    found.sum().backward()
    assert found.item() == pytest.approx(loss) and logprobs.grad.item() == pytest.approx(gradient)
    assert held.item() is clipped


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "gradient", "clipped"),
    [
        (-1.0, 2.9, 2.9, 2.9, False),
        (-1.0, 3.5, 3.0, 0.0, True),
        (-0.5, 100.0, 1.5, 0.0, True),
        (-1.0, 0.7, 0.8, 0.0, True),
        (1.0, 3.5, -1.28, 0.0, True),  # the ordinary clip
        (1.0, 1.1, -1.1, -1.1, False),
    ],
)
def test_dual_clip_bounds_what_a_bad_response_can_cost(advantage, ratio, loss, gradient, clipped):
    moved = _t(math.log(ratio)).requires_grad_()
    found, held = losses.clipped_policy(moved, _t(advantage), clip_low=0.2, clip_high=0.28, dual_clip=3.0)
    found.sum().backward()
    assert found.item() == pytest.approx(loss) and moved.grad.item() == pytest.approx(gradient)
    assert held.item() is clipped


def test_the_first_policy_loss_after_whitening_is_minus_the_mean_advantage():
    logprobs = _t(-1, -2, -3).requires_grad_()
    advantages = _t(0.5, -1, 2)
    moved = logprobs - logprobs.detach()
    loss, clipped = losses.clipped_policy(moved, advantages, clip_low=0.2, clip_high=0.2)
    loss.sum().backward()
    assert torch.equal(loss.detach(), -advantages) and not clipped.any()
    assert torch.equal(logprobs.grad, -advantages)


def test_what_the_rollout_gave_is_constant():
    old, advantages, returns = (_t(0.1, 0.2).requires_grad_() for _ in range(3))
    new = _t(0.15, 0.1).requires_grad_()
    policy, _ = losses.clipped_policy(new, advantages, clip_low=0.2, clip_high=0.2)
    (policy + losses.clipped_value(new, old, returns, clip=0.2)).sum().backward()
    assert old.grad is None and advantages.grad is None and returns.grad is None and new.grad is not None


@pytest.mark.parametrize(
    ("value", "target", "loss", "gradient"),
    [
        (0.1, 1.0, 0.5 * 0.9**2, -0.9),  # inside the range: the plain square
        (0.5, 1.0, 0.5 * 0.8**2, 0.0),  # further than the range on the way to the return: held
        (
            0.5,
            -1.0,
            0.5 * 1.5**2,
            1.5,
        ),  # further than the range, away from the return: the larger square, pulled back
        (-0.5, 1.0, 0.5 * 1.5**2, -1.5),
        (-0.5, -1.0, 0.5 * 0.8**2, 0.0),
    ],
)
def test_the_clipped_value_loss(value, target, loss, gradient):
    """The old value is 0, the range .2."""
    found = losses.clipped_value(_t(value), _t(0), _t(target), clip=0.2)
    assert found.item() == pytest.approx(loss)
    slope = _gradient(lambda v: losses.clipped_value(v, _t(0), _t(target), clip=0.2), _t(value))
    assert slope.item() == pytest.approx(gradient)


def test_the_value_clip_is_around_the_old_value():
    found = losses.clipped_value(_t(3.5), _t(3), _t(4), clip=0.2)
    assert found.item() == pytest.approx(0.5 * 0.8**2)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.bradley_terry(x, p_chosen=0.7, margin=0.3),
        lambda x: losses.dpo(x, beta=0.3, label_smoothing=0.1, p_chosen=0.8),
        lambda x: losses.clipped_policy(x, _t(1, -1, 2), clip_low=0.2, clip_high=0.3)[0],
        lambda x: losses.clipped_policy(x, _t(1, -1, -2), clip_low=0.2, clip_high=0.3, dual_clip=3.0)[0],
        lambda x: losses.clipped_value(x, _t(0, 0, 0), _t(1, -1, 2), clip=0.2),
        losses.nll,
    ],
)
def test_gradients_against_finite_differences(loss):
    assert torch.autograd.gradcheck(loss, _t(0.1, -0.4, 0.7).requires_grad_())


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_a_sum_divided_by_the_whole_count_does_not_depend_on_the_micro_batches(parts):
    """And a mean of micro-batch means does: the rows are ragged."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(9) < torch.tensor([9, 1, 2, 8, 3, 3, 1, 7])[:, None]
    logits = torch.randn(8, 9, generator=generator, dtype=torch.float64).requires_grad_()

    def summed(rows):
        return masked_sum(losses.nll(torch.nn.functional.logsigmoid(logits[rows])), mask[rows])

    def averaged(rows):
        return masked_mean(losses.nll(torch.nn.functional.logsigmoid(logits[rows])), mask[rows])

    pieces = torch.arange(8).chunk(parts)
    (whole,) = torch.autograd.grad(averaged(slice(None)), logits)
    (split,) = torch.autograd.grad(sum(summed(rows) for rows in pieces) / mask.sum(), logits)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-15)
    (wrong,) = torch.autograd.grad(sum(averaged(rows) for rows in pieces) / parts, logits)
    assert torch.allclose(wrong, whole) is (parts == 1)


@given(NUMBER, st.floats(-3, 3))
def test_win_tie_and_loss_of_davidson_are_all_there_is(delta, log_strength):
    outcomes = [(False, 1.0), (True, 0.5), (False, 0.0)]
    nll = [
        losses.davidson(_t(delta), torch.tensor([tie]), p, _t(log_strength).squeeze()).item()
        for tie, p in outcomes
    ]
    assert sum(math.exp(-x) for x in nll) == pytest.approx(1, rel=1e-9)
    strength = math.exp(log_strength)
    assert nll[0] - nll[2] == pytest.approx(-delta, abs=1e-9)  # a tie is left out: Bradley and Terry
    middle = losses.davidson(_t(0), torch.tensor([True]), 0.5, _t(log_strength).squeeze())
    assert math.exp(-middle.item()) == pytest.approx(strength / (2 + strength))


@given(st.floats(-15, 15), st.floats(0.01, 3))
def test_win_tie_and_loss_of_rao_and_kupper_are_all_there_is(delta, threshold):
    outcomes = [(False, 1.0), (True, 0.5), (False, 0.0)]
    nll = [
        losses.rao_kupper(_t(delta), torch.tensor([tie]), p, _t(threshold).squeeze()).item()
        for tie, p in outcomes
    ]
    assert sum(math.exp(-x) for x in nll) == pytest.approx(1, rel=1e-9)
    middle = losses.rao_kupper(_t(0), torch.tensor([True]), 0.5, _t(threshold).squeeze())
    assert math.exp(-middle.item()) == pytest.approx(math.tanh(threshold / 2))


@given(st.lists(NUMBER, min_size=2, max_size=4))
def test_the_probabilities_of_all_rankings_add_up_to_one(scores):
    found = _t(*scores)[None]
    there = torch.ones_like(found, dtype=torch.bool)
    ranks = [_t(*map(float, one))[None] for one in itertools.permutations(range(len(scores)))]
    total = sum(math.exp(-losses.plackett_luce(found, one, there).item()) for one in ranks)
    assert total == pytest.approx(1, rel=1e-9)


@given(NUMBER)
def test_a_ranking_of_two_is_a_comparison_and_padding_is_none_of_it(delta):
    scores, ranks = _t(delta, 0, 99)[None], _t(0, 1, 0)[None]
    there = torch.tensor([[True, True, False]])
    expected = losses.bradley_terry(_t(delta)).item()
    assert losses.plackett_luce(scores, ranks, there).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    gradient = _gradient(lambda x: losses.plackett_luce(x, ranks, there), scores)
    assert gradient[0, 2] == 0 and torch.isfinite(gradient).all()
