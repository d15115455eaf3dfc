"""What must not grow with the store: memory of reads, and how much of it the queue looks at."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from benchmarks import scale
from benchmarks.scale_fill import OVERLAP, PROJECT, answers_of, fill, key
from tests.feedback.kit import hand_in, start, take, vote
from tutelage.feedback.asking.payloads import PairAnswer
from tutelage.feedback.exports.exporting import ExportSpec, export
from tutelage.feedback.insights import census, sampling, totals
from tutelage.feedback.insights.figures import insight
from tutelage.feedback.items.browsing import Query, find
from tutelage.feedback.items.conflicts import next_unsettled
from tutelage.feedback.people.access import Member
from tutelage.feedback.people.users import find_user
from tutelage.feedback.projects import projects
from tutelage.feedback.training import kept
from tutelage.feedback.training.source import comparisons_from
from tutelage.feedback.work import queue
from tutelage.store import Store, contents
from tutelage.store.comparing import stream_voted_pairs
from tutelage.store.database import Database
from tutelage.store.schema_feedback import Account
from tutelage.store.sorting import sorted_apart

SMALL, LARGE = 1_000, 6_000  # answers: six times as many


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("scale")
    made = {size: folder / f"{size}.sqlite" for size in (SMALL, LARGE)}
    for size, path in made.items():
        fill(str(path), size)
    return made


def member(database: Database, name: str) -> Member:
    with database.read() as connection:
        user = find_user(connection, Account.name == name)
    assert user is not None
    return projects.member(database, user, PROJECT)


# memory ---------------------------------------------------------------------------------------------------------------


def peak(work: Callable[[], object]) -> int:
    """Bytes of Python objects that the work needs at most, beyond what was there before."""
    work()  # what is made once (statements) is made
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def trained(path: Path, folder: Path) -> Callable[[], object]:
    return lambda: comparisons_from(f"store:{PROJECT}", path).digest


def exported(format: str) -> Callable[[Path, Path], Callable[[], object]]:
    def prepared(path: Path, folder: Path) -> Callable[[], object]:
        database = Database(path)
        who = member(database, "owner")
        spec = ExportSpec(format=format)  # type: ignore[arg-type]
        return lambda: export(database, who, spec, folder / "rows.jsonl")

    return prepared


@pytest.mark.parametrize(
    "prepared",
    [trained, *(pytest.param(exported(format), marks=pytest.mark.slow) for format in ("preference", "raw"))],
)
def test_reading_six_times_as_much_needs_no_more_memory(
    prepared: Callable[[Path, Path], Callable[[], object]],
    stores: dict[int, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contents, "CHUNK", 50)  # items that are in memory together
    monkeypatch.setattr(kept, "IN_MEMORY", 100)
    monkeypatch.setattr(kept, "READ_AHEAD", 50)
    small, large = (peak(prepared(stores[size], tmp_path)) for size in (SMALL, LARGE))
    assert large < 3 * small, f"{small:,} and {large:,} bytes"


def test_streams_are_what_is_in_the_store(stores: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that training reads, against the store's own tables: by content, with all votes of each pair in their order."""
    monkeypatch.setattr(contents, "CHUNK", 7)
    numbers = sorted(range(SMALL // OVERLAP), key=lambda n: key("item", n))
    with Store(stores[SMALL]) as store, store.reading(PROJECT) as (connection, project):
        pairs = list(stream_voted_pairs(connection, project))
        stored = connection.execute(text("SELECT item_id, preference FROM annotation ORDER BY id")).all()
    said: dict[int, list[int]] = {}
    for item, preference in stored:
        said.setdefault(item, []).append(preference)
    assert [pair.item_id for pair in pairs] == [n + 1 for n in numbers if n + 1 in said]
    assert [[v.preference for v in pair.votes] for pair in pairs] == [said[pair.item_id] for pair in pairs]
    assert sum(answers_of(key("item", n)) for n in numbers) == len(stored) == sum(map(len, said.values()))


def test_an_export_by_skill_reads_twice_and_counts_once(stores: dict[int, Path], tmp_path: Path) -> None:
    database = Database(stores[SMALL])
    spec = ExportSpec(aggregation="crowd-bt", split="nothing is in it")
    done = export(database, member(database, "owner"), spec, tmp_path / "rows.jsonl")
    with Store(stores[SMALL]) as store:
        assert (done.rows, done.left_out) == (0, {"split 'train'": len(store.voted_pairs(PROJECT))})
    database.close()


# what is kept ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3, 4, 25])
def test_kept_rows_are_a_sequence_like_any_other(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "IN_MEMORY", 3)
    monkeypatch.setattr(kept, "READ_AHEAD", 4)
    rows = [("row", n, "x" * n) for n in range(count)]
    found = kept.kept(iter(rows))
    assert isinstance(found, list) == (count <= 3)
    assert found == rows and list(found) == rows and list(reversed(found)) == rows[::-1]
    assert len(found) == count and bool(found) == bool(rows)
    for part in (slice(2, 9), slice(-3, None), slice(None, None, 3), slice(8, 2), slice(7, 1, -2)):
        assert found[part] == rows[part]
    for place in (count, -count - 1):
        with pytest.raises(IndexError):
            found[place]
    assert found != [*rows, 0] and all(found[n] == rows[n] == found[n - count] for n in range(count))


def test_threads_read_kept_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "IN_MEMORY", 0)
    found = kept.kept(range(400))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(found.__getitem__, range(400))) == list(range(400))


