"""The feedback store: prompts, responses, pairs and append-only votes in one database.  No torch here."""

from __future__ import annotations

from tutelage.store.aggregate import Aggregation, Ties
from tutelage.store.calls import Answer, Question, Spent
from tutelage.store.rows import AnnotatorRow, Counts, ModelInfo, NewVote, Pair, StoredVote, Unsure, VotedPair
from tutelage.store.store import Store

__all__ = [
    "Aggregation",
    "AnnotatorRow",
    "Answer",
    "Counts",
    "ModelInfo",
    "NewVote",
    "Pair",
    "Question",
    "Spent",
    "Store",
    "StoredVote",
    "Ties",
    "Unsure",
    "VotedPair",
]
