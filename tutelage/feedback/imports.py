"""Imports: prompts, responses, pairs, scores and raw exports from JSONL, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tutelage.feedback.access import Member
from tutelage.store.database import Database

Kind = Literal["prompts", "responses", "preference", "scores", "raw"]


@dataclass(frozen=True)
class BadLine:
    """A line that was not taken: its number (from 1) and why."""

    line: int
    why: str


@dataclass(frozen=True)
class Imported:
    """All good lines are in; `there` were in already, so that repeating an import adds nothing."""

    new: int
    there: int
    bad: list[BadLine] = field(default_factory=list)


def import_lines(database: Database, who: Member, kind: Kind, lines: Iterable[str | bytes]) -> Imported:
    """Take JSONL.  Needs manage.

    prompts: {prompt, task?, reference?}; responses: {prompt, response, model?, ...}; preference: TRL's columns (makes
    a pair item, and a vote of an annotator `import` where there is none to name); scores: {prompt, response, score,
    source?}; raw: what `exports` wrote.
    """
    raise NotImplementedError
