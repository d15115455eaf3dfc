"""Rotary embeddings that depend on the length of the sequence: equal to transformers one at a time, or refused."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from tests.models.zoo import CONFIGS, LONGROPE, batch_of, build, logits_alone, sequences, twin
from tutelage.models.decode import Decoding
from tutelage.models.loading import context_at, context_of, policy_module, scalar_module
from tutelage.models.probe import rope_limit
from tutelage.ops.logprobs import token_logprobs

LIMIT = 24
KINDS = ("phi3_long", "llama_dynamic")


@pytest.mark.parametrize("name", KINDS)
def test_models_of_this_kind_change_every_token_of_a_long_sequence(name: str) -> None:
    """What makes them a kind of their own, in transformers itself; at the limit nothing has changed yet."""
    model = build(name)
    (long,) = sequences((LIMIT + 6,))
    at, beyond = (model(input_ids=long[None, :n]).logits[0, :10] for n in (LIMIT, LIMIT + 6))
    short = model(input_ids=long[None, :10]).logits[0]
    assert (at - short).abs().max() < 1e-4 < 1e-2 < (beyond - short).abs().max()


@pytest.mark.parametrize("name", KINDS)
def test_sequences_up_to_the_limit_are_those_of_transformers_alone(name: str) -> None:
    model, parts = build(name), sequences((3, LIMIT, 10, LIMIT - 1))
    batch = batch_of(parts)
    wanted, _ = token_logprobs(logits_alone(model, parts), batch.ids, batch.lengths, batch.loss_mask)
    assert (policy_module(twin(model), name)(batch).logprobs - wanted).abs().max() < 2e-5


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_decoding_up_to_the_limit_is_that_of_transformers(name: str) -> None:
    model = build(name)
    rows = [part.tolist() for part in sequences((LIMIT - 4, 5))]
    decoding = Decoding(policy_module(twin(model), name), rows, 4)
    for token in range(2, 6):
        decoding.step(torch.full((2,), token))
        rows = [[*row, token] for row in rows]
        wanted = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])
        assert (decoding.logits - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_longer_sequences_are_refused_wherever_they_come_from(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Beside short ones or alone, in training, scoring, decoding; and the context says so before."""
    model = build(name)
    module = policy_module(model, name)
    config = CONFIGS[name]()
    config.num_labels = 1
    scalar = scalar_module(hf.AutoModelForSequenceClassification.from_config(config).eval(), name)
    for lengths in ((LIMIT + 1,), (3, LIMIT + 1)):
        batch = batch_of(sequences(lengths))
        with pytest.raises(ValueError, match=r"25 tokens is too long here: beyond 24"):
            module(batch)
        with pytest.raises(ValueError, match=r"25 tokens is too long here: beyond 24"):
            scalar(batch, at="ends")
    with torch.inference_mode(), pytest.raises(ValueError, match=r"25 tokens is too long"):
        Decoding(module, [[3] * 5, [4] * 20], 5)
    model.save_pretrained(tmp_path)
    assert context_of(module) == context_at(tmp_path) == LIMIT


def test_limits_of_all_ways_to_write_them() -> None:
    size = {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64}
    long = {**LONGROPE, "original_max_position_embeddings": 16}
    assert rope_limit(hf.LlamaConfig(**size)) is None
    assert rope_limit(hf.GPT2Config()) is None
    assert rope_limit(hf.LlamaConfig(**size, rope_parameters={"rope_type": "linear", "factor": 2.0})) is None
    assert rope_limit(hf.LlamaConfig(**size, rope_parameters={"rope_type": "dynamic", "factor": 2.0})) == 64
    assert rope_limit(hf.LlamaConfig(**size, rope_parameters=long)) == 16
    assert (
        rope_limit(hf.Phi3Config(**size, original_max_position_embeddings=16, rope_parameters=LONGROPE)) == 16
    )
    assert rope_limit(hf.Phi3Config(**size, original_max_position_embeddings=16, rope_scaling=LONGROPE)) == 16
    per_kind = {"full_attention": long, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    assert rope_limit(hf.Gemma3TextConfig(**size, head_dim=8, rope_parameters=per_kind)) == 16
