"""What answers of language models say, and that what says nothing is no vote."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.judges.llm.verdict import read_pair, read_rating

READABLE = [
    ('{"rationale": "r", "rank": [2]}', 2),
    ('{"rationale": "r", "rank": [1, 2]}', 1),
    ('{"rank": 2}', 2),
    ('{"rank": "1"}', 1),
    ('{"rank": ["Response 2"]}', 2),
    ('{"rank": [0]}', 0),
    ('```json\n{"rationale": "a {brace} and a \\"quote\\"", "rank": [1]}\n```', 1),
    (
        'The first says {"rank": [1]}, which is a trick. {"rationale": "trick", "rank": [2]}',
        2,
    ),  # the last one is its own
    ('<think>{"rank": [1]}</think>{"rank": [2]}', 2),
    ('<think>It should be {"rank": [1]}.</think>\nRationale: it is shorter.\n"rank": [2]', 2),
    ('{"rationale": "they wrote \\"rank\\": [1] in it", "rank": [2', 2),  # cut off behind its verdict
    ('{"scores": {"coherence": 3}, "rank": [1], "rationale": "and then it was cut o', 1),
    ("Rationale: clear.\n\nrank: 2", 2),
    ("**rank**: [1]", 1),
    ("It is shorter and to the point.\nVerdict: Response 2.", 2),
    ("Both are fine, but Response 1 is better.", 1),
    ("2", 2),
    (" [[1]] ", 1),
    ("Response 2", 2),
    ("The better response is 1", 1),
]
UNREADABLE = [
    "",
    "  \n ",
    "Both responses have their merits.",
    '{"rationale": "The first is clear and',
    '{"rationale": "", "rank": [3]}',
    '{"rank": [1, 1]}',
    '{"rank": []}',
    '{"rank": true}',
    '{"rank": null}',
    '{"rank": [1.5]}',
    '{"rationale": "they wrote \\"rank\\": [1] in it"}',
    '"rank": [1] for style, but "rank": [2] for substance',
    "rank: 1\nrank: 2",
    "rank: 12",
    "Response 1 has 2 paragraphs.",
    "<think>rank: 1",
    "I cannot choose between 1 and 2",
    "__import__('os').system('true')",
    "{" * 3000,
]


@pytest.mark.parametrize(("text", "better"), READABLE)
def test_a_verdict_is_found(text: str, better: int) -> None:
    found = read_pair(text)
    assert found is not None and found.value == better


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_says_nothing_is_no_verdict(text: str) -> None:
    assert read_pair(text) is None


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ({"coherence": [4, 3], "accuracy": [1, 5]}, {"coherence": (4, 3), "accuracy": (1, 5)}),
        ({"Coherence ": [4, "3/5"], "wit": [1, 1]}, {"coherence": (4, 3)}),
        ({"coherence": [4], "accuracy": [0, 5]}, {}),  # half of it, and off the scale
        ({"coherence": [6, 3], "accuracy": [2.5, 5]}, {"accuracy": (2.5, 5)}),
        ({"coherence": [True, 3], "accuracy": None}, {}),
        ({"coherence": {"first": 1, "second": 2}}, {}),
        ([4, 3], {}),
        ("coherence: [4, 3]", {}),
        (None, {}),
    ],
)
def test_scores_beside_a_verdict(scores: object, found: dict[str, tuple[float, float]]) -> None:
    """What is no score is not there, and the verdict does not depend on it."""
    said = read_pair(
        json.dumps({"rationale": "r", "scores": scores, "rank": [2]}), ("coherence", "accuracy"), (1, 5)
    )
    assert said is not None and (said.value, said.scores) == (2, found)


def test_scores_are_of_the_object_with_the_verdict() -> None:
    """Not of one that is quoted before it, nor of an answer that is cut off."""
    quoted = '{"scores": {"x": [1, 2]}, "rank": [1]} is a trick. {"rank": [2]}'
    for text in (quoted, '{"scores": {"x": [1, 2]}, "rank": [2'):
        said = read_pair(text, ("x",))
        assert said is not None and (said.value, said.scores) == (2, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"rationale": "r", "rating": 7}', 7),
        ('{"rating": "8/10"}', 8),
        ('{"rating": [10]}', 10),
        ('{"rationale": "good, I would say 3 of 4", "rating": 6.5}', 6.5),
        ("Rating: 9", 9),
        ("I would give it a score of 4.", 4),
        ("7/10", 7),
        ('{"rating": 11}', None),
        ('{"rating": 0}', None),
        ('{"rating": "high"}', None),
        ("rating: 3, no, rating: 4", None),
        ("10 out of many", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    found = read_rating(text, 1, 10)
    assert (found and found.value) == value


@given(st.text(), st.sampled_from([0, 1, 2]), st.text(alphabet="abc {}[]\n,", max_size=30))
def test_whatever_the_rationale_the_verdict_of_whole_json_counts(
    rationale: str, better: int, around: str
) -> None:
    answer = json.dumps({"rationale": rationale, "rank": [better]})
    found = read_pair(answer)
    assert found is not None and (found.value, found.rationale) == (better, rationale)
    behind = read_pair(f"{around.replace('{', '')} {answer}")
    assert behind is not None and behind.value == better


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    for found in (read_pair(text), read_rating(text, 1, 10)):
        assert found is None or 0 <= found.value <= 10
