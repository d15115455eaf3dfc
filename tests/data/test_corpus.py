"""Small files in every layout that people publish, each with what it says: `corpus/README.md` tells how they are kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tutelage.data.reading.formats import Dropped, Records
from tutelage.data.reading.layouts import Purpose
from tutelage.records import (
    Comparison,
    Conversation,
    Demonstration,
    Document,
    Message,
    Prompt,
    Rating,
    StepMarks,
)

PURPOSES: dict[str, Purpose] = {
    "text": "pretraining text",
    "demonstrations": "demonstrations",
    "prompts": "prompts",
    "comparisons": "comparisons",
    "ratings": "ratings",
    "step_marks": "step marks",
}
PLACES = ("line", "row", "document")
CORPUS = Path(__file__).with_name("corpus")
ENDING, TWIN = ".expected.json", ".twin"
CASES = sorted(str(path.relative_to(CORPUS)).removesuffix(ENDING) for path in CORPUS.glob(f"*/*{ENDING}"))


def test_every_file_has_its_expectation_and_none_is_twice() -> None:
    files = [path for path in CORPUS.glob("*/*") if not path.name.endswith(ENDING)]
    assert len(files) == len(CASES) >= 150
    assert sorted(map(str, (_file(name).relative_to(CORPUS) for name in CASES))) == sorted(
        str(path.relative_to(CORPUS)) for path in files
    )


@pytest.mark.parametrize("name", CASES)
def test_file(name: str, tmp_path: Path) -> None:
    said = json.loads((CORPUS / f"{name}{ENDING}").read_text(encoding="utf-8"))
    path = _made(_file(name), tmp_path)
    asked = [key for key in said if key in PURPOSES]
    assert asked and said.keys() <= {"about", "columns", "unused", *PURPOSES}
    for key, purpose in PURPOSES.items():
        rows: Records[Any] = Records(path, purpose, said.get("columns"))
        found = _read(rows, path)
        if key in said:
            _compare(found, said[key])
        if key == asked[0]:
            assert sorted(rows.unused) == sorted(said.get("unused", []))


def _file(name: str) -> Path:
    """The one file beside an expectation."""
    [path] = (path for path in CORPUS.glob(f"{name}.*") if not path.name.endswith(ENDING))
    return path


def _made(file: Path, folder: Path) -> Path:
    """The file that is read: itself, or what its twin says that it holds."""
    if file.suffix != TWIN:
        return file
    path = folder / file.stem
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(file.read_bytes()))
    else:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def _read(rows: Records[Any], path: Path) -> list[dict[str, Any]] | str:
    """The records as JSON, or the error, which is one sentence that names the file."""
    try:
        return [_shown(row) for row in rows.walk()]
    except ValueError as error:
        assert path.name in str(error) and "\n" not in str(error)
        return str(error)


def _compare(found: list[dict[str, Any]] | str, expected: list[dict[str, Any]] | str) -> None:
    if isinstance(expected, str):
        assert isinstance(found, str), found
        assert expected in found
        return
    assert not isinstance(found, str), found
    for row, wanted in zip(found, expected, strict=False):
        for place in PLACES:
            if place not in wanted:
                row.pop(place, None)
        for reason in ("dropped", "left_out"):
            if reason in row.keys() & wanted.keys() and wanted[reason] in row[reason]:
                row[reason] = wanted[reason]
    assert found == expected


# ---- records as the expectations write them ----------------------------------------------------------------------------


def _shown(record: Any) -> dict[str, Any]:
    """A record as JSON; what is as usual (finish "eos", p_chosen 1, ...) is left out."""
    assert record.place is not None
    return {record.place.unit: record.place.number} | _said(record)


def _said(record: Any) -> dict[str, Any]:
    match record:
        case Dropped():
            return {"left_out" if record.meant else "dropped": record.reason}
        case Document():
            return _unusual(text=record.text, finish=record.finish)
        case Conversation():
            return _unusual(turns=list(map(_turn, record.messages)), tools=list(record.tools))
        case Prompt():
            content = record.content
            found = content if isinstance(content, str) else list(map(_turn, content))
            rest = {"task": record.task, "reference": record.reference, "tools": list(record.tools)}
            return _unusual(prompt=found, **rest)
        case Demonstration():
            return _said(record.prompt) | _unusual(response=record.response, finish=record.finish)
        case Comparison():
            numbers = _unusual(p_chosen=record.p_chosen, margin=record.margin)
            numbers |= _unusual(weight=record.weight, group=record.group)
            ends = _unusual(chosen_finish=record.chosen_finish, rejected_finish=record.rejected_finish)
            sides = {"chosen": record.chosen, "rejected": record.rejected}
            return _said(record.prompt) | sides | numbers | ends
        case Rating():
            rest = _unusual(annotator=record.annotator, finish=record.finish)
            return _said(record.prompt) | {"response": record.response, "values": dict(record.values)} | rest
        case StepMarks():
            rest = _unusual(finish=record.finish, soft=record.soft, outcome=record.outcome)
            return _said(record.prompt) | {"steps": list(record.steps), "labels": list(record.labels)} | rest
    raise AssertionError(record)


def _turn(message: Message) -> dict[str, Any]:
    calls = [
        _unusual(name=call.name, arguments=dict(call.arguments), id=call.id) for call in message.tool_calls
    ]
    rest = {"calls": calls, "name": message.name, "tool_call_id": message.tool_call_id}
    return {message.role: message.content} | _unusual(**rest, trained=message.trained)


USUAL = {
    "soft": False,
    "outcome": None,
    "finish": "eos",
    "chosen_finish": "eos",
    "rejected_finish": "eos",
    "p_chosen": 1.0,
    "margin": 0.0,
    "weight": 1.0,
    "group": "",
    "trained": True,
}
ALWAYS = ("text", "turns", "prompt", "response", "arguments")


def _unusual(**found: Any) -> dict[str, Any]:
    kept = {}
    for key, value in found.items():
        usual = value == USUAL[key] if key in USUAL else value in (None, "", [])
        if key in ALWAYS or not usual:
            kept[key] = value
    return kept
