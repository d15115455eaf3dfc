"""Votes from files keep their share and margin, in a table below the answers.

Revision ID: 0004

Going down, such a vote is one of seven steps again: its side and its rounded strength, which stand in `annotation`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "soft_vote",
        sa.Column(
            "annotation_id",
            sa.Integer,
            sa.ForeignKey("annotation.id"),
            primary_key=True,
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("share", sa.Double, nullable=True),
        sa.Column("margin", sa.Double, nullable=False),
        sa.CheckConstraint("share BETWEEN 0.5 AND 1", name="soft_vote_share"),
    )
    _guard()


def downgrade() -> None:
    op.drop_table("soft_vote")


def _guard() -> None:
    """The database refuses UPDATE and DELETE, as for every table of answers (PostgreSQL has the function from 0002)."""
    if op.get_bind().dialect.name != "sqlite":
        op.execute(
            "CREATE TRIGGER soft_vote_append_only BEFORE UPDATE OR DELETE ON soft_vote "
            "FOR EACH ROW EXECUTE FUNCTION tutelage_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER soft_vote_no_{event.lower()} BEFORE {event} ON soft_vote "
            "BEGIN SELECT RAISE(ABORT, 'tutelage: rows of soft_vote are append-only'); END"
        )
