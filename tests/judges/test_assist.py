"""Assistants that are models: what they doubt is what their probabilities say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train.making import CPU, make_tokenizer
from tutelage.judges.assist.build import build_assistant
from tutelage.judges.assist.pointing import PolicyAssistant, ProcessAssistant
from tutelage.models.loading import load_scalar, save
from tutelage.models.step_head import StepHead
from tutelage.models.tiny import tiny_model
from tutelage.records import Prompt, Response
from tutelage.settings.judges import inputs_in, same_reward, scoring

PROMPT = Prompt("the cat sat ")
TEXT = "on the mat.\na dog ran.\n1 + 2 = 3."


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=96, seed=0)
    return save(model, tokenizer, tmp_path_factory.mktemp("policy") / "model")


@pytest.fixture(scope="module")
def process(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scalar = load_scalar(policy)
    StepHead().keep(scalar)
    with torch.no_grad():
        scalar.head.weight.copy_(torch.linspace(-0.2, 0.3, 32)[None])
    return save(scalar, make_tokenizer(), tmp_path_factory.mktemp("process") / "model")


def by_transformers(folder: Path, text: str) -> list[float]:
    """Minus the log-probability of each line, its end included, from the logits of plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer(PROMPT.text(), add_special_tokens=False)["input_ids"]
    whole = prompt + tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    if tokenizer.bos_token_id is not None and tokenizer.bos_token_id != tokenizer.eos_token_id:
        whole, prompt = [tokenizer.bos_token_id, *whole], [tokenizer.bos_token_id, *prompt]
    with torch.no_grad():
        logprobs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    found = [0.0]
    for at in range(len(prompt), len(whole)):
        found[-1] -= float(logprobs[at - 1, whole[at]])
        if "\n" in tokenizer.decode([whole[at]]):
            found.append(0.0)
    return found


def test_a_policy_doubts_what_it_would_hardly_have_written(policy: Path) -> None:
    assistant = build_assistant(str(policy), CPU)
    assert isinstance(assistant, PolicyAssistant)
    texts = [TEXT, "on the mat."]
    doubts = assistant.doubts([Response.written(PROMPT, text) for text in texts])
    for text, found in zip(texts, doubts, strict=True):
        assert found == pytest.approx(by_transformers(policy, text), rel=1e-4)


def test_a_process_model_doubts_what_it_holds_to_be_wrong(process: Path) -> None:
    assistant = build_assistant({"assistant": str(process), "points": 2}, CPU)
    assert isinstance(assistant, ProcessAssistant)
    response = Response.written(PROMPT, TEXT)
    [doubts], [right] = assistant.doubts([response]), assistant._judge.right([response])
    assert right is not None and doubts == pytest.approx([1 - p for p in right])
    order = sorted(range(3), key=lambda step: right[step])
    [found] = assistant.review([response])
    assert found.steps == tuple(order[:2]) and found.quality == pytest.approx(min(right) - 1)
    lines = TEXT.splitlines()
    assert found.text == " ".join(f"Look at step {n + 1}: {lines[n]}" for n in order[:2])
    [led] = assistant.mislead([response], [found], [False])
    assert led.steps == tuple(reversed(order))[:2] and led.text.startswith("This is wrong: step")


def test_a_model_that_says_nothing_of_steps_is_refused(policy: Path, tmp_path: Path) -> None:
    reward = save(load_scalar(policy), make_tokenizer(), tmp_path / "reward")
    with pytest.raises(ValueError, match="scores whole responses and points at no step: give a policy"):
        build_assistant(str(reward), CPU)


def test_an_assistant_is_an_input_and_part_of_who_judges() -> None:
    helped = [{"judge": "checker", "assistant": "runs/policy", "control": 0.0}]
    assert (
        inputs_in(helped) == ["runs/policy"] and inputs_in([{"judge": "checker", "assistant": "world"}]) == []
    )
    assert not same_reward(helped, [{"judge": "checker"}])
    assert set(scoring([{"judge": "checker"}])[0]) & {"assistant", "control", "adversarial"} == set()
