"""Files of outputs: ours, AlpacaEval's, lm-eval's, and rows of prompt and output in general.

`sample`'s samples.jsonl       {"prompt", "response", "finish", ...}
`eval`'s samples.jsonl         {"prompt", "responses": {model: {"text", "finish"}}}: one file, several models
AlpacaEval's outputs           [{"instruction", "output", "generator", "dataset"}]
lm-eval's samples_TASK.jsonl   {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter"}
anything else                  a prompt in any layout that we read, and one of `OUTPUTS`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.layouts import read_columns
from tutelage.data.reading.rows import BadRow, Row
from tutelage.data.reading.sources import Source, read_rows, shown
from tutelage.data.reading.spellings import renamed
from tutelage.evals.overlap.references import texts_of
from tutelage.records import Place, Prompt

OUTPUTS = ("response", "output", "completion", "generated_text", "generation", "prediction", "answer")
REFERENCES = ("references", "reference", "targets", "target")
INSTEAD = ("chosen", "summary", "highlights", *OUTPUTS)  # of a file of references: a good response is one
ENDS = {"eos": True, "stop": True, "length": False}


@dataclass(frozen=True)
class Output:
    """One output.  `key`: what makes prompts the same ("" where the row has none); `asked`: the prompt for people;
    `ended`: whether it ended by itself, None where nobody says."""

    text: str
    key: str
    asked: str
    task: str
    references: tuple[str, ...]
    ended: bool | None
    place: Place


def read(name: str, source: Source, columns: Mapping[str, str]) -> dict[str, list[Output]]:
    """The outputs of a file under the name `name`; of an `eval`'s samples.jsonl one list for each model, NAME/MODEL.

    Raises ValueError for a row that holds no output.
    """
    found: dict[str, list[Output]] = {}
    docs: set[str] = set()
    for row in _rows(source):
        cells = renamed(row.columns, columns)
        if _is_lm_eval(cells):
            if (
                doc := _key_of(cells)
            ) not in docs:  # a task with several filters has every document once for each
                docs.add(doc)
                found.setdefault(name, []).extend(_lm_eval(cells, doc, row.place))
        elif isinstance(cells.get("responses"), dict):
            for model, one in cells["responses"].items():
                found.setdefault(f"{name}/{model}", []).append(_of_eval(cells, one, row.place))
        else:
            found.setdefault(name, []).append(_plain(cells, row))
    if not found:
        raise ValueError(f"{shown(source)} holds no outputs: give a file with one row for each output")
    return found


def read_references(source: Source, columns: Mapping[str, str]) -> list[tuple[str, tuple[str, ...], Place]]:
    """(key, reference texts, place) of each row of a file of references; the key is "" where a row has no prompt."""
    found = []
    for row in _rows(source):
        cells = renamed(row.columns, columns)
        name = next((name for name in (*REFERENCES, *INSTEAD) if name in cells), "")
        if not name:
            raise ValueError(
                f"{row.place} holds no reference: it has the columns {', '.join(cells)}, and a reference stands in one of "
                f"{', '.join((*REFERENCES, *INSTEAD))} (columns={{reference: NAME}} names another)"
            )
        found.append((_prompt(cells, row.place)[0], texts_of(cells[name]), row.place))
    return found


def _rows(source: Source) -> Iterator[Row]:
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place} is a row {row.why}: mend or remove it")
        yield row


def _plain(cells: Mapping[str, Any], row: Row) -> Output:
    name = next((name for name in OUTPUTS if name in cells), "")
    if not name:
        null = next((name for name in OUTPUTS if name in row.nulls), "")
        why = f"{null} is null" if null else f"it has the columns {', '.join(cells) or 'none'}"
        raise ValueError(
            f"{row.place} holds no output: {why}, and an output stands in one of {', '.join(OUTPUTS)} "
            "(columns={output: NAME} names another)"
        )
    key, asked, task = _prompt(cells, row.place)
    return Output(
        _text(cells[name], name, row.place),
        key,
        asked,
        task,
        _references(cells),
        ENDS.get(str(cells.get("finish", cells.get("finish_reason")))),
        row.place,
    )


def _of_eval(cells: Mapping[str, Any], one: Any, place: Place) -> Output:
    if not isinstance(one, dict) or not isinstance(one.get("text"), str):
        raise ValueError(
            f"{place}: responses holds {one!r:.60}, not an object with a text: give a file that `eval` wrote"
        )
    key, asked, task = _prompt(cells, place)
    return Output(one["text"], key, asked, task, _references(cells), ENDS.get(str(one.get("finish"))), place)


def _references(cells: Mapping[str, Any]) -> tuple[str, ...]:
    return texts_of({name: cells[name] for name in REFERENCES if name in cells})


def _text(value: Any, name: str, place: Place) -> str:
    """A text as it is, however empty; a conversation's last turn."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise ValueError(f"{place}: {name} is {value!r:.60}, not a text: write the output as one")
    return value


def _prompt(cells: Mapping[str, Any], place: Place) -> tuple[str, str, str]:
    """(key, prompt for people, task) of a row in any layout; empty where it has no prompt."""
    left = (*OUTPUTS, *REFERENCES, "chosen", "rejected", "summary", "highlights", "responses", "label")
    task = cells.get("task")
    try:
        records, _ = read_columns({k: v for k, v in cells.items() if k not in left}, "prompts", place)
    except Skip as error:
        raise ValueError(f"{place} is a row {error}: mend its prompt") from None
    prompt = records[0] if records else None
    asked = _asked(prompt) if isinstance(prompt, Prompt) else ""
    return asked.strip(), asked, task if isinstance(task, str) else ""


def _asked(prompt: Prompt) -> str:
    """One turn of a user is the same prompt as its plain text."""
    turns = prompt.content
    alone = not isinstance(turns, str) and len(turns) == 1 and turns[0].role == "user"
    return turns[0].content if alone and not isinstance(turns, str) else prompt.text()


# ---- lm-eval -----------------------------------------------------------------------------------------------------------


def _is_lm_eval(cells: Mapping[str, Any]) -> bool:
    return {"doc_id", "arguments", "resps"} <= set(cells)


def _key_of(cells: Mapping[str, Any]) -> str:
    """The document itself: what is made of it (`arguments`) differs with each model's chat template."""
    return json.dumps(cells.get("doc", cells["doc_id"]), sort_keys=True, ensure_ascii=False)


def _lm_eval(cells: Mapping[str, Any], key: str, place: Place) -> Iterator[Output]:
    """What the model wrote, before any filter cut an answer out of it; several where the task was repeated."""
    written = cells["resps"]
    several = isinstance(written, list) and len(written) == 1 and isinstance(written[0], list)
    if not several or not all(isinstance(text, str) for text in written[0]):
        raise ValueError(
            f"{place}: resps is {written!r:.60}, not what a model wrote: only tasks of the type generate_until have outputs"
        )
    asked = _context(cells["arguments"])
    for text in written[0]:
        yield Output(text, key, asked, "", texts_of(cells.get("target")), None, place)


def _context(arguments: Any) -> str:
    """The prompt: {"gen_args_0": {"arg_0": it, "arg_1": settings}}, before version 0.4.4 [[it, settings]]."""
    if isinstance(arguments, Mapping):
        first = arguments.get("gen_args_0")
        found = first.get("arg_0") if isinstance(first, Mapping) else None
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        found = first[0] if isinstance(first, list) and first else None
    return found if isinstance(found, str) else ""
