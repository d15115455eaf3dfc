"""Chats: what models write on the spot becomes items, answers and training rows."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback.kit import hand_in, join, keys, prioritise, start, take
from tests.store.making import prompt
from tutelage.feedback.asking.payloads import (
    ChatAnswer,
    LiveResponse,
    PairAnswer,
    RankAnswer,
    Receipt,
    Schema,
    Submission,
    Task,
)
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.access import Member
from tutelage.feedback.work import live, queue
from tutelage.records import Message
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema_feedback import Assignment


def said(*texts: str) -> list[LiveResponse]:
    return [LiveResponse(text=text, model=f"runs/{number}") for number, text in enumerate(texts)]


def choose(database: Database, who: Member, turn: Task, wanted: str) -> Receipt:
    """Prefer one text."""
    place = next(shown.position for shown in turn.responses if shown.text == wanted)
    if turn.type == "pair":
        answer = PairAnswer(preference=-2 if place == 0 else 2)
    else:
        answer = RankAnswer(ranks=tuple(1 if p == place else 2 for p in range(len(turn.responses))))
    return live.choose(database, who, turn.assignment_id, Submission(client_key=next(keys), answer=answer))


@pytest.fixture
def chat(store: Store, database: Database) -> tuple[Member, Task]:
    olga = start(store, database, prompts=1, schema=Schema(type="chat"))
    building.build(database, olga, "chat")
    prioritise(
        database,
        olga,
        {row.item_id: 1.0 for row in browsing.find(database, olga, browsing.Query(type="chat")).items},
    )
    task = take(database, olga)
    assert task.type == "chat" and task.responses == ()
    return olga, task


def test_a_chat_goes_on_from_the_chosen_response(store: Store, database: Database, chat) -> None:
    olga, task = chat
    opening = live.chat_prompt(database, olga, task.assignment_id, "")
    assert opening == prompt(0)
    first = live.add_turn(database, olga, task.assignment_id, "", said("four", "five"))
    assert first.type == "pair" and {shown.text for shown in first.responses} == {"four", "five"}
    with pytest.raises(Refused, match="choose a response to your last message first"):
        live.chat_prompt(database, olga, task.assignment_id, "why?")
    choose(database, olga, first, "five")
    asked = live.chat_prompt(database, olga, task.assignment_id, "why?")
    assert asked.content == (
        Message("user", "question 0"),
        Message("assistant", "five"),
        Message("user", "why?"),
    )
    second = live.add_turn(database, olga, task.assignment_id, "why?", said("because", "so", "no"))
    assert second.type == "rank"
    choose(database, olga, second, "so")
    assert [(turn["message"], turn["chosen"]) for turn in live.turns(database, olga, task.assignment_id)] == [
        ("", "five"),
        ("why?", "so"),
    ]
    with pytest.raises(Refused, match="gone on from this turn"):
        choose(database, olga, first, "four")
    choose(database, olga, second, "because")  # the latest can be changed
    hand_in(database, olga, task, ChatAnswer(satisfied=True))
    with pytest.raises(Refused, match="this chat is done"):
        live.add_turn(database, olga, task.assignment_id, "and?", said("a", "b"))
    rows = {(row.prompt, row.chosen, row.rejected) for row in store.comparisons("main", ties="drop")}
    assert rows == {(prompt(0), "five", "four"), (asked, "because", "so"), (asked, "because", "no")}
    assert queue.next_task(database, olga).type == "pair"  # turns never come through the queue
    assert queue.progress(database, olga).answered == 1


def test_among_equals_the_annotator_says_what_goes_on(database: Database, chat) -> None:
    olga, task = chat
    turn = live.add_turn(database, olga, task.assignment_id, "hello", said("a", "b"))
    tie = Submission(client_key=next(keys), answer=PairAnswer(preference=0))
    live.choose(database, olga, turn.assignment_id, tie, position=1)
    assert live.turns(database, olga, task.assignment_id)[0]["chosen"] == turn.responses[1].text
    better = Submission(client_key=next(keys), answer=PairAnswer(preference=-1))
    with pytest.raises(Refused, match="goes on with the best"):
        live.choose(database, olga, turn.assignment_id, better, position=1)


def test_chats_are_private_and_need_a_word(store: Store, database: Database, chat) -> None:
    olga, task = chat
    with pytest.raises(Refused, match="nothing was said"):
        hand_in(database, olga, task, ChatAnswer())
    ben = join(database, olga.user, "main", "ben")
    turn = live.add_turn(database, olga, task.assignment_id, "secret", said("a", "b"))
    for attempt in (
        lambda: live.turns(database, ben, task.assignment_id),
        lambda: live.add_turn(database, ben, task.assignment_id, "x", said("a", "b")),
        lambda: choose(database, ben, turn, "a"),
    ):
        with pytest.raises(Refused, match="not yours"):
            attempt()
    seen = set()
    while (other := queue.next_task(database, ben)) is not None:
        seen.add(other.item_id)
        queue.skip(database, ben, other.assignment_id, "other")
    assert turn.item_id not in seen and task.item_id not in seen  # olga holds the chat
    assert not [pair for pair in store.unlabelled_pairs("main") if pair.item_id == turn.item_id]


def test_a_first_message_is_added_to_the_prompt(store: Store, database: Database, chat) -> None:
    """Nothing that the annotator was shown is dropped from what the models answer."""
    olga, task = chat
    asked = live.chat_prompt(database, olga, task.assignment_id, "in French, please")
    assert asked.content == (Message("user", "question 0\n\nin French, please"),)
    turn = live.add_turn(database, olga, task.assignment_id, "in French, please", said("quatre", "cinq"))
    choose(database, olga, turn, "cinq")
    following = live.chat_prompt(database, olga, task.assignment_id, "why?").content
    assert [message.content for message in following] == ["question 0\n\nin French, please", "cinq", "why?"]
    with pytest.raises(Refused, match="write a message first"):
        live.chat_prompt(database, olga, task.assignment_id, " ")


def test_the_turns_of_a_chat_that_is_given_back_are_in_nobodys_hands(
    store: Store, database: Database, chat
) -> None:
    olga, task = chat
    turn = live.add_turn(database, olga, task.assignment_id, "", said("four", "five"))
    queue.skip(database, olga, task.assignment_id, "other")
    with database.read() as connection:
        assert set(connection.scalars(select(Assignment.status))) == {"skipped", "released"}
    queue.unskip(database, olga, task.assignment_id)
    choose(database, olga, turn, "five")
