"""`eval` of a model that is shown examples, and of an untrained one, beside a model as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from tutelage.files import write_jsonl_atomic
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Prompt
from tutelage.rollout.few_shot import FewShot, shots_of
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.evals import EvalSettings

NEW = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with one tokenizer; prompts of which the last has no room behind an example; demonstrations."""
    root = tmp_path_factory.mktemp("ways")
    tokenizer = train_tokenizer(["the cat sat on the mat.", "a dog ran to the cat."] * 5, vocab_size=280)
    for seed, name in enumerate(("sft", "base")):
        made = tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=64, seed=seed)
        with torch.no_grad():
            made.host.get_output_embeddings().weight.mul_(6.0)
        save(made, tokenizer, root / name)
    asked = [*(f"the cat {i}" for i in range(5)), "the cat sat on the mat. " * 7]
    write_jsonl_atomic(
        root / "prompts.jsonl", [{"prompt": [{"role": "user", "content": text}]} for text in asked]
    )
    shown = [{"prompt": f"a dog {i}", "response": "ran to the cat."} for i in range(4)]
    write_jsonl_atomic(root / "shown.jsonl", shown)
    return root


def settings(folder: Path, out: str, **more: Any) -> EvalSettings:
    given: dict[str, Any] = {
        "models": [f"{folder}/sft", f"few-shot-1:{folder}/base", f"bare=untrained:{folder}/base"],
        "demonstrations": str(folder / "shown.jsonl"),
        "prompts": str(folder / "prompts.jsonl"),
        "judge": "formula:repetition",
        "max_new_tokens": NEW,
        "max_dropped_share": 0.5,
        "diversity_samples": 0,
        "resamples": 100,
        "precision": "fp32",
        "out": folder / out,
    }
    return EvalSettings(**{**given, **more})


def evaluated(given: EvalSettings) -> tuple[dict[tuple[str, str], Any], list[Any], str]:
    """({(model, metric): row}, lines of samples.jsonl, what was printed)."""
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    launch("eval", given, console)
    rows = json.loads((given.out / "results.json").read_text())
    lines = [json.loads(line) for line in (given.out / "samples.jsonl").read_text().splitlines()]
    found = {(row["model"], row["metric"]): row for row in rows if row["task"] == "all"}
    return found, lines, console.export_text()


def test_examples_stand_in_front_of_the_model_alone(folder: Path) -> None:
    """The answers are those of the generator by itself; the KL is computed by transformers, the reference without examples."""
    given = settings(folder, "shown")
    rows, lines, printed = evaluated(given)
    name = "base-few-shot-1"
    assert [list(line["responses"]) for line in lines] == [["sft", name, "bare"]] * 5
    assert "Not every prompt can be put to base-few-shot-1; no model is asked the others." in printed

    tokenizer = load_tokenizer(str(folder / "base"))
    model, reference = (load_policy(str(folder / each)) for each in ("base", "sft"))
    shots = shots_of(given, {name: f"few-shot-1:{folder}/base"})[name]
    prompts = [Prompt.from_json(line["prompt"]) for line in lines]
    responses = FewShot(shots, LocalGenerator(model, tokenizer)).generate(prompts, Sampling(NEW, seed=0))
    assert [line["responses"][name]["text"] for line in lines] == [response.text for response in responses]

    ratios = []
    for response in responses:
        turns = response.prompt.content_json()
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], *response.ids]
        logprobs = torch.log_softmax(reference.host(torch.tensor([ids])).logits[0].double(), -1)
        at = len(ids) - len(response.ids)
        theirs = sum(logprobs[at + i - 1, token].item() for i, token in enumerate(response.ids))
        ratios.append(sum(response.logprobs) - theirs)
    assert rows[name, "kl"]["value"] == pytest.approx(np.mean(ratios), abs=1e-4)
    for model_name in ("sft", name, "bare"):
        shares = [rows[model_name, act]["value"] for act in ("answers", "asks", "goes_on", "unreadable")]
        assert sum(shares) == pytest.approx(1)
        does = [line["responses"][model_name]["does"] for line in lines]
        assert rows[model_name, "goes_on"]["value"] == does.count("goes_on") / len(lines)


def test_as_text_there_is_no_kl_and_that_is_said(folder: Path) -> None:
    rows, _, printed = evaluated(settings(folder, "text", few_shot_form="text"))
    assert ("base-few-shot-1", "kl") not in rows and ("bare", "kl") in rows
    assert "No KL of base-few-shot-1: it reads prompts, and ends responses, in plain text" in printed
    assert json.loads((folder / "text" / "lineage.json").read_text())["without_kl"] == []


def test_the_reference_is_a_model_as_it_is(folder: Path) -> None:
    with pytest.raises(
        ValueError, match="measured to a model as it is, and the reference would be untrained:"
    ):
        evaluated(settings(folder, "no", baseline="bare"))
