"""Verifiers of answers: letter for letter, numbers, mathematics, choices; and answers that try to be right in every way."""

from __future__ import annotations

import json
import random
import time
from fractions import Fraction
from typing import Any

import pytest

from tutelage.data.reading.formats import read_prompts, walk
from tutelage.judges.build import build_judge
from tutelage.judges.judge import Judge
from tutelage.judges.verify.answers import last_number
from tutelage.judges.verify.choice import chosen
from tutelage.judges.verify.latex import Unread, normalise, read_formula
from tutelage.records import Prompt, Response, Score

SOLUTION = "She has 3 + 4 = <<3+4=7>>7.\nTwice that is 14.\n#### 14"  # as GSM8K writes


def answered(text: str, reference: Any) -> Response:
    return Response.written(Prompt("p", reference=reference), text)


def judge_of(name: str, **options: Any) -> Judge:
    return build_judge([{"judge": f"verify:{name}", **options}] if options else f"verify:{name}")


def score(name: str, text: str, reference: Any, **options: Any) -> Score | None:
    [found] = judge_of(name, **options).score([answered(text, reference)])
    return found


def right(name: str, text: str, truth: Any, **options: Any) -> bool:
    found = score(name, text, {"answer": truth}, **options)
    assert found is not None
    return found.value == 1


# ---- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.50", "1234.5"), ("-7", "-7"), ("$18.", "18"), ("x = -0.5", "-1/2"), (".25", "1/4"), ("3/4", "3/4"),
        ("1 1/2", "3/2"), ("-1 1/2", "-3/2"), ("\\frac{3}{4}", "3/4"), ("-\\dfrac12", "-1/2"), ("2\\frac{1}{2}", "5/2"),
        ("1{,}000", "1000"), ("10-5", "5"), ("1e3", "1000"), ("2.5E-1", "1/4"), ("7 apples and 3 pears", "3"),
        ("1,000,000 people", "1000000"), ("−3", "-3"), ("50 %", "50"), ("\\$1\\,200", "1200"),
    ],
)  # fmt: skip
def test_the_last_number_is_read_as_people_write_it(text: str, number: str) -> None:
    found = last_number(text)
    assert found is not None and found.value == Fraction(number)


@pytest.mark.parametrize("text", ["", "none", "5/0", "1" * 100_000, "one"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("text", "truth", "is_right"),
    [
        ("#### 14", SOLUTION, True), ("so 14", SOLUTION, True), ("\\boxed{14} ", SOLUTION, True), ("14.0", SOLUTION, True),
        ("14 then 15", SOLUTION, False), ("#### 15 or 14? #### 15", SOLUTION, False), ("#### 7", SOLUTION, False),
        ("\\boxed{14} no, \\boxed{15}", "14", False), ("\\boxed{15} #### 14", "14", True), ("#### 14\nAnd 99", "14", True),
        ("50%", "0.5", True), ("50%", "50", True), ("50", "50%", True), ("0.5", "50%", True), ("5%", "0.5", False),
        ("50%", "50%", True), ("0.5%", "50%", False), ("1,000", 1000, True), ("1000.0005", "1000", True),
        ("1000.002", "1000", False), ("0.333", "1/3", False), ("0.3333333", "1/3", True),
    ],
)  # fmt: skip
def test_numbers_are_compared_at_the_last_mark(text: str, truth: Any, is_right: bool) -> None:
    assert right("numeric", text, truth) is is_right


def test_tolerance_is_a_share_of_the_right_number() -> None:
    assert right("numeric", "103", "100", tolerance=0.03) and not right(
        "numeric", "103.1", "100", tolerance=0.03
    )
    assert right("numeric", "0.02", "0", tolerance=0.03) and not right(
        "numeric", "14.0000001", "14", tolerance=0
    )


@pytest.mark.parametrize(
    ("where", "finds"),
    [("boxed", "1"), ("hashes", "2"), ("marked", "2"), ("last", "3"), ("auto", "2"), ("whole", "3")],
)
def test_where_the_answer_stands_is_one_rule(where: str, finds: str) -> None:
    text = "\\boxed{1} then #### 2\nand 3"
    assert [n for n in "123" if right("numeric", text, n, extract=where)] == [finds]


# ---- letter for letter -------------------------------------------------------------------------------------------------


def test_exact_normalises_space_case_and_the_full_stop() -> None:
    assert right("exact", " The  Moon.\n", "the moon") and right("exact", "ﬁne", "fine")
    assert not right("exact", "the moon", "The Moon", case=True) and not right(
        "exact", "the moons", "the moon"
    )
    assert right("exact", "b", ["a", "b"]) and right("exact", "so \\boxed{yes}", "yes", extract="boxed")
    found = score("exact", "b", {"answers": ["a", "b"]})
    assert found is not None and found.value == 1


# ---- mathematics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("\\frac{1}{2}", "0.5", True), ("\\dfrac12", "1/2", True), ("x=5", "5", True), ("1,000", "1000", True),
        ("2^{10}", "1024", True), ("2^{-1}", "0.5", True), ("3\\frac{1}{2}", "\\frac{7}{2}", True), ("-3\\frac12", "-3.5", True),
        ("(1,2)", "(2,1)", False), ("(1, 2)", "( 1,2 )", True), ("\\{1,2\\}", "\\{2,1\\}", True), ("1,2", "2,1", True),
        ("[0,1)", "[0,1]", False), ("\\left[0,1\\right)", "[0,1)", True), ("90^\\circ", "90", True), ("50\\%", "50", True),
        ("5\\text{ cm}", "5", True), ("\\text{Monday}", "Monday", True), ("18 dollars", "18", False), ("0.333", "1/3", False),
        ("-2^2", "-4", True), ("(-2)^2", "4", True), ("1/2/2", "0.25", True), ("6/2(1+2)", "9", True), ("2-3-4", "-5", True),
        ("1/0", "1", False), ("", "1", False), ("__import__('os')", "1", False), ("(" * 1000, "1", False),
        ("\\frac{1}{3}", "0.3333333333", False), ("\\infty", "\\infty", True),
        ("5\\text{ or }6", "56", False), ("5\\text{ or }6", "6,5", True), ("1,1", "1,2", False),
    ],
)  # fmt: skip
def test_equal_without_algebra(a: str, b: str, equal: bool) -> None:
    assert right("maths", a, b, extract="whole") is equal


