"""Projects: members and roles, settings, and the versions of questions and guidelines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Subquery, bindparam, delete, func, select, update

from tutelage.feedback.asking.payloads import MAX_TEXT, MOST_ANNOTATORS, ProjectSettings, Role, Schema
from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import LOCAL, Member, User, find_member, note
from tutelage.store.current import IS_FIRST
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Annotator, Item, Project
from tutelage.store.schema_feedback import Account, AuditEvent, GuidelineVersion, Membership, SchemaVersion
from tutelage.store.sql import insert_one, lock_project, project_id

TEAM_LENGTH = 64  # characters of a team's name
PARSED_AT_MOST = 1000  # versions of questions in memory
Versions = type[SchemaVersion] | type[GuidelineVersion]
_parsed: dict[str, Schema] = {}
_SCHEMA = select(SchemaVersion.n, SchemaVersion.content, SchemaVersion.sha256).where(
    SchemaVersion.id == bindparam("version")
)
_STANDING = select(
    Project.settings,
    select(SchemaVersion.id)
    .where(SchemaVersion.project_id == Project.id)
    .order_by(SchemaVersion.n.desc())
    .limit(1)
    .scalar_subquery()
    .label("schema_id"),
).where(Project.id == bindparam("project"))


@dataclass(frozen=True)
class Guideline:
    """One immutable version; n counts from 1 (0 = none written yet, empty text)."""

    n: int
    markdown: str
    created_at: datetime | None
    by: str | None


@dataclass(frozen=True)
class ProjectInfo:
    """A project as members see it."""

    name: str
    role: Role
    settings: ProjectSettings
    schema: Schema
    schema_version: int
    guideline: Guideline


@dataclass(frozen=True)
class MemberRow:
    """One line of the list of members."""

    name: str
    role: Role
    team: str
    active: bool
    answers: int


def member(database: Database, user: User, project: str, deleted: bool = False) -> Member:
    """The user's place in a project, also in a deleted one if asked for.  Refused: not-found (also to strangers)."""
    with database.read() as connection:
        return find_member(connection, user, project, deleted)


def local_member(database: Database, project: str, create: bool = False, deleted: bool = False) -> Member:
    """Whoever works on the store's own machine, as the project's owner: for the command line.

    Raises ValueError naming the nearest project when there is none of that name (unless `create`), and for a deleted
    one (unless `deleted`).
    """
    if create:
        with database.write() as connection:
            key = lock_project(connection, project, database.place, create=True)
    else:
        with database.read() as connection:
            key = project_id(connection, project, database.place, deleted)
    return Member(LOCAL, key, project, "owner")


def projects_of(database: Database, user: User) -> list[ProjectInfo]:
    """The projects of a user (all, for an administrator), by name."""
    with database.read() as connection:
        own = (Membership.project_id == Project.id) & (Membership.account_id == user.id)
        query = select(Project.id, Project.name, Membership.role).outerjoin(Membership, own)
        query = query.where(Project.deleted_at.is_(None)).order_by(Project.name)
        rows = connection.execute(query if user.administrator else query.where(Membership.role.is_not(None)))
        role: Role | None = "owner" if user.administrator else None
        places = [Member(user, row.id, row.name, role or row.role) for row in rows]
        return [_info(connection, place) for place in places]


def names(database: Database) -> list[str]:
    """The names of all projects, sorted: for the command line."""
    with database.read() as connection:
        there = select(Project.name).where(Project.deleted_at.is_(None))
        return list(connection.scalars(there.order_by(Project.name)))


def info(database: Database, who: Member) -> ProjectInfo:
    """The project with its current settings, questions and guidelines."""
    with database.read() as connection:
        return _info(connection, who)


def settings(database: Database, who: Member) -> ProjectSettings:
    """The settings in force."""
    with database.read() as connection:
        return settings_of(connection, who.project_id)


