"""Imports: prompts, responses, comparisons, scores and raw exports from files of any kind that trainers read.

Every good row is stored, every bad one is listed with its place, and what is there already is not stored again: a file
with mistakes is mended and imported once more as a whole.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, IntegrityError

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.encodings import AUTO, UTF8, likely, marked
from tutelage.data.reading.rows import BadRow, Row, read_stream
from tutelage.feedback.imports.lines import Kind as Kind
from tutelage.feedback.imports.lines import (
    Line,
    PreferenceLine,
    PromptLine,
    RawAnswer,
    RawGuidelines,
    RawQuestions,
    RefinementLine,
    ResponseLine,
    ScoreLine,
    SuggestionLine,
    check_names,
    parse_row,
    why_not,
)
from tutelage.feedback.imports.opening import store_refinement
from tutelage.feedback.imports.raw import store_answer
from tutelage.feedback.imports.recognising import LOOKED_AT, file_kind, kind_of_rows
from tutelage.feedback.imports.rows import Seen, store_preference, store_response, store_score
from tutelage.feedback.imports.suggestions import store_suggestion
from tutelage.feedback.people.access import Member, note
from tutelage.feedback.projects.projects import guideline_sha, insert_guideline, insert_schema, schema_sha
from tutelage.store.database import Database
from tutelage.store.generations import insert_prompts
from tutelage.store.schema import Item, PromptRow, ResponseRow
from tutelage.store.schema_feedback import GuidelineVersion, SchemaVersion
from tutelage.store.sql import lock_project

AT_ONCE = 500  # rows per transaction: what a crash makes to do again
TRIED = 1_000  # rows of a preview: nobody else writes as long as it takes
SHOWN = 10  # of them, as they are understood
LONGEST = 300  # characters of a text in one of those


@dataclass(frozen=True)
class BadLine:
    """A row that was not taken: its number (from 1) in lines, or in what `unit` says (row, document), and why."""

    line: int
    why: str
    unit: str = "line"


@dataclass
class Imported:
    """All good rows are in; `there` were in already, so that repeating an import adds nothing.

    unused: how many rows have each column that says something and that was not used.  needs: what the project lacks that
    rows of this kind are about, in a sentence.  mended: what rows say that cannot be, and what was taken instead.
    """

    new: int = 0
    there: int = 0
    bad: list[BadLine] = field(default_factory=list)
    unused: dict[str, int] = field(default_factory=dict)
    needs: str = ""
    mended: list[BadLine] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """What an import would do, of which nothing is stored.

    file, encoding: as what the file is read; kind: what its rows hold; proposed: the encoding that it is probably in,
    where rows are no text in this one.  first: the first rows as they are understood.  The counts are of the first
    `rows` rows; more: there are others behind them.
    """

    file: str
    encoding: str
    proposed: str
    kind: Kind
    first: list[dict[str, Any]]
    rows: int
    more: bool
    imported: Imported


def import_stream(
    database: Database,
    who: Member,
    kind: Kind | Literal["auto"],
    file: BinaryIO,
    name: str,
    columns: Mapping[str, str] | None = None,
    encoding: str = AUTO,
) -> Imported:
    """Take the rows of an open file whose name says of what kind it is.  Needs manage.

    prompts, preference: as trainers read them (a comparison makes a pair, and a vote on it); responses: prompts with what
    answers them, and where that comes from; scores: of responses that are there; suggestions: what a program would answer
    about items that are there; refinements: problems with the rounds of their solutions; raw: what `exports` wrote, in the
    order of the file; auto: what their columns say.
    columns: our names for theirs.  encoding: as `read_stream`.

    Raises ValueError, one sentence, for a file that is damaged, empty or of an unknown kind (rows before a damage may be
    stored), and for names in `columns` that are none.
    """
    importer = _Importer(database, who, kind, read_stream(file, name, encoding), columns or {})
    with database.read() as connection:
        importer.find_needs(connection)
    while some := importer.next(AT_ONCE):
        with database.write() as connection:
            importer.store(connection, some)
    done = importer.done
    with database.write() as connection:
        counts = {"new": done.new, "there": done.there, "bad": len(done.bad)}
        note(connection, who.user, "import", importer.kind, who.project_id, **counts)
    return done


def try_import(
    database: Database,
    who: Member,
    kind: Kind | Literal["auto"],
    content: bytes,
    name: str,
    columns: Mapping[str, str] | None = None,
    encoding: str = AUTO,
) -> Tried:
    """What `import_stream` would do: the import itself, of the first rows, undone.  Needs manage; raises the same."""
    stream = io.BytesIO(content)
    importer = _Importer(database, who, kind, read_stream(stream, name, encoding), columns or {})
    some = importer.next(TRIED)
    with suppress(_Undo), database.write() as connection:
        importer.find_needs(connection)
        importer.store(connection, some)
        raise _Undo
    text = file_kind(name) != "Parquet"
    read_as = (marked(content) or UTF8 if encoding == AUTO else encoding) if text else ""
    probably = likely(content) if text else ""
    lost = any(isinstance(row, BadRow) and f"not {read_as}" in row.why.lower() for row in some)
    return Tried(
        file_kind(name),
        read_as,
        probably if lost and probably != read_as else "",
        importer.kind,
        [_understood(importer.kind, row, columns or {}) for row in some[:SHOWN]],
        len(some),
        bool(importer.next(1)),
        importer.done,
    )


class _Undo(Exception):
    """Ends a transaction of which nothing is to stay."""


class _Importer:
    """Stores batches of rows: each in a savepoint of its own, so that a bad one takes nothing with it."""

    def __init__(
        self,
        database: Database,
        who: Member,
        kind: Kind | Literal["auto"],
        rows: Iterator[Row | BadRow],
        columns: Mapping[str, str],
    ) -> None:
        who.require("manage")
        if kind == "auto":
            first = list(itertools.islice(rows, LOOKED_AT))
            rows, kind = itertools.chain(first, rows), kind_of_rows(first, columns)
        check_names(kind, columns)
        self._database, self._who, self._rows, self._columns = database, who, rows, columns
        self._versions: dict[tuple[str, int], int] = {}  # (questions | guidelines, n in the file) -> row id
        self._seen: Seen = Counter()
        self.kind: Kind = kind
        self.done = Imported()

    def next(self, most: int) -> list[Row | BadRow]:
        """The next rows of the file."""
        return list(itertools.islice(self._rows, most))

    def find_needs(self, connection: Connection) -> None:
        """Look whether the project has what rows of this kind are about."""
        if self.kind == "scores":
            query = select(ResponseRow.id).join(PromptRow)
            query = query.where(PromptRow.project_id == self._who.project_id)
            missing = "This project has no responses that scores could be of: import responses first."
        elif self.kind == "suggestions":
            query = select(Item.id).where(Item.project_id == self._who.project_id)
            missing = "This project has no items to suggest answers for: import responses, then build items."
        else:
            return
        if connection.scalar(query.limit(1)) is None:
            self.done.needs = missing

    def store(self, connection: Connection, rows: Sequence[Row | BadRow]) -> None:
        """Store the good ones of some rows, and say in `done` what came of each."""
        lock_project(connection, self._who.project, self._database.place)
        for row in rows:
            try:
                new = self._store_row(connection, row)
            except (ValueError, Skip, DataError, IntegrityError, OverflowError) as error:
                self.done.bad.append(BadLine(row.place.number, _why(error, row), row.place.unit))
            else:
                self.done.new += new
                self.done.there += not new

    def _store_row(self, connection: Connection, row: Row | BadRow) -> bool:
        """Store all that a row holds; whether any of it was new."""
        lines, unused = _parsed(self.kind, row, self._columns)
        mended = list[str]()
        with connection.begin_nested():
            new = [self._store(connection, line, mended) for line in lines]
        self.done.mended += [BadLine(row.place.number, one, row.place.unit) for one in mended]
        for name in unused:
            self.done.unused[name] = self.done.unused.get(name, 0) + 1
        return any(new)

    def _store(self, connection: Connection, line: Line, mended: list[str]) -> bool:
        """Store one line; whether it was new; `mended` takes what was mended in it.  Raises ValueError when it does not fit what
        is there."""
        key = self._who.project_id
        if isinstance(line, PromptLine):
            return bool(insert_prompts(connection, key, [line.prompt], line.split))
        if isinstance(line, ResponseLine):
            return store_response(connection, key, line)[1]
        if isinstance(line, PreferenceLine):
            return store_preference(connection, key, line, self._seen)
        if isinstance(line, ScoreLine):
            return store_score(connection, key, line)
        if isinstance(line, SuggestionLine):
            return store_suggestion(connection, key, line)
        if isinstance(line, RefinementLine):
            stored = store_refinement(connection, key, line)
            mended += stored.mended
            return stored.new
        if isinstance(line, RawAnswer):
            return store_answer(connection, key, line, self._versions)
        return self._store_version(connection, line)

    def _store_version(self, connection: Connection, row: RawQuestions | RawGuidelines) -> bool:
        """A version of the questions or guidelines, unless one with this content is there."""
        key, asks = self._who.project_id, isinstance(row, RawQuestions)
        table: type[SchemaVersion | GuidelineVersion] = SchemaVersion if asks else GuidelineVersion
        sha256 = schema_sha(row.content) if isinstance(row, RawQuestions) else guideline_sha(row.markdown)
        same = (table.project_id == key, table.sha256 == sha256)
        there = connection.scalar(select(table.id).where(*same).limit(1))
        if there is not None:
            self._versions[row.kind, row.n] = there
        elif isinstance(row, RawQuestions):
            self._versions[row.kind, row.n] = insert_schema(connection, key, row.content, None).id
        else:
            self._versions[row.kind, row.n] = insert_guideline(connection, key, row.markdown, None).id
        return there is None


def _parsed(
    kind: Kind, row: Row | BadRow, columns: Mapping[str, str]
) -> tuple[Sequence[Line], Sequence[str]]:
    """See `parse_row`."""
    if isinstance(row, BadRow):
        raise ValueError(row.why if row.stops else f"a row {row.why}")
    return parse_row(kind, row, columns)


def _understood(kind: Kind, row: Row | BadRow, columns: Mapping[str, str]) -> dict[str, Any]:
    """{line, unit, parts: {name: text}, unused: [names]}, or {line, unit, why} for a row that says nothing of this kind."""
    place: dict[str, Any] = {"line": row.place.number, "unit": row.place.unit}
    try:
        lines, unused = _parsed(kind, row, columns)
    except (ValueError, Skip) as error:
        return place | {"why": why_not(error, row.place)}
    parts = lines[0].parts() if lines else {}
    shown = {name: _short(text) for name, text in parts.items() if text}
    if len(lines) > 1:
        shown["and"] = f"{len(lines) - 1} more like this"
    return place | {"parts": shown, "unused": unused}


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _why(error: Exception, row: Row | BadRow) -> str:
    if isinstance(error, DataError | IntegrityError | OverflowError):
        said = str(getattr(error, "orig", error)).splitlines()[0]
        return f"the database cannot keep it ({said})"
    return why_not(error, row.place)
