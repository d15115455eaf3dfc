"""One policy for all weights: what it reads, what it is scored by, that it learns to follow them, and bad input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.judges.kit import Says
from tests.train.making import make_model, make_tokenizer
from tutelage.evals.front.members import members_of
from tutelage.judges.combine import Mix, Part
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.records import Message, Prompt, Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.weights import Weighing, WeightsInPrompts, grid
from tutelage.settings.base import build, load
from tutelage.settings.front import FrontSettings
from tutelage.settings.rl import ReinforceSettings
from tutelage.settings.rollout import SampleSettings

PLAIN = Prompt("What is it?", "task", {"answer": 1})


@pytest.mark.parametrize(("parts", "steps"), [(2, 1), (2, 4), (3, 4), (4, 2)])
def test_the_grid_is_all_of_the_simplex(parts: int, steps: int) -> None:
    found = grid(parts, steps)
    assert len(set(found)) == len(found) == comb(steps + parts - 1, parts - 1)
    assert all(sum(each) == pytest.approx(1) and min(each) >= 0 for each in found)
    assert found[0] == (1.0,) + (0.0,) * (parts - 1)


def test_weights_stand_in_front_of_what_is_asked() -> None:
    weighing = Weighing({"short": 0.25, "kind": 0.75})
    put = weighing.before(PLAIN)
    assert put.content == "[short 0.25, kind 0.75]\nWhat is it?"
    assert (put.plain, put.task, put.reference) == (PLAIN, "task", {"answer": 1}) and put.id != PLAIN.id
    chat = (Message("system", "be"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    told = weighing.before(Prompt(chat)).content
    assert [message.content for message in told] == ["be", "a", "b", "[short 0.25, kind 0.75]\nc"]  # type: ignore[union-attr]


def test_draws_depend_on_seed_and_step_alone() -> None:
    drawn = WeightsInPrompts(["a", "b"], 4, 7)
    first = drawn.before([PLAIN] * 200, range(200), 3)
    assert first == drawn.before([PLAIN] * 200, range(200), 3) != drawn.before([PLAIN] * 200, range(200), 4)
    counts = [sum(dict(put.weights)["a"] == share / 4 for put in first) for share in range(5)]
    assert min(counts) > 20  # 40 expected of each


def test_a_mix_scores_by_the_weights_that_the_prompt_names() -> None:
    """Judges are shown the prompt without them; a part that no weight names keeps its own."""

    class Seen(Says):
        def score(self, responses: Sequence[Response]) -> list[Score | None]:
            assert all(response.prompt == PLAIN and not response.prompt_ids for response in responses)
            return super().score(responses)

    parts = [
        Part(Seen({"x": 1.0}), "a", 2.0), Part(Seen({"x": 10.0}), "b"), Part(Seen({"x": 100.0}), "own", 0.5),
        Part(Seen({"x": 0.0}), "gate", gate=-1.0),
    ]  # fmt: skip
    put = Weighing({"a": 0.25, "b": 0.75}).before(PLAIN)
    response = Response(put, "x", (1, 2), (3,), (0.0,), "eos")
    [score] = Mix(parts).score([response])
    assert score is not None and score.value == 2 * 0.25 * 1 + 0.75 * 10 + 0.5 * 100
    assert score.parts == {"a": 1.0, "b": 10.0, "own": 100.0, "gate": 0.0}


@pytest.mark.parametrize(
    "reward",
    [
        "world",
        [{"judge": "world", "name": "one"}],
        [{"judge": "world"}, {"judge": "world", "name": "two"}],
        [{"judge": "world", "name": "one"}, {"judge": "world", "name": "two", "gate": 0.0}],
    ],
)
def test_what_has_no_weights_to_name_is_refused(reward: Any) -> None:
    with pytest.raises(ValueError, match="weights_in_prompt=4 writes what each part of the reward counts"):
        build(ReinforceSettings, {"prompts": "p", "reward": reward, "weights_in_prompt": 4})


def test_examples_and_weights_are_not_both_in_front() -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        load(SampleSettings, ["model=few-shot-2:runs/x", "prompts=p", "demonstrations=d", "weights={a: 1}"])


class Low(Judge):
    """The share of a response's tokens in the lower half of the vocabulary."""

    name = "low"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        assert not any(response.prompt.text().startswith("[") for response in responses)
        return [Score(sum(token < 150 for token in each.ids) / len(each.ids)) for each in responses]


class High(Low):
    name = "high"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(1.0 - score.value) for score in super().score(responses) if score]


REWARDS = [{"judge": f"python:{__name__}:{name.title()}", "name": name} for name in ("low", "high")]


@pytest.mark.slow
def test_a_policy_learns_to_do_what_the_weights_say(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "start")
    texts = [f"{n} + {n}" for n in range(16)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    prompts = str(tmp_path / "p.jsonl")
    settings = ReinforceSettings(
        model=str(tmp_path / "start"), reward=REWARDS, prompts=prompts, eval_prompts=prompts, out=tmp_path / "run",
        batch_size=16, samples=8, max_new_tokens=6, max_steps=120, learning_rate=1e-2, kl_coef=0.0, missing_eos_score=None,
        weights_in_prompt=1, inner_epochs=1, schedule="constant", precision="fp32", tensorboard=False,
    )  # fmt: skip
    launch("reinforce", settings, Console(quiet=True))
    assert read_metrics(tmp_path / "run")[-1]["eval_objective/scores"] > 0.8  # 0.5 whoever does not read them
    members = members_of([f"policy={tmp_path / 'run'}"])
    assert [member.name for member in members] == ["policy/1-0", "policy/0-1"]
    front = build(
        FrontSettings,
        {"models": [f"policy={tmp_path / 'run'}"], "rewards": REWARDS, "prompts": prompts, "samples": 4, "max_new_tokens": 6,
         "out": tmp_path / "front", "point": [0.0, 0.0], "precision": "fp32"},
    )  # fmt: skip
    launch("eval front", front, Console(quiet=True))
    rows = json.loads((tmp_path / "front" / "results.json").read_text())
    found = {row["model"]: row["value"] for row in rows if row["metric"] == "reward/low"}
    assert found["policy/1-0"] > found["policy/0-1"] + 0.3
    sample = SampleSettings(
        model=str(tmp_path / "run"), prompts=prompts, out=tmp_path / "sample", store=str(tmp_path / "s.sqlite"),
        weights={"low": 0.0, "high": 1.0}, max_new_tokens=6, precision="fp32",
    )  # fmt: skip
    launch("sample", sample, Console(quiet=True))
    lines = [json.loads(line) for line in (tmp_path / "sample" / "samples.jsonl").read_text().splitlines()]
    assert {line["prompt"] for line in lines} == set(texts)
