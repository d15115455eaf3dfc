"""People: accounts, versions of questions, assignments, answers of every type; votes become annotations.

Revision ID: 0002

SQLite cannot change a constraint, so `item` and what refers to it are written anew under passing names (foreign keys
stay on: nothing ever points at a table that is gone).  PostgreSQL alters them in place.

Going down keeps everything that 0001 knows (all counted pair answers, with their revisions) and drops the rest.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "annotation",
    "criterion_preference",
    "rank_entry",
    "rating",
    "acceptance",
    "step_mark",
    "rewrite",
    "schema_version",
    "guideline_version",
    "audit_event",
)
NEW = (  # in the order of their making
    "account",
    "credential",
    "session",
    "invitation",
    "login_failure",
    "membership",
    "schema_version",
    "guideline_version",
    "audit_event",
    "export",
    "response_score",
    "gold",
    "chat_turn",
    "flag",
    "assignment",
    "draft",
    "annotation",
    "criterion_preference",
    "rank_entry",
    "rating",
    "acceptance",
    "step_mark",
    "rewrite",
)
ITEM_TYPES = "type IN ('pair', 'rank', 'rate', 'step', 'rewrite', 'chat')"
ITEM_COLUMNS = "id, project_id, type, prompt_id, overlap, digest, created_at"
VOTE_COLUMNS = "id, item_id, annotator_id, preference, first_shown, client_key, submitted_at, supersedes_id"


def upgrade() -> None:
    op.add_column("project", sa.Column("settings", sa.JSON, nullable=False, server_default="{}"))
    if _sqlite():
        _rebuild_items(_new_item)
    else:
        _alter_items_up()
    _accounts()
    _versions()
    _around_items()
    _assignments()
    _annotations()
    _answers()
    _votes_become_annotations()
    for table in APPEND_ONLY:
        _guard(table, f"tutelage: rows of {table} are append-only")


def downgrade() -> None:
    _old_vote()
    _annotations_become_votes()
    for table in reversed(NEW):
        op.drop_table(table)
    if not _sqlite():
        op.execute("DROP FUNCTION tutelage_append_only()")
    for statement in (
        "UPDATE item SET parent_id = NULL",
        "DELETE FROM item_response WHERE item_id IN (SELECT id FROM item WHERE type <> 'pair')",
        "DELETE FROM item WHERE type <> 'pair'",
    ):
        op.execute(statement)
    if _sqlite():
        _rebuild_items(_old_item)
    else:
        _alter_items_down()
    op.drop_column("project", "settings")
    _guard_votes()


# small helpers ------------------------------------------------------------------------------------------------------


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _id() -> sa.Column:
    return sa.Column("id", sa.Integer, primary_key=True)


def _to(target: str, name: str = "", nullable: bool = False, key: bool = False) -> sa.Column:
    column = name or f"{target}_id"
    return sa.Column(
        column,
        sa.Integer,
        sa.ForeignKey(f"{target}.id"),
        nullable=nullable,
        primary_key=key,
        autoincrement=False,
    )


def _text(name: str, nullable: bool = False, **more: Any) -> sa.Column:
    return sa.Column(name, sa.String, nullable=nullable, **more)


def _whole(name: str, nullable: bool = False, **more: Any) -> sa.Column:
    return sa.Column(name, sa.Integer, nullable=nullable, autoincrement=False, **more)


def _yes(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean, nullable=False)


def _json(name: str) -> sa.Column:
    return sa.Column(name, sa.JSON, nullable=False)


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime, nullable=nullable)


def _guard(table: str, sentence: str) -> None:
    """The database refuses UPDATE and DELETE, whichever program asks."""
    if _sqlite():
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{sentence}'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION tutelage_append_only() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION 'tutelage: rows of % are append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION tutelage_append_only()"
    )


# items --------------------------------------------------------------------------------------------------------------


def _named(table: str, column: str, target: str) -> sa.ForeignKey:
    """A foreign key with the name it would have in the table's lasting place."""
    return sa.ForeignKey(f"{target}.id", name=op.f(f"fk_{table}_{column}"))


