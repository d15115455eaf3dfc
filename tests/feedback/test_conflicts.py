"""What a conflict is, from the answers themselves: all types, revisions, extra answers and adjudications, on both databases."""

from __future__ import annotations

import random
from collections import defaultdict

from alembic import command
from sqlalchemy import Connection, select, text

from tests.feedback.kit import expire, hand_in, join, keys, start
from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import (
    Answer,
    Criterion,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
    Task,
)
from tutelage.feedback.insights.totals import totals
from tutelage.feedback.items import building
from tutelage.feedback.items.browsing import Query, find
from tutelage.feedback.items.conflicts import conflicts
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.upkeep import examine, recount_all
from tutelage.feedback.work import answers, queue
from tutelage.store import Store
from tutelage.store.database import Database, migrations
from tutelage.store.schema import Annotation, Item

SCHEMA = Schema(
    criteria=(Criterion(name="true", title="True"), Criterion(name="kind", title="Kind")), acceptable=False
)


def any_answer(draw: random.Random, task: Task) -> Answer:
    k = len(task.responses)
    if task.type == "pair":
        return PairAnswer(preference=draw.choice((-3, -1, 0, 0, 1, 2)))
    if task.type == "rank":
        return RankAnswer(ranks=tuple(draw.randint(1, 3) for _ in range(k)))
    if task.type == "rate":
        values = (None, 1, 3, 4, 4, 5, 6, 7)
        return RateAnswer(
            ratings={c.name: tuple(draw.choice(values) for _ in range(k)) for c in task.questions.criteria}
        )
    if task.type == "step":
        steps = range(len(task.responses[0].steps))
        return StepAnswer(marks=tuple(StepMark(step=n, label=draw.choice((-1, 1, 1))) for n in steps))
    return RewriteAnswer(text=f"better {draw.random()}")


def answered(store: Store, database: Database) -> Member:
    """Every item has one or two counted answers and perhaps an extra one, some of them revised."""
    draw = random.Random(5)
    olga = start(store, database, prompts=4, overlap=2, schema=SCHEMA)
    for type in ("rank", "rate", "step", "rewrite"):
        building.build(database, olga, type)  # type: ignore[arg-type]
    late, ben, cy = (join(database, olga.user, "main", name) for name in ("late", "ben", "cy"))
    while (first := queue.next_task(database, late)) is not None:
        expire(database, first.assignment_id)
        others = [queue.next_task(database, who) for who in (ben, cy)]
        for who, task in [*zip((ben, cy), others, strict=True), (late, first)]:
            assert task is not None and task.item_id == first.item_id
            if who is cy and draw.random() < 0.2:  # an item that wants one answer still: `late` gives it
                queue.skip(database, who, task.assignment_id, "other")
                continue
            if who is late and draw.random() < 0.5:
                queue.skip(database, who, task.assignment_id, "other")
                continue
            given = hand_in(database, who, task, any_answer(draw, task))
            if draw.random() < 0.3:
                again = Submission(client_key=next(keys), answer=any_answer(draw, task))
                answers.revise(database, who, given.annotation_id, again)
    return olga


def reference(database: Database, full: bool) -> dict[int, float]:
    """The definition, over the answers as they are read for people."""
    with database.read() as connection:
        rows = connection.execute(
            select(Annotation.id, Annotation.supersedes_id, Annotation.item_id, Annotation.role)
        ).all()
        wanted = {
            row.id: (row.type, row.overlap)
            for row in connection.execute(select(Item.id, Item.type, Item.overlap))
        }
        said = read_answers(connection, [row.id for row in rows])
    revised = {row.supersedes_id for row in rows}
    given = defaultdict(list)
    for row in rows:
        if row.role == "answer" and row.id not in revised:
            given[row.item_id].append(said[row.id])
    found = {}
    for item, some in given.items():
        type, overlap = wanted[item]
        if len(some) < (max(2, overlap) if full else 2):
            continue
        parts: dict[object, list[float]] = defaultdict(list)
        for one in some:
            if isinstance(one, PairAnswer):
                parts["side"].append((one.preference > 0) - (one.preference < 0))
            elif isinstance(one, RankAnswer):
                for slot, rank in enumerate(one.ranks):
                    parts[slot].append(rank)
            elif isinstance(one, StepAnswer):
                for mark in one.marks:
                    parts[mark.step].append(mark.label)
            elif isinstance(one, RateAnswer):
                for name, values in one.ratings.items():
                    for slot, value in enumerate(values):
                        if value is not None:
                            parts[name, slot].append(value)
        widest = {"pair": 2, "rank": 8, "step": 2, "rate": SCHEMA.scale - 1}.get(type, 1)
        share = max((max(values) - min(values) for values in parts.values()), default=0) / widest
        if share >= (0.5 if type == "rate" else 1e-9):
            found[item] = min(1.0, share)
    return found


