"""The tables, as SQLAlchemy 2 typed models.  Times are UTC; ids are integers (docs/decisions/0005-store.md).

    project -- prompt -- response -- item_response -- item -- annotation -- annotator
                            |                           |          |            |
               model_ref -- generation_run          assignment   answers     account     (schema_feedback.py)

`digest` is the identity of a row's content: the first 16 hex digits of a sha256.  It is the same in every store, so
that repeating an insert adds nothing and orders that matter do not depend on who wrote first.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Every migration this code knows, oldest first; the last one is what the code needs.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012")


def digest(*parts: Any) -> str:
    """16 hex digits that identify JSON content (as in `records.Prompt.id`)."""
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def folded(text: str) -> str:
    """A text as it is searched, and what is searched for: NFKC, without case; the same on every database."""
    return unicodedata.normalize("NFKC", text).casefold()


def search_text(content: Any) -> str:
    """What a prompt is searched by: the text of all its messages, folded."""
    turns = content["messages"] if isinstance(content, dict) else content
    texts = [turns] if isinstance(turns, str) else [_said(turn) for turn in turns]
    return folded("\n".join(texts))


def _said(turn: dict[str, Any]) -> str:
    said = turn.get("content") or ""
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in time: aware datetimes in and out, UTC in the database (SQLite keeps no zone)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "times in the store carry a zone"
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """The metadata that all tables share; every constraint has a name, so that a later migration can change it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {dict[str, Any]: JSON(none_as_null=True), datetime: UtcDateTime()}


class StoreInfo(Base):
    """What is known of the store itself: `identity`, a name of its own that no other store has."""

    __tablename__ = "store_info"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Project(Base):
    """A body of work with its own prompts: what `store:PROJECT` names.  With `deleted_at` it is hidden everywhere."""

    __tablename__ = "project"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    deleted_at: Mapped[datetime | None]


