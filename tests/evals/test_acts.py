"""What a response does, on texts written by hand; that an evaluation counts it, and shows it."""

from __future__ import annotations

import pytest

from tutelage.evals.acts import ACTS, act_of, evaluate, telling
from tutelage.evals.rows import OVERALL, Row
from tutelage.records import Finish, Message, Prompt, Response
from tutelage.statistics import wilson

ASKED = Prompt((Message("user", "Mia has a red kite. What colour is it?"),), "a")
OPEN = Prompt("Once upon a time there was", "b")


def does(text: str, prompt: Prompt = ASKED, finish: Finish = "eos") -> str:
    return act_of(Response.written(prompt, text, finish))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mia's kite is red.", "answers"),
        ("red", "answers"),
        ("42", "answers"),
        ("It is red. Do you like it?", "answers"),
        ("Which kite? Leo has one. Whose is it?", "asks"),
        ("What kite? Whose?", "asks"),
        ('"Why?" he said.', "answers"),
        ("你说的是哪个风筝？", "asks"),
        ("风筝是红色的。", "answers"),
        ("ما لون الطائرة؟", "asks"),
        ("- one\n- two\n", "answers"),
        ("", "unreadable"),
        (" ...!\n", "unreadable"),
        ("The kite \ufffd is", "unreadable"),
        ("The\x07 kite", "unreadable"),
        ("It is red.\nUser: And Leo's?", "goes_on"),
        ("Human: What?", "goes_on"),
        ("The user: a person.", "answers"),
        (", and it is new.", "goes_on"),
        ("? It is red.", "goes_on"),
        ("it is red", "answers"),
        ("🙂 It is red.", "answers"),
    ],
)
def test_by_hand(text: str, expected: str) -> None:
    assert does(text) == expected


def test_what_goes_on_with_an_open_sentence() -> None:
    assert does(" a king who had three sons.", OPEN) == "goes_on"
    assert does("A king.", OPEN) == "answers"
    assert does("a king.", Prompt("Finish this: ")) == "answers"
    assert does('he said "no".', Prompt('He asked "why?"')) == "answers"


def test_without_an_end_and_with_control_tokens() -> None:
    assert does("It is red.", finish="length") == "goes_on"
    assert does("It is red\ufffd", finish="length") == "goes_on", (
        "a character may be cut in two with the response"
    )
    ended = Response(ASKED, "It is red.", (1,), (7, 8, 2), (0.0,) * 3, "eos")
    assert act_of(ended, {2, 3}) == "answers", "its own end is no further turn"
    turned = Response(ASKED, "It is red.", (1,), (7, 3, 8, 2), (0.0,) * 4, "eos")
    assert act_of(turned, {2, 3}) == "goes_on"


def test_shares_of_all_and_of_each_task() -> None:
    responses = [Response.written(p, t) for p, t in ((ASKED, "Red."), (ASKED, "What?"), (OPEN, "A king."))]
    rows = evaluate("m", responses, [act_of(r) for r in responses])
    found = {(r.task, r.metric): r for r in rows}
    assert [found["all", act].value for act in ACTS] == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert [found["a", act].value for act in ACTS] == [0.5, 0.5, 0, 0]
    assert (found["b", "answers"].low, found["b", "answers"].n) == (wilson(1, 1).low, 1)


def test_there_is_something_to_tell_where_a_model_often_does_not_answer() -> None:
    """A response in a hundred that goes on is no finding; one in ten is, of whichever model."""

    def shares(model: str, share: float) -> list[Row]:
        return [
            Row(model, "answers", OVERALL, share),
            Row(model, "answers", "a", 0.5),
            Row(model, "asks", OVERALL, 0.3),
        ]

    assert not telling([*shares("sft", 0.99), *shares("ppo", 1.0)])
    assert telling([*shares("sft", 0.99), *shares("untrained", 0.9)]) and not telling([])