def create_project(
    database: Database,
    by: User,
    name: str,
    settings: ProjectSettings | None = None,
    schema: Schema | None = None,
) -> Member:
    """A new project; `by` becomes its owner.  Refused: forbidden (administrators create), conflict, invalid."""
    if not by.administrator:
        raise Refused("forbidden", "only an administrator makes projects.")
    if not name or name != name.strip() or len(name) > 100 or not name.isprintable() or "/" in name:
        raise Refused(
            "invalid", "a project's name has 1 to 100 printable characters, no '/', no space at its ends."
        )
    with database.write() as connection:
        there = select(Project.id, Project.deleted_at).where(Project.name == name)
        row = connection.execute(there).one_or_none()
        if row is not None:
            was = "was a project" if row.deleted_at else "is a project"
            raise Refused("conflict", f"there {was} '{name}' already: choose another name.")
        content = (settings or ProjectSettings()).model_dump(mode="json")
        key = insert_one(connection, Project, name=name, settings=content)
        who = Member(by, key, name, "owner")
        if by.account_id is not None:
            insert_one(connection, Membership, project_id=key, account_id=by.id, role="owner")
        insert_schema(connection, key, schema or Schema(), by.account_id)
        note(connection, by, "create-project", name, key)
    return who


def members(database: Database, who: Member) -> list[MemberRow]:
    """All members by name.  Needs manage."""
    who.require("manage")
    with database.read() as connection:
        answered = answered_by(who.project_id)
        columns = (Account.name, Membership.role, Membership.team, Account.active)
        rows = connection.execute(
            select(*columns, func.coalesce(answered.c.n, 0))
            .select_from(Account)
            .join(Membership)
            .outerjoin(answered, answered.c.annotator_id == Account.annotator_id)
            .where(Membership.project_id == who.project_id)
            .order_by(Account.name)
        )
        return [MemberRow(*row) for row in rows]


def set_role(
    database: Database, who: Member, user_name: str, role: Role | None, team: str | None = None
) -> None:
    """Add or change a member; a role of None removes the membership, never the answers; a team of None stays as it is.

    A project whose owners are gone is the administrators'.  Refused: forbidden (only owners make and unmake owners),
    not-found, invalid (the team is no word).
    """
    who.require("manage")
    team = None if team is None else team.strip()
    if team and (len(team) > TEAM_LENGTH or not team.isprintable()):
        raise Refused("invalid", f"a team has at most {TEAM_LENGTH} printable characters.")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        account = connection.scalar(select(Account.id).where(Account.name == user_name))
        if account is None:
            raise Refused("not-found", f"there is no user '{user_name}': send an invitation instead.")
        place = (Membership.project_id == who.project_id) & (Membership.account_id == account)
        old = connection.scalar(select(Membership.role).where(place))
        if "owner" in (old, role) and old != role:
            who.require("own")
        new = {"role": role} | ({} if team is None else {"team": team})
        if role is None:
            connection.execute(delete(Membership).where(place))
        elif old is None:
            insert_one(connection, Membership, project_id=who.project_id, account_id=account, **new)
        else:
            connection.execute(update(Membership).where(place).values(**new))
        note(connection, who.user, "role", user_name, who.project_id, before=old, after=role, team=team)


def set_settings(
    database: Database, who: Member, settings: ProjectSettings, apply_overlap: bool = False
) -> None:
    """Replace the settings; with `apply_overlap` also set the overlap of every item there is.  Needs manage."""
    who.require("manage")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        content = _store_settings(connection, who, settings)
        if apply_overlap:
            shared = (Item.project_id == who.project_id, Item.owner_id.is_(None))
            connection.execute(update(Item).where(*shared).values(overlap=settings.overlap))
        note(connection, who.user, "settings", who.project, who.project_id, **content)


def answered_by_programs_only(database: Database, who: Member) -> bool:
    """Whether there are answers, and none of them by a person: what a store is like after `label`."""
    with database.read() as connection:
        here = select(Annotation.id).join(Item).where(Item.project_id == who.project_id)
        one = here.join(Annotator, Annotator.id == Annotation.annotator_id).limit(1)
        if connection.scalar(one.with_only_columns(Annotator.kind)) in (None, "human"):  # which mostly tells
            return False
        by_them = here.where(Annotation.annotator_id == Annotator.id).correlate(Annotator).exists()
        people = select(Annotator.id).where(Annotator.kind == "human", by_them)
        return connection.scalar(people.limit(1)) is None


