"""`mark`: labels by hand and against exact probabilities, files that `process` reads, and a killed run that ends the same."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.rollout.conftest import WORDS, build, prepared
from tests.train.making import make_tokenizer
from tutelage.data.reading.formats import read_step_marks
from tutelage.data.steps import StepEnds
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Finish, Prompt, Response, Score, StepMarks
from tutelage.resume import read_metrics
from tutelage.rollout import mark
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.mark import measured
from tutelage.rollout.steps import Completer, in_steps, labels
from tutelage.settings.base import build as settings_of
from tutelage.settings.rollout import MarkSettings

PROMPT = Prompt("1+1+1: ", reference={"answer": 3})


class Scripted:
    """A generator that goes on from each text as it is told to, and remembers from where it was asked to."""

    def __init__(self, tokenizer: Any, script: Mapping[str, Sequence[str]]) -> None:
        self.tokenizer, self.script, self.asked = tokenizer, script, []

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        begun = [self.tokenizer.decode(list(prefix.begun)) for prefix in prefixes]
        self.asked.append(begun)
        found = []
        for prefix, text in zip(prefixes, begun, strict=True):
            assert len(self.script[text]) == sampling.samples
            for number, added in enumerate(self.script[text]):
                ids = (*self.tokenizer(added)["input_ids"], self.tokenizer.eos_token_id)
                before = (7, *prefix.begun)
                found.append(Response(prefix.prompt, added, before, ids, (0.0,) * len(ids), "eos", number))
        return found


class EndsWithThree(Judge):
    """2 where a whole response ends with 3; it sees whole ones only."""

    name = "three"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        assert all(r.text.startswith("1+1=") and r.prompt_ids == (7,) for r in responses)
        return [Score(2.0 if r.text.endswith("3") else 0.25) for r in responses]


def solution(tokenizer: Any, text: str, finish: Finish = "eos") -> Response:
    ids = [*tokenizer(text)["input_ids"], *([tokenizer.eos_token_id] if finish == "eos" else [])]
    return Response(PROMPT, text, (7,), tuple(ids), (), finish)


SCRIPT = {
    "1+1=2\n": ["2+1=3", "2+1=4", "3", "4"],
    "1+1=4\n": ["4+1=5", "5", "5", "4"],
    "1+1=4\n4-1=3\n": ["So 3", "5", "So 3", "3"],
    "1+1=2\n2+1": ["=4", "=3", "=4", "=4"],
}
SOLUTIONS: list[tuple[str, Finish]] = [
    ("1+1=2\n2+1=3", "eos"),
    ("1+1=4\n4+1=5", "eos"),
    ("1+1=4\n4-1=3\nSo 3", "eos"),
    ("1+1=2\n2+1", "length"),
]


@pytest.mark.parametrize("first_error", [True, False])
def test_labels_are_what_the_rollouts_say(first_error: bool) -> None:
    """2 of 4, then right; 0 of 4, then wrong; 0 of 4 after which nothing is rolled out, but the end is right; cut: 1 of 4."""
    tokenizer = make_tokenizer()
    generator, find, through = Scripted(tokenizer, SCRIPT), StepEnds(tokenizer, "\n"), []
    completer = Completer(
        generator, tokenizer, EndsWithThree(), Sampling(40, samples=4), 0.5, first_error, through.append
    )  # fmt: skip
    given = [in_steps(solution(tokenizer, *one), find, "\n", 40) for one in SOLUTIONS]
    found = completer(given)
    assert [labels(one.scores, 0.5, soft=True) for one in found] == [
        (0.5, 1.0),
        (0.0, 0.0),
        (0.0, None if first_error else 0.75, 1.0),
        (0.5, 0.25),
    ]
    assert [labels(one.scores, 0.5, soft=False) for one in found] == [
        (1, 1), (-1, -1), (-1, None if first_error else 1, 1), (1, 1),
    ]  # fmt: skip
    assert labels(found[0].scores, 0.0, soft=True) == (1.0, 1.0)
    assert sorted(text for wave in generator.asked for text in wave) == sorted(
        set(SCRIPT) - ({"1+1=4\n4-1=3\n"} if first_error else set())
    )  # each once, whoever shares it
    assert [one.rollouts for one in found] == [4, 4, 0 if first_error else 4, 4]
    tokens = sum(len(tokenizer(added)["input_ids"]) + 1 for added in SCRIPT["1+1=2\n"])
    assert found[0].tokens == tokens and [one.score for one in found] == [2.0, 0.25, 2.0, 0.25]
    assert sum(through) == len(found)


def test_what_is_as_long_as_may_be_is_whole() -> None:
    """Nothing can be added to it: its last step is what it came to."""
    tokenizer = make_tokenizer()
    cut = solution(tokenizer, "1+1=2\n2+1", "length")
    find = StepEnds(tokenizer, "\n")
    whole, going = (in_steps(cut, find, "\n", len(cut.ids) + more) for more in (0, 1))
    assert (whole.whole, len(whole.prefixes)) == (True, 1) and (going.whole, len(going.prefixes)) == (
        False,
        2,
    )
    assert going.prefixes[1].begun == cut.ids and whole.steps == going.steps == ("1+1=2", "2+1")
    assert in_steps(solution(tokenizer, " \n"), find, "\n", 40).steps == ()


def test_the_figures_by_hand() -> None:
    lines_of = [
        (True, 1.0, [[1, 0], [1.0]], "eos", 2, 9),
        (True, 0.0, [[0, 0], None, [0.0]], "length", 2, 5),
        (False, 1.0, [[1, 1]], "length", 0, 0),
        (True, 0.0, [], "eos", 0, 0),
    ]
    names = ("whole", "score", "scores", "finish", "rollouts", "rollout_tokens")
    rows = [dict(zip(names, one, strict=True)) | {"completions": ["x"] * len(one[2])} for one in lines_of]
    assert measured(rows, 0.5, soft=True) == pytest.approx(
        {"responses": 4, "right_rate": 1 / 3, "unmarked": 1, "missing_eos_rate": 0.5, "marked_steps": 5, "marked_share": 5 / 6,
         "mean_label": 2.5 / 5, "zero_rate": 2 / 5, "undecided_rate": 1 / 3, "rollouts": 4, "tokens": 14}
    )  # fmt: skip
    assert measured(rows, 0.5, soft=False)["mean_label"] == pytest.approx(3 / 5)


class EvenEnd(Judge):
    """1 where the last token has an even number."""

    name = "even"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(r.ids[-1] % 2 == 0)) for r in responses]


def test_a_label_estimates_the_probability_of_coming_out_right(tokenizer) -> None:
    """One token is missing: what it may be is known exactly."""
    response = Response(
        Prompt("what is"), "x\ny", (40, 41), tuple(tokenizer("x\ny")["input_ids"]), (), "length"
    )
    assert len(response.ids) == 3
    n, generator = 3000, LocalGenerator(prepared("llama"), tokenizer)
    completer = Completer(generator, tokenizer, EvenEnd(), Sampling(4, 0.7, n), 0.5, True)
    [found] = completer([in_steps(response, StepEnds(tokenizer, "\n"), "\n", 4)])
    prompt = tuple(tokenizer("what is")["input_ids"])
    with torch.no_grad():
        logits = build("llama")(torch.tensor([prompt + response.ids])).logits[0, -1].double() / 0.7
    right = logits.softmax(-1)[::2].sum().item()
    last = labels(found.scores, 0.5, soft=True)[-1]
    assert last == pytest.approx(right, abs=4 * math.sqrt(right * (1 - right) / n)) and 0.1 < right < 0.9


# ---- the command -------------------------------------------------------------------------------------------------------

VOWELS = "python:tests.rollout.test_mark:reward"


def reward(completions: list[Any], **columns: Any) -> list[float]:
    """Whether there are more than two vowels in it."""
    texts = [said if isinstance(said, str) else said[-1]["content"] for said in completions]
    return [float(sum(map(text.count, "aeiou")) > 2) for text in texts]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    tokenizer = train_tokenizer([*WORDS, "a\nb\n"], 280)
    folder = tmp_path_factory.mktemp("sft")
    model = tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=96)
    with torch.no_grad():  # so that many responses end, and most have several lines
        for number, token in enumerate((tokenizer.eos_token_id, *tokenizer("\n")["input_ids"])):
            model.host.lm_head.weight[token] += 0.9 * torch.randn(
                16, generator=torch.Generator().manual_seed(number)
            )
    save(model, tokenizer, folder / "model")
    return folder


@pytest.fixture
def given(checkpoint, tmp_path, monkeypatch) -> dict[str, Any]:
    monkeypatch.setattr(mark, "GROUP", 4)
    rows = [{"prompt": f"question {i}", "task": "maths", "reference": {"answer": i}} for i in range(9)]
    rows.append({"prompt": [{"role": "user", "content": "and you?"}]})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "out": str(tmp_path / "run"),
        "model": str(checkpoint),
        "prompts": str(tmp_path / "prompts.jsonl"),
        "reward": VOWELS,
        "samples": 3,
        "rollouts": 4,
        "max_new_tokens": 24,
        "device": "cpu",
        "precision": "fp32",
        "kernels": "off",
    }


def marked(given: dict[str, Any], **changes: Any) -> str:
    said = io.StringIO()
    launch("mark", settings_of(MarkSettings, {**given, **changes}), Console(file=said, width=100))
    return " ".join(said.getvalue().split())


def lines(folder: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (Path(folder) / name).read_text().splitlines()]


def test_what_it_writes_is_what_process_reads(given) -> None:
    said = marked(given)
    rows, steps = lines(given["out"], "samples.jsonl"), lines(given["out"], "steps.jsonl")
    assert len(rows) == 30 and len(steps) == sum(bool(row["scores"]) for row in rows) > 20
    assert max(len(row["completions"]) for row in rows) > 2
    read = list(read_step_marks(str(Path(given["out"]) / "steps.jsonl")))
    for found, row in zip(read, [row for row in rows if row["scores"]], strict=True):
        assert isinstance(found, StepMarks) and found.soft and found.steps == tuple(row["completions"])
        assert found.prompt.reference == row["reference"] and found.finish == row["finish"]
        assert found.outcome == (row["score"] > 0.5) == (reward([row["response"]])[0] > 0.5)
        assert found.labels[-1] == float(found.outcome)
        for label, scores in zip(found.labels, row["scores"], strict=True):
            assert label == (None if scores is None else sum(scores) / len(scores))
        wrong = [label == 0 for label in found.labels[:-1]]
        assert (
            all(label is None for label in found.labels[wrong.index(True) + 1 : -1]) if any(wrong) else True
        )
    assert any(0 < (label or 0) < 1 for row in read for label in row.labels)
    (figures,) = read_metrics(Path(given["out"]))
    assert figures["rollouts"] == sum(row["rollouts"] for row in rows) > 0
    assert figures["rollouts_per_second"] > 0 and "mean label" in said


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_files(given, tmp_path, monkeypatch) -> None:
    marked(given)
    names = ("samples.jsonl", "steps.jsonl")
    whole = [(Path(given["out"]) / name).read_bytes() for name in names]
    again, groups = {**given, "out": str(tmp_path / "again")}, []
    write, go_on = LocalGenerator.generate, LocalGenerator.continue_from

    def counts(self, *args):
        groups.append(1)
        return write(self, *args)

    def dies(self, *args):
        if len(groups) == 2:
            raise KeyboardInterrupt
        return go_on(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LocalGenerator, "generate", counts)
        patch.setattr(LocalGenerator, "continue_from", dies)
        with pytest.raises(KeyboardInterrupt):
            marked(again)
    there = lines(again["out"], "samples.jsonl")
    assert len(there) == 12
    with (tmp_path / "again" / "samples.jsonl").open("a") as stream:  # part of a group, and of a line
        stream.write((Path(given["out"]) / "samples.jsonl").read_text().splitlines()[len(there)] + '\n{"cut')
    marked(again)
    assert [(Path(again["out"]) / name).read_bytes() for name in names] == whole
    first, second = (read_metrics(Path(folder)) for folder in (given["out"], again["out"]))
    for name in ("rollouts", "tokens", "mean_label", "zero_rate", "marked_steps"):
        assert first[0][name] == second[0][name]
    assert len(second) == 1 and "done already" in marked(again)


@pytest.mark.slow
def test_labels_of_the_other_kind_draw_nothing_anew(given, monkeypatch) -> None:
    marked(given)
    drawn, soft = lines(given["out"], "samples.jsonl"), lines(given["out"], "steps.jsonl")

    def never(self, *args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(LocalGenerator, "continue_from", never)
    monkeypatch.setattr(LocalGenerator, "generate", never)
    assert "goes on with labels=hard (before: soft)" in marked(given, labels="hard")
    hard = lines(given["out"], "steps.jsonl")
    assert lines(given["out"], "samples.jsonl") == drawn
    for before, after in zip(soft, hard, strict=True):
        expected = [None if label is None else 1 if label else -1 for label in before["labels"]]
        assert after["marks"] == expected and "labels" not in after
    with pytest.raises(ValueError, match=r"holds a different run \(rollouts"):
        marked(given, rollouts=5)


def test_solutions_that_are_there_are_marked_whatever_was_said_of_them(given, tmp_path) -> None:
    """Rows in steps, a demonstration, one that is labelled as bad; what is too long is dropped and counted."""
    rows = [
        {
            "prompt": "one",
            "completions": ["a e", "b"],
            "labels": [True, False],
            "completion_finish": "length",
        },
        {"prompt": "one", "response": "aei\nb\n\nc", "reference": {"answer": 3}},
        {"prompt": "two", "completion": "b\nc", "label": False},
        {"prompt": "two", "completion": "b\n" * 40},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"prompt": "two", "completion": " \n"},
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"prompts": "", "data": str(tmp_path / "data.jsonl"), "samples": 4, "max_dropped_share": 0.9}
    said = marked(given, **changes)
    assert (
        "longer than max_new_tokens=24" in said and "is a conversation: write prompt and completion" in said
    )
    found = lines(given["out"], "samples.jsonl")
    assert [row["completions"] for row in found] == [["a e", "b"], ["aei", "b", "c"], ["b", "c"]]
    assert [row["whole"] for row in found] == [False, True, True]
    assert [len(row["scores"]) for row in found] == [2, 3, 2]
    assert found[1]["scores"] == [[1.0] * 4, [1.0] * 4, [1.0]] and found[2]["scores"][-1] == [0.0]
    steps = lines(given["out"], "steps.jsonl")
    assert [row["outcome"] for row in steps] == [None, True, False]
    assert steps[1]["labels"] == [1.0, 1.0, 1.0] and steps[1]["reference"] == {"answer": 3}


def test_what_cannot_be_marked_is_one_sentence(given, tmp_path) -> None:
    with pytest.raises(
        ValueError,
        match=r"the judge verify:maths does not apply to the prompt 'user: and you.* lacks a reference: add it",
    ):
        marked(given, reward="verify:maths", out=str(tmp_path / "maths"))
    (tmp_path / "bare.jsonl").write_text(
        '{"prompt": "a", "completion": "b", "reference": {"n": 1}}\n{"prompt": "a"}\n'
    )
    with pytest.raises(
        ValueError, match=r"prompt 'a' \(.*bare.jsonl line 1\), whose row lacks a right answer"
    ):
        marked(given, prompts=str(tmp_path / "bare.jsonl"), reward="verify:maths", out=str(tmp_path / "bare"))
    with pytest.raises(ValueError, match=r"max_new_tokens=96 leaves no room for a prompt"):
        marked(given, max_new_tokens=96, out=str(tmp_path / "long"))
    (tmp_path / "empty.jsonl").write_text('{"prompt": "a", "completion": " "}\n')
    with pytest.raises(ValueError, match="1 of 1"):
        marked(given, prompts="", data=str(tmp_path / "empty.jsonl"), samples=4, out=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="nowhere"):
        marked(given, model=str(tmp_path / "nowhere"), out=str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"prompts": ""}, "neither is given"),
        ({"data": "d.jsonl"}, "both are given"),
        ({"prompts": "", "data": "d.jsonl", "samples": 2}, "samples is for solutions that the model writes"),
        ({"prompts": "", "data": "d.jsonl", "max_prompts": 2}, "max_prompts is for solutions"),
        ({"temperature": 0.0}, "draws the same rollout every time"),
        ({"rollouts": 0}, "rollouts"),
        ({"reward": [{"judge": "formula:flesch", "normalise": "rank"}]}, "take zscore or none"),
        ({"reward": "verify:math"}, "there is no judge verify:math"),
    ],
)
def test_unusable_settings_are_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings_of(MarkSettings, {"prompts": "p.jsonl", **wrong})