def _item_columns(table: str) -> list[Any]:
    """What `item` has in both revisions; `table` is its passing name."""
    return [
        sa.Column("id", sa.Integer),
        sa.Column("project_id", sa.Integer, _named("item", "project_id", "project"), nullable=False),
        _text("type"),
        sa.Column("prompt_id", sa.Integer, _named("item", "prompt_id", "prompt"), nullable=False),
        _whole("overlap"),
        _text("digest"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item")),
        sa.UniqueConstraint("project_id", "digest", name=op.f("uq_item_project_id_digest")),
        sa.CheckConstraint("overlap >= 1", name=op.f("ck_item_overlap")),
    ]


def _item_additions(item: str) -> list[sa.Column]:
    return [
        sa.Column("priority", sa.Double, nullable=False, server_default="0"),
        _whole("n_done", server_default="0"),
        sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("parent_id", sa.Integer, _named("item", "parent_id", item), nullable=True),
        sa.Column("owner_id", sa.Integer, _named("item", "owner_id", "annotator"), nullable=True),
    ]


def _new_item(table: str) -> None:
    types = sa.CheckConstraint(ITEM_TYPES, name=op.f("ck_item_type"))
    op.create_table(table, *_item_columns(table), *_item_additions(table), types)


def _old_item(table: str) -> None:
    types = sa.CheckConstraint("type IN ('pair')", name=op.f("ck_item_type"))
    op.create_table(table, *_item_columns(table), types)


def _rebuild_items(make: Any) -> None:
    """SQLite: write `item` and the tables that refer to it anew; renaming carries the references along."""
    make("item_anew")
    op.execute(f"INSERT INTO item_anew ({ITEM_COLUMNS}) SELECT {ITEM_COLUMNS} FROM item")
    op.create_table(
        "item_response_anew",
        sa.Column("item_id", sa.Integer, _named("item_response", "item_id", "item_anew"), nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column(
            "response_id", sa.Integer, _named("item_response", "response_id", "response"), nullable=False
        ),
        sa.PrimaryKeyConstraint("item_id", "slot", name=op.f("pk_item_response")),
        sa.UniqueConstraint("item_id", "response_id", name=op.f("uq_item_response_item_id_response_id")),
    )
    op.execute("INSERT INTO item_response_anew SELECT item_id, slot, response_id FROM item_response")
    _vote("vote_anew", "item_anew")
    op.execute(f"INSERT INTO vote_anew ({VOTE_COLUMNS}) SELECT {VOTE_COLUMNS} FROM vote ORDER BY id")
    for table in ("vote", "item_response", "item"):
        op.drop_table(table)
    for table in ("item", "item_response", "vote"):
        op.rename_table(f"{table}_anew", table)
    op.create_index("ix_item_prompt_id", "item", ["prompt_id"])
    op.create_index("ix_item_response_response_id", "item_response", ["response_id"])
    _vote_indexes()
    if make is _new_item:
        _item_indexes()


def _item_indexes() -> None:
    op.create_index("ix_item_queue", "item", ["project_id", "priority", "digest"])
    op.create_index("ix_item_parent_id", "item", ["parent_id"])


def _alter_items_up() -> None:
    op.drop_constraint(op.f("ck_item_type"), "item")
    op.create_check_constraint(op.f("ck_item_type"), "item", ITEM_TYPES)
    for column in _item_additions("item"):
        op.add_column("item", column)
    _item_indexes()


def _alter_items_down() -> None:
    op.drop_index("ix_item_queue", "item")
    for column in ("owner_id", "parent_id", "closed", "n_done", "priority"):
        op.drop_column("item", column)
    op.drop_constraint(op.f("ck_item_type"), "item")
    op.create_check_constraint(op.f("ck_item_type"), "item", "type IN ('pair')")


# votes, as 0001 has them --------------------------------------------------------------------------------------------


def _vote(table: str, item: str) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.Integer),
        sa.Column("item_id", sa.Integer, _named("vote", "item_id", item), nullable=False),
        sa.Column("annotator_id", sa.Integer, _named("vote", "annotator_id", "annotator"), nullable=False),
        _whole("preference"),
        _whole("first_shown"),
        _text("client_key"),
        _time("submitted_at"),
        sa.Column("supersedes_id", sa.Integer, _named("vote", "supersedes_id", table), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vote")),
        sa.UniqueConstraint("client_key", name=op.f("uq_vote_client_key")),
        sa.UniqueConstraint("supersedes_id", name=op.f("uq_vote_supersedes_id")),
        sa.CheckConstraint("preference BETWEEN -3 AND 3", name=op.f("ck_vote_preference")),
        sa.CheckConstraint("first_shown IN (0, 1)", name=op.f("ck_vote_first_shown")),
    )


def _vote_indexes() -> None:
    op.create_index("ix_vote_annotator_id", "vote", ["annotator_id"])
    _partial("vote_once", "vote", ["item_id", "annotator_id"], "supersedes_id IS NULL")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def _old_vote() -> None:
    _vote("vote", "item")
    _vote_indexes()


def _guard_votes() -> None:
    """The triggers of 0001."""
    if _sqlite():
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER vote_no_{event.lower()} BEFORE {event} ON vote "
                "BEGIN SELECT RAISE(ABORT, 'votes are append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION vote_is_append_only() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION 'votes are append-only'; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER vote_append_only BEFORE UPDATE OR DELETE ON vote "
        "FOR EACH ROW EXECUTE FUNCTION vote_is_append_only()"
    )