def test_sorted_apart_is_sorted() -> None:
    rows = [(key("row", n), {"n": n}) for n in range(500)]
    assert list(sorted_apart(iter(rows))) == sorted(rows)
    assert list(sorted_apart([])) == []


# the queue ------------------------------------------------------------------------------------------------------------

# How a step begins that goes through much: anything but tables of rules and people, and indexes of what is open or counted.
WHOLE = re.compile(
    r"^SCAN (item|annotation|assignment|prompt|response|item_response)(?! USING (COVERING )?INDEX ix_item_(open|shared))\b"
    r"|^SEARCH item USING (COVERING )?INDEX (?!ix_item_(open|shared))\S+ \(project_id=\?( AND type=\?)?\)"
)


def plans(database: Database, work: Callable[[], object]) -> list[str]:
    """How SQLite goes about each statement of some work."""
    found: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, values: Any, *_: object) -> None:
        if statement.startswith("SELECT") and not isinstance(values, list):
            raw = connection.connection.dbapi_connection
            steps = raw.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            found.extend(f"{step[3]} IN {statement}" for step in steps)

    for engine in (database._reader, database._writer):
        event.listen(engine, "before_cursor_execute", explain)
    work()
    for engine in (database._reader, database._writer):
        event.remove(engine, "before_cursor_execute", explain)
    return found


@pytest.mark.parametrize("analysed", [False, True])
def test_no_claim_no_answer_and_no_total_goes_through_a_whole_table(
    stores: dict[int, Path], tmp_path: Path, analysed: bool
) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(stores[LARGE].read_bytes())
    database = Database(path)
    if not analysed:
        with database.write() as connection:
            for table in ("sqlite_stat1", "sqlite_stat4"):
                there = connection.scalar(text(f"SELECT 1 FROM sqlite_master WHERE name = '{table}'"))
                connection.execute(text(f"DELETE FROM {table}") if there else text("SELECT 1"))
        database.close()
        database = Database(path)
    who = member(database, "annotator-3")

    def label() -> None:
        hand_in(database, who, take(database, who), PairAnswer(preference=1))
        queue.progress(database, who)

    found = plans(database, label)
    assert len(found) > 30
    assert [line for line in found if WHOLE.search(line)] == []
    assert any("ix_item_open" in line for line in found)

    def look() -> None:
        owner = member(database, "owner")
        totals.totals(database, owner)
        with database.read() as connection:
            assert next_unsettled(connection, owner.project_id) is not None

    found = plans(database, look)
    few = "(?! USING (COVERING )?INDEX annotation_revised_once| USING (COVERING )?INDEX ix_annotation_uncounted)"
    through = re.compile(
        rf"SCAN (annotation|assignment)\b{few}|SEARCH annotation .*ix_annotation_item_id_annotator_id"
    )
    assert [line for line in found if through.match(line)] == []
    assert not analysed or any("ix_item_apart" in line for line in found)
    database.close()


def test_what_is_left_is_what_can_be_claimed(store: Store, database: Database) -> None:
    """Counted from the few items that are not for somebody, against taking all that there are."""
    who = start(store, database, prompts=2, overlap=2)
    for _ in range(3):
        vote(database, who)
    skipped = take(database, who)
    queue.skip(database, who, skipped.assignment_id, "other")
    progress = queue.progress(database, who)
    assert (progress.project_items, progress.project_complete, progress.left) == (12, 0, 8)
    for left in range(8, 0, -1):
        assert queue.progress(database, who).left == left
        vote(database, who)
    assert queue.progress(database, who).left == 0 and queue.next_task(database, who) is None


# insights -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(stores: dict[int, Path]) -> Iterator[tuple[Database, Member]]:
    database = Database(stores[SMALL])
    yield database, member(database, "owner")
    database.close()


