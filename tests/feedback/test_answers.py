"""Answers: stored once, revised and never changed, refused with a sentence when they do not fit."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.databases import prepared_sqlite
from tests.feedback.kit import (
    conflicts_left,
    hand_in,
    join,
    keys,
    prioritise,
    start,
    take,
    text_by_slot,
    vote,
)
from tutelage.feedback.asking.payloads import (
    Criterion,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
)
from tutelage.feedback.asking.slots import draw_order, to_positions, to_slots
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.users import named
from tutelage.feedback.projects import projects
from tutelage.feedback.work import answers, queue
from tutelage.store import Store
from tutelage.store.database import Database


def test_a_key_stores_one_answer(store: Store, database: Database) -> None:
    olga = start(store, database)
    task = take(database, olga)
    first = hand_in(database, olga, task, PairAnswer(preference=2), key="the-same-key")
    again = hand_in(database, olga, task, PairAnswer(preference=2), key="the-same-key")
    assert again.annotation_id == first.annotation_id and again.repeated and not first.repeated
    with pytest.raises(Refused, match="belongs to another answer"):
        hand_in(database, olga, task, PairAnswer(preference=-2), key="the-same-key")
    with pytest.raises(Refused, match="answered this item already: revise"):
        hand_in(database, olga, task, PairAnswer(preference=2), key="another-key")
    assert len(store.votes("main", revisions=True)) == 1
    ben = join(database, olga.user, "main", "ben")
    hand_in(database, ben, take(database, ben), PairAnswer(preference=2), key="the-same-key")  # his own key
    assert len(store.votes("main")) == 2


def test_undo_is_a_revision(store: Store, database: Database) -> None:
    olga = start(store, database)
    task = take(database, olga)
    receipt = hand_in(
        database, olga, task, PairAnswer(preference=3, reason="shorter", acceptable=(True, False))
    )
    opened = queue.task(database, olga, task.assignment_id)
    assert opened.answer == PairAnswer(preference=3, reason="shorter", acceptable=(True, False))
    assert opened.responses == task.responses and opened.annotation_id == receipt.annotation_id
    revised = Submission(client_key="a-revision", answer=PairAnswer(preference=-1))
    second = answers.revise(database, olga, receipt.annotation_id, revised)
    assert (
        answers.revise(database, olga, receipt.annotation_id, revised).annotation_id == second.annotation_id
    )
    with pytest.raises(Refused, match="revised meanwhile"):
        answers.revise(
            database,
            olga,
            receipt.annotation_id,
            Submission(client_key=next(keys), answer=PairAnswer(preference=1)),
        )
    (current,) = store.votes("main")
    assert (current.id, current.supersedes) == (second.annotation_id, receipt.annotation_id)
    assert len(store.votes("main", revisions=True)) == 2
    ben = join(database, olga.user, "main", "ben")
    with pytest.raises(Refused, match="not yours"):
        answers.revise(database, ben, second.annotation_id, revised)


SCHEMAS = {
    "pair": Schema(type="pair", strength=1, ties=False, acceptable=False, reason="required"),
    "rank": Schema(type="rank", ties=False),
    "rate": Schema(type="rate", scale=5, criteria=(Criterion(name="truth", title="Truth"),)),
    "step": Schema(type="step", splitter="lines", first_error=True, reason="off"),
}


@pytest.mark.parametrize(
    ("type", "answer", "reason"),
    [
        ("pair", RankAnswer(ranks=(1, 2)), "wants an answer of type 'pair', not 'rank'"),
        ("pair", PairAnswer(preference=2, reason="x"), "beyond the scale of 1"),
        ("pair", PairAnswer(preference=0, reason="x"), "a tie, which is not offered"),
        ("pair", PairAnswer(preference=1, reason=" "), "a reason is missing"),
        ("pair", PairAnswer(preference=1, reason="x", acceptable=(True, None)), "acceptable is not asked"),
        ("pair", PairAnswer(preference=1, reason="x", criteria={"accuracy": 1}), "'accuracy' is not asked"),
        ("pair", PairAnswer(preference=1, reason="x", confidence=5), "confidence is not asked"),
        ("rank", RankAnswer(ranks=(1, 2, 3)), "3 ranks for 4 responses"),
        ("rank", RankAnswer(ranks=(1, 2, 2, 3)), "have the same rank"),
        ("rank", RankAnswer(ranks=(1, 2, 3, 4), acceptable=(True,)), "1 entries for 4 responses"),
        ("rate", RateAnswer(ratings={}), "'truth' is not rated"),
        ("rate", RateAnswer(ratings={"truth": (3,), "style": (3,)}), "'style' is not asked"),
        ("rate", RateAnswer(ratings={"truth": (6,)}), "beyond the scale, which ends at 5"),
        ("rate", RateAnswer(ratings={"truth": (3, 4)}), "2 ratings for 1 responses"),
        ("step", StepAnswer(marks=(), reason="because"), "a reason is not asked"),
        ("step", StepAnswer(marks=(StepMark(step=1, label=1),)), "in order, each once, from step 0"),
        (
            "step",
            StepAnswer(marks=(StepMark(step=0, label=1), StepMark(step=1, label=1))),
            "2 steps are marked of 1",
        ),
        ("step", StepAnswer(marks=()), "0 steps are marked of 1"),
    ],
)
def test_answers_that_do_not_fit(tmp_path, type: str, answer, reason: str) -> None:
    path = prepared_sqlite(tmp_path / "s.sqlite", f"asked for {type}", partial(ask_for, type))
    with Store(path) as store, closing(Database(path)) as database:
        with database.read() as connection:
            olga = projects.member(database, named(connection, "olga"), "main")
        task = take(database, olga)
        assert task.type == type
        with pytest.raises(Refused, match=reason) as caught:
            hand_in(database, olga, task, answer)
        assert caught.value.reason == "invalid" and not store.votes("main")


def ask_for(type: str, path: Path) -> None:
    """Fill a store where items of this type come first."""
    with Store(path) as store, closing(Database(path)) as database:
        olga = start(store, database, schema=SCHEMAS[type])
        if type != "pair":
            building.build(database, olga, type)
            found = browsing.find(database, olga, browsing.Query(type=type)).items
            prioritise(database, olga, {row.item_id: 1.0 for row in found})


def test_rewrites_must_change_something(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, schema=Schema(type="rewrite"))
    building.build(database, olga, "rewrite", per_prompt=0)
    prioritise(
        database,
        olga,
        {row.item_id: 1.0 for row in browsing.find(database, olga, browsing.Query(type="rewrite")).items},
    )
    task = take(database, olga)
    with pytest.raises(Refused, match="the same as before"):
        hand_in(database, olga, task, RewriteAnswer(text=task.responses[0].text))
    hand_in(database, olga, task, RewriteAnswer(text="a better answer"))
    (shown,) = store.demonstrations("main")
    (pair,) = store.voted_pairs("main")
    assert shown.response == "a better answer" and shown.prompt == pair.prompt
    assert store.comparisons("main")[0].chosen == "a better answer"
    assert store.comparisons("main")[0].rejected == task.responses[0].text


def test_a_conflict_is_settled_by_an_annotation_that_is_no_vote(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    ann, bea = (join(database, olga.user, "main", name) for name in ("ann2", "bea"))
    task = take(database, ann)
    texts = text_by_slot(store, task.item_id)
    for who, wanted in ((ann, 0), (bea, 1)):  # they want different texts
        mine = take(database, who)
        assert mine.item_id == task.item_id
        first = mine.responses[0].text == texts[wanted]
        hand_in(database, who, mine, PairAnswer(preference=-1 if first else 1, reason=who.user.name))
    assert conflicts_left(database, olga) == 1
    conflict = answers.next_conflict(database, olga)
    assert conflict is not None and conflict.task.item_id == task.item_id and conflict.task.answer is None
    assert sorted(opinion.answer.reason for opinion in conflict.opinions) == ["ann2", "bea"]
    for opinion in conflict.opinions:  # in the adjudicator's own positions
        liked = conflict.task.responses[0 if opinion.answer.preference < 0 else 1].text
        assert liked == texts[0 if opinion.answer.reason == "ann2" else 1]
    with pytest.raises(Refused, match="seen the others' answers"):
        hand_in(database, olga, conflict.task, PairAnswer(preference=1))
    assert store.comparisons("main", "adjudicated") == []
    for preference in (2, -2):  # settled, and settled again
        submission = Submission(client_key=next(keys), answer=PairAnswer(preference=preference))
        answers.adjudicate(database, olga, conflict.task.assignment_id, submission)
        (row,) = store.comparisons("main", "adjudicated")
        assert row.chosen == conflict.task.responses[0 if preference < 0 else 1].text
    assert len(store.votes("main")) == 2 and store.comparisons("main", "majority")[0].p_chosen == 0.5
    assert answers.next_conflict(database, olga) is None and conflicts_left(database, olga) == 0
    with pytest.raises(Refused, match="does not include to adjudicate"):
        answers.next_conflict(database, ann)
    was = answers.conflict(database, olga, task.item_id).settled
    assert was is not None and (was.by, was.answer) == ("olga", PairAnswer(preference=-2))


def test_a_settled_conflict_can_be_reopened_and_settled_again(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    ann = join(database, olga.user, "main", "ann2")
    for who, wanted in ((olga, 0), (ann, 1)):
        task = take(database, who)
        texts = text_by_slot(store, task.item_id)
        hand_in(
            database, who, task, PairAnswer(preference=-1 if task.responses[0].text == texts[wanted] else 1)
        )
    with pytest.raises(Refused, match="not settled"):
        answers.reopen(database, olga, task.item_id)
    conflict = answers.next_conflict(database, olga)
    assert conflict is not None and conflict.settled is None

    def settle(preference: int) -> None:
        submission = Submission(client_key=next(keys), answer=PairAnswer(preference=preference))
        answers.adjudicate(database, olga, conflict.task.assignment_id, submission)

    settle(2)
    (listed,) = answers.settled(database, olga)
    assert (listed.item_id, listed.by) == (task.item_id, "olga") and "question" in listed.prompt
    assert answers.next_conflict(database, olga) is None
    answers.reopen(database, olga, task.item_id)
    assert answers.settled(database, olga) == [] and conflicts_left(database, olga) == 1
    again = answers.next_conflict(database, olga)
    assert again is not None and again.settled is None
    with pytest.raises(Refused, match="not settled"):
        answers.reopen(database, olga, task.item_id)
    settle(-1)
    was = answers.conflict(database, olga, task.item_id).settled
    assert was is not None and was.answer == PairAnswer(preference=-1)
    with pytest.raises(Refused, match="does not include to adjudicate"):
        answers.reopen(database, ann, task.item_id)


def test_conflicts_come_round_again_until_they_are_settled(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    ann = join(database, olga.user, "main", "ann2")
    for who, wanted in ((olga, 0), (ann, 1)):
        for _ in range(2):
            task = take(database, who)
            texts = text_by_slot(store, task.item_id)
            hand_in(
                database,
                who,
                task,
                PairAnswer(preference=-1 if task.responses[0].text == texts[wanted] else 1),
            )
    first = answers.next_conflict(database, olga)
    assert first is not None
    second = answers.next_conflict(database, olga, first.task.item_id)
    assert second is not None and second.task.item_id != first.task.item_id
    third = answers.next_conflict(database, olga, second.task.item_id)
    assert third is not None and third.task.item_id == first.task.item_id


def test_a_retry_of_an_adjudication_and_agreement_need_no_judge(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    ann = join(database, olga.user, "main", "ann2")
    for who in (olga, ann):
        task = take(database, who)
        texts = text_by_slot(store, task.item_id)
        hand_in(database, who, task, PairAnswer(preference=-3 if task.responses[0].text == texts[0] else 1))
    assert answers.next_conflict(database, olga) is None  # same side, however strongly


# the arithmetic of positions and slots, and of steps ----------------------------------------------------------------

ORDERS = st.integers(2, 9).flatmap(lambda k: st.permutations(range(k)))


@given(ORDERS, st.data())
def test_positions_and_slots_are_each_others_inverse(order: list[int], data: st.DataObject) -> None:
    k = len(order)
    acceptable = tuple(data.draw(st.lists(st.sampled_from([True, False, None]), min_size=k, max_size=k)))
    ranks = tuple(data.draw(st.lists(st.integers(1, 9), min_size=k, max_size=k)))
    some = [
        RankAnswer(ranks=ranks, acceptable=acceptable),
        RateAnswer(ratings={"overall": ranks}, acceptable=()),
    ]
    if k == 2:
        some.append(
            PairAnswer(preference=data.draw(st.integers(-3, 3)), acceptable=acceptable, criteria={"a": 1})
        )
    for answer in some:
        assert to_positions(to_slots(answer, order), order) == answer
    in_slots = to_slots(some[0], order)
    for position, slot in enumerate(order):  # what was said of the response at a position is said of its slot
        assert in_slots.ranks[slot] == ranks[position]


def test_orders_are_all_drawn_and_the_same_again() -> None:
    assert {tuple(draw_order(3, seed)) for seed in range(60)} == {
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)
    }  # fmt: skip
    assert draw_order(9, 7) == draw_order(9, 7)


@pytest.mark.parametrize(
    ("splitter", "text", "steps"),
    [
        (
            "numbered",
            "Given.\n1. a\nmore\n2) b\nStep 3: c",
            ["Given.\n", "1. a\nmore\n", "2) b\n", "Step 3: c"],
        ),
        ("numbered", "no list, 2. here", ["no list, 2. here"]),
        ("paragraphs", "a\nb\n\n \n\nc\n", ["a\nb\n\n \n\n", "c\n"]),
        ("lines", "a\n\n  b\nc", ["a\n\n  ", "b\n", "c"]),
        ("sentences", 'One. "Two!" Three? 3.5 is four', ["One. ", '"Two!" ', "Three? ", "3.5 is four"]),
        ("lines", "\n\na", ["\n\na"]),
        ("paragraphs", "", []),
    ],
)
def test_steps_by_hand(splitter, text: str, steps: list[str]) -> None:
    assert list(split_steps(text, splitter)) == steps


@given(
    st.text(alphabet="a1.)?! \n\t:", max_size=60),
    st.sampled_from(["numbered", "paragraphs", "lines", "sentences"]),
)
def test_steps_joined_are_the_text(text: str, splitter) -> None:
    steps = split_steps(text, splitter)
    assert "".join(steps) == text and all(step for step in steps)
    assert len(steps) <= 1 or all(step.strip() for step in steps)


def test_own_votes_of_others_stay_hidden_from_annotators(store: Store, database: Database) -> None:
    from tutelage.feedback.insights import figures, own, totals

    olga = start(store, database, overlap=2, show_agreement=True)
    ann = join(database, olga.user, "main", "ann2")
    vote(database, ann)
    for ask in (figures.insight, totals.totals, totals.annotators):
        with pytest.raises(Refused, match="does not include to view"):
            ask(database, ann)
    agreement = own.own_agreement(database, ann)
    assert agreement is not None and (agreement.agreed, agreement.compared) == (0, 0)
