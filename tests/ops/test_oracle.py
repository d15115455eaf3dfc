"""The learners' mathematics, put together from `ops` alone, reach the optimum that enumeration gives."""

from __future__ import annotations

import pytest
import torch

from tests.oracle import (
    BETA,
    LENGTHS,
    SEQUENCES,
    STATES,
    STEP_MASK,
    STEP_STATE,
    TabularCritic,
    TabularPolicy,
    divergence,
    oracle,
)
from tutelage.ops import advantages, kl, losses, masked

TRUTH = oracle()


def test_the_numbers_of_the_toy():
    ref, best = TRUTH.ref_logprobs, TRUTH.best_logprobs
    assert len(SEQUENCES) == 15 and SEQUENCES[0] == (0, 0, 0) and SEQUENCES[-1] == (2,)
    assert ref.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert TRUTH.objective(ref).item() == pytest.approx(-0.3679, abs=5e-5)
    assert TRUTH.objective(best).item() == pytest.approx(-0.0420, abs=5e-5)
    optimum = BETA * torch.logsumexp(ref + TRUTH.rewards / BETA, 0)
    assert TRUTH.objective(best).item() == pytest.approx(optimum.item(), abs=1e-12)
    assert (best.exp() * TRUTH.rewards).sum().item() == pytest.approx(0.2807, abs=5e-5)
    assert divergence(best, ref).item() == pytest.approx(0.6454, abs=5e-5)
    assert divergence(ref, best).item() == pytest.approx(0.6518, abs=5e-5)
    assert (ref.exp() - best.exp()).abs().sum().item() / 2 == pytest.approx(0.5112, abs=5e-5)
    regret = TRUTH.objective(best) - TRUTH.objective(ref)
    assert regret.item() == pytest.approx(BETA * TRUTH.distance(TabularPolicy(TRUTH.theta_ref)), abs=1e-12)


