"""What an assistant had told whoever voted stands beside the vote.

Revision ID: 0009

Going down forgets it; the votes stay.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vote_help",
        sa.Column(
            "annotation_id",
            sa.Integer,
            sa.ForeignKey("annotation.id"),
            primary_key=True,
            nullable=False,
            autoincrement=False,
        ),
        *(sa.Column(name, sa.String, nullable=False) for name in ("arm", "assistant", "first", "second")),
        sa.Column("argues", sa.Integer, nullable=True),
        sa.Column("template", sa.String, nullable=False),
        sa.CheckConstraint("arm IN ('none', 'honest', 'adversarial')", name="vote_help_arm"),
        sa.CheckConstraint("argues IN (0, 1)", name="vote_help_argues"),
    )
    _guard()


def downgrade() -> None:
    op.drop_table("vote_help")


def _guard() -> None:
    """The database refuses UPDATE and DELETE, as for every table of answers (PostgreSQL has the function from 0002)."""
    if op.get_bind().dialect.name != "sqlite":
        op.execute(
            "CREATE TRIGGER vote_help_append_only BEFORE UPDATE OR DELETE ON vote_help "
            "FOR EACH ROW EXECUTE FUNCTION tutelage_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER vote_help_no_{event.lower()} BEFORE {event} ON vote_help "
            "BEGIN SELECT RAISE(ABORT, 'tutelage: rows of vote_help are append-only'); END"
        )
