"""What language models that judge were asked, and what they answered.

Revision ID: 0006

Going down drops the answers: they would have to be asked for, and paid, again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judge_call",
        sa.Column("id", sa.Integer, primary_key=True, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("project_id", sa.Integer, sa.ForeignKey("project.id"), nullable=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("judge", "about", "prompt", "status")),
        sa.Column("text", sa.String, nullable=True),
        sa.Column("finish", sa.String, nullable=True),
        sa.Column("likely", sa.JSON, nullable=True),
        sa.Column("prompt_tokens", sa.Integer, nullable=True),
        sa.Column("completion_tokens", sa.Integer, nullable=True),
        sa.Column("cost", sa.Double, nullable=False, server_default="0"),
        sa.Column("reserved", sa.Double, nullable=False, server_default="0"),
        sa.Column("seconds", sa.Double, nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("sent_at", sa.DateTime, nullable=False),
        sa.Column("answered_at", sa.DateTime, nullable=True),
        sa.UniqueConstraint("key"),
        sa.CheckConstraint("status IN ('sent', 'answered', 'refused')", name="judge_call_status"),
    )
    op.create_index("ix_judge_call_judge", "judge_call", ["project_id", "judge"])


def downgrade() -> None:
    op.drop_table("judge_call")
