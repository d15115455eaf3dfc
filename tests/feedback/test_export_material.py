"""What a format is made of, against a project for each type of item: rows come of the types that are said, and of no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from tests.databases import fresh_sqlite
from tests.feedback.kit import hand_in, owner, start
from tests.store.making import prompt, response
from tutelage.feedback.asking.payloads import (
    Answer,
    Criterion,
    ItemType,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
    StepMark,
    Task,
)
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.material import types_of, why_none
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.items import building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.work import queue
from tutelage.settings.groups import ExportFormat
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database

SPECS = [
    *(
        ExportSpec(format=format)
        for format in get_args(ExportFormat)
        if format
        not in ("unpaired", "refinements")  # that is made of rounds, which are more than their items
    ),
    *(ExportSpec(format="unpaired", labels_from=source) for source in ("acceptable", "rating", "pairs")),
]
ASKED = Schema(
    acceptable=True,
    criteria=(Criterion(name="overall", title="Overall"), Criterion(name="helpfulness", title="Helpful")),
    scale=5,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(fresh_sqlite(tmp_path / "store.sqlite")) as opened:
        yield opened


@pytest.fixture
def database(store: Store, tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def clear(task: Task) -> Answer:
    """An answer that every format of its type can carry."""
    k = len(task.responses)
    acceptable = (True, *[False] * (k - 1))
    if task.type == "pair":
        return PairAnswer(preference=-2, acceptable=acceptable)
    if task.type == "rank":
        return RankAnswer(ranks=tuple(range(1, k + 1)), acceptable=acceptable)
    if task.type == "rate":
        return RateAnswer(ratings={c.name: (5,) * k for c in task.questions.criteria}, acceptable=acceptable)
    if task.type == "step":
        return StepAnswer(marks=tuple(StepMark(step=n, label=1) for n in range(len(task.responses[0].steps))))
    return RewriteAnswer(text="better")


def project(store: Store, database: Database, type: ItemType) -> Member:
    """With items of one type alone, all of them answered."""
    asked = [prompt(number) for number in range(2)]
    store.add_prompts("main", asked)
    run = store.add_generation_run(ModelInfo("runs/sft"), "local", {})
    store.add_responses("main", run, [response(p, index) for p in asked for index in range(3)])
    who = projects.member(database, owner(database), "main")
    projects.set_schema(database, who, ASKED)
    building.build(database, who, type, size=3 if type == "rank" else None)
    while (task := queue.next_task(database, who)) is not None:
        hand_in(database, who, task, clear(task))
    return who


@pytest.mark.parametrize("type", ["pair", "rank", "rate", "step", "rewrite"])
def test_rows_come_of_the_types_that_are_said(store: Store, database: Database, type: ItemType) -> None:
    who = project(store, database, type)
    gave = [spec for spec in SPECS if any(exporting.rows(database, who, spec))]
    assert gave == [spec for spec in SPECS if type in types_of(spec)]


def test_where_no_row_fits_the_sentence_says_what_is_needed_and_what_is_there(
    store: Store, database: Database
) -> None:
    who = start(store, database, prompts=1)
    said = why_none(database, who, ExportSpec(format="ranked"))
    assert said == (
        "format=ranked is made of answers to items of type rank, and project 'main' has 6 of type pair (0 answered): build such "
        "items, or choose a format for those that there are."
    )
    building.build(database, who, "rank")
    waiting = why_none(database, who, ExportSpec(format="ranked"))
    assert "has 6 of type pair (0 answered) and 1 of type rank (0 answered): wait for answers" in waiting
    task = queue.next_task(database, who)
    assert task is not None
    hand_in(database, who, task, PairAnswer(preference=0))
    tied = why_none(database, who, ExportSpec(format="unpaired", labels_from="rating"))
    assert "format=unpaired labels_from=rating is made of answers to items of type rate, and" in tied
    tied = why_none(database, who, ExportSpec(format="hh"))
    assert "of type pair, rank or rewrite, and" in tied and "what was answered is left out" in tied


def test_refinements_are_more_than_marked_steps(store: Store, database: Database) -> None:
    who = project(store, database, "step")
    assert not list(exporting.rows(database, who, ExportSpec(format="refinements")))
    assert why_none(database, who, ExportSpec(format="refinements")).startswith(
        "project 'main' has no refinements: import some"
    )
