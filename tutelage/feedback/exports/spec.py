"""What an export is made of."""

from __future__ import annotations

from typing import Literal

from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.training.source import Aggregation

Format = Literal["preference", "hh", "unpaired", "ranked", "stepwise", "sft", "ratings", "raw"]
FileFormat = Literal["jsonl", "parquet", "csv"]


class ExportSpec(Model):
    """What to write."""

    format: Format = "preference"
    file_format: FileFormat = "jsonl"
    aggregation: Aggregation = "majority"
    ties: Literal["keep", "drop"] = "drop"
    labels_from: Literal["acceptable", "rating", "pairs"] = "acceptable"  # unpaired: where labels come from
    neutral: Literal["true", "false", "drop"] = "drop"  # stepwise: what a neutral step becomes
    names: bool = False  # raw, ratings: real names of annotators instead of numbers
    gold: bool = True  # gold items, too
