"""The first tables: projects, prompts, responses with provenance, pairs, annotators and append-only votes.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "project",
    "model_ref",
    "generation_run",
    "prompt",
    "response",
    "item",
    "item_response",
    "annotator",
    "vote",
)


def upgrade() -> None:
    _provenance()
    _prompts_and_responses()
    _items()
    _votes()
    _append_only()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION vote_is_append_only()")


def _id() -> sa.Column:
    return sa.Column("id", sa.Integer, primary_key=True)


def _to(table: str, name: str = "", nullable: bool = False) -> sa.Column:
    return sa.Column(name or f"{table}_id", sa.Integer, sa.ForeignKey(f"{table}.id"), nullable=nullable)


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.String, nullable=False)


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime, nullable=False)


def _provenance() -> None:
    op.create_table("project", _id(), _text("name"), _time("created_at"), sa.UniqueConstraint("name"))
    op.create_table(
        "model_ref",
        _id(),
        _text("name"),
        _text("sha256"),
        _time("created_at"),
        sa.UniqueConstraint("name", "sha256"),
    )
    op.create_table(
        "generation_run",
        _id(),
        _to("model_ref"),
        _text("engine"),
        sa.Column("params", sa.JSON, nullable=False),
        _text("digest"),
        _time("started_at"),
        sa.UniqueConstraint("digest"),
    )


def _prompts_and_responses() -> None:
    op.create_table(
        "prompt",
        _id(),
        _to("project"),
        sa.Column("content", sa.JSON, nullable=False),
        _text("task"),
        sa.Column("reference", sa.JSON, nullable=True),
        _text("split"),
        _text("digest"),
        sa.UniqueConstraint("project_id", "digest"),
    )
    op.create_table(
        "response",
        _id(),
        _to("prompt"),
        _to("generation_run"),
        sa.Column("sample_index", sa.Integer, nullable=False),
        _text("text"),
        _text("finish_reason"),
        sa.Column("n_tokens", sa.Integer, nullable=False),
        sa.Column("logprob", sa.Double, nullable=True),
        _text("digest"),
        sa.UniqueConstraint("generation_run_id", "prompt_id", "sample_index"),
    )
    op.create_index("ix_response_prompt_id", "response", ["prompt_id"])


def _items() -> None:
    op.create_table(
        "item",
        _id(),
        _to("project"),
        _text("type"),
        _to("prompt"),
        sa.Column("overlap", sa.Integer, nullable=False),
        _text("digest"),
        _time("created_at"),
        sa.UniqueConstraint("project_id", "digest"),
        sa.CheckConstraint("type IN ('pair')", name="item_type"),
        sa.CheckConstraint("overlap >= 1", name="item_overlap"),
    )
    op.create_index("ix_item_prompt_id", "item", ["prompt_id"])
    op.create_table(
        "item_response",
        sa.Column("item_id", sa.Integer, sa.ForeignKey("item.id"), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
        _to("response"),
        sa.UniqueConstraint("item_id", "response_id"),
    )
    op.create_index("ix_item_response_response_id", "item_response", ["response_id"])


def _votes() -> None:
    op.create_table(
        "annotator",
        _id(),
        _text("name"),
        _text("kind"),
        sa.Column("profile", sa.JSON, nullable=False),
        _time("created_at"),
        sa.UniqueConstraint("name"),
        sa.CheckConstraint("kind IN ('human', 'simulated', 'judge', 'rule')", name="annotator_kind"),
    )
    op.create_table(
        "vote",
        _id(),
        _to("item"),
        _to("annotator"),
        sa.Column("preference", sa.Integer, nullable=False),
        sa.Column("first_shown", sa.Integer, nullable=False),
        _text("client_key"),
        _time("submitted_at"),
        _to("vote", "supersedes_id", nullable=True),
        sa.UniqueConstraint("client_key"),
        sa.UniqueConstraint("supersedes_id"),
        sa.CheckConstraint("preference BETWEEN -3 AND 3", name="vote_preference"),
        sa.CheckConstraint("first_shown IN (0, 1)", name="vote_first_shown"),
    )
    op.create_index("ix_vote_annotator_id", "vote", ["annotator_id"])
    first = sa.text("supersedes_id IS NULL")
    op.create_index(
        "vote_once",
        "vote",
        ["item_id", "annotator_id"],
        unique=True,
        sqlite_where=first,
        postgresql_where=first,
    )


def _append_only() -> None:
    """Votes are never changed and never deleted, whichever program asks."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER vote_no_{event.lower()} BEFORE {event} ON vote "
                "BEGIN SELECT RAISE(ABORT, 'votes are append-only'); END"
            )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION vote_is_append_only() RETURNS trigger AS $$ "
            "BEGIN RAISE EXCEPTION 'votes are append-only'; END $$ LANGUAGE plpgsql"
        )
        op.execute(
            "CREATE TRIGGER vote_append_only BEFORE UPDATE OR DELETE ON vote "
            "FOR EACH ROW EXECUTE FUNCTION vote_is_append_only()"
        )
