"""Averages of models: exact where they must be, refused where they mean nothing, and what theory says of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor

from tests.models.zoo import CONFIGS, sequences
from tests.oracle import BETA, SEQUENCES, oracle
from tutelage.models import stored as on_disk
from tutelage.models.loading import load_policy, load_scalar, load_tokenizer, policy_module, save
from tutelage.models.lora import add_lora, export_adapter
from tutelage.models.soup import averaged, check_alike, write_soup
from tutelage.models.stored import Stored, stored
from tutelage.models.tiny import train_tokenizer

TEXT = "The cat sat on the mat and looked at 17 birds."


@pytest.fixture(scope="module")
def tokenizer() -> hf.PreTrainedTokenizerFast:
    return train_tokenizer([TEXT], 280)


def made(
    folder: Path, tokenizer: hf.PreTrainedTokenizerFast, seed: int, *, kind: str = "llama", **other: object
) -> Path:
    """A model of random weights in a folder."""
    config = CONFIGS[kind]()
    dtype = other.pop("dtype", torch.float32)
    for name, value in {"vocab_size": len(tokenizer), **other}.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    save(policy_module(hf.AutoModelForCausalLM.from_config(config).to(dtype), "x"), tokenizer, folder)  # type: ignore[arg-type]
    return folder


def soup(folder: Path, weights: list[float], *models: Path) -> Path:
    opened = [stored(f"m{i}", str(path), folder.parent / f"scratch-{i}") for i, path in enumerate(models)]
    write_soup(folder, opened, weights, check_alike(opened), {"of": weights}, lambda: None)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    opened = stored("x", str(folder), folder)
    return {name: opened.read(name) for name in opened.files}


def bits(one: Path, other: Path) -> bool:
    ours, theirs = tensors(one), tensors(other)
    same = ((ours[name], theirs[name]) for name in ours)
    return set(ours) == set(theirs) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in same)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_must_be_exact_is_exact_to_the_bit(dtype: torch.dtype, tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a, b = (made(tmp_path / name, tokenizer, seed, dtype=dtype) for seed, name in enumerate("ab"))
    for number, weights in enumerate(([0.5, 0.5], [0.1, 0.9], [1 / 3, 2 / 3])):
        assert bits(soup(tmp_path / f"same-{number}", weights, a, a), a)
    assert bits(soup(tmp_path / "first", [1.0, 0.0], a, b), a)
    assert bits(soup(tmp_path / "second", [0.0, 1.0], a, b), b)
    assert not bits(tmp_path / "first", b)
    quarter = tensors(soup(tmp_path / "quarter", [0.25, 0.75], a, b))
    for name, found in quarter.items():
        wanted = (tensors(a)[name].double() + 3 * tensors(b)[name].double()) / 4
        assert torch.equal(found, wanted.to(dtype)), name
    assert load_policy(tmp_path / "quarter", dtype=dtype).config.dtype == dtype


@pytest.mark.parametrize(
    "kind, is_tied", [("llama", True), ("llama", False), ("gpt2", True), ("qwen3", True)]
)
def test_plain_transformers_loads_it_and_ties_stay(
    kind: str, is_tied: bool, tokenizer, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    a, b = (
        made(tmp_path / n, tokenizer, s, kind=kind, tie_word_embeddings=is_tied) for s, n in enumerate("ab")
    )
    folder = soup(tmp_path / "soup", [0.3, 0.7], a, b)
    plain, info = hf.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inner, outer = plain.get_input_embeddings().weight, plain.get_output_embeddings().weight
    assert (inner is outer) == is_tied == plain.config.tie_word_embeddings
    one, other = (hf.AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (a, b))
    for name, found in plain.state_dict().items():
        assert torch.allclose(found, 0.3 * one[name] + 0.7 * other[name], atol=1e-7), name
    (ids,) = sequences((7,))
    ours = load_policy(folder).host
    with torch.no_grad():
        assert torch.allclose(ours(input_ids=ids[None]).logits, plain(input_ids=ids[None]).logits, atol=1e-5)
    assert hf.AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert plain.generation_config.eos_token_id == hf.GenerationConfig.from_pretrained(a).eos_token_id
    assert json.loads((folder / "soup.json").read_text()) == {"of": [0.3, 0.7]}


def test_files_are_cut_where_they_grow_too_large(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    a, b = (made(tmp_path / name, tokenizer, seed) for seed, name in enumerate("ab"))
    whole = soup(tmp_path / "whole", [0.5, 0.5], a, b)
    monkeypatch.setattr(on_disk, "SHARD", 20_000)
    cut = soup(tmp_path / "cut", [0.5, 0.5], a, b)
    assert len(list(cut.glob("model-*.safetensors"))) > 2 and not list(cut.glob("part-*"))
    assert bits(cut, whole)
    plain = hf.AutoModelForCausalLM.from_pretrained(cut).state_dict()
    assert all(torch.equal(plain[name], value) for name, value in tensors(whole).items())
    assert bits(soup(tmp_path / "again", [1.0, 0.0], cut, a), whole)  # what is cut is read


def test_an_adapter_is_merged_first(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    base = made(tmp_path / "base", tokenizer, 0)
    module = add_lora(load_policy(base), 2, 4.0)
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    export_adapter(module, tmp_path / "adapter", str(base))
    save(module, tokenizer, tmp_path / "merged")
    found = tensors(soup(tmp_path / "soup", [0.5, 0.5], tmp_path / "adapter", base))
    merged, plain = tensors(tmp_path / "merged"), tensors(base)
    assert any(not torch.equal(merged[name], plain[name]) for name in plain)
    for name, value in found.items():
        assert torch.allclose(value, (merged[name] + plain[name]) / 2, atol=1e-6), name
    (base / "extra.txt").write_text("changed")
    with pytest.raises(ValueError, match=r"has changed since the adapter in .* was trained on it"):
        soup(tmp_path / "late", [0.5, 0.5], tmp_path / "adapter", base)


def test_weights_in_old_files_are_read(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a, b = (made(tmp_path / name, tokenizer, seed) for seed, name in enumerate("ab"))
    old = tmp_path / "old"
    hf.AutoConfig.from_pretrained(a).save_pretrained(old)
    tokenizer.save_pretrained(old)
    torch.save(hf.AutoModelForCausalLM.from_pretrained(a).state_dict(), old / "pytorch_model.bin")
    assert bits(soup(tmp_path / "soup", [0.5, 0.5], old, b), soup(tmp_path / "same", [0.5, 0.5], a, b))


def test_models_that_mean_different_things_are_refused(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a = made(tmp_path / "a", tokenizer, 0)
    other = train_tokenizer(["Entirely different words, and other pieces of them."], 280)
    reward = tmp_path / "reward"
    save(load_scalar(a), tokenizer, reward)
    template = copy.deepcopy(tokenizer)
    template.chat_template = "{{ messages[0]['content'] }}"
    wrong = {
        "m1 has another tokenizer than m0": made(tmp_path / "t", other, 0, vocab_size=len(tokenizer)),
        "m1 has another chat template than m0": made(tmp_path / "c", template, 0),
        "m1 has num_hidden_layers=3 where m0 has": made(tmp_path / "l", tokenizer, 0, num_hidden_layers=3),
        "m0 is a llama and m1 a gpt2": made(tmp_path / "g", tokenizer, 0, kind="gpt2"),
        "m0 is a language model and m1 a reward model": reward,
    }
    for message, path in wrong.items():
        with pytest.raises(ValueError, match=message):
            soup(tmp_path / "soup", [0.5, 0.5], a, path)
    with pytest.raises(ValueError, match="holds no model"):
        (tmp_path / "empty").mkdir()
        soup(tmp_path / "soup", [0.5, 0.5], a, tmp_path / "empty")
    assert not (tmp_path / "soup").exists()


def test_what_is_not_finite_is_refused_by_name(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    a, b = (made(tmp_path / name, tokenizer, seed) for seed, name in enumerate("ab"))
    broken = load_policy(b)
    with torch.no_grad():
        broken.host.model.norm.weight[0] = float("inf")
    save(broken, tokenizer, tmp_path / "broken")
    with pytest.raises(ValueError, match="model\\.norm\\.weight has values that are not finite"):
        soup(tmp_path / "soup", [0.5, 0.5], a, tmp_path / "broken")
    assert not (tmp_path / "soup").exists()
    assert bits(
        soup(tmp_path / "first", [1.0, 0.0], a, tmp_path / "broken"), a
    )  # of weight 0 nothing is read


def test_reward_models_are_averaged_and_forget_the_spread_of_their_scores(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    base = made(tmp_path / "base", tokenizer, 0)
    for name, std in (("a", 2.0), ("b", 3.0)):
        model = load_scalar(base, seed=ord(name))
        model.config.tutelage_score_mean, model.config.tutelage_score_std = 0.0, std
        save(model, tokenizer, tmp_path / name)
    found = load_scalar(soup(tmp_path / "soup", [0.5, 0.5], tmp_path / "a", tmp_path / "b"))
    heads = [load_scalar(tmp_path / name).head.weight for name in "ab"]
    assert torch.allclose(found.head.weight, (heads[0] + heads[1]) / 2)
    assert getattr(found.config, "tutelage_score_std", None) is None
    assert load_tokenizer(tmp_path / "soup").get_vocab() == tokenizer.get_vocab()


def test_of_log_linear_policies_the_soup_is_the_scalarised_optimum() -> None:
    """With theta the logits of whole sequences, the optimum for a reward r is theta_ref + r / beta, so that the average of two
    optima is the optimum of the average reward: total variation 0 for every weight."""
    world = oracle()
    generator = torch.Generator().manual_seed(2)
    rewards = torch.randn(2, len(SEQUENCES), generator=generator).double()
    optima = [world.ref_logprobs + reward / BETA for reward in rewards]
    for weight in (0.0, 0.25, 0.5, 0.9, 1.0):
        found = torch.softmax(averaged(optima, [weight, 1 - weight], torch.float64), 0)
        mixed = weight * rewards[0] + (1 - weight) * rewards[1]
        wanted = torch.softmax(world.ref_logprobs + mixed / BETA, 0)
        assert (found - wanted).abs().sum() / 2 < 1e-12
    # An average of probabilities is another policy.
    half = sum(torch.softmax(one, 0) for one in optima) / 2
    assert (half - torch.softmax((optima[0] + optima[1]) / 2, 0)).abs().sum() / 2 > 0.05


def test_a_tensor_is_read_when_it_is_asked_for(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    """One tensor of each model at a time: they come in turns."""
    a, b = (made(tmp_path / name, tokenizer, seed) for seed, name in enumerate("ab"))
    asked: list[tuple[str, str]] = []
    read = Stored.read

    def noting(self: Stored, tensor: str) -> Tensor:
        asked.append((self.name, tensor))
        return read(self, tensor)

    monkeypatch.setattr(Stored, "read", noting)
    soup(tmp_path / "soup", [0.5, 0.5], a, b)
    assert [name for name, _ in asked] == ["m0", "m1"] * (len(asked) // 2)
    assert all(one == other for (_, one), (_, other) in zip(asked[::2], asked[1::2], strict=True))
