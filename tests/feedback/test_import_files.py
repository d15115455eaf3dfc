"""What trainers read, the import reads: every kind of file and layout; and what no database keeps is refused, row by row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import resource
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from rich.console import Console

from tests.databases import fresh_sqlite
from tutelage.data.reading.formats import read_comparisons, read_prompts
from tutelage.feedback.commands import importing as import_command
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported, Kind
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackImportSettings
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import PromptRow, ResponseRow


@pytest.fixture
def who(database: Database) -> Member:
    return local_member(database, "main", create=True)


def take(
    database: Database, who: Member, kind: Kind, content: Any, name: str = "rows.jsonl", **columns: str
) -> Imported:
    """Import bytes, or rows as lines of JSON."""
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content).encode()
    return importing.import_stream(database, who, kind, io.BytesIO(content), name, columns)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def table(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


# kinds of files ------------------------------------------------------------------------------------------------------

PAIRS = [{"prompt": f"Q{n}, \u2028?", "chosen": "A\nB", "rejected": "C", "p_chosen": 0.75} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in PAIRS).encode()
FILES = {
    "rows.jsonl": LINES,
    "bom.jsonl": b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n"),
    "rows.jsonl.gz": gzip.compress(LINES),
    "array.json": json.dumps(PAIRS).encode(),
    "pretty.json": json.dumps(PAIRS, indent=2).encode(),
    "wrapped.json": json.dumps({"version": 1, "data": PAIRS}).encode(),
    "rows.csv": table(PAIRS, ","),
    "rows.tsv": table(PAIRS, "\t"),
    "rows.csv.gz": gzip.compress(table(PAIRS, ";")),
    "rows.parquet": parquet(PAIRS),
}


@pytest.mark.parametrize("name", FILES)
def test_any_kind_of_file(store: Store, database: Database, who: Member, name: str) -> None:
    done = take(database, who, "preference", FILES[name], name)
    assert (done.new, done.bad, done.unused) == (3, [], {})
    found = {
        (row.prompt.content, row.chosen, row.rejected, row.p_chosen) for row in store.comparisons("main")
    }
    assert found == {(row["prompt"], "A\nB", "C", 0.75) for row in PAIRS}
    assert take(database, who, "preference", FILES[name], name).there == 3


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("rows.xlsx", b"x", "rows.xlsx is of an unknown kind: files end in one of"),
        ("rows.jsonl.gz", gzip.compress(LINES, mtime=0)[:-20], "not a complete gzip file"),
        ("rows.parquet", FILES["rows.parquet"][:-9], "rows.parquet is not a readable parquet file"),
        ("rows.json", b'[{"prompt": "a"}, {"prompt"', "rows.json line 1: malformed JSON"),
        ("rows.jsonl", b"\n\n", "rows.jsonl is empty"),
    ],
)  # fmt: skip
def test_what_stops_a_whole_file_is_one_sentence(
    database: Database, who: Member, name: str, content: bytes, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        take(database, who, "prompts", content, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [b"{", b'{"prompt": "cut', b"[1]", b"null", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}']
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_stops_nothing(
    store: Store, database: Database, who: Member, bad: bytes, place: int
) -> None:
    lines = [b'{"prompt": "a"}', b'{"prompt": "b"}']
    lines.insert(place, bad)
    done = take(database, who, "prompts", b"\n".join(lines))
    assert (done.new, [(entry.line, entry.unit) for entry in done.bad]) == (2, [(place + 1, "line")])
    assert "rows.jsonl" not in done.bad[0].why and "\n" not in done.bad[0].why


def test_rows_of_arrays_are_counted_as_rows(database: Database, who: Member) -> None:
    done = take(database, who, "prompts", b'[{"prompt": "a"},\n\n 5, {"prompt": "b"}]', "rows.json")
    assert [(entry.line, entry.unit) for entry in done.bad] == [(2, "row")] and done.new == 2


# layouts: as trainers read them --------------------------------------------------------------------------------------

USER, GOOD, BAD = (
    {"role": "user", "content": "Q?"},
    {"role": "assistant", "content": "good"},
    {"role": "assistant", "content": "bad"},
)
COMPARISONS = {
    "hh": {"chosen": "\n\nHuman: Q?\n\nAssistant: good", "rejected": "\n\nHuman: Q?\n\nAssistant: bad"},
    "ultrafeedback": {"prompt": "Q?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "trl chat": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "trl whole": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "alpaca": {"instruction": "Q?", "input": "", "chosen": "good", "rejected": "bad"},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q?"}], "chosen": {"from": "gpt", "value": "good"},
                 "rejected": {"from": "gpt", "value": "bad"}},
    "openai": {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "helpsteer": {"prompt": "Q?", "response_1": "good", "response_2": "bad", "preference_strength": -2},
}  # fmt: skip


@pytest.mark.parametrize("layout", COMPARISONS)
def test_comparisons_in_any_layout(
    store: Store, database: Database, who: Member, tmp_path: Path, layout: str
) -> None:
    row = COMPARISONS[layout]
    done = take(database, who, "preference", [row])
    assert (done.new, done.bad) == (1, [])
    (found,) = store.comparisons("main")
    assert (found.prompt.text(), found.chosen, found.rejected) == ("user: Q?", "good", "bad")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (read,) = read_comparisons(tmp_path / "rows.jsonl")
    assert found == read


RESPONSES = {
    "own": {"prompt": [USER], "response": "good"},
    "sft export": {"prompt": [USER], "completion": [GOOD], "task": "", "reference": None},
    "unpaired export": {"prompt": [USER], "completion": [GOOD], "label": False},
    "alpaca": {"instruction": "Q?", "input": "", "output": "good"},
    "messages": {"messages": [USER, GOOD]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "good"}]},
    "dolly": {"instruction": "Q?", "context": "", "response": "good", "category": "x"},
}


@pytest.mark.parametrize("layout", RESPONSES)
def test_responses_and_scores_in_any_layout(
    store: Store, database: Database, who: Member, layout: str
) -> None:
    provenance = {
        "model": "m",
        "params": {"t": 1},
        "finish": "length",
        "n_tokens": 7,
        "logprob": -2.5,
        "split": "test",
    }
    done = take(database, who, "responses", [RESPONSES[layout] | provenance])
    assert (done.new, done.bad) == (1, [])
    with database.read() as connection:
        row = connection.execute(ResponseRow.__table__.select()).one()
        prompt = connection.execute(PromptRow.__table__.select()).one()
    assert (row.text, row.finish_reason, row.n_tokens, row.logprob) == ("good", "length", 7, -2.5)
    assert (prompt.content, prompt.split) == ([USER], "test")
    scored = take(database, who, "scores", [RESPONSES[layout] | {"score": "0.5", "source": "rm"}])
    assert (scored.new, scored.bad) == (1, [])


def test_several_outputs_are_several_responses(store: Store, database: Database, who: Member) -> None:
    done = take(database, who, "responses", [{"instruction": "Q?", "output": ["a", "b"]}])
    assert done.new == 1 and store.counts("main").responses == 2
    one = take(database, who, "responses", [{"instruction": "Q?", "output": ["a", "b"], "sample_index": 1}])
    assert "several responses and one sample_index" in one.bad[0].why


def test_the_same_text_cut_and_whole_are_two_responses(store: Store, database: Database, who: Member) -> None:
    rows = [{"prompt": "Q?", "response": "a", "finish": end} for end in ("eos", "length", "stop")]
    assert (take(database, who, "responses", rows).new, store.counts("main").responses) == (2, 2)
    pair = {"prompt": "Q?", "chosen": "a", "rejected": "b", "chosen_finish": "length"}
    assert take(database, who, "preference", [pair]).new == 1
    assert store.comparisons("main")[0].chosen_finish == "length" and store.counts("main").responses == 3
    assert (
        "ended by 'eos', but in the project's pair"
        in take(database, who, "preference", [pair | {"chosen_finish": "eos"}]).bad[0].why
    )


@pytest.mark.parametrize(
    ("kind", "row", "why"),
    [
        ("responses", {"prompt": "Q?", "chosen": "a", "rejected": "b"}, "that compares two responses: import it with"),
        ("responses", {"messages": [USER]}, "with no assistant turn"),
        ("responses", {"text": "hm"}, "found the columns text"),
        ("preference", {"prompt": "Q?", "good": "a", "rejected": "b"}, "columns={"),
        ("preference", {"prompt": "Q?", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same text"),
        ("preference", {"prompt": "Q?", "chosen": "a", "rejected": "b", "p_chosen": 1.5}, "a row whose p_chosen is 1.5"),
        ("scores", {"prompt": "Q?", "response": "a"}, "score: Field required"),
        ("prompts", {"prompt": "  "}, "a row with an empty prompt"),
    ],
)  # fmt: skip
def test_rows_that_hold_something_else(
    database: Database, who: Member, kind: Kind, row: Any, why: str
) -> None:
    done = take(database, who, kind, [row, row])
    assert done.new == 0 and [why in bad.why for bad in done.bad] == [True, True]


def test_columns_under_other_names(store: Store, database: Database, who: Member) -> None:
    rows = [{"q": {"text": "Q?"}, "good": "A", "worse": "B", "who": "eve"}]
    names = {"prompt": "q.text", "chosen": "good", "rejected": "worse", "annotator": "who"}
    assert take(database, who, "preference", rows, **names).new == 1
    assert (
        store.comparisons("main")[0].chosen == "A" and store.votes("main")[0].vote.annotator == "eve@import"
    )
    with pytest.raises(ValueError, match="did you mean 'chosen'"):
        take(database, who, "preference", rows, choosen="good")
    with pytest.raises(ValueError, match="columns= is not for kind=raw"):
        take(database, who, "raw", rows, prompt="q")


def test_prompts_in_any_layout(database: Database, who: Member, tmp_path: Path) -> None:
    rows: list[Any] = [
        *COMPARISONS.values(),
        *RESPONSES.values(),
        {"turns": ["Q?"]},
        {"question": "Why?", "answer": "So."},
    ]
    assert take(database, who, "prompts", rows).bad == []
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with database.read() as connection:
        there = {row.digest for row in connection.execute(PromptRow.__table__.select())}
    assert there == {prompt.id for prompt in read_prompts(tmp_path / "rows.jsonl")}


# what no database keeps ----------------------------------------------------------------------------------------------

RAW = {
    "kind": "answer", "item": "0123456789abcdef", "type": "pair", "overlap": 1, "prompt": "p",
    "annotator": "a", "annotator_kind": "judge", "role": "answer",
    "responses": [{"text": t, "sample_index": n, "finish": "eos", "n_tokens": 1, "logprob": None, "model": "m",
                   "model_sha256": "", "engine": "e", "params": {}} for n, t in enumerate("xy")],
    "answer": {"type": "pair", "preference": -1, "reason": "so"}, "shown_order": [1, 0], "key": "0000000000000001",
    "submitted_at": "2026-01-01T00:00:00+00:00",
}  # fmt: skip
WHOLE: dict[Kind, dict[str, Any]] = {
    "prompts": {"prompt": "p", "task": "t", "reference": {"a": ["x"]}, "split": "train"},
    "responses": {"prompt": "p", "response": "r", "model": "m", "params": {"a": "x"}, "engine": "e"},
    "preference": {"prompt": [USER], "chosen": "a", "rejected": "b", "annotator": "n", "item": "i"},
    "scores": {"prompt": "p", "response": "r", "score": 1, "source": "s"},
    "raw": RAW,
    "suggestions": {
        "prompt": "p",
        "responses": ["x", "y"],
        "answer": {"preference": 1},
        "source": "s",
        "score": 1,
    },
}


def spoiled(value: Any, what: str) -> list[Any]:
    """The value with `what` in one text after the other, at any depth."""
    if isinstance(value, str):
        return [value + what]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    made = []
    for key, part in parts:
        for changed in spoiled(part, what):
            copy: Any = value.copy()
            copy[key] = changed
            made.append(copy)
    return made


@pytest.mark.parametrize("kind", WHOLE)
def test_a_nul_is_refused_with_its_line_wherever_it_is(database: Database, who: Member, kind: Kind) -> None:
    fine = WHOLE[kind]
    if kind == "scores":
        take(database, who, "responses", [{"prompt": "p", "response": "r"}])
    if kind == "suggestions":
        take(database, who, "preference", [{"prompt": "p", "chosen": "x", "rejected": "y"}])
    rows = [*spoiled(fine, "\0"), fine]
    done = take(database, who, kind, rows)
    assert (done.new, [entry.line for entry in done.bad]) == (1, list(range(1, len(rows))))
    assert all("a NUL character" in entry.why for entry in done.bad)


@pytest.mark.parametrize("what", ["\\u0000", "\\ud800"])
def test_json_as_text_hides_nothing(database: Database, who: Member, what: str) -> None:
    cell = f'[{{"role": "user", "content": "a{what}"}}]'
    done = take(database, who, "prompts", table([{"prompt": cell}, {"prompt": "b"}], ","), "rows.csv")
    assert done.new == 1 and len(done.bad) == 1


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("responses", {"n_tokens": 999_999_999}), ("responses", {"n_tokens": -1}), ("responses", {"sample_index": 2**40}),
        ("responses", {"logprob": -1e300}), ("responses", {"params": {"a": 1e999}}), ("responses", {"params": [1]}),
        ("preference", {"margin": 1e99}), ("preference", {"margin": "much"}), ("preference", {"p_chosen": -0.1}),
        ("scores", {"score": 1e40}), ("scores", {"score": True and "high"}), ("prompts", {"split": "s" * 999}),
        ("raw", {"overlap": 2**40}), ("raw", {"shown_order": [2**70, 0]}), ("raw", {"active_ms": 2**31}),
        ("raw", {"submitted_at": "2026-01-01T00:00:00"}), ("raw", {"submitted_at": "0001-01-01T00:00:00+14:00"}),
        ("raw", {"share": 0.2}), ("raw", {"share": 0.5}), ("raw", {"prompt": [{"content": 5}]}), ("raw", {"questions": 2**33}),
        ("prompts", {"prompt": "x" * 4_000_001}), ("prompts", {"reference": {"a": 10**400}}),
        ("prompts", {f"c{n}": n for n in range(1_001)}),
        ("responses", {"sample_index": 2**31 - 1}), ("responses", {"params": {"t": -1e301}}),
        ("responses", {"response": [f"r{n}" for n in range(1_001)]}),
        ("raw", {"overlap": 10_001}), ("raw", {"active_ms": 86_400_001}), ("raw", {"supersedes": "s" * 201}),
        ("raw", {"responses": RAW["responses"] * 51}), ("raw", {"store": "no hex"}),
        ("suggestions", {"score": 1e10}), ("suggestions", {"answer": {"preference": 4}}),
    ],
)  # fmt: skip
def test_numbers_have_bounds(database: Database, who: Member, kind: Kind, change: dict[str, Any]) -> None:
    done = take(database, who, kind, json.dumps(WHOLE[kind] | change).encode())
    assert done.new == 0 and len(done.bad) == 1 and "\n" not in done.bad[0].why
    assert not done.bad[0].why.startswith("the database"), "said before a database has to"


def test_as_many_tokens_as_are_allowed_cost_no_memory(database: Database, who: Member) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert take(database, who, "responses", [WHOLE["responses"] | {"n_tokens": 100_000_000}]).new == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_infinite_scores_are_no_ties(store: Store, database: Database, who: Member) -> None:
    row = '{"question": "q", "answer_0": "a", "answer_1": "b", "score_0": "1e999999", "score_1": "1e999999"}'
    assert "must be a number" in take(database, who, "preference", row.encode()).bad[0].why
    assert store.counts("main").votes == 0


def test_a_row_of_numbers_is_long_too(
    database: Database, who: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.feedback.imports.lines.LONGEST", 1_000)
    done = take(database, who, "prompts", [{"prompt": "p", "reference": {"a": [1] * 1_001}}])
    assert "longer than 1,000" in done.bad[0].why


def test_one_pair_takes_so_many_votes(
    database: Database, who: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.feedback.imports.rows.MOST_VOTES", 3)
    done = take(database, who, "preference", [{"prompt": "p", "chosen": "a", "rejected": "b"}] * 5)
    assert done.new == 3 and ["at most 3 votes" in bad.why for bad in done.bad] == [True, True]


def test_nesting_ends_somewhere(database: Database, who: Member) -> None:
    deep = json.dumps({"prompt": "p", "reference": {"a": 1}}).replace("1", "[" * 500 + "]" * 500)
    fine = json.dumps({"prompt": "p", "reference": {"a": 1}}).replace("1", "[" * 50 + "]" * 50)
    done = take(database, who, "prompts", f"{deep}\n{fine}".encode())
    assert done.new == 1 and "nested" in done.bad[0].why


# the command ---------------------------------------------------------------------------------------------------------


def test_the_command_says_what_came_of_it(tmp_path: Path) -> None:
    store, file = fresh_sqlite(tmp_path / "store.sqlite"), tmp_path / "rows.csv"
    rows = [{"q": f"Q{n}", "a": "A" if n > 30 else "same", "b": "same", "note": "x"} for n in range(40)]
    file.write_bytes(table(rows, ","))
    names = {"prompt": "q", "chosen": "a", "rejected": "b"}
    sink = io.StringIO()
    settings = FeedbackImportSettings(store=str(store), file=file, kind="preference", columns=names)
    with pytest.raises(ValueError, match=r"31 lines of .*rows.csv were not taken: mend them"):
        import_command.main(settings, Console(file=sink, width=200))
    said = sink.getvalue()
    assert "9 lines are new" in said and "'note' of 9 rows was not used" in said and "and 11 more" in said
    assert said.count("the same text") == import_command.SHOWN
