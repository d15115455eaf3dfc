"""Formulas: hand-computed values, and what a text can do to them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tutelage.cli import build_app
from tutelage.judges.build import build_judge
from tutelage.judges.formula import reading_ease, syllables_in
from tutelage.judges.functions import RewardFunction
from tutelage.records import Prompt, Response
from tutelage.settings.describe import rows
from tutelage.settings.judges import read_parts
from tutelage.settings.rules import RULES
from tutelage.store import ModelInfo, Store


def written(text: str, **reference: Any) -> Response:
    return Response.written(Prompt("p", reference=reference or None), text)


def sampled(tokens: int) -> Response:
    return Response(Prompt("p"), "x", (1,), tuple(range(tokens)), (0.0,) * tokens, "eos")


def value(judge: str, response: Response, **options: Any) -> float | None:
    [score] = build_judge([{"judge": f"formula:{judge}", **options}]).score([response])
    return None if score is None else score.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat sat on the mat.", 116.145),  # 6 words, 1 sentence, 6 syllables
        ("The cat sat. The dog ran!", 206.835 - 3.045 - 84.6),  # 6 words, 2 sentences, 6 syllables
        ("Little tables.", 206.835 - 2.03 - 84.6 * 2),  # 2 words, 1 sentence, 4 syllables
        ("It costs 3.50 now.", 206.835 - 4.06 - 84.6),  # a point within a number ends nothing
        ("The cat sat. on the mat", 206.835 - 6.09 - 84.6),  # what is not ended is no sentence
    ],
)
def test_reading_ease_is_flesch_s(text: str, expected: float) -> None:
    assert reading_ease(text) == pytest.approx(expected)


def test_syllables_follow_the_rule_that_is_documented() -> None:
    known = {
        "cat": 1, "the": 1, "made": 1, "table": 2, "little": 2, "reading": 2, "university": 5, "rhythm": 1,
        "naïve": 1, "hmm": 1, "1999": 1, "beautiful": 3,
    }  # fmt: skip
    assert {word: syllables_in(word) for word in known} == known


@pytest.mark.parametrize("text", ["", "   ", "no end to this", "...", "?!", "a" * 100_000])
def test_a_text_without_a_sentence_is_as_hard_as_can_be(text: str) -> None:
    assert value("flesch", written(text)) == 0


def test_flesch_is_clipped_and_scaled() -> None:
    assert value("flesch", written("The cat sat on the mat.")) == 1
    assert value("flesch", written("Incomprehensibility characteristically internationalises.")) == 0
    middle = value("flesch", written("Little tables. The cat."))  # 4 words, 2 sentences, 6 syllables
    assert middle == pytest.approx((206.835 - 2.03 - 84.6 * 1.5) / 100)


@pytest.mark.parametrize(("tokens", "expected"), [(10, 0), (5, -0.5), (15, -0.5), (30, -2)])
def test_length_counts_tokens(tokens: int, expected: float) -> None:
    assert value("length", sampled(tokens), target=10) == expected
    assert value("length", written("word " * tokens), target=10) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"), [(0, 0), (80, 0), (85, -0.25), (90, -0.5), (100, -1), (101, -1), (5000, -1)]
)
def test_overlong_falls_along_a_line_to_minus_one(tokens: int, expected: float) -> None:
    assert value("overlong", sampled(tokens), limit=100, margin=20) == expected
    assert (
        value("overlong", sampled(tokens), limit=100) == expected
    )  # a fifth is DAPO's share (4096 of 20480)


def test_overlong_without_a_margin_is_a_step() -> None:
    assert [value("overlong", sampled(n), limit=10, margin=0) for n in (10, 11)] == [0, -1]


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("a b c a b c a b c", 3, 3 / 7 - 1),
        ("one two three", 3, 0),
        ("a a a a", 1, -0.75),
        ("a b", 3, 0),
        ("", 3, 0),
    ],
)
def test_repetition_is_the_share_that_was_said_before(text: str, n: int, expected: float) -> None:
    assert value("repetition", written(text), n=n) == pytest.approx(expected)


def test_keywords_come_from_the_options_or_from_the_prompt() -> None:
    assert value("keywords", written("The Moon is far."), keywords=["moon", "sun"]) == 0.5
    assert value("keywords", written("The moon", keywords=["moon"])) == 1
    assert value("keywords", written("The moon", keywords=["sun"]), keywords=["moon"]) == 1
    assert value("keywords", written("moonlight"), keywords=["moon"]) == 0
    assert value("keywords", written("C++ (and more)"), keywords=["c++", "and more"]) == 1
    assert value("keywords", written("月亮很远"), keywords=["月亮"]) == 1
    assert value("keywords", written("anything")) is None


def test_regex_finds_or_fits() -> None:
    assert value("regex", written("it is 42 now"), pattern=r"\d+") == 1
    assert value("regex", written("it is 42 now"), pattern=r"\d+", match="full") == 0
    assert value("regex", written("42"), pattern=r"\d+", match="full") == 1
    assert value("regex", written("A\nB"), pattern="(?is)a.b") == 1


def test_a_pattern_that_backtracks_without_end_is_stopped() -> None:
    begun = time.monotonic()
    judge = build_judge([{"judge": "formula:regex", "pattern": r"(x+x+)+y", "seconds": 0.05}])
    assert [score and score.value for score in judge.score([written("x" * 50), written("xxy")])] == [0, 1]
    assert time.monotonic() - begun < 60  # unstopped, it would take years


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', 1), ('{"a": "1"}', 0), ("[1]", 0), ('{"a": 1} and more', 0), ("", 0), ('{"a": NaN}', 0),
        ('{"a": ' + "[" * 50_000, 0), ('{"a": ' + "1" * 5000 + "}", 0),
    ],
)  # fmt: skip
def test_json_parses_and_fits_its_schema(text: str, expected: float, tmp_path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')
    assert value("json", written(text), json_schema=schema) == expected
    assert value("json", written(text), json_schema=str(file)) == expected


def test_a_pattern_within_a_schema_cannot_hang() -> None:
    begun = time.monotonic()
    assert value("json", written('"' + "a" * 50_000 + '!"'), json_schema={"pattern": "^(a+)+$"}) == 0
    assert time.monotonic() - begun < 60  # unstopped, it would take years


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("formula:flesh", "there is no judge formula:flesh: write one of formula:flesch, formula:length"),
        ("formula:length", "setting 'target' must be given"),
        ([{"judge": "formula:length", "target": 0}], "target"),
        ([{"judge": "formula:length", "targets": 5}], "unknown option 'targets': did you mean 'target'"),
        ([{"judge": "formula:overlong", "limit": 5, "margin": 6}], "margin (6) is above limit (5)"),
        ([{"judge": "formula:regex", "pattern": "("}], "pattern '(' is no regular expression"),
        ([{"judge": "formula:json", "json_schema": {"type": "foo"}}], "json_schema is no JSON schema"),
        ([{"judge": "formula:json", "json_schema": {"$ref": "http://x/y"}}], "json_schema is no JSON schema"),
        (
            [{"judge": "formula:json", "json_schema": "no/such.json"}],
            "json_schema (no/such.json) cannot be read",
        ),
        ([{"judge": "formula:keywords", "keywords": ["a", " "]}], "keywords has an empty one"),
    ],
)
def test_a_mistake_is_one_sentence(spec: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        build_judge(spec)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_scores_follow_their_responses() -> None:
    judge = build_judge("formula:repetition")
    texts = ["a b c a b c", "a b c d", "x x x x x", ""]
    straight = judge.score([written(text) for text in texts])
    assert judge.score([written(text) for text in texts[::-1]]) == straight[::-1]


def test_a_rule_votes_from_the_command_line(tmp_path: Path) -> None:
    prompt = Prompt("Why?")
    texts = ("Incomprehensibility characteristically internationalises.", "The cat sat on the mat.")
    with Store(tmp_path / "store.sqlite") as store:
        store.add_prompts("main", [prompt])
        run = store.add_generation_run(ModelInfo("people"), "written", {})
        store.add_responses(
            "main", run, [Response(prompt, t, (1,), (2,), (0.0,), "eos", i) for i, t in enumerate(texts)]
        )
    arguments = [f"store={tmp_path}/store.sqlite", "judge=formula:flesch", f"out={tmp_path}/label"]
    result = CliRunner().invoke(build_app(), ["label", *arguments])
    assert result.exit_code == 0, result.output
    with Store(tmp_path / "store.sqlite") as store:
        [vote] = store.votes("main")
        [pair] = store.pairs("main")
    assert vote.vote.annotator == "formula:flesch"
    assert pair.texts[vote.vote.preference > 0] == texts[1]


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RULES)
def test_the_page_has_every_rule_with_its_options_and_defaults(name: str) -> None:
    section = PAGE.partition(f"### {name}\n")[2].partition("\n##")[0]
    assert section, f"docs/rewards.md has no section {name}"
    for row in rows(RULES[name]):
        default = row.default.strip("'\"") or "must be given"
        assert re.search(rf"^\| `{row.name}` \| `?{re.escape(default)}(\.0)?`? \|", section, re.MULTILINE), (
            row
        )


def test_the_examples_of_the_page_are_rewards_and_functions() -> None:
    blocks = re.findall(r"^```yaml reward\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    given = [one["reward"] for block in blocks for one in yaml.safe_load_all(block)]
    assert len(given) == 2 and all(read_parts(one) for one in given)
    [source] = re.findall(r"^```python reward_function\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    space: dict[str, Any] = {}
    exec(source, space)
    function = RewardFunction(space["brief_and_right"], "brief_and_right")
    scores = function.score(
        [written("It is 18.", answer=18), written("It is 17.", answer=18), written("What?")]
    )
    assert [score and score.value for score in scores] == [1, 0, None]
