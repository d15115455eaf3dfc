"""Projects can be deleted and restored: a tombstone, the data stays.

Revision ID: 0003

Going down, a deleted project is an ordinary one again: 0002 has no way to hide it, and nothing is ever lost by that.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("deleted_at", sa.DateTime, nullable=True))


def downgrade() -> None:
    op.drop_column("project", "deleted_at")
