"""The card of a reward model: planted truths, closed forms, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tutelage import statistics
from tutelage.evals.card import bag_of_words, card, page, people, probes, slices
from tutelage.evals.card.findings import doubts
from tutelage.evals.findings import one
from tutelage.evals.rows import Row
from tutelage.judges.judge import Judge
from tutelage.records import Comparison, Prompt, Response, Score

N = 500
LETTERS = str.maketrans("0123456789", "abcdefghij")  # what is written so has no digit to change
DIGITS = {ord(letter): chr(digit) for digit, letter in ((d, chr(c)) for d, c in LETTERS.items())}
WORDS = [f"w{i}" for i in range(40)]


class By(Judge):
    """A judge that is a function of the text."""

    name = "planted"

    def __init__(self, function: Callable[[str], float | None]) -> None:
        self._function = function

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        values = [self._function(response.text) for response in responses]
        return [None if value is None else Score(value) for value in values]


def quality(text: str) -> float:
    """What the last word says, if all stands as it was written: neither the set of the words nor the length tells it."""
    words = text.split()
    intact = len(words) > 1 and words[0] == "start" and words[-1].startswith("q")
    return float(words[-1][1:].translate(DIGITS)) if intact else -5.0


def planted(seed: int, shift: float = 0.0) -> tuple[list[Comparison], np.ndarray]:
    """N comparisons with 3 votes each by sigmoid of the quality's difference, and the votes; `shift`: what a word more adds."""
    generator = np.random.default_rng(seed)
    comparisons, votes = [], []
    for number in range(N):
        texts = []
        for _ in range(2):
            words = generator.choice(WORDS, generator.integers(3, 30))
            worth = f"{2 * generator.normal() + shift * len(words):.6f}".translate(LETTERS)
            texts.append(f"start {' '.join(words)} q{worth}")
        first = generator.binomial(3, statistics.sigmoid(quality(texts[0]) - quality(texts[1])))
        if first < 2:
            texts, first = texts[::-1], 3 - first
        prompt = Prompt(f"{seed}: asked {number // 2}")
        comparisons.append(Comparison(prompt, *texts, p_chosen=first / 3, margin=first / 3 - 1 / 3))
        votes.append((first, 3 - first))
    return comparisons, np.array(votes)


Judged = Callable[[str], float]


def figures(judged: Judged, comparisons: list[Comparison], votes: np.ndarray | None = None) -> list[Row]:
    learnt, _ = planted(99)
    sides = [(c.chosen, c.rejected) for c in learnt]
    training = card.Training(
        sides,
        [c.p_chosen for c in learnt],
        [c.prompt for c in learnt],
        [judged(a) - judged(b) for a, b in sides],
        shared=0,
    )
    scores = [[judged(c.chosen), judged(c.rejected)] for c in comparisons]
    lengths = [[len(c.chosen.split()), len(c.rejected.split())] for c in comparisons]
    return card.evaluate(
        "r", comparisons, scores, lengths, judge=By(judged), training=training, votes=votes, seed=1
    )


def value(rows: Sequence[Row], metric: str) -> float:
    found = one(rows, "r", metric)
    assert found is not None and found.value is not None, metric
    return found.value


@pytest.fixture(scope="module")
def gold() -> list[Row]:
    return figures(quality, *planted(0))


def names(rows: Sequence[Row]) -> list[str]:
    return [doubt.name for doubt in doubts(rows, "r")]


def test_a_judge_who_knows_the_quality_is_not_doubted(gold: list[Row]) -> None:
    assert names(gold) == []
    assert value(gold, "agreement") < value(gold, "accuracy_votes") < value(gold, "agreement_limit")
    assert value(gold, "accuracy_by_agreement/all") > value(gold, "accuracy_by_agreement/most") + 0.1
    assert "None of the checks found any." in (said := page.markdown(gold, "r", "data", 7))
    assert "held-out pairs of 7 prompts." in said and "rough themselves" in said


def test_agreement_is_of_pairs_that_several_people_voted_on() -> None:
    """One label for each pair, or ties among them, is no agreement; shares of votes in a file are, and so are votes."""
    margins, keys, one_each = np.ones(4), ["a", "b", "c", "d"], np.array([1.0, 0.0, 0.5, 1.0])
    shares, nothing = np.array([2 / 3, 1.0, 0.5, 1.0]), np.zeros(4)

    def found(p: np.ndarray, votes: list[tuple[int, int]] | None = None) -> dict[str, int]:
        rows = slices.by_people("r", margins, p, nothing, keys, votes=votes)
        return {r.metric.removeprefix("accuracy_by_agreement/"): r.n for r in rows}

    assert found(one_each) == found(one_each, [(1, 0), (0, 1), (0, 0), (1, 0)]) == {}
    assert found(shares) == {"split": 1, "most": 1, "all": 2}
    assert found(shares, [(2, 1), (1, 0), (1, 1), (3, 0)]) == {"split": 1, "most": 1, "all": 1}
    soft = np.array([0.8, 0.2, 0.8, 0.8])  # one vote each, as an aggregation by skill weighs it
    assert found(soft, [(1, 0)] * 4) == {}


