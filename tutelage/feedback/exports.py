"""Exports: answers as files for trainers and for keeping, each with a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.feedback.access import Member
from tutelage.feedback.payloads import Model
from tutelage.store.database import Database

Format = Literal["preference", "hh", "unpaired", "ranked", "stepwise", "sft", "ratings", "raw"]
Aggregation = Literal["majority", "all", "dawid-skene", "adjudicated"]


class ExportSpec(Model):
    """What to write."""

    format: Format = "preference"
    aggregation: Aggregation = "majority"
    ties: Literal["keep", "drop"] = "drop"
    neutral: Literal["true", "false", "drop"] = "drop"  # stepwise: what a neutral step becomes
    names: bool = False  # raw: real names of annotators instead of numbers
    gold: bool = True  # gold items, too


@dataclass(frozen=True)
class Exported:
    """A finished export: the data file, its manifest beside it, and what the manifest says."""

    file: Path
    manifest: Path
    rows: int
    left_out: dict[str, int]  # reason -> items
    sha256: str


def preview(database: Database, who: Member, spec: ExportSpec, limit: int = 3) -> list[dict[str, Any]]:
    """The first rows exactly as they would be written.  Needs export.  Refused: invalid (nothing fits the format)."""
    raise NotImplementedError


def rows(database: Database, who: Member, spec: ExportSpec) -> Iterator[dict[str, Any]]:
    """All rows, for a streamed download.  Needs export."""
    raise NotImplementedError


def export(database: Database, who: Member, spec: ExportSpec, out: Path) -> Exported:
    """Write `out` (JSONL) and `out` + .manifest.json, and note it in the store.  Needs export."""
    raise NotImplementedError
