"""Models made ready for their roles: dtype, adapters, heads, and one base for several models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from tests.models.zoo import batch_of, sequences
from tests.train.making import make_model, make_tokenizer
from tutelage.models.loading import (
    load_scalar,
    load_tokenizer,
    save,
    score_normalisation,
    set_score_normalisation,
)
from tutelage.models.lora import export_adapter, share_frozen
from tutelage.models.policy import Hosted, ScalarModule
from tutelage.models.setup import Setup, finished

CPU = torch.device("cpu")
TOKENIZER = make_tokenizer()
BATCH = batch_of(sequences((7, 5, 9)))


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save(make_model(TOKENIZER), TOKENIZER, tmp_path / "base" / "model"))


def reward_run(base: str, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    """What `reward lora_rank=2` leaves behind: a merged model, and the adapter beside it.  Its head has been trained."""
    module = Setup(CPU, dtype, lora_rank=2, lora_alpha=8.0, seed=5).scalar(base, TOKENIZER)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name or "score" in name:
                parameter.add_(
                    0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                )
    set_score_normalisation(module, -3.0, 2.0)
    export_adapter(module, folder / "adapter", base)
    return str(save(module, TOKENIZER, folder / "model"))


def storages(*modules: Hosted) -> int:
    """Bytes of the frozen parameters, what several share counted once."""
    frozen = [p for module in modules for p in module.parameters() if not p.requires_grad]
    return sum({p.data_ptr(): p.nbytes for p in frozen}.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [0, 2])
def test_what_is_trained_is_float32_and_what_is_frozen_has_the_arithmetic_of_the_run(
    base: str, tmp_path: Path, dtype: torch.dtype, rank: int
) -> None:
    setup = Setup(CPU, dtype, lora_rank=rank)
    policy = setup.policy(base, TOKENIZER)
    ref = setup.reference(base, TOKENIZER)
    save(load_scalar(base), TOKENIZER, tmp_path / "reward" / "model")
    reward = setup.reward_model(str(tmp_path / "reward" / "model"), policy, base)
    critic = setup.critic(str(tmp_path / "reward" / "model"), policy, base, reward)
    for module in (policy, critic):
        assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}
        assert {p.dtype for p in module.parameters() if not p.requires_grad} == ({dtype} if rank else set())
    assert {p.dtype for p in reward.parameters()} == {dtype} and not any(
        p.requires_grad for p in reward.parameters()
    )
    if rank:
        assert ref is None and critic.head.weight.requires_grad
    else:
        assert ref is not None and {p.dtype for p in ref.parameters()} == {torch.float32}
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), torch.no_grad():
            assert torch.equal(policy(BATCH).logprobs, ref(BATCH).logprobs)  # the KL starts at 0, to the bit


@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=pytest.mark.slow), torch.bfloat16])
def test_adapters_on_one_base_hold_it_once_and_compute_the_same(
    base: str, tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = reward_run(base, tmp_path / "reward", dtype)
    setup = Setup(CPU, dtype, lora_rank=4)

    def models() -> tuple[Hosted, ScalarModule, ScalarModule]:
        policy = setup.policy(base, TOKENIZER)
        reward = setup.reward_model(path, policy, base)
        return policy, reward, setup.critic(path, policy, base, reward)

    policy, reward, critic = models()
    adapter = sum(p.nbytes for name, p in reward.named_parameters() if "lora" in name or "score" in name)
    assert storages(policy, reward, critic) == storages(policy) + adapter
    assert score_normalisation(reward) == (-3.0, 2.0)
    monkeypatch.setattr("tutelage.models.setup.share_frozen", lambda owner, module: module)
    alone = models()
    assert storages(*alone) > 2 * storages(policy)
    with torch.no_grad():
        assert torch.equal(policy(BATCH).logprobs, alone[0](BATCH).logprobs)
        for mine, other in ((reward, alone[1]), (critic, alone[2])):
            assert torch.equal(mine(BATCH, at="ends"), other(BATCH, at="ends"))
    if dtype == torch.float32:  # the same scores as the merged model that everybody loads
        merged = load_scalar(path)
        assert torch.allclose(reward(BATCH, at="ends"), merged(BATCH, at="ends"), atol=1e-4)
    critic(BATCH, at="tokens").sum().backward()
    assert critic.head.weight.grad is not None
    assert all(p.grad is None for p in policy.parameters())


def test_another_base_is_not_taken_for_the_same(base: str, tmp_path: Path) -> None:
    path = reward_run(base, tmp_path / "reward")
    other = str(save(make_model(TOKENIZER, seed=1), TOKENIZER, tmp_path / "other" / "model"))
    setup = Setup(CPU, torch.float32, lora_rank=4)
    policy = setup.policy(other, TOKENIZER)
    reward = setup.reward_model(path, policy, other)
    assert not reward.adapted  # its merged weights, by themselves
    assert torch.equal(reward(BATCH, at="ends"), load_scalar(path)(BATCH, at="ends"))
    critic = setup.critic(path, policy, other, reward)
    assert storages(reward, critic) == storages(reward)  # these two are the same below the adapter
    full = Setup(CPU, torch.float32)
    assert not full.reward_model(path, full.policy(base, TOKENIZER), base).adapted


def test_a_base_that_was_moved_is_the_same_base(base: str, tmp_path: Path) -> None:
    path = reward_run(base, tmp_path / "reward")
    setup = Setup(CPU, torch.float32, lora_rank=4)
    wanted = setup.reward_model(path, setup.policy(base, TOKENIZER), base)(BATCH, at="ends")
    moved = str(Path(base).parent.rename(tmp_path / "moved") / "model")
    policy = setup.policy(moved, TOKENIZER)
    reward = setup.reward_model(path, policy, moved)
    assert reward.adapted and torch.equal(reward(BATCH, at="ends"), wanted)
    assert setup.critic(path, policy, moved, reward).adapted


def test_added_tokens_have_their_rows_in_adapters_on_one_base(base: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(base)  # a tokenizer with more tokens than its model has rows
    setup = Setup(CPU, torch.bfloat16, lora_rank=2)
    trained = setup.scalar(base, tokenizer)
    export_adapter(trained, tmp_path / "reward" / "adapter", base)
    path = str(
        save(finished(trained, base, tokenizer, torch.float32), tokenizer, tmp_path / "reward" / "model")
    )
    assert "embed" not in "".join(load_file(tmp_path / "reward" / "adapter" / "adapter_model.safetensors"))
    policy = setup.policy(base, tokenizer)
    reward = setup.reward_model(path, policy, base)
    critic = setup.critic(path, policy, base, reward)
    rows = {m.host.get_input_embeddings().weight.data_ptr() for m in (policy, reward, critic)}
    assert reward.adapted and len(rows) == 1
    new = batch_of([torch.tensor([5, len(tokenizer) - 1, len(tokenizer) - 2])])
    with torch.no_grad():
        assert torch.equal(reward(new, at="ends"), trained(new, at="ends"))
        assert torch.isfinite(critic(new, at="tokens")).all()


def test_only_equal_frozen_weights_are_shared(base: str) -> None:
    setup = Setup(CPU, torch.float32, lora_rank=2)
    one, other = setup.policy(base, TOKENIZER), setup.policy(base, TOKENIZER)
    with torch.no_grad():
        changed = other.host.model.layers[0].mlp.up_proj.base_layer.weight
        changed[0, 0] += 1
    share_frozen(one, other)
    mine = one.host.model.layers[0].mlp
    theirs = other.host.model.layers[0].mlp
    assert theirs.up_proj.base_layer.weight.data_ptr() != mine.up_proj.base_layer.weight.data_ptr()
    assert theirs.down_proj.base_layer.weight.data_ptr() == mine.down_proj.base_layer.weight.data_ptr()
    assert changed[0, 0] != mine.up_proj.base_layer.weight[0, 0]


def test_several_heads_are_a_plain_sequence_classifier(base: str, tmp_path: Path) -> None:
    module = Setup(CPU, torch.float32).scalar(base, TOKENIZER, heads=3)
    scores, values = module(BATCH, at="ends"), module(BATCH, at="tokens")
    assert scores.shape == (3, 3) and values.shape == (21, 3)
    save(module, TOKENIZER, tmp_path / "heads")
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "heads")
    assert plain.config.num_labels == 3
    with torch.no_grad():
        alone = torch.cat([plain(input_ids=part[None]).logits for part in BATCH.ids.split(BATCH.lengths)])
    assert torch.allclose(scores, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["policy", "scalar", "three heads"])
def test_an_export_is_the_base_as_it_was_stored_and_the_adapter(base: str, tmp_path: Path, kind: str) -> None:
    """Trained on a base in bf16; what comes out has the base's own float32 weights."""
    setup = Setup(CPU, torch.bfloat16, lora_rank=2, lora_alpha=8.0)
    heads = 3 if kind == "three heads" else 1
    module = setup.policy(base, TOKENIZER) if kind == "policy" else setup.scalar(base, TOKENIZER, heads)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    save(finished(module, base, TOKENIZER, torch.float32), TOKENIZER, tmp_path / "out")
    found, start = (load_file(Path(folder) / "model.safetensors") for folder in (tmp_path / "out", base))
    layer = module.host.model.layers[1].mlp.up_proj
    delta = 8.0 / 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.allclose(found[name], start[name] + delta.detach(), atol=1e-6)
    assert torch.equal(found["model.embed_tokens.weight"], start["model.embed_tokens.weight"])
