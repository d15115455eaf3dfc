from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tutelage.ops import masked

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=6)
POISON = (float("nan"), float("inf"), -float("inf"), 1e6)


def _values(n, seed=0, *shape):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_reductions_by_hand():
    x = torch.tensor([[1.0, 2.0, 99.0], [3.0, 99.0, 99.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked.masked_sum(x, mask).item() == 6
    assert masked.masked_sum(x, mask, 1).tolist() == [3, 3]
    assert masked.masked_mean(x, mask).item() == 2
    assert masked.masked_mean(x, mask, 1).tolist() == [1.5, 3]
    assert masked.masked_var(x, mask).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("poison", POISON)
def test_what_is_masked_out_never_counts(poison):
    mask = masked.mask_from_lengths((3, 0, 5))
    clean = torch.where(mask, _values(3, 0, 5), 0.0)
    dirty = torch.where(mask, clean, poison).requires_grad_()
    for reduce in (masked.masked_sum, masked.masked_mean, masked.masked_var, masked.whiten):
        torch.testing.assert_close(reduce(dirty, mask), reduce(clean, mask), rtol=0, atol=0)
    masked.masked_var(dirty, mask).backward()
    assert dirty.grad.isfinite().all() and (dirty.grad[~mask] == 0).all() and (dirty.grad[mask] != 0).any()


@given(LENGTHS.filter(sum), st.integers(0, 5))
def test_a_mean_does_not_see_the_padding(lengths, extra):
    flat = _values(sum(lengths))
    padded = torch.nn.functional.pad(masked.pad(flat, lengths), (0, extra), value=1.0)
    mask = torch.nn.functional.pad(masked.mask_from_lengths(lengths), (0, extra))
    assert masked.masked_mean(padded, mask).item() == pytest.approx(flat.mean().item())
    assert masked.masked_var(padded, mask).item() == pytest.approx(flat.var(unbiased=False).item())


def test_an_empty_mask_gives_zero_and_a_zero_gradient():
    x = torch.full((2, 3), float("nan"), requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    total = masked.masked_mean(x, mask) + masked.masked_mean(x, mask, 1).sum() + masked.masked_var(x, mask)
    total.backward()
    assert total.item() == 0 and (x.grad == 0).all() and (masked.whiten(x, mask) == 0).all()


@given(LENGTHS.filter(lambda lengths: sum(lengths) > 1), st.integers(0, 5), st.integers(0, 99))
def test_whitened_values_have_mean_0_and_variance_1_whatever_the_padding(lengths, extra, seed):
    flat = 3 * _values(sum(lengths), seed) + 5
    white = masked.whiten(flat, torch.ones_like(flat, dtype=torch.bool))
    assert white.mean().item() == pytest.approx(0, abs=1e-9)
    assert white.var(unbiased=False).item() == pytest.approx(1, abs=1e-6)
    padded = torch.nn.functional.pad(masked.pad(flat, lengths), (0, extra), value=1e6)
    mask = torch.nn.functional.pad(masked.mask_from_lengths(lengths), (0, extra))
    whitened = masked.whiten(padded, mask)
    torch.testing.assert_close(masked.unpad(whitened, lengths), white, rtol=0, atol=1e-12)
    assert (whitened[~mask] == 0).all()


def test_whitening_the_scale_only_keeps_the_mean():
    x = 3 * _values(50) + 5
    mask = torch.arange(50) < 40
    scaled = masked.whiten(x, mask, shift_mean=False)[:40]
    assert scaled.mean().item() == pytest.approx(x[:40].mean().item(), abs=1e-9)
    assert scaled.var(unbiased=False).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0.1, -1e4 / 3, 7e8 / 9])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_whitening_a_constant_gives_zeros(value, count):
    white = masked.whiten(torch.full((count,), value), torch.ones(count, dtype=torch.bool))
    assert (white == 0).all()


def test_whitened_values_are_constants():
    x = _values(4).requires_grad_()
    assert not masked.whiten(x, torch.ones(4, dtype=torch.bool)).requires_grad


@given(LENGTHS, st.sampled_from([(), (2,), (2, 3)]))
def test_unpad_undoes_pad(lengths, shape):
    flat = _values(sum(lengths), 0, *shape)
    padded = masked.pad(flat, lengths)
    mask = masked.mask_from_lengths(lengths)
    assert padded.shape == (len(lengths), max(lengths), *shape) and mask.sum(1).tolist() == lengths
    assert (padded[~mask] == 0).all()
    for row, piece in zip(padded, flat.split(lengths), strict=True):
        assert torch.equal(row[: len(piece)], piece)
    wider = torch.cat([padded, torch.full((len(lengths), 2, *shape), float("nan"))], 1)
    assert torch.equal(masked.unpad(padded, lengths), flat) and torch.equal(
        masked.unpad(wider, lengths), flat
    )


@given(LENGTHS.filter(sum))
@settings(max_examples=15)
def test_the_layouts_are_differentiable(lengths):
    flat = _values(sum(lengths)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: masked.pad(x, lengths), flat)
    assert torch.autograd.gradcheck(lambda x: masked.segment_sum(x, lengths), flat)
    assert torch.autograd.gradcheck(
        lambda x: masked.unpad(x, lengths), masked.pad(flat, lengths).detach().requires_grad_()
    )


@given(LENGTHS, st.data())
def test_segment_sums(lengths, data):
    numbers = data.draw(arrays("float32", sum(lengths), elements=st.floats(-1e3, 1e3, width=32)))
    flat = torch.from_numpy(numbers)
    sums = masked.segment_sum(flat, lengths)
    assert sums.dtype == torch.float32
    for total, piece in zip(sums, flat.split(lengths), strict=True):
        assert total.item() == pytest.approx(sum(map(float, piece)), rel=1e-6, abs=1e-9)
        assert torch.equal(masked.segment_sum(piece, [len(piece)])[0], total)


def test_a_small_segment_after_a_large_one_loses_nothing():
    flat = torch.tensor([1e8, 1e8, 1e-3, 2e-3])
    assert masked.segment_sum(flat, (2, 2))[1].item() == pytest.approx(3e-3, rel=1e-6)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(AssertionError, match="add up to 3, not to 4"):
        masked.pad(torch.zeros(4), (2, 1))
    with pytest.raises(AssertionError, match="a length of 3 in 2 columns"):
        masked.unpad(torch.zeros(1, 2), (3,))
