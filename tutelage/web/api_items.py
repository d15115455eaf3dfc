"""API: items: looking through them, building them, gold, priority."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from tutelage.feedback.asking.payloads import Answer, ItemType, Model, Short, Strategy
from tutelage.feedback.items import building
from tutelage.feedback.items.browsing import State
from tutelage.feedback.items.building import Built, ItemDetail, ItemRow
from tutelage.feedback.projects import projects
from tutelage.web.access import Manager, TheSite, Viewer
from tutelage.web.fields import Id
from tutelage.web.strict import StrictRoute

router = APIRouter(tags=["items"], route_class=StrictRoute)


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


class Closed(Model):
    """Whether the item is out of the queue."""

    closed: bool


class Priority(Model):
    """By which rule items come first."""

    by: Literal["none", "uncertainty", "disagreement"]


class Count(Model):
    """How many."""

    count: int


@router.get("/projects/{project}/items")
def browse(
    site: TheSite,
    who: Viewer,
    text: Annotated[Short, Query()] = "",
    type: Annotated[ItemType | None, Query()] = None,
    state: Annotated[State, Query()] = "any",
    model: Annotated[Short, Query()] = "",
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[ItemRow]:
    """A page of items; `after` is the last item of the page before."""
    query = building.Query(text=text, type=type, state=state, model=model, after=after, limit=limit)
    return building.browse(site.database, who, query)


@router.get("/projects/{project}/items/{item_id}")
def detail(site: TheSite, who: Viewer, item_id: Id) -> ItemDetail:
    """One item with all its answers."""
    return building.detail(site.database, who, item_id)


@router.post("/projects/{project}/items/build")
def build(site: TheSite, who: Manager, body: Build) -> Built:
    """Make items from stored responses; repeating it makes none twice."""
    return building.build(
        site.database, who, body.type, body.strategy, body.per_prompt, body.size, body.across_runs
    )


@router.put("/projects/{project}/items/{item_id}/gold", status_code=204)
def set_gold(site: TheSite, who: Manager, item_id: Id, body: Gold) -> None:
    """Give an item its right answer, or take it away."""
    building.set_gold(site.database, who, item_id, body.answer)


@router.put("/projects/{project}/items/{item_id}/closed", status_code=204)
def set_closed(site: TheSite, who: Manager, item_id: Id, body: Closed) -> None:
    """Take an item out of the queue, or back in."""
    building.set_closed(site.database, who, item_id, body.closed)


@router.post("/projects/{project}/items/one-more")
def ask_one_more(site: TheSite, who: Manager) -> Count:
    """Every item wants one annotator more, whoever has answered it so far; annotators then see their agreement."""
    return Count(count=projects.ask_one_more(site.database, who))


@router.put("/projects/{project}/items/priority")
def set_priority(site: TheSite, who: Manager, body: Priority) -> Count:
    """Order the queue by rule."""
    return Count(count=building.set_priority(site.database, who, body.by))


@router.get("/projects/{project}/models")
def models(site: TheSite, who: Viewer) -> list[str]:
    """Names of the models that wrote the project's responses."""
    return list(building.models_of(site.database, who))
