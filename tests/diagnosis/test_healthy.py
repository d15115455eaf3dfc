"""Runs that go well are left in peace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.diagnosis.practising import WorldRewards, practise
from tests.oracle import LENGTHS, SEQUENCES
from tests.train.test_oracle import WORLD

SETTINGS: list[dict[str, Any]] = [
    {"command": "reinforce", "preset": "rloo"},
    {"command": "reinforce", "preset": "grpo", "samples": 8},
    {"command": "reinforce", "preset": "reinforce++", "samples": 1},
    {"command": "reinforce", "preset": "dapo", "samples": 8},
    {"command": "reinforce", "kl_coef": 0.3, "inner_epochs": 4},
    {"command": "ppo"},
    {"command": "ppo", "inner_epochs": 4},
    {"command": "ppo", "minibatches": 2, "gae_lambda": 1.0},
    {"command": "raft"},
    {"command": "raft", "keep": 2, "schedule": "constant"},
]
SEEDS = range(2)


def healthy() -> Iterator[tuple[dict[str, Any], int]]:
    for seed in SEEDS:
        for settings in SETTINGS:
            yield settings, seed


def rewards_of(number: int) -> torch.Tensor:
    """Drawn at random, less what goes by length: a reward that does so by chance is rightly found fault with."""
    rewards = torch.randn(len(SEQUENCES), generator=torch.Generator().manual_seed(number))
    lengths, p = torch.tensor(LENGTHS), WORLD.ref_logprobs.exp().float()
    for length in set(LENGTHS):
        same = lengths == length
        rewards[same] -= (p[same] * rewards[same]).sum() / p[same].sum()
    return rewards


@pytest.mark.slow
def test_twenty_healthy_runs_stay_silent(tmp_path: Path) -> None:
    """Sixty steps of 64 responses each, another reward for every run; at most one of twenty may be accused of anything."""
    accused = []
    for number, (settings, seed) in enumerate(healthy()):
        given = {"kl_coef": 0.5, "seed": seed, **settings}
        told = practise(tmp_path / str(number), steps=60, judge=WorldRewards(rewards_of(number)), **given)
        scores = [line["objective/scores"] for line in told.lines]
        assert sum(scores[-10:]) > sum(scores[:10]), f"run {number} is not a healthy one"
        if (told.folder / "findings.json").read_text().strip() != "[]":
            accused.append((number, settings, (told.folder / "findings.json").read_text()))
    assert number == 19
    assert len(accused) <= 1, accused
