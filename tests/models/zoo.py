"""Small random models of many architectures, large enough in their weights that every part of them matters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import transformers as hf
from torch import Tensor

from tutelage.data.batch import TokenBatch

VOCABULARY = 100
LENGTHS = (7, 3, 12, 1, 5)

_LLAMA_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
_GROUPED = dict(_LLAMA_LIKE, num_key_value_heads=2)
_GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.2,
}
_ENDS = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
_MIXED = ["sliding_attention", "full_attention"]

LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.5],
    "long_factor": [2.0, 3.0, 5.0, 9.0],
}

CONFIGS: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "llama": lambda: hf.LlamaConfig(**_GROUPED),
    "gpt2": lambda: hf.GPT2Config(**_GPT, **_ENDS),  # learned positions, dropout 0.1 as shipped
    "qwen2": lambda: hf.Qwen2Config(**_GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**_GROUPED, head_dim=16),
    "mistral": lambda: hf.MistralConfig(**_GROUPED, sliding_window=4),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_LLAMA_LIKE, hidden_dropout=0.1, attention_dropout=0.1),
    "gemma3": lambda: hf.Gemma3TextConfig(**_GROUPED, head_dim=8, sliding_window=4, layer_types=_MIXED),
    "gemma2": lambda: hf.Gemma2Config(
        **_GROUPED,
        head_dim=8,
        sliding_window=4,
        layer_types=_MIXED,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=None,
    ),
    "gemma2_capped": lambda: hf.Gemma2Config(
        **_GROUPED, head_dim=8, sliding_window=4, layer_types=_MIXED, final_logit_softcapping=1.5
    ),
    "gemma3_capped": lambda: hf.Gemma3TextConfig(
        **_GROUPED, head_dim=8, sliding_window=4, layer_types=_MIXED, final_logit_softcapping=1.5
    ),
    "nanochat": lambda: hf.NanoChatConfig(**_GROUPED, final_logit_softcapping=1.5),
    "phi3_long": lambda: hf.Phi3Config(
        **_GROUPED, original_max_position_embeddings=24, rope_parameters=LONGROPE
    ),
    "llama_dynamic": lambda: hf.LlamaConfig(
        **dict(_GROUPED, max_position_embeddings=24), rope_parameters={"rope_type": "dynamic", "factor": 4.0}
    ),
    "granite": lambda: hf.GraniteConfig(**_GROUPED, logits_scaling=8.0),
    "gptj": lambda: hf.GPTJConfig(**_GPT, **_ENDS, rotary_dim=4),
    "bloom": lambda: hf.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2
    ),
}
FLAT = (
    "llama",
    "gpt2",
    "qwen2",
    "qwen3",
    "mistral",
    "gpt_neox",
    "gemma3",
    "gemma2",
    "gemma2_capped",
    "gemma3_capped",
    "nanochat",
    "granite",
    "phi3_long",
    "llama_dynamic",
)
PADDED = ("gptj", "bloom")


def build(name: str, seed: int = 0) -> hf.PreTrainedModel:
    """An unprepared causal language model with eager attention, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = hf.AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="eager")
        for parameter in model.parameters():  # biases and norms too, so that none is a no-op
            if parameter.dim() == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def twin(model: hf.PreTrainedModel) -> hf.PreTrainedModel:
    return copy.deepcopy(model)


def sequences(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (n,), generator=generator) for n in lengths]


def batch_of(parts: Sequence[Tensor], masks: Sequence[Tensor] | None = None) -> TokenBatch:
    loss_mask = torch.cat(list(masks)) if masks else torch.ones(sum(map(len, parts)), dtype=torch.bool)
    return TokenBatch(torch.cat(list(parts)), tuple(map(len, parts)), loss_mask, tuple(range(len(parts))))


def logits_alone(model: hf.PreTrainedModel, parts: Sequence[Tensor]) -> Tensor:
    """[N, V]: every sequence by itself through transformers' own forward."""
    return torch.cat([model(input_ids=part[None]).logits[0] for part in parts])
