"""`data=store:PROJECT` for `kto` and for `reward learn_from=ratings`: what people said of single responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tutelage.feedback.exports.current import RowDict, Source
from tutelage.feedback.exports.formats import ratings, unpaired
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.training.habits import WITHOUT_HABITS
from tutelage.feedback.training.source import (
    Aggregation,
    StoreRows,
    comparisons_from,
    joined,
    opened_at,
    projects_of,
    require_rows,
    sorted_out,
)
from tutelage.records import Labelled, Prompt, Rating
from tutelage.settings.groups import LabelsFrom

R = TypeVar("R", Labelled, Rating)


def labelled_from(
    source: str | list[str], store: str | Path, aggregation: Aggregation, labels_from: LabelsFrom
) -> StoreRows[Labelled]:
    """The responses of `store:PROJECT`, or of several, that are good or not, as `feedback export format=unpaired` finds them.

    Raises ValueError when the store does not exist, the project is not in it, or nothing in it can be trained on (yet).
    """
    if isinstance(source, list):
        parts = projects_of(source)
        return joined(parts, [labelled_from(part, store, aggregation, labels_from) for part in parts])
    spec = ExportSpec(format="unpaired", aggregation=aggregation, labels_from=labels_from, split="all")

    def read(row: RowDict) -> Labelled:
        said = row["completion"]
        text = said if isinstance(said, str) else said[0]["content"]
        return Labelled(_prompt(row), text, row["label"], row["completion_finish"])

    found = _rows(
        source, store, spec, unpaired, read, f"labels_from={labels_from} finds no label of a response in it"
    )
    if aggregation not in WITHOUT_HABITS:
        return found
    return replace(found, habits=comparisons_from(source, store, aggregation).habits)


def ratings_from(source: str | list[str], store: str | Path) -> StoreRows[Rating]:
    """Every rating of a response in `store:PROJECT`, or in several, each with who gave it.  Raises ValueError as
    `labelled_from` does."""
    if isinstance(source, list):
        parts = projects_of(source)
        return joined(parts, [ratings_from(part, store) for part in parts])
    spec = ExportSpec(format="ratings", aggregation="all", names=True, split="all")

    def read(row: RowDict) -> Rating:
        return Rating(_prompt(row), row["response"], row["values"], row["annotator"], row["response_finish"])

    return _rows(source, store, spec, ratings, read, "nobody has rated a response in it yet")


def _rows(
    source: str,
    store: str | Path,
    spec: ExportSpec,
    writer: Callable[[Source], Iterator[RowDict]],
    read: Callable[[RowDict], R],
    nothing: str,
) -> StoreRows[R]:
    left_out: Counter[str] = Counter()
    with opened_at(source, store) as (opened, project), opened.reading(project) as (connection, key):
        rows = writer(Source(connection, key, spec, left_out))
        sorted_rows: StoreRows[R] = sorted_out((row["split"], read(row)) for row in rows)
    found = replace(sorted_rows, left_out=dict(left_out))
    require_rows(found, source, f"project '{project}' in {store}: {nothing}")
    return found


def _prompt(row: RowDict) -> Prompt:
    return Prompt.from_json(row["prompt"], row["task"], row["reference"])