def test_conflicts_are_those_of_the_answers(store: Store, database: Database) -> None:
    olga = answered(store, database)
    for full in (True, False):
        with database.read() as connection:
            assert conflicts(connection, olga.project_id, full) == reference(database, full)
    wanted = reference(database, True)
    with database.read() as connection:
        types = {row.id: row.type for row in connection.execute(select(Item.id, Item.type))}
        some = sorted(wanted)[::2]
        assert set(conflicts(connection, olga.project_id, among=some)) == set(some)
    assert {types[item] for item in wanted} == {"pair", "rank", "rate", "step"}
    assert len(set(wanted.values())) > 3 and len(reference(database, False)) >= len(wanted)
    assert totals(database, olga).conflicts == len(wanted) < len(types)
    assert found_by(database, olga, state="conflict") == set(wanted)
    apart = reference(database, False)
    assert found_by(database, olga, agreement="differ") == set(apart)
    assert found_by(database, olga, agreement="far-apart") == {
        n for n, share in apart.items() if share >= 0.5
    }
    with database.read() as connection:
        two = set(connection.scalars(select(Item.id).where(Item.n_done >= 2)))
    assert found_by(database, olga, agreement="agree") == two - set(apart)
    assert [finding for finding in examine(database) if finding.wrong] == []


def found_by(database: Database, who: Member, **asked: str) -> set[int]:
    return {row.item_id for row in find(database, who, Query(limit=500, **asked)).items}  # type: ignore[arg-type]


def test_they_come_round_the_most_disputed_first(store: Store, database: Database) -> None:
    olga = answered(store, database)
    wanted = reference(database, True)
    order = sorted(wanted, key=lambda item: (-wanted[item], item))
    after, seen = 0, []
    for _ in order:
        conflict = answers.next_conflict(database, olga, after)
        assert conflict is not None and conflict.left == len(order)
        seen.append(after := conflict.task.item_id)
    assert seen == order
    again = answers.next_conflict(database, olga, after)
    assert again is not None and again.task.item_id == order[0]
    middle = answers.conflict(database, olga, order[1])
    settled = Submission(client_key=next(keys), answer=any_answer(random.Random(1), middle.task))
    answers.adjudicate(database, olga, middle.task.assignment_id, settled)
    following = answers.next_conflict(database, olga, order[0])
    assert following is not None and (following.task.item_id, following.left) == (order[2], len(order) - 1)
    assert totals(database, olga).conflicts == len(order)  # settled or not


def test_a_new_scale_of_ratings_counts_at_once(store: Store, database: Database) -> None:
    olga = answered(store, database)
    rated = find_types(database, "rate")
    before = {item for item in reference(database, True) if item in rated}
    projects.set_schema(database, olga, SCHEMA.model_copy(update={"scale": 10}))
    with database.read() as connection:
        after = {item for item in conflicts(connection, olga.project_id) if item in rated}
    assert before and after < before


def find_types(database: Database, type: str) -> set[int]:
    with database.read() as connection:
        return set(connection.scalars(select(Item.id).where(Item.type == type)))


def test_an_older_store_learns_how_far_its_answers_lie_apart(store: Store, database: Database) -> None:
    answered(store, database)
    with database.read() as connection:
        before = spreads(connection)
    store.close()
    with database.write() as connection:
        command.downgrade(migrations(connection), "0011")
        command.upgrade(migrations(connection), "0012")
    with database.read() as connection:
        assert spreads(connection) == before
        indexes = "SELECT count(*) FROM " + (
            "sqlite_master WHERE name = 'ix_item_apart'"
            if database.is_sqlite
            else "pg_indexes WHERE indexname = 'ix_item_apart'"
        )
        assert connection.scalar(text(indexes)) == 1
    assert recount_all(database) == 0


def spreads(connection: Connection) -> dict[int, int]:
    return {row.id: row.spread for row in connection.execute(select(Item.id, Item.spread))}
