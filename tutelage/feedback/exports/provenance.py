"""Where a preference row comes from: what wrote its responses, who compared them, and how far they agreed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from tutelage.feedback.exports.current import RowDict, Source, aliases
from tutelage.records import Comparison
from tutelage.store import VotedPair
from tutelage.store.schema import GenerationRun, ModelRef, PromptRow, ResponseRow

Writer = tuple[str, str, int]  # of a response: model, its hash, the how manieth generation run of the project
NOBODY: Writer = ("", "", 0)  # what an annotator wrote


def provenance(source: Source, rows: Sequence[tuple[VotedPair, Comparison]]) -> list[RowDict]:
    """For each row: the models of both sides, round (of the newer side), annotators, and the share of votes for chosen."""
    wrote, alias = writers(source), aliases(source)
    found: list[RowDict] = []
    for pair, row in rows:
        sides = [NOBODY if one is None else wrote[one] for one in pair.responses]
        swapped = (row.chosen, row.chosen_finish) != (pair.texts[0], pair.finishes[0])
        chosen, rejected = reversed(sides) if swapped else sides
        first = sum(vote.for_first for vote in pair.votes) / len(pair.votes)
        found.append(
            {
                "chosen_model": chosen[0],
                "chosen_model_sha256": chosen[1],
                "rejected_model": rejected[0],
                "rejected_model_sha256": rejected[1],
                "round": max(n for _, _, n in sides),
                "annotators": [alias[vote.annotator] for vote in pair.votes],
                "settled": pair.settled is not None,
                "agreement": round(1 - first if swapped else first, 6),
            }
        )
    return found


def writers(source: Source) -> dict[int, Writer]:
    """response -> what wrote it."""
    query = (
        select(ResponseRow.id, GenerationRun.id.label("run"), ModelRef.name, ModelRef.sha256)
        .join(PromptRow)
        .join(GenerationRun)
        .join(ModelRef)
        .where(PromptRow.project_id == source.project_id)
    )
    rows = source.connection.execute(query).all()
    rounds = {run: n for n, run in enumerate(sorted({row.run for row in rows}), start=1)}
    return {row.id: (row.name, row.sha256, rounds[row.run]) for row in rows}
