"""The feedback store: prompts, responses, pairs and append-only votes in one database.  No torch here."""

from __future__ import annotations

from tutelage.store.aggregate import Aggregation, Ties
from tutelage.store.rows import AnnotatorRow, Counts, ModelInfo, NewVote, Pair, StoredVote, VotedPair
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
    "VotedPair",
]