class ModelRef(Base):
    """A model that wrote responses: its name (path or hub name) and a hash of its weights ('' = not known)."""

    __tablename__ = "model_ref"
    __table_args__ = (UniqueConstraint("name", "sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class GenerationRun(Base):
    """One way of writing responses: model, engine and sampling parameters with the seed."""

    __tablename__ = "generation_run"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_ref_id: Mapped[int] = mapped_column(ForeignKey("model_ref.id"))
    engine: Mapped[str]
    params: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(unique=True)
    started_at: Mapped[datetime] = mapped_column(default=now)


class PromptRow(Base):
    """A prompt of a project; `digest` is `records.Prompt.id`."""

    __tablename__ = "prompt"
    __table_args__ = (UniqueConstraint("project_id", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    content: Mapped[Any] = mapped_column(JSON)  # a string, or a list of {"role", "content"}
    task: Mapped[str]
    reference: Mapped[dict[str, Any] | None]
    split: Mapped[str]
    digest: Mapped[str]
    search: Mapped[str] = mapped_column(
        default=lambda context: search_text(context.get_current_parameters()["content"]), server_default=""
    )
    redacted_at: Mapped[datetime | None]  # its text is gone, its identity stays


class ResponseRow(Base):
    """A response with its provenance; `logprob` (nats) is the sum over its tokens at the sampling temperature."""

    __tablename__ = "response"
    __table_args__ = (UniqueConstraint("generation_run_id", "prompt_id", "sample_index"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    generation_run_id: Mapped[int] = mapped_column(ForeignKey("generation_run.id"))
    sample_index: Mapped[int]
    text: Mapped[str]
    finish_reason: Mapped[str]
    n_tokens: Mapped[int]
    logprob: Mapped[float | None]
    digest: Mapped[str]
    search: Mapped[str] = mapped_column(
        default=lambda context: folded(context.get_current_parameters()["text"]), server_default=""
    )
    redacted_at: Mapped[datetime | None]  # its text is gone, its identity stays


ITEM_TYPES = ("pair", "rank", "rate", "step", "rewrite", "chat")
FIRST_ANSWER = "supersedes_id IS NULL AND role <> 'adjudication'"
REVISION = "supersedes_id IS NOT NULL"
FIRST_ADJUDICATION = "supersedes_id IS NULL AND role = 'adjudication'"
UNCOUNTED = "role <> 'answer'"
WITH_REASON = "reason <> ''"
APART = "spread > 0"
# As SQLAlchemy writes these conditions for each database: an index answers only what is asked in its own words.
SHARED = {"sqlite": "owner_id IS NULL AND closed IS 0", "postgresql": "owner_id IS NULL AND closed IS false"}
OPEN = {name: f"{shared} AND n_done < overlap" for name, shared in SHARED.items()}


def partial_index(name: str, *columns: str, where: Mapping[str, str], unique: bool = False) -> Index:
    """An index of the rows that fit a condition, which is said for each database."""
    said: dict[str, Any] = {f"{database}_where": text(words) for database, words in where.items()}
    return Index(name, *columns, unique=unique, **said)


def everywhere(where: str) -> dict[str, str]:
    """A condition that all databases are told in the same words."""
    return dict.fromkeys(("sqlite", "postgresql"), where)


class Item(Base):
    """A question put to annotators about the responses in its slots.

    `n_done` counts the annotators with a counted answer, `spread` says how far these lie apart (see `counting`): they only
    make the queue and the search for conflicts fast, whoever adds answers recounts them, and `doctor` compares.  An item
    with an `owner_id` is for that annotator only (a turn of a chat, a step written again) and stands below `parent_id`.
    """

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("project_id", "digest"),
        CheckConstraint(f"type IN {ITEM_TYPES}", name="item_type"),
        CheckConstraint("overlap >= 1", name="item_overlap"),
        Index("ix_item_queue", "project_id", "priority", "digest"),
        Index("ix_item_type", "project_id", "type", "digest"),
        partial_index("ix_item_shared", "project_id", where=SHARED),  # counts what there is
        partial_index("ix_item_open", "project_id", "priority", "digest", where=OPEN),  # finds what is next
        partial_index("ix_item_apart", "project_id", "type", "spread", "n_done", where=everywhere(APART)),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    type: Mapped[str]
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    overlap: Mapped[int]  # how many annotators are wanted
    digest: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    priority: Mapped[float] = mapped_column(default=0.0, server_default="0")  # high comes first
    n_done: Mapped[int] = mapped_column(default=0, server_default="0")
    spread: Mapped[int] = mapped_column(default=0, server_default="0")
    closed: Mapped[bool] = mapped_column(default=False, server_default=false())
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"), index=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("annotator.id"))
    reserved: Mapped[bool] = mapped_column(default=False, server_default=false())  # see ItemReserved


class ItemResponse(Base):
    """A response's canonical slot in an item; slots say nothing about sides on a screen."""

    __tablename__ = "item_response"
    __table_args__ = (UniqueConstraint("item_id", "response_id"),)

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"), index=True)


class Annotator(Base):
    """Whoever answers; `profile` is what is known of a judge or a simulated person (JSON)."""

    __tablename__ = "annotator"
    __table_args__ = (
        CheckConstraint("kind IN ('human', 'simulated', 'judge', 'rule')", name="annotator_kind"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    profile: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Annotation(Base):
    """One answer of one annotator to one item.  Append-only: a revision is a new row that points at the one it supersedes.

    For a pair, `preference` (-3 the first slot is much better .. 3 the second) and `first_shown` stand here, whoever
    answered; what other item types ask stands in the tables of schema_feedback.py.  `role`: an `answer` counts; an
    `extra` one came when the item was full already; an `adjudication` settles a conflict and is no vote.

    The database itself refuses UPDATE and DELETE (trigger), a second first answer of an annotator to an item, a
    second adjudication of an item and two revisions of the same answer (partial unique indexes).
    """

    __tablename__ = "annotation"
    __table_args__ = (
        CheckConstraint("preference BETWEEN -3 AND 3", name="annotation_preference"),
        CheckConstraint("first_shown IN (0, 1)", name="annotation_first_shown"),
        CheckConstraint("(preference IS NULL) = (first_shown IS NULL)", name="annotation_sides"),
        CheckConstraint("role IN ('answer', 'extra', 'adjudication')", name="annotation_role"),
        Index("ix_annotation_item_id_annotator_id", "item_id", "annotator_id"),
        Index("ix_annotation_annotator", "annotator_id", "id"),  # what somebody answered last
        partial_index(
            "annotation_once", "item_id", "annotator_id", where=everywhere(FIRST_ANSWER), unique=True
        ),
        # Without the rows that revise nothing: SQLite would look those up by it, one by one.
        partial_index("annotation_revised_once", "supersedes_id", where=everywhere(REVISION), unique=True),
        partial_index(
            "annotation_settled_once", "item_id", where=everywhere(FIRST_ADJUDICATION), unique=True
        ),
        partial_index("ix_annotation_uncounted", "item_id", where=everywhere(UNCOUNTED)),
        partial_index("ix_annotation_reason", "item_id", where=everywhere(WITH_REASON)),  # searched
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    role: Mapped[str] = mapped_column(default="answer", server_default="answer")
    preference: Mapped[int | None]
    first_shown: Mapped[int | None]
    client_key: Mapped[str] = mapped_column(unique=True)
    submitted_at: Mapped[datetime] = mapped_column(default=now)
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("annotation.id"))
    # What only people's answers have: programs answer without an assignment.
    assignment_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"), index=True)
    confidence: Mapped[int | None]
    reason: Mapped[str | None]
    verdict: Mapped[str | None]  # step: how it finished; chat: satisfied or not
    active_ms: Mapped[int | None]
    ui_version: Mapped[str | None]
