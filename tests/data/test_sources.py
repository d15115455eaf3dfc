"""Files of every kind, patterns, hub data sets; and one sentence for each way in which they can be unreadable."""

from __future__ import annotations

import gzip
import json
import sys
import types
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.data.kit import write_jsonl
from tutelage.data.reading import rows as reading
from tutelage.data.reading.rows import BadRow, Row
from tutelage.data.reading.sources import local_paths, read_rows
from tutelage.records import Place

ROWS = [{"text": "ä cat"}, {"text": "a dog"}]


def columns(source: object) -> list[dict]:
    return [row.columns for row in read_rows(source)]  # type: ignore[arg-type]


def test_every_kind_of_file(tmp_path: Path) -> None:
    parquet = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), parquet)
    array = tmp_path / "a.json"
    array.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    text = tmp_path / "a.txt"
    text.write_text("ä cat\n<|endoftext|>\na dog\n", encoding="utf-8")
    files = [
        write_jsonl(tmp_path / f"a{i}{end}", ROWS)
        for i, end in enumerate([".jsonl", ".jsonl.gz", ".json", ".ndjson"])
    ]
    for path in [*files, parquet, array, packed, text]:
        assert columns(path) == ROWS, path


def test_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert list(read_rows(tmp_path / "a.txt")) == [
        Row(Place(f"{tmp_path}/a.txt", 1, "document"), {"text": "one\n\ntwo"})
    ]


def test_several_and_patterns_in_name_order(tmp_path: Path) -> None:
    second, first = (write_jsonl(tmp_path / name, [{"text": name}]) for name in ("b.jsonl", "a.jsonl"))
    assert [row["text"] for row in columns(str(tmp_path / "*.jsonl"))] == ["a.jsonl", "b.jsonl"]
    assert [row["text"] for row in columns([second, str(first)])] == ["b.jsonl", "a.jsonl"]
    assert local_paths([tmp_path / "*.jsonl", "hub:owner/name"]) == [first, second]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    assert columns(write_jsonl(tmp_path / "a[1].jsonl", ROWS)) == ROWS


def test_blank_lines_byte_order_mark_and_nulls(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a", "task": null}\n\n{"text": "b"}\n')
    assert [(str(row.place)[-6:], row.columns) for row in read_rows(path)] == [
        ("line 1", {"text": "a"}),
        ("line 3", {"text": "b"}),
    ]


@pytest.mark.parametrize("block", [1, 2, 7, 13, 2**20])
def test_text_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(reading, "BLOCK", block)
    mark = reading.DOCUMENT_SEPARATOR
    texts = [
        "\ufeffone é",
        "",
        mark.join(["a\n\n", " \n", f"{mark[:-1]} naïve 猫{mark[1:]}", "", "🙂", "d\n"]),
    ]
    for text in [*texts, mark + texts[2], texts[2] + mark, mark[:5], "x" * 50 + mark + mark + "y" * 50]:
        path = tmp_path / "a.txt"
        path.write_text(text + "end", encoding="utf-8")
        whole = (text + "end").removeprefix("\ufeff").split(mark)
        assert [(str(row.place), row.columns["text"]) for row in read_rows(path)] == [
            (f"{path} document {n}", part.strip("\n")) for n, part in enumerate(whole, 1) if part.strip()
        ]
    for at in (0, 6, 13, 40):
        path.write_bytes("é".encode() * at + b"\xff after")
        with pytest.raises(ValueError, match=rf"a.txt: not UTF-8 text \(byte {2 * at}\): save"):
            list(read_rows(path))
    path.write_bytes("é".encode()[:1])
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 0\)"):
        list(read_rows(path))


def test_lines_are_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\nnot json\n')
    rows = read_rows(path)
    assert next(rows).columns == {"text": "a"}
    bad = next(rows)
    assert isinstance(bad, BadRow) and bad.stops and bad.place == Place(str(path), 2)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.json", b'[{"text": "a"},\n {"text": }]', ["a.json line 2: malformed JSON"]),
        ("a.jsonl", b"", ["a.jsonl is empty"]),
        ("a.jsonl", b"\n\n", ["a.jsonl is empty"]),
        ("a.json", b"[]", ["a.json is empty"]),
        ("a.txt", b" \n", ["a.txt is empty"]),
        ("a.jsonl.gz", b"not gzip", ["a.jsonl.gz is not a complete gzip file", "download it again"]),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-9],
            ["a.jsonl.gz is not a complete gzip file"],
        ),
        ("a.parquet", b"not parquet", ["a.parquet is not a readable parquet file"]),
        ("a.xlsx", b"text\na\n", ["a.xlsx is of an unknown kind", ".jsonl", ".parquet"]),
        ("a.parquet.gz", b"", ["a.parquet.gz is of an unknown kind"]),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        list(read_rows(tmp_path / name))
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [] and "\n" not in message, message


