"""The queue: overlap is exact, leases run out by the clock, nobody gets an item twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from tests.feedback.kit import expire, hand_in, join, prioritise, start, take, text_by_slot, vote
from tutelage.feedback.asking.payloads import PairAnswer
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import building
from tutelage.feedback.items.changing import Close, change_items
from tutelage.feedback.projects.projects import member
from tutelage.feedback.work import queue
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import now


def test_every_pair_gets_its_overlap_and_nobody_a_pair_twice(store: Store, database: Database) -> None:
    olga = start(store, database, overlap=2)
    people = [olga, *(join(database, olga.user, "main", name) for name in ("ann2", "bea"))]
    seen: Counter[tuple[str, int]] = Counter()
    waiting = list(people)
    while waiting:
        who = waiting.pop(0)
        task = queue.next_task(database, who)
        if task is not None:
            seen[who.user.name, task.item_id] += 1
            hand_in(database, who, task, PairAnswer(preference=1))
            waiting.append(who)
    assert set(seen.values()) == {1}
    assert Counter(item for _, item in seen) == {pair.item_id: 2 for pair in store.pairs("main")}
    assert len(store.votes("main")) == 36


def test_leases_hold_an_item_until_they_run_out(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    ben = join(database, olga.user, "main", "ben")
    held = [take(database, olga)]
    for _ in range(5):
        held.append(take(database, olga, [task.assignment_id for task in held]))
    assert len({task.item_id for task in held}) == 6  # all pairs of the prompt
    assert queue.next_task(database, ben) is None
    expire(database, held[2].assignment_id)
    assert take(database, ben).item_id == held[2].item_id
    with pytest.raises(Refused, match="others have taken it") as caught:
        queue.heartbeat(database, olga, held[2].assignment_id)
    assert caught.value.reason == "gone"


def test_a_reload_gives_the_same_task_and_a_heartbeat_more_time(store: Store, database: Database) -> None:
    olga = start(store, database, lease_seconds=60)
    task = take(database, olga)
    assert take(database, olga) == task
    assert take(database, olga, [task.assignment_id]).item_id != task.item_id
    expire(database, task.assignment_id)
    assert queue.heartbeat(database, olga, task.assignment_id) > now() + timedelta(seconds=50)
    assert take(database, olga).item_id == task.item_id


def test_a_late_answer_counts_while_there_is_room_and_is_extra_after(
    store: Store, database: Database
) -> None:
    olga = start(store, database, prompts=1)
    ben = join(database, olga.user, "main", "ben")
    late = take(database, olga)
    expire(database, late.assignment_id)
    assert not hand_in(database, olga, late, PairAnswer(preference=1)).extra
    second = take(database, olga)
    expire(database, second.assignment_id)
    same = take(database, ben)
    assert same.item_id == second.item_id
    assert not hand_in(database, ben, same, PairAnswer(preference=2)).extra
    assert hand_in(database, olga, second, PairAnswer(preference=-2)).extra
    votes = [stored for stored in store.votes("main") if stored.item_id == second.item_id]
    assert [stored.vote.annotator for stored in votes] == [
        "ben"
    ]  # the extra answer is kept, and does not count


def test_skip_and_release(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    first = take(database, olga)
    queue.skip(database, olga, first.assignment_id, "too-hard", "no idea")
    queue.skip(database, olga, first.assignment_id, "too-hard")  # a double click
    second = take(database, olga)
    assert second.item_id != first.item_id
    queue.release(database, olga, second.assignment_id)
    third = take(database, olga)
    assert third.item_id == second.item_id and third.responses == second.responses
    with pytest.raises(Refused, match="skipped"):
        hand_in(database, olga, first, PairAnswer(preference=1))
    hand_in(database, olga, third, PairAnswer(preference=1))
    with pytest.raises(Refused, match="answered already"):
        queue.skip(database, olga, third.assignment_id, "other")
    ben = join(database, olga.user, "main", "ben")
    assert take(database, ben).item_id == first.item_id  # others still get it


def test_what_is_shown_where_is_recorded_and_turned_into_slots(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=3)
    orders = set()
    for number in range(18):
        task = take(database, olga)
        texts = text_by_slot(store, task.item_id)
        shown = tuple(response.text for response in task.responses)
        assert sorted(shown) == sorted(texts)
        orders.add(shown == texts)
        hand_in(database, olga, task, PairAnswer(preference=-2 if number % 2 else 3))
        stored = store.votes("main")[-1].vote
        preferred = texts[0] if stored.preference < 0 else texts[1]
        assert preferred == (shown[0] if number % 2 else shown[1])
        assert texts[stored.first_shown] == shown[0]
    assert orders == {True, False}  # both sides happen


def test_priority_and_closing(store: Store, database: Database) -> None:
    olga = start(store, database)
    pairs = sorted(pair.item_id for pair in store.pairs("main"))
    assert prioritise(database, olga, {pairs[4]: 3.0, pairs[9]: 2.0, pairs[1]: -1.0}) == 3
    change_items(database, olga, [pairs[9]], Close(what="close", closed=True))
    order = []
    while (task := queue.next_task(database, olga)) is not None:
        order.append(task.item_id)
        hand_in(database, olga, task, PairAnswer(preference=1))
    assert order[0] == pairs[4] and order[-1] == pairs[1] and pairs[9] not in order and len(order) == 17


def test_a_claim_walks_the_queue_and_sorts_nothing(store: Store, database: Database) -> None:
    """Else each `next` looks at all open items, which takes seconds where a project has 100,000 of them."""
    plans: list[str] = []

    def explain(connection: Connection, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if "ORDER BY item.priority" in statement:
            own = connection.connection.cursor()  # of the same transaction: its settings hold
            how = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
            plans.append("\n".join(str(row) for row in own.execute(f"{how} {statement}", values).fetchall()))

    olga = start(store, database)
    event.listen(Engine, "before_cursor_execute", explain)
    try:
        take(database, olga)
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    assert plans
    assert not any("Sort" in plan or "TEMP B-TREE" in plan for plan in plans)
    assert all("ix_item_open" in plan for plan in plans)


def test_gold_comes_at_its_rate_and_has_no_overlap(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=10, gold_rate=0.5, show_gold_accuracy=True)
    gold = [pair.item_id for pair in store.pairs("main")][:30]
    for item in gold:
        building.set_gold(database, olga, item, PairAnswer(preference=-1))
    people = [join(database, olga.user, "main", name) for name in ("ann2", "bea")]
    got = {who.user.name: [] for who in people}
    for who in people:
        for _ in range(20):
            task = take(database, who)
            first_is_slot_0 = task.responses[0].text == text_by_slot(store, task.item_id)[0]
            right = -1 if first_is_slot_0 else 1
            hand_in(database, who, task, PairAnswer(preference=right if who is people[0] else -right))
            got[who.user.name].append(task.item_id in gold)
    assert all(5 <= sum(was_gold) <= 15 for was_gold in got.values())
    assert [queue.progress(database, who).gold_right for who in people] == [sum(got["ann2"]), 0]


def test_nobody_else_reaches_an_assignment(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben, vic = join(database, olga.user, "main", "ben"), join(database, olga.user, "main", "vic", "viewer")
    task = take(database, olga)
    for attempt in (
        lambda: queue.task(database, ben, task.assignment_id),
        lambda: queue.heartbeat(database, ben, task.assignment_id),
        lambda: queue.save_draft(database, ben, task.assignment_id, {}),
        lambda: queue.skip(database, ben, task.assignment_id, "other"),
        lambda: queue.release(database, ben, task.assignment_id),
        lambda: queue.flag(database, ben, task.assignment_id, "unsafe"),
        lambda: hand_in(database, ben, task, PairAnswer(preference=1)),
    ):
        with pytest.raises(Refused, match="not yours") as caught:
            attempt()
        assert caught.value.reason == "not-found"
    with pytest.raises(Refused, match="does not include to label"):
        queue.next_task(database, vic)


def test_drafts_and_progress(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    task = take(database, olga)
    queue.save_draft(database, olga, task.assignment_id, {"reason": "half"})
    queue.save_draft(database, olga, task.assignment_id, {"reason": "half a sentence"})
    assert take(database, olga).draft == {"reason": "half a sentence"}
    with pytest.raises(Refused, match="at most 300,000 bytes"):
        queue.save_draft(database, olga, task.assignment_id, {"reason": "x" * 300_000})
    assert queue.flag(database, olga, task.assignment_id, "unsafe", "insults")
    receipt = hand_in(database, olga, task, PairAnswer(preference=1))
    assert queue.task(database, olga, task.assignment_id).draft is None
    seen = queue.progress(database, olga)
    assert (seen.answered, seen.left, seen.project_items, seen.project_complete) == (1, 5, 6, 1)
    assert [last.annotation_id for last in seen.last] == [receipt.annotation_id]


def test_somebody_removed_labels_no_more_and_their_answers_stay(store: Store, database: Database) -> None:
    from tutelage.feedback.projects.projects import set_role

    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben")
    vote(database, ben)
    set_role(database, olga, "ben", None)
    with pytest.raises(Refused, match="no project 'main' for you"):
        member(database, ben.user, "main")
    assert [stored.vote.annotator for stored in store.votes("main")] == ["ben"]
