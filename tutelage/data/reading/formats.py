"""THE reader: rows of any known format -> records, for trainers, for the store and for people who look at a file.

Every row is read as what it holds (a text, a conversation, a prompt, a demonstration or a comparison) and then used for what
is asked: a comparison is also a demonstration (its better response), a demonstration also a prompt and a text.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from tutelage.data.reading.cells import LeftOut, Skip
from tutelage.data.reading.cells import shown as brief
from tutelage.data.reading.layouts import Purpose, read_columns
from tutelage.data.reading.layouts import Record as Record
from tutelage.data.reading.rows import BadRow, Row
from tutelage.data.reading.sources import Source, any_hub, local_paths, parts_of, read_rows, shown
from tutelage.data.reading.spellings import (
    ANSWERS,
    KNOWN,
    LABELS,
    MARKS,
    QUESTIONS,
    SIDES,
    STEPS,
    TURNS,
    check_columns,
    null_in,
    renamed,
)
from tutelage.files import sha256_of
from tutelage.records import (
    Comparison,
    Conversation,
    Demonstration,
    Document,
    Labelled,
    Place,
    Prompt,
    Rating,
    StepMarks,
)

T = TypeVar("T")
ENOUGH = 100  # rows of which none serves: then no other will
MOST_NAMES = 20  # of columns in an error


class Dropped(NamedTuple):
    """A row that gives no record: where it stands and why ("with an empty prompt").

    meant: the row says itself that it is not to be used, which is no fault of it.
    """

    place: Place | None
    reason: str
    meant: bool = False


class Walkable(Generic[T]):
    """Records that are read anew at every walk, among them the rows that give none."""

    def walk(self) -> Iterator[T | Dropped]:
        """Records and dropped rows, in their order."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[T]:
        """The records alone."""
        return (row for row in self.walk() if not isinstance(row, Dropped))


class Records(Walkable[T]):
    """The records of a source, read anew at every walk: they are never all in memory.

    unused: how many rows have each column that says something and that was not used, so far in this walk.
    """

    def __init__(self, source: Source, purpose: Purpose, columns: Mapping[str, str] | None = None) -> None:
        self._source, self._purpose, self._columns = source, purpose, dict(columns or {})
        check_columns(self._columns)
        self._stamps: list[tuple[int, int]] = []
        self.unused: Counter[str] = Counter()

    def walk(self) -> Iterator[T | Dropped]:
        """Records, and the rows that give none, in their order.

        Raises ValueError (file, line, columns, what to do) as `sources.read_rows` does, for JSON that is damaged, and
        where no row has columns that serve: then the file is not what it is taken for.
        """
        self.unused = Counter()
        given, misfit = False, None
        for number, row in enumerate(read_rows(self._source), 1):
            try:
                for found in self._read(row):
                    given = given or not isinstance(found, Dropped)
                    yield found  # type: ignore[misc]
            except WrongColumns as error:
                misfit = misfit or error
                if not given and number == ENOUGH:
                    break
                yield Dropped(row.place, error.reason)
        if misfit and not given:
            raise misfit
        if self._stamps and self._stamps != _stamps(self._source):
            raise ValueError(f"{shown(self._source)} was changed while it was read: start again")

    def _read(self, row: Row | BadRow) -> Iterator[Record | Dropped]:
        if isinstance(row, BadRow):
            if row.stops:
                raise ValueError(f"{row.place}: {row.why}")
            yield Dropped(row.place, row.why)
            return
        try:
            records, left = read_row(row, self._purpose, self._columns)
        except Skip as reason:
            yield Dropped(row.place, str(reason), isinstance(reason, LeftOut))
            return
        if not row.place.copy:
            self.unused.update(left)
        yield from records

    @cached_property
    def digest(self) -> str | None:
        """sha256 (hex) of what is read: of the files' names and bytes.  None where a source is not files."""
        if any_hub(self._source):
            return None
        self._stamps = _stamps(self._source)
        files = [[str(path), sha256_of(path)] for path in local_paths(self._source)]
        weights = [str(weight) for _, weight in parts_of(self._source)]
        return hashlib.sha256(json.dumps([self._purpose, self._columns, weights, files]).encode()).hexdigest()


