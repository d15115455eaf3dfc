"""`eval steps`: ProcessBench's figures by hand, what the baselines say, and the model beside its judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.train.making import CPU, make_tokenizer
from tutelage.data.template import encode
from tutelage.evals import rows
from tutelage.evals.process_model import NO_ERROR
from tutelage.evals.steps import measures, reading
from tutelage.evals.steps.measures import UNREAD
from tutelage.evals.steps.reading import Item
from tutelage.judges.build import build_judge
from tutelage.judges.judge import scores_of
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, save
from tutelage.models.step_head import StepHead
from tutelage.models.tiny import tiny_model
from tutelage.records import Prompt, Response, StepMarks
from tutelage.settings.evals import StepsSettings

SENTENCES = ("the cat sat.", "a dog ran to the cat.", "1 + 2 = 3.", "the mat is red.", "a red dog.")


def item(
    truth: int, steps: tuple[str, ...] = ("a", "bb", "c"), subset: str = "s", problem: str = "p"
) -> Item:
    marks = StepMarks(Prompt(problem), steps, (1,) * len(steps))
    return Item(marks, subset, "", "", truth)


def values(items: list[Item], said: list[int]) -> dict[tuple[str, str], float | None]:
    found = measures.evaluate("m", items, np.array(said), resamples=100)
    return {(row.metric, row.task): row.value for row in found}


def test_by_hand() -> None:
    """s: 1 of 2 errors, 2 of 2 sound; t: 1 of 1, 1 of 3, one of which the model cannot read. F1 2/3 and 1/2."""
    truth = [0, 2, NO_ERROR, NO_ERROR, 1, NO_ERROR, NO_ERROR, NO_ERROR]
    said = [0, 1, NO_ERROR, NO_ERROR, 1, NO_ERROR, 0, UNREAD]
    items = [item(one, subset="st"[i > 3], problem=str(i)) for i, one in enumerate(truth)]
    found = values(items, said)
    assert found["first_error_accuracy", "s"] == 0.5 and found["sound_accuracy", "s"] == 1
    assert found["first_error_f1", "s"] == pytest.approx(2 / 3)
    assert found["first_error_f1", "t"] == pytest.approx(0.5)
    assert found["first_error_f1_subsets", "all"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["first_error_f1", "all"] == pytest.approx(2 * (2 / 3) * (3 / 5) / (2 / 3 + 3 / 5))


def test_subsets_of_one_kind_have_no_f1_and_there_is_no_mean() -> None:
    items = [item(0), item(NO_ERROR), item(1, subset="t")]
    found = values(items, [0, NO_ERROR, 1])
    assert found["first_error_f1", "t"] is None and ("first_error_f1_subsets", "all") not in found
    assert found["first_error_f1", "s"] == 1


def test_the_interval_of_the_mean_is_over_problems() -> None:
    """Ten copies of every problem make it no narrower, and it is as wide as resampling by hand makes it."""
    random = np.random.default_rng(0)
    truth = [i % 3 - 1 for i in range(30)]
    said = [one if random.random() < 0.6 else 1 - one for one in truth]
    items = [item(one, subset="st"[i % 2], problem=str(i // 2)) for i, one in enumerate(truth)]
    once = measures.evaluate("m", items, np.array(said), resamples=4000)[-1]
    often = measures.evaluate("m", items * 10, np.array(said * 10), resamples=4000)[-1]
    assert (once.metric, often.low, often.high) == ("first_error_f1_subsets", once.low, once.high)

    def f1(pairs: list[tuple[int, int]]) -> float:
        hit, right = ([t == s for t, s in pairs if (t < 0) == sound] for sound in (False, True))
        if not hit or not right:
            return float("nan")
        a, b = sum(hit) / len(hit), sum(right) / len(right)
        return 2 * a * b / (a + b) if a + b else 0.0

    sides = [list(zip(truth, said, strict=True))[k::2] for k in (0, 1)]
    drawn = [
        np.mean([f1([side[i] for i in random.integers(0, 15, 15)]) for side in sides]) for _ in range(4000)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    assert once.low == pytest.approx(low, abs=0.03) and once.high == pytest.approx(high, abs=0.03)


def test_what_the_baselines_say() -> None:
    """Sizes in s: 4, 9, 6, median 6; in t both are 4. The first of two longest steps counts."""
    texts = [("a", "bb", "c"), ("aaa", "b", "ccccc"), ("aa", "bb", "cc"), ("aa", "bb"), ("a", "bbb")]
    items = [item(0, steps, "sssTT"[i]) for i, steps in enumerate(texts)]
    found = {name: own.tolist() for name, own in measures.baselines(items).items()}
    assert found == {
        "no error": [-1] * 5,
        "longest step": [1, 2, 0, 0, 1],
        "longer half": [-1, 2, -1, -1, -1],
    }


# ---- files -------------------------------------------------------------------------------------------------------------


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


def bench(number: int, label: int, steps: int = 3, **more: Any) -> dict[str, Any]:
    texts = [SENTENCES[(number + k) % len(SENTENCES)] for k in range(steps)]
    known = {"id": f"x-{number}", "generator": "g", "problem": f"the mat {number % 4}", "steps": texts}
    return {**known, "final_answer_correct": label < 0, "label": label, **more}


def test_what_is_read(tmp_path: Path) -> None:
    """A file is a subset, unless its rows name theirs; TRL's rows and PRM800K's may stand beside ProcessBench's."""
    first = write(tmp_path / "gsm8k.jsonl", [bench(0, 1), bench(1, -1), bench(2, 0, subset="own")])
    trl = {"prompt": "x", "completions": ["a", "b"]}
    marked = [trl | {"labels": [True, False]}, trl | {"labels": [True, None]}, trl | {"labels": [True, True]}]
    label = {"steps": [{"completions": [{"text": "a", "rating": -1}], "chosen_completion": 0}]}
    prm = {"question": {"problem": "p"}, "label": label, "is_quality_control_question": False}
    second = write(tmp_path / "math.jsonl", [*marked, prm, prm | {"is_quality_control_question": True}])
    found = reading.read([first, second], {})
    assert [(one.subset, one.truth) for one in found.items] == [
        *(("gsm8k", 1), ("gsm8k", -1), ("own", 0)),
        *(("math", 1), ("math", -1), ("math", 0)),
    ]
    assert (found.unsaid, found.left_out) == (1, 1)
    assert (found.items[0].id, found.items[0].generator) == ("x-0", "g")
    (tmp_path / "b").mkdir()
    again = write(tmp_path / "b" / "gsm8k.jsonl", [bench(0, 1)])
    assert {one.subset for one in reading.read([first, again], {}).items} == {first, again, "own"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (bench(0, 7), "a.jsonl line 1 is a row whose label is 7, but it is the number of a step"),
        ({"prompt": "x", "completion": "y", "label": True}, "no solution says which step is its first wrong"),
        ({"prompt": "x"}, "a.jsonl line 1"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, line: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        reading.read(write(tmp_path / "a.jsonl", [line]), {})


# ---- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A process model of 64 tokens with a head by hand."""
    tokenizer = make_tokenizer()
    base = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=64, seed=0)
    scalar = load_scalar(save(base, tokenizer, tmp_path_factory.mktemp("base") / "model"))
    StepHead().keep(scalar)
    with torch.no_grad():
        scalar.head.weight.copy_(torch.randn(1, 32, generator=torch.Generator().manual_seed(3)))
    return save(scalar, tokenizer, tmp_path_factory.mktemp("process") / "model")


def first_by_judge(model: Path, found: Item) -> int:
    """The first step that is below one half by the same model as a judge, whose running "last" is each step's probability."""
    text = "\n".join(found.marks.steps)
    [made] = encode(make_tokenizer(), [(found.marks.prompt, text, "eos")])
    ids = tuple(made.response)  # type: ignore[union-attr]
    response = Response(found.marks.prompt, text, tuple(made.prompt), ids, (-1.0,) * len(ids), "eos")  # type: ignore[union-attr]
    judge = build_judge([{"judge": str(model), "combine": "last"}], CPU, make_tokenizer(), 512)
    [score] = scores_of(judge, [response])
    right = np.cumsum([value for _, value in score.at])
    return next((i for i, p in enumerate(right) if p < 0.5), -1)


def test_the_command(model: Path, tmp_path: Path) -> None:
    lines = [bench(i, i % 4 - 1, 3) for i in range(12)] + [bench(12, 0, 40)]  # the last one is too long
    data = [write(tmp_path / "a.jsonl", lines[:6]), write(tmp_path / "b.jsonl", lines[6:])]
    console = Console(width=400, file=(tmp_path / "said").open("w"))
    options: dict[str, Any] = {"resamples": 100, "device": "cpu", "kernels": "off", "precision": "fp32"}
    settings = StepsSettings(model=str(model), data=data, name="mine", out=tmp_path / "out", **options)
    launch("eval steps", settings, console)
    items = reading.read(data, {}).items
    kept = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    said = [line["said"] for line in kept]
    assert said == [*(first_by_judge(model, one) for one in items[:12]), None]
    assert len(set(said)) > 2, "the model says one thing of all: the test tells nothing"
    assert kept[0] | {"right": 0} == {
        "id": "x-0",
        "subset": "a",
        "generator": "g",
        "file": data[0],
        "line": 1,
        "final_answer_correct": True,
        "label": -1,
        "said": said[0],
        "right": 0,
    }
    found = rows.read(tmp_path / "out" / "results.json")
    by = {(row.model, row.metric, row.task): row for row in found}
    wrong = [(s, one.truth) for s, one in zip(said, items, strict=True) if one.truth >= 0]
    mine = by["mine", "first_error_accuracy", "all"]
    assert mine.value == pytest.approx(np.mean([s == t for s, t in wrong])) and mine.n == 10
    assert by["no error", "sound_accuracy", "all"].value == 1
    assert by["longest step", "first_error_f1", "all"].value == 0
    assert by["mine", "step_accuracy", "all"].n > 0 and ("no error", "step_accuracy", "all") not in by
    text = (tmp_path / "said").read_text().replace("\n", " ")
    assert "1 of 13 solutions longer than the 64 tokens that the model takes: they count as missed" in text


def test_another_kind_of_model(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "a.jsonl", [bench(0, 0)])
    tokenizer = make_tokenizer()
    base = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=64, seed=0)
    plain = save(base, tokenizer, tmp_path / "plain")
    for given, why in ((plain, "marks no steps"), (model, "is what a baseline is called")):
        options: dict[str, Any] = {"device": "cpu", "kernels": "off", "out": tmp_path / "out"}
        settings = StepsSettings(model=str(given), data=data, name="no error", **options)
        with pytest.raises(ValueError, match=why):
            launch("eval steps", settings, Console(quiet=True))
    assert not (tmp_path / "out" / "results.json").exists()
