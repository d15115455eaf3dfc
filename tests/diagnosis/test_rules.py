"""What windows and trends mean, that a page and the code say the same, and what a run does with its findings."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.diagnosis.practising import Rewards, practise
from tutelage.data.responses import response_batch
from tutelage.diagnosis.diagnosis import Diagnosis, diagnose
from tutelage.diagnosis.history import History
from tutelage.diagnosis.rules import RULES
from tutelage.records import Prompt, Response, Score
from tutelage.rollout.experience import Experience

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"


def lines(*columns: tuple[str, list[float]]) -> list[dict[str, Any]]:
    """Metric lines of steps 1, 2, ... from columns (metric, its values)."""
    steps = range(len(columns[0][1]))
    return [
        {"step": step + 1, "objective/scores": 0.0, **{name: values[step] for name, values in columns}}
        for step in steps
    ]


def names(found: list[dict[str, Any]], **settings: Any) -> list[str]:
    return [finding.name for finding in diagnose(found, settings)]


def test_a_history_compares_windows() -> None:
    history = History()
    for step in range(40):
        history.add({"step": step, "x": float(step), "broken": math.nan, "text": "x"})
    assert history.start("x") == 2.0 and history.now("x") == 34.5 and history.before("x") == 24.5
    assert (
        history.now("x", 20) == 29.5
        and history.opening("x") == 1.0
        and history.count("x") == 40
        and history.middle("x") == 34.5
    )
    assert history.change("x") == pytest.approx(
        30 / math.sqrt(2 * 55 / 6 / 10)
    )  # variance of ten in a row: 55 / 6
    assert all(math.isnan(history.now(name)) for name in ("broken", "text", "absent"))


def test_too_little_says_nothing() -> None:
    assert names(lines(("policy/clipfrac_avg", [0.9] * 9))) == []
    assert names(lines(("policy/clipfrac_avg", [0.9] * 10))) == ["clip-fraction"]
    assert names([{"step": 0, "eval_objective/scores": 1.0}] * 50) == []


def test_one_strange_step_says_nothing_and_what_goes_on_is_said_once() -> None:
    calm, wild = [0.05] * 20, [0.95]
    assert names(lines(("policy/clipfrac_avg", calm + wild + calm))) == []
    diagnosis = Diagnosis({})
    new = [
        [finding.step for finding in diagnosis.see(line)]
        for line in lines(("policy/clipfrac_avg", [0.05] * 10 + [0.5] * 10 + [0.0] * 20))
    ]
    assert [one for one in new if one] == [[14]]  # (6 x .05 + 4 x .5) / 10 is the first mean above .2
    assert [(finding.step, finding.last) for finding in diagnosis.findings] == [(14, 25)]


def test_entropy_may_fall_slowly() -> None:
    slowly = [2 - 0.017 * step for step in range(100)]
    assert names(lines(("objective/entropy", slowly))) == []
    assert names(lines(("objective/entropy", [2.0] * 10 + [0.3] * 15))) == ["entropy-collapse"]
    assert names(lines(("objective/entropy", [2.0] * 40 + [0.3] * 15))) == []
    assert names(lines(("objective/entropy", [2.0] * 40 + [0.1] * 15))) == ["entropy-collapse"]


def test_a_critic_has_time_and_may_recover() -> None:
    late = [-3.0] * 39
    assert names(lines(("val/explained_variance", late), ("objective/scores_std", [1.0] * 39))) == []
    for tail, found in (
        ([-3.0] * 30, ["bad-critic"]),
        ([0.4] * 30, []),
        ([-1.0] * 11, []),  # better than half of what it was
        ([-1.0] * 30, ["bad-critic"]),
    ):
        values = [-3.0] * 29 + tail
        assert (
            names(lines(("val/explained_variance", values), ("objective/scores_std", [1.0] * len(values))))
            == found
        ), tail


def test_a_kl_that_rises_while_the_objective_falls() -> None:
    kl = [0.1 * step for step in range(40)]
    falls = [1 - 0.02 * step + 0.01 * (-1) ** step for step in range(40)]
    rises = [-value for value in falls]
    length = ("completions/mean_length", [20.0] * 40)
    assert names(lines(("objective/kl", kl), ("objective/rlhf_reward", falls), length)) == ["kl-runaway"]
    assert names(lines(("objective/kl", kl), ("objective/rlhf_reward", rises), length)) == []
    adaptive = lines(("objective/kl", kl), ("objective/rlhf_reward", falls), length)
    assert names(adaptive, kl_budget=5.0) == []  # a coefficient that moves changes what is measured


def test_a_correlation_is_strong_or_followed_by_the_length() -> None:
    name, wild = "objective/score_length_correlation", [0.96, 0.1] + [0.97] * 10
    grows, stays = [20.0 + step for step in range(12)], [20.0] * 12
    for correlations, lengths, found in (
        (wild, stays, ["length-driven"]),
        ([0.92] * 12, stays, []),
        ([0.92] * 12, grows, ["length-driven"]),
        ([-0.92] * 12, grows, []),
        ([0.85] * 12, grows, []),
    ):
        told = lines((name, correlations), ("completions/mean_length", lengths))
        assert names(told) == found, (correlations, lengths)


def test_no_spread_is_saturation_only_after_a_rise() -> None:
    gone = [0.5] * 10 + [0.0] * 12
    for scores, found in (([0.0] * 22, "no-signal"), ([0.0] * 10 + [1.0] * 12, "reward-saturated")):
        told = lines(("objective/scores_std", gone), ("objective/scores", scores))
        assert names(told) == [found]
    equal = lines(("frac_reward_zero_std", [0.95] * 12), ("objective/scores_std", [0.4] * 12))
    assert names(equal, advantage="group") == ["no-signal"]
    assert names(equal, advantage="batch", samples=1) == []  # one response is always equal to itself


def test_what_is_close_enough_depends_on_the_arithmetic() -> None:
    gap = lines(("sampling/sampling_logp_difference/mean", [0.01] * 6))
    for line in gap:
        line["sampling/sampling_logp_difference/share"] = 0.001
    assert names(gap, precision="bf16") == [] and names(gap, precision="fp32") == ["sampler-differs"]
    first = lines(("val/first_ratio", [1.003] * 2), ("policy/first_approxkl", [1e-4] * 2))
    assert names(first, precision="auto") == [] and names(first, precision="fp32") == ["first-ratio"]


def test_the_page_has_the_table_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\S+)`: (.*?) \| .+? \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE
    )
    assert rows == [(rule.name, rule.title, rule.cause, rule.change, rule.healthy) for rule in RULES]


def test_what_a_rule_calls_healthy_names_metrics_of_the_glossary() -> None:
    glossary = (PAGE.parent / "metrics.md").read_text()
    for rule in RULES:
        named = re.findall(r"[a-z_]+/[a-z_/]+|frac_reward_zero_std|grad_norm", rule.healthy)
        assert named and all(f"| `{name}` |" in glossary for name in named), rule.name


def experience(finishes: list[str], sizes: list[int], scores: list[float]) -> Experience:
    responses = [
        Response(Prompt("p"), "", (1,), tuple(range(2, 2 + size)), (-1.0,) * size, finish)  # type: ignore[arg-type]
        for size, finish in zip(sizes, finishes, strict=True)
    ]
    batch = response_batch(responses, range(len(responses)))
    at = [0.0 for _ in range(sum(batch.lengths))]
    end = -1
    for length, score in zip(batch.lengths, scores, strict=True):
        end += length
        at[end] = score
    zeros = torch.zeros(len(at))
    fields = {"old_logprobs": zeros, "ref_logprobs": zeros, "sampled_logprobs": zeros}
    batch = batch.with_fields(**fields, scores=torch.tensor(at))
    return Experience(
        responses, batch, [Score(s) for s in scores], torch.zeros(len(scores), dtype=torch.long)
    )


def test_score_and_length_are_correlated_over_what_ended() -> None:
    name = "objective/score_length_correlation"
    # lengths 1, 2, 3 and scores 1, 3, 2: covariance 1, variances 2 and 2
    whole = experience(["eos", "eos", "eos", "length"], [1, 2, 3, 9], [1.0, 3.0, 2.0, -50.0])
    assert whole.metrics(0.0)[name] == pytest.approx(0.5)
    for finishes, sizes, scores in (
        (["eos"] * 3, [2, 2, 2], [1.0, 2.0, 3.0]),
        (["eos"] * 3, [1, 2, 3], [1.0, 1.0, 1.0]),
        (["length"] * 3, [1, 2, 3], [1.0, 2.0, 3.0]),
    ):
        assert name not in experience(finishes, sizes, scores).metrics(0.0)


def test_a_run_that_goes_on_says_nothing_twice(tmp_path: Path) -> None:
    """Stopped after 12 steps and taken up again: as a run of 16 that was never stopped, but for the screen."""
    given: dict[str, Any] = {"command": "reinforce", "judge": Rewards(lambda ids: 1.0), "save_every": 12}
    given |= {"schedule": "constant", "max_steps": 16}
    whole = practise(tmp_path / "whole", steps=16, **given)
    practise(tmp_path / "parts", steps=12, **given)
    rest = practise(tmp_path / "parts", steps=16, **given)
    assert "Step 10, no-signal" in whole.screen and "no-signal" not in rest.screen
    found = [json.loads((tmp_path / name / "findings.json").read_text()) for name in ("whole", "parts")]
    assert found[0] == found[1] and found[0][0]["last"] == 16
    assert found[0] == [one.to_json() for one in diagnose(whole.lines, whole.settings)]