def test_a_judge_of_length_is_seen_through() -> None:
    comparisons, votes = planted(0, shift=0.5)
    rows = figures(lambda text: 0.5 * len(text.split()), comparisons, votes)
    assert {"surface", "length"} <= set(names(rows))
    assert value(rows, "over_longer_wins") == 0
    assert value(rows, "score_length_correlation_within") == pytest.approx(1)
    quarters = [value(rows, f"accuracy_by_length/{number}/accuracy") for number in (1, 4)]
    assert quarters[1] > quarters[0] + 0.3
    assert len(page.summary(rows, "r")) <= 10


def test_a_judge_who_has_seen_the_votes_is_one_who_leaks() -> None:
    """Three votes on equally hard pairs, each 0.7 for the first: who has seen them goes by their majority."""
    first = np.random.default_rng(0).binomial(3, 0.7, N)
    votes, keys = np.stack([first, 3 - first], axis=1), [str(number) for number in range(N)]
    assert names(people.evaluate("r", first - 1.5, votes, keys)) == ["leak"]
    assert names(people.evaluate("r", np.ones(N), votes, keys)) == []


def test_shared_prompts_and_over_fitting_are_said(gold: list[Row]) -> None:
    changed = [
        Row(**{**vars(r), "value": 3.0})
        if r.metric == "prompts_shared"
        else Row(**{**vars(r), "value": 0.99, "low": 0.98, "high": 1.0})
        if r.metric == "accuracy_train"
        else r
        for r in gold
    ]
    assert names(changed) == ["shared-prompts", "over-fitted"]


def test_a_model_that_does_not_follow_the_policy_is_doubted(gold: list[Row]) -> None:
    own = Row("r", "accuracy_policy", "all", 0.5, 0.4, 0.6, 90, "share")
    assert names([*gold, own]) == ["stale"]
    assert names([*gold, replace(own, high=0.95)]) == []


def test_the_order_of_the_pairs_does_not_matter(gold: list[Row]) -> None:
    comparisons, votes = planted(0)
    turned = figures(quality, comparisons[::-1], votes[::-1])
    for r, other in zip(gold, turned, strict=True):
        if not r.metric.startswith("probe/"):  # of another sample, by seed
            assert r.metric == other.metric
            assert other.value == pytest.approx(r.value, abs=1e-9), r.metric


@pytest.mark.slow
def test_the_same_seed_gives_the_same_card(gold: list[Row]) -> None:
    assert figures(quality, *planted(0)) == gold


# ---- the bag of words ------------------------------------------------------------------------------------------------


def bags(n: int) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    """Pairs of sets of words, labels, and the true margins."""
    generator = np.random.default_rng(3)
    worth = generator.normal(0, 1, len(WORDS))
    drawn = [[generator.choice(len(WORDS), 8, replace=False) for _ in range(2)] for _ in range(n)]
    margins = np.array([worth[a].sum() - worth[b].sum() for a, b in drawn])
    labels = (generator.random(n) < statistics.sigmoid(margins)).astype(float)
    texts = [tuple(" ".join(WORDS[i] for i in side) for side in pair) for pair in drawn]
    return [(a, b) for a, b in texts], labels, margins


@pytest.mark.parametrize("penalty", [1.0, 10.0, 300.0])
def test_the_fit_is_that_of_scikit_learn(penalty: float) -> None:
    pairs, labels, _ = bags(300)
    rows = bag_of_words.Differences.of(pairs, {word: i for i, word in enumerate(WORDS)})
    dense = np.zeros((rows.n, rows.width))
    dense[rows.row, rows.column] = rows.sign
    theirs = LogisticRegression(fit_intercept=False, C=1 / penalty, tol=1e-10, max_iter=5000).fit(
        dense, labels
    )
    np.testing.assert_allclose(bag_of_words.fit(rows, labels, penalty), theirs.coef_[0], atol=1e-5)


def test_where_words_are_all_there_is_it_nears_the_best_accuracy() -> None:
    pairs, labels, margins = bags(2000)
    found = bag_of_words.train(pairs[:1500], labels[:1500], range(1500))
    right = statistics.correct(found.margins(pairs[1500:]), labels[1500:]).mean()
    best = statistics.correct(margins[1500:], labels[1500:]).mean()
    assert right > 0.95 * best > 0.75
    swapped = bag_of_words.train([(b, a) for a, b in pairs[:1500]], 1 - labels[:1500], range(1500))
    np.testing.assert_allclose(swapped.weights, found.weights, atol=1e-5)


