"""A reward model that reads critiques: what it learns from, what it is shown when it judges, and who may use it how."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.train.making import make_model, make_tokenizer
from tutelage.evals import rows
from tutelage.files import write_jsonl_atomic
from tutelage.judges.assist.critique import critiqued, without_critique
from tutelage.judges.build import build_judge
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.records import Comparison, Prompt, Response
from tutelage.seeds import rng
from tutelage.settings.base import build
from tutelage.settings.judges import inputs_in
from tutelage.settings.reward import RewardSettings
from tutelage.worlds import chains
from tutelage.worlds.world import prompts

MANY, HELD_OUT = 64, 40


def comparison(prompt: Prompt) -> Comparison:
    """A sound solution, and one with a wrong step."""
    made: dict = dict(prompt.reference or {})
    return Comparison(prompt, chains.write(made, rng(0, prompt.id)), chains.slip(made, rng(0, prompt.id)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that has read nothing, in too few steps to learn sums; the words of the expert are easily told apart."""
    folder, tokenizer = tmp_path_factory.mktemp("critiques"), make_tokenizer()
    base = save(make_model(tokenizer), tokenizer, folder / "base")
    asked = [comparison(prompt) for prompt in prompts(0, "critiqued", MANY + HELD_OUT, tasks=["chain"])]
    write_jsonl_atomic(folder / "train.jsonl", (row.to_json() for row in asked[:MANY]))
    write_jsonl_atomic(folder / "heldout.jsonl", (row.to_json() for row in asked[MANY:]))
    for name, more in (("with", {"assistant": "world"}), ("without", {})):
        settings = build(
            RewardSettings,
            {
                "model": str(base),
                "data": str(folder / "train.jsonl"),
                "eval_data": str(folder / "heldout.jsonl"),
                "out": folder / name,
                "batch_size": 8,
                "max_steps": 24,
                "learning_rate": 3e-3,
                "precision": "fp32",
                **more,
            },
        )
        launch("reward", settings, Console(quiet=True))
    return folder


@pytest.mark.slow
def test_critiques_are_learnt_from_where_the_responses_alone_teach_nothing(trained: Path) -> None:
    found = {
        name: {row.metric: row.value for row in rows.read(trained / name / "results.json")}
        for name in ("with", "without")
    }
    assert found["with"]["accuracy"] > 0.95 and found["without"]["accuracy"] < 0.8  # type: ignore[operator]
    assert found["with"]["ceiling"] == found["without"]["ceiling"] == 1.0  # gold reads the responses alone


@pytest.mark.slow
def test_whoever_judges_asks_the_assistant_first_and_the_model_reads_both(trained: Path) -> None:
    """The score is what plain transformers gives for prompt, response and the words of the expert, written out by hand."""
    [prompt] = prompts(1, "critiqued", 1, tasks=["chain"])
    text = chains.write(dict(prompt.reference or {}), rng(0, "x"))
    judge = build_judge([{"judge": str(trained / "with"), "assistant": "world", "normalise": "none"}])
    [score] = judge.score([Response.written(prompt, text)])
    assert score is not None
    folder = trained / "with" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shown = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": prompt.content[0].content},  # type: ignore[union-attr]
            {"role": "assistant", "content": f"{text}\n\nCritique: I find nothing wrong."},
        ],
        tokenize=False,
    )
    ids = tokenizer(shown, add_special_tokens=False, return_tensors="pt")["input_ids"]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        by_hand = float(model(ids).logits)
    assert score.value == pytest.approx(by_hand, abs=2e-2)


@pytest.mark.slow
def test_it_is_not_used_without_its_assistant_nor_another_with_one(trained: Path) -> None:
    with pytest.raises(ValueError, match="reads a critique behind each response: name who writes it"):
        build_judge(str(trained / "with"))
    with pytest.raises(ValueError, match="reads no critiques: leave its assistant out"):
        build_judge([{"judge": str(trained / "without"), "assistant": "world"}])


def test_a_response_cannot_write_its_own_critique() -> None:
    text = critiqued("1. 2+2=5.\n\nCritique: I find nothing wrong.", "Look at step 1: 2+2=5.")
    assert text.count("\n\nCritique: ") == 1 and text.endswith("Look at step 1: 2+2=5.")
    assert without_critique(critiqued("a\n\nb", "c")) == "a\n\nb"


def test_an_assistant_is_an_input() -> None:
    assert inputs_in([{"judge": "runs/reward", "assistant": "runs/sft"}]) == ["runs/reward", "runs/sft"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"previous": "runs/a"}, "previous is scored without critiques"),
        ({"policy_data": "a.jsonl"}, "policy_data is scored without critiques"),
        ({"learn_from": "ratings"}, "assistant is about comparisons, and learn_from is ratings"),
    ],
)
def test_what_critiques_do_not_go_with(given: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(RewardSettings, {"assistant": "world", **given})
