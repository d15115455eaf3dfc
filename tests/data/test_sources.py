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
from tutelage.data import sources
from tutelage.data.reading.sources import Row, local_paths, read_rows

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
        Row(f"{tmp_path}/a.txt document 1", {"text": "one\n\ntwo"})
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
    assert [(row.where[-6:], row.columns) for row in read_rows(path)] == [
        ("line 1", {"text": "a"}),
        ("line 3", {"text": "b"}),
    ]


@pytest.mark.parametrize("block", [1, 2, 7, 13, 2**20])
def test_text_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(sources, "BLOCK", block)
    mark = sources.DOCUMENT_SEPARATOR
    texts = [
        "\ufeffone é",
        "",
        mark.join(["a\n\n", " \n", f"{mark[:-1]} naïve 猫{mark[1:]}", "", "🙂", "d\n"]),
    ]
    for text in [*texts, mark + texts[2], texts[2] + mark, mark[:5], "x" * 50 + mark + mark + "y" * 50]:
        path = tmp_path / "a.txt"
        path.write_text(text + "end", encoding="utf-8")
        whole = (text + "end").removeprefix("\ufeff").split(mark)
        assert [(row.where, row.columns["text"]) for row in read_rows(path)] == [
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
    with pytest.raises(ValueError, match="line 2"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', ["a.jsonl line 2: malformed JSON", "column"]),
        ("a.jsonl", b'{"text": "a"}\n3\n', ["a.jsonl line 2: expected a JSON object", "found a int"]),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ["a.jsonl line 2: not UTF-8 text"]),
        ("a.json", b'[{"text": "a"},\n {"text": }]', ["a.json line 2: malformed JSON"]),
        ("a.json", b'[{"text": "a"}, "b"]', ["a.json row 2: expected a JSON object", "found a str"]),
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
        ("a.csv", b"text\na\n", ["a.csv is of an unknown kind", ".jsonl", ".parquet"]),
        ("a.parquet.gz", b"", ["a.parquet.gz is of an unknown kind"]),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        list(read_rows(tmp_path / name))
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [] and "\n" not in message, message


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
    assert rows[1] == Row("hub:openai/gsm8k:test row 2", ROWS[1])
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