def _votes_become_annotations() -> None:
    op.execute(
        f"INSERT INTO annotation ({VOTE_COLUMNS}, role) SELECT {VOTE_COLUMNS}, 'answer' FROM vote ORDER BY id"
    )
    _next_id("annotation")
    op.drop_table("vote")
    if not _sqlite():
        op.execute("DROP FUNCTION vote_is_append_only()")
    op.execute(
        "UPDATE item SET n_done = (SELECT count(*) FROM annotation "
        "WHERE annotation.item_id = item.id AND supersedes_id IS NULL)"
    )


def _annotations_become_votes() -> None:
    op.execute(
        f"INSERT INTO vote ({VOTE_COLUMNS}) SELECT {VOTE_COLUMNS} FROM annotation "
        "WHERE role = 'answer' AND preference IS NOT NULL ORDER BY id"
    )
    _next_id("vote")


def _next_id(table: str) -> None:
    """PostgreSQL: the sequence does not see ids that were given."""
    if not _sqlite():
        op.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table})) "
            f"WHERE EXISTS (SELECT 1 FROM {table})"
        )


# new tables ---------------------------------------------------------------------------------------------------------


def _accounts() -> None:
    op.create_table(
        "account",
        _id(),
        _text("name"),
        _to("annotator"),
        _yes("administrator"),
        _yes("active"),
        _time("created_at"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("annotator_id"),
    )
    op.create_table(
        "credential",
        _id(),
        _to("account"),
        _text("kind"),
        _text("name"),
        _text("prefix", nullable=True),
        _text("hash"),
        _json("scopes"),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("revoked_at", nullable=True),
        _time("last_used_at", nullable=True),
        sa.UniqueConstraint("prefix"),
        sa.CheckConstraint("kind IN ('password', 'token')", name="credential_kind"),
    )
    op.create_index("ix_credential_account_id", "credential", ["account_id"])
    op.create_table(
        "session",
        _id(),
        _text("secret_hash"),
        _to("account"),
        _text("csrf"),
        _text("place_hash"),
        _time("created_at"),
        _time("used_at"),
        _time("expires_at"),
        sa.UniqueConstraint("secret_hash"),
    )
    op.create_index("ix_session_account_id", "session", ["account_id"])
    op.create_table(
        "invitation",
        _id(),
        _text("secret_hash"),
        _to("project", nullable=True),
        _text("role", nullable=True),
        _to("account", "by_id", nullable=True),
        _time("created_at"),
        _time("expires_at"),
        _time("used_at", nullable=True),
        sa.UniqueConstraint("secret_hash"),
    )
    op.create_table("login_failure", _id(), _text("key"), _time("at"))
    op.create_index("ix_login_failure_key", "login_failure", ["key"])
    op.create_table(
        "membership",
        _to("project", key=True),
        _to("account", key=True),
        _text("role"),
        _time("created_at"),
        sa.CheckConstraint(
            "role IN ('owner', 'manager', 'adjudicator', 'annotator', 'viewer')", name="membership_role"
        ),
    )


def _versions() -> None:
    for table, content in (("schema_version", _json("content")), ("guideline_version", _text("markdown"))):
        op.create_table(
            table,
            _id(),
            _to("project"),
            _whole("n"),
            content,
            _text("sha256"),
            _to("account", "by_id", nullable=True),
            _time("created_at"),
            sa.UniqueConstraint("project_id", "n"),
        )
    op.create_table(
        "audit_event",
        _id(),
        _to("project", nullable=True),
        _to("account", nullable=True),
        _text("what"),
        _text("object"),
        _json("detail"),
        _time("at"),
    )
    op.create_index("ix_audit_event_project_id", "audit_event", ["project_id"])
    op.create_table(
        "export",
        _id(),
        _to("project"),
        _to("account", nullable=True),
        _json("spec"),
        _whole("rows"),
        _text("sha256"),
        _time("created_at"),
    )


def _around_items() -> None:
    op.create_table(
        "response_score",
        _to("response", key=True),
        _text("source", primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
    op.create_table(
        "gold",
        _to("item", key=True),
        _json("answer"),
        _to("account", "by_id", nullable=True),
        _time("created_at"),
    )
    op.create_table(
        "chat_turn",
        _to("item", key=True),
        _whole("n"),
        _text("message"),
        _whole("chosen_slot", nullable=True),
    )
    op.create_table(
        "flag", _id(), _to("item"), _to("annotator"), _text("code"), _text("text"), _time("created_at")
    )
    op.create_index("ix_flag_item_id", "flag", ["item_id"])


def _assignments() -> None:
    op.create_table(
        "assignment",
        _id(),
        _to("item"),
        _to("annotator"),
        _text("status"),
        _time("lease_expires_at"),
        _json("presented_order"),
        _whole("order_seed"),
        _to("schema_version"),
        _to("guideline_version", nullable=True),
        _time("assigned_at"),
        _text("skip_reason", nullable=True),
        _text("skip_text", nullable=True),
        sa.UniqueConstraint("item_id", "annotator_id"),
        sa.CheckConstraint(
            "status IN ('leased', 'done', 'skipped', 'released', 'review')", name="assignment_status"
        ),
    )
    op.create_index("ix_assignment_annotator_id", "assignment", ["annotator_id"])
    op.create_table("draft", _to("assignment", key=True), _json("content"), _time("saved_at"))


def _annotations() -> None:
    op.create_table(
        "annotation",
        _id(),
        _to("item"),
        _to("annotator"),
        _text("role", server_default="answer"),
        _whole("preference", nullable=True),
        _whole("first_shown", nullable=True),
        _text("client_key"),
        _time("submitted_at"),
        _to("annotation", "supersedes_id", nullable=True),
        _to("assignment", nullable=True),
        _whole("confidence", nullable=True),
        _text("reason", nullable=True),
        _text("verdict", nullable=True),
        _whole("active_ms", nullable=True),
        _text("ui_version", nullable=True),
        sa.UniqueConstraint("client_key"),
        sa.CheckConstraint("preference BETWEEN -3 AND 3", name="annotation_preference"),
        sa.CheckConstraint("first_shown IN (0, 1)", name="annotation_first_shown"),
        sa.CheckConstraint("(preference IS NULL) = (first_shown IS NULL)", name="annotation_sides"),
        sa.CheckConstraint("role IN ('answer', 'extra', 'adjudication')", name="annotation_role"),
    )
    op.create_index("ix_annotation_annotator_id", "annotation", ["annotator_id"])
    op.create_index("ix_annotation_item_id_annotator_id", "annotation", ["item_id", "annotator_id"])
    op.create_index("ix_annotation_assignment_id", "annotation", ["assignment_id"])
    answer = "supersedes_id IS NULL AND role <> 'adjudication'"
    settled = "supersedes_id IS NULL AND role = 'adjudication'"
    _partial("annotation_once", "annotation", ["item_id", "annotator_id"], answer)
    _partial("annotation_revised_once", "annotation", ["supersedes_id"], "supersedes_id IS NOT NULL")
    _partial("annotation_settled_once", "annotation", ["item_id"], settled)


def _answers() -> None:
    annotation = lambda: _to("annotation", key=True)  # noqa: E731
    slot = lambda: _whole("slot", primary_key=True)  # noqa: E731
    op.create_table(
        "criterion_preference",
        annotation(),
        _text("criterion", primary_key=True),
        _whole("preference"),
        sa.CheckConstraint("preference BETWEEN -3 AND 3", name="criterion_preference_range"),
    )
    op.create_table(
        "rank_entry",
        annotation(),
        slot(),
        _whole("rank"),
        sa.CheckConstraint("rank >= 1", name="rank_entry_rank"),
    )
    op.create_table("rating", annotation(), slot(), _text("criterion", primary_key=True), _whole("value"))
    op.create_table("acceptance", annotation(), slot(), _yes("acceptable"))
    op.create_table(
        "step_mark",
        annotation(),
        _whole("step", primary_key=True),
        _text("text"),
        _whole("label"),
        _text("reason"),
        _text("rewrite", nullable=True),
        _yes("flagged"),
        sa.CheckConstraint("label IN (-1, 0, 1)", name="step_mark_label"),
    )
    op.create_table("rewrite", annotation(), _text("text"))