def test_a_search_makes_one_set_of_what_it_finds(served: tuple[Database, Member]) -> None:
    """Of several sets with OR between them PostgreSQL looks through each for every item: minutes instead of seconds."""
    database, owner = served
    found = plans(database, lambda: find(database, owner, Query(text="question 7:")))
    assert find(database, owner, Query(text="question 7:")).total == 1
    searched = {line for line in found if "instr(" in line}
    assert searched and not any(" OR " in line for line in searched)


def test_very_many_answers_are_sampled_by_prompt(
    served: tuple[Database, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompts with the smallest digests, with all that was said of them."""
    monkeypatch.setattr(sampling, "LARGEST", 300)
    monkeypatch.setattr(sampling, "NEWS", 15)
    monkeypatch.setattr(sampling, "PROMPTS", 10)
    database, who = served
    numbers = sorted(range(SMALL // OVERLAP), key=lambda n: key("prompt", n))
    counts = [answers_of(key("item", n)) for n in numbers]
    wanted = next(n for n in range(10, len(numbers), 10) if sum(counts[:n]) >= 300)
    found = insight(database, who)
    assert found.sample is not None
    assert (found.sample.prompts, found.sample.answers) == (wanted, sum(counts[:wanted]))
    assert found.sample.share == pytest.approx(wanted / len(numbers), abs=0.15)
    assert sum(person.votes for person in found.people) == sum(counts[:wanted])
    with database.read() as connection:
        given = connection.execute(text("SELECT item_id, annotator_id, preference FROM annotation")).all()
    chosen = {n + 1 for n in numbers[:wanted]}
    sides: dict[int, list[int]] = {}
    for item, _, preference in given:
        sides.setdefault(item, []).append((preference > 0) - (preference < 0))
    several = [own for item, own in sides.items() if item in chosen and len(own) > 1]
    shares = [
        sum(n * (n - 1) for n in Counter(own).values()) / (len(own) * (len(own) - 1)) for own in several
    ]
    [agreed] = [line.estimate for line in found.agreement if line.name == "share"]
    assert agreed.n == len(shares)
    assert agreed.value == pytest.approx(sum(shares) / len(shares), abs=0.02)


def test_all_answers_are_read_while_they_are_few(served: tuple[Database, Member]) -> None:
    database, who = served
    assert insight(database, who).sample is None


def test_totals_and_census_are_counts_of_rows(served: tuple[Database, Member]) -> None:
    database, who = served
    with database.read() as connection:
        rows = connection.scalar(text("SELECT count(*) FROM annotation"))
        people = connection.scalar(text("SELECT count(DISTINCT annotator_id) FROM annotation"))
        split = connection.scalar(
            text(
                "SELECT count(*) FROM (SELECT item_id FROM annotation GROUP BY item_id HAVING count(*) = 10 "
                "AND min(preference) < 0 AND max(preference) > 0)"
            )
        )
    found = totals.totals(database, who)
    assert (found.answers, found.annotators, found.conflicts) == (rows, people, split)
    assert (found.extra, found.revisions, found.settled) == (0, 0, 0)
    [one] = census.census(database)
    assert one.answers == rows and one.wanted == SMALL - rows


def test_busy_projects_are_counted_as_they_always_were(busy: Member, database: Database) -> None:
    """With revisions, an extra answer and an adjudication: against the tables."""
    with database.read() as connection:
        rows = connection.execute(text("SELECT role, supersedes_id FROM annotation")).all()
    first = Counter(role for role, before in rows if before is None)
    found = totals.totals(database, busy)
    assert (found.answers, found.extra) == (first["answer"], first["extra"])
    assert found.revisions == sum(before is not None for _, before in rows)
    assert census.census(database)[0].answers == len(rows)
    assert json.dumps(found.conflicts)


# the benchmark --------------------------------------------------------------------------------------------------------


def test_the_benchmark_measures_what_it_says(stores: dict[int, Path], tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(stores[SMALL].read_bytes())
    settings = scale.ScaleBenchSettings(claims=3, folder=str(tmp_path))
    figures = {name: scale.PARTS[name](str(path), settings) for name in ("claim", "home", "totals", "train")}
    assert 0 < figures["claim"]["claim_ms"] <= figures["claim"]["claim_p99_ms"]
    with Store(path) as store:
        pairs = len(store.voted_pairs(PROJECT))
    rows = figures["train"]["train_rows_per_s"] * figures["train"]["train_s"]
    assert rows == pytest.approx(pairs)
    assert figures["home"]["home_s"] > 0 and figures["totals"]["totals_s"] > 0
