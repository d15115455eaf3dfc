"""Kinds of fields that many routes share, with the bounds that keep nonsense from reaching the database."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import Field

LARGEST_ID = 2**31 - 1  # of a PostgreSQL integer

Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
BodyId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Secret = Annotated[str, Field(min_length=1, max_length=1_000)]
