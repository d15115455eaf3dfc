"""Adapters: off is the base model, merged is the adapted one, and training touches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tests.models.zoo import batch_of, build, sequences, twin
from tutelage import checkpoint
from tutelage.models.decode import Decoding
from tutelage.models.loading import load_policy, load_scalar, policy_module, save
from tutelage.models.lora import add_lora, merged, reference
from tutelage.models.policy import ScalarModule
from tutelage.models.setup import Setup
from tutelage.models.tiny import train_tokenizer
from tutelage.parallel import World

BATCH = batch_of(sequences())


def trained(name: str, seed: int = 0) -> nn.Module:
    """An adapter after some large steps."""
    model = add_lora(policy_module(build(name), name), rank=2, alpha=8.0, seed=seed)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        (-model(BATCH).logprobs.sum()).backward()
        optimizer.step()
    return model


def logprobs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(BATCH).logprobs


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_a_fresh_adapter_changes_nothing_and_off_is_the_base(name: str) -> None:
    base = logprobs(policy_module(build(name), name))
    fresh = add_lora(policy_module(build(name), name), rank=2, alpha=8.0)
    assert torch.allclose(logprobs(fresh), base, atol=1e-5)  # another order of sums where Llama runs by hand
    base = logprobs(fresh)
    model = trained(name)
    changed = logprobs(model)
    assert (changed - base).abs().max() > 0.1
    with reference(model) as ref:
        assert torch.equal(logprobs(ref), base)
        assert not ref(BATCH).logprobs.requires_grad
    assert torch.equal(logprobs(model), changed)


def test_only_the_adapter_is_trained_and_the_seed_decides_it() -> None:
    model, state = policy_module(build("llama"), "llama"), torch.random.get_rng_state()
    one = add_lora(twin(model), rank=2, alpha=8.0, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    same, other = (add_lora(twin(model), rank=2, alpha=8.0, seed=s) for s in (1, 2))
    learnt = {n: p for n, p in one.named_parameters() if p.requires_grad}
    assert len(learnt) == 2 * 7 * 2 and all("lora_" in name for name in learnt)
    assert all(torch.equal(p, dict(same.named_parameters())[n]) for n, p in learnt.items())
    assert any(not torch.equal(p, dict(other.named_parameters())[n]) for n, p in learnt.items())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_saved_adapter_is_a_plain_model(name: str, tmp_path: Path) -> None:
    model = trained(name)
    before = {n: p.clone() for n, p in model.named_parameters()}
    wanted = logprobs(model)
    save(model, train_tokenizer(["some text"], 270), tmp_path)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())  # saving is no step
    assert (logprobs(load_policy(tmp_path)) - wanted).abs().max() < 1e-4
    plainly = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not [n for n, _ in plainly.named_parameters() if "lora" in n]
    (ids,) = sequences((9,))
    with torch.no_grad():
        assert (plainly(ids[None]).logits - model.host(ids[None]).logits).abs().max() < 1e-4


def test_a_scalar_head_is_trained_beside_the_adapter(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path / "lm")
    model = add_lora(load_scalar(tmp_path / "lm"), rank=2, alpha=8.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    start = model(BATCH, at="ends").detach()
    head = model.host.score.weight.detach().clone()
    model(BATCH, at="ends").sum().backward()
    optimizer.step()
    assert not torch.equal(model.host.score.weight, head)
    assert (model(BATCH, at="ends") < start).all()
    save(model, train_tokenizer(["some text"], 270), tmp_path / "rm")
    again = load_scalar(tmp_path / "rm")(BATCH, at="ends")
    assert (again - model(BATCH, at="ends")).abs().max() < 1e-4


def test_merged_leaves_a_plain_model_alone_and_decoding_uses_the_adapter() -> None:
    base = policy_module(build("llama"), "llama")
    assert merged(base) is base.host
    model = trained("llama")
    with torch.inference_mode():
        decoding = Decoding(model, [part.tolist() for part in sequences()], 2)
        own = policy_module(merged(model), "llama")
        assert (
            decoding.logits - Decoding(own, [p.tolist() for p in sequences()], 2).logits
        ).abs().max() < 1e-4
        assert (own.hidden_states(BATCH) - model.hidden_states(BATCH)).abs().max() < 1e-4


def test_a_checkpoint_holds_the_adapter_and_the_scalar_head(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["some text"], 270)
    build("llama").save_pretrained(tmp_path / "lm")
    setup = Setup(torch.device("cpu"), torch.float32, lora_rank=2)

    def start() -> tuple[ScalarModule, torch.optim.Optimizer]:
        model = setup.scalar(str(tmp_path / "lm"), tokenizer)
        return model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)

    def step(model: ScalarModule, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(BATCH, at="ends").square().sum().backward()
        optimizer.step()

    (model, optimizer), (again, other) = start(), start()
    assert model.adapted
    step(model, optimizer)
    checkpoint.save(tmp_path / "c", 1, {"reward_model": model}, optimizer, tokenizer, {}, World.here())
    checkpoint.load(tmp_path / "c", 1, {"reward_model": again}, other, World.here())
    for one, two in ((model, optimizer), (again, other)):
        step(one, two)
    resumed = dict(again.named_parameters())
    assert all(torch.equal(p, resumed[name]) for name, p in model.named_parameters())
