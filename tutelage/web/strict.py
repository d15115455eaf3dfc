"""Routes of the API: what they take can be kept by every database."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from tutelage.feedback.errors import Refused
from tutelage.store.sql import is_storable


class StrictRoute(APIRoute):
    """A route whose JSON body holds only text that every database can keep: no NUL, no half characters."""

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
