from __future__ import annotations

import math

import pytest
import scipy.special
import scipy.stats
import torch
from torch.distributions import Categorical, kl_divergence

from tutelage.ops import kl


def _pair(seed=0, shape=(5, 11)):
    generator = torch.Generator().manual_seed(seed)
    p, q = (2 * torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return torch.log_softmax(p, -1), torch.log_softmax(q, -1)


def test_exact_kl_is_that_of_the_policy_from_the_reference():
    p, q = _pair()
    expected = scipy.stats.entropy(p.exp().numpy(), q.exp().numpy(), axis=-1)
    torch.testing.assert_close(kl.exact_kl(p, q), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kl.exact_kl(p, q), kl_divergence(Categorical(logits=p), Categorical(logits=q)))
    assert not torch.allclose(kl.exact_kl(p, q), kl.exact_kl(q, p), rtol=0.05)
    assert (kl.exact_kl(p, p) == 0).all()


def test_exact_kl_with_excluded_outcomes():
    half = torch.tensor([0.5, 0.5, 0.0]).log()
    third = torch.full((3,), 1 / 3).log()
    assert kl.exact_kl(half, third).item() == pytest.approx(math.log(1.5))
    assert kl.exact_kl(third, half).item() == math.inf
    assert kl.exact_kl(half, half).item() == 0


def test_exact_kl_is_differentiable_where_the_policy_excludes_an_outcome():
    logits = torch.tensor([0.3, -0.2, -torch.inf], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.tensor([0.1, 0.4, 1.0], dtype=torch.float64), -1)
    kl.exact_kl(torch.log_softmax(logits, -1), ref).backward()
    free = logits.detach()[:2].clone().requires_grad_()
    (torch.log_softmax(free, -1).exp() * (torch.log_softmax(free, -1) - ref[:2])).sum().backward()
    torch.testing.assert_close(logits.grad[:2], free.grad)
    assert logits.grad[2] == 0


def test_the_estimators_on_samples_of_the_policy():
    """k1 and k3 are within three standard errors of the exact value, and k3 has the smaller spread."""
    p, noise = _pair(seed=4, shape=(11,))
    q = torch.log_softmax(p + 0.3 * noise, -1)
    drawn = torch.multinomial(p.exp(), 50_000, replacement=True, generator=torch.Generator().manual_seed(0))
    logratio = (p - q)[drawn]
    for estimate in (kl.k1(logratio), kl.k3(logratio)):
        error = estimate.mean().item() - kl.exact_kl(p, q).item()
        assert abs(error) < 3 * estimate.std().item() / math.sqrt(50_000)
    assert kl.k3(logratio).std() < kl.k1(logratio).std()


def test_k3_with_its_sign_turned_round_estimates_something_else():
    """exp(logratio) - 1 - logratio has the expectation chi-square(policy || ref) - KL(policy || ref)."""
    p, q = _pair(seed=4, shape=(11,))
    chi_square = ((p.exp() - q.exp()).square() / q.exp()).sum()
    exact = kl.exact_kl(p, q)
    torch.testing.assert_close((p.exp() * kl.k3(q - p)).sum(), chi_square - exact)
    assert not torch.allclose(chi_square - exact, exact, rtol=0.1)


def test_closed_forms_of_the_estimators():
    logratio = torch.tensor([-2.0, 0.0, math.log(2)], dtype=torch.float64)
    assert kl.k1(logratio).tolist() == logratio.tolist()
    assert kl.k2(logratio).tolist() == pytest.approx([2, 0, math.log(2) ** 2 / 2])
    assert kl.k3(logratio).tolist() == pytest.approx([math.e**2 - 3, 0, math.log(2) - 0.5])
    small = torch.tensor([1e-4, -1e-4])
    assert kl.k3(small).tolist() == pytest.approx([5e-9, 5e-9], abs=1e-11) and (kl.k3(small) >= 0).all()


def test_full_sum_over_the_vocabulary():
    p, q = _pair(seed=7)
    expected = scipy.special.rel_entr(p.exp().numpy(), q.exp().numpy()).sum(-1)
    for estimator in (kl.k1, kl.k3):
        torch.testing.assert_close((p.exp() * estimator(p - q)).sum(-1), torch.from_numpy(expected))


# ---- between a student and its teacher ---------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.8])
def test_generalised_jsd_is_that_of_scipy(beta):
    student, teacher = _pair()
    p, q = teacher.exp().numpy(), student.exp().numpy()
    mixture = beta * p + (1 - beta) * q
    expected = beta * scipy.special.rel_entr(p, mixture) + (1 - beta) * scipy.special.rel_entr(q, mixture)
    found = kl.generalised_jsd(student, teacher, beta)
    torch.testing.assert_close(found, torch.from_numpy(expected.sum(-1)), rtol=1e-12, atol=1e-14)
    assert (found > 0).all() and (found < math.log(2)).all()
    torch.testing.assert_close(
        kl.generalised_jsd(teacher, teacher, beta), torch.zeros(5, dtype=torch.float64)
    )


def test_generalised_jsd_is_symmetric_in_the_middle_and_tends_to_the_two_kls():
    student, teacher = _pair()
    middle = kl.generalised_jsd(student, teacher, 0.5)
    torch.testing.assert_close(middle, kl.generalised_jsd(teacher, student, 0.5), rtol=1e-12, atol=0)
    assert not torch.allclose(
        kl.generalised_jsd(student, teacher, 0.2), kl.generalised_jsd(teacher, student, 0.2)
    )
    forward = kl_divergence(Categorical(logits=teacher), Categorical(logits=student))
    reverse = kl_divergence(Categorical(logits=student), Categorical(logits=teacher))
    for name, near, limit in (("forward-kl", 1e-6, forward), ("reverse-kl", 1 - 1e-6, reverse)):
        scale = min(near, 1 - near)
        torch.testing.assert_close(
            kl.generalised_jsd(student, teacher, near) / scale, limit, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(kl.divergence_of(name, 0.5)(student, teacher), limit)


def test_generalised_jsd_is_finite_where_each_excludes_what_the_other_does():
    one, other = torch.tensor([1.0, 0.0, 0.0]).log(), torch.tensor([0.0, 0.5, 0.5]).log()
    assert kl.generalised_jsd(one, other, 0.5).item() == pytest.approx(math.log(2))
