"""The attention against transformers' eager one, and against its definition in float64."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.models.zoo import FLAT, LENGTHS, PADDED, build, logits_alone, sequences, twin
from tutelage.models import attention
from tutelage.models import layout as layouts
from tutelage.models.attention import flat_attention
from tutelage.models.forward import flat_inputs
from tutelage.models.layout import Layout
from tutelage.models.loading import policy_module


def flat_logits(model: torch.nn.Module, parts: list[Tensor]) -> Tensor:
    return model(**flat_inputs(torch.cat(parts), Layout([len(p) for p in parts]))).logits[0]


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    """Largest difference within `tolerance` of the largest entry."""
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp_min(1.0)


def definition(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: tuple[int, ...],
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Sequence by sequence, query by query: [H, N, d], [Hkv, N, d] x 2 -> [N, H, d]."""
    rows, start, shared = [], 0, q.shape[0] // k.shape[0]
    for length in lengths:
        for t in range(length):
            first = 0 if window is None else max(0, t - window + 1)
            seen = slice(start + first, start + t + 1)
            heads = []
            for h in range(q.shape[0]):
                scores = k[h // shared, seen] @ q[h, start + t] * scaling
                scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
                heads.append(torch.softmax(scores, 0) @ v[h // shared, seen])
            rows.append(torch.stack(heads))
        start += length
    return torch.stack(rows)


@pytest.mark.parametrize("name", FLAT)
def test_flat_logits_and_gradients_equal_eager(name: str) -> None:
    model, parts = build(name), sequences()
    module = policy_module(twin(model), name)
    ours = module.host
    assert module.traits.flat and ours.config._attn_implementation == "tutelage"
    wanted = logits_alone(model, parts)
    found = flat_logits(ours, parts)
    close(found, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)) / wanted.shape[1]
    (wanted * weights).sum().backward()
    (found * weights).sum().backward()
    for (path, theirs), mine in zip(model.named_parameters(), ours.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None, path
        close(mine.grad, theirs.grad)


@pytest.mark.parametrize("name", PADDED)
def test_architectures_that_cannot_run_flat_keep_their_attention(name: str) -> None:
    model = policy_module(build(name), name)
    assert not model.traits.flat and model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_neighbours_do_not_leak(name: str) -> None:
    model, parts = policy_module(build(name), name).host, sequences()
    before = flat_logits(model, parts).split(LENGTHS)
    changed = [parts[0], parts[1] * 0 + 3, parts[2], (parts[3] + 1) % 100, parts[4]]
    after = flat_logits(model, changed).split(LENGTHS)
    for i in (0, 2, 4):
        assert torch.equal(before[i], after[i])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gpt_neox"])
def test_a_token_changes_nothing_before_it(name: str) -> None:
    model, parts = policy_module(build(name), name).host, sequences()
    before = flat_logits(model, parts).split(LENGTHS)[2]
    changed = parts[2].clone()
    changed[6] = (changed[6] + 1) % 100
    after = flat_logits(model, [*parts[:2], changed, *parts[3:]]).split(LENGTHS)[2]
    close(after[:6], before[:6], 1e-6)
    assert (after[6:] - before[6:]).abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("kept", [0, 2**23])
@pytest.mark.parametrize("blocks", [(3, 1), (4, 300), (64, 2**20)])
@pytest.mark.parametrize("window,softcap", [(None, None), (4, None), (None, 1.5), (3, 1.5)])
def test_every_way_of_cutting_gives_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    blocks: tuple[int, int],
    kept: int,
    window: int | None,
    softcap: float | None,
) -> None:
    """Blocks of queries, kept or recomputed softmax, shared key heads: values and gradients in float64."""
    monkeypatch.setattr(attention, "BLOCK_QUERIES", blocks[0])
    monkeypatch.setattr(attention, "BLOCK_BYTES", blocks[1])
    monkeypatch.setattr(attention, "KEPT_ELEMENTS", kept)
    for lengths in ((5, 2, 9, 1, 9), (6, 6)):
        generator = torch.Generator().manual_seed(0)
        q, k, v = (
            torch.randn(heads, sum(lengths), 4, generator=generator, dtype=torch.float64, requires_grad=True)
            for heads in (4, 2, 2)
        )
        weights = torch.randn(sum(lengths), 4, 4, generator=generator, dtype=torch.float64)
        wanted = definition(q, k, v, lengths, 0.7, window, softcap)
        found = flat_attention(q[None], k[None], v[None], Layout(lengths), 0.7, window, softcap)[0]
        assert_close(found, wanted, atol=1e-12, rtol=0)
        for mine, theirs in zip(
            torch.autograd.grad((found * weights).sum(), (q, k, v)),
            torch.autograd.grad((wanted * weights).sum(), (q, k, v)),
            strict=True,
        ):
            assert_close(mine, theirs, atol=1e-12, rtol=0)


def test_scores_are_never_held_for_a_whole_long_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sequence of 2048 tokens and 8 heads: no tensor as large as its 2048 x 2048 scores of even one head."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.numel())
            return out

    q = torch.randn(1, 8, 2048, 8, requires_grad=True)
    with Watch():
        flat_attention(q, q, q, Layout([2048]), 0.3).sum().backward()
    assert largest < 2048 * 2048 / 2


@pytest.mark.parametrize(
    "lengths", [(4,), (5, 5, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9), (100, 3, 3, 99, 50, 2), tuple(range(1, 200))]
)
def test_buckets_hold_every_token_once(lengths: tuple[int, ...]) -> None:
    layout = Layout(lengths)
    assert len(layout.buckets) <= layouts.BUCKETS
    slots = torch.cat([bucket.index for bucket in layout.buckets])
    assert torch.equal(slots[layout.inverse], torch.arange(sum(lengths)))
    real = sum(b.rows * b.width if b.unread is None else int((~b.unread).sum()) for b in layout.buckets)
    assert real == sum(lengths)
    assert torch.equal(layout.positions, torch.cat([torch.arange(n) for n in lengths]))
    assert layout.last.tolist() == [sum(lengths[: i + 1]) - 1 for i in range(len(lengths))]


def test_equal_lengths_need_no_padding_and_ragged_ones_little() -> None:
    (bucket,) = Layout((6, 6, 6)).buckets
    assert bucket.unread is None and (bucket.rows, bucket.width) == (3, 6)
    lengths = torch.randint(1, 257, (64,), generator=torch.Generator().manual_seed(0)).tolist()
    slots = sum(b.rows * b.width for b in Layout(lengths).buckets)
    assert slots < 1.3 * sum(lengths) < 64 * max(lengths)


def test_bf16_is_close() -> None:
    model, parts = policy_module(build("llama"), "llama").host, sequences((40, 7, 40))
    exact = flat_logits(model, parts)
    with torch.autocast("cpu", torch.bfloat16):
        found = flat_logits(model, parts)
    assert (found - exact).abs().mean() < 0.02 * exact.std()


def test_a_layout_used_for_inference_first_can_train_later() -> None:
    model, parts = policy_module(build("llama"), "llama").host, sequences()
    layout = Layout(LENGTHS)
    with torch.inference_mode():
        model(**flat_inputs(torch.cat(parts), layout))
    hidden = model.base_model(**flat_inputs(torch.cat(parts), layout), use_cache=False).last_hidden_state[0]
    hidden[layout.last].sum().backward()
    assert model.get_input_embeddings().weight.grad is not None


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_a_prepared_model_still_serves_plain_transformers(name: str) -> None:
    """Left-padded batches with a 2-D mask, transformers' own cache: greedy continuations as with eager attention."""
    model, parts = build(name), sequences((6, 3))
    ours = policy_module(twin(model), name).host
    ids = torch.stack([parts[0], torch.cat([torch.zeros(3, dtype=torch.long), parts[1]])])
    mask = torch.tensor([[1] * 6, [0] * 3 + [1] * 3])
    options = {
        "input_ids": ids,
        "attention_mask": mask,
        "max_new_tokens": 8,
        "do_sample": False,
        "eos_token_id": None,
    }
    assert torch.equal(ours.generate(**options), model.generate(**options))


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 200])
def test_long_sequences_leave_no_masks_behind(window: int | None) -> None:
    """Many layouts of long sequences, all still alive: what stays of a pass is a mask of one block, not one of all keys."""

    def alive() -> int:
        gc.collect()
        return sum(t.nbytes for t in gc.get_objects() if type(t) is Tensor)

    layouts = [Layout([n]) for n in range(1000, 1200, 40)]
    for layout in layouts:
        _ = layout.buckets, layout.positions
    before = alive()
    for layout in layouts:
        q = torch.randn(1, 1, layout.total, 4, requires_grad=True)
        flat_attention(q, q, q, layout, 0.5, window).sum().backward()
        del q
    assert alive() - before < 2**21  # the masks of one such layout take 4 MiB


def test_masks_are_kept_up_to_a_bound_in_bytes() -> None:
    """Every shape that a block can have: no more is kept than the documented 8 MiB."""
    most = attention.BLOCK_QUERIES**2 * 8
    assert attention._corner.cache_parameters()["maxsize"] * most <= 2**23
    seen: list[int] = []
    layout, real = Layout([700, 90]), attention.additive_mask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "additive_mask", lambda *a: seen.append(a[0] * a[1]) or real(*a))
        attention._corner.cache_clear()
        for window in (None, 1, 64, 130, 500):
            q = torch.randn(1, 1, layout.total, 4, dtype=torch.float64)
            flat_attention(q, q, q, layout, 0.5, window)
    assert seen and max(seen) <= attention.BLOCK_QUERIES**2


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 1, 100, 128, 129, 200])
def test_windows_and_blocks_of_full_size_give_the_definition(
    window: int | None, softcap: float | None
) -> None:
    lengths = (300, 140)
    q, k, v = (torch.randn(1, h, 440, 4, dtype=torch.float64) for h in (2, 1, 1))
    found = flat_attention(q, k, v, Layout(lengths), 0.7, window, softcap)[0]
    assert_close(found, definition(q[0], k[0], v[0], lengths, 0.7, window, softcap))
