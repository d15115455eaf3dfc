"""Examples in front of prompts: what the model reads, where its responses end, and what is told of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.rollout.conftest import build
from tutelage.models.loading import load_policy, load_untrained, policy_module, save
from tutelage.records import Message, Prompt, Response
from tutelage.rollout.few_shot import FewShot, Shots, draw_shots
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import load
from tutelage.settings.evals import EvalSettings
from tutelage.settings.ways import Way, way_of

PAIRS = [("one", "two"), ("what is it", "a town"), ("7", "8"), ("the sea", "hello")]
CHATS = [(Message("user", q), Message("assistant", a)) for q, a in PAIRS]


def drawn(folder: Path, rows: list[dict[str, Any]], tokenizer: Any, count: int = 2, **more: Any) -> Shots:
    path = folder / "demonstrations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"demonstrations": str(path), "columns": {}, "few_shot_form": "auto", "seed": 0} | more
    return draw_shots(SimpleNamespace(**given), count, tokenizer)  # type: ignore[arg-type]


def test_examples_are_earlier_turns_and_never_what_is_asked() -> None:
    shots = Shots(CHATS, 3)
    asked = Prompt((Message("system", "be kind"), Message("user", "7 ")), "task", {"x": 1})
    put = shots.before(asked)
    said = [(message.role, message.content) for message in put.content]  # type: ignore[union-attr]
    others = [pair for pair in PAIRS if pair[0] != "7"]
    turns = [turn for q, a in others for turn in (("user", q), ("assistant", a))]
    assert said == [("system", "be kind"), *turns, ("user", "7 ")]
    assert (put.task, put.reference) == ("task", {"x": 1})
    plain = shots.before(Prompt("where "))
    assert plain.content == "onetwo\n\nwhat is ita town\n\n78\n\nwhere "


def test_as_text_a_conversation_is_written_with_its_roles() -> None:
    put = Shots(CHATS, 1, text=True).before(Prompt((Message("user", "where"),)))
    assert put.content == "user: one\n\nassistant: two\n\nuser: where\n\nassistant:"


def test_the_model_reads_the_examples_and_the_response_is_to_the_prompt(tokenizer: Any) -> None:
    """The ids are those of transformers' own chat template over the whole conversation."""
    model = policy_module(build("llama", len(tokenizer)), "tiny")
    prompt = Prompt((Message("user", "hello"),))
    (response,) = FewShot(Shots(CHATS, 2), LocalGenerator(model, tokenizer)).generate([prompt], Sampling(4))
    turns = [message.to_json() for chat in CHATS[:2] for message in chat]
    whole = [*turns, {"role": "user", "content": "hello"}]
    text = tokenizer.apply_chat_template(whole, add_generation_prompt=True, tokenize=False)
    assert list(response.prompt_ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert response.prompt == prompt
    logprobs = torch.log_softmax(
        model.host(torch.tensor([[*response.prompt_ids, *response.ids]])).logits[0], -1
    )
    at = len(response.prompt_ids) - 1
    assert response.logprobs[0] == pytest.approx(logprobs[at, response.ids[0]].item(), abs=1e-4)


def test_a_response_in_text_ends_where_the_next_turn_begins(tokenizer: Any) -> None:
    model = policy_module(build("llama", len(tokenizer)), "tiny")
    shown = FewShot(Shots(CHATS, 1, text=True), LocalGenerator(model, tokenizer))

    def ended(text: str, prompt: Prompt) -> Response:
        ids = tuple(tokenizer(text)["input_ids"])
        whole = Response(prompt, text, (1,), ids, tuple(float(i) for i in range(len(ids))), "length")
        return shown._ended(whole, shown.shots.end_of(prompt))

    chat = ended(" A town.\n\nby the sea\n\nuser: what is it\n\nuser: x", Prompt((Message("user", "x"),)))
    assert (chat.text, chat.finish) == ("A town.\n\nby the sea", "eos")
    assert tokenizer.decode(chat.ids) == " A town.\n\nby the sea\n\nuser:"
    assert chat.logprobs == tuple(float(i) for i in range(len(chat.ids)))
    assert ended(" on and on\n\nuse", Prompt((Message("user", "x"),))).finish == "length"
    assert ended("two\n\nthree", Prompt("x")).text == "two"


def test_the_examples_follow_from_the_seed_alone(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"ask {i}", "response": f"answer {i}"} for i in range(30)]
    first = drawn(tmp_path, rows, tokenizer, 4)
    assert len(first.examples) == 5 and first == drawn(tmp_path, rows, tokenizer, 4)
    assert first.examples != drawn(tmp_path, rows, tokenizer, 4, seed=1).examples
    assert not first.text and drawn(tmp_path, rows, tokenizer, 4, few_shot_form="text").text


def test_what_cannot_be_shown_is_not(tmp_path: Path, tokenizer: Any) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    rows = [
        {"messages": [*chat, {"role": "assistant", "content": "a"}]},
        {"prompt": "one", "response": "two"},
        {"prompt": "one", "response": "again"},
        {"prompt": "cut", "response": "off", "response_finish": "length"},
    ]
    shots = drawn(tmp_path, rows, tokenizer, 1)
    said = sorted([message.content for message in turns] for turns in shots.examples)
    assert said == [["one", "two"], ["q", "a"]]
    with pytest.raises(
        ValueError, match=r"demonstrations.jsonl has 2 examples that can be shown .* few-shot-2 takes 3"
    ):
        drawn(tmp_path, rows, tokenizer, 2)


def test_ways_to_ask_a_model() -> None:
    assert way_of("few-shot-4:runs/pretrain") == Way("runs/pretrain", shots=4)
    assert way_of("untrained:runs/sft") == Way("runs/sft", untrained=True)
    assert way_of("owner/name") == Way("owner/name") and str(way_of("few-shot-2:a/b")) == "few-shot-2:a/b"
    assert way_of("few-shot-4:runs/pretrain").name == "pretrain-few-shot-4"


@pytest.mark.parametrize(
    ("models", "more", "sentence"),
    [
        ("few-shot-4:a", [], "few-shot-4:a is shown examples, and there is nothing to take them from"),
        ("a", ["demonstrations=d"], "demonstrations are for a model that is shown examples, and none is"),
        ("few-shot-0:a", ["demonstrations=d"], "'few-shot-0:' is no way to ask a model: write few-shot-4:a"),
        ("base=fewshot-4:a", ["demonstrations=d"], "'fewshot-4:' is no way to ask a model"),
        ("few-shot-4:", ["demonstrations=d"], "names no model: write few-shot-4:runs/pretrain"),
    ],
)
def test_settings_that_make_no_sense(models: str, more: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(EvalSettings, [f"models={models}", "prompts=p", *more])


def test_an_untrained_model_has_the_shape_and_nothing_of_the_weights(tmp_path: Path, tokenizer: Any) -> None:
    trained = policy_module(build("llama", len(tokenizer)), "tiny")
    save(trained, tokenizer, tmp_path / "model")
    state = torch.get_rng_state()
    one, same, other = (load_untrained(tmp_path / "model", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for (name, weight), again, fresh, kept in zip(
        one.host.named_parameters(),
        same.host.parameters(),
        other.host.parameters(),
        load_policy(tmp_path / "model").host.parameters(),
        strict=True,
    ):
        assert weight.shape == kept.shape and torch.equal(weight, again)
        assert "norm" in name or not (torch.equal(weight, fresh) or torch.equal(weight, kept))
