"""API: importing a file.  No `strict_router`: what no database keeps is refused row by row, and the others are taken."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from tutelage.data.reading.encodings import AUTO
from tutelage.data.reading.rows import read_stream
from tutelage.feedback.errors import Refused
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported, Kind, Tried
from tutelage.feedback.imports.recognising import name_of
from tutelage.feedback.people.access import Member
from tutelage.web.access import Manager, TheSite
from tutelage.web.site import Site

router = APIRouter(tags=["items"])

MOST_LINES = 100_000  # of one import; its bytes are limited for every request
LONGEST_UNPACKED = 128 * 2**20  # bytes of an import that was packed
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Sent(NamedTuple):
    """How to take a file."""

    kind: Kind | Literal["auto"]
    name: str
    encoding: str
    columns: dict[str, str]


def sent(
    kind: Annotated[Kind | Literal["auto"], Query()],
    name: Annotated[str, Query(min_length=1, max_length=255)] = "rows.jsonl",
    encoding: Annotated[str, Query(max_length=40)] = AUTO,
    columns: Annotated[str, Field(max_length=10_000), Query()] = "{}",
) -> Sent:
    """The query of an import; `columns` is JSON: {our name: theirs}."""
    try:
        found = json.loads(columns)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(theirs, str) for theirs in found.values()):
        raise Refused("invalid", 'columns= is a JSON object of names, ours first: {"prompt": "question"}.')
    return Sent(kind, name, encoding, {ours: theirs for ours, theirs in found.items() if theirs})


How = Annotated[Sent, Depends(sent)]


@router.post("/projects/{project}/import", openapi_extra=FILE_BODY)
async def import_file(site: TheSite, who: Manager, request: Request, how: How) -> Imported:
    """Take a file (JSON, CSV, TSV, Parquet); bad rows are listed and left out.  kind=auto: what its columns say."""
    return await run_in_threadpool(_import, site, who, how, await request.body())


@router.post("/projects/{project}/import/preview", openapi_extra=FILE_BODY)
async def preview_import(site: TheSite, who: Manager, request: Request, how: How) -> Tried:
    """What an import of the file would do, its first rows as they are understood; nothing is stored."""
    return await run_in_threadpool(_try, site, who, how, await request.body())


def _try(site: Site, who: Member, how: Sent, body: bytes) -> Tried:
    with _file(how, body) as (content, name):
        return importing.try_import(site.database, who, how.kind, content, name, how.columns, how.encoding)


def _import(site: Site, who: Member, how: Sent, body: bytes) -> Imported:
    """Everything is read before anything is stored, so that a file that is damaged or too long leaves nothing behind."""
    with _file(how, body) as (content, name):
        read = read_stream(io.BytesIO(content), name, how.encoding)
        if sum(1 for _ in itertools.islice(read, MOST_LINES + 1)) > MOST_LINES:
            raise Refused(
                "invalid", f"these are too many at once: send at most {MOST_LINES:,} lines or rows."
            )
        stream = io.BytesIO(content)
        return importing.import_stream(site.database, who, how.kind, stream, name, how.columns, how.encoding)


@contextmanager
def _file(how: Sent, body: bytes) -> Iterator[tuple[bytes, str]]:
    """What is in a body, and a name that says of what kind it is.  What is wrong with the file is wrong with the request."""
    try:
        content, bare = _unpacked(body, how.name)
        yield content, name_of(content, bare)
    except Refused:
        raise
    except ValueError as error:
        raise Refused("invalid", f"{error}.") from error


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
