"""What an export is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.training.source import Aggregation
from tutelage.settings.groups import ExportFormat as Format
from tutelage.store.rows import is_held_out

FileFormat = Literal["jsonl", "parquet", "csv"]
Part = Literal["all", "records", "solutions", "steps", "marks", "pairs", "corrections"]
"""What of refinements is written: the records; rows for sft, dpo, process and reward; rows for a refiner."""


class ExportSpec(Model):
    """What to write."""

    format: Format = "preference"
    file_format: FileFormat = "jsonl"
    aggregation: Aggregation = "auto"
    ties: Literal["keep", "drop"] = "drop"
    labels_from: Literal["acceptable", "rating", "pairs"] = "acceptable"  # unpaired: where labels come from
    neutral: Literal["true", "false", "drop"] = "drop"  # steps as right or wrong: what a neutral step becomes
    names: bool = False  # raw, ratings, provenance: real names of annotators instead of numbers
    gold: bool = True  # gold items, too
    split: Annotated[str, Field(min_length=1, max_length=200)] = (
        "auto"  # a split's name, all, or auto: all for raw, else those that are trained on
    )
    part: Part = "all"  # refinements: the records and all that they teach, or one of these
    provenance: bool = False  # preference: also who compared, what wrote the responses, how far people agreed

    def wants(self, split: str) -> bool:
        """Whether rows of a split are written."""
        if self.split == "auto":
            return self.format == "raw" or not is_held_out(split)
        return self.split in ("all", split)
