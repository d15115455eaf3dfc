"""What judges may cost in a project, and which items they left to people.

Revision ID: 0007

Going down forgets both.  Items that wait for a person go on waiting.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judge_budget",
        _key("project_id", "project.id"),
        sa.Column("judge", sa.String, primary_key=True, nullable=False),
        sa.Column("max_cost", sa.Double, nullable=False),
    )
    op.create_table(
        "judge_left",
        _key("item_id", "item.id"),
        sa.Column("judge", sa.String, primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("judge_left")
    op.drop_table("judge_budget")


def _key(name: str, of: str) -> sa.Column[int]:
    return sa.Column(
        name, sa.Integer, sa.ForeignKey(of), primary_key=True, nullable=False, autoincrement=False
    )
