from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical

from tutelage.ops import logprobs as module
from tutelage.ops.logprobs import (
    Outputs,
    linear_divergence,
    linear_logprobs,
    linear_logprobs_hits,
    shifted_index,
    token_logprobs,
)
from tutelage.ops.masked import mask_from_lengths, pad


def _case(rows=7, width=5, vocabulary=11, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    hidden = scale * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    weight, bias = (
        torch.randn(*s, generator=generator, dtype=torch.float64)
        for s in ((vocabulary, width), (vocabulary,))
    )
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    return *(x.to(dtype).requires_grad_() for x in (hidden, weight, bias)), targets


def _gradients(function, inputs, coefficients=(0.7, -0.3)):
    """Gradients of a ragged mixture of both results (or of one, with a coefficient None)."""
    total = 0
    for result, coefficient in zip(function(), coefficients, strict=True):
        if coefficient is not None:
            total = total + (coefficient * torch.linspace(0.5, 2, len(result)).to(result) * result).sum()
    return torch.autograd.grad(total, inputs)


# The shift


def test_every_trained_token_is_predicted_from_the_one_before_it():
    loss_mask = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1], dtype=torch.bool)
    source, target = shifted_index((4, 1, 3), loss_mask)
    assert target.tolist() == [1, 3, 6, 7] and source.tolist() == [0, 2, 5, 6]


@given(st.lists(st.integers(0, 5), max_size=5), st.data())
def test_the_shift_never_crosses_from_one_sequence_into_another(lengths, data):
    n = sum(lengths)
    loss_mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=torch.bool)
    before = loss_mask.clone()
    owner = [row for row, length in enumerate(lengths) for _ in range(length)]
    expected = [t for t in range(1, n) if loss_mask[t] and owner[t] == owner[t - 1]]
    source, target = shifted_index(lengths, loss_mask)
    assert target.tolist() == expected and source.tolist() == [t - 1 for t in expected]
    assert torch.equal(loss_mask, before)


def test_a_model_that_copies_the_next_token_has_no_loss():
    """Hand-made logits that put all weight on the following token: one position off and the loss is enormous."""
    ids, lengths = torch.tensor([3, 1, 4, 1, 5, 2, 0]), (4, 3)
    following = torch.tensor([1, 4, 1, 0, 2, 0, 0])
    logits = 1e4 * torch.nn.functional.one_hot(following, 6).float()
    everything = torch.ones(7, dtype=torch.bool)
    logprobs, entropy = token_logprobs(logits, ids, lengths, everything)
    assert logprobs.tolist() == [0] * 7 and entropy.abs().max() == 0
    late, _ = token_logprobs(logits.roll(1, 0), ids, lengths, everything)
    assert late.min() == -1e4


