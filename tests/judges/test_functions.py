"""Reward functions in TRL's signature, good ones and bad ones."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.judges.build import build_judge
from tutelage.judges.judge import Judge
from tutelage.records import Message, Prompt, Response, Score

PLAIN = [Response(Prompt("How many?", reference={"answer": "3"}), "three", (1,), (7, 8), (0.0, 0.0), "eos"),
         Response(Prompt("Why so?", reference={"hint": 2}), "because", (1,), (9,), (0.0,), "eos")]  # fmt: skip
CHAT = [Response.written(Prompt((Message("user", "Hello?"),)), "Hi.")]


def judged(thing: Any, monkeypatch) -> Judge:
    module = ModuleType("given_rewards")
    module.reward = thing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "given_rewards", module)
    return build_judge("python:given_rewards:reward")


def values(judge: Judge, responses: list[Response]) -> list[float | None]:
    return [None if score is None else score.value for score in judge.score(responses)]


def test_a_function_gets_what_trl_gives(monkeypatch) -> None:
    seen: dict[str, Any] = {}

    def reward(prompts, completions, completion_ids, **columns):
        seen.update(columns, prompts=prompts, completions=completions, completion_ids=completion_ids)
        return [1, None]

    assert values(judged(reward, monkeypatch), PLAIN) == [1.0, None]
    assert seen == {
        "prompts": ["How many?", "Why so?"], "completions": ["three", "because"], "completion_ids": [[7, 8], [9]],
        "answer": ["3", None], "hint": [None, 2],
    }  # fmt: skip


def test_a_chat_is_given_as_messages(monkeypatch) -> None:
    def reward(prompts, completions, **columns):
        assert prompts == [[{"role": "user", "content": "Hello?"}]]
        return [len(completion[0]["content"]) for completion in completions]

    assert values(judged(reward, monkeypatch), CHAT) == [3.0]


def test_a_function_gets_only_what_it_names(monkeypatch) -> None:
    assert values(judged(lambda completions, hint=None: [h or 0 for h in hint], monkeypatch), PLAIN) == [0, 2]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda v: [np.float32(x) for x in v],
                                  lambda v: [torch.tensor(x) for x in v]])  # fmt: skip
def test_numbers_may_come_in_any_form(kind, monkeypatch) -> None:
    assert values(judged(lambda completions, **_: kind([0.5, 2.0]), monkeypatch), PLAIN) == [0.5, 2.0]


def test_a_function_may_be_async_also_within_a_loop(monkeypatch) -> None:
    async def reward(completions, **columns):
        await asyncio.sleep(0)
        return [len(text) for text in completions]

    judge = judged(reward, monkeypatch)

    async def within() -> list[float | None]:
        return values(judge, PLAIN)

    with ThreadPoolExecutor(
        1
    ) as pool:  # in a thread whose loop is ours, whatever other tests have left in this one
        inside = pool.submit(lambda: asyncio.run(within())).result()
    assert values(judge, PLAIN) == inside == [5.0, 7.0]


def test_an_object_that_is_called_is_a_function(monkeypatch) -> None:
    class Reward:
        def __call__(self, completions, **columns):
            return [1.0] * len(completions)

    assert values(judged(Reward(), monkeypatch), PLAIN) == [1, 1]
    assert values(judged(Reward, monkeypatch), PLAIN) == [1, 1]


def test_a_judge_and_what_makes_one_are_found_as_before(monkeypatch) -> None:
    class Fixed(Judge):
        name = "fixed"

        def score(self, responses):
            return [Score(4.0) for _ in responses]

    for thing in (Fixed, Fixed(), lambda: Fixed()):
        assert values(judged(thing, monkeypatch), PLAIN) == [4, 4]


def bad_row(completions, **columns):
    return [1.0 / (text != "because") for text in completions]


@pytest.mark.parametrize(
    ("reward", "what", "prompt"),
    [
        (bad_row, "raised ZeroDivisionError", "Why so?"),
        (lambda completions, **_: [1.0, float("nan")], "returned nan, not a finite number", "Why so?"),
        (lambda completions, **_: [float("inf"), 0], "returned inf, not a finite number", "How many?"),
        (lambda completions, **_: [0, "1"], "returned '1', not a finite number", "Why so?"),
        (lambda completions, **_: [0], "returned 1 value for 2 responses", "How many?"),
        (lambda completions, **_: "no", "returned str 'no' for 2 responses", "How many?"),
        (lambda completions, **_: None, "returned NoneType None for 2 responses", "How many?"),
        (lambda completions, **_: 1.0, "returned float 1.0 for 2 responses", "How many?"),
        (lambda completions, **_: sys.exit("no key"), "raised SystemExit: no key", "How many?"),
        (lambda completions, solution: [0, 0], "columns={reference.solution: solution}", "How many?"),
        (
            lambda completions, trainer_state: [0, 0],
            "'trainer_state', which TRL's trainer gives",
            "How many?",
        ),
    ],
)
def test_what_is_no_score_names_the_function_and_the_row(reward, what, prompt, monkeypatch) -> None:
    judge = judged(reward, monkeypatch)
    with pytest.raises(ValueError) as error:
        judge.score(PLAIN)
    text = str(error.value)
    assert (
        "python:given_rewards:reward" in text and what in text and repr(prompt) in text and "\n" not in text
    )


def test_a_column_may_not_be_called_as_what_is_given(monkeypatch) -> None:
    given = [Response.written(Prompt("p", reference={"completions": 1}), "x")]
    with pytest.raises(ValueError, match="column 'completions'"):
        judged(lambda **columns: [0], monkeypatch).score(given)


@pytest.mark.parametrize("thing", [3, lambda first: first, "text"])
def test_what_is_neither_judge_nor_function_is_refused(thing, monkeypatch) -> None:
    with pytest.raises(ValueError, match="given_rewards:reward"):
        judged(thing, monkeypatch)
