"""How far apart an item's answers lie, kept with it; an index of the answers with a reason.

Revision ID: 0012
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SIGN = "CASE WHEN annotation.preference < 0 THEN -1 WHEN annotation.preference > 0 THEN 1 ELSE 0 END"
COUNTED = """annotation.item_id = item.id AND annotation.role = 'answer'
    AND NOT EXISTS (SELECT 1 FROM annotation AS later WHERE later.supersedes_id = annotation.id)"""
PARTS = (
    ("rank", "rank_entry", "rank", "slot"),
    ("step", "step_mark", "label", "step"),
    ("rate", "rating", "value", "slot, criterion"),
)


def where(condition: str) -> dict[str, Any]:
    return {f"{database}_where": sa.text(condition) for database in ("sqlite", "postgresql")}


def upgrade() -> None:
    op.add_column("item", sa.Column("spread", sa.Integer, nullable=False, server_default="0"))
    pairs = f"SELECT max({SIGN}) - min({SIGN}) FROM annotation WHERE {COUNTED}"
    op.execute(f"UPDATE item SET spread = COALESCE(({pairs}), 0) WHERE type = 'pair'")
    for type, table, value, part in PARTS:
        distance = f"max({table}.{value}) - min({table}.{value})"
        widest = f"""SELECT {distance} FROM annotation JOIN {table} ON {table}.annotation_id = annotation.id
            WHERE {COUNTED} GROUP BY {part} ORDER BY {distance} DESC LIMIT 1"""
        op.execute(f"UPDATE item SET spread = COALESCE(({widest}), 0) WHERE type = '{type}'")
    op.create_index(
        "ix_item_apart", "item", ["project_id", "type", "spread", "n_done"], **where("spread > 0")
    )
    op.create_index("ix_annotation_reason", "annotation", ["item_id"], **where("reason <> ''"))


def downgrade() -> None:
    op.drop_index("ix_annotation_reason", "annotation")
    op.drop_index("ix_item_apart", "item")
    op.drop_column("item", "spread")
