"""Cached decoding against running every sequence anew."""

from __future__ import annotations

import pytest
import torch

from tests.models.zoo import CONFIGS, build, sequences, twin
from tutelage.models import cache, decode
from tutelage.models.cpu import rows as llama_rows
from tutelage.models.cpu.rows import LlamaRows
from tutelage.models.decode import Decoding, cache_bytes
from tutelage.models.loading import policy_module
from tutelage.models.lora import add_lora


@pytest.mark.parametrize("block", [3, 32])
@pytest.mark.parametrize("name", sorted(CONFIGS))
@torch.inference_mode()
def test_logits_of_every_step_equal_a_fresh_forward(
    name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ragged prompts, several samples of each, rows dropped, reordered and given to other prompts on the way, a cache that
    grows."""
    monkeypatch.setattr(cache, "BLOCK", block)
    model = build(name)
    ours = policy_module(twin(model), name)
    rows = [part.tolist() for part in sequences()]
    decoding = Decoding(ours, rows, 8)
    decoding.repeat([2] * len(rows))
    rows = [list(row) for row in rows for _ in range(2)]
    kept = {
        1: [8, 1, 0, 6],
        3: [1, 3, 0],
        7: [1, 2],
    }  # the longest prompt goes at step 1: columns are dropped too
    prompts = [row[:] for row in rows[2::2]]
    replaced = {2: ([2], [0], [1]), 5: ([2, 0], [1], [2])} if decoding.admits else {}
    generator = torch.Generator().manual_seed(3)
    for step in range(8):
        tokens = torch.randint(2, 100, (decoding.rows,), generator=generator)
        decoding.step(tokens)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.append(token)
        if step in replaced:
            here, chosen, counts = replaced[step]
            decoding.leave(torch.tensor(here))
            decoding.replace(torch.tensor(here), [prompts[i] for i in chosen], counts)
            for place, i in zip(
                here, [i for i, n in zip(chosen, counts, strict=True) for _ in range(n)], strict=True
            ):
                rows[place] = prompts[i][:]
        if step in kept:
            decoding.select(torch.tensor(kept[step]))
            rows = [rows[i] for i in kept[step]]
        wanted = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])
        assert (decoding.logits - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))


@torch.inference_mode()
def test_cache_holds_what_cache_bytes_says() -> None:
    model = policy_module(build("llama"), "llama")
    decoding = Decoding(model, [part.tolist() for part in sequences()], 8)
    stored = decoding._rows.cache.stored.values()  # type: ignore[attr-defined]
    assert sum(t.numel() * t.element_size() for pair in stored for t in pair) == cache_bytes(
        model.config, 5, 12 + 8, 4
    )


def test_prompts_longer_than_the_cache_are_refused() -> None:
    from tutelage.models.cache import StaticKV
    from tutelage.models.layout import Layout

    with pytest.raises(ValueError, match="prompt of 9 tokens"):
        StaticKV(8).prefill(Layout([3, 9]))


@pytest.mark.parametrize("packs", [True, False])
@torch.inference_mode()
def test_a_plain_llama_decodes_by_hand_and_others_through_their_modules(
    packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal, with and without oneDNN's own order of the matrices; with an adapter it goes through the modules."""
    if not packs:
        monkeypatch.setattr(llama_rows, "_packs", lambda dtype: False)
    model = policy_module(build("llama"), "llama")
    rows = [part.tolist() for part in sequences()]
    by_hand, by_modules = Decoding(model, rows, 4), Decoding(model, rows, 4)
    by_modules._rows = decode._FlatRows(model.host)
    by_modules.logits = by_modules._rows.prefill(rows, 4)
    assert type(by_hand._rows) is LlamaRows
    for step in range(4):
        assert (by_hand.logits - by_modules.logits).abs().max() < 1e-5
        tokens = torch.arange(len(rows)) + step
        by_hand.step(tokens)
        by_modules.step(tokens)
    adapted = add_lora(model, rank=2, alpha=8.0)
    assert type(Decoding(adapted, rows, 4)._rows) is decode._FlatRows
