"""`eval pairs`: RewardBench's figures by hand, and what length alone gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tutelage.evals import rows
from tutelage.evals.findings import one
from tutelage.evals.pairs import measures, reading
from tutelage.evals.pairs.reading import Item
from tutelage.launch import launch
from tutelage.records import Place, Prompt
from tutelage.settings.evals import PairsSettings


def item(chosen: int, rejected: int, subset: str, id: str = "") -> Item:
    place = Place("a.jsonl", 1)
    return Item(Prompt(f"{subset} {id}"), ("c",) * chosen, ("r",) * rejected, subset, id, place)


def valued(items: list[Item], scores: list[list[float]]) -> dict[tuple[str, str], float | None]:
    found = measures.evaluate("m", items, [np.array(own, float) for own in scores], resamples=100)
    return {(row.metric, row.task): row.value for row in found}


def test_best_of_four_shares_equal_scores() -> None:
    items = [item(1, 3, "Math", str(i)) for i in range(4)]
    scores = [[3, 1, 2, 0], [2, 2, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0]]
    assert valued(items, scores)["accuracy", "Math"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 0) / 4)


def test_sections_and_means_of_reward_bench() -> None:
    """Chat: 1 of 2 and 1 of 1, by rows 2 / 3; Reasoning: math 0 of 1, weighed 984 / 447, and code 1 of 1."""
    names = ["alpacaeval-easy", "alpacaeval-easy", "mt-bench-easy", "math-prm", "hep-cpp", "mine"]
    items = [item(1, 1, name, str(i)) for i, name in enumerate(names)]
    found = valued(items, [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]])
    assert found["accuracy_section", "Chat"] == pytest.approx(2 / 3)
    reasoning = 1 / (1 + 984 / 447)
    assert found["accuracy_section", "Reasoning"] == pytest.approx(reasoning)
    assert found["accuracy_sections", "all"] == pytest.approx((2 / 3 + reasoning) / 2)
    assert found["accuracy_subsets", "all"] == pytest.approx((0.5 + 1 + 0 + 1 + 0) / 5)
    assert found["accuracy", "all"] == pytest.approx(3 / 6)


def test_ties_by_hand() -> None:
    """Prompt 1: right ones 3 and 2, wrong 0: spread 1, distance 2; its reference 5 above 4: distance 1, not more than the spread.
    Prompt 2: right 5 and 0, wrong 1: distance -1; its reference 1 above 0."""
    items = [item(2, 1, "Ties", "tied:1"), item(1, 1, "Ties", "ref:1")]
    items += [item(2, 1, "Ties", "tied:2"), item(1, 1, "Ties", "ref:2")]
    found = valued(items, [[3, 2, 0], [5, 4], [5, 0, 1], [1, 0]])
    size = (np.tanh(1 / 1 - 1) + np.tanh(-1 / 5 - 1)) / 2
    expected = 0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0 + 0.01 * size
    assert found["ties_score", "Ties"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="the id of a row of Ties is 'x', not tied:NUMBER"):
        valued([item(2, 1, "Ties", "x")], [[1, 1, 0]])


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


def test_the_command_with_baselines(tmp_path: Path) -> None:
    lines = [
        {
            "prompt": f"Say {i}.",
            "chosen": "a" * (i + 2),
            "rejected": ["b", "bb" * (i > 3) * i + "c"],
            "subset": "s",
        }
        for i in range(6)
    ]
    settings = PairsSettings(
        data=write(tmp_path / "a.jsonl", lines),
        judge=[{"judge": "formula:length", "target": 1}],
        name="mine",
        out=tmp_path / "out",
        resamples=100,
    )
    launch("eval pairs", settings, Console(quiet=True))
    found = rows.read(tmp_path / "out" / "results.json")
    longer, shorter, mine = (one(found, name, "accuracy") for name in ("longer wins", "shorter wins", "mine"))
    assert longer and longer.value == pytest.approx(4 / 6) and longer.low is not None
    assert shorter and shorter.value == 0
    assert mine and mine.value is not None
    assert len((tmp_path / "out" / "scores.jsonl").read_text().splitlines()) == 6
    assert (tmp_path / "out" / "results.csv").exists()


def test_what_is_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    path = write(
        tmp_path / "a.jsonl",
        [{"chosen": turns, "rejected": [turns[0], {"role": "assistant", "content": "No."}]}],
    )
    (found,) = reading.read(path, {})
    assert (found.prompt.text().strip()[-4:], found.chosen, found.rejected) == ("Why?", ("So.",), ("No.",))
    for line, why in (
        ({"prompt": "x", "chosen": "a", "rejected": []}, r"a.jsonl line 1: rejected is \[\], not a text"),
        ({"prompt": "x", "chosen": 3, "rejected": "b"}, "chosen is 3, not a text"),
    ):
        with pytest.raises(ValueError, match=why):
            reading.read(write(tmp_path / "a.jsonl", [line]), {})
