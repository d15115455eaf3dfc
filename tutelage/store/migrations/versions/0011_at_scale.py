"""Indexes for stores of many millions of answers; limits that count, and trials that are known, on all servers.

Revision ID: 0011

Going down forgets who had asked for how much lately, and problems that were tried and not kept yet.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SHARED = {"sqlite": "owner_id IS NULL AND closed IS 0", "postgresql": "owner_id IS NULL AND closed IS false"}
OPEN = {name: f"{shared} AND n_done < overlap" for name, shared in SHARED.items()}
LEASED = dict.fromkeys(SHARED, "status = 'leased'")
UNCOUNTED = dict.fromkeys(SHARED, "role <> 'answer'")
NEW: tuple[tuple[str, str, list[str], dict[str, str]], ...] = (
    ("ix_item_type", "item", ["project_id", "type", "digest"], {}),
    ("ix_item_shared", "item", ["project_id"], SHARED),
    ("ix_item_open", "item", ["project_id", "priority", "digest"], OPEN),
    ("ix_assignment_annotator", "assignment", ["annotator_id", "status", "id"], {}),
    ("ix_assignment_leased", "assignment", ["lease_expires_at"], LEASED),
    ("ix_annotation_annotator", "annotation", ["annotator_id", "id"], {}),
    ("ix_annotation_uncounted", "annotation", ["item_id"], UNCOUNTED),
)
OLD = (("ix_assignment_annotator_id", "assignment"), ("ix_annotation_annotator_id", "annotation"))


def upgrade() -> None:
    for name, table, columns, where in NEW:
        said: dict[str, Any] = {f"{database}_where": sa.text(words) for database, words in where.items()}
        op.create_index(name, table, columns, **said)
    for name, table in OLD:
        op.drop_index(name, table)
    op.create_table(
        "allowance",
        sa.Column("key", sa.String, primary_key=True, nullable=False),
        sa.Column("free_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "trial",
        sa.Column("key", sa.String, primary_key=True, nullable=False),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("answers", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("trial")
    op.drop_table("allowance")
    for name, table in OLD:
        op.create_index(name, table, ["annotator_id"])
    for name, table, _, _ in NEW:
        op.drop_index(name, table)
