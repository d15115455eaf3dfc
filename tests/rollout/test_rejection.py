"""`select`: what is kept of what was drawn, a killed run that ends with the same file, and that `sft` trains on it."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.processes import Started
from tests.rollout.conftest import WORDS
from tutelage.data.reading.formats import read_demonstrations
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.resume import read_lineage, read_metrics
from tutelage.rollout import rejection
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.rejection import chosen_rows
from tutelage.settings.base import build, load
from tutelage.settings.rollout import SelectSettings
from tutelage.settings.train import SFTSettings

VOWELS = "python:tests.rollout.test_rejection:reward"


def reward(completions: list[Any], **columns: Any) -> list[float]:
    """The share of letters that are vowels, and a little for length: ties are rare."""
    texts = [said if isinstance(said, str) else said[-1]["content"] for said in completions]
    return [sum(map(text.count, "aeiou")) / (len(text) + 1) + 0.001 * len(text) for text in texts]


def row(prompt: str, text: str, score: float, finish: str = "eos") -> dict[str, Any]:
    return {"prompt_id": prompt, "response": text, "score": score, "finish": finish}


ROWS = [
    row("a", "w", 1.0),
    row("a", "x", 3.0),
    row("a", "x", 3.0),
    row("a", "y", 9.0, "length"),
    row("b", "x", 2.0),
    row("b", "z", 2.0),
    row("b", " ", 8.0),
    row("b", "v", 0.0),
]


@pytest.mark.parametrize(
    "given, kept",
    [
        ({}, [1, 4]),  # the best of each prompt; cut, empty and repeated ones are out; of equals the first
        ({"keep": 2}, [0, 1, 4, 5]),
        ({"keep": 2, "deduplicate": False}, [1, 2, 4, 5]),
        ({"keep_cut": True}, [3, 4]),
        ({"keep": 0, "threshold": 2.0}, [1, 4, 5]),
        ({"threshold": 2.5}, [1]),
        ({"threshold": 9.5}, []),
        ({"keep": 0, "top_share": 0.25}, [1, 4]),  # 2 of 8
        ({"keep": 0, "top_share": 0.25, "deduplicate": False}, [1, 2]),
        ({"top_share": 0.01}, [1]),  # at least one
        ({"keep": 0}, [0, 1, 4, 5, 7]),
    ],
)
def test_what_is_kept(given: dict[str, Any], kept: list[int]) -> None:
    assert chosen_rows(ROWS, build(SelectSettings, {"prompts": "p.jsonl", **given})) == kept


def test_by_chance_as_many_of_each_prompt_are_kept() -> None:
    rows = [row(prompt, f"{k}", float(k)) for prompt in "abcdefghij" for k in range(20)]
    rows += [row("cut", "x", 50.0, "length")]

    def kept(**given: Any) -> list[int]:
        return chosen_rows(rows, build(SelectSettings, {"prompts": "p.jsonl", "keep": 3, **given}))

    best, chance = kept(), kept(select="random")
    per_prompt = lambda numbers: sorted(rows[n]["prompt_id"] for n in numbers)  # noqa: E731
    assert per_prompt(best) == per_prompt(chance) and len(set(chance)) == 30
    assert {rows[n]["score"] for n in best} == {17.0, 18.0, 19.0}
    assert sum(rows[n]["score"] for n in chance) / 30 == pytest.approx(9.5, abs=3)
    assert chance == kept(select="random") != kept(select="random", seed=1)
    order = {n: number for number, n in enumerate(chance)}
    assert list(order) == sorted(order)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    tokenizer = train_tokenizer(WORDS, 280)
    folder = tmp_path_factory.mktemp("sft")
    model = tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=64)
    with torch.no_grad():  # so that many responses end
        model.host.lm_head.weight[tokenizer.eos_token_id] += 0.9 * torch.randn(
            16, generator=torch.Generator().manual_seed(0)
        )
    save(model, tokenizer, folder / "model")
    return folder


@pytest.fixture
def given(checkpoint, tmp_path, monkeypatch) -> dict[str, Any]:
    monkeypatch.setattr(rejection, "GROUP", 4)
    rows = [{"prompt": f"question {i}", "task": "maths", "reference": {"answer": i}} for i in range(9)]
    rows.append({"prompt": [{"role": "user", "content": "and you?"}]})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "out": str(tmp_path / "run"),
        "model": str(checkpoint),
        "prompts": str(tmp_path / "prompts.jsonl"),
        "reward": VOWELS,
        "samples": 8,
        "max_new_tokens": 12,
        "device": "cpu",
        "precision": "fp32",
        "kernels": "off",
    }


def select(given: dict[str, Any], **changes: Any) -> str:
    said = io.StringIO()
    launch("select", build(SelectSettings, {**given, **changes}), Console(file=said, width=100))
    return " ".join(said.getvalue().split())


def lines(folder: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (Path(folder) / name).read_text().splitlines()]


def test_the_best_become_demonstrations(given) -> None:
    said = select(given)
    drawn, kept = lines(given["out"], "samples.jsonl"), lines(given["out"], "demonstrations.jsonl")
    assert len(drawn) == 80 and all(r["score"] == reward([r["response"]])[0] for r in drawn)
    prompts = {json.dumps(r["prompt"]) for r in drawn if r["finish"] == "eos" and r["response"].strip()}
    assert {json.dumps(r["prompt"]) for r in kept} == prompts and len(kept) == len(prompts) >= 8
    for found in kept:
        own = [r for r in drawn if r["prompt"] == found["prompt"] and r["finish"] == "eos"]
        assert found["score"] == max(r["score"] for r in own if r["response"].strip())
    read = list(read_demonstrations(str(Path(given["out"]) / "demonstrations.jsonl")))
    assert [(d.response, d.finish) for d in read] == [(r["response"], "eos") for r in kept]
    assert {d.prompt.task for d in read} == {"maths", ""}
    assert any(d.prompt.reference == {"answer": 3} for d in read)
    (figures,) = read_metrics(Path(given["out"]))
    scores = [r["score"] for r in drawn]
    gain = sum(r["score"] for r in kept) / len(kept) - sum(scores) / 80
    assert figures["selection_gain"] == pytest.approx(gain) and gain > 0
    assert figures["tokens"] == sum(r["tokens"] for r in drawn) and figures["drawing_seconds"] > 0
    assert f"{len(kept)} of 80 responses" in said and "selection gain" in said


def test_where_nothing_is_kept_something_else_is_said(given) -> None:
    """The kept ones stay as they are; every other prompt has that, with its task and reference, and changing it draws nothing."""
    select(given, threshold=0.2)
    kept = lines(given["out"], "demonstrations.jsonl")
    said = select(given, threshold=0.2, otherwise="I do not know.")
    assert "goes on with otherwise='I do not know.'" in said or "otherwise" in said
    found = lines(given["out"], "demonstrations.jsonl")
    others = [row for row in found if row["score"] is None]
    assert [row for row in found if row["score"] is not None] == kept
    assert len(others) > 0 and len(found) == 10 and {row["response"] for row in others} == {"I do not know."}
    asked = [json.loads(text) for text in Path(given["prompts"]).read_text().splitlines()]
    assert [row["prompt"] for row in found] == [row["prompt"] for row in asked]
    assert all(row["reference"] == before.get("reference") for row, before in zip(found, asked, strict=True))
    read = list(read_demonstrations(str(Path(given["out"]) / "demonstrations.jsonl")))
    assert len(read) == 10 and all(demo.finish == "eos" for demo in read)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_files(given, tmp_path, monkeypatch) -> None:
    select(given)
    whole = [(Path(given["out"]) / name).read_bytes() for name in ("samples.jsonl", "demonstrations.jsonl")]
    again, draw, calls = {**given, "out": str(tmp_path / "again")}, LocalGenerator.generate, []

    def dies(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LocalGenerator, "generate", dies)
        with pytest.raises(KeyboardInterrupt):
            select(again)
    assert len(lines(again["out"], "samples.jsonl")) == 32
    with (tmp_path / "again" / "samples.jsonl").open("a") as stream:  # part of a group, and of a line
        stream.write((Path(given["out"]) / "samples.jsonl").read_text().splitlines()[32] + '\n{"cut sh')
    select(again)
    found = [(Path(again["out"]) / name).read_bytes() for name in ("samples.jsonl", "demonstrations.jsonl")]
    assert found == whole and len(read_metrics(Path(again["out"]))) == 1
    assert "done already" in select(again)


@pytest.mark.slow
def test_another_choice_draws_nothing_anew(given, monkeypatch) -> None:
    with pytest.raises(
        ValueError, match=r"none of the 80 responses scores threshold=99; .* draws nothing anew"
    ):
        select(given, threshold=99.0)
    drawn = lines(given["out"], "samples.jsonl")

    def never(self, *args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(LocalGenerator, "generate", never)
    select(given)
    best = lines(given["out"], "demonstrations.jsonl")
    said = select(given, keep=3)
    assert "goes on with keep=3 (before: 1)" in said
    assert len(lines(given["out"], "demonstrations.jsonl")) > len(best)
    assert lines(given["out"], "samples.jsonl") == drawn
    (figures,) = read_metrics(Path(given["out"]))
    assert figures["kept"] == len(lines(given["out"], "demonstrations.jsonl"))
    assert (read_lineage(Path(given["out"])) or {})["state"] == "done"
    with pytest.raises(ValueError, match=r"holds a different run \(temperature"):
        select(given, temperature=0.5)


@pytest.mark.slow
def test_sft_trains_on_what_was_kept_in_several_rounds(given, tmp_path) -> None:
    select(given)
    select(given, out=str(tmp_path / "second"), seed=1)
    folders = [Path(given["out"]), tmp_path / "second"]
    data = [str(folder / "demonstrations.jsonl") for folder in folders]
    arguments = [f"data=[{', '.join(data)}]", f"model={given['model']}", f"out={tmp_path / 'trained'}"]
    arguments += ["max_steps=12", "batch_size=4", "learning_rate=0.01", "device=cpu", "precision=fp32"]
    arguments += ["kernels=off", "heldout_share=0"]
    said = io.StringIO()
    launch("sft", load(SFTSettings, arguments), Console(file=said, width=200))
    kept = sum(len(lines(str(folder), "demonstrations.jsonl")) for folder in folders)
    assert f"{kept} read, {kept} kept" in said.getvalue()
    losses = [found["loss"] for found in read_metrics(tmp_path / "trained")]
    assert losses[-1] < losses[0] - 0.5


def test_unusable_settings_are_one_sentence() -> None:
    for wrong, sentence in (
        ({"temperature": 0.0}, "draws the same response every time"),
        ({"reward": [{"judge": "formula:flesch", "normalise": "rank"}]}, "take zscore or none"),
        ({"top_share": 0.0}, "top_share"),
        ({"keep": -1}, "keep"),
        ({"otherwise": "  "}, "would teach to say nothing"),
    ):
        with pytest.raises(ValueError, match=sentence):
            build(SelectSettings, {"prompts": "p.jsonl", "reward": "formula:flesch", **wrong})


@pytest.mark.slow
def test_killed_in_the_midst_of_drawing_it_ends_with_the_same_file(checkpoint, given, tmp_path) -> None:
    """The command itself, with SIGKILL, and half a line left on the disk beside a whole group."""
    rows = [{"prompt": f"question {i}", "reference": {"answer": i}} for i in range(2 * 256 + 7)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given |= {"prompts": str(tmp_path / "many.jsonl"), "samples": 2}

    def start(name: str) -> Started:
        args = [f"{key}={value}" for key, value in given.items() if key != "out"]
        return Started(["select", *args, f"out={tmp_path / name}"], tmp_path / f"{name}.txt")

    samples = tmp_path / "killed" / "samples.jsonl"
    process = start("killed")
    while not samples.exists() or samples.read_bytes().count(b"\n") < 256 * 2:
        assert process.running, process.said
        time.sleep(0.005)
    process.kill()
    assert 1 <= samples.read_bytes().count(b"\n") // (256 * 2) < 3
    with samples.open("ab") as stream:
        stream.write(b'{"prompt_id": "half a li')
    for name in ("killed", "whole"):
        process = start(name)
        assert process.wait() == 0, process.said
    for file in ("samples.jsonl", "demonstrations.jsonl"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert samples.read_bytes().count(b"\n") == 2 * len(rows)
