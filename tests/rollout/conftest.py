"""Tiny models with peaked distributions, a tokenizer of digits, and a way to score ids without any of our code."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tutelage.models.loading import policy_module
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import train_tokenizer
from tutelage.records import Prompt

CONTEXT = 96
WORDS = ["one two three", "a small town by the sea", "0123456789", "what is it", "hello " * 8]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(WORDS, 280)


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    """Ragged: 1 to about 30 tokens."""
    texts = [
        "what",
        "one two three",
        "a small town by the sea",
        "7",
        "hello hello hello x",
        "the sea 0123 is it",
    ]
    return [Prompt(text) for text in texts]


def build(kind: str, vocabulary: int = 280) -> PreTrainedModel:
    """A model of random weights; larger ones than the usual initialisation, so that its choices differ by context."""
    size = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    wide = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel
        if kind == "llama":
            model = LlamaForCausalLM(LlamaConfig(**size, **wide, num_key_value_heads=2))
        elif kind == "qwen":
            model = Qwen2ForCausalLM(Qwen2Config(**size, **wide, num_key_value_heads=2))
        elif kind == "neox":
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**size, **wide))
        else:
            model = GPT2LMHeadModel(
                GPT2Config(**size, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.3)
            )
    return model.eval()


def prepared(kind: str, vocabulary: int = 280) -> PolicyModule:
    return policy_module(build(kind, vocabulary), kind)


@torch.no_grad()
def exact_logprobs(
    model: PreTrainedModel, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float
):
    """float64 [T]: one unpadded forward of a plain transformers model over prompt and response."""
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double() / temperature
    logprobs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, torch.tensor(response)[:, None]).squeeze(-1)
