"""Kinds of files: what a spreadsheet may not take for a formula, types that no order of rows changes, readers for each."""

from __future__ import annotations

import csv
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.kit import start, vote
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.data.reading.formats import read_comparisons, read_demonstrations
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec
from tutelage.feedback.exports.files import COLUMNS, FORMULA, cell, escaped, write_rows
from tutelage.feedback.exports.foreign import FOREIGN
from tutelage.feedback.people.access import Member
from tutelage.files import sha256_of
from tutelage.records import Comparison, Message, Prompt
from tutelage.store import Store
from tutelage.store.database import Database

CHAT = Prompt((Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "=1+1")), "sums")
PLAIN = Prompt("How many?", "maths", {"answer": {"n": 3}})
ROWS = [
    Comparison(PLAIN, "-1", "=HYPERLINK(A1)", 0.75, 0.5, "eos", "length").to_json() | {"item": "a", "split": "train"},
    Comparison(Prompt("Two\nlines, \"quoted\""), "@you", "", 1.0).to_json() | {"item": "b", "split": "train"},
    Comparison(CHAT, "2", "'=2").to_json() | {"item": "c", "split": "train"},
]  # fmt: skip


def written(tmp_path: Path, rows: list[dict[str, Any]], file_format: str, **spec: Any) -> Path:
    path = tmp_path / f"rows.{file_format}"
    count = write_rows(path, rows, ExportSpec(file_format=file_format, **spec), ("overall", "tone"))
    assert count == len(rows)
    return path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\rx", "'\rx"),
        ("＝1+1", "'＝1+1"),
        ("'=1", "''=1"),  # so that reading takes away what writing put there, and nothing else
        ("'tis", "'tis"),
        ("-1", "-1"),
        ("+1.5e-3", "+1.5e-3"),
        ("-", "'-"),
        (" =1", " =1"),
        (-1, "-1"),
        (-0.25, "-0.25"),
        (True, "true"),
        (None, ""),
        ({"a": [1, "=x"]}, '{"a": [1, "=x"]}'),
    ],
)
def test_cells(value: Any, expected: str) -> None:
    assert cell(value) == expected


@given(st.text(alphabet="'=+-@\t\r\n1.ea＝") | st.text())
def test_escaping_is_undone_and_leaves_no_formula(text: str) -> None:
    found = escaped(text)
    assert (found[1:] if found.startswith("'") and FORMULA.match(found) else found) == text
    if found[:1] in tuple("=+-@\t\r＝＋－＠"):
        float(found)  # a plain number, or this raises


def test_csv_by_hand(tmp_path: Path) -> None:
    chat = json.dumps(CHAT.content_json()).replace('"', '""')
    answers = [
        json.dumps([{"role": "assistant", "content": text}]).replace('"', '""') for text in ("2", "'=2")
    ]
    assert written(tmp_path, ROWS, "csv").read_bytes().decode() == (
        "prompt,chosen,rejected,task,reference,p_chosen,margin,chosen_finish,rejected_finish,item,split\r\n"
        'How many?,-1,\'=HYPERLINK(A1),maths,"{""answer"": {""n"": 3}}",0.75,0.5,eos,length,a,train\r\n'
        '"Two\nlines, ""quoted""",\'@you,,,,1.0,0.0,eos,eos,b,train\r\n'
        f'"{chat}","{answers[0]}","{answers[1]}",sums,,1.0,0.0,eos,eos,c,train\r\n'
    )


def test_ratings_have_a_column_per_criterion(tmp_path: Path) -> None:
    start = {"prompt": "p", "task": "", "reference": None, "response": "r", "response_finish": "eos"}
    start |= {"item": "i", "split": "train", "slot": 0}
    rows = [start | {"n": 2, "values": {"tone": -1.5}}, start | {"n": 1, "values": {"tone": 2, "overall": 7}}]
    found = written(tmp_path, rows, "csv", format="ratings").read_text().splitlines()
    assert found == [
        "prompt,task,reference,response,response_finish,item,split,slot,n,rating_overall,rating_tone",
        "p,,,r,eos,i,train,0,2,,-1.5",
        "p,,,r,eos,i,train,0,1,7,2",
    ]
    table = pq.read_table(written(tmp_path, rows, "parquet", format="ratings"))
    assert table.column("rating_overall").to_pylist() == [None, 7.0]
    assert table.schema.field("rating_tone").type == pa.float64()


