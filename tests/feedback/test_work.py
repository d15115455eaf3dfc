"""Work that is not lost and not mixed up: whose item an answer is about, skips taken back, corrections, guidelines read."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, update

from tests.feedback.kit import expire, hand_in, join, keys, start, take, text_by_slot, vote
from tutelage.feedback.asking.checking import check_answer
from tutelage.feedback.asking.payloads import (
    About,
    LiveResponse,
    PairAnswer,
    RankAnswer,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
)
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import building
from tutelage.feedback.projects import projects
from tutelage.feedback.refining import working
from tutelage.feedback.work import answers, corrections, guidelines, live, queue
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import Annotation
from tutelage.store.schema_feedback import Assignment, GuidelineVersion, StepMarkRow, Suggestion
from tutelage.store.sql import insert_one


def answer(task, preference: int = -1, **about: str) -> Submission:
    given = {"store": task.store, "item_digest": task.item_digest, **about}
    return Submission(client_key=next(keys), answer=PairAnswer(preference=preference), **given)


@pytest.mark.parametrize("other", [{"store": "another"}, {"item_digest": "0" * 16}])
def test_words_about_another_item_are_refused(
    store: Store, database: Database, other: dict[str, str]
) -> None:
    """After a restore, or with another store at the address, assignment 7 is another item's: nothing is stored there."""
    olga = start(store, database)
    task = take(database, olga)
    assert task.store == database.identity
    wrong = About(**{"store": task.store, "item_digest": task.item_digest, **other})
    with pytest.raises(Refused, match="about another item") as refused:
        answers.submit(database, olga, task.assignment_id, answer(task, **other))
    assert refused.value.reason == "conflict"
    for act in (
        lambda: queue.save_draft(database, olga, task.assignment_id, {"a": 1}, wrong),
        lambda: queue.skip(database, olga, task.assignment_id, "other", "", wrong),
        lambda: live.choose(database, olga, task.assignment_id, answer(task, **other)),
    ):
        with pytest.raises(Refused, match="about another item"):
            act()
    again = queue.task(database, olga, task.assignment_id)
    assert again.draft is None and again.answer is None and not again.skipped
    receipt = answers.submit(database, olga, task.assignment_id, answer(task))
    with pytest.raises(Refused, match="about another item"):
        answers.revise(database, olga, receipt.annotation_id, answer(task, 2, **other))
    assert queue.task(database, olga, task.assignment_id).answer == PairAnswer(preference=-1)


def test_words_for_another_store_are_refused_where_it_has_no_such_number(
    store: Store, database: Database
) -> None:
    olga = start(store, database)
    task = take(database, olga)
    for number in (task.assignment_id, 999):
        with pytest.raises(Refused, match="about another item"):
            answers.submit(database, olga, number, answer(task, store="another"))
        with pytest.raises(Refused, match="about another item"):
            answers.revise(database, olga, number, answer(task, store="another"))


