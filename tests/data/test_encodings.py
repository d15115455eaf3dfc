"""Text in any encoding: by its mark or by name; what is none is a bad row, and nothing is replaced."""

from __future__ import annotations

import io
import json

import pytest

from tutelage.data.reading.encodings import likely
from tutelage.data.reading.rows import BadRow, Row, read_stream

ROWS = [{"prompt": "Grüße?", "response": "naïve café €"}, {"prompt": "two", "response": "b"}]
TABLE = "prompt;response\r\n" + "".join(f"{row['prompt']};{row['response']}\r\n" for row in ROWS)
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(content: bytes, name: str, encoding: str = "auto") -> list[Row | BadRow]:
    return list(read_stream(io.BytesIO(content), name, encoding))


def columns(rows: list[Row | BadRow]) -> list[dict[str, str]]:
    return [row.columns for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [("utf-8", "auto"), ("utf-8-sig", "auto"), ("utf-16", "auto"), ("utf-32", "auto"), ("windows-1252", "windows-1252"),
     ("utf-16-le", "utf-16-le"), ("iso-8859-15", "iso-8859-15")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("text", "name"),
    [(TABLE, "a.csv"), (LINES, "a.jsonl"), (json.dumps(ROWS, ensure_ascii=False, indent=1), "a.json")],
)
def test_any_encoding(codec: str, encoding: str, text: str, name: str) -> None:
    content = text.encode(codec)
    assert columns(read(content, name, encoding)) == ROWS
    assert likely(content) == {
        "utf-8": "utf-8", "utf-8-sig": "utf-8", "utf-16": "utf-16", "utf-32": "utf-32", "utf-16-le": "utf-16-le",
    }.get(codec, "windows-1252")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [(TABLE, "a.csv"), (LINES, "a.jsonl"), (json.dumps(ROWS, ensure_ascii=False, indent=1), "a.json")],
)
def test_rows_that_are_no_text_are_bad_rows(text: str, name: str) -> None:
    bad, good = read(text.encode("windows-1252"), name)
    assert isinstance(bad, BadRow) and "not UTF-8 text" in bad.why and "name its encoding" in bad.why
    assert columns([good]) == ROWS[1:]


def test_bytes_that_the_named_encoding_does_not_know() -> None:
    found = read(b"prompt,response\na,\x81\nb,c\n", "a.csv", "windows-1252")
    assert isinstance(found[0], BadRow) and "not windows-1252 text" in found[0].why
    assert columns(found) == [{"prompt": "b", "response": "c"}]
    cut = read(LINES.encode("utf-16")[:-5], "a.jsonl")
    assert columns(cut) == ROWS[:1] and isinstance(cut[1], BadRow)
    with pytest.raises(ValueError, match="line 1: not UTF-8 text"):
        read("größe,b\n1,2\n".encode("windows-1252"), "a.csv")
    with pytest.raises(ValueError, match="encoding=klingon is not known"):
        read(b"a", "a.csv", "klingon")
