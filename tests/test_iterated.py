"""The example of docs/iterated.md, killed in its second round and started again: what is made goes from round to round."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Started
from tutelage.evals.rows import read

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "iterated.yaml"
MADE_BEFORE_THE_KILL = ("world", "pretrain", "sft", "sample", "label", "reward", "ppo")


def inputs(folder: Path) -> dict[str, Any]:
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage["state"] == "done"
    return {entry["name"]: entry["path"] for entry in lineage["inputs"]}


@pytest.mark.slow
def test_two_rounds_with_a_kill(tmp_path: Path) -> None:
    out = tmp_path / "it"
    words = ["run", str(EXAMPLE), f"out={out}"]
    first = Started(words, tmp_path / "first.txt", {"COLUMNS": "200"})
    while not (out / "round-2" / "reward").exists():
        assert first.running, first.said
        time.sleep(0.02)
    first.kill()
    second = Started(words, tmp_path / "second.txt", {"COLUMNS": "200"})
    code, text = second.wait(), second.said
    assert code == 0, text
    assert text.count("unchanged, skipped") == len(MADE_BEFORE_THE_KILL) + 2  # and round 2's sample and label
    assert not [*out.glob("*.1"), *out.glob("round-*/*.1")], "nothing was done again"

    one, two = out / "round-1", out / "round-2"
    assert inputs(one / "sample")["model"] == str(out / "sft" / "model")
    assert inputs(two / "sample")["model"] == str(one / "ppo" / "model")
    assert inputs(two / "ppo")["model"] == str(out / "sft" / "model")
    assert inputs(two / "reward")["data"] == ["store:round-1", "store:round-2"]
    assert inputs(two / "reward")["previous"] == str(one / "reward" / "model")
    found = {row.metric: row for row in read(two / "reward" / "results.json")}
    before = {row.metric: row for row in read(one / "reward" / "results.json")}
    # The held-out prompts are the same in every round, so the model before has not seen them: it says of its own round's
    # pairs what it said then, but for a pair or two whose scores bf16 cannot tell apart.
    then = before["accuracy@round-1"]
    assert found["accuracy_previous@round-1"].value == pytest.approx(then.value, abs=2.01 / then.n)
    assert found["accuracy@round-1"].n == before["accuracy@round-1"].n
    assert found["accuracy"].n == found["accuracy@round-1"].n + found["accuracy@round-2"].n
    page = (out / "report" / "report.html").read_text()
    assert "From round to round" in page and "model before, own pairs" in page
