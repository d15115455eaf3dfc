"""Which guidelines an annotator has had on screen: answers are recorded under those, not under newer ones."""

from __future__ import annotations

from sqlalchemy import func, select, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import Member
from tutelage.store.database import Database
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import Assignment, GuidelineSeen, GuidelineVersion
from tutelage.store.sql import insert_one, lock_project


def mark_seen(database: Database, who: Member, n: int) -> None:
    """Note that this annotator had version `n` on screen: what they have in hand is answered under it from here on.

    Refused: not-found.
    """
    who.require("label")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        place = (GuidelineVersion.project_id == who.project_id, GuidelineVersion.n == n)
        version = connection.scalar(select(GuidelineVersion.id).where(*place))
        if version is None or not who.annotator_id:
            raise Refused("not-found", f"there is no version {n} of the guidelines to read here.")
        known = (
            GuidelineSeen.annotator_id == who.annotator_id,
            GuidelineSeen.guideline_version_id == version,
        )
        if connection.scalar(select(GuidelineSeen.seen_at).where(*known)) is None:
            insert_one(connection, GuidelineSeen, annotator_id=who.annotator_id, guideline_version_id=version)
        older = select(GuidelineVersion.id).where(place[0], GuidelineVersion.n < n)
        open_ = (
            Assignment.annotator_id == who.annotator_id,
            Assignment.status.in_(("leased", "released")),
            Assignment.item_id.in_(select(Item.id).where(Item.project_id == who.project_id)),
            Assignment.guideline_version_id.is_(None) | Assignment.guideline_version_id.in_(older),
        )
        connection.execute(update(Assignment).where(*open_).values(guideline_version_id=version))


def newest_seen(database: Database, who: Member) -> int:
    """The newest version that this annotator has had on screen; 0 = none."""
    with database.read() as connection:
        query = (
            select(func.max(GuidelineVersion.n))
            .join(GuidelineSeen, GuidelineSeen.guideline_version_id == GuidelineVersion.id)
            .where(
                GuidelineVersion.project_id == who.project_id, GuidelineSeen.annotator_id == who.annotator_id
            )
        )
        return connection.scalar(query) or 0
