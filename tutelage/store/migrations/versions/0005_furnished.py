"""The store gets a name; items are reserved, tagged and noted; answers sent back; texts redacted; webhooks; experts.

Revision ID: 0005

Going down drops all of it: experts are annotators again, what was redacted stays so.
"""

from __future__ import annotations

import json
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLES = ("owner", "manager", "adjudicator", "annotator", "viewer")
TABLES = (  # in the order of their making
    "store_info", "guideline_seen", "item_reserved", "item_tag", "item_note", "sent_back", "withdrawal",
    "suggestion", "webhook", "webhook_delivery",
)  # fmt: skip
COLUMNS: tuple[tuple[str, sa.Column[Any]], ...] = (
    ("prompt", sa.Column("search", sa.String, nullable=False, server_default="")),
    ("prompt", sa.Column("redacted_at", sa.DateTime, nullable=True)),
    ("response", sa.Column("search", sa.String, nullable=False, server_default="")),
    ("response", sa.Column("redacted_at", sa.DateTime, nullable=True)),
    ("item", sa.Column("reserved", sa.Boolean, nullable=False, server_default=sa.false())),
    ("membership", sa.Column("team", sa.String, nullable=False, server_default="")),
    ("invitation", sa.Column("revoked_at", sa.DateTime, nullable=True)),
    ("flag", sa.Column("resolved_at", sa.DateTime, nullable=True)),
    ("flag", sa.Column("resolution", sa.String, nullable=False, server_default="")),
    ("step_mark", sa.Column("caused_by", sa.Integer, nullable=True)),
)
POINTERS = (  # a table, its new column, and where that points
    ("invitation", "account_id", "account"),
    ("flag", "resolved_by_id", "account"),
    ("assignment", "suggestion_id", "suggestion"),
)


def upgrade() -> None:
    _tables()
    for table, added in COLUMNS:
        op.add_column(table, added._copy())
    for table, column, target in POINTERS:  # SQLite takes a pointer only with its column
        pointer = f"CONSTRAINT fk_{table}_{column} REFERENCES {target} (id)"
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER {pointer}")
    _roles((*ROLES[:3], "expert", *ROLES[3:]))
    _fill_search("prompt", "content", sa.JSON, _search_text)
    _fill_search("response", "text", sa.String, _folded)
    op.get_bind().execute(
        sa.text("INSERT INTO store_info (key, value) VALUES ('identity', :value)"),
        {"value": uuid.uuid4().hex},
    )


def downgrade() -> None:
    op.execute("UPDATE membership SET role = 'annotator' WHERE role = 'expert'")
    _roles(ROLES)
    for table, column, _ in POINTERS:
        op.drop_column(table, column)
    for table, added in reversed(COLUMNS):
        op.drop_column(table, added.name)
    for table in reversed(TABLES):
        op.drop_table(table)


