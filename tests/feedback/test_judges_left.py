"""What a judge may cost, and what it left to people: kept in the store, counted by hand, found in the data browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.databases import prepared_sqlite
from tests.feedback.kit import join, start
from tests.feedback.test_label import run_label, sample, settings
from tests.judges.endpoint import Server, serving
from tests.store.making import new_vote
from tutelage.feedback.asking.payloads import Schema
from tutelage.feedback.errors import Refused
from tutelage.feedback.insights.judges import JudgeWork, judges_work
from tutelage.feedback.items.browsing import Query, choices, find
from tutelage.feedback.items.building import build
from tutelage.feedback.items.changing import Close, change_items
from tutelage.feedback.items.redaction import redact
from tutelage.feedback.projects.deletion import delete_project, purge_project
from tutelage.feedback.projects.projects import local_member, set_schema
from tutelage.records import Response
from tutelage.store import Answer, ModelInfo, Question, Store, Unsure
from tutelage.store.database import Database
from tutelage.store.schema import Base, Item
from tutelage.worlds.world import marked_solutions, prompts

ASKED = list(prompts(0, "label-test", 20))
SOLVED = list(marked_solutions(0, 12))
PRICED = {"price_in": 2.0, "price_out": 6.0, "max_tokens": 64}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(ASKED) as running:
        yield running


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    prepared_sqlite(tmp_path / "store.sqlite", "sampled", sample)
    return tmp_path


def work(folder: Path) -> list[JudgeWork]:
    with closing(Database(folder / "store.sqlite")) as database:
        return judges_work(database, local_member(database, "main"))


def counted(one: JudgeWork) -> tuple[int, int, int]:
    return one.left_to_people, one.people_answered, one.waiting


def queue(folder: Path) -> dict[int, tuple[int, int, float]]:
    """Item -> answers, wanted answers, priority."""
    with Store(folder / "store.sqlite") as store, store.reading("main") as (connection, _):
        rows = connection.execute(select(Item.id, Item.n_done, Item.overlap, Item.priority))
        return {row.id: (row.n_done, row.overlap, row.priority) for row in rows}


def test_counts_by_hand(store: Store, database: Database) -> None:
    """Ten items: what was answered before does not count, nor what a judge says, nor a settlement; revisions count once."""
    olga = start(store, database)
    store.add_annotator("first", "judge")
    store.add_annotator("second", "judge")
    store.add_annotator("hugo", "human")
    items = [pair.item_id for pair in store.pairs("main")][:10]
    early, late, revised, judged, closed, redacted, plain, both, dropped, settled = items
    store.add_votes("main", [new_vote(early, "ann", 1)])
    left = [Unsure(item, 2 if item == early else 1, 0.25) for item in items if item != dropped]
    store.ask_people("main", "first", left)
    store.note_left("main", "second", [both, both, dropped])
    store.add_votes("main", [new_vote(item, "hugo", 1) for item in (late, revised, both)])
    again = next(one.id for one in store.votes("main") if one.item_id == revised)
    store.add_votes("main", [new_vote(revised, "hugo", -1, key="again", supersedes=again)])
    store.add_votes("main", [new_vote(judged, "second", 1)])
    change_items(database, olga, [closed], Close(what="close", closed=True))
    redact(database, olga, redacted, "response", 0, "redact")
    gone = {row.item_id for row in find(database, olga, Query(state="redacted", limit=500)).items}
    waiting = {early, plain, settled} - gone
    first, second = judges_work(database, olga)
    assert counted(first) == (9, 3, len(waiting)) and len(waiting) >= 2
    assert counted(second) == (2, 1, len({dropped} - gone))
    assert (first.asked, first.budget, first.left, second.votes) == (0, None, None, 1)
    assert choices(database, olga).judges == ["first", "second"]

    def found(**query: Any) -> set[int]:
        return {row.item_id for row in find(database, olga, Query(**query, limit=500)).items}

    assert found(left_by="first", left="waiting") == waiting
    assert found(left_by="first", left="answered") == {late, revised, both}
    assert found(left_by="first") == set(items) - {dropped}
    assert found(left="answered", left_by="second") == {both} and found(left_by="nobody") == set()
    assert found(left="waiting") == waiting | ({dropped} - gone)
    viv = join(database, olga.user, "main", "viv", "viewer")
    assert judges_work(database, viv) == [first, second]
    with pytest.raises(Refused, match="view"):
        judges_work(database, join(database, olga.user, "main", "art"))


def test_whoever_answered_is_not_asked_for_again(store: Store, database: Database) -> None:
    start(store, database)
    store.add_annotator("hugo", "human")
    first, second = (pair.item_id for pair in store.pairs("main")[:2])
    for wanted in (1, 2):  # repeated, with more votes there
        store.ask_people("main", "llm", [Unsure(first, wanted, 0.4), Unsure(second, wanted, 0.3)])
    store.add_votes("main", [new_vote(first, "hugo", 1), new_vote(first, "ann", 1)])
    store.ask_people("main", "llm", [Unsure(first, 5, 0.9), Unsure(second, 3, 0.5)])
    with store.reading("main") as (connection, _):
        rows = connection.execute(select(Item.overlap, Item.priority).where(Item.id.in_([first, second])))
        assert sorted(map(tuple, rows)) == [(2, 0.4), (3, 0.5)]


def test_what_is_left_of_a_budget(store: Store, database: Database) -> None:
    """By hand: of 2, 0.5 is spent and 0.25 may be; another project has another budget, and none is none; a purge takes all."""
    olga = start(store, database)
    store.add_prompts("other", [])
    for key, reserved in (("a", 0.75), ("b", 0.25)):
        store.add_questions("main", [Question(key * 64, "llm", "pair", "p", reserved)])
    store.add_judge_answers([Answer("a" * 64, "answered", "A", cost=0.5)])
    store.set_budget("main", "llm", 9.0)
    store.set_budget("main", "llm", 2.0)
    store.set_budget("main", "never asked", 1.0)
    store.set_budget("other", "llm", 7.0)
    one, two = judges_work(database, olga)
    assert (one.name, one.budget, one.cost, one.open_cost, one.left) == ("llm", 2.0, 0.5, 0.25, 1.25)
    assert (two.name, two.budget, two.left, two.asked) == ("never asked", 1.0, 1.0, 0)
    store.set_budget("main", "llm", 0.1)
    store.set_budget("main", "never asked", None)
    [one] = judges_work(database, olga)
    assert (one.budget, one.left) == (0.1, 0.0)
    store.ask_people("main", "llm", [Unsure(store.pairs("main")[0].item_id, 3, 0.5)])
    delete_project(database, olga)
    purge_project(database, olga, "main")
    with database.read() as connection:
        rows = {
            name: connection.execute(Base.metadata.tables[name].select()).all()
            for name in ("judge_left", "judge_budget")
        }
    assert rows["judge_left"] == [] and [row.max_cost for row in rows["judge_budget"]] == [7.0]


def test_a_run_says_its_budget(sampled: Path, server: Server) -> None:
    """As it was last run with, also where nothing is left to ask; also where it is too little for one question."""
    run_label(settings(sampled, judge=server.part(**PRICED, max_cost=4.0)))
    [one] = work(sampled)
    assert one.budget == 4.0 and one.left == pytest.approx(4.0 - one.cost) and one.cost > 0
    run_label(settings(sampled, out=sampled / "b", judge=server.part(**PRICED)))
    assert (work(sampled)[0].budget, work(sampled)[0].left) == (None, None)
    part = server.part(**PRICED, max_cost=1e-5, template="k-way")
    with pytest.raises(ValueError, match="max_cost=1e-05 would be exceeded"):
        run_label(settings(sampled, out=sampled / "c", judge=part, pairs_per_prompt=3))
    broke = next(one for one in work(sampled) if one.budget == 1e-5)
    assert (broke.asked, broke.cost, broke.left) == (0, 0.0, 1e-5)


def test_unsure_pairs_until_people_have_answered(sampled: Path, server: Server) -> None:
    """Waiting turns into answered; labelling again asks nobody twice, and with a higher bound it asks for the others, too."""
    judge = server.part(mode="logits")
    printed = run_label(settings(sampled, judge=judge, people_below=0.8))
    with Store(sampled / "store.sqlite") as store:
        shares = {one.item_id: one.vote.share or 0.0 for one in store.votes("main")}
        store.add_annotator("hugo", "human")
        unsure = sorted(item for item, share in shares.items() if share < 0.8)
        store.add_votes("main", [new_vote(item, "hugo", 1) for item in unsure[:3]])
    [one] = work(sampled)
    assert counted(one) == (len(unsure), 3, len(unsure) - 3) and len(unsure) > 3
    assert f"{len(unsure)} pairs wait for a person" in " ".join(printed.split())
    before = queue(sampled)
    run_label(settings(sampled, out=sampled / "b", judge=judge, people_below=0.8, pairs="all"))
    rows = json.loads((sampled / "b" / "results.json").read_text())
    [told] = [row for row in rows if row["metric"] == "waiting_for_people"]
    assert (told["value"], told["n"]) == (len(unsure) - 3, len(unsure))
    assert queue(sampled) == before and counted(work(sampled)[0]) == counted(one)
    run_label(settings(sampled, out=sampled / "c", judge=judge, people_below=0.95, pairs="all"))
    more = [item for item, share in shares.items() if share < 0.95]
    assert counted(work(sampled)[0]) == (len(more), 3, len(more) - 3) and len(more) > len(unsure)
    after = queue(sampled)
    assert {item for item in after if after[item] != before[item]} == set(more) - set(unsure)
    assert all(after[item] == (1, 2, pytest.approx(1 - shares[item])) for item in set(more) - set(unsure))


@pytest.mark.slow
@pytest.mark.parametrize("below", [0.0, 0.8])
def test_pairs_and_rankings_without_a_verdict(sampled: Path, below: float) -> None:
    """Without people_below they wait as they did; with it, the others of which it is unsure, too."""
    with serving(ASKED, reliability=0.6, malformed=0.2) as careless:
        for name in ("pair", "k-way"):
            judge = careless.part(template=name, repair=False)
            run_label(
                settings(sampled, out=sampled / name, judge=judge, people_below=below, pairs_per_prompt=3)
            )
    before = queue(sampled)
    done = [one for one in before.values() if one[0]]
    silent = [one for one in before.values() if not one[0]]
    asked = [one for one in done if one[1] == 2]
    ranking, pair = work(sampled)
    assert "k-way" in ranking.name and ranking.left_to_people and pair.left_to_people
    assert ranking.waiting + pair.waiting == len(silent) + len(asked)
    assert {one[2] for one in silent} == ({0.5} if below else {0.0}) and bool(asked) == bool(below)
    with closing(Database(sampled / "store.sqlite")) as database:
        who = local_member(database, "main")
        for one in (ranking, pair):
            assert find(database, who, Query(left_by=one.name, left="waiting")).total == one.waiting


def test_steps_without_a_verdict(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        store.add_prompts("main", [one.prompt for one in SOLVED])
        run = store.add_generation_run(ModelInfo("people"), "written", {})
        texts = [Response(one.prompt, "\n".join(one.steps), (1,), (2,), (-1.0,), "eos", 0) for one in SOLVED]
        store.add_responses("main", run, texts)
    with closing(Database(tmp_path / "store.sqlite")) as database:
        who = local_member(database, "main")
        set_schema(database, who, Schema(type="step", splitter="lines"))
        build(database, who, "step")
    with serving([one.prompt for one in SOLVED], malformed=0.5) as careless:
        run_label(settings(tmp_path, judge=careless.part(template="steps", repair=False), pairs_per_prompt=3))
    [one] = work(tmp_path)
    silent = [item for item, row in queue(tmp_path).items() if not row[0]]
    assert 0 < len(silent) < one.votes + len(silent) == len(queue(tmp_path))
    assert counted(one) == (len(silent), 0, len(silent))
