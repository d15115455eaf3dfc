"""The evaluations on hand-made responses, where the answer is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.evals.synthetic import prompts, response
from tutelage.evals import drift, reward_model, scored, text, win_rate
from tutelage.evals.rows import Row, to_json
from tutelage.judges.judge import Judge, shared_vote
from tutelage.records import Comparison, Place, Prompt, Response, Score, Vote
from tutelage.statistics import expected_calibration_error
from tutelage.worlds.gold import GoldStandard


def value(rows: list[Row], metric: str, task: str = "all") -> float | None:
    (found,) = [row for row in rows if (row.metric, row.task) == (metric, task)]
    return found.value


def test_gold_by_task_and_part() -> None:
    asked = prompts(6)
    answers = [response(p, "a b") for p in asked]

    def grade(prompt: Prompt, words: str) -> Score:
        i = dict(prompt.reference or {})["answer"]
        return Score(i / 10, {"even": 1.0 - i % 2} | ({"rare": 1.0} if i == 4 else {}))

    scores = [grade(answer.prompt, answer.text) for answer in answers]
    rows = scored.evaluate("m", answers, scores, "gold", resamples=200)
    assert value(rows, "gold") == pytest.approx(0.25)
    assert value(rows, "gold", "maths") == pytest.approx(0.25)  # prompts 1 and 4
    assert value(rows, "gold/even") == pytest.approx(0.5)
    rare = next(row for row in rows if row.metric == "gold/rare" and row.task == "all")
    assert (rare.value, rare.n) == (1.0, 1)


def test_the_gold_standard_names_a_prompt_it_cannot_grade_and_leaves_out_what_is_not_its_own() -> None:
    broken = Prompt("What is 1 + 1?", "maths", {"nothing": "here"})
    with pytest.raises(ValueError, match=f"Prompt {broken.id} .*cannot be graded"):
        GoldStandard().score([response(broken, "x")])
    assert GoldStandard().score([response(Prompt("Write a poem.", "poem", {}), "x")]) == [None]


def test_win_rate_against_known_outcomes() -> None:
    asked = prompts(8)
    ours = [response(p, "a b c d e f g h i j" if i < 4 else "a") for i, p in enumerate(asked)]
    theirs = [response(p, "a b c d e f g h i j") for p in asked]
    outcome = [1, 1, 1, 0.5, 0, 0, 0, 1]
    scores = [Score(o) for o in outcome]
    outcomes = win_rate.by_score(scores, [Score(0.5)] * 8)
    rows = win_rate.evaluate("m", outcomes, ours, theirs, resamples=200)
    assert value(rows, "win_rate") == pytest.approx(4.5 / 8)
    assert (value(rows, "wins"), value(rows, "ties"), value(rows, "losses")) == (4, 1, 3)
    assert value(rows, "win_rate_similar_length") == pytest.approx(3.5 / 4)
    similar = next(row for row in rows if row.metric == "win_rate_similar_length" and row.task == "all")
    assert similar.n == 4
    per_task = [row for row in rows if row.metric == "win_rate" and row.task != "all"]
    assert sum(row.value * row.n for row in per_task) == pytest.approx(4.5)


def test_win_rate_refuses_other_prompts() -> None:
    a, b = prompts(2)
    with pytest.raises(ValueError, match="answered different prompts"):
        win_rate.evaluate("m", np.ones(1), [response(a, "x")], [response(b, "x")])


def test_no_pair_of_similar_length_is_no_number() -> None:
    (asked,) = prompts(1)
    rows = win_rate.evaluate("m", np.ones(1), [response(asked, "a")], [response(asked, "a b c d")])
    assert value(rows, "win_rate_similar_length") is None


class TakesTheSecond(Judge):
    """Compares alone: sure of what is long, without a verdict on what is short."""

    name, pairwise = "second", True

    def compare(self, pairs: Sequence[tuple[Response, Response]]) -> list[Vote | None]:
        return [None if second.text == "a" else shared_vote("second", 0.25, 0) for _, second in pairs]


def test_win_rate_by_a_judge_that_compares() -> None:
    """Probabilities count as they are; what has no verdict is left out and counted; equal texts are not asked about."""
    asked = prompts(4)
    ours = [response(p, text) for p, text in zip(asked, ("x", "x", "same", "x"), strict=True)]
    theirs = [response(p, text) for p, text in zip(asked, ("b", "a", "same", "c"), strict=True)]
    outcomes = win_rate.judged(TakesTheSecond(), ours, theirs)
    assert outcomes.tolist() == pytest.approx([0.25, math.nan, 0.5, 0.25], nan_ok=True)
    rows = win_rate.evaluate("m", outcomes, ours, theirs, resamples=200)
    assert value(rows, "win_rate") == pytest.approx(1 / 3) and value(rows, "no_verdict_rate") == 0.25
    assert (value(rows, "wins"), value(rows, "ties"), value(rows, "losses")) == (0, 1, 2)


def test_text_measures() -> None:
    asked = [Prompt("one two three four five", "t"), Prompt("six", "t")]
    answers = [response(asked[0], "one two three four seven"), response(asked[1], "seven seven", ended=False)]
    rows = text.evaluate("m", answers, resamples=200)
    assert value(rows, "length") == (6 + 2) / 2
    assert value(rows, "missing_eos") == 0.5
    assert value(rows, "copy_rate") == 0.5  # of "one two three four" and "two three four seven"
    change = text.length_change("m", answers, [answers[1], answers[1]], resamples=200)
    assert value(change, "length_change") == pytest.approx(8 / 4 - 1)


def interval(rows: list[Row], metric: str) -> tuple[float | None, float | None]:
    (found,) = [row for row in rows if (row.metric, row.task) == (metric, "all")]
    return found.low, found.high


def test_rates_at_their_ends_keep_an_interval_and_constants_have_none() -> None:
    asked = [Prompt(f"{i} one two three four", "t") for i in range(25)]
    answers = [response(p, "five six seven eight nine") for p in asked]
    expected = stats.binomtest(0, 25).proportion_ci(method="wilson")
    rows = text.evaluate("m", answers, resamples=200)
    for metric in ("copy_rate", "missing_eos"):
        assert value(rows, metric) == 0
        assert interval(rows, metric) == pytest.approx((0, expected.high), abs=1e-12)
    rows += text.length_change("m", answers, answers, resamples=200)
    rows += drift.evaluate("m", np.zeros(25), answers, resamples=200)
    rows += scored.evaluate("m", answers, [Score(1.0)] * 25, "score", resamples=200)
    for metric, mean in (("length", 6), ("length_change", 0), ("kl", 0), ("score", 1)):
        assert value(rows, metric) == mean
        assert interval(rows, metric) == (None, None)
    json.dumps(to_json(rows), allow_nan=False)


def test_a_reward_model_that_is_never_wrong_may_still_be() -> None:
    rows = reward_model.evaluate("m", [1.0] * 40, [0.0] * 40, clusters=[f"p{i // 4}" for i in range(40)])
    expected = stats.binomtest(10, 10).proportion_ci(method="wilson")
    assert value(rows, "accuracy") == 1
    assert interval(rows, "accuracy") == pytest.approx((expected.low, 1), abs=1e-12)
    assert interval(rows, "margin") == (None, None)


def test_words_of_other_scripts_count() -> None:
    assert text.words("Größe: 3 Äpfel!") == ["größe", ":", "3", "äpfel", "!"]


def pairs(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    chosen, rejected = generator.normal(0.7, 1, n), generator.normal(0, 1, n)
    return chosen, rejected, generator.integers(5, 50, (n, 2))


def test_reward_model_rows() -> None:
    chosen, rejected, lengths = pairs()
    rows = reward_model.evaluate("r", chosen, rejected, None, lengths[:, 0], lengths[:, 1])
    assert value(rows, "accuracy") == pytest.approx(float((chosen > rejected).mean()))
    longer = np.where(lengths[:, 0] == lengths[:, 1], 0.5, lengths[:, 0] > lengths[:, 1])
    assert value(rows, "accuracy_longer_wins") == pytest.approx(float(longer.mean()))
    assert value(rows, "margin") == pytest.approx(float((chosen - rejected).mean()))
    table = [row for row in rows if row.metric.startswith("reliability/")]
    assert len(table) == 20 and sum(row.n for row in table) == 2 * 400
    recovered = sum(row.n * (row.value or 0) for row in table if row.metric.endswith("/accuracy")) / 400
    assert recovered == pytest.approx(value(rows, "accuracy"))


def test_a_reward_model_of_length_is_seen_through() -> None:
    _, _, lengths = pairs(600)
    wins = lengths[:, 0] > lengths[:, 1]
    lengths = np.where(wins[:, None], lengths, lengths[:, ::-1])
    rows = reward_model.evaluate(
        "r", lengths[:, 0] / 10, lengths[:, 1] / 10, None, lengths[:, 0], lengths[:, 1]
    )
    assert value(rows, "score_length_correlation") == pytest.approx(1.0)
    assert (value(rows, "accuracy") or 0) <= (value(rows, "accuracy_longer_wins") or 0)


def test_soft_labels_bound_the_accuracy() -> None:
    rows = reward_model.evaluate("r", [2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.8, 0.4, 1.0])
    assert value(rows, "accuracy") == pytest.approx((0.8 + 0.6 + 0.5) / 3)


def test_pairs_of_one_prompt_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    right = np.repeat(generator.random(50) < 0.7, 6)
    chosen = np.where(right, 1.0, -1.0)
    keys = [f"p{i // 6}" for i in range(300)]

    def width(**more: list[str]) -> float:
        row = reward_model.evaluate("r", chosen, np.zeros(300), **more)[0]  # type: ignore[arg-type]
        assert row.low is not None and row.high is not None
        return row.high - row.low

    assert width(clusters=keys) > 1.8 * width()


def calibrated(n: int, scale: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Margins of a model that is `scale` times too sure, and labels."""
    generator = np.random.default_rng(seed)
    margins = generator.normal(0, 1.2, n)
    return scale * margins, (generator.random(n) < 1 / (1 + np.exp(-margins))).astype(float)