@pytest.mark.slow
def test_equal_by_algebra_and_never_without_end() -> None:
    cases = {
        ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt2}"): True, ("(x+1)^2", "x^2+2x+1"): True, ("(x+1)^2", "x^2+2x"): False,
        ("2\\sin x\\cos x", "\\sin 2x"): True, ("\\sqrt{x^2}", "x"): False, ("\\sqrt{x^2}", "|x|"): True,
        ("e^{i\\pi}", "-1"): True, ("\\log_2 8", "3"): True, ("\\pi r^2", "r^2\\pi"): True, ("n!", "n(n-1)!"): True,
        ("y=x+1", "y=1+x"): True, ("(\\sqrt4, 1)", "(2, 1)"): True, ("\\{\\sqrt4, 1\\}", "\\{1, 2\\}"): True,
        ("9^{9^{9^{9}}}", "2"): False, ("10^{10^{10}}", "1"): False, ("100000!", "2"): False, ("(n!)!", "(n!)!+1"): False,
        ("((x+1)^{60}+y)^{60}", "((x+1)^{60}+y)^{60}+x"): False, ("x_1+x_2", "x_2+x_1"): True,
    }  # fmt: skip
    begun = time.monotonic()
    judge = judge_of("maths", extract="whole", seconds=2.0)
    pairs = list(cases)
    random.Random(0).shuffle(pairs)
    found = judge.score([answered(a, {"answer": b}) for a, b in pairs])
    assert {p: s is not None and s.value == 1 for p, s in zip(pairs, found, strict=True)} == cases
    assert time.monotonic() - begun < 60


def test_a_formula_is_read_without_running_it() -> None:
    assert read_formula(normalise("2x + 1")) == ["add", ["mul", ["num", "2"], ["sym", "x"]], ["num", "1"]]
    assert read_formula("-x^2") == ["neg", ["pow", ["sym", "x"], ["num", "2"]]]
    for text in ("x" * 500, "{" * 100 + "1" + "}" * 100, "a'b", "1+", "\\foo", "(1", "x__class__"):
        with pytest.raises(Unread):
            read_formula(text)


# ---- choices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("(B)", "B"), ("B.", "B"), ("B", "B"), ("b)", "B"), ("Answer: B and D", "BD"), ("The answer is B, D.", "BD"),
        ("**Answer:** (A), (C) and (D)", "ACD"), ("B. Paris", "B"), ("Answer: B, I think", "B"), ("ABD", "ABD"),
        ("Answer: A\nAnswer: D", "D"), ("So \\boxed{B, D}", "BD"), ("The correct answer is option C because A is not", "C"),
        ("Answer:\nB", "B"), ("answer: b", "B"), ("Answer: B or D", "BD"), ("(B) and (D)", "BD"),
        ("The answer to this question is (B).", "B"), ("Answer: it is not A", ""),
        ("**Answer: A. $f$ is pressed. D. $f$ is stretched.**", "AD"), ("Answer: (A) blue, (C) warm", "AC"),
        ("Answer: A) blue; and D) warm", "AD"), ("The answer is A. It is blue. D. It is warm.", "AD"),
        ("Answer: B. See vitamin C. It helps", "B"), ("Answer: D. A. Smith says so", "D"),
        ("Paris", ""), ("", ""), ("I think so", ""), ("A dog", ""), ("answer " * 20_000, ""), ("Answer: none", ""),
    ],
)  # fmt: skip
def test_letters_are_read_in_the_forms_in_which_people_write_them(text: str, letters: str) -> None:
    assert "".join(sorted(chosen(text) or ())) == letters


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ({"answer": "B"}, "(B)", 1), ({"answer": "B"}, "B and D", 0), ({"answer": "B, D"}, "Answer: D, B", 1),
        ({"answer": ["B", "D"]}, "Answer: B", 0), ({"choices": ["B", "D"]}, "Answer: BD", 1), ({"answer": "BD"}, "ABCD", 0),
        ({"answer": 2, "choices": ["x", "y", "z"]}, "C", 1), ({"answer": [0, 2], "choices": ["x", "y", "z"]}, "A, C", 1),
        ({"answer": 3, "choices": ["x"]}, "D", None), ({"answer": "18"}, "B", None), ({"answer": 18}, "B", None), ({}, "B", None),
    ],
)  # fmt: skip
def test_all_right_options_and_only_those(reference: Any, text: str, expected: float | None) -> None:
    found = score("choice", text, reference)
    assert (found and found.value) == expected


