"""Kinds of fields that many routes share, with the bounds that keep nonsense from reaching the database."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path
from pydantic import Field

from tutelage.feedback.asking.payloads import LARGEST_ID

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
