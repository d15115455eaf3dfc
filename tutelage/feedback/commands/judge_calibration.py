"""`tutelage judge calibration`: judges beside people who voted on the same pairs of a project.

results.json has rows {model, metric, task, value, low, high, n, unit}, one model per judge; `task` is the slice of pairs: all,
those of similar length, those where the longer response is the judge's, those on which all people agree or not; or `by NAME`,
what both say by one criterion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group

from tutelage.evals.rows import OVERALL, Row, to_json
from tutelage.evals.shown import columns_table
from tutelage.feedback.statistics.estimate import Estimate, Resampling
from tutelage.feedback.statistics.judging import judge_agreement, labels_per_person
from tutelage.feedback.statistics.votes import Votes
from tutelage.files import write_json_atomic
from tutelage.runs import Run
from tutelage.settings.feedback import JudgeCalibrationSettings as Settings
from tutelage.store import Pair, Store, StoredVote

SIDES = [-1, 0, 1]
FEWEST = 30
AGREE, PART = "people agree", "people part"
CHOSEN = (AGREE, PART)
"""Slices that are made by how people voted, in which how often they agree says nothing."""


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write results.json.  Raises ValueError where no judge, or nobody else, has votes in the project."""
    with Store(settings.store) as store:
        kinds = store.annotator_kinds()
        pairs = {pair.item_id: pair for pair in store.pairs(settings.project)}
        votes = store.votes(settings.project)
    people = [one for one in votes if kinds[one.vote.annotator] == settings.people]
    if not people:
        raise ValueError(
            f"project '{settings.project}' in {settings.store} has no votes of {settings.people} annotators: "
            "choose people=, or collect some."
        )
    names = judges_in(settings, votes, kinds)
    run.begin()
    rows: list[Row] = []
    for name in names:
        own = [one for one in votes if one.vote.annotator == name]
        how = Resampling(settings.seed, settings.resamples, enough=FEWEST)
        for slice_name, items in slices(pairs, people, own, settings.similar_length).items():
            rows += judged(name, slice_name, pairs, people, own, items, how)
        for criterion, theirs, mine in by_criteria(people, own):
            both = {one.item_id for one in theirs} & {one.item_id for one in mine}
            rows += judged(name, f"by {criterion}", pairs, theirs, mine, both, how)
    write_json_atomic(run.folder / "results.json", to_json(rows))
    for name in names:
        run.console.print(table(rows, name, run.console.width))
    overall = {
        row.metric: row.value
        for row in rows
        if row.task == OVERALL and row.model == names[0] and row.value is not None
    }
    run.log(overall)
    run.commit(0)
    return run.folder


def judges_in(settings: Settings, votes: Sequence[StoredVote], kinds: dict[str, str]) -> list[str]:
    """The judges to look at.  Raises ValueError where there is none, or none of that name."""
    known = sorted({one.vote.annotator for one in votes if kinds[one.vote.annotator] == "judge"})
    if settings.judge and settings.judge not in known:
        raise ValueError(
            f"judge={settings.judge} has no votes in project '{settings.project}': those that have are "
            f"{', '.join(known) or 'none'}."
        )
    if not known:
        raise ValueError(
            f"project '{settings.project}' in {settings.store} has no votes of a judge: `tutelage label judge=... pairs=all` "
            "lets one vote on what people have voted on."
        )
    return [settings.judge] if settings.judge else known


def slices(
    pairs: dict[int, Pair], people: Sequence[StoredVote], own: Sequence[StoredVote], similar: float
) -> dict[str, set[int]]:
    """Slice -> items, of those that both have voted on."""
    sides: dict[int, set[int]] = {}
    for one in people:
        sides.setdefault(one.item_id, set()).add(sign(one))
    both = {one.item_id for one in own} & sides.keys()
    lengths = {item: tuple(map(len, pairs[item].texts)) for item in both}
    close = {item for item, (a, b) in lengths.items() if abs(a - b) <= similar * max(a, b)}
    longer = {
        one.item_id
        for one in own
        if one.item_id in both - close
        and sign(one)
        and (sign(one) > 0) == (lengths[one.item_id][1] > lengths[one.item_id][0])
    }
    agreed = {item for item in both if len(sides[item]) == 1}
    return {
        OVERALL: both,
        "similar length": close,
        "judge takes the longer": longer,
        AGREE: agreed,
        PART: both - agreed,
    }


