"""Our checkpoints in EleutherAI's lm-eval, where it is installed: a local task, and the same log-likelihoods as ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.data.template import encode
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Message, Prompt

lm_eval = pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

TASK = """task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{metric: acc}]
"""
ROWS = [
    {"question": "the cat sat on", "choices": [" the mat.", " a dog."], "answer": 0},
    {"question": "a dog ran to", "choices": [" the cat.", " on"], "answer": 0},
    {"question": "the mat", "choices": ["s ran", " sat on the cat."], "answer": 1},
]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tokenizer = train_tokenizer(["the cat sat on the mat.", "a dog ran to the cat."] * 5, vocab_size=280)
    made = tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=64)
    with torch.no_grad():
        made.host.get_output_embeddings().weight.mul_(6.0)
    return save(made, tokenizer, tmp_path / "sft" / "model")


def ours(checkpoint: Path, prompt: Prompt, response: str) -> float:
    """log p(response | prompt) over the tokens of `data.template`, the end left out."""
    model, tokenizer = load_policy(checkpoint), load_tokenizer(checkpoint)
    (encoded,) = encode(tokenizer, [(prompt, response, "length")])
    ids = torch.tensor([encoded.prompt + encoded.response])  # type: ignore[union-attr]
    logprobs = torch.log_softmax(model.host(ids).logits[0].double(), -1)
    start = len(encoded.prompt)  # type: ignore[union-attr]
    return sum(logprobs[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1]))


@pytest.mark.parametrize("chat", [False, True])
def test_log_likelihoods_are_ours(checkpoint: Path, tmp_path: Path, chat: bool) -> None:
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "capitals.yaml").write_text(TASK.replace("DATA", str(data)))
    from lm_eval.tasks import TaskManager

    found: Any = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(checkpoint), "device": "cpu", "dtype": "float32"},
        tasks=["capitals"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        apply_chat_template=chat,
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = sorted(found["samples"]["capitals"], key=lambda sample: sample["doc_id"])
    right = 0
    for row, sample in zip(ROWS, samples, strict=True):
        question: Any = row["question"]
        prompt = Prompt((Message("user", question),)) if chat else Prompt(question)
        expected = [ours(checkpoint, prompt, choice) for choice in row["choices"]]  # type: ignore[attr-defined]
        theirs = [float(response[0]) for response in sample["filtered_resps"]]
        assert theirs == pytest.approx(expected, abs=1e-3)
        right += expected.index(max(expected)) == row["answer"]
    assert found["results"]["capitals"]["acc,none"] == pytest.approx(right / len(ROWS))