@pytest.mark.parametrize(
    ("content", "place", "why", "stops"),
    [
        (
            b'{"text": "a"}\n{"text": "b"\n',
            "line 2",
            "malformed JSON (Expecting ',' delimiter, column 13): a file",
            True,
        ),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2", "not UTF-8 text (byte 10): save", True),
        (b'{"text": 1e999}\n{"text": Infinity}\n', "line 2", "malformed JSON (Infinity is no number", True),
        (b'{"text": "a"}\n3\n', "line 2", "that is a number, not an object such as", False),
        (b'[{"text": "a"}, "b"]', "row 2", "that is a text, not an object such as", False),
        (b'{"text": "a"}\n["b"]\n', "line 2", "that is a list, not an object such as", False),
        (b'{"text": "a"}\n{"text": "\\ud83d"}', "line 2", "with half a character (\\ud83d)", False),
    ],
)
def test_rows_that_cannot_be_read(tmp_path: Path, content: bytes, place: str, why: str, stops: bool) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    good, bad = read_rows(tmp_path / "a.jsonl")
    assert isinstance(good, Row) and isinstance(bad, BadRow)
    assert str(bad.place) == f"{tmp_path}/a.jsonl {place}" and why in bad.why and bad.stops is stops


def test_an_escaped_pair_of_halves_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude42"}\n')
    assert columns(tmp_path / "a.jsonl") == [{"text": "🙂"}]


def test_weights_repeat_rows_or_leave_some_out(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", [{"text": f"a{i}"} for i in range(4)])
    second = write_jsonl(tmp_path / "b.jsonl", [{"text": f"b{i}"} for i in range(4)])
    found = list(read_rows([f"{first}*2", f"{second}*0.5"]))
    assert [row.columns["text"] for row in found if isinstance(row, Row)] == [
        *(f"a{i}" for i in range(4) for _ in range(2)),
        "b1",
        "b3",
    ]
    assert [row.place.copy for row in found] == [0, 1] * 4 + [0, 0]
    assert len(columns(f"{first}*1.5")) == 6 and len(columns([f"{tmp_path}/*.jsonl*3"])) == 24
    named = tmp_path / "c.jsonl*2"  # a file that is really called so
    named.write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match=r"c\.jsonl\*2 is of an unknown kind"):
        columns(str(named))
    with pytest.raises(ValueError, match="a weight of 0 leaves nothing"):
        columns(f"{first}*0")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the file .*absent\.jsonl does not exist"):
        list(read_rows(tmp_path / "absent.jsonl"))
    with pytest.raises(ValueError, match=r"no file matches the pattern .*\*\.jsonl"):
        list(read_rows(str(tmp_path / "*.jsonl")))
    with pytest.raises(ValueError, match="is a folder: name its files"):
        list(read_rows(tmp_path))
    with pytest.raises(ValueError, match="no data was given"):
        list(read_rows([]))


# ---- the hub -------------------------------------------------------------------------------------------------------------


def test_hub_reads_what_the_library_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    write_jsonl(tmp_path / "set" / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "set" / "test.jsonl", ROWS[:1])
    assert columns(f"hub:{tmp_path}/set") == ROWS
    assert columns(f"hub:{tmp_path}/set:test") == ROWS[:1]
    with pytest.raises(
        ValueError, match=r"hub data set .*/set \(split nope\) cannot be loaded: .*; check the name"
    ):
        columns(f"hub:{tmp_path}/set:nope")


def test_hub_name_split_and_config_reach_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fake = types.SimpleNamespace(
        load_dataset=lambda name, config, split: calls.append((name, config, split)) or iter(ROWS)
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    rows = list(read_rows("hub:openai/gsm8k:test:main"))
    assert rows[1] == Row(Place("hub:openai/gsm8k:test", 2, "row"), ROWS[1])
    list(read_rows("hub:openai/gsm8k"))
    assert calls == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", None, "train")]


def test_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None, split: str) -> None:
        raise ConnectionError("Couldn't reach the Hub\nmany more lines")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(ValueError) as caught:
        list(read_rows("hub:owner/name"))
    assert str(caught.value) == (
        "the hub data set owner/name (split train) cannot be loaded: Couldn't reach the Hub, and HF_HUB_OFFLINE is "
        "set; check the name and the network, or download it and name the files"
    )
    with pytest.raises(ValueError, match="names no data set"):
        list(read_rows("hub:"))
