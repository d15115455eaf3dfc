"""API: importing a file.  No `StrictRoute`: a file may hold what no database keeps, and then its rows are refused one by one."""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from tutelage.data.reading.rows import read_stream
from tutelage.feedback.errors import Refused
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported, Kind
from tutelage.feedback.people.access import Member
from tutelage.web.access import Manager, TheSite
from tutelage.web.site import Site

router = APIRouter(tags=["items"])

MOST_LINES = 100_000  # of one import; its bytes are limited for every request
LONGEST_UNPACKED = 128 * 2**20  # bytes of an import that was packed
FileName = Annotated[str, Field(min_length=1, max_length=255)]


@router.post(
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
    return importing.import_stream(site.database, who, kind, io.BytesIO(content), bare)


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
