"""What an assistant says, shown to people or kept from them at random: recorded with the vote, in slots, and told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import select

from tests.feedback.kit import hand_in, start
from tests.store.making import prompt, response
from tutelage.feedback.asking.payloads import PairAnswer
from tutelage.feedback.insights.figures import insight
from tutelage.feedback.insights.helped import majority_of_others
from tutelage.feedback.insights.labels import read_pairs
from tutelage.feedback.items import redaction
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.work import queue
from tutelage.launch import launch
from tutelage.records import Help, Vote
from tutelage.resume import read_metrics
from tutelage.seeds import rng
from tutelage.settings.base import build
from tutelage.settings.feedback import AssistSettings
from tutelage.store import ModelInfo, NewVote, Store
from tutelage.store.database import Database
from tutelage.store.schema_feedback import ItemHelp
from tutelage.worlds import world


def shows(database: Database, who: Member, control: float) -> None:
    settings = projects.settings(database, who)
    told = {"show_help": True, "help_control": control}
    projects.set_settings(database, who, settings.model_copy(update=told))


def said(store: Store) -> dict[int, Help]:
    """Help for every pair of the project, which names the slots."""
    helps = {
        pair.item_id: Help("honest", "critic", (f"of {pair.texts[0]}", f"of {pair.texts[1]}"), 1, "critic-1")
        for pair in store.pairs("main")
    }
    assert store.add_help("main", list(helps.items())) == len(helps)
    return helps


def test_it_is_shown_in_positions_and_stands_beside_the_vote(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=2)
    helps = said(store)
    assert queue.next_task(database, olga).help is None  # type: ignore[union-attr]  # the project shows none
    shows(database, olga, 0.0)
    seen = set()
    while (task := queue.next_task(database, olga)) is not None:
        assert task.help is not None and task.help.assistant == "critic"
        assert task.help.said == tuple(f"of {response.text}" for response in task.responses)
        assert queue.task(database, olga, task.assignment_id).help == task.help
        hand_in(database, olga, task, PairAnswer(preference=1))
        seen.add(task.item_id)
    assert seen == set(helps)
    votes = store.votes("main")
    assert votes and all(one.vote.help == helps[one.item_id] for one in votes)


def test_the_control_sees_nothing_and_is_known(store: Store, database: Database) -> None:
    """Drawn once: another share afterwards changes nothing of what was shown before."""
    olga = start(store, database, prompts=2)
    said(store)
    shows(database, olga, 1.0)
    first = queue.next_task(database, olga)
    assert first is not None and first.help is None
    shows(database, olga, 0.0)
    assert queue.task(database, olga, first.assignment_id).help is None
    hand_in(database, olga, first, PairAnswer(preference=1))
    [vote] = store.votes("main")
    assert vote.vote.help == Help("none", "critic")
    second = queue.next_task(database, olga)
    assert second is not None and second.help is not None


def test_half_of_the_items_are_drawn(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=40)
    said(store)
    shows(database, olga, 0.5)
    shown = []
    while (task := queue.next_task(database, olga)) is not None:
        shown.append(task.help is not None)
        hand_in(database, olga, task, PairAnswer(preference=0))
    assert len(shown) > 100 and 0.4 < np.mean(shown) < 0.6


def test_what_is_said_first_stays(store: Store, database: Database) -> None:
    start(store, database, prompts=1)
    helps = said(store)
    item = next(iter(helps))
    assert store.add_help("main", [(item, Help("honest", "critic", ("other", "words")))]) == 0
    assert store.add_help("main", [(item, Help("honest", "another", ("other", "words")))]) == 1
    assert store.helped_by("main", "critic") == set(helps) and store.helped_by("main", "another") == {item}
    with pytest.raises(ValueError, match="item 999 is no pair of this project"):
        store.add_help("main", [(999, Help("honest", "critic", ("a", "b")))])
    with pytest.raises(ValueError, match="kept away says nothing"):
        store.add_help("main", [(item, Help("none", "critic"))])


def test_insights_set_the_arms_beside_each_other(store: Store, database: Database) -> None:
    """By hand: those who saw it are all for slot 1, of the control half are; for them the others' majority is slot 1."""
    olga = start(store, database, prompts=10)
    items = [pair.item_id for pair in store.pairs("main")]
    votes = []
    for number, item in enumerate(items):
        votes += [NewVote(item, Vote(name, 1, 0), f"{name}-{item}") for name in ("ann", "bob")]
        shown = number % 2 == 0
        help = Help("honest", "critic", ("a", "b"), 1) if shown else Help("none", "critic")
        votes.append(
            NewVote(item, Vote("cat", 1 if shown or number % 4 == 1 else -1, 0, help=help), f"cat-{item}")
        )
    store.add_votes("main", votes)
    with database.read() as connection:
        pairs = read_pairs(connection, olga.project_id)
    others = majority_of_others(pairs)
    assert set(others[pairs.annotator == "cat"]) == {1} and set(others) == {
        0,
        1,
    }  # of ann: bob and cat may part
    none, honest = insight(database, olga, "people").help
    assert (none.arm, honest.arm) == ("none", "honest") and none.votes + honest.votes == len(items)
    assert honest.agreement is not None and honest.agreement.value == 1.0
    assert honest.followed is not None and honest.followed.value == 1.0
    assert none.followed is None and none.agreement is not None
    assert none.agreement.value == pytest.approx(0.5, abs=0.1)


def test_what_quoted_a_response_goes_with_it(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    said(store)
    shows(database, olga, 0.0)
    task = queue.next_task(database, olga)
    assert task is not None and task.help is not None
    hand_in(database, olga, task, PairAnswer(preference=1))
    redaction.redact(database, olga, task.item_id, "response", 0, confirm="redact")
    with database.read() as connection:
        rows = connection.execute(select(ItemHelp.item_id, ItemHelp.first, ItemHelp.second)).all()
    assert ("", "") in [(row.first, row.second) for row in rows if row.item_id == task.item_id]
    [vote] = store.votes("main")
    assert vote.vote.help is not None and vote.vote.help.said == ("", "")


def solutions(store: Store) -> None:
    """Sums with two solutions each, one of them with a fault."""
    asked = list(world.prompts(0, "told", 4, tasks=["maths"]))
    store.add_prompts("main", asked)
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    for number, one in enumerate(asked):
        texts = [
            world.write_response(one, rng(0, "told", number, k), careless).text
            for k, careless in ((0, 0.0), (1, 1.0))
        ]
        store.add_responses("main", run, [response(one, index, text) for index, text in enumerate(texts)])
    store.build_pairs("main", 0, overlap=1)


def test_the_command_says_something_of_every_pair_and_goes_on(tmp_path: Path) -> None:
    address = str(tmp_path / "store.sqlite")

    def assist(name: str, **more: Any) -> float:
        given = {"store": address, "assistant": "world", "out": str(tmp_path / name), **more}
        launch("assist", build(AssistSettings, given), Console(quiet=True))
        return read_metrics(tmp_path / name)[-1]["helped_pairs"]

    with Store(address) as store:
        solutions(store)
    assert assist("two", max_pairs=2) == 2
    with Store(address) as store:
        assert len(store.helped_by("main", "world")) == 2
    assert assist("all") == 4
    with Store(address) as store:
        items = {pair.item_id for pair in store.pairs("main")}
        assert store.helped_by("main", "world") == items
        store.add_prompts("empty", [prompt(0)])
    with pytest.raises(ValueError, match="has no pairs: build items"):
        assist("none", project="empty")
