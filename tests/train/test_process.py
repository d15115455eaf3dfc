"""Process reward models against numbers by hand, invariances, and errors that were planted."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForTokenClassification

from tests.train.chains import chain_tokenizer, chains
from tests.train.making import CPU, gradients, made_once, make_run
from tutelage.data.preflight.steps import prepare_step_marks
from tutelage.data.reading.formats import read_step_marks
from tutelage.data.steps import StepTokens, collate_steps
from tutelage.judges.build import build_judge
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_scalar, load_tokenizer, save
from tutelage.models.policy import ScalarModule
from tutelage.models.tiny import tiny_model
from tutelage.ops.losses import step_marks
from tutelage.records import Prompt, Response, StepMarks
from tutelage.resume import read_metrics
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import result_folder
from tutelage.settings.reward import ProcessSettings
from tutelage.settings.rl import PPOSettings, ReinforceSettings
from tutelage.settings.rollout import MarkSettings, SelectSettings
from tutelage.settings.train import SFTSettings
from tutelage.train.fit import accumulate
from tutelage.train.process import ProcessRewardModelling, main

ROW = StepMarks(Prompt("from 01: "), ("1+1=2", "2+1=4", "4+1=5", "5+1=6"), (1, -1, None, None))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = chain_tokenizer()
    model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=64, seed=0)
    return save(model, tokenizer, tmp_path_factory.mktemp("base") / "model")


def prepared(base: Path, rows: list[StepMarks], **options: Any) -> list[StepTokens]:
    tokenizer = load_tokenizer(base)
    return list(prepare_step_marks(tokenizer, rows, max_length=64, separator="\n", **options).examples)


def scalar(base: Path, heads: int = 1, zero: bool = True) -> ScalarModule:
    model = load_scalar(base, heads=heads)
    if zero:
        torch.nn.init.zeros_(model.head.weight)
    return model


@pytest.mark.parametrize(("heads", "expected"), [(1, math.log(2)), (3, math.log(3))])
def test_untrained_it_knows_nothing(base: Path, heads: int, expected: float) -> None:
    """ln 2 and ln 3 per step, whatever the labels."""
    rows = prepared(base, chains(4, 0))
    loss = ProcessRewardModelling(scalar(base, heads), rows, ProcessSettings()).loss(
        collate_steps(rows, range(4))
    )
    term = loss.terms["step_marks"]
    steps = sum(len(row.labels) for row in rows)
    assert term.per == "tokens" and term.sum.item() == pytest.approx(steps * expected, rel=1e-6)


def test_the_loss_by_hand() -> None:
    """Binary: -p log s(x) - (1 - p) log s(-x). Three classes: the label's share of right and wrong, or all on neutral."""
    logits, labels = [2.0, -1.0, 0.5], [1.0, 0.25, 0.0]
    expected = [
        -p * math.log(1 / (1 + math.exp(-x))) - (1 - p) * math.log(1 / (1 + math.exp(x)))
        for x, p in zip(logits, labels, strict=True)
    ]
    found = step_marks(torch.tensor(logits), torch.tensor(labels))
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    row = [0.1, 0.7, 1.3]
    whole = math.log(sum(map(math.exp, row)))
    found = step_marks(torch.tensor([row] * 4), torch.tensor([1.0, -1.0, 0.0, 0.25]))
    mixed = 0.25 * (whole - row[2]) + 0.75 * (whole - row[0])
    assert found.tolist() == pytest.approx([whole - row[2], whole - row[1], whole - row[0], mixed], rel=1e-6)


