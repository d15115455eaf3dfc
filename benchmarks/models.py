"""Models of random weights, and a tokenizer for which one word is one token, in folders that both sides load."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from benchmarks.work import SPECIAL, Shape, Work


def write_models(work: Work) -> None:
    """Write the policy and the scalar model of `work`, with their tokenizers."""
    tokenizer = _tokenizer(work.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = LlamaForCausalLM(_config(work.shape))
        scalar = LlamaForSequenceClassification(_config(work.shape, num_labels=1))
    _never_sample(policy, [0, 1])
    for model, folder in ((policy, work.policy), (scalar, work.scalar)):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _config(shape: Shape, **options: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **options,
    )


@torch.no_grad()
def _never_sample(model: PreTrainedModel, tokens: list[int]) -> None:
    """Give `tokens` logits so low that their probability is 0, whatever came before.

    One channel of the hidden state is made large and positive by every other token's (tied) embedding, and these
    tokens' embeddings are far on its negative side.
    """
    table: Any = model.get_input_embeddings().weight
    table[:, 0] = 0.5
    table[tokens, 0] = -30.0


def _tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), shape.vocabulary))]
    pad, eos, unknown = SPECIAL
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=eos, unk_token=unknown, model_max_length=4096
    )
