"""Refinements: problems with their rounds of marked steps, what kind of error a step is, and items for a role.

Revision ID: 0008

Going down forgets what belonged together, and the kinds of errors; the solutions and their marks stay.  What was reserved
for a role is for everybody again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BY_NAME = "(annotator_id IS NULL) <> (team IS NULL)"
BY_ROLE = (
    "(CASE WHEN annotator_id IS NULL THEN 0 ELSE 1 END) + (CASE WHEN team IS NULL THEN 0 ELSE 1 END) + "
    "(CASE WHEN role IS NULL THEN 0 ELSE 1 END) = 1"
)


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
        sa.Column("correct", sa.Boolean, nullable=True),
        sa.Column("made_at", sa.DateTime, nullable=False),
    )
    _reserved(("annotator_id", "team"), ("annotator_id", "team", "role"), BY_ROLE)


def downgrade() -> None:
    op.execute(
        "UPDATE item SET reserved = FALSE WHERE id IN (SELECT item_id FROM item_reserved WHERE role IS NOT NULL) "
        "AND id NOT IN (SELECT item_id FROM item_reserved WHERE role IS NULL)"
    )
    op.execute("DELETE FROM item_reserved WHERE role IS NOT NULL")
    _reserved(("annotator_id", "team", "role"), ("annotator_id", "team"), BY_NAME)
    for table in ("refinement_check", "refinement_round", "refinement"):
        op.drop_table(table)
    op.drop_column("step_mark", "error")


def _item(of: str) -> sa.Column[int]:
    return sa.Column(
        "item_id", sa.Integer, sa.ForeignKey(of), primary_key=True, nullable=False, autoincrement=False
    )


def _reserved(old: tuple[str, ...], new: tuple[str, ...], condition: str) -> None:
    """Change whom an item may be for; SQLite cannot change a constraint, so the table is written anew there."""
    name = "ck_item_reserved_for"
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(op.f(name), "item_reserved")
        for column in set(new) - set(old):
            op.add_column("item_reserved", sa.Column(column, sa.String, nullable=True))
        for column in set(old) - set(new):
            op.drop_column("item_reserved", column)
        op.create_check_constraint(op.f(name), "item_reserved", condition)
        return
    more = "role VARCHAR, " if "role" in new else ""
    op.execute(
        "CREATE TABLE item_reserved_new (id INTEGER NOT NULL, item_id INTEGER NOT NULL, annotator_id INTEGER, team VARCHAR, "
        f"{more}CONSTRAINT pk_item_reserved PRIMARY KEY (id), CONSTRAINT {name} CHECK ({condition}), "
        "CONSTRAINT fk_item_reserved_item_id FOREIGN KEY(item_id) REFERENCES item (id), "
        "CONSTRAINT fk_item_reserved_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotator (id))"
    )
    both = "id, item_id, annotator_id, team"
    op.execute(f"INSERT INTO item_reserved_new ({both}) SELECT {both} FROM item_reserved")
    op.execute("DROP TABLE item_reserved")
    op.execute("ALTER TABLE item_reserved_new RENAME TO item_reserved")
    op.create_index("ix_item_reserved_item_id", "item_reserved", ["item_id"])
