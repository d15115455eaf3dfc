"""The default model: a byte-level BPE trained on the corpus at hand, and a Llama of one to three million parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tutelage.models.loading import PAD, policy_module
from tutelage.models.policy import PolicyModule
from tutelage.seeds import torch_generator

EOS = "<|eos|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# One template for training and generation: the generation marks say which tokens are the assistant's, EOS included.
# Tools, calls and what tools answer are written as text in the turns of the system, the assistant and the user.
CHAT_TEMPLATE = (
    "{%- if tools -%}"
    "{{ '<|system|>' }}"
    "{%- if messages[0]['role'] == 'system' -%}{{ messages[0]['content'] + '\n\n' }}{%- endif -%}"
    "{{ 'Tools:' }}"
    "{%- for tool in tools -%}{{ '\n' + (tool['function'] | tojson) }}{%- endfor -%}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}"
    "{{ raise_exception('Unknown role ' + message['role'] + '; known are system, user, assistant, tool.') }}"
    "{%- endif -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<|assistant|>' }}"
    "{%- generation -%}{{ message['content'] }}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{{ '<tool_call>' + ({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson)"
    " + '</tool_call>' }}"
    "{%- endfor -%}{{ eos_token }}{%- endgeneration -%}"
    "{%- elif message['role'] == 'tool' -%}"
    "{{ '<|user|><tool_response>' + message['content'] + '</tool_response>' }}"
    "{%- elif not (tools and loop.first and message['role'] == 'system') -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocab_size` tokens: any text survives encode and decode, digits stand alone.

    Raises ValueError when `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    special = [PAD, EOS, *ROLES]
    least = 256 + len(special)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size is {vocab_size}; it must be at least {least}: 256 bytes and the special tokens."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def tiny_config(vocab_size: int, *, hidden: int, layers: int, heads: int, context: int) -> LlamaConfig:
    """What the tiny model is.  Raises ValueError for a width that its heads cannot share."""
    if hidden % heads or hidden // heads % 2:
        raise ValueError(
            f"hidden is {hidden} and heads is {heads}; hidden / heads must be an even whole number."
        )
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=hidden * 11 // 4,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        pad_token_id=None,
        eos_token_id=None,
        bos_token_id=None,
    )


def tiny_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int = 128,
    layers: int = 4,
    heads: int = 4,
    context: int = 1024,
    seed: int = 0,
) -> PolicyModule:
    """An untrained Llama, about 1 M parameters as it stands, prepared like a loaded model.

    Made to learn fast at this size.  Embeddings are N(0, 1) and apart from the output layer, which is N(0, 0.02^2): tied
    to it, and at the usual 0.02, the model needs several times as many tokens until it copies from its prompt.  Other
    matrices are N(0, 1 / hidden), projections back into the residual stream times 1/sqrt(2 layers) (GPT-2's rule).
    All are drawn from `seed` alone; the global random state stays as it was.
    """
    config = tiny_config(len(tokenizer), hidden=hidden, layers=layers, heads=heads, context=context)
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                std = {"model.embed_tokens.weight": 1.0, "lm_head.weight": 0.02}.get(name, hidden**-0.5)
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * layers) ** 0.5
                weight.normal_(0.0, std, generator=torch_generator(seed, "tiny model", name))
    return policy_module(model, "tiny")
