"""What a GPU is asked for: torch's attention for sequences of any lengths, put on the processor by its definition."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import CustomOpDef
from torch.nn.attention import varlen
from torch.testing import assert_close

from tests.models.test_attention import definition
from tutelage.models import attention
from tutelage.models.attention import flat_attention
from tutelage.models.layout import Layout
from tutelage.ops.shapes import computing_as

LENGTHS = (5, 1, 9, 3)


def pieces(query: Tensor, key: Tensor, rest: Any) -> Iterator[tuple[slice, slice, Tensor]]:
    """Of every sequence its queries, its keys, and which of them a query sees, by flash attention's own convention: the last
    query stands at the last key; `left` keys before a query are seen, too."""
    starts_q, starts_k, _, _, _, _, (left, right) = rest
    assert right == 0 and len(query) == starts_q[-1] and len(key) == starts_k[-1]
    for number in range(len(starts_q) - 1):
        q, k = (slice(int(starts[number]), int(starts[number + 1])) for starts in (starts_q, starts_k))
        keys, queries = k.stop - k.start, q.stop - q.start
        at, column = torch.arange(queries)[:, None] + keys - queries, torch.arange(keys)
        yield q, k, (column <= at) & ((column >= at - left) if left >= 0 else torch.tensor(True))


def weights_of(query: Tensor, key: Tensor, seen: Tensor, scale: float) -> Tensor:
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def forward(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel's arguments and results: softmax(Q K^T) V, sequence by sequence."""
    shared, out = query.shape[1] // key.shape[1], torch.empty_like(query)
    every = [t.repeat_interleave(shared, 1) for t in (key, value)]
    for q, k, seen in pieces(query, key, rest[:7]):
        p = weights_of(query[q], every[0][k], seen, rest[5])
        out[q] = torch.einsum("hqk,khd->qhd", p, every[1][k])
    return out, out.new_zeros(query.shape[1], len(query)), torch.zeros(2, dtype=torch.uint64)


def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """Its gradients, by hand: nothing is recorded in a kernel."""
    _, _, starts_q, starts_k, most_q, most_k, causal, _, scale, window = rest
    shared = query.shape[1] // key.shape[1]
    every = [t.repeat_interleave(shared, 1) for t in (key, value)]
    found = [torch.zeros_like(query), *(torch.zeros_like(t) for t in every)]
    for q, k, seen in pieces(query, key, (starts_q, starts_k, most_q, most_k, causal, scale, window)):
        p = weights_of(query[q], every[0][k], seen, scale)
        found[2][k] += torch.einsum("hqk,qhd->khd", p, grad[q])
        slope = torch.einsum("qhd,khd->hqk", grad[q], every[1][k])
        slope = p * (slope - (slope * p).sum(-1, keepdim=True)) * scale
        found[0][q] += torch.einsum("hqk,khd->qhd", slope, every[0][k])
        found[1][k] += torch.einsum("hqk,qhd->khd", slope, query[q])
    return found[0], *(t.unflatten(1, (-1, shared)).sum(2) for t in found[1:])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels of the processor, for any dtype."""
    monkeypatch.setattr(attention, "_has_varlen", lambda query: True)
    ops: list[CustomOpDef] = [varlen._varlen_attn, varlen._varlen_attn_backward]
    for op, kernel in zip(ops, (forward, backward), strict=True):
        op.register_kernel("cpu")(kernel)
    with computing_as("cuda"):
        yield


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("shared", [None, (0, 0, 1, 3), (0, 1, 1, 2)])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_it_is_asked_for_what_attention_is(
    here: None, window: int | None, shared: tuple[int, ...] | None, heads: tuple[int, int]
) -> None:
    """Values and gradients in float64, with windows, with heads that share keys, with beginnings that lie in the row once."""
    layout = Layout(LENGTHS, shared=shared)
    inputs = [
        torch.randn(n, layout.total, 8, dtype=torch.float64, requires_grad=True) for n in (*heads, heads[1])
    ]
    found = flat_attention(*(t[None] for t in inputs), layout, 0.3, window)[0]
    place = torch.arange(layout.total) if layout.place is None else layout.place
    wanted = definition(*(t[:, place] for t in inputs), LENGTHS, 0.3, window, None)[layout.kept]
    assert_close(found, wanted)
    weights = torch.randn_like(wanted)
    for own, other in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((wanted * weights).sum(), inputs),
        strict=True,
    ):
        assert_close(own, other)


def test_what_a_gpu_would_hold_is_known_without_one() -> None:
    """Shapes and dtypes of values and gradients, as the plan of memory asks for them."""
    with FakeTensorMode(), computing_as("cuda"):
        layout = Layout(LENGTHS, shared=(0, 1, 1, 2))
        inputs = [
            torch.randn(1, n, layout.total, 16, dtype=torch.bfloat16, requires_grad=True) for n in (4, 2, 2)
        ]
        out = flat_attention(*inputs, layout, 0.25, 4)
        assert out.shape == (1, layout.total, 4, 16) and out.dtype == torch.bfloat16
        assert "varlen" in str(out.grad_fn.next_functions[0][0].name()).lower()
        for own, grad in zip(inputs, torch.autograd.grad(out.sum(), inputs), strict=True):
            assert grad.shape == own.shape and grad.dtype == own.dtype


def test_which_gpus_and_numbers_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def has(dtype: torch.dtype = torch.bfloat16, size: int = 64, age: tuple[int, int] = (9, 0)) -> bool:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: age)
        query: Any = SimpleNamespace(
            shape=(1, 4, 9, size), dtype=dtype, device=torch.device("cuda:0"), is_cuda=True
        )
        return attention._has_varlen(query)

    assert has() and has(torch.float16) and has(size=256)
    assert not has(torch.float32) and not has(size=20) and not has(size=264) and not has(age=(7, 5))