class First(Walkable[T]):
    """The first records of some, with the rows that were dropped before them."""

    def __init__(self, rows: Iterable[T], limit: int) -> None:
        """limit: how many; 0 takes all."""
        self._rows, self._limit = rows, limit

    def walk(self) -> Iterator[T | Dropped]:
        taken = 0
        for row in walk(self._rows):
            yield row
            taken += not isinstance(row, Dropped)
            if 0 < self._limit == taken:
                return

    @property
    def unused(self) -> dict[str, int]:
        """The columns that were not used (see `Records`)."""
        return unused_of(self._rows)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of what decides which rows these are."""
        return hashlib.sha256(f"{digest_of(self._rows)} {self._limit}".encode()).hexdigest()


def walk(rows: Iterable[T]) -> Iterator[T | Dropped]:
    """Records with the rows that give none, where a reader knows of them."""
    return rows.walk() if isinstance(rows, Walkable) else iter(rows)


def digest_of(rows: Iterable[Any]) -> str:
    """sha256 (hex) of records, and of what was dropped; files are not parsed for that."""
    if (known := getattr(rows, "digest", None)) is not None:
        return str(known)
    digest = hashlib.sha256()
    for row in walk(rows):
        digest.update(repr(row).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def unused_of(rows: Iterable[Any]) -> dict[str, int]:
    """How many rows have each column that was not used, in the last walk through them."""
    return dict(getattr(rows, "unused", {}))


def _stamps(source: Source) -> list[tuple[int, int]]:
    return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, local_paths(source))]


def read_documents(
    source: Source, columns: Mapping[str, str] | None = None
) -> Records[Document | Conversation]:
    """Text for language modelling.  A demonstration is read as its prompt and response in one text."""
    return Records(source, "pretraining text", columns)


def read_demonstrations(
    source: Source, columns: Mapping[str, str] | None = None
) -> Records[Demonstration | Conversation]:
    """Responses to imitate: prompts with responses, conversations, or the better side of comparisons."""
    return Records(source, "demonstrations", columns)


def read_prompts(source: Source, columns: Mapping[str, str] | None = None) -> Records[Prompt]:
    """Prompts to answer: prompt-only rows, or the prompts of demonstrations and comparisons."""
    return Records(source, "prompts", columns)


def read_ratings(source: Source, columns: Mapping[str, str] | None = None) -> Records[Rating]:
    """Responses with ratings by one criterion or several."""
    return Records(source, "ratings", columns)


def read_labelled(source: Source, columns: Mapping[str, str] | None = None) -> Records[Labelled]:
    """Responses that are good or not; both sides of comparisons, too."""
    return Records(source, "labelled responses", columns)


def read_comparisons(source: Source, columns: Mapping[str, str] | None = None) -> Records[Comparison]:
    """Pairs of responses.  Identical pairs are kept here: preflight counts and drops them."""
    return Records(source, "comparisons", columns)


def read_step_marks(source: Source, columns: Mapping[str, str] | None = None) -> Records[StepMarks]:
    """Responses whose steps are marked."""
    return Records(source, "step marks", columns)


# ---- one row -----------------------------------------------------------------------------------------------------------


def read_row(
    row: Row, purpose: Purpose, columns: Mapping[str, str] | None = None
) -> tuple[list[Record], list[str]]:
    """What a row holds for this purpose (a tree holds several records), and its columns that were not used.

    columns: our names for theirs.  Raises `Skip` for a row that holds nothing for a reason of its own, `WrongColumns` (a
    ValueError: place, columns, what to do) where no format has its columns, or none that serves the purpose.
    """
    found = renamed(row.columns, columns) if columns else row.columns
    spelled = purpose != "step marks" and found.keys().isdisjoint(SIDES)
    if spelled and row.nulls and (missing := null_in(found, row.nulls)):
        raise Skip(f"whose {missing} is null")
    records, unused = read_columns(found, purpose, row.place)
    use = _USES[purpose].use
    used: list[Record] = [use(record) for record in records]
    if not used and _is_tree_without_answers(found):
        pairs = purpose == "comparisons"
        raise Skip(f"whose tree has no {'two answers that were ranked apart' if pairs else 'answers'}")
    if not used or any(record is None for record in used):
        if missing := _null(row, found, _USES[purpose].needs, columns or {}):
            raise Skip(f"whose {missing} is null")
        holds = f", which hold {_kind(records[0])}" if records else ""
        raise WrongColumns(row, purpose, holds)
    return used, unused


def _null(
    row: Row, found: Mapping[str, Any], needs: tuple[tuple[str, ...], ...], columns: Mapping[str, str]
) -> str:
    """A column that is null where one of its kind is needed, "" where there is none: then the file is of another kind."""
    for names in needs:
        theirs = [columns.get(name, name) for name in names if found.keys().isdisjoint(names)]
        if missing := next((name for name in theirs if name in row.nulls), ""):
            return missing
    return ""


def _is_tree_without_answers(columns: Mapping[str, Any]) -> bool:
    return isinstance(columns.get("prompt"), dict) and "replies" in columns["prompt"]


class WrongColumns(ValueError):
    """A row whose columns no format has, or only formats for other purposes.  reason: the same for a dropped row."""

    def __init__(self, row: Row, purpose: Purpose, holds: str = "") -> None:
        names = list(map(_name, row.columns))
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        found, use = (", ".join(names[:MOST_NAMES]) or "none") + more, _USES[purpose]
        super().__init__(
            f"{row.place}: found the columns {found}{holds}; {purpose} can be read from the columns {use.columns}; "
            f"for other names say which is which: columns={{{_suggestion(row, use)}}}"
        )
        self.reason = f"whose columns ({found}) hold no {purpose}"


def _name(column: str) -> str:
    """The name of a column in a sentence: short, and on one line."""
    return column if column.isprintable() and 0 < len(column) <= 40 else brief(column)


def _suggestion(row: Row, use: _Use) -> str:
    """An example of the setting `columns`, with names that are there where they resemble ours."""
    pairs = []
    for ours in use.example:
        near = difflib.get_close_matches(ours, [name for name in row.columns if name not in KNOWN], n=1)
        pairs.append(f"{ours}: {_name(near[0]) if near else 'NAME'}")
    return ", ".join(pairs)


# ---- what a record may be used for -------------------------------------------------------------------------------------


def _as_document(record: Record) -> Document | Conversation | None:
    if isinstance(record, Comparison):
        record = _better(record)
    if isinstance(record, Demonstration):
        content = record.prompt.content
        if isinstance(content, str):
            return Document(content + record.response, record.finish, record.place)
        texts = [*(message.text() for message in content), record.response]
        return Document("\n".join(texts), record.finish, record.place)
    return record if isinstance(record, Document | Conversation) else None


def _as_demonstration(record: Record) -> Demonstration | Conversation | None:
    if isinstance(record, Comparison):
        return _better(record)
    if isinstance(record, Conversation):
        answers = [message for message in record.messages if message.role == "assistant"]
        if not answers:
            raise Skip("with no assistant turn")
        if not any(message.trained for message in answers):
            raise LeftOut("with no assistant turn that is trained (weight 0)")
    return record if isinstance(record, Demonstration | Conversation) else None


def _better(record: Comparison) -> Demonstration:
    """The response that more votes prefer."""
    if record.p_chosen == 0.5:
        raise LeftOut("that is a tie, of which neither side is the better one")
    if record.p_chosen < 0.5:
        return Demonstration(record.prompt, record.rejected, record.rejected_finish, record.place)
    return Demonstration(record.prompt, record.chosen, record.chosen_finish, record.place)


def _as_prompt(record: Record) -> Prompt | None:
    prompt = record.prompt if isinstance(record, Demonstration | Comparison | StepMarks) else record
    if isinstance(prompt, Conversation):
        messages = prompt.messages
        while messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        if not any(message.role in ("user", "tool") for message in messages):
            raise Skip("with no user turn")
        asked = tuple(replace(message, trained=True) for message in messages)
        prompt = Prompt(asked, tools=prompt.tools, place=prompt.place)
    if not isinstance(prompt, Prompt):
        return None
    last = prompt.content if isinstance(prompt.content, str) else prompt.content[-1].content
    if not last.strip():
        raise Skip("with an empty prompt")
    return prompt


def _as_comparison(record: Record) -> Comparison | None:
    return record if isinstance(record, Comparison) else None


def _as_labelled(record: Record) -> Labelled | None:
    return record if isinstance(record, Labelled) else None


def _as_rating(record: Record) -> Rating | None:
    return record if isinstance(record, Rating) else None


def _as_step_marks(record: Record) -> StepMarks | None:
    return record if isinstance(record, StepMarks) else None


@dataclass(frozen=True)
class _Use:
    """use: the record for this purpose, None for what does not serve it.  columns: what an error names.

    needs: of each of these groups of columns, one.
    """

    use: Any
    columns: str
    example: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...]


_DEMONSTRATIONS = (
    "prompt+completion, instruction+output, question+answer or the like, messages, conversations"
)
_PAIR = (("chosen",), ("rejected",))
_ASKED, _SAID = ("prompt", *QUESTIONS, *TURNS), (*ANSWERS, *TURNS, *SIDES)
_USES: dict[Purpose, _Use] = {
    "comparisons": _Use(
        _as_comparison,
        "prompt+chosen+rejected, chosen+rejected, or prompt+responses+ranks",
        ("prompt", "chosen", "rejected"),
        _PAIR,
    ),
    "labelled responses": _Use(
        _as_labelled,
        "prompt+completion+label, or chosen+rejected",
        ("prompt", "completion", "label"),
        (_ASKED, _SAID),
    ),
    "ratings": _Use(
        _as_rating,
        "prompt+response and values, rating, score or criteria such as helpfulness, or prompt+completions with scores",
        ("prompt", "response", "rating"),
        (_ASKED, _SAID),
    ),
    "demonstrations": _Use(
        _as_demonstration,
        f"{_DEMONSTRATIONS}, or chosen+rejected",
        ("prompt", "completion"),
        (_ASKED, _SAID, *_PAIR),
    ),
    "prompts": _Use(
        _as_prompt,
        f"prompt, instruction, question, {_DEMONSTRATIONS}, or chosen+rejected",
        ("prompt",),
        ((*_ASKED, *SIDES),),
    ),
    "pretraining text": _Use(
        _as_document,
        f"text, {_DEMONSTRATIONS}, or chosen+rejected",
        ("text",),
        (("text", *_SAID), ("text", *_ASKED), *_PAIR),
    ),
    "step marks": _Use(
        _as_step_marks,
        "prompt+completions+labels (TRL), question+label (PRM800K), input+label (Math-Shepherd), "
        "problem+steps+label (ProcessBench), or prompt+completion+label (outcomes)",
        ("prompt", "completions", "labels"),
        (_ASKED, (*STEPS, *ANSWERS, *LABELS), (*MARKS, *LABELS)),
    ),
}


def _kind(record: Record) -> str:
    names: dict[type, str] = {
        Comparison: "comparisons",
        Demonstration: "demonstrations",
        Conversation: "conversations",
        Prompt: "prompts",
        Document: "plain text",
        StepMarks: "marked steps",
    }
    return names[type(record)]
