"""Several responses in one question, and steps: what is asked, what is read, what it comes to."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judges.endpoint import Server, serving
from tests.judges.test_llm import judge
from tutelage.judges.llm.ranking import canonical, joined, rotations
from tutelage.judges.llm.verdict import read_marks, read_ranking
from tutelage.records import Response
from tutelage.seeds import rng
from tutelage.worlds.gold import grade
from tutelage.worlds.gold_maths import mark
from tutelage.worlds.world import marked_solutions, prompts, write_response

ASKED = list(prompts(0, "llm-ranking", 12))
SOLVED = list(marked_solutions(0, 12))


def group_of(prompt: object, count: int = 4) -> list[Response]:
    texts = (write_response(prompt, rng(1, prompt.id, i), careless=0.6).text for i in range(200))  # type: ignore
    return [Response.written(prompt, text) for text in list(dict.fromkeys(texts))[:count]]  # type: ignore


GROUPS = [group for group in map(group_of, ASKED) if len(group) == 4]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving([*ASKED, *(one.prompt for one in SOLVED)], reliability=0.99) as running:
        yield running


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ('{"rationale": "r", "rank": [3, 1, 2]}', (2, 3, 1)),
        ('{"rank": [[1, 2], 3]}', (1, 1, 2)),
        ('{"rank": [3, [2, 1]]}', (2, 2, 1)),
        ('{"rank": ["Response 2", "3", 1]}', (3, 1, 2)),
        ('The text says {"rank": [1, 2, 3]}. {"rank": [3, 2, 1]}', (3, 2, 1)),
        ("Reasons.\nrank: [2, [1, 3]]", (2, 1, 2)),
        ('{"rationale": "x", "rank": [2, 1, 3], "more": "cut', (2, 1, 3)),
        ("rank: [1, 2, 3] in style, rank: [2, 1, 3] in substance", None),
        ('{"rank": [1, 2]}', None),
        ('{"rank": [1, 2, 2]}', None),
        ('{"rank": [1, 2, 4]}', None),
        ('{"rank": [0, 1, 2]}', None),
        ('{"rank": [1, 2, 3, 3]}', None),
        ('{"rank": [[1, 2, 3], []]}', None),
        ('{"rank": [true, 2, 3]}', None),
        ('{"rank": [[[1]], 2, 3]}', None),
        ('{"rank": 1}', None),
        ('{"rank": [1, 2, 3', None),
        ("3 > 1 > 2", None),
        ("<think>rank: [1, 2, 3]", None),
        ("", None),
    ],
)
def test_rankings(text: str, ranks: tuple[int, ...] | None) -> None:
    assert read_ranking(text, 3) == ranks


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ('{"marks": [1, 0, -1]}', (1, 0, -1)),
        ('{"marks": [1, -1]}', (1, -1, None)),
        ('{"first_error": 0}', (1, 1, 1)),
        ('{"first_error": 2}', (1, -1, None)),
        ('{"marks": [1, -1, 1], "first_error": 2}', (1, -1, 1)),
        ("first_error: 3", (1, 1, -1)),
        ('"marks": [1, 1, 1], and then it was cut', (1, 1, 1)),
        ('{"marks": [1, -1, 1], "first_error": 3}', None),
        ('{"marks": [1, 1]}', None),
        ('{"marks": [-1, -1]}', None),
        ('{"marks": [1, 1, 1, 1]}', None),
        ('{"marks": [1, 2, 1]}', None),
        ('{"marks": [true, true, true]}', None),
        ('{"first_error": 4}', None),
        ('{"first_error": -1}', None),
        ("first_error: 1, no, first_error: 2", None),
        ("All steps are right.", None),
    ],
)
def test_marks(text: str, marks: tuple[int | None, ...] | None) -> None:
    assert read_marks(text, 3) == marks


def test_a_place_that_is_liked_comes_to_nothing() -> None:
    """Whoever always takes what stands first, then second, ...: all are equal; a real order stays in any rotation."""
    orders = rotations((2, 0, 3, 1))
    assert [sorted(column) for column in zip(*orders, strict=True)] == [[0, 1, 2, 3]] * 4  # a Latin square
    same = joined(orders, [(1, 2, 3, 4)] * 4)
    assert same.ranks == (1, 1, 1, 1)
    assert all(same.shares[i][j] + same.shares[j][i] == 1 for i in range(4) for j in range(4))
    truth = (3, 1, 2, 2)
    seen = joined(orders, [tuple(truth[one] for one in order) for order in orders])
    assert seen.ranks == truth and seen.shares[1][0] == 1 and seen.shares[2][3] == 0.5
    assert seen.sure == pytest.approx((5 * 1 + 0.5) / 6)


def test_by_hand_from_the_raw_answers(server: Server, tmp_path: Path) -> None:
    """Each response in each place once; shares counted from what stands in the store; any order of giving is the same."""
    made = judge(server, tmp_path, template="k-way")
    found = made.rank(GROUPS)
    with sqlite3.connect(tmp_path / "calls.sqlite") as connection:
        texts = dict(connection.execute("SELECT key, text FROM judge_call"))
    assert len(texts) == 4 * len(GROUPS)
    for group, ranking in zip(GROUPS, found, strict=True):
        wins = [0.0] * 4
        for order, call in zip(rotations(canonical(group)), made.calls_for([group]), strict=True):
            said = json.loads(texts[call.key(made.asker.model)])["rank"]
            tiers = [one if isinstance(one, list) else [one] for one in said]
            place = {order[k - 1]: n for n, tier in enumerate(tiers) for k in tier}
            for i, j in itertools.permutations(range(4), 2):
                wins[i] += (place[i] < place[j]) + 0.5 * (place[i] == place[j])
        assert ranking is not None
        for i, j in itertools.combinations(range(4), 2):
            assert (ranking.ranks[i] < ranking.ranks[j]) == (wins[i] > wins[j])
        assert sum(map(sum, ranking.shares)) == pytest.approx(4 * 4 / 2)
    turned = judge(server, tmp_path, template="k-way").rank([group[::-1] for group in GROUPS])
    assert [one and one.ranks[::-1] for one in turned] == [one and one.ranks for one in found]
    with sqlite3.connect(tmp_path / "calls.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM judge_call").fetchone() == (4 * len(GROUPS),)
    assert set(made.tally.figures) == {"unparsed_rate", "repaired_rate", "first_position_rate"}


def test_it_has_them_as_gold_has_them(server: Server, tmp_path: Path) -> None:
    """A careful judge: of two whose gold scores are far apart, the better one is before the other."""
    right = []
    for group, ranking in zip(GROUPS, judge(server, tmp_path, template="k-way").rank(GROUPS), strict=True):
        gold = [grade(one.prompt, one.text).value for one in group]
        assert ranking is not None
        right += [
            ranking.ranks[i] < ranking.ranks[j]
            for i, j in itertools.permutations(range(4), 2)
            if gold[i] > gold[j] + 0.4
        ]
    assert len(right) > 10 and sum(right) / len(right) > 0.9


def test_one_question_where_one_is_wanted_and_none_where_an_order_says_nothing(tmp_path: Path) -> None:
    with serving(ASKED, malformed=0.4) as broken:
        made = judge(broken, tmp_path, template="k-way", orders="random", repair=False)
        assert len(made.calls_for(GROUPS)) == len(GROUPS)
        one = made.rank(GROUPS)
        both = judge(broken, tmp_path, template="k-way", repair=False)
        all_four = both.rank(GROUPS)
    assert 0 < one.count(None) < len(GROUPS) and all_four.count(None) > one.count(None)
    assert 0.2 < both.tally.figures["unparsed_rate"] < 0.6
    with pytest.raises(ValueError, match="ranks 2 to 9 responses to a prompt, not 1"):
        made.rank([GROUPS[0][:1]])
    with pytest.raises(ValueError, match="does not rank responses: take template: k-way"):
        judge(broken, tmp_path).rank(GROUPS)
    with pytest.raises(ValueError, match="does not say how to answer with mode: logits"):
        judge(broken, tmp_path, template="k-way", mode="logits")


def test_two_are_a_pair(server: Server, tmp_path: Path) -> None:
    pairs = [(group[0], group[1]) for group in GROUPS]
    votes = judge(server, tmp_path, template="k-way").compare(pairs)
    back = judge(server, tmp_path, template="k-way").compare([(b, a) for a, b in pairs])
    for vote, turned in zip(votes, back, strict=True):
        assert vote is not None and turned is not None and vote.for_first == 1 - turned.for_first


def test_steps_are_marked_as_the_expert_marks_them(server: Server, tmp_path: Path) -> None:
    """Through a noise of one in a hundred; what it says of a step behind the first wrong one is nothing."""
    found = judge(server, tmp_path, template="steps").mark([(one.prompt, one.steps) for one in SOLVED])
    same = 0
    for row, marks in zip(SOLVED, found, strict=True):
        gold = tuple(mark(dict(row.prompt.reference or {}), list(row.steps)))
        assert marks is not None and len(marks) == len(row.steps)
        same += marks == gold
    assert same >= len(SOLVED) - 2
    with pytest.raises(ValueError, match="marks steps and gives no scores"):
        judge(server, tmp_path, template="steps").score(GROUPS[0])
    with pytest.raises(ValueError, match="does not mark steps: take template: steps"):
        judge(server, tmp_path).mark([(SOLVED[0].prompt, SOLVED[0].steps)])
