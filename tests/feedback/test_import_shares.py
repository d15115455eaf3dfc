"""What a file says of a pair is what the store says of it: shares of votes, margins, several votes, and back again."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import fresh_sqlite
from tutelage.data.reading.formats import read_comparisons
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported
from tutelage.feedback.insights.labels import read_pairs
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import local_member
from tutelage.feedback.training.source import Aggregation, comparisons_from
from tutelage.feedback.upkeep import examine
from tutelage.records import Comparison, Message, Prompt, ToolCall
from tutelage.store import Store
from tutelage.store.database import Database

AGGREGATIONS = get_args(Aggregation)
PAIR = {"prompt": "Q?", "chosen": "A", "rejected": "B"}
TURNED = {"prompt": "Q?", "chosen": "B", "rejected": "A"}


@pytest.fixture
def who(database: Database) -> Member:
    return local_member(database, "main", create=True)


def take(database: Database, who: Member, *rows: Mapping[str, Any]) -> Imported:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return importing.import_stream(database, who, "preference", io.BytesIO(content), "rows.jsonl")


def shares(store: Store, aggregation: Any = "all") -> dict[str, tuple[str, float, float]]:
    return {
        row.prompt.text(): (row.chosen, row.p_chosen, row.margin)
        for row in store.comparisons("main", aggregation)
    }


def by_content(rows: Iterable[Comparison]) -> list[Any]:
    """Rows as they can be compared: the better side first; of a tie the sides mean nothing."""
    return sorted(map(_plain, rows), key=str)


def _plain(row: Comparison) -> Any:
    if row.p_chosen < 0.5 or (row.p_chosen == 0.5 and row.chosen > row.rejected):
        ends = (row.rejected_finish, row.chosen_finish)
        row = replace(row, chosen=row.rejected, rejected=row.chosen, p_chosen=1 - row.p_chosen)
        row = replace(row, chosen_finish=ends[0], rejected_finish=ends[1])
    return [row.to_json() | {"p_chosen": round(row.p_chosen, 12)}, row.prompt.id]


# one row -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_share_and_a_margin_stay_what_they_are(
    address: str, database: Database, who: Member, aggregation: Aggregation
) -> None:
    rows = [
        PAIR | {"prompt": "S1?", "p_chosen": 0.7},
        PAIR | {"prompt": "S2?", "p_chosen": 0.5},
        PAIR | {"prompt": "S3?", "p_chosen": 0.2},
        PAIR | {"prompt": "S4?", "p_chosen": 1, "margin": 0.6667},
        PAIR | {"prompt": "S5?", "p_chosen": 0.9, "margin": 2.5},
    ]  # fmt: skip
    assert take(database, who, *rows).new == 5 and take(database, who, *rows).there == 5
    found = {row.prompt.text(): row for row in comparisons_from("store:main", address, aggregation).rows}
    assert (found["S2?"].p_chosen, found["S2?"].margin) == (0.5, 0.0)
    said = {name: (row.chosen, row.p_chosen, row.margin) for name, row in found.items() if name != "S2?"}
    assert said == {
        "S1?": ("A", 0.7, 0.0), "S3?": ("B", 0.8, 0.0), "S4?": ("A", 1.0, 0.6667), "S5?": ("A", 0.9, 2.5),
    }  # fmt: skip


def test_a_row_without_a_share_is_a_vote(store: Store, database: Database, who: Member) -> None:
    take(database, who, PAIR, TURNED | {"prompt": "other", "margin": 0.4})
    assert shares(store, "majority") == {"Q?": ("A", 1.0, 0.0), "other": ("B", 1.0, 0.4)}
    with database.read() as connection:
        votes = read_pairs(connection, who.project_id)
    assert abs(votes.preference).tolist() == [1, 1]  # the nearest of seven steps
    assert [finding for finding in examine(database) if finding.wrong] == []


# several votes -------------------------------------------------------------------------------------------------------


def test_lines_about_one_pair_are_votes(store: Store, database: Database, who: Member) -> None:
    rows = [PAIR, PAIR, TURNED]
    assert take(database, who, *rows).new == 3
    assert shares(store) == {"Q?": ("A", pytest.approx(2 / 3), 0.0)}
    assert shares(store, "majority") == {"Q?": ("A", 1.0, 0.0)}
    assert {vote.vote.annotator for vote in store.votes("main")} == {"import", "import 2", "import 3"}
    again = take(database, who, *rows)
    assert (again.new, again.there) == (0, 3)
    shuffled = take(database, who, TURNED, PAIR, PAIR, TURNED)  # longer by one vote, in another order
    assert (shuffled.new, shuffled.there) == (1, 3) and shares(store)["Q?"][1] == 0.5


def test_a_mended_file_adds_only_its_mended_line(store: Store, database: Database, who: Member) -> None:
    first = take(database, who, {"prompt": "Q?", "chosen": "A"}, TURNED, PAIR)
    assert (first.new, [bad.line for bad in first.bad]) == (2, [1])
    mended = take(database, who, PAIR, TURNED, PAIR)
    assert (mended.new, mended.there, mended.bad) == (1, 2, [])
    assert shares(store)["Q?"] == ("A", pytest.approx(2 / 3), 0.0)


def test_shares_of_several_are_counted_like_votes(store: Store, database: Database, who: Member) -> None:
    take(
        database,
        who,
        PAIR | {"p_chosen": 0.9, "margin": 0.2},
        PAIR | {"p_chosen": 0.8, "margin": 0.4},
        TURNED,
    )
    assert shares(store)["Q?"] == ("A", pytest.approx((0.9 + 0.8 + 0.0) / 3), pytest.approx(0.3))
    assert shares(store, "majority")["Q?"] == ("A", 1.0, pytest.approx(0.3))


def test_annotators_are_told_apart_by_name(store: Store, database: Database, who: Member) -> None:
    rows = [
        PAIR | {"annotator": 7},
        PAIR | {"annotator": "eve", "annotator_kind": "human"},
        TURNED | {"annotator": "bo"},
    ]
    assert take(database, who, *rows).new == 3 and take(database, who, *rows).there == 3
    assert shares(store)["Q?"][1] == pytest.approx(2 / 3)
    assert store.annotator_kinds() == {"7@import": "rule", "eve@import": "human", "bo@import": "rule"}
    otherwise = take(database, who, TURNED | {"annotator": 7}, PAIR | {"annotator": "eve"})
    assert [bad.why for bad in otherwise.bad] == [
        "'7' has voted otherwise on this pair already, and votes once",
        "the annotator 'eve@import' is there as human, not as rule: rename one of them",
    ]


def test_an_old_vote_of_a_file_is_there_unless_it_says_less(
    store: Store, database: Database, who: Member
) -> None:
    """Stores from before revision 0004 have votes of seven steps only."""
    take(database, who, PAIR, PAIR | {"prompt": "soft"})
    with database.write() as connection:
        for statement in (
            "DROP TRIGGER soft_vote_no_delete",
            "ALTER TABLE soft_vote DISABLE TRIGGER soft_vote_append_only",
        ):
            if database.is_sqlite == statement.startswith("DROP"):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("DELETE FROM soft_vote")
    done = take(database, who, PAIR, PAIR | {"prompt": "soft", "p_chosen": 0.7})
    assert (done.new, done.there) == (1, 1) and shares(store)["soft"][1] == pytest.approx(0.85)


# there and back ------------------------------------------------------------------------------------------------------

WORDS = st.text("abcdefghijklm nopq?.äß漢🙂\n-=\"'\\", min_size=1, max_size=12).filter(
    lambda text: text.strip() != ""
)
CALL = st.builds(ToolCall, st.just("look"), st.dictionaries(st.sampled_from("xy"), st.integers(0, 9)))
MESSAGE = st.builds(Message, st.sampled_from(["user", "assistant"]), WORDS)
CALLING = st.builds(lambda call: Message("assistant", "", (call,)), CALL)
TOOLS = ({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    reference = draw(
        st.none() | st.dictionaries(st.sampled_from(["answer", "n"]), WORDS | st.integers(), min_size=1)
    )
    task = draw(st.sampled_from(["", "facts"]))
    if draw(st.booleans()):
        return Prompt(draw(WORDS), task, reference)
    system = draw(st.lists(st.builds(Message, st.just("system"), WORDS), max_size=1))
    middle = draw(st.lists(MESSAGE | CALLING, max_size=2))
    turns = (*system, *middle, Message("user", draw(WORDS)))
    return Prompt(turns, task, reference, draw(st.sampled_from([(), TOOLS])))


@st.composite
def pairs(draw: st.DrawFn) -> Comparison:
    share = draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1, allow_subnormal=False))
    margin = draw(st.sampled_from([0.0, 0.333333, 1.0]) | st.floats(-3, 3))
    ends = draw(st.tuples(*[st.sampled_from(["eos", "length"])] * 2))
    return Comparison(draw(prompts()), "A" + draw(WORDS), "B" + draw(WORDS), share, margin, *ends)


def unlike(rows: list[Comparison]) -> list[Comparison]:
    """One row a prompt: the same text with two ends, or a pair twice, are another matter."""
    return list({row.prompt.id: row for row in rows}.values())


numbers = itertools.count()
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@SLOW
@given(rows=st.lists(pairs(), min_size=1, max_size=5).map(unlike), aggregation=st.sampled_from(AGGREGATIONS))
@pytest.mark.slow
def test_the_store_says_what_trainers_read_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Comparison], aggregation: Aggregation
) -> None:
    folder = tmp_path_factory.mktemp(f"rows-{next(numbers)}")
    address, file = fresh_sqlite(folder / "store.sqlite"), folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))
    database = Database(address)
    who = local_member(database, "main", create=True)
    with file.open("rb") as stream:
        done = importing.import_stream(database, who, "preference", stream, file.name)
    database.close()
    assert (done.new, done.bad) == (len(rows), [])
    assert by_content(rows) == by_content(read_comparisons(file))
    assert by_content(comparisons_from("store:main", address, aggregation).rows) == by_content(rows)


@pytest.mark.parametrize(
    ("aggregation", "file_format"),
    [
        *((one, "jsonl") for one in AGGREGATIONS),
        pytest.param("dawid-skene", "parquet", marks=pytest.mark.slow),
    ],
)
def test_what_export_writes_import_reads_back(
    database: Database, busy: Member, tmp_path: Path, aggregation: Aggregation, file_format: Any
) -> None:
    spec = ExportSpec(aggregation=aggregation, ties="keep", file_format=file_format)
    out = exporting.export(database, busy, spec, tmp_path / f"rows.{file_format}").file
    other = Database(fresh_sqlite(tmp_path / "other.sqlite"))
    there = local_member(other, "copy", create=True)
    with out.open("rb") as stream:
        done = importing.import_stream(other, there, "preference", stream, out.name)
    assert done.bad == [] and done.unused == {} and done.new > 0
    before = by_content(read_comparisons(out))
    for again in {aggregation, "majority", "all"}:
        spec = ExportSpec(aggregation=again, ties="keep", file_format=file_format)
        copied = exporting.export(other, there, spec, tmp_path / f"{again}.{file_format}").file
        assert by_content(read_comparisons(copied)) == before
    other.close()


@pytest.mark.slow
def test_a_raw_file_keeps_shares(database: Database, who: Member, store: Store, tmp_path: Path) -> None:
    rows = [PAIR | {"p_chosen": 0.7, "margin": 0.25}, PAIR, TURNED | {"prompt": "tie", "p_chosen": 0.5}]
    take(database, who, *rows)
    for file_format in ("jsonl", "parquet"):
        out = tmp_path / f"raw.{file_format}"
        exporting.export(database, who, ExportSpec(format="raw", file_format=file_format), out)
        other = Database(fresh_sqlite(tmp_path / f"{file_format}.sqlite"))
        there = local_member(other, "main", create=True)
        for new in (3, 0):
            with out.open("rb") as stream:
                done = importing.import_stream(other, there, "raw", stream, out.name)
            assert (done.new, done.bad) == (new, [])
        with Store(other.place) as copied:
            assert shares(copied) == shares(store) and shares(copied)["Q?"][1] == pytest.approx(0.85)
        other.close()
