"""Where a preference row comes from: what wrote its responses, who compared them, and how far they agreed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from sqlalchemy import select

from tutelage.feedback.exports.current import RowDict, Source, aliases
from tutelage.records import Comparison
from tutelage.store import VotedPair
from tutelage.store.schema import GenerationRun, ModelRef, PromptRow, ResponseRow
from tutelage.store.sql import batched, chunks

Writer = tuple[str, str, int]  # of a response: model, its hash, the how manieth generation run of the project
T = TypeVar("T")
AT_ONCE = 500  # rows whose writers are looked up at once
NOBODY: Writer = ("", "", 0)  # what an annotator wrote


def provenance(
    source: Source, rows: Iterable[tuple[VotedPair, Comparison]]
) -> Iterator[tuple[tuple[VotedPair, Comparison], RowDict]]:
    """Each row with the models of both sides, round (of the newer side), annotators, and the share of votes for chosen."""
    alias = aliases(source)
    for (pair, row), wrote in with_writers(source, rows, lambda one: one[0].responses):
        sides = [NOBODY if one is None else wrote[one] for one in pair.responses]
        swapped = (row.chosen, row.chosen_finish) != (pair.texts[0], pair.finishes[0])
        chosen, rejected = reversed(sides) if swapped else sides
        first = sum(vote.for_first for vote in pair.votes) / len(pair.votes)
        said = {
            "chosen_model": chosen[0],
            "chosen_model_sha256": chosen[1],
            "rejected_model": rejected[0],
            "rejected_model_sha256": rejected[1],
            "round": max(n for _, _, n in sides),
            "annotators": [alias[vote.annotator] for vote in pair.votes],
            "settled": pair.settled is not None,
            "agreement": round(1 - first if swapped else first, 6),
        }
        yield (pair, row), said


def with_writers(
    source: Source, rows: Iterable[T], responses: Callable[[T], Iterable[int | None]]
) -> Iterator[tuple[T, dict[int, Writer]]]:
    """Each row with what wrote its responses, response -> writer; looked up for some hundred rows at a time."""
    runs = _runs(source)
    for some in batched(rows, AT_ONCE):
        ids = sorted({one for row in some for one in responses(row) if one is not None})
        wrote: dict[int, Writer] = {}
        for part in chunks(ids):
            query = select(ResponseRow.id, ResponseRow.generation_run_id).where(ResponseRow.id.in_(part))
            wrote |= {key: runs[run] for key, run in source.connection.execute(query)}
        yield from ((row, wrote) for row in some)


def _runs(source: Source) -> dict[int, Writer]:
    """Generation run -> who wrote in it, of those with responses in the project."""
    own = select(ResponseRow.id).join(PromptRow).where(ResponseRow.generation_run_id == GenerationRun.id)
    own = own.where(PromptRow.project_id == source.project_id).correlate(GenerationRun)
    query = select(GenerationRun.id, ModelRef.name, ModelRef.sha256).join(ModelRef).where(own.exists())
    rows = source.connection.execute(query.order_by(GenerationRun.id))
    return {row.id: (row.name, row.sha256, n) for n, row in enumerate(rows, start=1)}
