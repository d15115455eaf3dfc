"""API: items: finding them, building them, gold, and whatever a manager does to one or many."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query as Parameters
from pydantic import Field

from tutelage.feedback.asking.payloads import LARGEST_ID, Answer, ItemType, Model
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import browsing, building, changing
from tutelage.feedback.items.browsing import Choices, ItemDetail, Page, Query
from tutelage.feedback.items.building import Built
from tutelage.feedback.items.changing import MOST_NAMED, Change
from tutelage.feedback.items.redaction import Record, redact
from tutelage.feedback.projects import projects
from tutelage.store.choosing import Strategy
from tutelage.web.access import Adjudicator, Manager, TheSite, Viewer
from tutelage.web.fields import BodyId, Id, strict_router

router = strict_router("items")


class Build(Model):
    """Which items to make from the project's responses (see `building.build`)."""

    type: ItemType
    strategy: Strategy = "random"
    per_prompt: Annotated[int, Field(ge=0, le=1000)] = 1
    size: Annotated[int, Field(ge=0, le=9)] | None = None
    across_runs: bool = True


class Gold(Model):
    """The right answer (positions are canonical slots), or null to make the item an ordinary one."""

    answer: Answer | None


class Priority(Model):
    """By which rule items come first."""

    by: Literal["none", "uncertainty", "disagreement"]


class ChangeOf(Model):
    """A change of these items, or of all that fit a search: then `count` is how many the sender has seen."""

    items: Annotated[tuple[BodyId, ...], Field(min_length=1, max_length=MOST_NAMED)] | None = None
    all: Query | None = None
    count: Annotated[int, Field(ge=0)] | None = None
    change: Change


class Note(Model):
    """A remark about an item."""

    text: Annotated[str, Field(min_length=1, max_length=10_000)]


class Redaction(Model):
    """Whose text goes: the prompt's, that of the response in slot `key`, or of the answer with id `key`."""

    what: Record
    key: Annotated[int, Field(ge=0, le=LARGEST_ID)] = 0
    confirm: Annotated[str, Field(max_length=100)]


class Count(Model):
    """How many."""

    count: int


class Made(Model):
    """The id of what was stored."""

    id: int


@router.get("/projects/{project}/items")
def find(site: TheSite, who: Viewer, search: Annotated[Query, Parameters()]) -> Page:
    """A page of the items that fit, and how many those are."""
    return browsing.find(site.database, who, search)


@router.get("/projects/{project}/choices")
def choices(site: TheSite, who: Viewer) -> Choices:
    """What items can be searched by, and for whom they can be reserved."""
    return browsing.choices(site.database, who)


@router.get("/projects/{project}/items/{item_id}")
def detail(site: TheSite, who: Viewer, item_id: Id) -> ItemDetail:
    """One item with all its answers."""
    return browsing.detail(site.database, who, item_id)


@router.post("/projects/{project}/items/build")
def build(site: TheSite, who: Manager, body: Build) -> Built:
    """Make items from stored responses; repeating it makes none twice."""
    return building.build(
        site.database, who, body.type, body.strategy, body.per_prompt, body.size, body.across_runs
    )


@router.post("/projects/{project}/items/change")
def change(site: TheSite, who: Manager, body: ChangeOf) -> Count:
    """Close, prioritise, tag, reserve, ...: all these items or none."""
    if (body.items is None) == (body.all is None) or (body.all is not None and body.count is None):
        raise Refused("invalid", "Name `items`, or give `all` (a search) with the `count` that it found.")
    which = body.items if body.all is None else body.all
    assert which is not None
    return Count(count=changing.change_items(site.database, who, which, body.change, body.count))


@router.put("/projects/{project}/items/{item_id}/gold", status_code=204)
def set_gold(site: TheSite, who: Manager, item_id: Id, body: Gold) -> None:
    """Give an item its right answer, or take it away."""
    building.set_gold(site.database, who, item_id, body.answer)


@router.post("/projects/{project}/items/{item_id}/notes", status_code=201)
def add_note(site: TheSite, who: Adjudicator, item_id: Id, body: Note) -> Made:
    """Leave a remark for the others who view the data."""
    return Made(id=changing.add_note(site.database, who, item_id, body.text))


@router.delete("/projects/{project}/items/{item_id}/notes/{note_id}", status_code=204)
def remove_note(site: TheSite, who: Adjudicator, item_id: Id, note_id: Id) -> None:
    """Take a remark away."""
    changing.remove_note(site.database, who, item_id, note_id)


@router.post("/projects/{project}/items/{item_id}/redact")
def redact_record(site: TheSite, who: Manager, item_id: Id, body: Redaction) -> Count:
    """Remove a text for good; votes stay.  Says how many items that closed."""
    return Count(count=redact(site.database, who, item_id, body.what, body.key, body.confirm))


@router.post("/projects/{project}/items/one-more")
def ask_one_more(site: TheSite, who: Manager) -> Count:
    """Every item wants one annotator more, whoever has answered it so far; annotators then see their agreement."""
    return Count(count=projects.ask_one_more(site.database, who))


@router.put("/projects/{project}/items/priority")
def set_priority(site: TheSite, who: Manager, body: Priority) -> Count:
    """Order the queue by rule."""
    return Count(count=building.set_priority(site.database, who, body.by))