def ask_one_more(database: Database, who: Member) -> int:
    """Every shared item that is not closed wants one annotator more; annotators see their agreement with the others.

    Returns how many items that are.  Needs manage.
    """
    who.require("manage")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        shared = (Item.project_id == who.project_id, Item.owner_id.is_(None))
        wanted = (*shared, Item.closed.is_(False), Item.overlap < MOST_ANNOTATORS)
        count = connection.execute(update(Item).where(*wanted).values(overlap=Item.overlap + 1)).rowcount
        settings = settings_of(connection, who.project_id).model_copy(update={"show_agreement": True})
        _store_settings(connection, who, settings)
        note(connection, who.user, "one-more", who.project, who.project_id, items=count)
        return count


def set_schema(database: Database, who: Member, schema: Schema) -> int:
    """Store a new version of the questions (the same content again makes none); returns n.  Needs manage."""
    who.require("manage")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        version = insert_schema(connection, who.project_id, schema, who.user.account_id)
        note(connection, who.user, "questions", str(version.n), who.project_id)
        return version.n


def set_guideline(database: Database, who: Member, markdown: str) -> int:
    """Store a new version of the guidelines (the same content again makes none); returns n.  Needs manage."""
    who.require("manage")
    if len(markdown) > MAX_TEXT:
        raise Refused("invalid", f"guidelines have at most {MAX_TEXT} characters.")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        version = insert_guideline(connection, who.project_id, markdown, who.user.account_id)
        note(connection, who.user, "guidelines", str(version.n), who.project_id)
        return version.n


def guidelines(database: Database, who: Member) -> list[Guideline]:
    """All versions, newest first.  Any member."""
    with database.read() as connection:
        return _guidelines(connection, who.project_id)


def audit(
    database: Database, who: Member, limit: int = 200, before: int | None = None
) -> list[dict[str, Any]]:
    """Who did what in the project, newest first: {id, at, who, what, object, detail}.  Needs manage.

    `before`: only what happened before the event of that id.
    """
    who.require("manage")
    row, by = AuditEvent, func.coalesce(Account.name, LOCAL.name).label("who")
    query = select(row.id, row.at, by, row.what, row.object, row.detail).select_from(row).outerjoin(Account)
    query = query.where(row.project_id == who.project_id).order_by(row.id.desc()).limit(limit)
    with database.read() as connection:
        rows = connection.execute(query if before is None else query.where(row.id < before))
        return [dict(one) for one in rows.mappings()]


# for the other services: inside their transactions ----------------------------------------------------------------


def answered_by(key: int) -> Subquery:
    """By annotator of a project: how many items they answered (`n`), and when `last`."""
    last = func.max(Annotation.submitted_at).label("last")
    # Plus 0: answers are read as they lie, not by annotator.
    who = (Annotation.annotator_id + 0).label("annotator_id")
    here = select(Item.id).where(Item.id == Annotation.item_id, Item.project_id == key).exists()
    return select(who, func.count().label("n"), last).where(here, IS_FIRST).group_by(who).subquery()


def settings_of(connection: Connection, key: int) -> ProjectSettings:
    """The settings in force; what an older version wrote and this one does not know is left out."""
    return parsed_settings(connection.scalar(select(Project.settings).where(Project.id == key)))


def parsed_settings(stored: dict[str, Any] | None) -> ProjectSettings:
    stored = stored or {}
    known = {name: value for name, value in stored.items() if name in ProjectSettings.model_fields}
    try:
        return ProjectSettings.model_validate(known)
    except ValidationError as error:
        raise Refused(
            "conflict", f"the project's settings in the store are not usable: {error.errors()[0]['msg']}."
        ) from error


@dataclass(frozen=True)
class Standing:
    """What is in force in a project: its settings, and the row of its newest questions."""

    settings: ProjectSettings
    schema_id: int


