"""Plain transformers generates from exported folders what our own sampling does, and stops where it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

from tests.data.kit import CHATML
from tutelage.models.ends import end_ids
from tutelage.models.loading import fit_embeddings, load_policy, load_tokenizer, policy_module, save
from tutelage.models.lora import add_lora
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import train_tokenizer
from tutelage.records import Message, Prompt
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) "
    "+ '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Template, special tokens by role, further control tokens (the first ends a turn), config.
SHAPES = {
    "qwen": (
        CHATML,
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        ["<|im_end|>", "<|im_start|>"],
        hf.Qwen2Config,
    ),
    "llama3": (
        LLAMA3,
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        hf.LlamaConfig,
    ),
    "gemma": (
        GEMMA,
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        ["<end_of_turn>", "<start_of_turn>"],
        hf.Gemma3TextConfig,
    ),
}
PROMPTS = [
    Prompt((Message("user", text),))
    for text in ("How many cats?", "the mat", "Tell me of the birds, please.")
]
GREEDY = Sampling(24, temperature=0.0)


def tokenizer_of(shape: str) -> hf.PreTrainedTokenizerFast:
    template, special, controls, _ = SHAPES[shape]
    inner = train_tokenizer(["How many cats sat on the mat? Tell me of the birds."], 280)._tokenizer
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=template)
    tokenizer.add_special_tokens({**special, "additional_special_tokens": controls})
    return tokenizer


def model_of(shape: str, tokenizer: hf.PreTrainedTokenizerFast) -> PolicyModule:
    """Random, and it ends its turn in the middle of a greedy answer to the first prompt."""
    *_, kind = SHAPES[shape]
    config = kind(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=48, max_position_embeddings=128, initializer_range=0.3, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = policy_module(hf.AutoModelForCausalLM.from_config(config).eval(), shape)
    free = LocalGenerator(module, tokenizer).generate(PROMPTS[:1], GREEDY)[0].ids
    place = next(i for i in range(4, 24) if free[i] not in free[:i])
    head = module.host.get_output_embeddings().weight.data
    head[turn_end(shape, tokenizer)] = (
        1.05 * head[free[place]]
    )  # likelier than that token, so it comes there first
    return module


def turn_end(shape: str, tokenizer: hf.PreTrainedTokenizerFast) -> int:
    found: int = tokenizer.convert_tokens_to_ids(SHAPES[shape][2][0])
    return found


@pytest.mark.parametrize("form", ["whole", "adapter"])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_plain_generate_stops_where_our_sampling_stops(shape: str, form: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(shape)
    module = model_of(shape, tokenizer)
    if form == "adapter":
        module = add_lora(module, rank=2, alpha=4.0)
    ours = LocalGenerator(module, tokenizer).generate(PROMPTS, GREEDY)
    assert ours[0].finish == "eos" and ours[0].ids[-1] == turn_end(shape, tokenizer)
    own = module.host.generation_config.to_dict()
    save(module, tokenizer, tmp_path)
    assert module.host.generation_config.to_dict() == own  # saving changes nothing
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    plain_tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
    assert plain_tokenizer.get_vocab() == tokenizer.get_vocab()
    for response in ours:
        ids = plain_tokenizer.apply_chat_template(
            response.prompt.content_json(), add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        assert tuple(ids[0].tolist()) == response.prompt_ids
        found = plain.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
        assert tuple(found.tolist()) == response.ids


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_an_export_is_the_same_when_it_is_exported_again(shape: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(shape)
    module = policy_module(model_of(shape, tokenizer).host, shape)
    wanted = sorted({tokenizer.eos_token_id, turn_end(shape, tokenizer)})
    assert end_ids(module.host, tokenizer) == wanted
    for name in ("a", "b"):
        save(module, tokenizer, tmp_path / name)
        module, tokenizer = load_policy(tmp_path / name), load_tokenizer(tmp_path / name)
        fit_embeddings(module, tokenizer)
        written = hf.GenerationConfig.from_pretrained(tmp_path / name)
        assert written.eos_token_id == wanted and 0 <= written.pad_token_id < len(tokenizer)


def test_ends_that_the_model_brings_stay(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("llama3")
    module = model_of("llama3", tokenizer)
    module.host.generation_config.eos_token_id = [7, 3]
    save(module, tokenizer, tmp_path)
    assert set(hf.GenerationConfig.from_pretrained(tmp_path).eos_token_id) == {
        3, 7, tokenizer.eos_token_id, turn_end("llama3", tokenizer),
    }  # fmt: skip


def test_what_transformers_would_not_write_does_not_stop_an_export(tmp_path: Path) -> None:
    """Sampling settings without do_sample, as the first Llama 2 came: transformers loads them and refuses to save them."""
    tokenizer = tokenizer_of("qwen")
    module = model_of("qwen", tokenizer)
    config = module.host.generation_config
    config.temperature, config.top_p, config.repetition_penalty = 0.9, 0.6, 1.1
    save(module, tokenizer, tmp_path / "greedy")
    written = hf.GenerationConfig.from_pretrained(tmp_path / "greedy")
    assert written.temperature is None and written.repetition_penalty == 1.1
    config.do_sample = True
    save(module, tokenizer, tmp_path / "sampling")
    written = hf.GenerationConfig.from_pretrained(tmp_path / "sampling")
    assert (written.do_sample, written.temperature, written.top_p) == (True, 0.9, 0.6)