CALIBRATION = (
    "temperature_fitted",
    "calibration_error",
    "calibration_error_fitted",
    "calibration_error_floor",
)


def test_the_fitted_temperature_has_the_interval_of_its_likelihood() -> None:
    """Against the Fisher information of a logistic regression with one coefficient, 1/T."""
    margins, labels = calibrated(2000, scale=3.0)
    rows = reward_model.evaluate("r", margins, np.zeros(2000), labels)
    inverse = 1 / (value(rows, "temperature_fitted") or 0)
    s = 1 / (1 + np.exp(-inverse * margins))
    reach = 1.96 / math.sqrt(float(np.sum(s * (1 - s) * margins**2)))
    low, high = interval(rows, "temperature_fitted")
    assert (1 / (high or 0), 1 / (low or 0)) == pytest.approx((inverse - reach, inverse + reach), rel=0.03)
    assert (low or 0) < 3 < (high or 0)


def test_pairs_of_one_prompt_are_resampled_together_for_calibration() -> None:
    """Every pair five times under its prompt says nothing more; five times under prompts of their own narrows intervals."""
    margins, labels = calibrated(200, scale=2.0)
    many, said = np.repeat(margins, 5), np.repeat(labels, 5)
    keys = [f"{i // 5:03}" for i in range(1000)]
    once = reward_model.evaluate("r", margins, np.zeros(200), labels, clusters=keys[::5], resamples=150)
    together = reward_model.evaluate("r", many, np.zeros(1000), said, clusters=keys, resamples=150)
    apart = reward_model.evaluate("r", many, np.zeros(1000), said, resamples=150)
    for metric in CALIBRATION[:3]:
        low, high = interval(once, metric)
        assert interval(together, metric) == pytest.approx((low, high), rel=1e-6), metric
    low, high = interval(apart, "temperature_fitted")
    assert (high or 0) - (low or 0) < 0.55 * np.subtract(*reversed(interval(once, "temperature_fitted")))


