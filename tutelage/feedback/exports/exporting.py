"""Exports: answers as files for trainers and for keeping, each with a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tutelage import __version__
from tutelage.feedback.exports.current import Look, LookedEnough, Source
from tutelage.feedback.exports.files import as_written, require_room, write_rows
from tutelage.feedback.exports.foreign import FOREIGN
from tutelage.feedback.exports.formats import WRITERS
from tutelage.feedback.exports.raw import raw
from tutelage.feedback.exports.refined import PARTS, refinements
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.insights.totals import totals
from tutelage.feedback.people.access import Member, note
from tutelage.feedback.projects.projects import current_schema, guidelines
from tutelage.files import sha256_of, write_json_atomic
from tutelage.store.database import Database
from tutelage.store.schema import REVISIONS, PromptRow, now
from tutelage.store.schema_feedback import ExportRow, SchemaVersion
from tutelage.store.sql import insert_one

_WRITERS = WRITERS | FOREIGN | {"raw": raw, "refinements": refinements}


@dataclass(frozen=True)
class Exported:
    """A finished export: the data file, its manifest beside it, and what the manifest says."""

    file: Path
    manifest: Path
    rows: int
    left_out: dict[str, int]  # reason -> how many (see `Source`)
    sha256: str
    beside: tuple[Exported, ...] = ()  # refinements: what they teach, a file for each part


@dataclass(frozen=True)
class Preview:
    """What an export would write: the first rows as they would stand in the file, how many there are, what is left out.

    Of a large project that is counted over the first LOOKED_AT items; then it is not `whole`.
    """

    first: list[dict[str, Any]]
    rows: int
    left_out: dict[str, int]  # reason -> how many (see `Source`)
    whole: bool


LOOKED_AT = 10_000


def preview(database: Database, who: Member, spec: ExportSpec, limit: int = 3) -> Preview:
    """What an export would write.  Needs export.  Refused: invalid (the specification)."""
    require_room(spec)
    left_out: Counter[str] = Counter()
    first: list[dict[str, Any]] = []
    number, whole = 0, True
    try:
        for row in rows(database, who, spec, left_out, Look(LOOKED_AT)):
            number += 1
            if number <= limit:
                first.append(row)
    except LookedEnough:
        whole = False
    shown = as_written(first, spec, _criteria(database, who))
    return Preview(shown, number, dict(sorted(left_out.items())), whole)


def rows(
    database: Database,
    who: Member,
    spec: ExportSpec,
    left_out: Counter[str] | None = None,
    look: Look | None = None,
) -> Iterator[dict[str, Any]]:
    """All rows, for a streamed download; they see one state of the store.  Needs export.

    `left_out` collects what has no place in the format, by reason.  With a `look` LookedEnough ends them.
    """
    who.require("export")
    writer = _WRITERS[spec.format]
    with database.read() as connection:
        counted = Counter() if left_out is None else left_out
        yield from writer(Source(connection, who.project_id, spec, counted, look))


def export(database: Database, who: Member, spec: ExportSpec, out: Path) -> Exported:
    """Write `out` and `out`.manifest.json, and note it in the store; of refinements also what they teach, in files beside `out`
    that are named after it and their part.  Needs export.

    Each file is there whole or not at all; the manifest comes last.  Raises OSError when the disk refuses.
    """
    who.require("export")
    require_room(spec)
    manifest = out.with_name(f"{out.name}.manifest.json")
    done = _write(database, who, spec, out, manifest)
    if spec.format == "refinements" and spec.part == "all":
        parts = (
            _write(
                database,
                who,
                spec.model_copy(update={"part": part}),
                out.with_name(f"{out.stem}.{part}{out.suffix}"),
                manifest,
            )
            for part in PARTS[1:]
        )
        done = replace(done, beside=tuple(parts))
    n = done.rows
    write_json_atomic(manifest, _manifest(database, who, spec, done))
    counted = {"rows": n, "sha256": done.sha256}
    with database.write() as connection:
        by = {"project_id": who.project_id, "account_id": who.user.account_id}
        insert_one(connection, ExportRow, **by, spec=spec.model_dump(mode="json"), **counted)
        note(connection, who.user, "export", spec.format, who.project_id, **counted)
    return done


def _write(database: Database, who: Member, spec: ExportSpec, out: Path, manifest: Path) -> Exported:
    """One file."""
    left_out: Counter[str] = Counter()
    n = write_rows(out, rows(database, who, spec, left_out), spec, _criteria(database, who))
    return Exported(out, manifest, n, dict(sorted(left_out.items())), sha256_of(out))


def splits(database: Database, who: Member) -> list[tuple[str, str]]:
    """The splits of the project's prompts, each as (value, words) of a choice.  Needs export."""
    who.require("export")
    query = select(PromptRow.split).where(PromptRow.project_id == who.project_id).distinct()
    with database.read() as connection:
        return [(name, name) for name in sorted(connection.scalars(query)) if name not in ("auto", "all")]


def _criteria(database: Database, who: Member) -> list[str]:
    """The names of all criteria that the project ever asked for, oldest questions first."""
    query = select(SchemaVersion.content).where(SchemaVersion.project_id == who.project_id)
    with database.read() as connection:
        contents = connection.scalars(query.order_by(SchemaVersion.n)).all()
    names = (criterion["name"] for content in contents for criterion in content["criteria"])
    return list(dict.fromkeys(names))


def _described(done: Exported) -> dict[str, Any]:
    return {
        "file": done.file.name,
        "sha256": done.sha256,
        "bytes": done.file.stat().st_size,
        "rows": done.rows,
        "left_out": done.left_out,
    }


def _manifest(database: Database, who: Member, spec: ExportSpec, done: Exported) -> dict[str, Any]:
    with database.read() as connection:
        version, questions = current_schema(connection, who.project_id)
        aggregation = Source(connection, who.project_id, spec, Counter()).aggregation
    written = guidelines(database, who)
    beside = {"beside": [_described(one) for one in done.beside]} if done.beside else {}
    return {
        **_described(done),
        **beside,
        "spec": spec.model_dump(mode="json"),
        "aggregation": aggregation,  # what auto was
        "project": who.project,
        "totals": asdict(totals(database, who)),
        "questions": {"n": version, "content": questions.model_dump(mode="json")},
        "guidelines": written[0].n if written else 0,
        "store_schema": REVISIONS[-1],
        "tutelage": __version__,
        "made_at": now().isoformat(),
    }
