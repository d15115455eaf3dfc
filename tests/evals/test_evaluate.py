"""KL and held-out loss against independent truths, and the command `eval` on tiny models from prompts to rows."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tutelage.data.template import tokenize_document
from tutelage.evals import drift, entrants, language, report
from tutelage.evals.folders import find
from tutelage.evals.overlap import bleu
from tutelage.evals.rows import read as read_results
from tutelage.files import write_jsonl_atomic
from tutelage.launch import launch
from tutelage.models.loading import fit_embeddings, load_policy, save
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.parallel import World
from tutelage.records import Document, Prompt
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import load
from tutelage.settings.evals import EvalSettings
from tutelage.worlds import world

CPU = World(torch.device("cpu"))
TEXTS = ["the cat sat on the mat.", "a dog ran to the cat.", "größer als 1 + 2 = 3."]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS * 5, vocab_size=280)


def model(tokenizer: PreTrainedTokenizerFast, seed: int, scale: float = 1.0) -> PolicyModule:
    made = tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=64, seed=seed)
    with torch.no_grad():
        made.host.get_output_embeddings().weight.mul_(scale)
    return made


@pytest.mark.slow
def test_kl_is_that_of_the_whole_distribution(tokenizer: PreTrainedTokenizerFast) -> None:
    """With one token per response the KL can be summed over the vocabulary; many samples must come out around it."""
    policy, reference = model(tokenizer, 1, 12.0), model(tokenizer, 2, 12.0)
    prompt, temperature = Prompt("the cat"), 0.8
    generator = LocalGenerator(policy, tokenizer)
    responses = generator.generate([prompt], Sampling(1, temperature, samples=3000, seed=0))
    ratios = drift.log_ratios(policy, reference, responses, CPU, temperature=temperature, max_tokens=2000)
    ids = torch.tensor([responses[0].prompt_ids])
    p, q = (
        torch.log_softmax(m.host(ids).logits[0, -1].double() / temperature, -1) for m in (policy, reference)
    )
    exact = (p.exp() * (p - q)).sum().item()
    assert exact > 0.1
    (row,) = drift.evaluate("m", ratios, responses, resamples=200)
    error = float(ratios.std() / math.sqrt(ratios.size))
    assert row.value == pytest.approx(exact, abs=4 * error)
    assert drift.log_ratios(policy, policy, responses, CPU) == pytest.approx(0.0, abs=0)


@pytest.mark.slow
def test_sequence_logprobs_are_those_of_plain_transformers(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = model(tokenizer, 1, 12.0)
    prompts = [Prompt("the cat"), Prompt("a dog ran to")]
    responses = LocalGenerator(policy, tokenizer).generate(prompts, Sampling(6, 1.0, samples=2, seed=0))
    found = drift.response_sums(policy, responses, CPU, max_tokens=16)
    for response, value in zip(responses, found, strict=True):
        ids = torch.tensor([[*response.prompt_ids, *response.ids]])
        logprobs = torch.log_softmax(policy.host(ids).logits[0].double(), -1)
        start = len(response.prompt_ids)
        expected = sum(logprobs[start + i - 1, token].item() for i, token in enumerate(response.ids))
        assert value == pytest.approx(expected, abs=1e-4)
        assert value == pytest.approx(sum(response.logprobs), abs=1e-4)


def test_an_untrained_model_is_worth_the_vocabulary(tokenizer: PreTrainedTokenizerFast) -> None:
    uniform = model(tokenizer, 0, 0.0)  # tied embeddings of zero: every token is equally likely
    documents = [Document(text) for text in (*TEXTS, "x", "", " ")]
    found = language.losses(uniform, tokenizer, documents, CPU, max_tokens=8)
    lengths = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert found.tokens.tolist() == [*lengths, 1, 0, 0]  # all but the first, and the end
    loss, perplexity, _, bits = language.evaluate("m", found, resamples=200)
    assert loss.value == pytest.approx(math.log(len(tokenizer)), rel=1e-5)
    assert perplexity.value == pytest.approx(len(tokenizer), rel=1e-4)
    firsts = [len(str(tokenizer.decode(tokenizer(text)["input_ids"][:1])).encode()) for text in TEXTS]
    counted = sum(len(text.encode()) - first for text, first in zip(TEXTS, firsts, strict=True))
    assert found.size.sum() == counted
    spelling = sum(lengths) - len(lengths)
    assert bits.value == pytest.approx(spelling * math.log2(len(tokenizer)) / counted, rel=1e-5)


def starting(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer, with a start token in front of plain text."""
    made = copy.deepcopy(tokenizer)
    made.bos_token = "<|user|>"
    ids = [("<|user|>", made.bos_token_id)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<|user|> $A", special_tokens=ids)
    return made


@pytest.mark.parametrize("start", [False, True])
def test_held_out_loss_is_that_of_transformers_on_the_tokens_of_training(
    tokenizer: PreTrainedTokenizerFast, start: bool
) -> None:
    """Per document against a plain forward over start, text and end, which are the ids that `pretrain` trains on."""
    tokenizer = starting(tokenizer) if start else tokenizer
    policy, documents = model(tokenizer, 1, 12.0), [Document(text) for text in (*TEXTS, "so " * 200)]
    found = language.losses(policy, tokenizer, documents, CPU, max_tokens=70)
    for i, document in enumerate(documents):
        ids = [*tokenizer(document.text)["input_ids"], tokenizer.eos_token_id][:64]
        assert (ids[0] == tokenizer.convert_tokens_to_ids("<|user|>")) == start
        assert tokenize_document(tokenizer, document).ids[:64].tolist() == ids
        logprobs = torch.log_softmax(policy.host(torch.tensor([ids])).logits[0].double(), -1)
        nats = [-logprobs[t - 1, ids[t]].item() for t in range(1, len(ids))]
        assert found.nats[i] == pytest.approx(sum(nats), rel=1e-5) and found.tokens[i] == len(nats)
        ended = ids[-1] == tokenizer.eos_token_id
        assert ended == (i < len(TEXTS))  # the last is cut to the context
        assert found.text_nats[i] == pytest.approx(sum(nats[:-1] if ended else nats), rel=1e-5)
        if start and ended:
            assert found.size[i] == len(document.text.encode())  # every byte counts


def pieces(names: list[str], cut: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole pieces, which are found in a text by the pattern `cut`."""
    made = Tokenizer(WordLevel({name: i for i, name in enumerate(["<eos>", *names])}, unk_token="<eos>"))
    made.pre_tokenizer = Split(Regex(cut), "isolated")
    made.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")


def test_perplexity_per_word_by_hand_for_two_tokenizers() -> None:
    """Uniform models: of 7 pieces that are words, with their spaces, a word costs ln 7; of 9 characters each costs ln 9.

    "aa b c d e aa b c" has 8 words in 17 characters.  Per token the two look alike, 7 and 9; per word they are 7 and 9 to
    the 17/8, which is 107.
    """
    text = "aa b c d e aa b c"
    by_words = pieces(["aa ", "b ", "c ", "d ", "e ", "c"], "[a-e]+ ?")
    by_letters = pieces(list("abcdefg "), ".")
    assert (len(by_words), len(by_letters)) == (7, 9)
    for tokenizer, tokens, size in ((by_words, 8, 7), (by_letters, 17, 9)):
        assert len(tokenizer(text)["input_ids"]) == tokens
        uniform = model(tokenizer, 0, 0.0)
        found = language.losses(uniform, tokenizer, [Document(text), Document(" ")], CPU, max_tokens=64)
        assert found.words.tolist() == [8, 0]
        rows = {row.metric: row.value for row in language.evaluate("m", found, resamples=200)}
        assert rows["perplexity_words"] == pytest.approx(size ** (tokens / 8), rel=1e-5)
        assert rows["perplexity"] == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("start", [False, True])
def test_every_token_of_a_text_is_predicted_once(tokenizer: PreTrainedTokenizerFast, start: bool) -> None:
    """Against a plain forward over windows of the context, each with one token of the last before it (as lm-eval has them)."""
    tokenizer = starting(tokenizer) if start else tokenizer
    policy, documents = model(tokenizer, 1, 12.0), [Document(TEXTS[0]), Document("so " * 150)]
    found = language.losses(policy, tokenizer, documents, CPU, max_tokens=70)
    for i, document in enumerate(documents):
        ids = tokenizer(document.text)["input_ids"]
        ids = ids if start else [tokenizer.eos_token_id, *ids]
        nats, known = 0.0, 0  # the last token that was predicted
        while known < len(ids) - 1:
            window = ids[known : known + 64]
            logprobs = torch.log_softmax(policy.host(torch.tensor([window])).logits[0].double(), -1)
            nats -= sum(logprobs[t - 1, window[t]].item() for t in range(1, len(window)))
            known += len(window) - 1
        assert found.whole_nats[i] == pytest.approx(nats, rel=1e-5)
    assert found.words.tolist() == [len(TEXTS[0].split()), 150]
    assert len(tokenizer(documents[1].text)["input_ids"]) > 2 * 64, "the second is read in several windows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Two checkpoints, one in a run folder, with prompts and documents."""
    root = tmp_path_factory.mktemp("eval")
    save(model(tokenizer, 1, 12.0), tokenizer, root / "sft")
    save(model(tokenizer, 2, 12.0), tokenizer, root / "ppo" / "model")
    rows = [{"prompt": f"the cat {i}", "task": ("a", "b")[i % 2]} for i in range(6)]
    write_jsonl_atomic(root / "prompts.jsonl", rows)
    write_jsonl_atomic(root / "documents.jsonl", [{"text": text} for text in TEXTS])
    return root


def settings(folder: Path, **more: object) -> EvalSettings:
    given = {
        "models": [f"{folder}/sft", f"second={folder}/ppo"],
        "prompts": str(folder / "prompts.jsonl"),
        "max_new_tokens": 5,
        "resamples": 100,
        "precision": "fp32",
        "out": folder / "out",
    }
    return EvalSettings(**{**given, **more})  # type: ignore[arg-type]


def test_the_command_from_prompts_to_rows(folder: Path) -> None:
    console = Console(width=160, record=True)
    launch("eval", settings(folder, documents=str(folder / "documents.jsonl"), max_prompts=4), console)
    rows = json.loads((folder / "out" / "results.json").read_text())
    found = {(row["model"], row["metric"], row["task"]): row for row in rows}
    assert len(found) == len(rows)
    assert set(rows[0]) == {"model", "metric", "task", "value", "low", "high", "n", "unit"}
    assert found["sft", "kl", "all"]["value"] == 0
    assert found["second", "kl", "all"]["value"] != 0
    assert found["second", "length", "a"]["n"] == 2
    assert found["sft", "eval_loss", "all"]["n"] == 3
    assert ("second", "length_change", "all") in found
    assert found["second", "distinct_1", "all"]["n"] == found["sft", "distinct_1", "all"]["n"]
    assert 0 < found["sft", "unique_share", "all"]["value"] <= 1
    assert found["sft", "unique_share", "all"]["n"] == 4 * 8  # four prompts, eight responses to each
    assert found["sft", "entropy", "all"]["value"] > 0
    assert not any(
        metric in ("gold", "win_rate") for _, metric, _ in found
    )  # these prompts have no gold standard
    lines = [json.loads(line) for line in (folder / "out" / "samples.jsonl").read_text().splitlines()]
    assert [line["task"] for line in lines].count("a") == 2 and len(lines) == 4
    for line in lines:
        assert set(line["responses"]) == {"sft", "second"}
        assert line["responses"]["sft"]["tokens"] <= 5
    lineage = json.loads((folder / "out" / "lineage.json").read_text())
    tokens = sum(r["tokens"] for line in lines for r in line["responses"].values())
    assert (
        tokens < lineage["tokens_generated"] <= tokens + 2 * 4 * 8 * 5
    )  # and several responses to each prompt
    size = sum(p.numel() for p in load_policy(folder / "sft").parameters())
    assert lineage["flops"] == 2 * size * lineage["tokens_generated"]
    assert lineage["peak_memory_mib"] > 50
    lengths = [line["responses"]["sft"]["tokens"] for line in lines]
    assert found["sft", "length", "all"]["value"] == pytest.approx(float(np.mean(lengths)))
    text = console.export_text()
    assert "KL to the reference" in text and "no score, no win rate" in text
    assert "Loss on held-out text" in text and "different tokenizers" not in text


def test_what_is_counted_by_token_is_not_set_side_by_side_across_tokenizers(
    folder: Path, tmp_path: Path
) -> None:
    letters = pieces(sorted(set("".join(TEXTS))), ".")
    save(tiny_model(letters, hidden=32, layers=1, heads=2, context=64, seed=0), letters, tmp_path / "letters")
    console = Console(width=200, record=True)
    more = {"diversity_samples": 0, "documents": str(folder / "documents.jsonl"), "out": tmp_path / "out"}
    launch("eval", settings(folder, models=[f"{folder}/sft", f"{tmp_path}/letters"], **more), console)
    text = console.export_text()
    said = "SFT and letters have different tokenizers: what is counted by token (loss, perplexity"
    assert said in text and "Perplexity per word" in text and "Loss on held-out text" not in text
    assert json.loads((tmp_path / "out" / "lineage.json").read_text())["tokenizers"] == [["sft"], ["letters"]]
    path = report.write(find([tmp_path / "out"]), tmp_path, title="t")
    page = " ".join(path.read_text().split())
    assert said in page and page.count("Loss on held-out text<") == 2 and "tokens of letters<" in page


@pytest.mark.slow
def test_prompts_without_room_in_any_model_are_asked_of_none(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """One model of three has a shorter context: what does not fit there is left out for all, and said."""
    small = tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=32, seed=3)
    save(small, tokenizer, folder / "small")
    long = " ".join(["the cat sat on the mat."] * 3)
    assert 32 - 5 < len(tokenizer(long)["input_ids"]) < 64 - 8
    rows = [{"prompt": text} for text in ("the cat", long, "a dog", "the mat")]
    write_jsonl_atomic(folder / "long.jsonl", rows)
    given = {"prompts": str(folder / "long.jsonl"), "out": folder / "long"}
    console = Console(width=160, record=True)
    models = [f"{folder}/sft", f"{folder}/small"]
    launch("eval", settings(folder, **given, models=models, max_dropped_share=0.25), console)
    lines = [json.loads(line) for line in (folder / "long" / "samples.jsonl").read_text().splitlines()]
    assert sorted(line["prompt"] for line in lines) == ["a dog", "the cat", "the mat"]
    assert "can be put to small" in console.export_text()
    beside = {"reference": f"{folder}/small", "out": folder / "beside", "max_dropped_share": 0.25}
    launch("eval", settings(folder, **{**given, **beside}), Console(quiet=True))  # it reads the responses
    assert len((folder / "beside" / "samples.jsonl").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match=r"1 of 4 prompts .* would be dropped"):
        launch(
            "eval", settings(folder, **{**given, "out": folder / "few"}, models=models), Console(quiet=True)
        )
    launch("eval", settings(folder, **{**given, "out": folder / "all"}), Console(quiet=True))
    assert len((folder / "all" / "samples.jsonl").read_text().splitlines()) == 4
    with pytest.raises(ValueError, match="max_new_tokens=32 leaves no room"):
        launch(
            "eval",
            settings(folder, models=models, max_new_tokens=32, out=folder / "none"),
            Console(quiet=True),
        )


@pytest.mark.slow
def test_greedy_responses_still_have_a_kl_of_samples(folder: Path) -> None:
    launch("eval", settings(folder, temperature=0, out=folder / "greedy"), Console(quiet=True))
    launch("eval", settings(folder, temperature=1, out=folder / "sampled"), Console(quiet=True))

    def kl(name: str) -> float:
        rows = json.loads((folder / name / "results.json").read_text())
        return next(
            r["value"] for r in rows if (r["model"], r["metric"], r["task"]) == ("second", "kl", "all")
        )

    assert kl("greedy") == pytest.approx(kl("sampled"), rel=1e-6)


def test_diversity_of_several_responses_can_be_left_out(folder: Path) -> None:
    launch("eval", settings(folder, diversity_samples=0, out=folder / "off"), Console(quiet=True))
    metrics = {row["metric"] for row in json.loads((folder / "off" / "results.json").read_text())}
    assert "entropy" in metrics and not {"unique_share", "self_bleu"} & metrics
    with pytest.raises(ValueError, match=r"diversity_samples.*: 2 responses say little"):
        load(EvalSettings, ["models=a", "prompts=b", "diversity_samples=2"])


def test_valid_responses_by_a_judge(folder: Path) -> None:
    """What holds a letter from a to m is valid; a best of two by the same rule has more of it, and no entropy of its own."""
    rule = [{"judge": "formula:regex", "pattern": "[a-m]", "name": "early"}]
    more = {"judge": rule, "valid_from": 1.0, "best_of": 2, "reward": rule, "missing_eos_score": None}
    launch("eval", settings(folder, **more, out=folder / "valid"), Console(quiet=True))
    rows = json.loads((folder / "valid" / "results.json").read_text())
    found = {(row["model"], row["metric"], row["task"]): row for row in rows}
    for name in ("sft", "second"):
        share, distinct = (found[name, metric, "all"] for metric in ("valid_share", "distinct_valid"))
        assert 0 < distinct["value"] <= share["value"] < 1 and share["n"] == 6 * 8
        assert distinct["value"] <= found[name, "unique_share", "all"]["value"]
        assert found[name, "valid/early", "all"]["value"] == 1.0
        assert found[name, "entropy_valid", "a"]["unit"] == "nats"
    best = next(model for model, metric, _ in found if metric == "kl_bound")
    assert found[best, "valid_share", "all"]["value"] > found["sft", "valid_share", "all"]["value"]
    assert (best, "entropy_valid", "all") not in found
    compares = "python:tests.evals.test_evaluations:TakesTheSecond"
    with pytest.raises(ValueError, match=r"valid_from=1 is a score, and second compares"):
        launch(
            "eval", settings(folder, judge=compares, valid_from=1.0, out=folder / "no"), Console(quiet=True)
        )
    with pytest.raises(ValueError, match=r"valid_from=1 .* diversity_samples=0 draws none"):
        load(EvalSettings, ["models=a", "prompts=b", "diversity_samples=0", "valid_from=1"])


def test_the_checkpoints_load_with_plain_transformers(folder: Path) -> None:
    assert AutoModelForCausalLM.from_pretrained(folder / "sft").config.model_type == "llama"


def test_overlap_with_the_references_of_prompts(folder: Path, tmp_path: Path) -> None:
    """Of four prompts two have a reference text, and one is the embedded world's, compared with its faultless responses."""
    (own,) = world.prompts(0, "train", 1)
    rows = [{"prompt": f"the cat {i}", "reference": "the cat sat on the mat."} for i in range(2)]
    rows += [
        {"prompt": "the dog"},
        {"prompt": own.content_json(), "task": own.task, "reference": own.reference},
    ]
    write_jsonl_atomic(tmp_path / "prompts.jsonl", rows)
    more = {"prompts": str(tmp_path / "prompts.jsonl"), "out": tmp_path / "out", "diversity_samples": 0}
    console = Console(width=160, record=True)
    launch("eval", settings(folder, overlap=["bleu", "rouge"], max_dropped_share=0.5, **more), console)
    found = {
        (r.model, r.metric): r for r in read_results(tmp_path / "out" / "results.json") if r.task == "all"
    }
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    known = {"the cat 0": ["the cat sat on the mat."], "the cat 1": ["the cat sat on the mat."]}
    given = {
        (line["prompt"] if isinstance(line["prompt"], str) else "own"): line["responses"]["second"]["text"]
        for line in lines
    }
    references = {name: known.get(name) or list(world.faultless(own)) for name in given if name != "the dog"}
    sums = bleu.sums([given[name] for name in references], list(references.values()))
    bleu_1 = sums.measures[0].of(sums.columns.sum(axis=0))
    assert found["second", "bleu_1"].value == pytest.approx(float(bleu_1))
    assert found["second", "bleu_1"].n == len(references) and found["second", "bleu_1"].signature
    assert ("second", "rouge_l_difference") in found and ("sft", "rouge_l_difference") not in found
    assert found["sft", "words"].n == found["sft", "repetition"].n == len(lines)
    text = " ".join(console.export_text().split())
    assert (
        f"1 of {len(lines)} prompts have no reference text" in text
        and "bleu_4: sacrebleu:"
        in text.replace(", bleu_precision_1, bleu_precision_2, bleu_precision_3, bleu_precision_4", "")
    )


def test_names_of_models() -> None:
    assert entrants.named(["runs/sft", "best=runs/ppo", "owner/gpt"]) == {
        "sft": "runs/sft",
        "best": "runs/ppo",
        "gpt": "owner/gpt",
    }
    with pytest.raises(ValueError, match="two models are named 'sft'"):
        entrants.named(["a/sft", "b/sft"])
    with pytest.raises(ValueError, match="models is empty"):
        entrants.named([])


def test_an_unknown_baseline_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="baseline=nobody is not among the models"):
        launch("eval", settings(folder, baseline="nobody", out=folder / "wrong"), Console(quiet=True))


def kl_rows(folder: Path) -> dict[str, float]:
    rows = json.loads((folder / "results.json").read_text())
    return {row["model"]: row["value"] for row in rows if row["metric"] == "kl" and row["task"] == "all"}


@pytest.mark.parametrize(
    "more", [pytest.param(-10, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.slow), 20]
)
def test_a_model_with_another_tokenizer_has_no_kl_and_that_is_said(
    folder: Path, tokenizer: PreTrainedTokenizerFast, more: int
) -> None:
    """As many tokens, other ones; or more, or fewer than the reference has embeddings for."""
    words = ["zebras quack queerly; jumbled vixens hop over foggy lakes, by whom pyjamas fly."] * 9
    foreign = train_tokenizer(words, vocab_size=len(tokenizer) + more)
    assert len(foreign) == len(tokenizer) + more
    name = f"zebra{more}"
    save(model(foreign, 3, 12.0), foreign, folder / name)
    console, out = Console(width=160, record=True), folder / f"out-{name}"
    given = {"models": [f"{folder}/sft", f"second={folder}/ppo", f"{folder}/{name}"], "out": out}
    launch("eval", settings(folder, **given), console)
    assert set(kl_rows(out)) == {"sft", "second"}
    assert f"No KL of {name}: the reference {folder}/sft cannot read those tokens" in console.export_text()
    report.write(find([out]), out, title="t")
    assert f"{name}: no KL, because the reference cannot read" in (out / "report.html").read_text()
    theirs = {"reference": f"{folder}/{name}", "temperature": 0, "out": folder / f"to-{name}"}
    launch("eval", settings(folder, **theirs), Console(quiet=True))
    assert kl_rows(folder / f"to-{name}") == {}


@pytest.mark.slow
def test_padded_embeddings_are_no_other_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """A padded reference reads everything; what a padded model writes beyond its tokenizer has no KL, and stops nothing."""
    padded = model(tokenizer, 2, 12.0)
    padded.host.resize_token_embeddings(320, mean_resizing=False)
    with torch.no_grad():  # tied: zero is a likely logit here
        padded.host.get_input_embeddings().weight[len(tokenizer) :] = 0
    save(padded, tokenizer, folder / "padded")
    given = {"models": [f"{folder}/sft", f"{folder}/padded"], "out": folder / "to-padded"}
    launch("eval", settings(folder, **given, reference="padded"), Console(quiet=True))
    assert kl_rows(folder / "to-padded") == {"sft": pytest.approx(20, abs=20), "padded": 0}
    launch("eval", settings(folder, **{**given, "out": folder / "of-padded"}), Console(quiet=True))
    assert kl_rows(folder / "of-padded") == {"sft": 0}


def test_a_reference_reads_tokens_that_training_gave_the_model(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The tokenizer has a token more than the reference has embeddings; training adds it, and changes nothing here."""
    more = copy.deepcopy(tokenizer)
    more.add_tokens(["zebra"])
    save(model(tokenizer, 1, 12.0), more, folder / "before")
    trained = model(tokenizer, 1, 12.0)
    fit_embeddings(trained, more)
    save(trained, more, folder / "after")
    write_jsonl_atomic(folder / "zebras.jsonl", [{"prompt": f"the zebra {i}"} for i in range(4)])
    given = {
        "models": [f"{folder}/after"],
        "reference": f"{folder}/before",
        "prompts": str(folder / "zebras.jsonl"),
    }
    launch("eval", settings(folder, **given, out=folder / "more"), Console(quiet=True))
    assert kl_rows(folder / "more") == {"after": pytest.approx(0.0, abs=1e-5)}
