"""What an assistant says of the responses of an item, for people to see, and at whose assignment it was shown.

Revision ID: 0010

Going down forgets it; what was told to those who have voted stays beside their votes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "item_help",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("item.id"), nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("arm", "assistant", "first", "second")),
        sa.Column("argues", sa.Integer, nullable=True),
        sa.Column("template", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("item_id", "assistant"),
        sa.CheckConstraint("arm IN ('honest', 'adversarial')", name="item_help_arm"),
        sa.CheckConstraint("argues IN (0, 1)", name="item_help_argues"),
    )
    op.create_table(
        "assignment_help",
        sa.Column(
            "assignment_id",
            sa.Integer,
            sa.ForeignKey("assignment.id"),
            primary_key=True,
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("help_id", sa.Integer, sa.ForeignKey("item_help.id"), nullable=False),
        sa.Column("shown", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("assignment_help")
    op.drop_table("item_help")