def test_parquet_types_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    schemas = set()
    for order in permutations(ROWS):
        table = pq.read_table(written(tmp_path, list(order), "parquet"))
        schemas.add(str(table.schema))
        assert sorted(table.column("p_chosen").to_pylist()) == [0.75, 1.0, 1.0]
    assert len(schemas) == 1
    assert "prompt: list<element: struct<role: string, content: string>>" in schemas.pop()


def test_parquet_is_read_as_what_was_written(tmp_path: Path) -> None:
    plain, chat = ROWS[:2], ROWS[2:]
    for rows in (plain, chat):
        as_lines, as_parquet = (written(tmp_path, rows, kind) for kind in ("jsonl", "parquet"))
        assert list(read_comparisons(str(as_parquet))) == list(read_comparisons(str(as_lines)))
    mixed = list(read_comparisons(str(written(tmp_path, ROWS, "parquet"))))
    assert mixed[0].prompt == Prompt((Message("user", "How many?"),), "maths", {"answer": {"n": 3}})
    assert [row.chosen for row in mixed] == ["-1", "@you", "2"] and mixed[2].prompt == CHAT


@pytest.mark.parametrize("format", COLUMNS)
def test_a_file_without_rows_is_readable(tmp_path: Path, format: str) -> None:
    table = pq.read_table(written(tmp_path, [], "parquet", format=format, aggregation="all"))
    assert table.num_rows == 0 and table.column_names == list(COLUMNS[format])
    (header,) = csv.reader(written(tmp_path, [], "csv", format=format, aggregation="all").open())
    assert header == list(COLUMNS[format])


@pytest.mark.slow
def test_every_format_in_every_kind_of_file(
    database: Database, store: Store, busy: Member, tmp_path: Path
) -> None:
    for format in (name for name in COLUMNS if name not in FOREIGN):  # these: test_foreign_exports
        spec = {"format": format, "aggregation": "majority" if format == "sft" else "all", "neutral": "true"}
        found = {}
        for kind in ("jsonl", "parquet", "csv"):
            if kind == "csv" and format in ("ranked", "stepwise"):
                with pytest.raises(Refused, match="lists in every row"):
                    exporting.export(
                        database, busy, ExportSpec(**spec, file_format=kind), tmp_path / "no.csv"
                    )
                assert not (tmp_path / "no.csv").exists()
                continue
            chosen = ExportSpec(**spec, file_format=kind)
            done = exporting.export(database, busy, chosen, tmp_path / f"{format}.{kind}")
            manifest = json.loads(done.manifest.read_text())
            assert (manifest["sha256"], manifest["rows"]) == (sha256_of(done.file), done.rows)
            found[kind] = done.file
            assert len(exporting.preview(database, busy, chosen).first) == min(3, done.rows)
        lines = [json.loads(line) for line in found["jsonl"].read_text().splitlines()]
        table = pq.read_table(found["parquet"]).to_pylist()
        assert len(table) == len(lines) > 0
        for row, line in zip(table, lines, strict=True):
            assert {name: value for name, value in row.items() if not same(value, line, name)} == {}
        if "csv" in found:
            with found["csv"].open(newline="") as stream:
                cells = list(csv.DictReader(stream))
            assert len(cells) == len(lines) and list(cells[0]) == list(table[0])
    assert list(read_demonstrations(str(tmp_path / "sft.parquet"))) == list(
        read_demonstrations(str(tmp_path / "sft.jsonl"))
    )


def same(value: Any, line: dict[str, Any], name: str) -> bool:
    """Whether a Parquet cell is what the JSON line has (messages of the only prompts there are, JSON for what nests)."""
    expected = line["values"].get(name[7:]) if name.startswith("rating_") else line.get(name)
    return value == expected or (isinstance(value, str) and json.loads(value) == expected)


def test_the_command_goes_by_the_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], database: Database, store: Store, address: str
) -> None:
    vote(database, start(store, database, prompts=1))
    args = [f"store={address}", "format=raw"]
    for name, kind in (("a.parquet", "parquet"), ("a.CSV", "csv"), ("a.txt", "jsonl")):
        assert run_command(find("feedback export"), [*args, f"out={tmp_path / name}"]) == 0
        manifest = json.loads((tmp_path / f"{name}.manifest.json").read_text())
        assert manifest["spec"]["file_format"] == kind and manifest["rows"] > 0
    capsys.readouterr()
    assert (
        run_command(find("feedback export"), [*args, f"out={tmp_path / 'b.csv'}", "file_format=parquet"]) == 1
    )
    assert "change one of the two" in " ".join(capsys.readouterr().err.split())