def _tables() -> None:
    def key() -> Any:
        return sa.Column("id", sa.Integer, primary_key=True, nullable=False)

    def to(table: str, name: str, *, null: bool = False, index: bool = False, primary: bool = False) -> Any:
        return sa.Column(
            name,
            sa.Integer,
            sa.ForeignKey(f"{table}.id"),
            nullable=null,
            index=index,
            primary_key=primary,
            autoincrement=False,
        )

    def text(name: str, **more: Any) -> Any:
        return sa.Column(name, sa.String, nullable=False, **more)

    def moment(name: str, null: bool = False) -> Any:
        return sa.Column(name, sa.DateTime, nullable=null)

    op.create_table("store_info", text("key", primary_key=True), text("value"))
    op.create_table(
        "guideline_seen",
        to("annotator", "annotator_id", primary=True),
        to("guideline_version", "guideline_version_id", primary=True),
        moment("seen_at"),
    )
    op.create_table(
        "item_reserved",
        key(),
        to("item", "item_id", index=True),
        to("annotator", "annotator_id", null=True),
        sa.Column("team", sa.String, nullable=True),
        sa.CheckConstraint("(annotator_id IS NULL) <> (team IS NULL)", name="item_reserved_for"),
    )
    op.create_table(
        "item_tag",
        to("item", "item_id", primary=True),
        text("tag", primary_key=True),
        to("account", "by_id", null=True),
        moment("created_at"),
    )
    op.create_table(
        "item_note",
        key(),
        to("item", "item_id", index=True),
        to("account", "by_id", null=True),
        text("text"),
        moment("created_at"),
    )
    op.create_table(
        "sent_back",
        key(),
        to("annotation", "annotation_id", index=True),
        to("account", "by_id", null=True),
        text("note"),
        moment("created_at"),
    )
    op.create_table(
        "withdrawal",
        to("annotation", "annotation_id", primary=True),
        to("account", "by_id", null=True),
        moment("created_at"),
    )
    op.create_table(
        "suggestion",
        key(),
        to("item", "item_id"),
        text("source"),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("score", sa.Double, nullable=True),
        moment("created_at"),
        sa.UniqueConstraint("item_id", "source"),
    )
    op.create_table(
        "webhook",
        key(),
        to("project", "project_id", index=True),
        text("url"),
        text("secret"),
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        to("account", "by_id", null=True),
        moment("created_at"),
    )
    op.create_table(
        "webhook_delivery",
        key(),
        to("webhook", "webhook_id", index=True),
        text("event"),
        sa.Column("payload", sa.JSON, nullable=False),
        moment("created_at"),
        sa.Column("attempts", sa.Integer, nullable=False),
        moment("next_at"),
        moment("delivered_at", null=True),
        text("error"),
    )


def _roles(roles: tuple[str, ...]) -> None:
    """Change what a role may be; SQLite cannot change a constraint, so the table is written anew there."""
    name, condition = "ck_membership_role", f"role IN ({', '.join(repr(role) for role in roles)})"
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f(name), "membership")
        op.create_check_constraint(op.f(name), "membership", condition)
        return
    op.execute(
        "CREATE TABLE membership_new (project_id INTEGER NOT NULL, account_id INTEGER NOT NULL, role VARCHAR NOT NULL, "
        "created_at DATETIME NOT NULL, team VARCHAR DEFAULT '' NOT NULL, "
        "CONSTRAINT pk_membership PRIMARY KEY (project_id, account_id), "
        f"CONSTRAINT {name} CHECK ({condition}), "
        "CONSTRAINT fk_membership_project_id FOREIGN KEY(project_id) REFERENCES project (id), "
        "CONSTRAINT fk_membership_account_id FOREIGN KEY(account_id) REFERENCES account (id))"
    )
    columns = "project_id, account_id, role, created_at, team"
    op.execute(f"INSERT INTO membership_new ({columns}) SELECT {columns} FROM membership")
    op.execute("DROP TABLE membership")
    op.execute("ALTER TABLE membership_new RENAME TO membership")


def _fill_search(name: str, source: str, kind: Any, said: Callable[[Any], str]) -> None:
    """What prompts and responses are searched by (see `store.schema.folded`, as it was at this revision)."""
    bind = op.get_bind()
    table = sa.table(name, sa.column("id"), sa.column(source, kind), sa.column("search"))
    last = 0
    page = sa.select(table.c.id, table.c[source]).order_by(table.c.id).limit(1000)
    change = sa.update(table).where(table.c.id == sa.bindparam("key")).values(search=sa.bindparam("said"))
    while rows := bind.execute(page.where(table.c.id > last)).all():
        last = rows[-1].id
        bind.execute(change, [{"key": row.id, "said": said(row[1])} for row in rows])


def _search_text(content: Any) -> str:
    turns = content["messages"] if isinstance(content, dict) else content
    texts = [turns] if isinstance(turns, str) else [_said(turn) for turn in turns]
    return _folded("\n".join(texts))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _said(turn: dict[str, Any]) -> str:
    said = turn.get("content") or ""
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