def test_a_skip_is_taken_back_with_what_was_typed(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    ben = join(database, olga.user, "main", "ben")
    task = take(database, ben)
    queue.save_draft(database, ben, task.assignment_id, {"answer": {"reason": "half a"}})
    queue.skip(database, ben, task.assignment_id, "too-hard")
    assert [(past.item_id, past.answer) for past in queue.progress(database, ben).skips] == [
        (task.item_id, None)
    ]
    assert queue.task(database, ben, task.assignment_id).skipped
    back = queue.unskip(database, ben, task.assignment_id)
    assert (back.item_id, back.skipped, back.draft) == (task.item_id, False, {"answer": {"reason": "half a"}})
    assert queue.progress(database, ben).skipped == 0
    assert take(database, ben).item_id == task.item_id
    assert not hand_in(database, ben, back, PairAnswer(preference=1)).extra
    assert queue.unskip(database, ben, task.assignment_id).answer == PairAnswer(preference=1)


def test_a_skip_taken_back_after_others_filled_the_item_is_an_extra(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    ben = join(database, olga.user, "main", "ben")
    task = take(database, ben)
    queue.skip(database, ben, task.assignment_id, "other")
    while (given := take(database, olga)).item_id != task.item_id:
        hand_in(database, olga, given, PairAnswer(preference=1))
    hand_in(database, olga, given, PairAnswer(preference=1))
    back = queue.unskip(database, ben, task.assignment_id)
    assert hand_in(database, ben, back, PairAnswer(preference=-1)).extra


def test_what_is_sent_back_comes_first_until_it_is_revised(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben")
    first, second = vote(database, ben), vote(database, ben)
    in_hand = take(database, ben)
    left = queue.progress(database, ben).left
    with pytest.raises(Refused, match="say what is to be corrected"):
        corrections.send_back(database, olga, second.annotation_id, " ")
    with pytest.raises(Refused, match="does not include to adjudicate"):
        corrections.send_back(database, ben, first.annotation_id, "hm")
    corrections.send_back(database, olga, second.annotation_id, "Read B again.")
    corrections.send_back(database, olga, second.annotation_id, "To the end.")
    task = take(database, ben)
    assert (task.annotation_id, task.sent_back) == (second.annotation_id, "To the end.")
    assert task.answer == PairAnswer(preference=-1)
    assert take(database, ben, [task.assignment_id]).item_id == in_hand.item_id
    seen = queue.progress(database, ben)
    assert [past.sent_back for past in seen.sent_back] == ["To the end."]
    assert seen.left == left + 1
    revised = answers.revise(database, ben, second.annotation_id, answer(task, -1))  # stands by it
    assert take(database, ben).item_id == in_hand.item_id
    assert queue.progress(database, ben).sent_back == []
    with pytest.raises(Refused, match="revised meanwhile"):
        corrections.send_back(database, olga, second.annotation_id, "again")
    corrections.send_back(database, olga, revised.annotation_id, "again")
    assert take(database, ben).sent_back == "again"
    with pytest.raises(Refused, match="there is no answer"):
        corrections.send_back(database, olga, 999, "again")


def test_own_past_answers_say_what_was_said(store: Store, database: Database) -> None:
    olga = start(store, database)
    task = take(database, olga)
    hand_in(database, olga, task, PairAnswer(preference=2))
    (past,) = queue.progress(database, olga).last
    assert past.answer == PairAnswer(preference=2), "as it was on the screen, not in slots"
    assert past.prompt == task.thread[-1].content


def test_answers_are_recorded_under_the_guidelines_that_were_on_screen(
    store: Store, database: Database
) -> None:
    """Not under those that were in force: whoever has not read the new ones has not followed them."""
    olga = start(store, database)

    def recorded() -> list[int | None]:
        with database.read() as connection:
            query = (
                select(GuidelineVersion.n)
                .select_from(Annotation)
                .join(Assignment, Assignment.id == Annotation.assignment_id)
                .outerjoin(GuidelineVersion, GuidelineVersion.id == Assignment.guideline_version_id)
                .order_by(Annotation.id)
            )
            return list(connection.scalars(query))

    vote(database, olga)
    projects.set_guideline(database, olga, "Be fair.")
    task = take(database, olga)
    assert (task.guideline_version, task.newest_guideline) == (0, 1)
    hand_in(database, olga, task, PairAnswer(preference=1))
    task = take(database, olga)
    guidelines.mark_seen(database, olga, 1)  # read with the item on the screen
    guidelines.mark_seen(database, olga, 1)
    hand_in(database, olga, task, PairAnswer(preference=1))
    projects.set_guideline(database, olga, "Be fair, and quick.")
    task = take(database, olga)
    assert (task.guideline_version, task.newest_guideline) == (1, 2)
    hand_in(database, olga, task, PairAnswer(preference=1))
    guidelines.mark_seen(database, olga, 2)
    vote(database, olga)
    guidelines.mark_seen(database, olga, 1)  # an old one again changes nothing
    vote(database, olga)
    assert recorded() == [None, None, 1, 1, 2, 2]
    assert guidelines.newest_seen(database, olga) == 2
    with pytest.raises(Refused, match="no version 3"):
        guidelines.mark_seen(database, olga, 3)


def steps_of(store: Store, database: Database):
    """A project with one item of three steps, and its annotator."""
    olga = start(store, database, prompts=1, schema=Schema(type="step", splitter="sentences"))
    building.build(database, olga, "step", per_prompt=1)
    with database.write() as connection:
        connection.execute(update(Assignment).values(status="released"))
    while (task := take(database, olga)).type != "step":
        queue.skip(database, olga, task.assignment_id, "other")
    return olga, task


def test_a_round_comes_back_until_it_is_marked(store: Store, database: Database) -> None:
    """A reload finds it again: it is in the queue, not only in a browser."""
    olga, task = steps_of(store, database)
    count = len(task.responses[0].steps)
    marks = (StepMark(step=0, label=-1, reason="no"), *(StepMark(step=n, label=1) for n in range(1, count)))
    given = Submission(client_key="again/0001", answer=StepAnswer(marks=marks, finish="found-error"))
    going = working.mark(database, olga, task.assignment_id, given, "regenerated").going
    assert going is not None
    said = LiveResponse(text="Better. Then more.", model="runs/a")
    _, child = working.add(database, olga, going, going.begun, said)
    assert take(database, olga).item_id == child.item_id
    expire(database, child.assignment_id)
    assert queue.progress(database, olga).left >= 1
    again = take(database, olga)
    assert again.item_id == child.item_id
    marks = tuple(StepMark(step=n, label=1) for n in range(len(again.responses[0].steps)))
    hand_in(database, olga, again, StepAnswer(marks=marks))
    following = queue.next_task(database, olga)
    assert following is None or following.item_id != child.item_id


def test_a_wrong_step_follows_from_an_earlier_wrong_one(store: Store, database: Database) -> None:
    schema = Schema(type="step")

    def check(*marks: tuple[int, int | None]) -> None:
        said = tuple(StepMark(step=n, label=label, caused_by=by) for n, (label, by) in enumerate(marks))  # type: ignore[arg-type]
        check_answer(StepAnswer(marks=said), "step", schema, ["text"], len(marks))

    check((-1, None), (1, None), (-1, 0))
    for wrong in ([(-1, 0)], [(1, None), (-1, 0)], [(-1, None), (1, 0)], [(-1, 1), (-1, None)]):
        with pytest.raises(Refused, match="follows from"):
            check(*wrong)
    olga, task = steps_of(store, database)
    count = len(task.responses[0].steps)
    marks = tuple(StepMark(step=n, label=-1, caused_by=n - 1 if n else None) for n in range(count))
    hand_in(database, olga, task, StepAnswer(marks=marks, finish="found-error"))
    assert queue.task(database, olga, task.assignment_id).answer.marks == marks
    with database.read() as connection:
        assert connection.scalar(select(func.count()).where(StepMarkRow.caused_by.is_not(None))) == count - 1


def test_suggestions_are_shown_where_the_project_wants_it_and_recorded(
    store: Store, database: Database
) -> None:
    olga = start(store, database)
    task = take(database, olga)
    with database.write() as connection:
        values = {"item_id": task.item_id, "score": 0.9}
        rank = RankAnswer(ranks=(1, 2)).model_dump(mode="json")
        insert_one(connection, Suggestion, source="old", answer=rank, **values)
        pair = PairAnswer(preference=3).model_dump(mode="json")
        shown = insert_one(connection, Suggestion, source="judge", answer=pair, **values)

    def recorded() -> int | None:
        with database.read() as connection:
            place = Assignment.id == task.assignment_id
            return connection.scalar(select(Assignment.suggestion_id).where(place))

    assert queue.task(database, olga, task.assignment_id).suggestion is None and recorded() is None
    settings = projects.settings(database, olga)
    projects.set_settings(database, olga, settings.model_copy(update={"show_suggestions": True}))
    suggestion = take(database, olga).suggestion
    assert suggestion is not None and suggestion.source == "judge"
    texts = {r.position: r.text for r in task.responses}
    better = 1 if suggestion.answer.preference > 0 else 0
    assert texts[better] == text_by_slot(store, task.item_id)[1], (
        "in positions, as the annotator sees the item"
    )
    assert recorded() == shown
    with database.write() as connection:  # one that is no answer to such an item is not shown
        connection.execute(update(Assignment).values(suggestion_id=None))
        connection.execute(delete(Suggestion).where(Suggestion.id == shown))
    assert take(database, olga).suggestion is None and recorded() is None
