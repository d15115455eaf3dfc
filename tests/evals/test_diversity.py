"""Diversity against counts by hand, against all draws, and at both of its ends."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evals.synthetic import response
from tutelage import statistics
from tutelage.evals import diversity
from tutelage.evals.rows import Row
from tutelage.records import Prompt, Response, Score


def value(rows: list[Row], metric: str, model: str = "m", task: str = "all") -> float | None:
    (found,) = [row for row in rows if (row.model, row.metric, row.task) == (model, metric, task)]
    return found.value


@given(st.text("abc", min_size=1, max_size=7), st.data())
def test_distinct_is_the_mean_over_all_draws(grams: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(grams)))
    draws = [len(set(draw)) / size for draw in itertools.combinations(grams, size)]
    assert statistics.distinct(grams, size) == pytest.approx(sum(draws) / len(draws))


def test_distinct_does_not_depend_on_how_much_was_written() -> None:
    """The same words in the same shares, ten times as many: as varied as before.  Counted all together they are not."""
    asked = [Prompt(str(i)) for i in range(20)]
    short = [response(p, " ".join(f"w{(7 * i + k) % 50}" for k in range(10))) for i, p in enumerate(asked)]
    long = [response(p, " ".join([r.text] * 10)) for p, r in zip(asked, short, strict=True)]
    rows = diversity.distinct_rows({"m": short, "long": long})
    assert value(rows, "distinct_1") == pytest.approx(50 / 200)  # counted
    # Counted all together it would be 50 / 2000.
    assert value(rows, "distinct_1", "long") == pytest.approx(0.25, abs=0.01)
    assert {row.n for row in rows if row.metric == "distinct_1"} == {200}


def test_without_words_there_is_no_distinct() -> None:
    asked = Prompt("q")
    rows = diversity.distinct_rows({"m": [response(asked, "")], "o": [response(asked, "some words")]})
    assert {row.value for row in rows} == {None}


def test_bleu_by_hand() -> None:
    text = ["the", "cat", "sat", "on", "the", "mat"]
    # "the" twice, of which the reference has one: 5 of 6 words; 3 of 5 pairs; 2 of 4 triples; 1 of 3 runs of four.
    reference = ["the", "cat", "sat", "on", "a", "mat"]
    assert diversity.bleu(text, [reference]) == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    # Clipped by the reference that has most of an n-gram, each on its own: here everything is found in one of two.
    assert diversity.bleu(["a", "b", "c", "d", "e"], [["a", "b", "c", "d"], ["b", "c", "d", "e"]]) == 1.0
    # Shorter than the nearest reference by one of six words: exp(1 - 6 / 5).
    assert diversity.bleu(text[:5], [text]) == pytest.approx(math.exp(-0.2))
    assert diversity.bleu(["yes"], [["yes"]]) == 1.0 and diversity.bleu(["yes"], []) == 0.0
    assert diversity.bleu([], [[], ["a"]]) == 1.0 and diversity.bleu([], [["a"]]) == 0.0


def samples(texts: list[str], prompt: str = "q") -> list[Response]:
    return [response(Prompt(prompt), text) for text in texts]


def test_siblings_that_are_all_alike_and_that_share_nothing() -> None:
    alike = diversity.sibling_rows("m", samples(["one two three four five"] * 8), resamples=100)
    assert value(alike, "unique_share") == 1 / 8 and value(alike, "self_bleu") == 1.0
    apart = [" ".join(f"w{i}x{k}" for k in range(6)) for i in range(8)]
    rows = diversity.sibling_rows("m", samples(apart), resamples=100)
    assert value(rows, "unique_share") == 1.0 and value(rows, "self_bleu") == 0.0


def test_siblings_are_compared_within_their_prompt_only() -> None:
    texts = ["one two three four five", "six seven eight nine ten"]
    mixed = [*samples(texts, "p"), *samples(texts, "q")]
    rows = diversity.sibling_rows("m", mixed, resamples=100)
    assert value(rows, "self_bleu") == 0.0 and value(rows, "unique_share") == 1.0
    assert value(diversity.sibling_rows("m", mixed[::-1], resamples=100), "self_bleu") == 0.0


def test_entropy_is_the_mean_surprise() -> None:
    asked = [Prompt("a"), Prompt("b")]
    found = [
        Response(asked[0], "x", (1,), (2, 3), (-1.0, -2.0), "eos"),
        Response(asked[1], "y", (1,), (2,), (-0.5,), "eos"),
    ]
    rows = diversity.entropy_rows("m", found, resamples=100)
    assert value(rows, "entropy") == pytest.approx(3.5 / 3)
    assert value(rows, "entropy_response") == pytest.approx(3.5 / 2)


# ---- valid responses ----------------------------------------------------------------------------------------------------


def test_what_is_wrong_or_said_before_is_not_diverse() -> None:
    """By hand: of p's four responses three are valid and two differ; of q's four one is."""
    found = [*samples(["a", "b", "a", "wrong"], "p"), *samples(["no", "none", "a", "nothing"], "q")]
    scores = [Score(float(r.text in "ab"), {"liked": float(r.text == "b"), "liked/x": 1.0}) for r in found]
    rows = diversity.valid_rows("m", found, scores, 1.0, resamples=100)
    assert value(rows, "valid_share") == 4 / 8 and value(rows, "distinct_valid") == 3 / 8
    assert value(rows, "valid/liked") == 1 / 4 and not [r for r in rows if r.metric == "valid/liked/x"]
    # All of them are valid from 0 on: then it is what unique_share is.
    rows = diversity.valid_rows("m", found, scores, 0.0, resamples=100)
    assert value(rows, "distinct_valid") == value(diversity.sibling_rows("m", found), "unique_share") == 7 / 8


def test_valid_responses_by_task() -> None:
    found = [
        response(Prompt(task, task), text) for task, text in (("t", "a"), ("t", "b"), ("f", "a"), ("f", "a"))
    ]
    rows = diversity.valid_rows("m", found, [Score(1.0)] * 4, 0.5, resamples=100)
    assert [value(rows, "distinct_valid", task=task) for task in ("t", "f", "all")] == [1.0, 0.5, 0.75]
    rows = diversity.sibling_rows("m", found, resamples=100)
    assert [value(rows, "unique_share", task=task) for task in ("t", "f")] == [1.0, 0.5]


def test_entropy_of_valid_responses_is_that_of_the_distribution_given_that_they_are() -> None:
    """Samples in exact proportion to a known distribution: -sum q log q of q = p renormalised over the valid ones."""
    p = {"a": 0.5, "b": 0.125, "c": 0.125, "wrong": 0.25}
    found = [
        Response(Prompt("q"), text, (1,), (2,), (math.log(share),), "eos")
        for text, share in p.items()
        for _ in range(round(share * 64))
    ]
    scores = [Score(float(r.text != "wrong")) for r in found]
    q = [share / 0.75 for text, share in p.items() if text != "wrong"]
    expected = -sum(share * math.log(share) for share in q)
    assert value(diversity.valid_rows("m", found, scores, 1.0), "entropy_valid") == pytest.approx(expected)
    # Prompts without a valid response say nothing of it; and the best of several are no samples of a known distribution.
    more = [*found, *samples(["x"] * 4, "other")]
    rows = diversity.valid_rows("m", more, [*scores, *[Score(0.0)] * 4], 1.0)
    assert value(rows, "entropy_valid") == pytest.approx(expected)
    assert "entropy_valid" not in {
        r.metric for r in diversity.valid_rows("m", found, scores, 1.0, drawn=False)
    }
    none = diversity.valid_rows("m", found, [Score(0.0)] * 64, 1.0)
    assert {r.metric: r.value for r in none} == {"valid_share": 0.0, "distinct_valid": 0.0}
