"""The feedback store: prompts, responses, pairs and append-only votes in one database.  No torch here."""

from __future__ import annotations

from tutelage.store.aggregate import Aggregation, Ties
from tutelage.store.rows import AnnotatorRow, Counts, ModelInfo, NewVote, Pair, StoredVote
from tutelage.store.source import comparisons_digest, comparisons_from, is_store_source, responses_digest
from tutelage.store.store import Store

__all__ = [
    "Aggregation",
    "AnnotatorRow",
    "Counts",
    "ModelInfo",
    "NewVote",
    "Pair",
    "Store",
    "StoredVote",
    "Ties",
    "comparisons_digest",
    "comparisons_from",
    "is_store_source",
    "responses_digest",
]
