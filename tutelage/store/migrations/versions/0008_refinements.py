"""Refinements: problems with their rounds of marked steps, and what kind of error a step is.

Revision ID: 0008

Going down forgets what belonged together, and the kinds of errors; the solutions and their marks stay.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("step_mark", sa.Column("error", sa.String, nullable=True))
    op.create_table(
        "refinement",
        _item("item.id"),
        sa.Column("outcome", sa.String, nullable=True),
        sa.Column("why", sa.String, nullable=False, server_default=""),
        sa.Column("opened_at", sa.DateTime, nullable=False),
        sa.Column("closed_at", sa.DateTime, nullable=True),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'sound', 'handed-up', 'written', 'broken')", name="refinement_outcome"
        ),
    )
    op.create_table(
        "refinement_round",
        _item("item.id"),
        sa.Column("root_id", sa.Integer, sa.ForeignKey("refinement.item_id"), nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("how", sa.String, nullable=False),
        sa.Column("since", sa.Integer, nullable=False),
        sa.Column("correct", sa.Boolean, nullable=True),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("root_id", "n"),
        sa.CheckConstraint(
            "how IN ('first', 'rewritten', 'explained', 'regenerated', 'written')",
            name="refinement_round_how",
        ),
    )
    op.create_table(
        "refinement_check",
        _item("refinement.item_id"),
        sa.Column("n", sa.Integer, primary_key=True, nullable=False, autoincrement=False),
        sa.Column("response_id", sa.Integer, sa.ForeignKey("response.id"), nullable=False),
        sa.Column("correct", sa.Boolean, nullable=False),
        sa.Column("made_at", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    for table in ("refinement_check", "refinement_round", "refinement"):
        op.drop_table(table)
    op.drop_column("step_mark", "error")


def _item(of: str) -> sa.Column[int]:
    return sa.Column(
        "item_id", sa.Integer, sa.ForeignKey(of), primary_key=True, nullable=False, autoincrement=False
    )
