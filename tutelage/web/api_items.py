"""API: items: looking through them, building them, gold, priority; and importing."""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from tutelage.data.reading.rows import read_stream
from tutelage.feedback import imports, items, projects
from tutelage.feedback.access import Member
from tutelage.feedback.browsing import State
from tutelage.feedback.errors import Refused
from tutelage.feedback.imports import Imported, Kind
from tutelage.feedback.items import Built, ItemDetail, ItemRow
from tutelage.feedback.payloads import Answer, ItemType, Model, Short, Strategy
from tutelage.web.access import Manager, TheSite, Viewer
from tutelage.web.fields import Id
from tutelage.web.site import Site
from tutelage.web.strict import StrictRoute

router = APIRouter(tags=["items"], route_class=StrictRoute)
importing = APIRouter(tags=["items"])  # a file may hold what cannot be kept: its rows are refused one by one

MOST_LINES = 100_000  # of one import; its bytes are limited for every request
LONGEST_UNPACKED = 128 * 2**20  # bytes of an import that was packed
FileName = Annotated[str, Field(min_length=1, max_length=255)]


class Build(Model):
    """Which items to make from the project's responses (see `items.build`)."""

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
    query = items.Query(text=text, type=type, state=state, model=model, after=after, limit=limit)
    return items.browse(site.database, who, query)


@router.get("/projects/{project}/items/{item_id}")
def detail(site: TheSite, who: Viewer, item_id: Id) -> ItemDetail:
    """One item with all its answers."""
    return items.detail(site.database, who, item_id)


@router.post("/projects/{project}/items/build")
def build(site: TheSite, who: Manager, body: Build) -> Built:
    """Make items from stored responses; repeating it makes none twice."""
    return items.build(
        site.database, who, body.type, body.strategy, body.per_prompt, body.size, body.across_runs
    )


@router.put("/projects/{project}/items/{item_id}/gold", status_code=204)
def set_gold(site: TheSite, who: Manager, item_id: Id, body: Gold) -> None:
    """Give an item its right answer, or take it away."""
    items.set_gold(site.database, who, item_id, body.answer)


@router.put("/projects/{project}/items/{item_id}/closed", status_code=204)
def set_closed(site: TheSite, who: Manager, item_id: Id, body: Closed) -> None:
    """Take an item out of the queue, or back in."""
    items.set_closed(site.database, who, item_id, body.closed)


@router.post("/projects/{project}/items/one-more")
def ask_one_more(site: TheSite, who: Manager) -> Count:
    """Every item wants one annotator more, whoever has answered it so far; annotators then see their agreement."""
    return Count(count=projects.ask_one_more(site.database, who))


@router.put("/projects/{project}/items/priority")
def set_priority(site: TheSite, who: Manager, body: Priority) -> Count:
    """Order the queue by rule."""
    return Count(count=items.set_priority(site.database, who, body.by))


@router.get("/projects/{project}/models")
def models(site: TheSite, who: Viewer) -> list[str]:
    """Names of the models that wrote the project's responses."""
    return list(items.models_of(site.database, who))


@importing.post(
    "/projects/{project}/import",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_file(
    site: TheSite,
    who: Manager,
    request: Request,
    kind: Annotated[Kind, Query()],
    name: Annotated[FileName, Query()] = "rows.jsonl",
) -> Imported:
    """Take a file, whose name says of what kind it is (JSON, CSV, TSV, Parquet); bad rows are listed and left out."""
    return await run_in_threadpool(_import, site, who, kind, await request.body(), name)


def _import(site: Site, who: Member, kind: Kind, body: bytes, name: str) -> Imported:
    """Everything is read before anything is stored, so that a file that is damaged or too long leaves nothing behind."""
    try:
        content, bare = _unpacked(body, name)
        rows = sum(1 for _ in itertools.islice(read_stream(io.BytesIO(content), bare), MOST_LINES + 1))
    except ValueError as error:
        raise Refused("invalid", f"{error}.") from error
    if rows > MOST_LINES:
        raise Refused("invalid", f"these are too many at once: send at most {MOST_LINES:,} lines or rows.")
    return imports.import_stream(site.database, who, kind, io.BytesIO(content), bare)


def _unpacked(body: bytes, name: str) -> tuple[bytes, str]:
    """A body, and the name of what is in it.  Raises ValueError where little that is packed is more than a request holds."""
    if not name.endswith(".gz"):
        return body, name
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(body)).read(LONGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is not a complete gzip file ({error}): make it again") from error
    if len(content) > LONGEST_UNPACKED:
        raise ValueError(f"{name} unpacks to more than {LONGEST_UNPACKED >> 20} MiB: send it in parts")
    return content, name.removesuffix(".gz")


router.include_router(importing)
