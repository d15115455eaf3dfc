"""Questions whose answers can be judged by what was written down beforehand: reading them, and refusing what makes no sense.

{"prompt": text or messages, "answers": [accepted texts], "kind", "group", "p", "twin", "known", "options", "denials"}; only
`prompt` is needed, and `answers` where the kind has any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.formats import read_row
from tutelage.data.reading.rows import BadRow, Row
from tutelage.data.reading.sources import Source, read_rows, shown
from tutelage.data.reading.spellings import renamed
from tutelage.judges.verify.outcome import KINDS, PAIRS, Truth
from tutelage.records import Place, Prompt, place_json

COLUMNS = ("prompt", "answers", "kind", "group", "p", "twin", "known", "options", "denials")
LISTS = ("answers", "options", "denials")


@dataclass(frozen=True, kw_only=True)
class Question(Truth):
    """A question, and what its answers are judged by.

    p: probability of the best guess, NaN where nobody knows it.  known: whether the model can be expected to know it.
    """

    prompt: Prompt
    group: str = ""
    p: float = math.nan
    twin: str = ""
    known: bool = False

    @property
    def key(self) -> str:
        """What was drawn independently: the pair, or the prompt."""
        return f"twin {self.twin}" if self.twin else self.prompt.id

    def to_json(self) -> dict[str, Any]:
        """The row that it was read from, with where it stands."""
        found = {"prompt": self.prompt.content_json(), "kind": self.kind, "answers": list(self.answers)}
        more = {"group": self.group, "twin": self.twin, "known": self.known}
        p = {} if math.isnan(self.p) else {"p": self.p}
        return found | {name: value for name, value in more.items() if value} | p | place_json(self.prompt)


def read_questions(source: Source, columns: Mapping[str, str]) -> list[Question]:
    """The questions of a file.  Raises ValueError (file, line, what to do) for a row that is none, and a twin that is no pair."""
    if wrong := [ours for ours in columns if ours not in COLUMNS]:
        raise ValueError(
            f"columns={{{wrong[0]}: {columns[wrong[0]]}}}: {wrong[0]!r} is no column of questions: they have {', '.join(COLUMNS)}"
        )
    found = [_question(row, columns) for row in _rows(source)]
    _check_pairs(found)
    if not found:
        raise ValueError(f"{shown(source)} holds no questions")
    return found


def _rows(source: Source) -> Iterator[Row]:
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place}: a row {row.why}: correct it, or take it out")
        yield row


def _question(row: Row, columns: Mapping[str, str]) -> Question:
    cells, place = renamed(row.columns, columns), row.place
    kind = cells.get("kind", "fact")
    if kind not in KINDS:
        raise ValueError(f"{place}: kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    lists = {name: _texts(cells, name, place) for name in LISTS}
    if kind in ("fact", "answerable") and "answers" not in cells:
        raise ValueError(
            f"{place}: a question of kind {kind} needs answers: a list of accepted texts, [] if nobody can know"
        )
    if kind == "unanswerable" and lists["answers"]:
        raise ValueError(
            f"{place}: a question that is unanswerable has answers: take them out, or call it answerable"
        )
    if kind == "answerable" and not lists["answers"]:
        raise ValueError(
            f"{place}: a question that is answerable has no answers: give them, or call it unanswerable"
        )
    known = cells.get("known", kind == "answerable")
    if not isinstance(known, bool):
        raise ValueError(f"{place}: known is {known!r}: it must be true or false")
    if known and not lists["answers"]:
        raise ValueError(f"{place}: a question that is known has no answers: give them, or leave known out")
    return Question(
        prompt=_prompt(row, cells),
        kind=kind,
        group=_name(cells, "group", place),
        twin=_name(cells, "twin", place),
        known=known,
        p=_p(cells, place),
        **lists,
    )


def _prompt(row: Row, cells: Mapping[str, Any]) -> Prompt:
    if "prompt" not in cells:
        raise ValueError(
            f"{row.place}: a question needs a prompt, a text or a list of messages: its columns are {', '.join(cells)}"
        )
    try:
        records, _ = read_row(Row(row.place, {"prompt": cells["prompt"]}), "prompts")
    except Skip as why:
        raise ValueError(f"{row.place}: a question {why}: correct it, or take it out") from None
    (prompt,) = records
    assert isinstance(prompt, Prompt)
    return prompt


def _texts(cells: Mapping[str, Any], name: str, place: Place) -> tuple[str, ...]:
    given = cells.get(name, [])
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise ValueError(f'{place}: {name} is {given!r}: it must be a list of texts, for example ["Paris"]')
    if wordless := [text for text in given if not any(map(str.isalnum, text))]:
        raise ValueError(f"{place}: {name} has {wordless[0]!r}, which has no word: take it out")
    return tuple(given)


def _name(cells: Mapping[str, Any], name: str, place: Place) -> str:
    given = cells.get(name, "")
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise ValueError(f"{place}: {name} is {given!r}: it must be a text")
    return str(given)


def _p(cells: Mapping[str, Any], place: Place) -> float:
    given = cells.get("p", math.nan)
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not (math.isnan(given) or 0 <= given <= 1)
    ):
        raise ValueError(f"{place}: p is {given!r}: it must be a probability, from 0 to 1")
    return float(given)


def _check_pairs(questions: list[Question]) -> None:
    """Twins are two, and of the two kinds of one family."""
    pairs: dict[str, list[Question]] = {}
    for question in questions:
        if question.twin:
            pairs.setdefault(question.twin, []).append(question)
    for twin, members in pairs.items():
        first, kinds = members[0], [question.kind for question in members]
        if len(members) == 1:
            raise ValueError(
                f"{first.prompt.place}: twin {twin!r} stands in this row alone: give the other one, or leave twin out"
            )
        if len(members) > 2:
            raise ValueError(
                f"{members[2].prompt.place}: twin {twin!r} stands here a third time: a pair has two rows"
            )
        if not any(set(kinds) == set(pair) for pair in PAIRS.values()):
            known = "; ".join(" and ".join(pair) for pair in PAIRS.values())
            raise ValueError(
                f"{members[1].prompt.place}: twin {twin!r} is of the kinds {' and '.join(kinds)}, which are no pair: pairs are "
                f"{known}"
            )
