"""The tables of refinements: problems on their way from a model's first solution to a sound one, round by round.

A round is an item of type step: its response is the solution, its answers are the marks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tutelage.store.schema import Base, now

HOWS = ("first", "rewritten", "explained", "regenerated", "written")
OUTCOMES = ("accepted", "sound", "handed-up", "written", "broken")


class RefinementRow(Base):
    """A refinement, under the item of its first round.  `outcome` is NULL while it goes on; `why` says more of it."""

    __tablename__ = "refinement"
    __table_args__ = (CheckConstraint(f"outcome IN {OUTCOMES}", name="refinement_outcome"),)

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True, autoincrement=False)
    outcome: Mapped[str | None]
    why: Mapped[str] = mapped_column(default="", server_default="")
    opened_at: Mapped[datetime] = mapped_column(default=now)
    closed_at: Mapped[datetime | None]


class RefinementRound(Base):
    """That an item is the `n`-th round (from 1) of the refinement that began with item `root_id`.

    `how` it came about, `since` which step (from 0) on it is new; `correct`: whether its answer is, NULL where nobody knows.
    That a round is there only once is what keeps two who go on from it at the same time apart.
    """

    __tablename__ = "refinement_round"
    __table_args__ = (
        UniqueConstraint("root_id", "n"),
        CheckConstraint(f"how IN {HOWS}", name="refinement_round_how"),
    )

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True, autoincrement=False)
    root_id: Mapped[int] = mapped_column(ForeignKey("refinement.item_id"))
    n: Mapped[int]
    how: Mapped[str]
    since: Mapped[int]
    correct: Mapped[bool | None]
    made_at: Mapped[datetime] = mapped_column(default=now)


class RefinementCheck(Base):
    """The `n`-th time (from 1) that the model was asked again and told nothing, and whether it was right (NULL: nobody has
    said yet)."""

    __tablename__ = "refinement_check"

    item_id: Mapped[int] = mapped_column(
        ForeignKey("refinement.item_id"), primary_key=True, autoincrement=False
    )
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"))
    correct: Mapped[bool | None]
    made_at: Mapped[datetime] = mapped_column(default=now)


class TrialRow(Base):
    """What models answered when an author tried a problem (`key`: a hash of a secret name): the author may keep it yet."""

    __tablename__ = "trial"

    key: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    prompt: Mapped[str]  # the problem's digest: the answers are to no other
    answers: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now)