def test_the_prompt_is_not_trained():
    """Other prompt ids leave the values as they are; logits that predict prompt tokens, even -inf, get no gradient."""
    ids, lengths = torch.tensor([3, 1, 4, 1, 5, 2, 0]), (4, 3)
    loss_mask = torch.tensor([0, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    logits = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    untrained = torch.tensor([0, 3, 4, 6])
    logits[untrained] = -torch.inf
    logits.requires_grad_()
    found = token_logprobs(logits, ids, lengths, loss_mask)
    other = token_logprobs(logits, torch.where(loss_mask, ids, 5), lengths, loss_mask)
    assert all(torch.equal(a, b) for a, b in zip(found, other, strict=True))
    assert all((x[~loss_mask] == 0).all() and x.isfinite().all() for x in found)
    found[0].sum().backward()
    assert (logits.grad[untrained] == 0).all() and (logits.grad[[1, 2, 5]].abs().sum(1) > 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_plain_form_against_a_padded_categorical(temperature):
    lengths, generator = (4, 2, 3), torch.Generator().manual_seed(0)
    logits = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    ids = torch.randint(6, (9,), generator=generator)
    logprobs, entropy = token_logprobs(logits, ids, lengths, torch.ones(9, dtype=torch.bool), temperature)
    padded = Categorical(logits=pad(logits, lengths)[:, :-1] / temperature)
    real = mask_from_lengths(lengths)[:, 1:]
    expected = padded.log_prob(pad(ids, lengths)[:, 1:])
    torch.testing.assert_close(pad(logprobs, lengths)[:, 1:], expected.where(real, 0.0))
    torch.testing.assert_close(pad(entropy, lengths)[:, 1:], padded.entropy().where(real, 0.0))
    assert (pad(logprobs, lengths)[:, 0] == 0).all()


# From hidden states


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_tokens", [1, 3, None])
def test_against_a_categorical(temperature, chunk_tokens):
    hidden, weight, bias, targets = _case()
    logprobs, entropy = linear_logprobs(hidden, weight, targets, temperature, bias, chunk_tokens)
    expected = Categorical(logits=(hidden @ weight.T + bias) / temperature)
    torch.testing.assert_close(logprobs, expected.log_prob(targets))
    torch.testing.assert_close(entropy, expected.entropy())


@pytest.mark.parametrize("chunk_tokens", [1, 3, None])
@pytest.mark.parametrize("grad", [True, False])
def test_a_hit_is_the_argmax(chunk_tokens, grad):
    hidden, weight, bias, targets = _case(200, 4, 7)
    likeliest = (hidden @ weight.T + bias).argmax(1)
    assert 0 < (likeliest == targets).sum() < 200
    with torch.set_grad_enabled(grad):
        logprobs, entropy, hits = linear_logprobs_hits(hidden, weight, targets, 0.7, bias, chunk_tokens)
        plain = linear_logprobs(hidden, weight, targets, 0.7, bias, chunk_tokens)
    assert torch.equal(hits, (likeliest == targets).to(hits.dtype)) and not hits.requires_grad
    assert torch.equal(logprobs, plain[0]) and torch.equal(entropy, plain[1])


def test_a_hit_among_equals_counts_one_half():
    weight = torch.tensor([[2.0], [2.0], [2.0], [1.0]])
    targets = torch.tensor([0, 1, 2, 3])
    _, _, hits = linear_logprobs_hits(torch.ones(4, 1), weight, targets)
    assert hits.tolist() == [0.5, 0.5, 0.5, 0.0]
    _, _, low = linear_logprobs_hits(-torch.ones(4, 1), weight, targets)
    assert low.tolist() == [0.0, 0.0, 0.0, 1.0]
    _, _, alone = linear_logprobs_hits(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0]))
    assert alone.tolist() == [1.0]


@pytest.mark.parametrize(
    ("temperature", "chunk_tokens", "results"),
    [
        *((0.7, 3, results) for results in ((0,), (1,), (0, 1))),  # which are asked for, ...
        *((0.7, chunk_tokens, (0, 1)) for chunk_tokens in (1, None)),  # ... and in what pieces
        (1.0, 3, (0, 1)),
    ],
)
def test_gradients_against_finite_differences(temperature, chunk_tokens, results):
    hidden, weight, bias, targets = _case()

    def chosen(hidden, weight, bias):
        both = linear_logprobs(hidden, weight, targets, temperature, bias, chunk_tokens)
        return tuple(both[i] for i in results)

    assert torch.autograd.gradcheck(chosen, (hidden, weight, bias))


@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 50))
@settings(max_examples=20)
def test_the_size_of_a_chunk_does_not_matter(rows, vocabulary, chunk_tokens):
    hidden, weight, bias, targets = _case(rows, 4, vocabulary)
    inputs = (hidden, weight, bias)
    whole = _gradients(lambda: linear_logprobs(hidden, weight, targets, 0.9, bias, rows), inputs)
    parts = _gradients(lambda: linear_logprobs(hidden, weight, targets, 0.9, bias, chunk_tokens), inputs)
    for a, b in zip(parts, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("coefficients", [(1.0, None), (0.7, -0.3)])
def test_bf16_is_the_exact_result_of_the_rounded_inputs(monkeypatch, kept, coefficients):
    """Products in bf16, everything else in float32: values to 2 %, gradients to 2 % of their norm."""
    monkeypatch.setattr(module, "KEPT_ELEMENTS", 2**25 if kept else 0)
    hidden, weight, _, targets = _case(300, 32, 64, torch.bfloat16)
    weight = weight.detach().float().requires_grad_()
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    found = linear_logprobs(hidden, weight, targets, chunk_tokens=100)
    expected = linear_logprobs(*exact, targets)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=0.02, atol=0.05)
    gradients = _gradients(
        lambda: linear_logprobs(hidden, weight, targets, chunk_tokens=100), (hidden, weight), coefficients
    )
    truth = _gradients(lambda: linear_logprobs(*exact, targets), exact, coefficients)
    assert gradients[0].dtype == torch.bfloat16 and gradients[1].dtype == torch.float32
    for a, b in zip(gradients, truth, strict=True):
        assert (a.double() - b).norm() < 0.02 * b.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_large_float32_logits_are_kept(monkeypatch, dtype):
    monkeypatch.setattr(module, "KEPT_ELEMENTS_WIDE", 64 * 128 - 1)
    hidden, weight, bias, targets = _case(64, 8, 128, dtype)
    made, kept = [], []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
                made.append(out.numel())
            return out

    def keep(x):
        kept.append((x.dtype, x.numel()))
        return x

    with Watch(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        logprobs, entropy = linear_logprobs(hidden, weight, targets, 0.9, bias, chunk_tokens=16)
        (logprobs + entropy).sum().backward()
    assert max(made) == 16 * 128
    assert all(numel < 64 * 128 for kind, numel in kept if kind == torch.float32)
    assert ((torch.bfloat16, 64 * 128) in kept) is (dtype == torch.bfloat16)

    kept.clear()
    monkeypatch.setattr(module, "KEPT_ELEMENTS", 64 * 128 - 1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        linear_logprobs(hidden, weight, targets)
    assert all(numel < 64 * 128 for _, numel in kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_backward_pass_finds_what_the_first_found(dtype):
    hidden, weight, bias, targets = _case(dtype=dtype)
    logprobs, _ = linear_logprobs(hidden, weight, targets, bias=bias)
    first, second = (
        torch.autograd.grad(logprobs.sum(), (hidden, weight, bias), retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_under_autocast_the_products_run_in_bf16():
    hidden, weight, bias, targets = _case(50, 16, 64, torch.float32)
    inputs = (hidden, weight, bias)

    def under_autocast():
        with torch.autocast("cpu", torch.bfloat16):
            return linear_logprobs(hidden, weight, targets, 0.9, bias)

    def by_hand():
        return linear_logprobs(hidden.bfloat16(), weight, targets, 0.9, bias)

    for a, b in zip(under_autocast(), by_hand(), strict=True):
        assert a.dtype == torch.float32 and torch.equal(a, b)
    for a, b in zip(_gradients(under_autocast, inputs), _gradients(by_hand, inputs), strict=True):
        assert a.dtype == torch.float32 and torch.equal(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        inside = _gradients(by_hand, inputs)
    assert all(torch.equal(a, b) for a, b in zip(inside, _gradients(by_hand, inputs), strict=True))


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_gets_no_gradient(frozen):
    *inputs, bias, targets = _case()
    everything = _gradients(lambda: linear_logprobs(*inputs, targets, bias=bias), inputs)
    inputs[frozen] = inputs[frozen].detach()
    other = inputs[1 - frozen]
    (gradient,) = _gradients(lambda: linear_logprobs(*inputs, targets, bias=bias.detach()), [other])
    assert torch.equal(gradient, everything[1 - frozen])
    with torch.no_grad():
        assert not linear_logprobs(*inputs, targets)[0].requires_grad


def test_no_trained_token_at_all():
    hidden, weight, bias, targets = _case(rows=0)
    logprobs, entropy = linear_logprobs(hidden, weight, targets, 1.0, bias)
    (logprobs.sum() + entropy.sum()).backward()
    assert logprobs.shape == entropy.shape == (0,) and hidden.grad.shape == (0, 5)
    assert (weight.grad == 0).all() and (bias.grad == 0).all()


def test_enormous_logits_stay_finite():
    hidden, weight, _, targets = _case(dtype=torch.float32, scale=1e5)
    logprobs, entropy = linear_logprobs(hidden, weight, targets)
    (logprobs + entropy).sum().backward()
    exact = torch.log_softmax(hidden.detach().double() @ weight.detach().double().T, -1)
    torch.testing.assert_close(
        logprobs.double(), exact.gather(1, targets[:, None])[:, 0], rtol=1e-5, atol=0.1
    )
    assert entropy.min() >= -0.1 and hidden.grad.isfinite().all() and weight.grad.isfinite().all()


def test_known_values():
    """A head of zeros is uniform: ln V twice. Temperature divides: logits (0, ln 3) at 1/2 are odds of 9."""
    logprobs, entropy = linear_logprobs(torch.ones(1, 2), torch.zeros(8, 2), torch.tensor([3]))
    assert -logprobs.item() == pytest.approx(math.log(8)) and entropy.item() == pytest.approx(math.log(8))
    weight = torch.tensor([[0.0], [math.log(3)]])
    logprobs, _ = linear_logprobs(torch.ones(1, 1), weight, torch.tensor([1]), temperature=0.5)
    assert logprobs.exp().item() == pytest.approx(0.9)


# Soft-capped logits


def _capped(hidden, weight, bias, cap, temperature):
    return cap * torch.tanh((hidden @ weight.T + bias) / cap) / temperature


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("cap", [0.5, 3.0, 30.0])
def test_capped_logits_against_a_categorical_and_its_gradients(cap, temperature):
    hidden, weight, bias, targets = _case()
    inputs = (hidden, weight, bias)
    for chunk in (3, None):
        found = linear_logprobs(hidden, weight, targets, temperature, bias, chunk, cap)
        expected = Categorical(logits=_capped(*inputs, cap, temperature))
        torch.testing.assert_close(found, (expected.log_prob(targets), expected.entropy()))
        for coefficients in ((0.7, None), (None, -0.3), (0.7, -0.3)):
            mine = _gradients(
                lambda c=chunk: linear_logprobs(hidden, weight, targets, temperature, bias, c, cap),
                inputs,
                coefficients,
            )
            theirs = _gradients(
                lambda: (
                    (d := Categorical(logits=_capped(*inputs, cap, temperature))).log_prob(targets),
                    d.entropy(),
                ),
                inputs,
                coefficients,
            )
            torch.testing.assert_close(mine, theirs)


def test_capped_gradients_against_finite_differences():
    hidden, weight, bias, targets = _case()
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_logprobs(h, w, targets, 0.7, b, 3, 0.8), (hidden, weight, bias)
    )


@pytest.mark.parametrize("cap", [None, 0.8])
@pytest.mark.parametrize("kept", [0, 2**22])
def test_gradients_with_wide_probabilities_kept_and_computed_again(kept, cap, monkeypatch):
    monkeypatch.setattr(module, "KEPT_ELEMENTS_WIDE", kept)
    hidden, weight, bias, targets = _case()
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_logprobs(h, w, targets, 0.7, b, 3, cap)[0], (hidden, weight, bias)
    )


@pytest.mark.parametrize("kept", [0, 2**25])
def test_capped_gradients_of_half_precision(kept, monkeypatch):
    """Probabilities that are kept for the backward pass carry the slope of the cap, as those computed again do."""
    monkeypatch.setattr(module, "KEPT_ELEMENTS", kept)
    hidden, weight, bias, targets = _case(dtype=torch.bfloat16)
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight, bias)]
    mine = _gradients(
        lambda: linear_logprobs(hidden, weight, targets, 0.7, bias, 3, 0.8),
        (hidden, weight, bias),
        (0.7, None),
    )
    theirs = _gradients(lambda: linear_logprobs(*wide[:2], targets, 0.7, wide[2], 3, 0.8), wide, (0.7, None))
    for a, b in zip(mine, theirs, strict=True):
        assert (a.double() - b).norm() < 0.02 * b.norm()


def test_a_cap_changes_no_hit():
    hidden, weight, bias, targets = _case(200, 4, 7)
    plain = linear_logprobs_hits(hidden, weight, targets, 0.7, bias)[2]
    assert torch.equal(linear_logprobs_hits(hidden, weight, targets, 0.7, bias, cap=2.0)[2], plain)


@pytest.mark.parametrize(("temperature", "cap", "bias"), [(1.0, None, False), (0.7, 2.0, True)])
def test_the_kl_of_distributions_is_that_of_their_logits_however_it_is_cut(temperature, cap, bias):
    """Value and gradient in float64 against the plain form, with all logits at once."""
    generator = torch.Generator().manual_seed(0)

    def outputs(seed):
        draw = torch.Generator().manual_seed(seed)
        shapes = [(5, 4), (7, 4), (7,)]
        hidden, weight, offset = (torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes)
        return [hidden.requires_grad_(), weight.requires_grad_(), offset.requires_grad_() if bias else None]

    def plain(hidden, weight, offset):
        z = hidden @ weight.T + (0.0 if offset is None else offset)
        z = z if cap is None else cap * torch.tanh(z / cap)
        return torch.log_softmax(z / temperature, -1)

    own, other = outputs(1), outputs(2)
    scale = torch.randn(5, generator=generator, dtype=torch.float64)
    inputs = [each for each in own if each is not None]
    log_p, log_q = plain(*own), plain(*other)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1)
    slopes = torch.autograd.grad((expected * scale).sum(), inputs)
    for chunk in (None, 2, 1):
        found = linear_divergence(
            Outputs(*own, cap), Outputs(*other, cap), temperature=temperature, chunk_tokens=chunk
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert (found > 0).all()
        for one, slope in zip(torch.autograd.grad((found * scale).sum(), inputs), slopes, strict=True):
            torch.testing.assert_close(one, slope, rtol=0, atol=1e-12)
