"""What a run cost, against sums by hand; peak memory against what is really taken."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tutelage import cost
from tutelage.evals.findings import amount


def test_a_training_run() -> None:
    lines = [
        {"step": 0, "eval_loss": 1.0},
        {"step": 1, "num_tokens": 100, "completions/tokens": 40.0},
        {"step": 2, "num_tokens": 250, "completions/tokens": 30.0},
    ]
    lineage = {"parameters": {"policy": 1000, "critic": 500}, "peak_memory_mib": 300.5}
    assert cost.of_run(lineage, lines) == {
        "tokens_trained": (250, "tokens"),
        "tokens_generated": (70, "tokens"),
        "peak_memory": (300.5, "MiB"),
        # Both networks learn from 250 tokens; the policy alone writes 70.
        "flops": (6 * 1500 * 250 + 2 * 1000 * 70, "FLOPs"),
    }


def test_a_run_that_only_generates_and_one_that_does_neither() -> None:
    found = cost.of_run({"tokens_generated": 12, "flops": 2 * 1000 * 12.0}, [])
    assert found == {"tokens_generated": (12, "tokens"), "flops": (24_000, "FLOPs")}
    assert cost.of_run({}, []) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures anew")
def test_peak_memory_is_that_of_the_time_since() -> None:
    def taken(mib: int) -> float:
        peak = cost.PeakMemory(gpu=False)
        before = peak.facts()["peak_memory_mib"]
        np.ones(mib * 2**17).sum()  # 8 bytes each
        return peak.facts()["peak_memory_mib"] - before

    assert 190 <= taken(200) <= 230
    assert taken(20) < 60  # the first is not remembered


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999, "tokens", "999"),
        (12_345, "tokens", "12.3 k"),
        (4.56e12, "FLOPs", "4.56 TFLOPs"),
        (300.4, "MiB", "300 MiB"),
        (1536, "MiB", "1.50 GiB"),
    ],
)
def test_amounts(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text