def test_sampling_draws_from_the_policy():
    policy = TabularPolicy(TRUTH.theta_ref)
    n = 100_000
    uniforms = torch.rand(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = torch.bincount(policy.sample(uniforms), minlength=15) / n
    p = policy.sequence_logprobs().detach().exp()
    assert ((share - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


@pytest.mark.slow
def test_ppo_reaches_the_optimum():
    """k1 in the reward, GAE with a critic, whitened advantages, clipped losses, two passes over a batch."""
    steps, batch = 700, 256
    generator = torch.Generator().manual_seed(0)
    policy, critic = TabularPolicy(TRUTH.theta_ref.float()), TabularCritic()
    ref = TabularPolicy(TRUTH.theta_ref.float()).token_logprobs().detach()
    optimizer = torch.optim.Adam(
        [{"params": policy.parameters(), "lr": 0.03}, {"params": critic.parameters(), "lr": 0.05}]
    )
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (2 * steps))
    for _ in range(steps):
        y = policy.sample(torch.rand(batch, 3, generator=generator, dtype=torch.float64))
        mask, state = STEP_MASK[y], STEP_STATE[y]
        old, old_values = policy.token_logprobs()[y].detach(), critic.values[state].detach()
        token_rewards = -BETA * kl.k1(old - ref[y])
        token_rewards[torch.arange(batch), torch.tensor(LENGTHS)[y] - 1] += TRUTH.rewards[y].float()
        gained, returns = advantages.gae(token_rewards, old_values, mask, gamma=1.0, gae_lambda=0.95)
        gained = masked.whiten(gained, mask)
        for _ in range(2):
            surrogate, _ = losses.clipped_policy(
                policy.token_logprobs()[y] - old, gained, clip_low=0.2, clip_high=0.2
            )
            fit = losses.clipped_value(critic.values[state], old_values, returns, clip=0.2)
            optimizer.zero_grad()
            masked.masked_mean(surrogate + fit, mask).backward()
            optimizer.step()
            decay.step()
    assert TRUTH.distance(policy) < 1e-3


def test_dpo_reaches_the_optimum():
    """All pairs, weighted by how often the reference draws them, with Bradley-Terry labels."""
    policy, ref = TabularPolicy(TRUTH.theta_ref), TRUTH.ref_logprobs
    weight = ref.exp()[:, None] * ref.exp()[None, :]
    p_chosen = torch.sigmoid(TRUTH.rewards[:, None] - TRUTH.rewards[None, :])
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 600)
    for _ in range(600):
        gain = policy.sequence_logprobs() - ref
        loss = losses.dpo(gain[:, None] - gain[None, :], beta=BETA, p_chosen=p_chosen)
        optimizer.zero_grad()
        (weight * loss).sum().backward()
        optimizer.step()
        decay.step()
    assert TRUTH.distance(policy) < 1e-4


def _gradient(policy, value):
    (gradient,) = torch.autograd.grad(value, policy.theta)
    return gradient


@pytest.fixture
def moved():
    """A policy away from the reference, its log-probabilities, the gradients of both directions of KL."""
    generator = torch.Generator().manual_seed(3)
    policy = TabularPolicy(TRUTH.theta_ref + torch.randn(7, 3, generator=generator, dtype=torch.float64))
    forward = _gradient(policy, divergence(policy.sequence_logprobs(), TRUTH.ref_logprobs))
    reverse = _gradient(policy, divergence(TRUTH.ref_logprobs, policy.sequence_logprobs()))
    return policy, forward, reverse


@pytest.mark.parametrize("estimator", [kl.k1, kl.k2, kl.k3])
def test_gradient_of_an_estimator_inside_the_reward(moved, estimator):
    policy, forward, reverse = moved
    logprobs = policy.sequence_logprobs()
    penalty = estimator(logprobs - TRUTH.ref_logprobs).detach()
    gradient = _gradient(policy, (logprobs.exp().detach() * penalty * logprobs).sum())
    if estimator is kl.k1:
        torch.testing.assert_close(gradient, forward, rtol=0, atol=1e-12)
    else:
        assert (gradient - forward).abs().max() > 1e-2 and (gradient - reverse).abs().max() > 1e-2


@pytest.mark.parametrize("estimator", [kl.k1, kl.k2, kl.k3])
def test_gradient_of_an_estimator_inside_the_loss(moved, estimator):
    policy, forward, reverse = moved
    logprobs = policy.sequence_logprobs()
    gradient = _gradient(policy, (logprobs.exp().detach() * estimator(logprobs - TRUTH.ref_logprobs)).sum())
    expected = {kl.k1: torch.zeros_like(forward), kl.k2: forward, kl.k3: reverse}[estimator]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "mean", "deviation"), [(kl.k1, 0.645, 1.025), (kl.k2, 0.734, 0.347), (kl.k3, 0.645, 0.477)]
)
def test_what_the_estimators_estimate_at_the_optimum(estimator, mean, deviation):
    p = TRUTH.best_logprobs.exp()
    value = estimator(TRUTH.best_logprobs - TRUTH.ref_logprobs)
    expected = (p * value).sum()
    assert expected.item() == pytest.approx(mean, abs=5e-4)
    assert (p * (value - expected) ** 2).sum().sqrt().item() == pytest.approx(deviation, abs=5e-4)
    if estimator is not kl.k2:
        exact = kl.exact_kl(TRUTH.best_logprobs, TRUTH.ref_logprobs)
        assert expected.item() == pytest.approx(exact.item(), abs=1e-12)


def test_at_the_optimum_with_soft_values_nothing_is_left_to_gain():
    """With values BETA log Z(prefix) every temporal difference of the penalised reward is zero."""
    weight = dict(zip(SEQUENCES, (TRUTH.ref_logprobs + TRUTH.rewards / BETA).exp(), strict=True))
    ref = torch.log_softmax(TRUTH.theta_ref, -1)
    best, values = torch.zeros(7, 3, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
    for s, prefix in enumerate(STATES):
        below = [sum(w for y, w in weight.items() if y[: len(prefix) + 1] == (*prefix, a)) for a in range(3)]
        best[s] = torch.stack(below).log()
        reach = sum(ref[STATES.index(prefix[:t]), prefix[t]] for t in range(len(prefix)))
        values[s] = BETA * (torch.stack(below).sum().log() - reach)
    policy = TabularPolicy(best)
    assert TRUTH.distance(policy) < 1e-12
    ref_logprobs = TabularPolicy(TRUTH.theta_ref).token_logprobs().detach()
    token_rewards = -BETA * (policy.token_logprobs().detach() - ref_logprobs)
    token_rewards[torch.arange(15), torch.tensor(LENGTHS) - 1] += TRUTH.rewards
    gained, _ = advantages.gae(token_rewards, values[STEP_STATE], STEP_MASK, gamma=1.0, gae_lambda=0.95)
    torch.testing.assert_close(gained, torch.zeros_like(gained), rtol=0, atol=1e-12)
