"""What webhooks are told of the work: in the transaction that stores an answer."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tutelage.feedback.items.conflicts import conflicts
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import webhooks
from tutelage.feedback.work.leases import Held
from tutelage.store.schema import Annotation, Item


def tell_of_answer(connection: Connection, who: Member, held: Held, annotation_id: int) -> None:
    """`answered`; and when it was the last answer that the item wanted, `complete`, and `conflict` if they differ.

    Numbers only: what people write stays here, and whoever may read it fetches it over the API.
    """
    if not webhooks.anybody_listens(connection, who.project_id):
        return
    columns = (Item.n_done, Item.overlap, Annotation.role)
    query = select(*columns).join(Annotation)
    item = connection.execute(query.where(Annotation.id == annotation_id)).one()
    about = {"project": who.project, "item_id": held.item_id, "type": held.type}
    counts = {"answers": item.n_done, "wanted": item.overlap}
    counted = item.role == "answer"
    webhooks.tell(
        connection,
        who.project_id,
        "answered",
        {**about, "annotation_id": annotation_id, "counted": counted, **counts},
    )
    if counted and item.n_done == item.overlap:
        webhooks.tell(connection, who.project_id, "complete", {**about, **counts})
        share = conflicts(connection, who.project_id, among=[held.item_id]).get(held.item_id)
        if share is not None:
            webhooks.tell(connection, who.project_id, "conflict", {**about, "share": round(share, 3)})
