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
from tutelage.feedback.incoming import Kind as Kind
from tutelage.feedback.incoming import (
    PreferenceLine,
    PromptColumns,
    PromptLine,
    RawAnswer,
    RawGuidelines,
    RawQuestions,
    RawResponse,
    ResponseLine,
    ScoreLine,
    parse_line,
    why_not,
)
from tutelage.feedback.payloads import Answer, PairAnswer, Schema
from tutelage.feedback.projects import guideline_sha, insert_guideline, insert_schema, schema_sha
from tutelage.feedback.raw import IMPORTED
from tutelage.feedback.slots import to_positions
from tutelage.feedback.stored import read_answers, write_answer
from tutelage.feedback.tasks import steps_shown
from tutelage.records import Prompt, Response, Vote
from tutelage.store.database import Database
from tutelage.store.generations import insert_generation_run, insert_prompts, insert_responses
from tutelage.store.rows import ModelInfo, NewVote
from tutelage.store.schema import (
    ITEM_TYPES,
    Annotation,
    Annotator,
    Item,
    ItemResponse,
    PromptRow,
    ResponseRow,
    digest,
)
from tutelage.store.schema_feedback import Assignment, GuidelineVersion, ResponseScore, SchemaVersion
from tutelage.store.sql import insert_one, lock_project
from tutelage.store.voting import insert_votes, recount

AT_ONCE = 500  # lines per transaction: what a crash makes to do again
VOTER = "import"  # whose votes the comparisons of a preference file are


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
            return _store_response(connection, key, row)
        if isinstance(row, PreferenceLine):
            return _store_preference(connection, key, row)
        if isinstance(row, ScoreLine):
            return _store_score(connection, key, row)
        if isinstance(row, RawAnswer):
            return _store_answer(connection, key, row, self._versions)
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


# storing --------------------------------------------------------------------------------------------------------------


def _ensure_prompt(connection: Connection, key: int, row: PromptColumns) -> Prompt:
    """The prompt of a line, in the project, in whatever split it is there."""
    prompt = row.to_prompt()
    there = select(PromptRow.id).where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
    if connection.scalar(there) is None:
        insert_prompts(connection, key, [prompt], row.split)
    return prompt


def _store_response(connection: Connection, key: int, row: ResponseLine) -> bool:
    prompt = _ensure_prompt(connection, key, row)
    model = ModelInfo(row.model, row.model_sha256)
    run_id = insert_generation_run(connection, model, row.engine, row.params)
    index = row.sample_index
    if index is None:
        known = _indices(connection, key, prompt, run_id)
        if digest(row.response) in known.values():
            return False
        index = max(known, default=-1) + 1
    logprobs = () if row.logprob is None else (row.logprob,)
    tokens = tuple(range(row.n_tokens))  # only their number is stored
    response = Response(prompt, row.response, (), tokens, logprobs, row.finish, index)
    return bool(insert_responses(connection, key, run_id, [response]))


def _indices(connection: Connection, key: int, prompt: Prompt, run_id: int) -> dict[int, str]:
    """sample index -> digest of the text, of one run's responses to a prompt."""
    query = (
        select(ResponseRow.sample_index, ResponseRow.digest)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
        .where(ResponseRow.generation_run_id == run_id)
    )
    return {row.sample_index: row.digest for row in connection.execute(query)}


def _store_preference(connection: Connection, key: int, row: PreferenceLine) -> bool:
    """A pair and a vote on it: the side by p_chosen, the strength by the margin (1 is as strong as can be)."""
    sides = [_side(row.chosen, "chosen"), _side(row.rejected, "rejected")]
    prompt = _ensure_prompt(connection, key, row)
    if sides[0] == sides[1]:
        raise ValueError("chosen and rejected are the same text")
    for text in sides:
        line = row.model_dump(include={"prompt", "task", "reference", "split"})
        _store_response(connection, key, ResponseLine(**line, response=text))
    texts = sorted(sides, key=digest)
    item_id = _ensure_item(
        connection, key, "pair", prompt, texts, digest("pair", prompt.id, *map(digest, texts)), overlap=1
    )
    side = (row.p_chosen > 0.5) - (row.p_chosen < 0.5)
    strength = max(1, min(3, round(3 * row.margin)))
    preference = side * strength * (1 if texts[1] == sides[0] else -1)
    annotator_id = _ensure_annotator(connection, VOTER, "rule")
    assert annotator_id
    vote = NewVote(item_id, Vote(VOTER, preference, 0), f"{VOTER}/{item_id}")
    return bool(insert_votes(connection, key, [vote]))