# ---- all of them -------------------------------------------------------------------------------------------------------

TRUTHS = {
    "exact": {"answer": "14"},
    "numeric": {"answer": SOLUTION},
    "maths": {"answer": "14"},
    "choice": {"answer": "B"},
}
HONEST = {"exact": "14", "numeric": "#### 14", "maths": "\\boxed{14}", "choice": "Answer: B"}
TRICKS = [
    "", " ", "x" * 100_000, "{" * 100_000, "\\boxed{" * 20_000, "####" * 20_000, "\\boxed{13} \\boxed{14} \\boxed{15}",
    "#### 13 #### 14 #### 15", "What is 2 x 7? The answer 14 was given above (B). \\boxed{}", "13 14 15",
    "Answer: A, B, C, D", "\\boxed{14", "0x14 1e9999 14/0", "Answer: B\nAnswer: C\n#### 3", " ".join(map(str, range(20_000))),
]  # fmt: skip


@pytest.mark.parametrize("name", TRUTHS)
def test_no_trick_scores_and_none_takes_long(name: str) -> None:
    judge = judge_of(name)
    begun = time.monotonic()
    found = judge.score([answered(text, TRUTHS[name]) for text in [*TRICKS, HONEST[name]]])
    assert [one is not None and one.value for one in found] == [0.0] * len(TRICKS) + [1.0]
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("name", ["exact", "numeric", "maths", "choice", "code"])
@pytest.mark.parametrize(
    "reference", [None, {}, {"other": 1}, {"answer": ""}, {"answer": None}, {"tests": []}]
)
def test_without_a_truth_of_its_kind_a_verifier_does_not_apply(name: str, reference: Any) -> None:
    assert score(name, "14", reference) is None


@pytest.mark.parametrize("name", ["numeric", "maths", "choice"])
def test_an_answer_that_is_not_found_is_counted_apart(name: str) -> None:
    found, known = judge_of(name).score(
        [answered("no idea", TRUTHS[name]), answered(HONEST[name], TRUTHS[name])]
    )
    assert found is not None and found.value == 0 and found.parts == {"extracted": 0}
    assert known is not None and known.value == 1 and known.parts == {"extracted": 1}


def test_prompts_without_a_truth_stay_in_their_places() -> None:
    found = judge_of("numeric").score(
        [answered("14", None), answered("14", {"answer": 14}), answered("14", {})]
    )
    assert [one and one.value for one in found] == [None, 1, None]


def test_ground_truth_comes_from_the_column_that_is_named(tmp_path) -> None:
    rows = [
        {"question": "Twice 7?", "answer": SOLUTION}, {"question": "Half?", "answer": 0.5},
        {"question": "Roots?", "answer": ["1", "-1"]}, {"question": "Where?", "answer": "[0, 1]"},
        {"question": "Which?", "answer": {"choices": ["B"]}},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"prompt": "question", "reference": "answer"}
    prompts = [
        row for row in walk(read_prompts(str(tmp_path / "rows.jsonl"), columns)) if isinstance(row, Prompt)
    ]
    assert [prompt.reference for prompt in prompts] == [
        {"answer": SOLUTION}, {"answer": 0.5}, {"answers": ["1", "-1"]}, {"answer": "[0, 1]"}, {"choices": ["B"]},
    ]  # fmt: skip
    [found] = judge_of("numeric").score([Response.written(prompts[0], "It is 14.")])
    assert found is not None and found.value == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "verify:math",
            "there is no judge verify:math: write one of verify:exact, verify:numeric, verify:maths",
        ),
        ([{"judge": "verify:numeric", "tolerence": 1}], "did you mean 'tolerance'"),
        ([{"judge": "verify:numeric", "extract": "first"}], "extract"),
        ([{"judge": "verify:choice", "case": True}], "unknown option 'case'"),
    ],
)
def test_a_mistake_is_one_sentence(spec: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        build_judge(spec)
    assert message in str(error.value) and "\n" not in str(error.value)
