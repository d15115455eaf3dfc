"""Folders in and out: what loads, what is refused and how, and that nothing changes on the way."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, normalizers
from torch import nn

from tests.models.zoo import CONFIGS, batch_of, build, sequences, twin
from tutelage.models.loading import (
    fit_embeddings,
    load_policy,
    load_scalar,
    load_tokenizer,
    policy_module,
    same_tokenizer,
    save,
    score_normalisation,
    set_pooling,
    set_score_normalisation,
)
from tutelage.models.tiny import tiny_model, train_tokenizer

TEXT = "The cat sat on the mat and looked at 17 birds."


@pytest.fixture(scope="module")
def tokenizer() -> hf.PreTrainedTokenizerFast:
    return train_tokenizer([TEXT], 280)


def bare_tokenizer(folder: Path, **special: str) -> Path:
    """A tokenizer as found in the wild: whatever special tokens are given, no chat template."""
    inner = train_tokenizer([TEXT], 280)._tokenizer
    hf.PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    return folder


def logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids[None]).logits[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gpt_neox"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_loads_plainly_with_equal_logits(name, tied, tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = CONFIGS[name]()
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    (ids,) = sequences((9,))
    model.save_pretrained(tmp_path / "a")
    ours = load_policy(tmp_path / "a")
    save(ours, tokenizer, tmp_path / "b")
    assert list((tmp_path / "b").glob("*.safetensors")) and not list((tmp_path / "b").glob("*.bin"))
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "b", attn_implementation="eager")
    model.set_attn_implementation("eager")
    assert torch.equal(logits(plain, ids), logits(model, ids))
    assert plain.config.tie_word_embeddings == tied
    assert (logits(load_policy(tmp_path / "b").host, ids) - logits(model, ids)).abs().max() < 1e-5
    assert "tutelage" not in json.loads((tmp_path / "b" / "config.json").read_text()).get(
        "attn_implementation", ""
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_a_fresh_scalar_head_follows_the_rule_and_the_seed(name, tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    build(name).save_pretrained(tmp_path / "lm")
    before = torch.random.get_rng_state()
    one, same, other = (load_scalar(tmp_path / "lm", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weight = one.head.weight
    assert one.head.bias is None and weight.shape == (1, 32)
    assert torch.equal(weight, same.head.weight) and not torch.equal(weight, other.head.weight)
    assert 0.7 < float(weight.detach().std()) * 33**0.5 < 1.3
    assert one.config.num_labels == 1
    save(one, tokenizer, tmp_path / "rm")
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    (ids,) = sequences((9,))
    with torch.no_grad():
        score = plain(input_ids=ids[None]).logits[0, 0]
        assert (load_scalar(tmp_path / "rm")(batch_of([ids]), at="ends")[0] - score).abs() < 1e-5
        assert torch.equal(plain.score.weight, weight)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_pooled_score_is_the_mean_of_a_plain_token_classifiers_logits(heads, tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    build("llama").save_pretrained(tmp_path / "lm")
    model = load_scalar(tmp_path / "lm", heads=heads)
    set_pooling(model, "mean")
    save(model, tokenizer, tmp_path / "rm")
    plain = hf.AutoModelForTokenClassification.from_pretrained(tmp_path / "rm")
    rows = sequences((9, 5, 3))
    batch = batch_of(rows)
    starts = (4, 2, 3)  # of the responses; the last has none
    mask = torch.cat([torch.arange(len(row)) >= start for row, start in zip(rows, starts, strict=True)])
    batch = dataclasses.replace(batch, loss_mask=mask)
    with torch.no_grad():
        found = load_scalar(tmp_path / "rm")(batch, at="ends").view(3, heads)
        for score, ids, start in zip(found[:2], rows, starts, strict=False):
            logits = plain(input_ids=ids[None]).logits[0, start:]
            assert torch.allclose(score, logits.mean(0), atol=1e-5)
    assert not found[2].any()


def test_a_model_that_starts_from_a_pooled_one_is_pooled_only_where_that_is_said(tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    build("llama").save_pretrained(tmp_path / "lm")
    model = load_scalar(tmp_path / "lm")
    set_pooling(model, "mean")
    save(model, tokenizer, tmp_path / "rm")
    again = load_scalar(tmp_path / "rm")
    assert again.pooling == "mean"
    set_pooling(again, "last")
    assert again.pooling == "last"


def test_score_normalisation_travels_with_the_checkpoint(tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    build("llama").save_pretrained(tmp_path / "lm")
    model = load_scalar(tmp_path / "lm")
    assert score_normalisation(model) is None
    set_score_normalisation(model, -1.25, 2.5)
    save(model, tokenizer, tmp_path / "rm")
    assert score_normalisation(load_scalar(tmp_path / "rm")) == (-1.25, 2.5)


def test_no_dropout_is_left_anywhere(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name in ("gpt2", "gpt_neox"):
        build(name).save_pretrained(tmp_path / name)
        for model in (load_policy(tmp_path / name), load_scalar(tmp_path / name)):
            model.train()
            assert not [m for m in model.modules() if isinstance(m, nn.Dropout) and m.p > 0]
            batch = batch_of(sequences())
            assert torch.equal(model.hidden_states(batch), model.hidden_states(batch))


class Odd(hf.LlamaForCausalLM):
    """Changes its logits in a way of its own."""

    def forward(self, *args: object, **kwargs: object) -> object:
        out = super().forward(*args, **kwargs)
        out.logits = out.logits - 0.1 * out.logits**3
        return out


def test_models_whose_logits_are_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match=r"The model odd \(Odd\) changes its logits after the output layer"):
        policy_module(Odd(CONFIGS["llama"]()), "odd")


@pytest.mark.parametrize("name", ["gemma2_capped", "gemma3_capped", "nanochat"])
def test_caps_of_logits_are_found(name: str) -> None:
    model = build(name)
    assert (model(input_ids=torch.arange(9)[None]).logits.abs() > 1.2).any()  # the cap bends them
    traits = policy_module(model, name).traits
    assert (traits.logit_cap, traits.logit_scale) == (1.5, 1.0)
    model.config.final_logit_softcapping = None
    assert policy_module(model, name).traits.logit_cap is None


def test_scaled_logits_are_found() -> None:
    assert policy_module(build("granite"), "granite").traits.logit_scale == 1 / 8


def test_what_is_missing_is_said_in_one_sentence(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    CONFIGS["llama"]().save_pretrained(tmp_path / "half")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{not json")
    cases = [
        (load_policy, tmp_path / "nowhere", "There is no folder"),
        (load_policy, tmp_path / "empty", "no config.json"),
        (load_policy, tmp_path / "half", "Cannot load a model .*check that all its files"),
        (load_policy, tmp_path / "broken", "Cannot load a model"),
        (load_scalar, tmp_path / "nowhere", "There is no folder"),
        (load_tokenizer, tmp_path / "nowhere", "There is no folder"),
        (load_tokenizer, tmp_path / "half", "Cannot load a tokenizer"),
        (load_policy, "nobody/no-such-model", "no model of that name .*HF_HUB_OFFLINE is set"),
        (load_tokenizer, "nobody/no-such-model", "no tokenizer of that name .*HF_HUB_OFFLINE is set"),
    ]
    for load, path, sentence in cases:
        with pytest.raises(ValueError, match=sentence) as caught:
            load(path)
        message = str(caught.value)
        assert str(path) in message and "\n" not in message and len(message) < 400, message


def test_a_scalar_model_is_no_policy(tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    build("llama").save_pretrained(tmp_path / "lm")
    save(load_scalar(tmp_path / "lm"), tokenizer, tmp_path / "rm")
    with pytest.raises(ValueError, match="scalar model"):
        load_policy(tmp_path / "rm")


def test_a_checkpoint_without_some_weights_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = build("llama")
    state = {name: value for name, value in model.state_dict().items() if "layers.1.mlp" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    for load in (load_policy, load_scalar):
        with pytest.raises(ValueError, match=r"lacks weights .*layers\.1\.mlp"):
            load(tmp_path)


@pytest.mark.parametrize(
    "special", [{"eos_token": "<|eos|>"}, {"eos_token": "<|eos|>", "pad_token": "<|eos|>"}]
)
def test_no_padding_token_is_added(special, tmp_path, caplog) -> None:  # type: ignore[no-untyped-def]
    """As GPT-2's and Llama 2's: tokenizer and model stay as they are, and plain transformers uses the exports."""
    inner = train_tokenizer([TEXT], 280)._tokenizer.to_str().replace("<|pad|>", "<|nothing|>")
    bare = hf.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(inner), **special)
    bare.save_pretrained(tmp_path / "bare")
    tokenizer = load_tokenizer(tmp_path / "bare")
    assert tokenizer.get_vocab() == bare.get_vocab() and tokenizer.pad_token == special.get("pad_token")
    config = CONFIGS["gpt2"]()
    config.vocab_size, config.pad_token_id, config.eos_token_id = len(bare), None, bare.eos_token_id
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "lm")
    policy, scalar = load_policy(tmp_path / "lm"), load_scalar(tmp_path / "lm")
    for model, folder in ((policy, tmp_path / "a"), (scalar, tmp_path / "b")):
        before = model.host.get_input_embeddings().weight
        fit_embeddings(model, tokenizer)
        assert model.host.get_input_embeddings().weight is before
        save(model, tokenizer, folder)
        assert load_tokenizer(folder).get_vocab() == bare.get_vocab()
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    caplog.clear()
    plain.generate(
        torch.tensor([[9, 8, 7], [4, 5, 6]]), max_new_tokens=5, attention_mask=torch.ones(2, 3).long()
    )
    assert not caplog.records and plain.generation_config.pad_token_id == bare.eos_token_id
    ids = torch.tensor([9, 8, 7, bare.eos_token_id])  # the score is that at the end, which is no padding
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "b")
    found, wanted = plain(input_ids=ids[None]).logits[0, 0], scalar(batch_of([ids]), at="ends")[0]
    assert (found - wanted).abs() < 1e-5


def test_a_padding_token_that_is_there_is_taken(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for number, special in enumerate(
        ({"eos_token": "<|eos|>"}, {"eos_token": "<|eos|>", "pad_token": "<|eos|>"})
    ):
        tokenizer = load_tokenizer(bare_tokenizer(tmp_path / str(number), **special))
        assert tokenizer.pad_token == "<|pad|>" and tokenizer.pad_token_id != tokenizer.eos_token_id
        assert len(tokenizer) == len(train_tokenizer([TEXT], 280))
    fine = load_tokenizer(bare_tokenizer(tmp_path / "fine", eos_token="<|eos|>", pad_token="a"))
    assert fine.pad_token == "a"
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        load_tokenizer(bare_tokenizer(tmp_path / "endless"))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_embeddings_grow_for_a_new_token_and_old_logits_stay(name: str, tmp_path: Path) -> None:
    """A tokenizer whose pad is new (id = size of the vocabulary): room in the model, the rest as it was, also reloaded."""
    inner = train_tokenizer([TEXT], 280)._tokenizer
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|eos|>")
    tokenizer.add_special_tokens({"pad_token": "<|filler|>"})
    config = CONFIGS[name]()
    config.vocab_size = len(tokenizer) - 1
    torch.manual_seed(0)
    model = policy_module(hf.AutoModelForCausalLM.from_config(config).eval(), name)
    (ids,) = sequences((9,))
    before = logits(model.host, ids)
    fit_embeddings(model, tokenizer)
    after = logits(model.host, ids)
    assert after.shape[1] == len(tokenizer)
    assert torch.allclose(after[:, :-1], before, atol=1e-6)
    assert torch.allclose(after[:, -1], before.mean(1), atol=1e-5)  # never likelier than the average token
    assert model.config.pad_token_id == tokenizer.pad_token_id
    save(model, tokenizer, tmp_path)
    assert torch.equal(logits(load_policy(tmp_path).host, ids), after)
    assert load_tokenizer(tmp_path).pad_token == "<|filler|>"
    fit_embeddings(model, tokenizer)  # nothing left to do
    assert torch.equal(logits(model.host, ids), after)


def test_a_run_folder_stands_for_the_model_in_it(tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = tiny_model(tokenizer, hidden=32, layers=1, heads=2)
    save(model, tokenizer, tmp_path / "run" / "model")
    (ids,) = sequences((9,))
    assert torch.equal(logits(load_policy(tmp_path / "run").host, ids), logits(model.host, ids))
    assert load_tokenizer(tmp_path / "run").get_vocab() == tokenizer.get_vocab()


def test_saving_replaces_a_folder_whole_or_not_at_all(tokenizer, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model = policy_module(twin(build("llama")), "llama")
    save(model, tokenizer, tmp_path / "m")
    kept = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        save(model, tokenizer, tmp_path / "m")
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == kept


def test_tokenizers_are_the_same_when_their_ids_mean_the_same_and_text_is_cut_alike() -> None:
    one, other = (train_tokenizer([TEXT, words], 270) for words in ("", "zebras quack " * 9))
    assert len(one) == len(other) and not same_tokenizer(one, other)
    lion, tiger = copy.deepcopy(one), copy.deepcopy(one)
    lion.add_tokens(["<lion>"])
    tiger.add_tokens(["<tiger>"])
    assert len(lion) == len(tiger) and not same_tokenizer(lion, tiger)
    padding = copy.deepcopy(one)
    padding.pad_token = padding.eos_token
    assert same_tokenizer(one, padding)
    for change in (normalizers.Lowercase(), normalizers.NFC(), normalizers.Replace("  ", " ")):
        cutting = copy.deepcopy(one)
        cutting.backend_tokenizer.normalizer = change
        assert cutting.get_vocab() == one.get_vocab() and not same_tokenizer(one, cutting), change