def by_criteria(
    people: Sequence[StoredVote], own: Sequence[StoredVote]
) -> Iterator[tuple[str, list[StoredVote], list[StoredVote]]]:
    """(criterion, people's votes by it, the judge's votes by it), of the criteria that both have answered."""
    names = [{name for one in votes for name, _ in one.vote.criteria} for votes in (people, own)]
    for criterion in sorted(names[0] & names[1]):
        yield criterion, by_one(people, criterion), by_one(own, criterion)


def by_one(votes: Sequence[StoredVote], criterion: str) -> list[StoredVote]:
    """The votes with what they say by a criterion as their preference, of those that say something."""
    said = [(one, dict(one.vote.criteria)) for one in votes]
    return [
        replace(one, vote=replace(one.vote, preference=by[criterion], share=None, margin=None))
        for one, by in said
        if criterion in by
    ]


def judged(
    name: str,
    slice_name: str,
    pairs: dict[int, Pair],
    people: Sequence[StoredVote],
    own: Sequence[StoredVote],
    items: set[int],
    how: Resampling,
) -> list[Row]:
    """The figures of one judge on some items."""
    theirs = [one for one in people if one.item_id in items]
    mine = [one for one in own if one.item_id in items]
    if not mine:
        return []
    votes = Votes.from_triplets(
        [one.item_id for one in theirs],
        [one.vote.annotator for one in theirs],
        [sign(one) for one in theirs],
        categories=SIDES,
        clusters=[pairs[one.item_id].prompt.id for one in theirs],
        mirrored=True,
    )
    asked: tuple[NDArray[Any], NDArray[Any]] = (
        np.array([one.item_id for one in mine]),
        np.array([sign(one) for one in mine]),
    )
    found = judge_agreement(*asked, votes, how=how)
    figures = {
        "agreement_majority": found.majority,
        "kappa": found.kappa,
        "agreement_person": found.person,
        "agreement_people": found.people,
        "agreement_gap": found.gap,
    }
    if slice_name not in CHOSEN:
        figures["labels_per_person"] = labels_per_person(*asked, votes, how=how)
    return [of(name, metric, slice_name, one) for metric, one in figures.items()]


def sign(one: StoredVote) -> int:
    """Which side a vote is for."""
    return (one.vote.preference > 0) - (one.vote.preference < 0)


def of(name: str, metric: str, task: str, found: Estimate) -> Row:
    """A row from an estimate."""
    return Row(name, metric, task, found.value, found.low, found.high, found.n, found.unit)


HEADINGS = {
    "agreement_majority": "as most people",
    "kappa": "kappa",
    "agreement_person": "as a person",
    "agreement_people": "people with each other",
    "labels_per_person": "its votes per person's",
}


def table(rows: Sequence[Row], name: str, width: int) -> Group:
    """The figures of one judge, a column for each slice of the pairs."""
    columns: dict[str, list[str]] = {}
    for task in dict.fromkeys(row.task for row in rows if row.model == name):
        found = {row.metric: row for row in rows if (row.model, row.task) == (name, task)}
        cells = [shown(found[metric]) if metric in found else "" for metric in HEADINGS]
        columns[task] = [f"{found['agreement_majority'].n:,}", *cells]
    return columns_table(
        f"{name} beside people (95 % intervals)", "", ["pairs", *HEADINGS.values()], columns, width
    )


def shown(row: Row) -> str:
    """A figure with its interval; a dash where there are too few pairs."""
    if row.value is None:
        return "-"
    if row.low is None or row.high is None:
        return f"{row.value:.2f}"
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
