"""Answers sent back to their annotators, with a note, to be corrected; one is done once a revision supersedes it."""

from __future__ import annotations

from sqlalchemy import select

from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import lock_item
from tutelage.feedback.people.access import Member, note
from tutelage.store.current import IS_CURRENT, IS_VOTE
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item
from tutelage.store.schema_feedback import SentBack
from tutelage.store.sql import insert_one

LONGEST_NOTE = 2_000


def send_back(database: Database, who: Member, annotation_id: int, text: str) -> int:
    """Ask the annotator of a current answer to correct it; it comes first in their queue, with the note `text`.

    Returns the id of the request.  The answer counts as it is until it is revised.  Needs adjudicate.  Refused:
    not-found; conflict (revised meanwhile); invalid (no note, or nobody answered through the app who could correct it).
    """
    who.require("adjudicate")
    if not text.strip() or len(text) > LONGEST_NOTE:
        raise Refused(
            "invalid",
            f"say what is to be corrected, in at most {LONGEST_NOTE:,} characters: the annotator reads it.",
        )
    with database.write() as connection:
        own = (Annotation.id == annotation_id, Item.project_id == who.project_id, IS_VOTE)
        columns = (Annotation.assignment_id, Annotation.item_id)
        row = connection.execute(select(*columns).join(Item).where(*own)).one_or_none()
        if row is None:
            raise Refused("not-found", f"there is no answer {annotation_id} in this project to send back.")
        lock_item(connection, row.item_id)  # so that it is not revised from here on
        if row.assignment_id is None:
            raise Refused(
                "invalid", "this answer came from a program or a file: there is nobody to send it back to."
            )
        if connection.scalar(select(Annotation.id).where(Annotation.id == annotation_id, IS_CURRENT)) is None:
            raise Refused("conflict", "this answer was revised meanwhile: look at the new one.")
        by = who.user.account_id
        key = insert_one(connection, SentBack, annotation_id=annotation_id, by_id=by, note=text.strip())
        note(connection, who.user, "send-back", str(row.item_id), who.project_id, answer=annotation_id)
        return key
