"""What routes of the API take: kinds of fields with bounds that keep nonsense from the database, and texts that it can keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import Field

from tutelage.feedback.asking.payloads import LARGEST_ID
from tutelage.feedback.errors import Refused
from tutelage.store.sql import is_storable

Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
BodyId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{8,200}$",
        description="This answer's own name (8 to 200 visible ASCII characters): sent twice, it is stored once.",
    ),
]
Secret = Annotated[str, Field(min_length=1, max_length=1_000)]


def strict_router(tag: str) -> APIRouter:
    """A router whose routes take only JSON bodies with texts that every database can keep: no NUL, no half characters."""
    return APIRouter(tags=[tag], route_class=_StrictRoute)


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            body = await request.body()
            if b"\\u" in body and not _keeps(body):
                raise Refused(
                    "invalid", "The text holds a NUL or half a character (a lone surrogate): take it out."
                )
            return await handle(request)

        return checked


def _keeps(body: bytes) -> bool:
    """Whether every database keeps the texts in a JSON body; what is no JSON is somebody else's business."""
    try:
        return is_storable(json.loads(body))
    except (ValueError, RecursionError):
        return True
