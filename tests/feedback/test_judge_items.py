"""A language model that ranks responses and marks steps: its answers stand where people's do, once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.databases import prepared_sqlite
from tests.feedback.test_exports import rows
from tests.feedback.test_judge_commands import cost
from tests.feedback.test_label import run_label, sample, settings
from tests.judges.endpoint import Server, serving
from tutelage.feedback.asking.payloads import Schema
from tutelage.feedback.exports.marks import step_marks_from
from tutelage.feedback.items.building import build
from tutelage.feedback.projects.projects import local_member, set_schema
from tutelage.records import Response
from tutelage.store import ModelInfo, Store
from tutelage.store.comparing import read_items
from tutelage.store.database import Database
from tutelage.worlds.gold import grade
from tutelage.worlds.gold_maths import mark
from tutelage.worlds.world import marked_solutions, prompts

ASKED = list(prompts(0, "label-test", 20))
SOLVED = list(marked_solutions(0, 12))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving([*ASKED, *(one.prompt for one in SOLVED)], reliability=0.99) as running:
        yield running


def results(folder: Path, run: str = "label") -> dict[str, Any]:
    return {row["metric"]: row for row in json.loads((folder / run / "results.json").read_text())}


def exported(folder: Path, format: str) -> list[dict[str, Any]]:
    """The rows that `feedback export` writes."""
    with closing(Database(folder / "store.sqlite")) as database:
        return rows(database, local_member(database, "main"), format=format)


def test_rankings_are_read_as_people_s_are(tmp_path: Path, server: Server) -> None:
    """Each two of the ranked responses are a comparison, right by gold as often as results.json says; nothing is asked twice."""
    prepared_sqlite(tmp_path / "store.sqlite", "sampled", sample)
    judge = server.part(template="k-way", price_in=1.0)
    before = cost(tmp_path, judge)
    said = run_label(settings(tmp_path, judge=judge, pairs_per_prompt=3))
    with Store(tmp_path / "store.sqlite") as store:
        [name] = [name for name, kind in store.annotator_kinds().items() if kind == "judge"]
        pairs, spent = store.voted_pairs("main"), store.spent("main")[name]
        with store.reading("main") as (connection, key):
            items = read_items(connection, key, "rank")
    assert items and all(len(item.texts) == 3 for item in items)
    assert f"{len(items)} items to judge, {3 * len(items)} questions, 0 of them" in before
    assert len(pairs) == 3 * len(items) and spent.answered == 3 * len(items)
    right = []
    for pair in pairs:
        gold = [grade(pair.prompt, text).value for text in pair.texts]
        side = (gold[1] > gold[0]) - (gold[1] < gold[0])
        [vote] = pair.votes
        right.append(0.5 if 0 in (side, vote.preference) else float(side == vote.preference))
    ranked = exported(tmp_path, "ranked")
    assert len(ranked) == len(items)
    apart = sum(a != b for row in ranked for a, b in itertools.combinations(row["ranks"], 2))
    assert apart == sum(vote.preference != 0 for pair in pairs for vote in pair.votes) > 0
    row = results(tmp_path)["gold_agreement"]
    assert row["value"] == pytest.approx(sum(right) / len(right)) and row["value"] > 0.8
    assert results(tmp_path)["answered_items"]["value"] == len(items) and f"{len(items)} items" in said
    run_label(settings(tmp_path, out=tmp_path / "again", judge=judge, pairs="all", pairs_per_prompt=3))
    with Store(tmp_path / "store.sqlite") as store:
        assert store.spent("main")[name] == spent and len(store.voted_pairs("main")) == len(pairs)


def test_unsure_rankings_wait_for_people(tmp_path: Path) -> None:
    prepared_sqlite(tmp_path / "store.sqlite", "sampled", sample)
    with serving(ASKED, reliability=0.6, malformed=0.1) as careless:
        judge = careless.part(template="k-way", repair=False)
        run_label(settings(tmp_path, judge=judge, people_below=0.8, pairs_per_prompt=3))
    with Store(tmp_path / "store.sqlite") as store, store.reading("main") as (connection, _):
        rows = connection.exec_driver_sql(
            "SELECT n_done, overlap, priority FROM item WHERE type = 'rank'"
        ).all()
    assert {row[0] for row in rows} == {0, 1}
    for done, overlap, priority in rows:
        assert overlap == (done + 1 if priority else done) and (done == 1 or priority == 0.5)
        assert priority == 0 or priority > 0.2


def test_marks_are_those_of_step_items(tmp_path: Path, server: Server) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        store.add_prompts("main", [one.prompt for one in SOLVED])
        run = store.add_generation_run(ModelInfo("people"), "written", {})
        written = [
            Response(one.prompt, "\n".join(one.steps), (1,), (2,), (-1.0,), "eos", 0) for one in SOLVED
        ]
        store.add_responses("main", run, written)
    judge = server.part(template="steps")
    with pytest.raises(ValueError, match="has no items of type step: build some in the web app"):
        run_label(settings(tmp_path, judge=judge, pairs_per_prompt=3))
    with closing(Database(tmp_path / "store.sqlite")) as database:
        who = local_member(database, "main")
        set_schema(database, who, Schema(type="step", splitter="lines", first_error=True))
        build(database, who, "step")
    run_label(settings(tmp_path, out=tmp_path / "steps", judge=judge, pairs_per_prompt=3))
    with Store(tmp_path / "store.sqlite") as store, store.reading("main") as (connection, _):
        marked = connection.exec_driver_sql(
            "SELECT a.item_id, s.step, s.label, s.text, a.verdict FROM annotation a JOIN step_mark s ON s.annotation_id = a.id "
            "ORDER BY 1, 2"
        ).all()
    found = [list(group) for _, group in itertools.groupby(marked, key=lambda row: row[0])]
    assert (
        len(found)
        == len({one.prompt.id for one in SOLVED})
        == results(tmp_path, "steps")["answered_items"]["value"]
    )
    gold = {
        tuple(m for m in mark(dict(one.prompt.reference or {}), list(one.steps)) if m is not None)
        for one in SOLVED
    }
    said = [tuple(row[2] for row in own) for own in found]
    assert sum(one in gold for one in said) >= len(said) - 2
    rows_of = [([row[3] for row in own], [row[2] == 1 for row in own]) for own in found]
    stepwise = [(row["completions"], row["labels"]) for row in exported(tmp_path, "stepwise")]
    assert sorted(stepwise) == sorted(rows_of)
    trained = step_marks_from("store:main", tmp_path / "store.sqlite").rows
    assert len(trained) == len(found)
    for own, labels in zip(found, said, strict=True):
        assert -1 not in labels[:-1]  # the questions end there
        assert own[0][4] == ("found-error" if -1 in labels else "solution")
        assert "".join(row[3] for row in own).startswith("1.")
    with pytest.raises(ValueError, match="people_below means nothing for llm:"):
        run_label(settings(tmp_path, out=tmp_path / "x", judge=judge, pairs_per_prompt=3, people_below=0.9))
    with pytest.raises(ValueError, match="responses_per_ranking is for a judge with template: k-way"):
        run_label(settings(tmp_path, out=tmp_path / "y", judge=server.part(), responses_per_ranking=5))