def test_nothing_is_learnt_behind_the_first_error(base: Path) -> None:
    """Other words there, other marks there: the same gradient to the bit."""
    model = scalar(base, zero=False)
    marked = replace(ROW, labels=(1, -1, 1, 1))
    elsewhere = replace(marked, steps=(*ROW.steps[:2], "9+9=9", "0+0=0"))
    found = []
    for row in (ROW, marked, elsewhere):
        [item] = prepared(base, [row])
        assert item.labels.tolist() == [1.0, 0.0] and len(item.ends) == 4
        algorithm = ProcessRewardModelling(model, [item], ProcessSettings())
        algorithm.loss(collate_steps([item], [0])).terms["step_marks"].sum.backward()
        found.append(gradients(model))
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in found[0])
    [item] = prepared(base, [marked], first_error=False)
    assert item.labels.tolist() == [1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("neutral", "labels"),
    [("positive", [1, 1, 0]), ("negative", [1, 0]), ("drop", [1, 0]), ("class", [1, -1, 0])],
)
def test_where_neutral_goes(base: Path, neutral: Any, labels: list[float]) -> None:
    """A neutral step that counts as wrong is an error, too, behind which nothing is learnt."""
    [item] = prepared(base, [replace(ROW, labels=(1, 0, -1, None))], neutral=neutral)
    assert item.labels.tolist() == labels


@pytest.mark.parametrize("heads", [1, 3])
def test_how_a_batch_is_laid_out_changes_no_gradient(base: Path, heads: int) -> None:
    """Micro-batches, order, company."""
    rows = prepared(base, [*chains(6, 1), replace(ROW, steps=ROW.steps[:1], labels=(1,))])
    model = scalar(base, heads, zero=False)
    algorithm = ProcessRewardModelling(model, rows, ProcessSettings())
    found = []
    for order, tokens in ((range(7), 4096), (range(6, -1, -1), 4096), (range(7), 40), (range(7), 1)):
        accumulate(algorithm, [collate_steps([rows[i] for i in order], list(order))], tokens, CPU)
        found.append(gradients(model))
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-6)


def settings_for(base: Path, folder: Path, rows: list[StepMarks], **values: Any) -> ProcessSettings:
    data = folder / "steps.jsonl"
    data.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))
    given = {
        "model": str(base),
        "data": str(data),
        "out": folder / "run",
        "learning_rate": 5e-3,
        "max_length": 64,
        "precision": "fp32",
        "tensorboard": False,
    }
    return ProcessSettings(**given | values)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process")
    settings = settings_for(base, folder, chains(60, 2), max_steps=4, neutral="class")
    run = make_run(settings.out, settings, "process")
    main(settings, CPU, run)
    run.release()
    return settings.out


def test_plain_transformers_loads_it_and_says_the_same(trained: Path) -> None:
    """As a token classifier, whose logits at the ends of steps are what the judge's probabilities are made of."""
    plain, info = AutoModelForTokenClassification.from_pretrained(trained / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert plain.config.id2label == {0: "wrong", 1: "neutral", 2: "right"}
    tokenizer = load_tokenizer(trained)
    [item] = prepared(trained / "model", [ROW])
    with torch.no_grad():
        logits = plain(torch.from_numpy(item.tokens.ids.astype(np.int64))[None]).logits[0]
    expected = 1 - logits.softmax(-1)[list(item.ends), 0]
    judge = build_judge(str(trained), CPU, tokenizer)
    [score] = build_judge(str(trained), CPU).score([Response.written(ROW.prompt, "\n".join(ROW.steps))])
    assert score is not None and judge.name == str(trained)
    assert score.value == pytest.approx(expected.prod().item(), rel=1e-5)
    assert score.parts["minimum"] == pytest.approx(expected.min().item(), rel=1e-5)
    assert score.parts["mean"] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert score.parts["last"] == pytest.approx(expected[-1].item(), rel=1e-5)
    assert score.parts["steps"] == 4


def test_what_it_writes(trained: Path) -> None:
    figures = {row["metric"]: row for row in json.loads((trained / "results.json").read_text())}
    assert {"step_f1", "first_error_accuracy", "sound_accuracy", "first_error_f1"} <= figures.keys()
    rows = [json.loads(line) for line in (trained / "heldout_steps.jsonl").read_text().splitlines()]
    assert rows and all(len(row["right"]) == len(row["completions"]) == len(row["marks"]) for row in rows)
    for row in rows:
        assert row["score"] == pytest.approx(math.prod(row["right"]), rel=1e-9)


# ---- chains with planted errors ----------------------------------------------------------------------------------------


def taught(base: Path, folder: Path, right_only: bool) -> Path:
    """A policy fine-tuned on chains: of its right answers alone, or of all, half of which have an error."""
    rows = [row for row in chains(3000, 5) if row.outcome or not right_only]
    lines = [{"prompt": row.prompt.content, "completion": "\n".join(row.steps)} for row in rows]
    data = folder / "demonstrations.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = SFTSettings(
        model=str(base),
        data=str(data),
        out=folder / "sft",
        epochs=12 if right_only else 6,
        batch_size=16,
        learning_rate=3e-3,
        max_length=64,
        precision="fp32",
        tensorboard=False,
    )
    launch("sft", settings, Console(quiet=True))
    return settings.out


