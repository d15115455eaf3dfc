"""The default tokenizer and model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.models.zoo import batch_of
from tutelage.models.tiny import tiny_model, train_tokenizer

CORPUS = [
    "The cat sat on the mat. It counted 1 2 3 birds and 4567 stars.",
    "How are you? I am well, thank you.",
] * 5
TOKENIZER = train_tokenizer(CORPUS, 320)
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "I am well."},
    {"role": "user", "content": "And the cat?"},
    {"role": "assistant", "content": "It sat on the mat."},
]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60).filter(lambda text: "<|" not in text))
def test_any_text_survives(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_digits_stand_alone_and_special_tokens_are_distinct() -> None:
    pieces = TOKENIZER.tokenize("In 4567 stars")
    assert [p for p in pieces if any(c.isdigit() for c in p)] == ["4", "5", "6", "7"]
    special = [
        TOKENIZER.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("pad", "eos", "system", "user", "assistant")
    ]
    assert len(set(special)) == 5
    assert (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id) == tuple(special[:2])
    assert len(TOKENIZER) <= 320 and TOKENIZER.encode("<|user|>") == [special[3]]


def test_the_template_marks_the_assistants_tokens_and_their_end() -> None:
    out = TOKENIZER.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    ids, marks = out["input_ids"], out["assistant_masks"]
    trained = [i for i, mark in zip(ids, marks, strict=True) if mark]
    assert TOKENIZER.decode(trained) == "I am well.<|eos|>It sat on the mat.<|eos|>"
    assert ids.count(TOKENIZER.eos_token_id) == 2


def test_training_text_starts_with_the_generation_prompt() -> None:
    prompt = TOKENIZER.apply_chat_template(CHAT[:2], add_generation_prompt=True, tokenize=False)
    whole = TOKENIZER.apply_chat_template(CHAT[:3], tokenize=False)
    assert prompt.endswith("<|assistant|>") and whole == prompt + "I am well.<|eos|>"


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(Exception, match="Unknown role wizard"):
        TOKENIZER.apply_chat_template([{"role": "wizard", "content": "x"}], tokenize=False)


def test_a_saved_tokenizer_comes_back_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "  Two  spaces, 42 cats <|eos|> !"
    assert again.encode(text) == TOKENIZER.encode(text) and again.decode(again.encode(text)) == text
    assert again.apply_chat_template(CHAT, tokenize=False) == TOKENIZER.apply_chat_template(
        CHAT, tokenize=False
    )
    assert (again.pad_token, again.eos_token) == (TOKENIZER.pad_token, TOKENIZER.eos_token)


def test_the_same_corpus_gives_the_same_tokenizer() -> None:
    assert train_tokenizer(iter(CORPUS), 320).get_vocab() == TOKENIZER.get_vocab()


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocab_size is 200.*at least 261"):
        train_tokenizer(CORPUS, 200)


def test_an_untrained_model_knows_nothing() -> None:
    """Loss ln V, within 0.1."""
    ids = torch.randint(0, len(TOKENIZER), (200,), generator=torch.Generator().manual_seed(0))
    logprobs = tiny_model(TOKENIZER)(batch_of([ids])).logprobs
    assert abs(float(-logprobs.detach().sum()) / 199 - math.log(len(TOKENIZER))) < 0.1


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one = tiny_model(TOKENIZER, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    same, other = tiny_model(TOKENIZER, seed=3), tiny_model(TOKENIZER, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.host.get_input_embeddings().weight, other.host.get_input_embeddings().weight)


def test_shapes_and_scales() -> None:
    model = tiny_model(TOKENIZER, hidden=64, layers=8, heads=4)
    layer = model.host.model.layers[0]
    into_residual, others = (
        float(layer.mlp.down_proj.weight.detach().std()),
        float(layer.mlp.up_proj.weight.detach().std()),
    )
    assert abs(into_residual / others - 1 / 4) < 0.01  # 1 / sqrt(2 layers)
    assert 5e5 < sum(p.numel() for p in tiny_model(train_tokenizer(CORPUS, 1024)).parameters()) < 3e6
    with pytest.raises(ValueError, match="hidden is 100 and heads is 3"):
        tiny_model(TOKENIZER, hidden=100, heads=3)


def test_it_can_learn_a_sequence_by_heart() -> None:
    model = tiny_model(TOKENIZER, hidden=32, layers=2, heads=2)
    batch = batch_of([torch.tensor([*TOKENIZER.encode(CORPUS[0]), TOKENIZER.eos_token_id])])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -model(batch).logprobs.sum() / (len(batch.ids) - 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