def _side(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        text = value[0].get("content")
        if value[0].get("role") == "assistant" and isinstance(text, str):
            return text
    raise ValueError(f"{name} must be text or one assistant message")


def _store_score(connection: Connection, key: int, row: ScoreLine) -> bool:
    prompt = row.to_prompt()
    query = (
        select(ResponseRow.id)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
        .where(ResponseRow.digest == digest(row.response))
    )
    found = list(connection.scalars(query))
    if not found:
        raise ValueError("this response is not in the project: import responses first")
    new = False
    for response_id in found:
        place = (ResponseScore.response_id == response_id, ResponseScore.source == row.source)
        there = connection.scalar(select(ResponseScore.value).where(*place))
        if there is None:
            insert_one(connection, ResponseScore, response_id=response_id, source=row.source, value=row.score)
            new = True
        elif there != row.score:
            raise ValueError(
                f"the response has another score by '{row.source}' ({there:g}): name another source"
            )
    return new


def _store_answer(
    connection: Connection, key: int, row: RawAnswer, versions: dict[tuple[str, int], int]
) -> bool:
    client_key = IMPORTED + row.key
    known = connection.execute(
        select(Annotation.id, Annotation.item_id).where(Annotation.client_key == client_key)
    ).one_or_none()
    if known is not None:
        if read_answers(connection, [known.id])[known.id] != row.answer:
            raise ValueError(f"key '{row.key}' is there with another answer")
        return False
    item_id = _ensure_raw_item(connection, key, row)
    annotator_id = _ensure_annotator(connection, row.annotator, row.annotator_kind)
    supersedes = _superseded(connection, row)
    assignment_id = _ensure_assignment(connection, item_id, annotator_id, row, versions)
    _refuse_second(connection, item_id, annotator_id, row, supersedes)
    steps: Sequence[str] = ()
    if row.type == "step" and row.responses:
        steps = _steps(connection, assignment_id, row)
    first_shown = row.shown_order[0] if row.shown_order else 0
    write_answer(
        connection,
        row.answer,
        steps,
        first_shown,
        item_id=item_id,
        annotator_id=annotator_id,
        assignment_id=assignment_id,
        role=row.role,
        client_key=client_key,
        supersedes_id=supersedes,
        active_ms=row.active_ms,
        submitted_at=row.submitted_at,
    )
    recount(connection, [item_id])
    return True


def _ensure_raw_item(connection: Connection, key: int, row: RawAnswer) -> int:
    if row.type not in ITEM_TYPES or row.answer.type != row.type:
        raise ValueError(f"an item of type '{row.type}' cannot have an answer of type '{row.answer.type}'")
    if sorted(row.shown_order) != list(range(len(row.responses))) and row.shown_order:
        raise ValueError("shown_order does not name every response once")
    _check_shape(row.answer, len(row.responses))
    prompt = _ensure_prompt(connection, key, row)
    for response in row.responses:
        line = {name: getattr(row, name) for name in ("prompt", "task", "reference", "split")}
        _store_response(connection, key, ResponseLine(**line, **_renamed(response)))
    return _ensure_item(
        connection, key, row.type, prompt, [r.text for r in row.responses], row.item, row.overlap
    )


def _check_shape(answer: Answer, slots: int) -> None:
    """Whether every response is spoken of: turning the answer around must be possible."""
    try:
        to_positions(answer, range(slots))
    except IndexError:
        raise ValueError("the answer is not about as many responses as there are") from None
    if isinstance(answer, PairAnswer) and slots != 2:
        raise ValueError(f"a pair has two responses, not {slots}")


def _renamed(response: RawResponse) -> dict[str, Any]:
    content = response.model_dump()
    content["response"] = content.pop("text")
    return content


def _ensure_item(
    connection: Connection,
    key: int,
    type: str,
    prompt: Prompt,
    texts: Sequence[str],
    item_digest: str,
    overlap: int,
) -> int:
    """The item with this digest; made with the project's responses of these texts, in this order of slots."""
    there = select(Item.id).where(Item.project_id == key, Item.digest == item_digest)
    found = connection.scalar(there)
    if found is not None:
        return found
    prompt_id = connection.scalar(
        select(PromptRow.id).where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
    )
    item_id = insert_one(
        connection,
        Item,
        project_id=key,
        type=type,
        prompt_id=prompt_id,
        overlap=overlap,
        digest=item_digest,
    )
    used: list[int] = []
    for slot, text in enumerate(texts):
        same = (ResponseRow.prompt_id == prompt_id, ResponseRow.digest == digest(text))
        query = select(ResponseRow.id).where(*same, ResponseRow.id.not_in(used)).order_by(ResponseRow.id)
        response_id = connection.scalar(query.limit(1))
        assert response_id is not None
        used.append(response_id)
        insert_one(connection, ItemResponse, item_id=item_id, slot=slot, response_id=response_id)
    return item_id


def _ensure_annotator(connection: Connection, name: str, kind: str) -> int:
    row = connection.execute(select(Annotator.id, Annotator.kind).where(Annotator.name == name)).one_or_none()
    if row is None:
        return insert_one(connection, Annotator, name=name, kind=kind, profile={})
    if row.kind != kind:
        raise ValueError(f"the annotator '{name}' is there as {row.kind}, not as {kind}: rename one of them")
    return row.id


def _superseded(connection: Connection, row: RawAnswer) -> int | None:
    if row.supersedes is None:
        return None
    found = connection.scalar(select(Annotation.id).where(Annotation.client_key == IMPORTED + row.supersedes))
    if found is None:
        raise ValueError(f"it revises '{row.supersedes}', which is not there: keep the order of the file")
    return found


def _refuse_second(
    connection: Connection, item_id: int, annotator_id: int, row: RawAnswer, supersedes: int | None
) -> None:
    """What the database would refuse, in words."""
    if supersedes is not None:
        if connection.scalar(select(Annotation.id).where(Annotation.supersedes_id == supersedes)):
            raise ValueError("it revises an answer that was revised already")
        return
    same = (Annotation.item_id == item_id, Annotation.supersedes_id.is_(None))
    if row.role == "adjudication":
        taken = select(Annotation.id).where(*same, Annotation.role == "adjudication")
    else:
        own = Annotation.annotator_id == annotator_id
        taken = select(Annotation.id).where(*same, own, Annotation.role != "adjudication")
    if connection.scalar(taken) is not None:
        raise ValueError(f"'{row.annotator}' has answered this item here already, under another key")


def _ensure_assignment(
    connection: Connection,
    item_id: int,
    annotator_id: int,
    row: RawAnswer,
    versions: dict[tuple[str, int], int],
) -> int | None:
    """What the annotator was shown; None for programs, which are shown nothing."""
    if row.questions is None:
        return None
    place = (Assignment.item_id == item_id, Assignment.annotator_id == annotator_id)
    found = connection.scalar(select(Assignment.id).where(*place))
    if found is not None:
        return found
    if ("questions", row.questions) not in versions:
        raise ValueError(f"version {row.questions} of the questions is not in the file before this line")
    return insert_one(
        connection,
        Assignment,
        item_id=item_id,
        annotator_id=annotator_id,
        status="review" if row.role == "adjudication" else "done",
        lease_expires_at=row.submitted_at,
        assigned_at=row.submitted_at,
        presented_order=row.shown_order,
        order_seed=0,
        schema_version_id=versions["questions", row.questions],
        guideline_version_id=versions.get(("guidelines", row.guidelines or 0)),
    )


def _steps(connection: Connection, assignment_id: int | None, row: RawAnswer) -> Sequence[str]:
    content = connection.scalar(
        select(SchemaVersion.content)
        .join(Assignment, Assignment.schema_version_id == SchemaVersion.id)
        .where(Assignment.id == assignment_id)
    )
    schema = Schema() if content is None else Schema.model_validate(content)
    steps = steps_shown("step", schema, row.responses[0].text)
    assert row.answer.type == "step"
    if any(mark.step >= len(steps) for mark in row.answer.marks):
        raise ValueError(f"a step is marked that is not there: the response has {len(steps)}")
    return steps


def numbered_lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of an open file, without the byte order mark that some programs write."""
    for number, line in enumerate(stream):
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
