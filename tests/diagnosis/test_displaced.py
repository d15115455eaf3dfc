"""Chosen responses that become unlikely together with rejected ones: in real runs of a small model, and on which histories."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.train.making import CPU, make_model, make_tokenizer
from tutelage.data.batch import Tokens
from tutelage.data.template import PairTokens
from tutelage.diagnosis.diagnosis import diagnose
from tutelage.models.policy import PolicyModule
from tutelage.runs import Run
from tutelage.settings.base import build
from tutelage.settings.preference import DPOSettings
from tutelage.train.fit import fit
from tutelage.train.preference import Preference
from tutelage.train.reference import reference_logprobs


def lines(
    share: float, chosen: float, rejected: float, prefix: str = "", n: int = 12
) -> list[dict[str, Any]]:
    values = {"displaced": share, "moved/chosen": chosen, "moved/rejected": rejected}
    rest = {"loss": 0.5, "grad_norm": 1.0, "displaced": 0.3}
    return [{"step": s + 1, **rest, **{prefix + k: v for k, v in values.items()}} for s in range(n)]


@pytest.mark.parametrize("prefix", ["", "eval_"])
@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ((0.9, -0.8, -1.6), ["displaced"]),
        ((0.9, -0.8, 0.1), []),  # the rejected ones gain: not displaced, learnt upside down
        ((0.9, -0.1, -1.6), []),  # a little
        ((0.4, -0.8, -1.6), []),  # most chosen responses gain
        ((0.1, 0.3, -1.6), []),
    ],
)
def test_a_majority_must_have_fallen_far_and_rejected_ones_too(
    prefix: str, seen: tuple[float, float, float], found: list[str]
) -> None:
    assert [one.name for one in diagnose(lines(*seen, prefix), {})] == found


def test_held_out_pairs_go_before_and_one_evaluation_says_nothing() -> None:
    trained = lines(0.9, -0.8, -1.6)
    for line in trained:
        line |= {"eval_displaced": 0.4, "eval_moved/chosen": 0.1, "eval_moved/rejected": -1.0}
    assert diagnose(trained, {}) == []
    assert diagnose(lines(0.9, -0.8, -1.6, "eval_", n=1), {}) == []
    start = {"step": 0, "eval_displaced": 0.9, "eval_moved/chosen": -0.8, "eval_moved/rejected": -1.6}
    assert diagnose([start, *lines(0.9, -0.8, -1.6, "eval_", n=1)], {}) == []


def test_rules_about_scores_are_silent_without_scores() -> None:
    still = [{"step": s + 1, "displaced": 0.0, "grad_norm": 0.0} for s in range(50)]
    assert diagnose(still, {"command": "dpo"}) == []


def pairs() -> list[PairTokens]:
    """What is rejected is what is chosen, said over and over: whatever makes it less likely makes the chosen one so."""
    draw, found = np.random.default_rng(0), []
    for _ in range(48):
        prompt, words = draw.integers(5, 260, 3).tolist(), draw.integers(5, 260, 3).tolist()
        sides = []
        for times in (1, 5):
            ids = np.array([*prompt, *words * times, 2], dtype=np.int32)
            sides.append(Tokens(ids, np.arange(len(ids)) >= len(prompt)))
        found.append(PairTokens(*sides, 1.0, 0.0))
    return found


def run_dpo(folder: Path, policy: PolicyModule, **given: Any) -> tuple[list[dict[str, Any]], str]:
    """Findings, and what was said."""
    given = {"learning_rate": 6e-3, "batch_size": 8, "max_steps": 24, **given}
    settings = build(DPOSettings, {"out": folder, "tensorboard": False, "precision": "fp32", **given})
    console, rows = Console(file=StringIO(), width=1000), pairs()
    run = Run.open(folder, "dpo", settings, console)

    def both(row: int) -> tuple[Tokens, Tokens]:
        return rows[row].chosen, rows[row].rejected

    ref = reference_logprobs(policy, both, range(len(rows)), 4096, CPU, run)
    algorithm = Preference(policy, rows, settings, ref)
    fit(algorithm, settings, CPU, run, steps=settings.max_steps, tokenizer=make_tokenizer())
    run.close()
    run.release()
    return json.loads((folder / "findings.json").read_text()), console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_it_is_found_in_a_run_and_the_cure_cures(tmp_path: Path) -> None:
    model = make_model(make_tokenizer())
    found, said = run_dpo(tmp_path / "bad", model)
    assert [one["name"] for one in found] == ["displaced"] and said.count(", displaced: ") == 1
    assert found[0]["numbers"]["rejected"] < found[0]["numbers"]["chosen"] < 0
    cured, _ = run_dpo(tmp_path / "cured", make_model(make_tokenizer()), loss={"sigmoid": 1.0, "sft": 1.0})
    assert cured == []
