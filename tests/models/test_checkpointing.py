"""Layers computed again in the backward pass give the gradients of layers that were kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.train.making import make_model, make_tokenizer
from tutelage.data.batch import TokenBatch
from tutelage.models.loading import load_policy, load_scalar, save


def batch_of(trained: int) -> TokenBatch:
    """Four sequences of 20 tokens whose last `trained` tokens count: few of them, so that the last layer could be cut short."""
    mask = (torch.arange(20) >= 20 - trained).repeat(4)
    return TokenBatch(torch.arange(80) % 250 + 5, (20,) * 4, mask, (0, 1, 2, 3))


@pytest.mark.parametrize("kind", ["logprobs", "tokens", "ends"])
@pytest.mark.parametrize("trained", [3, 19])
def test_same_gradients(tmp_path: Path, kind: str, trained: int) -> None:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "model")
    found = []
    for again in (False, True):
        module = (load_policy if kind == "logprobs" else load_scalar)(tmp_path / "model")
        if again:
            module.checkpoint_gradients()
        batch, at = batch_of(trained), {} if kind == "logprobs" else {"at": kind}
        answer = module(batch, **at).logprobs if kind == "logprobs" else module(batch, **at)
        answer.square().sum().backward()
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    kept, computed = found
    assert kept.keys() == computed.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(computed[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