def standing(connection: Connection, key: int) -> Standing:
    """What is in force now; questions are made, with the defaults, in a project without any."""
    row = connection.execute(_STANDING, {"project": key}).one()
    schema_id = row.schema_id
    if schema_id is None:
        connection.execute(select(Project.id).where(Project.id == key).with_for_update(key_share=True))
        schema_id = insert_schema(connection, key, Schema(), None).id  # or what is there by now
    return Standing(parsed_settings(row.settings), schema_id)


def insert_schema(connection: Connection, key: int, schema: Schema, by: int | None) -> Any:
    """The newest version if its content is the same, else a new one; a row with `id` and `n`."""
    content = schema.model_dump(mode="json")
    return _insert_version(connection, SchemaVersion, key, schema_sha(schema), by, content=content)


def insert_guideline(connection: Connection, key: int, markdown: str, by: int | None) -> Any:
    """As `insert_schema`."""
    return _insert_version(connection, GuidelineVersion, key, guideline_sha(markdown), by, markdown=markdown)


def schema_at(connection: Connection, schema_version_id: int) -> tuple[int, Schema]:
    """(n, questions) of one version."""
    row = connection.execute(_SCHEMA, {"version": schema_version_id}).one()
    return row.n, parsed_schema(row.sha256, row.content)


def parsed_schema(sha256: str, content: dict[str, Any]) -> Schema:
    """The questions of a stored version; versions never change, so each is parsed once."""
    if sha256 not in _parsed:
        if len(_parsed) >= PARSED_AT_MOST:
            _parsed.clear()
        _parsed[sha256] = Schema.model_validate(content)
    return _parsed[sha256]


def current_schema(connection: Connection, key: int) -> tuple[int, Schema]:
    """(n, questions) in force; n is 0 where nobody has asked anything yet."""
    newest = _newest(connection, SchemaVersion, key)
    return (0, Schema()) if newest is None else (newest.n, parsed_schema(newest.sha256, newest.content))


def _store_settings(connection: Connection, who: Member, settings: ProjectSettings) -> dict[str, Any]:
    content = settings.model_dump(mode="json")
    connection.execute(update(Project).where(Project.id == who.project_id).values(settings=content))
    return content


def _info(connection: Connection, who: Member) -> ProjectInfo:
    n, schema = current_schema(connection, who.project_id)
    newest = _guidelines(connection, who.project_id, 1)
    guideline = newest[0] if newest else Guideline(0, "", None, None)
    return ProjectInfo(who.project, who.role, settings_of(connection, who.project_id), schema, n, guideline)


def _guidelines(connection: Connection, key: int, limit: int | None = None) -> list[Guideline]:
    version = GuidelineVersion
    query = select(version.n, version.markdown, version.created_at, Account.name)
    query = query.outerjoin(Account, Account.id == version.by_id).where(version.project_id == key)
    return [Guideline(*row) for row in connection.execute(query.order_by(version.n.desc()).limit(limit))]


def _insert_version(
    connection: Connection, table: Versions, key: int, sha256: str, by: int | None, **content: Any
) -> Any:
    newest = _newest(connection, table, key)
    if newest is None or newest.sha256 != sha256:
        n = 1 if newest is None else newest.n + 1
        insert_one(connection, table, project_id=key, n=n, sha256=sha256, by_id=by, **content)
        newest = _newest(connection, table, key)
    return newest


def _newest(connection: Connection, table: Versions, key: int) -> Any | None:
    query = select(table.__table__).where(table.project_id == key).order_by(table.n.desc()).limit(1)
    return connection.execute(query).one_or_none()


def schema_sha(schema: Schema) -> str:
    """The identity of questions."""
    came_later = None if schema.instruction else {"instruction"}
    said = schema.model_dump(mode="json", exclude=came_later)
    content = json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def guideline_sha(markdown: str) -> str:
    """The identity of guidelines."""
    return hashlib.sha256(markdown.encode()).hexdigest()
