"""Rows of a file for people: what would be stored of each, before anything is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.rows import BadRow, Row
from tutelage.feedback.imports.lines import (
    Kind,
    Line,
    PreferenceLine,
    PromptLine,
    RawAnswer,
    ResponseLine,
    ScoreLine,
    SuggestionLine,
    parse_row,
    why_not,
)
from tutelage.records import Prompt

LONGEST = 300  # characters of a text


def understood(kind: Kind, row: Row | BadRow, columns: Mapping[str, str]) -> dict[str, Any]:
    """{line, unit, parts: {name: text}, unused: [names]}, or {line, unit, why} for a row that says nothing of this kind."""
    place: dict[str, Any] = {"line": row.place.number, "unit": row.place.unit}
    if isinstance(row, BadRow):
        return place | {"why": row.why if row.stops else f"a row {row.why}"}
    try:
        lines, unused = parse_row(kind, row, columns)
    except (ValueError, Skip) as error:
        return place | {"why": why_not(error, row.place)}
    found = {name: _short(text) for name, text in _parts(lines[0]).items() if text} if lines else {}
    if len(lines) > 1:
        found["and"] = f"{len(lines) - 1} more like this"
    return place | {"parts": found, "unused": unused}


def _parts(line: Line) -> dict[str, str]:
    if isinstance(line, PromptLine):
        return {"prompt": line.prompt.text(), "split": line.split}
    if isinstance(line, ResponseLine):
        who = {"model": line.said.model, "split": line.said.split}
        return {"prompt": line.prompt.text(), "response": line.text, **who}
    if isinstance(line, PreferenceLine):
        pair = line.comparison
        share = {"p_chosen": f"{pair.p_chosen:g}"} if line.counted else {}
        who = {"annotator": line.said.annotator, "split": line.said.split}
        return {
            "prompt": pair.prompt.text(),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            **share,
            **who,
        }
    if isinstance(line, ScoreLine):
        score = {"score": f"{line.said.score:g}", "source": line.said.source}
        return {"prompt": line.prompt.text(), "response": line.text, **score}
    if isinstance(line, SuggestionLine):
        about = {"prompt": line.prompt.text()} if line.prompt else {"item": line.said.item}
        return {**about, "answer": str(line.said.answer), "source": line.said.source}
    if isinstance(line, RawAnswer):
        prompt = _prompt(line)
        return {"prompt": prompt, "type": line.type, "annotator": line.annotator, "answer": str(line.answer)}
    return {"version": f"{line.kind} {line.n}"}


def _prompt(line: RawAnswer) -> str:
    try:
        found: Prompt | None = line.to_prompt()
    except ValueError:
        found = None
    return "" if found is None else found.text()


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