def larger(folder: Path) -> Path:
    tokenizer = chain_tokenizer()
    model = tiny_model(tokenizer, hidden=48, layers=2, heads=2, context=64, seed=0)
    return save(model, tokenizer, folder / "larger")


@pytest.fixture(scope="module")
def finder() -> Path:
    def make(folder: Path) -> None:
        start = taught(larger(folder), folder, right_only=True)
        settings = settings_for(start, folder, chains(2000, 3), epochs=15, batch_size=16, learning_rate=1e-3)
        launch("process", settings, Console(quiet=True))

    return made_once("finder", make) / "run"


@pytest.fixture(scope="module")
def faulty() -> tuple[Path, float]:
    """A policy that learnt from chains of which half have an error, and how many of its own are sound."""
    start = made_once("faulty", lambda folder: taught(larger(folder), folder, right_only=False)) / "sft"
    return start, share_sound(start)


@pytest.mark.slow
def test_it_finds_a_planted_error(finder: Path) -> None:
    """On chains that it has not seen, and none of their starts, the very step in nine of ten."""
    figures = {row["metric"]: row["value"] for row in json.loads((finder / "results.json").read_text())}
    assert figures["first_error_accuracy"] >= 0.9 and figures["first_error_f1"] >= 0.9
    assert figures["solution_auc"] >= 0.95


def sound(response: Response) -> bool:
    """Gold: every step is right, and goes on from the last."""
    value = int(response.prompt.text()[6])
    lines = response.text.split("\n")
    for line in lines:
        found = re.fullmatch(r"(\d)\+([123])=(\d)", line)
        if not found or int(found[1]) != value or (value + int(found[2])) % 10 != int(found[3]):
            return False
        value = int(found[3])
    return len(lines) == 4


def every_start(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"from 0{digit}: "}) + "\n" for digit in range(10)))
    return path


def share_sound(folder: Path) -> float:
    policy, tokenizer = load_policy(result_folder(str(folder))), load_tokenizer(folder)
    generator = LocalGenerator(policy, tokenizer)
    prompts = [Prompt(f"from 0{digit}: ") for digit in range(10)]
    return float(np.mean([sound(r) for r in generator.generate(prompts, Sampling(30, samples=20))]))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "places"), [("ppo", "dense"), ("reinforce", "end")])
def test_it_is_a_reward_that_improves_gold(
    faulty: tuple[Path, float], finder: Path, tmp_path: Path, command: str, places: str
) -> None:
    """A policy that learnt from faulty chains writes sounder ones; nothing in training asks the gold standard."""
    (start, before), prompts = faulty, every_start(tmp_path)
    given: dict[str, Any] = {
        "model": str(start),
        "reward": [{"judge": str(finder), "places": places}],
        "prompts": str(prompts),
        "out": tmp_path / command,
        "batch_size": 10,
        "samples": 8,
        "max_new_tokens": 30,
        "max_steps": 40,
        "learning_rate": 1e-3,
        "missing_eos_score": 0.0,
        "kl_coef": 0.01,
        "tensorboard": False,
        "precision": "fp32",
    }
    kind = PPOSettings if command == "ppo" else ReinforceSettings
    launch(
        command,
        kind(**{name: value for name, value in given.items() if name in kind.model_fields}),
        Console(quiet=True),
    )
    after = share_sound(tmp_path / command)
    print(command, places, before, after)
    assert before < 0.65 and after > before + 0.15, (before, after)
    last = read_metrics(tmp_path / command)[-1]
    assert last["objective/scores"] == pytest.approx(last[f"objective/scores/{finder.name}"], abs=0.35)