def test_only_words_of_two_pairs_are_known() -> None:
    pairs = [(f"good once{i}", "bad") for i in range(10)]
    found = bag_of_words.train(pairs, [1.0] * 10, range(10))
    assert sorted(found.known) == ["bad", "good"]
    assert found.weights[found.known["good"]] > 0 > found.weights[found.known["bad"]]


# ---- slices, people, probes ------------------------------------------------------------------------------------------


def test_risk_and_coverage_by_hand() -> None:
    """Errors from the surest: 0, 1, then a tie of one right and one wrong in either order."""
    margins = np.array([3.0, -2.0, 1.0, -1.0])
    expected = np.mean([0, 1 / 2, (1 + 0.5) / 3, (1 + 1) / 4])
    assert value(slices.abstaining("r", margins, np.ones(4)), "aurc") == pytest.approx(expected)


def test_length_correlation_is_that_of_numpy() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 50, (200, 2)).astype(float)
    scores = 1e3 + 0.05 * lengths + generator.normal(0, 1, (200, 2))
    rows = slices.length_correlation("r", scores, lengths, [f"p{i // 2}" for i in range(200)])
    expected = np.corrcoef(scores.ravel(), lengths.ravel())[0, 1]
    assert value(rows, "score_length_correlation") == pytest.approx(expected)
    margins, longer = scores[:, 0] - scores[:, 1], lengths[:, 0] - lengths[:, 1]
    within = (margins @ longer) / math.sqrt((margins @ margins) * (longer @ longer))
    assert value(rows, "score_length_correlation_within") == pytest.approx(within)


def test_no_judge_agrees_with_a_vote_more_often_than_the_limit() -> None:
    """Equally hard pairs, all outcomes of two votes in proportion: the best judge is exactly at the limit."""
    votes = [(2, 0)] * 64 + [(1, 1)] * 32 + [(0, 2)] * 4  # 0.8 for the first
    rows = people.evaluate("r", np.ones(100), votes, [str(i) for i in range(100)])
    assert value(rows, "agreement") == pytest.approx(0.68)
    assert value(rows, "accuracy_votes") == pytest.approx(0.8)
    assert value(rows, "agreement_limit") == pytest.approx(0.8)
    assert people.evaluate("r", np.ones(2), [(1, 0), (0, 1)], ["a", "b"]) == []


def test_probes_say_what_a_judge_of_characters_makes_of_them() -> None:
    comparisons = [Comparison(Prompt(f"ask {i}"), f"in {i} words or so", "no") for i in range(30)]
    rows = probes.evaluate("r", By(lambda text: float(len(text))), comparisons, spread=2.0)
    assert value(rows, "probe/flattery/change") == pytest.approx(len(probes.FLATTERY) / 2)
    assert value(rows, "probe/flattery/higher") == 1 and value(rows, "probe/empty/higher") == 0
    assert value(rows, "probe/digits/change") == value(rows, "probe/shuffled/change") == 0
    assert value(rows, "probe/shuffled/higher") == 0.5  # equal scores count one half
    assert value(rows, "probe/swap/consistent") == 1
    assert "probe-flattery" in names(rows) and "probe-empty" not in names(rows)


def test_every_digit_becomes_another_one() -> None:
    response = Response.written(Prompt("?"), "0123456789 and 7")
    changed = probes.PROBES["digits"].spoil(response, np.random.default_rng(0))
    assert changed is not None and len(changed) == len(response.text)
    assert all((a != b) == a.isdigit() for a, b in zip(response.text, changed, strict=True))
    assert (
        probes.PROBES["digits"].spoil(Response.written(Prompt("?"), "none"), np.random.default_rng(0)) is None
    )


def test_what_is_too_long_to_score_is_left_out_and_a_moody_judge_is_noticed() -> None:
    comparisons = [Comparison(Prompt(f"ask {i}"), "a b c d", "no") for i in range(30)]
    short = probes.evaluate(
        "r", By(lambda text: None if len(text) > 20 else 1.0 * len(text)), comparisons, 1.0
    )
    assert one(short, "r", "probe/flattery/change") is None and value(short, "probe/empty/change") == -7
    mood = np.random.default_rng(0)
    rows = probes.evaluate("r", By(lambda text: len(text) + mood.normal()), comparisons, 1.0)
    assert value(rows, "probe/swap/consistent") < 0.5 and "swap" in names(rows)


def test_a_row_without_a_width_counts_by_its_value() -> None:
    gap = Row("r", "over_longer_wins", "all", 1.0, n=9, unit="share")
    alone = Row("r", "accuracy_longer_wins", "all", 0.0, n=9, unit="share")
    assert names([gap, alone]) == [] and names([Row(**{**vars(gap), "value": 0.0}), alone]) == ["surface"]
