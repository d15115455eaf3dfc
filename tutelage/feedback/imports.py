"""Imports: prompts, responses, comparisons, scores and raw exports from JSONL, line by line.

Every good line is stored, every bad one is listed with its number, and what is there already is not stored again: a
file with mistakes is mended and imported once more as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback.access import Member, note
from tutelage.feedback.import_raw import store_answer
from tutelage.feedback.import_rows import store_preference, store_response, store_score
from tutelage.feedback.incoming import Kind as Kind
from tutelage.feedback.incoming import (
    PreferenceLine,
    PromptLine,
    RawAnswer,
    RawGuidelines,
    RawQuestions,
    ResponseLine,
    ScoreLine,
    parse_line,
    why_not,
)
from tutelage.feedback.projects import guideline_sha, insert_guideline, insert_schema, schema_sha
from tutelage.store.database import Database
from tutelage.store.generations import insert_prompts
from tutelage.store.schema_feedback import GuidelineVersion, SchemaVersion
from tutelage.store.sql import lock_project

AT_ONCE = 500  # lines per transaction: what a crash makes to do again


@dataclass(frozen=True)
class BadLine:
    """A line that was not taken: its number (from 1) and why."""

    line: int
    why: str


@dataclass(frozen=True)
class Imported:
    """All good lines are in; `there` were in already, so that repeating an import adds nothing."""

    new: int
    there: int
    bad: list[BadLine] = field(default_factory=list)


def import_lines(database: Database, who: Member, kind: Kind, lines: Iterable[str | bytes]) -> Imported:
    """Take JSONL.  Needs manage.

    prompts: {prompt, task?, reference?, split?}; responses: {prompt, response, model?, params?, ...}; preference:
    TRL's columns (makes the pair, and on it a vote of the annotator 'import'); scores: {prompt, response, score,
    source?} of responses that are there; raw: what `exports` wrote, in the order of the file.
    """
    who.require("manage")
    importer = _Importer(database, who, kind)
    new = there = 0
    bad: list[BadLine] = []
    numbered = ((n, line) for n, line in enumerate(lines, start=1) if line.strip())
    while some := list(itertools.islice(numbered, AT_ONCE)):
        outcome = importer.take(some)
        new, there = new + outcome.new, there + outcome.there
        bad += outcome.bad
    with database.write() as connection:
        note(connection, who.user, "import", kind, who.project_id, new=new, there=there, bad=len(bad))
    return Imported(new, there, bad)


class _Importer:
    """Stores batches of lines: each line in a savepoint of its own, so that a bad one takes nothing with it."""

    def __init__(self, database: Database, who: Member, kind: Kind) -> None:
        self._database, self._who, self._kind = database, who, kind
        self._versions: dict[
            tuple[str, int], int
        ] = {}  # raw: (questions | guidelines, n in the file) -> row id

    def take(self, lines: Sequence[tuple[int, str | bytes]]) -> Imported:
        parsed, bad = [], []
        for number, line in lines:
            try:
                parsed.append((number, parse_line(self._kind, line)))
            except ValueError as error:
                bad.append(BadLine(number, why_not(error)))
        new = there = 0
        with self._database.write() as connection:
            lock_project(connection, self._who.project, self._database.place)
            for number, row in parsed:
                try:
                    with connection.begin_nested():
                        added = self._store(connection, row)
                except ValueError as error:
                    bad.append(BadLine(number, why_not(error)))
                else:
                    new, there = new + added, there + (not added)
        return Imported(new, there, sorted(bad, key=lambda entry: entry.line))

    def _store(self, connection: Connection, row: Any) -> bool:
        """Store one line; whether it was new.  Raises ValueError when it does not fit what is there."""
        key = self._who.project_id
        if isinstance(row, PromptLine):
            return bool(insert_prompts(connection, key, [row.to_prompt()], row.split))
        if isinstance(row, ResponseLine):
            return store_response(connection, key, row)
        if isinstance(row, PreferenceLine):
            return store_preference(connection, key, row)
        if isinstance(row, ScoreLine):
            return store_score(connection, key, row)
        if isinstance(row, RawAnswer):
            return store_answer(connection, key, row, self._versions)
        if isinstance(row, RawQuestions):
            return self._store_questions(connection, row)
        return self._store_guidelines(connection, row)

    def _store_questions(self, connection: Connection, row: RawQuestions) -> bool:
        there = self._version(connection, SchemaVersion, schema_sha(row.content))
        found = there or insert_schema(connection, self._who.project_id, row.content, None).id
        self._versions["questions", row.n] = found
        return there is None

    def _store_guidelines(self, connection: Connection, row: RawGuidelines) -> bool:
        there = self._version(connection, GuidelineVersion, guideline_sha(row.markdown))
        found = there or insert_guideline(connection, self._who.project_id, row.markdown, None).id
        self._versions["guidelines", row.n] = found
        return there is None

    def _version(
        self, connection: Connection, table: type[SchemaVersion] | type[GuidelineVersion], sha256: str
    ) -> int | None:
        """The id of the version with this content: a file that is imported again makes none."""
        same = (table.project_id == self._who.project_id, table.sha256 == sha256)
        return connection.scalar(select(table.id).where(*same).limit(1))


def numbered_lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of an open file, without the byte order mark that some programs write."""
    for number, line in enumerate(stream):
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
