"""What an assistant says of two responses, shown to people before they vote, or kept from them as a control.

Who sees it is drawn by project, item and annotator, once, when the item is first shown; it is recorded then, and stands beside
the vote in the end (`records.Help`), because whoever has seen it is no longer independent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, select

from tutelage.feedback.asking.payloads import ProjectSettings, Told
from tutelage.feedback.people.access import Member
from tutelage.records import Help
from tutelage.seeds import rng
from tutelage.store.schema_feedback import AssignmentHelp, ItemHelp
from tutelage.store.sql import insert_one

if TYPE_CHECKING:  # which reads what is told here
    from tutelage.feedback.work.leases import Held


def told(connection: Connection, who: Member, held: Held, settings: ProjectSettings) -> Told | None:
    """What is shown with this assignment; the same as before where it was shown before, else the newest.  None: nothing is."""
    if held.type != "pair" or not settings.show_help:
        return None
    row = connection.execute(_SAID, {"assignment": held.id}).first()
    if row is None:
        row = connection.execute(_NEWEST, {"item": held.item_id}).first()
        if row is None:
            return None
        shown = rng(0, "help", who.project, held.item_digest, who.user.name).random() >= settings.help_control
        insert_one(connection, AssignmentHelp, assignment_id=held.id, help_id=row.id, shown=bool(shown))
    else:
        shown = row.shown
    both = (row.first, row.second)
    if not shown or not any(both):
        return None
    return Told(assistant=row.assistant, said=tuple(both[slot] for slot in held.order))


def help_at(connection: Connection, assignment_id: int) -> Help | None:
    """What stands beside the vote of an assignment: what was shown, or that there was something and it was kept away.  None:
    there was nothing."""
    row = connection.execute(_SAID, {"assignment": assignment_id}).first()
    if row is None:
        return None
    if not row.shown:
        return Help("none", row.assistant)
    return Help(row.arm, row.assistant, (row.first, row.second), row.argues, row.template)


# statements: built once, since building one costs as much as running it ---------------------------------------------------

_COLUMNS = (
    ItemHelp.id,
    ItemHelp.arm,
    ItemHelp.assistant,
    ItemHelp.first,
    ItemHelp.second,
    ItemHelp.argues,
    ItemHelp.template,
)
_SAID = (
    select(*_COLUMNS, AssignmentHelp.shown)
    .join(AssignmentHelp, AssignmentHelp.help_id == ItemHelp.id)
    .where(AssignmentHelp.assignment_id == bindparam("assignment"))
)
_NEWEST = select(*_COLUMNS).where(ItemHelp.item_id == bindparam("item")).order_by(ItemHelp.id.desc()).limit(1)
