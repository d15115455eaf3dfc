"""`data=store:PROJECT`: rows for trainers from the store, where a file name could stand."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeGuard

from tutelage.feedback.training.consensus import comparisons_by_skill
from tutelage.records import Comparison, Demonstration
from tutelage.store import Store, Ties, VotedPair
from tutelage.store.aggregate import comparisons

Aggregation = Literal["majority", "all", "dawid-skene", "crowd-bt", "adjudicated"]
PREFIX = "store:"
KINDS = ("human", "simulated", "judge", "rule")


def is_store_source(data: object) -> TypeGuard[str]:
    """Whether a `data=` value names a project in the store instead of files."""
    return isinstance(data, str) and data.startswith(PREFIX)


def aggregate(pairs: Sequence[VotedPair], aggregation: Aggregation, ties: Ties) -> list[Comparison]:
    """One row per voted pair; see `Store.comparisons`, and `consensus` for dawid-skene and crowd-bt."""
    if aggregation == "dawid-skene" or aggregation == "crowd-bt":
        return [row for row in comparisons_by_skill(pairs, aggregation, ties) if row is not None]
    return comparisons(pairs, aggregation, ties)


def votes_by(
    pairs: Sequence[VotedPair], annotators: Sequence[str], kinds: Mapping[str, str]
) -> list[VotedPair]:
    """The pairs with the votes of some annotators only (names, or kinds), those without any left out.

    Raises ValueError for a name under which nobody has voted.
    """
    there = {vote.annotator for pair in pairs for vote in pair.votes}
    for name in annotators:
        if name not in there and name not in KINDS:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"give names, or {', '.join(KINDS)}."
            raise ValueError(f"annotators={name}: nobody of that name has voted here: {hint}")
    wanted = {name for name in there if name in annotators or kinds[name] in annotators}
    found = []
    for pair in pairs:
        votes = tuple(vote for vote in pair.votes if vote.annotator in wanted)
        if votes:
            found.append(replace(pair, votes=votes))
    return found


def comparisons_from(
    source: str,
    store: str | Path,
    aggregation: Aggregation = "majority",
    ties: Ties = "keep",
    annotators: Sequence[str] = (),
) -> list[Comparison]:
    """The comparisons of `store:PROJECT`: everything that was compared in it (`Store.voted_pairs`), aggregated.

    `annotators`: as `votes_by`; none given are all.  Raises ValueError when the store does not exist, the project is
    not in it, or nobody (of them) has voted yet.
    """
    with _open(source, store) as (opened, project):
        pairs = opened.voted_pairs(project)
        if pairs and annotators:
            pairs = votes_by(pairs, annotators, opened.annotator_kinds())
            if not pairs:
                raise ValueError(
                    f"data={source}: none of annotators={','.join(annotators)} has voted in it yet."
                )
        rows = aggregate(pairs, aggregation, ties)
    if not rows:
        raise ValueError(
            f"data={source}: project '{project}' in {store} has no labelled pairs yet: run `label` first."
        )
    return rows


def demonstrations_from(source: str, store: str | Path) -> list[Demonstration]:
    """The demonstrations and rewrites that people wrote in `store:PROJECT`.

    Raises ValueError when the store does not exist, the project is not in it, or nobody has written anything yet.
    """
    with _open(source, store) as (opened, project):
        rows = opened.demonstrations(project)
    if not rows:
        raise ValueError(
            f"data={source}: nobody has rewritten or written a response in project '{project}' of {store} yet: "
            "build items of type rewrite and let people answer them."
        )
    return rows


def comparisons_digest(
    source: str,
    store: str | Path,
    aggregation: Aggregation = "majority",
    ties: Ties = "keep",
    annotators: Sequence[str] = (),
) -> str | None:
    """A hash (sha256, hex) of what `comparisons_from` returns; None where it would raise."""
    try:
        rows = comparisons_from(source, store, aggregation, ties, annotators)
    except ValueError:
        return None
    return digest_of_comparisons(rows)


def digest_of_comparisons(rows: Sequence[Comparison]) -> str:
    """The same, of rows that have been read."""
    sides = [(row.chosen, row.chosen_finish, row.rejected, row.rejected_finish) for row in rows]
    return _sha256(
        [[row.prompt.id, *side, row.p_chosen, row.margin] for row, side in zip(rows, sides, strict=True)]
    )


def demonstrations_digest(source: str, store: str | Path) -> str | None:
    """A hash (sha256, hex) of what `demonstrations_from` returns; None where it would raise."""
    try:
        rows = demonstrations_from(source, store)
    except ValueError:
        return None
    return digest_of_demonstrations(rows)


def digest_of_demonstrations(rows: Sequence[Demonstration]) -> str:
    """The same, of rows that have been read."""
    return _sha256([[row.prompt.id, row.response, row.finish] for row in rows])


def responses_digest(source: str, store: str | Path) -> str | None:
    """A hash (sha256, hex) of the prompts and responses that `store:PROJECT` holds; None without store or project."""
    try:
        with _open(source, store) as (opened, project):
            return _sha256(opened.response_digests(project))
    except ValueError:
        return None


@contextmanager
def _open(source: str, store: str | Path) -> Iterator[tuple[Store, str]]:
    """The store and the project that a source names, without making a store where there is none."""
    assert is_store_source(source)
    project = source.removeprefix(PREFIX)
    if not project:
        raise ValueError(f"data={source} names no project: write store:PROJECT.")
    if "://" not in str(store) and not Path(store).expanduser().exists():
        raise ValueError(
            f"data={source}: there is no store at {store}: set store= to the file that `label` wrote."
        )
    with Store(store, migrate=False) as opened:
        yield opened, project


def _sha256(rows: object) -> str:
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
