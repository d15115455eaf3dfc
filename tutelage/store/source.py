"""`data=store:PROJECT`: comparisons from the store, where a file name could stand."""

from __future__ import annotations

from pathlib import Path

from tutelage.records import Comparison
from tutelage.store.aggregate import Aggregation, Ties
from tutelage.store.store import Store

PREFIX = "store:"


def is_store_source(text: str) -> bool:
    """Whether a `data=` value names a project in the store instead of a file."""
    return text.startswith(PREFIX)


def comparisons_from(
    source: str, store: str | Path, aggregation: Aggregation = "majority", ties: Ties = "keep"
) -> list[Comparison]:
    """The comparisons of `store:PROJECT`; see `Store.comparisons`.

    Raises ValueError when the store does not exist, the project is not in it, or nobody has voted yet.
    """
    assert is_store_source(source)
    project = source.removeprefix(PREFIX)
    if not project:
        raise ValueError(f"data={source} names no project: write store:PROJECT.")
    if "://" not in str(store) and not Path(store).exists():
        raise ValueError(
            f"data={source}: there is no store at {store}: set store= to the file that `label` wrote."
        )
    with Store(store) as opened:
        rows = opened.comparisons(project, aggregation, ties)
    if not rows:
        raise ValueError(
            f"data={source}: project '{project}' in {store} has no labelled pairs yet: run `label` first."
        )
    return rows
