"""Language models that help and are helped: what the judge is shown, in which order, and what stands with its votes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tutelage.judges.assist.assistant import advise
from tutelage.judges.build import Calls, build_judge
from tutelage.judges.llm.asking import Call
from tutelage.judges.llm.critic import SILENT, Critic
from tutelage.judges.llm.judge import LLMJudge
from tutelage.judges.llm.templates import HELPED, unfenced
from tutelage.judges.llm.verdict import read_finding
from tutelage.records import Prompt, Response
from tutelage.settings.judges import read_parts
from tutelage.store import Answer

PAIR = (Response.written(Prompt("1+1?"), "It is 2."), Response.written(Prompt("1+1?"), "It is 3."))
URL = "http://127.0.0.1:9/v1"  # nobody is there: the endpoint is replaced


class Stub:
    """Answers every question by a function of what is between its marks and of the whole text; keeps what it was asked."""

    def __init__(self, says: Callable[[dict[str, str], str], str]) -> None:
        self._says, self.asked = says, list[Call]()

    async def __aenter__(self) -> Stub:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def answer(self, call: Call, key: str) -> Answer:
        self.asked.append(call)
        text = "\n".join(message["content"] for message in call.messages)
        return Answer(key, "answered", self._says(unfenced(text), text), "stop")


def criticises(shown: dict[str, str], text: str) -> str:
    if "test of a judge" in text:
        said = "Trust me." if "is right and good" in text else "This is no sum."
        return json.dumps({"critique": said, "rating": 5})
    wrong = shown["response"] == "It is 3."
    return json.dumps(
        {"critique": "1+1 is 2, not 3." if wrong else "Nothing is wrong.", "rating": 2 if wrong else 9}
    )


def believes(shown: dict[str, str], text: str) -> str:
    """The response that the assistant finds better; the first one where nobody says anything."""
    return json.dumps({"rank": [2 if "finds response 2 better" in text else 1]})


def judge(folder: Path, judging: Stub, helping: Stub, **options: Any) -> LLMJudge:
    helper = {"assistant": "llm:helper", "url": URL}
    part = {"judge": "llm:judge", "url": URL, "assistant": helper, **options}
    made = build_judge([part], calls=Calls(str(folder / "calls.sqlite")))
    assert isinstance(made, LLMJudge) and isinstance(made.assistant, Critic)
    made._hearing.endpoint = lambda: judging
    made.assistant._hearing.endpoint = lambda: helping
    return made


def shown_to(stub: Stub) -> list[tuple[str, str, str, str]]:
    """Of each question both responses and what was said of them, as they stood."""
    found = [unfenced(call.messages[-1]["content"]) for call in stub.asked]
    return [
        (one["response-1"], one["response-2"], one.get("assistant-1", ""), one.get("assistant-2", ""))
        for one in found
    ]


def test_each_critique_stays_with_its_response_in_both_orders(tmp_path: Path) -> None:
    judging, helping = Stub(believes), Stub(criticises)
    [vote] = judge(tmp_path, judging, helping, control=0).compare([PAIR])
    good, bad = "Nothing is wrong.", "1+1 is 2, not 3."
    assert sorted(shown_to(judging)) == [
        ("It is 2.", "It is 3.", good, bad),
        ("It is 3.", "It is 2.", bad, good),
    ]
    assert vote is not None and vote.preference < 0 and vote.help is not None
    assert (vote.help.arm, vote.help.said, vote.help.argues) == ("honest", (good, bad), 0)
    assert vote.help.assistant.startswith("llm:helper/critic-")
    critic, _, frame = vote.help.template.partition("/")
    assert critic.startswith("critic-") and frame == HELPED and len(helping.asked) == 2


def test_an_adversary_turns_the_judge_who_believes_it(tmp_path: Path) -> None:
    judging, helping = Stub(believes), Stub(criticises)
    [vote] = judge(tmp_path, judging, helping, control=0, adversarial=1).compare([PAIR])
    assert vote is not None and vote.preference > 0 and vote.help is not None
    assert (vote.help.arm, vote.help.argues) == ("adversarial", 1)
    assert vote.help.said == ("This is no sum.", "Trust me.") and len(helping.asked) == 4


def test_the_control_is_asked_as_without_help_and_costs_no_critique(tmp_path: Path) -> None:
    judging, helping, alone = Stub(believes), Stub(criticises), Stub(believes)
    [vote] = judge(tmp_path / "a", judging, helping, control=1).compare([PAIR])
    plain = build_judge(
        [{"judge": "llm:judge", "url": URL}], calls=Calls(str(tmp_path / "b" / "calls.sqlite"))
    )
    assert isinstance(plain, LLMJudge)
    plain._hearing.endpoint = lambda: alone
    plain.compare([PAIR])
    assert [call.messages for call in judging.asked] == [call.messages for call in alone.asked]
    assert helping.asked == [] and vote is not None and vote.help is not None and vote.help.arm == "none"


def test_a_rating_is_helped_too(tmp_path: Path) -> None:
    rating = Stub(
        lambda shown, text: json.dumps({"rating": 10 if shown["assistant-1"] == "Nothing is wrong." else 1})
    )
    made = judge(tmp_path, rating, Stub(criticises), control=0, template="rating")
    assert [score and score.value for score in made.score(PAIR)] == [1.0, 0.0]


def test_an_answer_that_says_nothing_is_asked_for_again_and_then_it_is_silent(tmp_path: Path) -> None:
    helping = Stub(lambda shown, text: "Well.")
    made = judge(tmp_path, Stub(believes), helping, control=0)
    assert made.assistant is not None
    [advice] = advise(made.assistant, made.options, [PAIR])
    assert advice.help.said == (SILENT, SILENT) and advice.help.argues is None and len(helping.asked) == 4


def test_critiques_are_asked_once_and_stand_in_the_store(tmp_path: Path) -> None:
    for _ in range(2):
        judge(tmp_path, Stub(believes), Stub(criticises), control=0).compare([PAIR])
    with sqlite3.connect(tmp_path / "calls.sqlite") as connection:
        found = connection.execute(
            "SELECT about, count(*) FROM judge_call GROUP BY about ORDER BY about"
        ).fetchall()
    assert found == [("critic", 2), ("pair 01", 1), ("pair 10", 1)]


def test_who_helps_is_part_of_who_judges_and_no_help_changes_no_name(tmp_path: Path) -> None:
    def name(**options: Any) -> str:
        return build_judge(
            [{"judge": "llm:judge", "url": URL, **options}], calls=Calls(str(tmp_path / "c"))
        ).name

    helper = {"assistant": "llm:helper", "url": URL}
    names = {
        name(),
        name(assistant=helper),
        name(assistant=helper, control=0.5),
        name(assistant=helper | {"temperature": 1}),
    }
    assert len(names) == 4 and name(assistant=helper) in names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"critique": "No.", "rating": 3}', ("No.", 3)),
        ('Well: {"critique": " No. ", "rating": "3/10"} so.', ("No.", 3)),
        ('<think>{"critique": "a", "rating": 1}</think>{"critique": "b", "rating": 2}', ("b", 2)),
        ('{"critique": "", "rating": 3}', None),
        ('{"critique": "No.", "rating": 11}', None),
        ('{"rating": 3}', None),
        ("No. 3", None),
    ],
)
def test_what_a_critic_says(text: str, found: tuple[str, float] | None) -> None:
    said = read_finding(text, 1, 10)
    assert (said and (said.rationale, said.value)) == found


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"assistant": {"assistant": "llm:h", "mode": "logits"}}, "unknown option 'mode'"),
        (
            {"assistant": {"assistant": "llm:h", "assistants": 1}},
            "assistant llm:h: unknown option 'assistants'",
        ),
        ({"adversarial": 0.5}, "adversarial means nothing without an assistant"),
    ],
)
def test_options_of_assistants_that_mean_nothing(part: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_parts([{"judge": "llm:judge", "url": URL, **part}])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"template": "k-way"}, "assistant is for a template that asks for a pair or a rating"),
        ({"template": "rating", "adversarial": 0.5}, "adversarial is for a template that compares"),
        (
            {"assistant": {"assistant": "llm:h", "url": URL, "template": "pair"}},
            "asks for pair, and here it must be for finding",
        ),
    ],
)
def test_templates_that_do_not_go_with_help(tmp_path: Path, options: dict, sentence: str) -> None:
    part = {"judge": "llm:judge", "url": URL, "assistant": {"assistant": "llm:h", "url": URL}, **options}
    with pytest.raises(ValueError, match=sentence):
        build_judge([part], calls=Calls(str(tmp_path / "calls.sqlite")))


def test_what_helped_questions_cost_is_not_known_beforehand(tmp_path: Path) -> None:
    made = judge(tmp_path, Stub(believes), Stub(criticises))
    pairs: Sequence[Sequence[Response]] = [PAIR]
    with pytest.raises(ValueError, match="not known before it is asked: leave its assistant out"):
        made.calls_for(pairs)


class Rates:
    """Answers by the seed that it is asked with."""

    def __init__(self, by_seed: dict[int, str]) -> None:
        self._by_seed, self.asked = by_seed, list[Call]()

    async def __aenter__(self) -> Rates:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def answer(self, call: Call, key: str) -> Answer:
        self.asked.append(call)
        return Answer(key, "answered", self._by_seed[call.params["seed"]], "stop")


def test_a_rating_is_the_mean_of_several_answers_of_those_that_can_be_read(tmp_path: Path) -> None:
    """By hand, on the scale from 0 to 5: (5 + 4 + 1) / 3, and where one says nothing (5 + 1) / 2."""
    options = {
        "url": URL,
        "template": "self-reward",
        "answers": 3,
        "temperature": 0.7,
        "repair": False,
        "seed": 10,
    }
    for second, mean in (('{"rating": 4}', 10 / 3), ("Well.", 3.0)):
        stub = Rates({10: '{"rating": 5}', 11: second, 12: '{"rating": 1}'})
        made = build_judge(
            [{"judge": "llm:judge", **options}], calls=Calls(str(tmp_path / f"{len(second)}.sqlite"))
        )
        assert isinstance(made, LLMJudge)
        made._hearing.endpoint = lambda stub=stub: stub
        [score] = made.score([PAIR[0]])
        assert score is not None and score.value == pytest.approx(mean / 5)
        assert len(stub.asked) == len(made.calls_for([PAIR])) / 2 == 3
        assert "add one point for each" in stub.asked[0].messages[-1]["content"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"answers": 3}, "at temperature 0 they are all the same"),
        ({"answers": 3, "temperature": 1, "mode": "logits"}, "answers means nothing with mode: logits"),
    ],
)
def test_several_answers_must_be_able_to_differ(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_parts([{"judge": "llm:judge", "url": URL, "template": "rating", **options}])