def test_the_floor_holds_what_calibrated_models_show() -> None:
    floors = reward_model.evaluate("r", calibrated(300, 1.0)[0], np.zeros(300), np.ones(300))
    low, high = interval(floors, "calibration_error_floor")
    shown = [expected_calibration_error(*calibrated(300, 1.0, seed)) for seed in range(200)]
    inside = np.mean([(low or 0) <= one <= (high or 0) for one in shown])
    assert 0.9 <= inside <= 0.99
    assert value(floors, "calibration_error_floor") == pytest.approx(float(np.mean(shown)), rel=0.05)


def test_a_score_that_is_not_finite_is_named() -> None:
    with pytest.raises(ValueError, match="Pair 1 has a score that is not a finite number"):
        reward_model.evaluate("r", [1.0, math.nan], [0.0, 0.0])


def test_no_pairs_at_all() -> None:
    rows = reward_model.evaluate("r", [], [])
    assert value(rows, "accuracy") is None


def test_accuracy_by_project_by_hand() -> None:
    """Of one: two of three votes; of two: a pair in which the votes are split 3 to 1, and an equal score."""
    asked = prompts(5)

    def pair(number: int, project: str, p_chosen: float = 1.0) -> Comparison:
        return Comparison(
            asked[number], "a", "b", p_chosen, place=Place(f"store:{project}", number + 1, "row")
        )

    pairs = [pair(0, "one"), pair(1, "two", 0.75), pair(2, "one"), pair(3, "two"), pair(4, "one")]
    scores = [(2, 1), (0, 1), (1, 2), (1, 1), (5, -5)]
    rows = reward_model.accuracies("reward", pairs, scores, "accuracy_previous")
    assert [(row.metric, row.n, row.value) for row in rows] == [
        ("accuracy_previous", 5, pytest.approx((1 + 0.25 + 0 + 0.5 + 1) / 5)),
        ("accuracy_previous@one", 3, pytest.approx(2 / 3)),
        ("accuracy_previous@two", 2, pytest.approx(0.375)),
    ]
    files = [replace(pair, place=place) for pair, place in zip(pairs, [None, *[Place("a.jsonl", 1)] * 4])]
    assert reward_model.by_project("reward", files, scores) == []