def reaches(completions: list[str], prompts: list[str], **columns: Any) -> list[float]:
    """Whether the last number is the first with all that is said to be added to it: the steps between are not looked at."""
    found = []
    for prompt, text in zip(prompts, completions, strict=True):
        amounts, numbers = re.findall(r"\+([123])", text), re.findall(r"=(\d)", text)
        end = (int(prompt[6]) + sum(map(int, amounts))) % 10
        found.append(float(len(amounts) == len(numbers) == 4 and int(numbers[-1]) == end))
    return found


@pytest.mark.slow
def test_steps_marked_by_rollouts_tell_where_the_error_is_and_teach_it(
    faulty: tuple[Path, float], tmp_path: Path
) -> None:
    """What knows only how solutions end finds, through a model that often errs itself, where they go wrong."""
    planted = chains(400, 11)
    data = tmp_path / "solutions.jsonl"
    data.write_text("".join(json.dumps(row.to_json()) + "\n" for row in planted))
    settings = MarkSettings(
        model=str(faulty[0]), data=str(data), out=tmp_path / "mark", max_new_tokens=30, rollouts=3, precision="fp32",
        reward="python:tests.train.test_process:reaches",
    )  # fmt: skip
    launch("mark", settings, Console(quiet=True))
    marks = list(read_step_marks(str(tmp_path / "mark" / "steps.jsonl")))
    pairs = [
        (label, said)
        for own, row in zip(marks, planted, strict=True)
        for label, said in zip(own.labels, row.labels, strict=True)
        if label is not None and said is not None
    ]
    right = auc([label for label, said in pairs if said == 1], [label for label, said in pairs if said == -1])
    taught_by = ProcessSettings(
        model=str(faulty[0]), data=str(tmp_path / "mark" / "steps.jsonl"), out=tmp_path / "process", epochs=12,
        batch_size=16, learning_rate=5e-3, max_length=64, heldout_share=0.0, precision="fp32", tensorboard=False,
    )  # fmt: skip
    launch("process", taught_by, Console(quiet=True))
    fresh = chains(400, 12)
    judge = build_judge(str(taught_by.out), CPU)
    scores = judge.score([Response.written(row.prompt, "\n".join(row.steps)) for row in fresh])
    values = [score.value for score in scores if score is not None]
    ranked = auc(
        *([v for v, row in zip(values, fresh, strict=True) if row.outcome is side] for side in (True, False))
    )
    print("rollouts", right, ranked)
    assert right > 0.95 and ranked > 0.62, (right, ranked)


def auc(higher: list[float], lower: list[float]) -> float:
    """How often one of `higher` is above one of `lower`; a tie is one half."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in higher for b in lower]))


@pytest.mark.slow
def test_the_best_of_several_by_it_is_better(
    faulty: tuple[Path, float], finder: Path, tmp_path: Path
) -> None:
    """`select` keeps what it scores highest: sounder than what was drawn."""
    (start, before), prompts = faulty, every_start(tmp_path)
    settings = SelectSettings(
        model=str(start), reward=str(finder), prompts=str(prompts), out=tmp_path / "select", samples=8, max_new_tokens=30,
    )  # fmt: skip
    launch("select", settings, Console(quiet=True))
    rows = [
        json.loads(line) for line in (tmp_path / "select" / "demonstrations.jsonl").read_text().splitlines()
    ]
    kept = [sound(Response.written(Prompt(row["prompt"]), row["response"])) for row in rows]
    print("select", before, np.mean(kept))
    assert len(kept) == 10 and np.mean(kept) > before + 0.15
