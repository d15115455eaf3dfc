"""Layers computed again in the backward pass give the gradients of layers that were kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.zoo import CONFIGS, build
from tests.train.making import make_model, make_tokenizer
from tutelage.data.batch import TokenBatch
from tutelage.models.cpu.llama import plain_llama
from tutelage.models.loading import imagine, load_policy, load_scalar, policy_module, save
from tutelage.models.lora import add_lora
from tutelage.models.memory import adapted, imagining, rehearse
from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator


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


def small(name: str, rank: int, again: bool) -> PolicyModule:
    model = build(name)
    for part in model.modules():  # loading sets it so
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    module = policy_module(model, name)
    if rank:
        module = add_lora(module, rank=rank, alpha=8.0)
        with torch.no_grad():
            for parameter_name, parameter in module.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.fill_(0.05)
    if again:
        module.checkpoint_gradients()
    return module


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gemma2"])
@pytest.mark.parametrize("rank", [0, 2])
def test_same_gradients_whatever_the_architecture_and_with_an_adapter(name: str, rank: int) -> None:
    batch = TokenBatch(torch.arange(80) % 90 + 5, (20,) * 4, torch.ones(80, dtype=torch.bool), (0, 1, 2, 3))
    found = []
    for again in (False, True):
        module = small(name, rank, again)
        module(batch).logprobs.square().mean().backward()
        found.append({key: p.grad for key, p in module.named_parameters() if p.grad is not None})
    assert plain_llama(module.host.base_model) == (
        name == "llama" and not rank
    )  # which runs by hand, kept or not
    kept, computed = found
    assert kept.keys() == computed.keys() and kept
    for key, gradient in kept.items():
        torch.testing.assert_close(computed[key], gradient, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_less_is_kept_for_the_backward_pass(rank: int) -> None:
    batch = TokenBatch(torch.arange(80) % 90 + 5, (20,) * 4, torch.ones(80, dtype=torch.bool), (0, 1, 2, 3))
    kept = []
    for again in (False, True):
        with imagining() as ledger:
            module = imagine(CONFIGS["llama"](), scalar=False)
            module = adapted(module, rank) if rank else module
            if again:
                module.checkpoint_gradients()
            found = rehearse(ledger, lambda m=module: m(batch).logprobs.sum(), module, torch.float32, 100)
        kept.append(found.kept.activations)
    assert 0 < kept[1] < kept[0] / 2


def test_generation_is_the_same_in_a_run_with_checkpointing() -> None:
    tokenizer = make_tokenizer()
    answers = []
    for again in (False, True):
        module = make_model(tokenizer)
        if again:
            module.checkpoint_gradients()
        sampling = Sampling(max_new_tokens=8, seed=3)
        answers.append(
            LocalGenerator(module, tokenizer).generate([Prompt("the cat"), Prompt("1 +")], sampling)
        )
        assert module.training  # as it was before
    assert [r.ids for r in answers[0]] == [r.ids for r in answers[1]]
